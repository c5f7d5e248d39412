use super::*;

#[tokio::test]
async fn a_whole_visit_uses_one_session_on_one_connection_and_logs_out() {
    let server = Server::conforming().await;
    let gateway = gateway();
    let bmc = gateway.bmc(target(&server));
    bmc.service_root().await.unwrap();
    for path in ["/redfish/v1/Systems", SYSTEM, "/redfish/v1/Managers"] {
        assert_eq!(
            bmc.get(path, Priority::Inventory).await.unwrap().path(),
            path
        );
    }
    let tag = json!({"AssetTag": "x"});
    bmc.patch(SYSTEM, &tag, IfMatch::Auto, Priority::Control)
        .await
        .unwrap();
    let reset = json!({"ResetType": "On"});
    bmc.post(
        &format!("{SYSTEM}/Actions/ComputerSystem.Reset"),
        &reset,
        Priority::Power,
    )
    .await
    .unwrap();
    gateway.close().await;
    let received = server.received();
    assert_eq!(server.connections(), 1);
    assert_eq!(server.count("POST", SESSIONS), 1);
    assert!(
        received
            .last()
            .unwrap()
            .is("DELETE", &format!("{SESSIONS}/1"))
    );
    let counters = bmc.counters();
    assert_eq!(
        (counters.requests, counters.connections, counters.logins),
        (8, 1, 1)
    );
    assert_eq!(gateway.counters(), counters);
    assert_eq!(counters.latency.iter().sum::<u64>(), 8);
    assert!(
        received
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    assert!(matches!(
        bmc.get(SYSTEM, Priority::Control).await,
        Err(GatewayError::Closed)
    ));
}

#[tokio::test]
async fn everybody_who_asks_for_a_bmc_gets_the_same_one() {
    let server = Server::conforming().await;
    let gateway = gateway();
    gateway
        .bmc(target(&server))
        .get(SYSTEM, Priority::Control)
        .await
        .unwrap();
    gateway
        .bmc(target(&server))
        .get(SYSTEM, Priority::Control)
        .await
        .unwrap();
    gateway
        .known("bmc")
        .unwrap()
        .get(SYSTEM, Priority::Control)
        .await
        .unwrap();
    assert_eq!(
        (server.count("POST", SESSIONS), server.connections()),
        (1, 1)
    );
}

#[tokio::test]
async fn changed_credentials_replace_the_session_and_the_old_one_is_logged_out() {
    let server = Server::conforming().await;
    let gateway = gateway();
    let bmc = gateway.bmc(target(&server));
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    gateway.bmc(Target {
        credentials: Credentials::new("root", "other"),
        ..target(&server)
    });
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    while server.count("DELETE", &format!("{SESSIONS}/1")) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.count("POST", SESSIONS), 2);
}

#[tokio::test]
async fn a_bmc_that_is_forgotten_is_logged_out() {
    let server = Server::conforming().await;
    let gateway = gateway();
    let bmc = gateway.bmc(target(&server));
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    gateway.forget("bmc").await;
    assert_eq!(server.count("DELETE", &format!("{SESSIONS}/1")), 1);
    assert!(gateway.known("bmc").is_none());
}

