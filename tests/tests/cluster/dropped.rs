//! The engine is dropped after its n-th call to the API server or to a BMC, for n over a whole life, and another one goes on from
//! what is recorded. The executor's own harness (`crates/engine/src/executor/tests.rs`) does the same step by step, without a server.

use std::time::Duration;

use corten_api::metal::Bmc;
use corten_api::names;
use corten_kit::gate::Gate;
use corten_tests::lab::{Lab, World, note, readable_drives, resets};
use futures::{StreamExt as _, stream};
use serde_json::json;

/// From an Endpoint to a claim and back.
async fn life(lab: &Lab) {
    lab.plug_in().await;
    let bmc = lab.endpoint(0);
    let is_held = |world: &World| {
        world
            .bmc_condition(bmc, "Ready")
            .is_some_and(|said| said.reason == "LoginHeld")
    };
    let world = lab
        .eventually(|world| world.available() == 1 || is_held(world))
        .await;
    if is_held(&world) {
        // Dropped between a login's record and its outcome: nobody can tell that it was not refused, and ten minutes are to pass. A
        // person who knows does what the condition says.
        let known = json!({"metadata": {"annotations": {(names::NEXT_LOGIN_ATTEMPT): null}}});
        lab.edit(&lab.all::<Bmc>(), bmc, known).await;
    }
    lab.eventually(|world| world.available() == 1).await;
    lab.claim("tenant").await;
    let machine = lab.fleet().machine(0);
    lab.eventually(|world| world.bound() == 1 && machine.booted().is_some())
        .await;
    machine.write_drives("a tenant's secret");
    lab.release("tenant").await;
    lab.eventually(|world| world.claims.is_empty() && world.available() == 1)
        .await;
}

/// A story with an engine that is dropped at its n-th call, and a second one that goes on. The gate of the first.
async fn played(lab: &Lab, n: usize, story: impl Future<Output = ()>) -> Gate {
    let gate = Gate::stopping_at(n);
    let mut story = std::pin::pin!(story);
    if lab.engine_until_stopped(gate.clone(), story.as_mut()).await {
        lab.engine_until_stopped(Gate::counting(), story).await;
    }
    gate
}

/// Plays `dropped_at` with each of so many calls under `make test-full`, and with some of them otherwise. Says with how many.
async fn at_places<F: Future<Output = usize>>(
    calls: usize,
    dropped_at: impl Fn(usize) -> F,
) -> usize {
    let full = std::env::var_os("CORTEN_TEST_FULL").is_some();
    let every = if full { 1 } else { (calls / 8).max(1) };
    stream::iter((0..calls).step_by(every))
        .map(dropped_at)
        .buffer_unordered(4)
        .count()
        .await
}

/// One life with an engine that is dropped at its n-th call, and a second one. Says how many calls the first one tried.
async fn dropped_at(n: usize) -> usize {
    let mut lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(1))
        .idle()
        .await;
    lab.stop_engine().await;
    lab.policy(json!({
        "cleaning": {"acceptReported": true},
        "timeouts": {"shutdownGraceSeconds": 3, "powerConfirmSeconds": 5},
    }))
    .await;
    let gate = played(&lab, n, life(&lab)).await;
    let machine = lab.fleet().machine(0);
    let mut kinds = resets(&machine);
    let sent = kinds.len();
    kinds.sort();
    kinds.dedup();
    assert_eq!(
        kinds.len(),
        sent,
        "dropped at {n}, a power action was sent twice: {:?}",
        resets(&machine)
    );
    assert_eq!(machine.counts().failed_logins, 0, "dropped at {n}");
    assert_eq!(machine.power_state(), "Off", "dropped at {n}");
    assert_eq!(readable_drives(&machine), [""; 0], "dropped at {n}");
    let server = lab.server_of(0).await;
    for left in [
        names::CLAIM_UID,
        names::DIRTY,
        names::RELEASE,
        names::CLEANING,
    ] {
        assert_eq!(note(&server, left), None, "dropped at {n}: {left} is left");
    }
    gate.passed()
}

/// The restart of a BMC with an engine that is dropped at its n-th call, and a second one. Says how many calls the first one tried.
async fn restart_dropped_at(n: usize) -> usize {
    let mut lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(1))
        .available()
        .await;
    lab.stop_engine().await;
    let (bmc, machine) = (lab.endpoint(0).to_owned(), lab.fleet().machine(0));
    machine.record(true);
    let asked = json!({"metadata": {"annotations": {
        (names::OPERATION): names::OPERATION_GRACEFUL_RESTART_BMC,
    }}});
    lab.edit(&lab.all::<Bmc>(), &bmc, asked).await;
    let is_over = |world: &World| {
        let bmc = world.bmc(&bmc).expect("the BMC");
        let noted = bmc.metadata.annotations.iter().flatten();
        noted
            .into_iter()
            .all(|(key, _)| key != names::OPERATION && key != names::BMC_RESTART_INTENT)
    };
    let gate = played(&lab, n, async {
        lab.eventually(is_over).await;
    })
    .await;
    let journal = machine.journal();
    let restarts = journal.iter().filter(|line| line.contains("Manager.Reset"));
    assert!(restarts.count() <= 1, "dropped at {n}: {journal:#?}");
    let touched = journal
        .iter()
        .any(|line| line.contains("ComputerSystem.Reset"));
    assert!(!touched, "dropped at {n}: {journal:#?}");
    gate.passed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_whose_restart_was_begun_by_an_engine_that_is_gone_is_not_restarted_again() {
    let calls = restart_dropped_at(usize::MAX - 1).await;
    at_places(calls, restart_dropped_at).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_dropped_at_its_nth_call_is_followed_by_one_that_does_nothing_twice() {
    let calls = dropped_at(usize::MAX - 1).await;
    assert!(
        calls > 30,
        "only {calls} calls: is everything behind the gate?"
    );
    // Each call passes the gate before it is sent and after its answer came.
    let begun = std::time::Instant::now();
    let tried = at_places(calls, dropped_at).await;
    println!(
        "{tried} of {calls} places in {:?}",
        Duration::from_secs(begun.elapsed().as_secs())
    );
}
