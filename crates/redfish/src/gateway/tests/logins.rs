use super::*;
use crate::login::{LoginAttempt, Verdict};
use async_trait::async_trait;

/// A BMC that refuses every login with `status`.
async fn unwelcoming(status: u16) -> Server {
    mostly_conforming(move |request| (request.path == SESSIONS).then(|| Answer::status(status)))
        .await
}

#[tokio::test]
async fn fifty_callers_with_a_wrong_password_cost_one_failed_login() {
    for status in [401, 403] {
        let server = unwelcoming(status).await;
        let bmc = gateway().bmc(target(&server));
        let calls = (0..50).map(|_| bmc.get(SYSTEM, Priority::Inventory));
        let errors: Vec<_> = futures::future::join_all(calls)
            .await
            .into_iter()
            .map(Result::unwrap_err)
            .collect();
        assert_eq!(server.count("POST", SESSIONS), 1);
        assert!(
            errors
                .iter()
                .any(|error| matches!(error, GatewayError::AuthFailed { .. }))
        );
        assert!(
            errors
                .iter()
                .any(|error| matches!(error, GatewayError::LoginHeld { .. }))
        );
        assert!(errors.iter().all(|error| !error.is_transient()));
        assert_eq!(bmc.counters().logins_refused, 1);
    }
}

#[tokio::test]
async fn a_changed_secret_is_tried_at_once() {
    let server = mostly_conforming(|request| {
        (request.path == SESSIONS && request.body.contains(PASSWORD)).then(|| Answer::status(401))
    })
    .await;
    let gateway = gateway();
    let bmc = gateway.bmc(target(&server));
    assert_eq!(
        bmc.get(SYSTEM, Priority::Control)
            .await
            .unwrap_err()
            .reason(),
        "AuthFailed"
    );
    assert_eq!(
        bmc.get(SYSTEM, Priority::Control)
            .await
            .unwrap_err()
            .reason(),
        "LoginHeld"
    );
    gateway.bmc(Target {
        credentials: Credentials::new("root", "right"),
        ..target(&server)
    });
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
}