#[tokio::test]
async fn a_redirect_on_the_bmc_is_followed_and_one_to_another_host_is_refused() {
    let elsewhere = Server::conforming().await;
    let away = elsewhere
        .url()
        .join("/redfish/v1/Systems/1")
        .unwrap()
        .to_string();
    let server = mostly_conforming(move |request| match request.path.as_str() {
        "/redfish/v1/Systems" => Some(Answer::status(308).with("Location", "/redfish/v1/Systems/")),
        "/redfish/v1/away" => Some(Answer::status(302).with("Location", &away)),
        "/redfish/v1/loop" => Some(Answer::status(302).with("Location", "/redfish/v1/loop")),
        _ => None,
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    bmc.get("/redfish/v1/Systems", Priority::Control)
        .await
        .unwrap();
    assert_eq!(
        server.received().last().unwrap().path,
        "/redfish/v1/Systems/"
    );
    let error = bmc
        .get("/redfish/v1/away", Priority::Control)
        .await
        .unwrap_err();
    assert!(matches!(error, GatewayError::ForeignLink { .. }), "{error}");
    assert_eq!(elsewhere.connections(), 0);
    let error = bmc
        .get("/redfish/v1/loop", Priority::Control)
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(302));
    assert_eq!(server.count("GET", "/redfish/v1/loop"), 4);
}

#[tokio::test]
async fn a_link_to_another_host_is_never_asked_for() {
    let (server, elsewhere) = (Server::conforming().await, Server::conforming().await);
    let bmc = gateway().bmc(target(&server));
    let link = elsewhere.url().join(SYSTEM).unwrap();
    for link in [link.as_str(), &format!("//127.0.0.1:{}/x", elsewhere.port)] {
        let error = bmc.get(link, Priority::Control).await.unwrap_err();
        assert!(matches!(error, GatewayError::ForeignLink { .. }), "{error}");
    }
    assert_eq!((elsewhere.connections(), server.connections()), (0, 0));
}

#[tokio::test]
async fn polling_reads_a_body_only_when_it_changed() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = version.clone();
    let server = mostly_conforming(move |request| {
        let (etag, body) = (
            format!("W/\"{}\"", now.load(SeqCst)),
            json!({"n": now.load(SeqCst)}),
        );
        match request.path.as_str() {
            SYSTEM if request.header("if-none-match") == Some(&etag) => Some(Answer::status(304)),
            SYSTEM => Some(Answer::json(200, body).with("ETag", &etag)),
            "/no-etag" => Some(Answer::json(200, body)),
            _ => None,
        }
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    for path in [SYSTEM, "/no-etag"] {
        let (_, seen) = bmc
            .get_if_changed(path, None, Priority::Sensors)
            .await
            .unwrap()
            .unwrap();
        assert!(
            bmc.get_if_changed(path, Some(&seen), Priority::Sensors)
                .await
                .unwrap()
                .is_none()
        );
        version.fetch_add(1, SeqCst);
        let (document, _) = bmc
            .get_if_changed(path, Some(&seen), Priority::Sensors)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(document.body()["n"], version.load(SeqCst));
    }
    assert_eq!(bmc.counters().not_modified, 1);
}

#[tokio::test]
async fn a_bmc_that_insists_on_an_etag_gets_its_own() {
    let server =
        mostly_conforming(
            |request| match (request.method.as_str(), request.header("if-match")) {
                ("GET", _) if request.path == SYSTEM => {
                    Some(Answer::json(200, json!({"@odata.etag": "\"7\""})))
                }
                ("PATCH", Some("\"7\"")) => Some(Answer::status(204)),
                ("PATCH", None) => Some(Answer::status(428)),
                ("PATCH", _) => Some(Answer::status(412)),
                _ => None,
            },
        )
        .await;
    let bmc = gateway().bmc(target(&server));
    let patch = |if_match| {
        let bmc = bmc.clone();
        async move {
            bmc.patch(SYSTEM, &json!({}), if_match, Priority::Control)
                .await
        }
    };
    patch(IfMatch::Auto).await.unwrap();
    patch(IfMatch::Prefer("\"old\"".to_owned())).await.unwrap();
    let sent = server.count("PATCH", SYSTEM);
    assert_eq!(
        patch(IfMatch::Exactly("\"old\"".to_owned()))
            .await
            .unwrap_err()
            .status(),
        Some(412)
    );
    assert_eq!(server.count("PATCH", SYSTEM), sent + 1);
}

#[tokio::test]
async fn a_bmc_that_rejects_its_own_etags_gets_any() {
    let server =
        mostly_conforming(
            |request| match (request.method.as_str(), request.header("if-match")) {
                ("PATCH", Some("*")) => Some(Answer::status(204)),
                ("PATCH", _) => Some(Answer::status(412)),
                _ => None,
            },
        )
        .await;
    let bmc = gateway().bmc(target(&server));
    let prefer = IfMatch::Prefer("\"7\"".to_owned());
    bmc.patch(SYSTEM, &json!({}), prefer.clone(), Priority::Control)
        .await
        .unwrap();
    bmc.set_manners(Manners {
        rejects_own_etags: true,
        ..Manners::default()
    });
    let before = server.count("PATCH", SYSTEM);
    bmc.patch(SYSTEM, &json!({}), prefer, Priority::Control)
        .await
        .unwrap();
    assert_eq!(server.count("PATCH", SYSTEM), before + 1);
}

#[tokio::test]
async fn an_error_is_told_in_the_bmcs_own_words() {
    let server = mostly_conforming(|request| {
        (request.method == "PATCH").then(|| {
            Answer::json(400, json!({"error": {"@Message.ExtendedInfo": [
                {"MessageId": "Base.1.8.PropertyValueError", "Message": format!("{PASSWORD} is no AssetTag.")}]}}))
        })
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    let error = bmc
        .patch(SYSTEM, &json!({}), IfMatch::Auto, Priority::Control)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "PATCH /redfish/v1/Systems/1 was answered with 400: [redacted] is no AssetTag."
    );
    assert!(!error.is_transient() && !error.outcome_unknown());
}
