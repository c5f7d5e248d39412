use corten_kit::Events;
use kube::{Client, Config};

use super::*;
use crate::EngineConfig;

/// A context whose API server nobody asks.
fn context() -> Context {
    let client = Client::try_from(Config::new("http://127.0.0.1:9".parse().unwrap())).unwrap();
    let events = Events::start(client.clone(), "test", "a");
    let config = EngineConfig {
        namespace: "site".into(),
        lease_name: "corten-engine-r1".into(),
        ..EngineConfig::default()
    };
    Context::new(client, config, Lease::alone("a"), events)
}

fn guards(ctx: &Context) -> Guards {
    Guards::new(ctx, RunIndex::new(ctx.runs.store.clone()))
}

fn now() -> Timestamp {
    Timestamp::now()
}

#[tokio::test]
async fn fifty_releases_at_once_stop_at_the_brake_whose_message_names_the_lease() {
    let ctx = context();
    let guards = guards(&ctx);
    let release = Plan {
        kind: corten_lifecycle::run::Kind::Release,
        occasion: "c".into(),
        claim_uid: "c".into(),
        actor: "corten".into(),
        steps: Vec::new(),
    };
    let admitted: Vec<_> = (0..50)
        .map(|n| guards.admit(&format!("s{n}"), &release, now()))
        .collect();
    assert_eq!(admitted.iter().filter(|one| one.is_ok()).count(), 6);
    let why = guards.look(now()).brake.unwrap();
    assert!(
        why.contains("kubectl annotate lease -n site corten-engine-r1 --overwrite corten.dev/brake-acknowledged="),
        "{why}"
    );
    let later = now().checked_add(SignedDuration::from_secs(1)).unwrap();
    ctx.lease
        .annotate(names::BRAKE_ACKNOWLEDGED, &later.to_string());
    assert_eq!(guards.look(later).brake, None);
}

#[tokio::test]
async fn a_pause_that_no_run_records_stands_on_the_lease_and_outlives_the_process() {
    let ctx = context();
    let at = now();
    ctx.lease.annotate(
        names::BRAKE_ENGAGED,
        &format!("{at} 9 of 10 servers vanished"),
    );
    assert!(
        guards(&ctx)
            .look(now())
            .brake
            .unwrap()
            .contains("9 of 10 servers vanished: kubectl")
    );
    let before = at.checked_sub(SignedDuration::from_secs(1)).unwrap();
    ctx.lease
        .annotate(names::BRAKE_ACKNOWLEDGED, &before.to_string());
    assert!(
        guards(&ctx).look(now()).brake.is_some(),
        "an older acknowledgement ends nothing"
    );
    ctx.lease
        .annotate(names::BRAKE_ACKNOWLEDGED, &now().to_string());
    assert_eq!(guards(&ctx).look(now()).brake, None);
}

#[tokio::test]
async fn of_many_that_saw_a_free_rate_only_its_burst_may_send() {
    let guards = guards(&context());
    let at = now();
    assert_eq!(guards.look(at).power_at, None);
    let sent = (0..1024)
        .filter(|_| guards.take(&Step::PowerOn, at).is_ok())
        .count();
    assert_eq!(sent, usize::try_from(BURST).unwrap());
    assert!(
        guards.take(&Step::ForceRestart, at).is_err(),
        "a restart switches on too"
    );
    assert!(
        guards.take(&Step::ForceOff, at).is_ok(),
        "switching off has its own rate"
    );
}
