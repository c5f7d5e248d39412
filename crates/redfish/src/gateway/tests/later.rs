use super::*;
use crate::{
    model::Service,
    operations::{
        Accepted,
        task::{self, TaskProgress},
    },
};

#[tokio::test]
async fn a_task_is_followed_to_its_end_by_whoever_has_its_uri() {
    const MONITOR: &str = "/redfish/v1/TaskService/TaskMonitors/9";
    let polls = AtomicUsize::new(0);
    let server =
        mostly_conforming(
            move |request| match (request.method.as_str(), request.path.as_str()) {
                ("POST", "/erase") => Some(Answer::status(202).with("Location", MONITOR)),
                ("GET", MONITOR) => Some(match polls.fetch_add(1, SeqCst) {
                    // Neither an empty 202 nor one with something else in it is the end.
                    0 => Answer::status(202),
                    1 => Answer::json(202, json!({"Name": "Erase"})),
                    2 => Answer::json(202, json!({"TaskState": "Running", "PercentComplete": 50})),
                    3 => Answer::status(200),
                    4 => Answer::json(400, json!({"error": {"message": "the drive is in use"}})),
                    _ => Answer::status(404),
                }),
                _ => None,
            },
        )
        .await;
    let gateway = gateway();
    let reply = gateway
        .bmc(target(&server))
        .post("/erase", &json!({}), Priority::Power)
        .await
        .unwrap();
    let monitor = Accepted::of(&reply).monitor.unwrap();
    // Another process, with nothing but the URI.
    let service = Service::open(&Gateway::new(patient()).bmc(target(&server)))
        .await
        .unwrap();
    let running = |percent, state: &str| TaskProgress::Running {
        percent,
        state: state.to_owned(),
    };
    for expected in [
        running(None, ""),
        running(None, ""),
        running(Some(50), "Running"),
        TaskProgress::Completed {
            messages: vec![],
            target: None,
        },
        TaskProgress::Failed {
            state: "400".to_owned(),
            messages: vec!["the drive is in use".to_owned()],
        },
        TaskProgress::Forgotten,
    ] {
        assert_eq!(task::poll(&service, &monitor).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_broken_stream_of_events_is_gone_on_with_after_the_last_one() {
    let server = mostly_conforming(|request| {
        (request.path == "/sse").then(|| {
            let from = request.header("last-event-id").map_or(0, |id| id.parse().unwrap());
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let event = format!("id: {}\ndata: {{\"n\":{}}}\n\n", from + 1, from + 1);
            Answer::Raw(format!("{head}{:x}\r\n{event}\r\n", event.len()).into_bytes())
        })
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    let mut last: Option<String> = None;
    for n in 1..=3 {
        let mut stream = bmc.events("/sse", last.as_deref()).await.unwrap();
        assert_eq!(
            stream.next().await.unwrap().unwrap().data,
            format!("{{\"n\":{n}}}")
        );
        assert!(matches!(
            stream.next().await,
            Err(GatewayError::Interrupted { .. })
        ));
        last = stream.last_event_id().map(str::to_owned);
    }
    let asked = server
        .received()
        .into_iter()
        .find(|request| request.path == "/sse")
        .unwrap();
    assert_eq!(asked.header("accept"), Some("text/event-stream"));
    let none =
        mostly_conforming(|request| (request.path == "/sse").then(|| Answer::status(501))).await;
    let error = gateway()
        .bmc(target(&none))
        .events("/sse", None)
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(501));
}

#[tokio::test]
async fn an_open_stream_takes_no_place_from_others() {
    let server = mostly_conforming(|request| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n".to_vec();
        (request.path == "/sse").then_some(Answer::RawThenHang(head))
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    let (_a, _b) = (
        bmc.events("/sse", None).await.unwrap(),
        bmc.events("/sse", None).await.unwrap(),
    );
    bmc.get(SYSTEM, Priority::Sensors).await.unwrap();
}
