use super::*;

#[tokio::test]
async fn a_bmc_that_accepts_and_never_answers_costs_nobody_else_anything() {
    let (hung, well) = (
        Server::start(|_| Answer::Hang).await,
        Server::conforming().await,
    );
    let gateway = Gateway::new(config());
    let bad = gateway.bmc(Target {
        name: "hung".to_owned(),
        ..target(&hung)
    });
    let good = gateway.bmc(target(&well));
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let bad = bad.clone();
                async move { bad.service_root().await.unwrap_err() }
            })
        })
        .collect();
    hung.until_in_flight(2).await;
    for _ in 0..20 {
        good.get(SYSTEM, Priority::Sensors).await.unwrap();
    }
    let mut open = 0;
    for task in waiting {
        let error = task.await.unwrap();
        assert!(error.is_silence() && error.is_transient(), "{error}");
        open += usize::from(matches!(error, GatewayError::BreakerOpen { .. }));
    }
    // After three or four timeouts the rest were turned away without being sent.
    assert!(hung.received().len() <= 4 && open >= 16, "{open}");
    assert_eq!(good.counters().silences, 0);
}

type Expected = fn(&GatewayError) -> bool;

#[tokio::test]
async fn each_silence_says_what_was_waited_for() {
    let partial = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":".to_vec();
    let cases: Vec<(Answer, Expected)> = vec![
        (Answer::Hang, |e| {
            e.to_string().contains("while it had the request")
        }),
        (
            Answer::RawThenHang(b"HTTP/1.1 200 OK\r\nSlow".to_vec()),
            |e| e.reason() == "Timeout",
        ),
        (Answer::RawThenHang(partial.clone()), |e| {
            e.to_string().contains("while it was sending the answer")
        }),
        (Answer::Raw(partial), |e| {
            matches!(e, GatewayError::Interrupted { .. })
        }),
        (Answer::Cut, |e| {
            matches!(e, GatewayError::Interrupted { .. })
        }),
        (Answer::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), |e| {
            matches!(e, GatewayError::NotRedfish { .. })
        }),
    ];
    for (answer, expected) in cases {
        let shown = format!("{answer:?}");
        let server = Server::start(move |_| answer.clone()).await;
        let bmc = Gateway::new(config()).bmc(target(&server));
        let error = bmc.service_root().await.unwrap_err();
        assert!(expected(&error), "{shown}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_redfish_service_is_called_so() {
    let page = Answer::Say(200, vec![], b"<html>router</html>".to_vec());
    for answer in [
        page,
        Answer::status(404),
        Answer::json(200, json!({"hello": 1})),
        Answer::json(200, json!([])),
    ] {
        let server = Server::start(move |_| answer.clone()).await;
        let error = gateway()
            .bmc(target(&server))
            .service_root()
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "NotRedfish", "{error}");
    }
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_refused_and_a_name_that_does_not_exist_does_not_resolve() {
    let server = Server::conforming().await;
    let target = target(&server);
    drop(server);
    tokio::task::yield_now().await;
    let error = gateway()
        .bmc(target.clone())
        .service_root()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
    let nowhere = Target {
        url: format!("http://{}.invalid", "x".repeat(64))
            .parse()
            .unwrap(),
        ..target
    };
    let error = gateway().bmc(nowhere).service_root().await.unwrap_err();
    assert!(
        error.to_string().contains("does not resolve"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_read() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let endless = [
        chunked,
        b"400\r\n".to_vec(),
        vec![b' '; 0x400],
        b"\r\n400\r\n".to_vec(),
        vec![b' '; 0x400],
    ]
    .concat();
    for answer in [
        Answer::Raw(endless),
        Answer::Say(200, vec![], vec![b' '; 2000]),
    ] {
        let server =
            mostly_conforming(move |request| (request.path == SYSTEM).then(|| answer.clone()))
                .await;
        let gateway = Gateway::new(GatewayConfig {
            body_limit: 1500,
            ..patient()
        });
        let error = gateway
            .bmc(target(&server))
            .get(SYSTEM, Priority::Control)
            .await
            .unwrap_err();
        assert!(
            matches!(error, GatewayError::TooLarge { limit: 1500, .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_get_on_a_connection_that_the_bmc_just_closed_is_asked_again_but_a_post_is_not() {
    let cuts = AtomicUsize::new(0);
    let server = mostly_conforming(move |request| {
        (request.path == SYSTEM && cuts.fetch_add(1, SeqCst).is_multiple_of(2))
            .then_some(Answer::Cut)
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    let error = bmc
        .post(SYSTEM, &json!({}), Priority::Power)
        .await
        .unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert_eq!(server.count("POST", SYSTEM), 1);
}

#[tokio::test]
async fn a_post_that_is_answered_with_what_is_not_http_may_have_been_done_and_one_to_a_closed_port_was_not()
 {
    let server = mostly_conforming(|request| {
        (request.method == "POST" && request.path == SYSTEM)
            .then(|| Answer::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()))
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    let error = bmc
        .post(SYSTEM, &json!({}), Priority::Power)
        .await
        .unwrap_err();
    assert!(matches!(error, GatewayError::NotRedfish { .. }), "{error}");
    assert!(error.outcome_unknown(), "{error}");
    let gone = target(&server);
    drop(server);
    let error = gateway()
        .bmc(gone)
        .post(SYSTEM, &json!({}), Priority::Power)
        .await
        .unwrap_err();
    assert!(matches!(error, GatewayError::Unreachable { .. }), "{error}");
    assert!(!error.outcome_unknown(), "{error}");
}

#[tokio::test]
async fn broken_json_is_an_error_of_that_resource_only() {
    let server = mostly_conforming(|request| {
        (request.path == SYSTEM).then(|| Answer::Say(200, vec![], b"{\"Id\":".to_vec()))
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    let error = bmc.get(SYSTEM, Priority::Control).await.unwrap_err();
    assert!(matches!(error, GatewayError::Malformed { .. }), "{error}");
    bmc.get("/redfish/v1/Systems", Priority::Control)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_breaker_opens_probes_once_and_closes() {
    let (ill, asked) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
    let (now, count) = (ill.clone(), asked.clone());
    let server = mostly_conforming(move |_| {
        count.fetch_add(1, SeqCst);
        (now.load(SeqCst) == 1).then_some(Answer::Cut)
    })
    .await;
    let pause = Duration::from_millis(1);
    let breaker = BreakerConfig {
        threshold: 3,
        first_pause: Duration::from_secs(600),
        longest_pause: pause,
    };
    let gateway = Gateway::new(GatewayConfig {
        breaker,
        ..patient()
    });
    let bmc = gateway.bmc(target(&server));
    while !matches!(
        bmc.service_root().await,
        Err(GatewayError::BreakerOpen { .. })
    ) {}
    let before = asked.load(SeqCst);
    let error = bmc.service_root().await.unwrap_err();
    assert!(
        error.retry_at().is_some() && error.to_string().contains("cut the connection"),
        "{error}"
    );
    assert_eq!(asked.load(SeqCst), before);
    // A changed address is a new chance at once.
    ill.store(0, SeqCst);
    let moved = format!("http://localhost:{}", server.port).parse().unwrap();
    gateway.bmc(Target {
        url: moved,
        ..target(&server)
    });
    bmc.service_root().await.unwrap();
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for_and_a_long_one_is_told() {
    let busy = AtomicUsize::new(0);
    let server = mostly_conforming(move |request| match request.path.as_str() {
        SYSTEM if busy.fetch_add(1, SeqCst) == 0 => {
            Some(Answer::status(503).with("Retry-After", "0"))
        }
        "/busy" => Some(Answer::status(503).with("Retry-After", "120")),
        _ => None,
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    let error = bmc.get("/busy", Priority::Control).await.unwrap_err();
    assert!(
        error.is_transient() && error.retry_at().is_some(),
        "{error}"
    );
    assert_eq!(server.count("GET", "/busy"), 1);
}

#[tokio::test]
async fn the_callers_own_deadline_holds_and_does_not_count_against_the_bmc() {
    let server =
        mostly_conforming(|request| (request.path == SYSTEM).then_some(Answer::Hang)).await;
    let bmc = gateway().bmc(target(&server));
    bmc.get("/redfish/v1/Systems", Priority::Control)
        .await
        .unwrap();
    for _ in 0..5 {
        let request = Request::new(Method::Get, SYSTEM, Priority::Control)
            .deadline(Duration::from_millis(30));
        let error = bmc.send(request).await.unwrap_err();
        assert!(matches!(error, GatewayError::Timeout { .. }), "{error}");
    }
    bmc.get("/redfish/v1/Systems", Priority::Control)
        .await
        .unwrap();
}
