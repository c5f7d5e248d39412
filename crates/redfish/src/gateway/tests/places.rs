use super::*;
use tokio::sync::Semaphore;

/// A BMC that answers under `/slow` only when the gate opens.
async fn gated() -> (Server, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let (logins, hold) = (AtomicUsize::new(0), gate.clone());
    let server = Server::start(move |request| {
        let answer = Answer::conforming(request, &logins, &|_| true);
        if request.path.starts_with("/slow") {
            answer.gated(&hold)
        } else {
            answer
        }
    })
    .await;
    (server, gate)
}

#[tokio::test]
async fn at_most_two_requests_are_in_flight_whoever_asks() {
    let (server, gate) = gated().await;
    let gateway = gateway();
    let calls: Vec<_> = (0..12)
        .map(|i| {
            let bmc = gateway.bmc(target(&server));
            tokio::spawn(async move { bmc.get(&format!("/slow/{i}"), Priority::Inventory).await })
        })
        .collect();
    server.until_in_flight(2).await;
    gate.add_permits(100);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(
        (server.most_in_flight(), server.count("POST", SESSIONS)),
        (2, 1)
    );
    assert!(server.connections() <= 2);
}

#[tokio::test]
async fn power_is_sent_before_the_sensors_that_waited_longer() {
    let (server, gate) = gated().await;
    let bmc = gateway().bmc(target(&server));
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    let ask = |path: &'static str, priority| {
        let bmc = bmc.clone();
        tokio::spawn(async move { bmc.get(path, priority).await.unwrap() })
    };
    let mut calls = vec![
        ask("/slow/a", Priority::Inventory),
        ask("/slow/b", Priority::Inventory),
    ];
    server.until_in_flight(2).await;
    for _ in 0..3 {
        calls.push(ask("/slow/sensor", Priority::Sensors));
    }
    tokio::task::yield_now().await;
    calls.push(ask("/slow/power", Priority::Power));
    tokio::task::yield_now().await;
    gate.add_permits(1);
    while server
        .received()
        .iter()
        .filter(|request| request.path.starts_with("/slow"))
        .count()
        < 3
    {
        tokio::task::yield_now().await;
    }
    gate.add_permits(100);
    for call in calls {
        call.await.unwrap();
    }
    let order: Vec<_> = server
        .received()
        .into_iter()
        .map(|r| r.path)
        .filter(|path| path.starts_with("/slow"))
        .collect();
    assert_eq!(
        order.iter().position(|path| path == "/slow/power"),
        Some(2),
        "{order:?}"
    );
}

#[tokio::test]
async fn a_dropped_call_gives_its_place_to_the_next() {
    let (server, gate) = gated().await;
    let bmc = gateway().bmc(target(&server));
    for _ in 0..5 {
        let call = tokio::spawn({
            let bmc = bmc.clone();
            async move { bmc.get("/slow/x", Priority::Control).await }
        });
        server.until_in_flight(1).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        gate.add_permits(1);
        server.until_in_flight(0).await;
    }
    gate.add_permits(1);
    bmc.get("/slow/y", Priority::Control).await.unwrap();
}

#[tokio::test]
async fn a_bmc_known_to_bear_only_one_request_at_a_time_gets_one() {
    let (server, gate) = gated().await;
    let bmc = gateway().bmc(target(&server));
    bmc.set_manners(Manners {
        in_flight: Some(1),
        ..Manners::default()
    });
    gate.add_permits(100);
    let calls =
        futures::future::join_all((0..10).map(|_| bmc.get("/slow", Priority::Inventory))).await;
    assert!(calls.iter().all(Result::is_ok));
    assert_eq!(server.most_in_flight(), 1);
}
