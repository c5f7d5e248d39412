use super::*;
use crate::task::TaskProgress;

#[tokio::test]
async fn a_task_is_followed_to_its_end_by_whoever_has_its_uri() {
    let polls = AtomicUsize::new(0);
    let server = mostly_conforming(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/erase") => Some(Answer::status(202).with("Location", "/redfish/v1/TaskService/TaskMonitors/9")),
        ("GET", "/redfish/v1/TaskService/TaskMonitors/9") => Some(match polls.fetch_add(1, SeqCst) {
            0 => Answer::status(202).with("Retry-After", "0"),
            1 => Answer::json(202, json!({"@odata.type": "#Task.v1_4_3.Task", "TaskState": "Running", "PercentComplete": 50})),
            2 => Answer::status(204),
            _ => Answer::status(404),
        }),
        ("GET", "/refused") => Some(Answer::json(400, json!({"error": {"message": "the drive is in use"}}))),
        _ => None,
    })
    .await;
    let gateway = gateway();
    let reply = gateway
        .bmc(target(&server))
        .post("/erase", &json!({}), Priority::Power)
        .await
        .unwrap();
    let uri = reply.task().unwrap();
    // Another process, with nothing but the URI.
    let bmc = Gateway::new(patient()).bmc(target(&server));
    let interval = Duration::from_millis(1);
    let end = bmc
        .follow_task(&uri, interval, Duration::from_secs(60), Priority::Control)
        .await
        .unwrap();
    assert!(matches!(end, TaskProgress::Succeeded { .. }), "{end:?}");
    assert_eq!(
        bmc.poll_task(&uri, Priority::Control).await.unwrap(),
        TaskProgress::Gone
    );
    let end = bmc.poll_task("/refused", Priority::Control).await.unwrap();
    assert!(
        matches!(&end, TaskProgress::Failed { message, .. } if message == "the drive is in use"),
        "{end:?}"
    );
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