#[tokio::test]
async fn a_lapsed_session_is_renewed_once_and_is_no_failed_login() {
    let (logins, valid) = (
        AtomicUsize::new(0),
        Arc::new(parking_lot::Mutex::new("token-1".to_owned())),
    );
    let now = valid.clone();
    let server = Server::start(move |request| {
        Answer::conforming(request, &logins, &|token| token == now.lock().as_str())
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    *valid.lock() = "token-2".to_owned();
    let empty = json!({});
    let (a, b) = tokio::join!(
        bmc.get(SYSTEM, Priority::Control),
        bmc.post(SYSTEM, &empty, Priority::Power)
    );
    a.unwrap();
    b.unwrap();
    assert_eq!(server.count("POST", SESSIONS), 2);
    assert_eq!(bmc.counters().logins_refused, 0);
}

#[tokio::test]
async fn a_resource_that_refuses_a_fresh_session_too_does_not_cause_a_login_storm() {
    let server =
        mostly_conforming(|request| (request.path == "/secret").then(|| Answer::status(401))).await;
    let bmc = gateway().bmc(target(&server));
    for _ in 0..10 {
        assert_eq!(
            bmc.get("/secret", Priority::Control)
                .await
                .unwrap_err()
                .status(),
            Some(401)
        );
        bmc.get(SYSTEM, Priority::Control).await.unwrap();
    }
    assert_eq!(server.count("POST", SESSIONS), 2);
}

#[tokio::test]
async fn an_overloaded_or_dead_bmc_uses_up_no_login() {
    for answer in [Answer::status(500), Answer::Cut] {
        let ill = Arc::new(AtomicUsize::new(1));
        let now = ill.clone();
        let server = mostly_conforming(move |request| {
            (request.path == SESSIONS && now.load(SeqCst) == 1).then(|| answer.clone())
        })
        .await;
        let bmc = gateway().bmc(target(&server));
        bmc.get(SYSTEM, Priority::Control).await.unwrap_err();
        ill.store(0, SeqCst);
        bmc.get(SYSTEM, Priority::Control).await.unwrap();
    }
}

#[tokio::test]
async fn a_bmc_without_sessions_is_spoken_to_with_basic_within_the_same_budget() {
    for password in [PASSWORD, "wrong"] {
        let server = Server::start(|request| match request.path.as_str() {
            "/redfish/v1/" => Answer::json(
                200,
                json!({"RedfishVersion": "1.0", "Systems": {"@odata.id": "/redfish/v1/Systems"}}),
            ),
            _ if request.header("authorization") == Some("Basic cm9vdDpjYWx2aW4tc2VjcmV0") => {
                Answer::json(200, json!({}))
            }
            _ => Answer::status(401),
        })
        .await;
        let bmc = gateway().bmc(Target {
            credentials: Credentials::new("root", password),
            ..target(&server)
        });
        let results: Vec<_> =
            futures::future::join_all((0..10).map(|_| bmc.get(SYSTEM, Priority::Control))).await;
        assert_eq!(results.iter().all(Result::is_ok), password == PASSWORD);
        let with_password = server
            .received()
            .iter()
            .filter(|request| request.header("authorization").is_some())
            .count();
        assert_eq!(with_password, if password == PASSWORD { 11 } else { 1 });
    }
}

#[tokio::test]
async fn credentials_that_stop_working_under_basic_are_a_failed_login() {
    let locked = Arc::new(AtomicUsize::new(0));
    let now = locked.clone();
    let server = Server::start(move |request| match request.path.as_str() {
        "/redfish/v1/" => Answer::json(
            200,
            json!({"RedfishVersion": "1.0", "Systems": {"@odata.id": "/redfish/v1/Systems"}}),
        ),
        _ if now.load(SeqCst) == 0 => Answer::json(200, json!({})),
        _ => Answer::status(401),
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    locked.store(1, SeqCst);
    assert_eq!(
        bmc.get(SYSTEM, Priority::Control)
            .await
            .unwrap_err()
            .reason(),
        "AuthFailed"
    );
    while bmc
        .get(SYSTEM, Priority::Control)
        .await
        .unwrap_err()
        .reason()
        != "LoginHeld"
    {}
    assert!(server.count("GET", SYSTEM) <= 3);
}

#[tokio::test]
async fn a_bmc_whose_sessions_are_used_up_is_spoken_to_with_basic() {
    let server = mostly_conforming(|request| {
        if request.path == SESSIONS {
            return Some(Answer::json(403, json!({"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.8.SessionLimitExceeded"}]}})));
        }
        request.header("authorization").map(|_| Answer::json(200, json!({})))
    })
    .await;
    gateway()
        .bmc(target(&server))
        .get(SYSTEM, Priority::Control)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_wrong_password_on_ilo_which_says_400_counts() {
    let server = mostly_conforming(|request| {
        (request.path == SESSIONS).then(|| {
            Answer::json(400, json!({"error": {"@Message.ExtendedInfo": [{"MessageId": "iLO.2.14.UnauthorizedLoginAttempt"}]}}))
        })
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    assert_eq!(
        bmc.get(SYSTEM, Priority::Control)
            .await
            .unwrap_err()
            .reason(),
        "AuthFailed"
    );
    assert_eq!(
        bmc.get(SYSTEM, Priority::Control)
            .await
            .unwrap_err()
            .reason(),
        "LoginHeld"
    );
}

#[tokio::test]
async fn a_session_whose_login_nobody_waits_for_any_more_is_used_or_closed() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let logins = AtomicUsize::new(0);
    let hold = gate.clone();
    let server = Server::start(move |request| {
        let answer = Answer::conforming(request, &logins, &|_| true);
        if request.path == SESSIONS {
            answer.gated(&hold)
        } else {
            answer
        }
    })
    .await;
    let gateway = gateway();
    let bmc = gateway.bmc(target(&server));
    let caller = tokio::spawn({
        let bmc = bmc.clone();
        async move { bmc.get(SYSTEM, Priority::Control).await }
    });
    while server.count("POST", SESSIONS) == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    let _ = caller.await;
    gateway.forget("bmc").await;
    gate.add_permits(1);
    while server.count("DELETE", &format!("{SESSIONS}/1")) == 0 {
        tokio::task::yield_now().await;
    }
}

/// Cannot be reached.
#[derive(Debug)]
struct NoLedger;

#[async_trait]
impl crate::LoginLedger for NoLedger {
    async fn ask(
        &self,
        _: &LoginAttempt,
    ) -> Result<Verdict, Arc<dyn std::error::Error + Send + Sync>> {
        Err(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
            "no API server",
        )))
    }
    async fn succeeded(&self, _: &LoginAttempt) {}
    async fn rejected(&self, _: &LoginAttempt) {}
    async fn inconclusive(&self, _: &LoginAttempt) {}
}

#[tokio::test]
async fn no_login_is_risked_while_the_ledger_cannot_be_asked() {
    let server = Server::conforming().await;
    let gateway = Gateway::new(GatewayConfig {
        ledger: Arc::new(NoLedger),
        ..patient()
    });
    let error = gateway
        .bmc(target(&server))
        .get(SYSTEM, Priority::Control)
        .await
        .unwrap_err();
    assert!(
        error.is_transient() && error.chain().contains("no API server"),
        "{}",
        error.chain()
    );
    assert_eq!(server.count("POST", SESSIONS), 0);
}

#[tokio::test]
async fn a_login_that_is_redirected_to_another_host_takes_no_credential_there() {
    let elsewhere = Server::conforming().await;
    let away = elsewhere.url().join(SESSIONS).unwrap().to_string();
    let server = mostly_conforming(move |request| {
        (request.path == SESSIONS).then(|| Answer::status(307).with("Location", &away))
    })
    .await;
    let bmc = gateway().bmc(target(&server));
    let error = bmc.get(SYSTEM, Priority::Control).await.unwrap_err();
    assert!(matches!(error, GatewayError::ForeignLink { .. }), "{error}");
    assert_eq!(elsewhere.connections(), 0);
}
