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
        selector: Some("site=x".into()),
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

fn policy(ctx: &Context, name: &str, spec: serde_json::Value) {
    let policy: ServerPolicy = serde_json::from_value(serde_json::json!({
        "metadata": {"name": name, "resourceVersion": "1"}, "spec": spec,
    }))
    .unwrap();
    ctx.policies.store.wrote(policy);
}

/// How many of these may be sent at once.
fn at_once(guards: &Guards, step: &Step) -> usize {
    let at = now();
    guards.look(at);
    (0..1024)
        .take_while(|_| guards.take(step, at).is_ok())
        .count()
}

#[tokio::test]
async fn the_rates_are_those_of_the_highest_policy_that_covers_the_shard_and_speaks_of_them() {
    let ctx = context();
    let guards = guards(&ctx);
    let rates = |n: i32| serde_json::json!({"powerOnsPerMinute": n, "erasuresPerMinute": n + 3});
    let covering = serde_json::json!({"matchLabels": {"site": "x"}});
    let others = serde_json::json!({"matchLabels": {"site": "y"}});
    let json = |priority: i32, selector: &serde_json::Value, n: i32| serde_json::json!({"priority": priority, "selector": selector, "rates": rates(n)});
    policy(&ctx, "all", serde_json::json!({"rates": rates(3)}));
    policy(&ctx, "ours", json(5, &covering, 30));
    policy(&ctx, "theirs", json(9, &others, 6));
    policy(&ctx, "silent", serde_json::json!({"priority": 7}));
    assert_eq!(at_once(&guards, &Step::PowerOn), 10);
    assert_eq!(at_once(&guards, &Step::EraseDrive("S".into())), 11);
    let unsaid = usize::try_from(BURST).unwrap();
    assert_eq!(at_once(&guards, &Step::ForceOff), unsaid, "the default");
    let next = guards.look(now()).power_at.unwrap();
    assert!(next.duration_since(now()) > SignedDuration::from_millis(1500));
}

#[tokio::test]
async fn a_policy_acknowledges_only_for_shards_that_it_covers() {
    let ctx = context();
    let at = now();
    ctx.lease
        .annotate(names::BRAKE_ENGAGED, &format!("{at} servers vanished"));
    let acknowledging = |name: &str, site: &str| {
        let policy: ServerPolicy = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "resourceVersion": "1", "annotations": {(names::BRAKE_ACKNOWLEDGED): now().to_string()}},
            "spec": {"selector": {"matchLabels": {"site": site}}},
        }))
        .unwrap();
        ctx.policies.store.wrote(policy);
    };
    acknowledging("theirs", "y");
    assert!(guards(&ctx).look(now()).brake.is_some());
    acknowledging("ours", "x");
    assert_eq!(guards(&ctx).look(now()).brake, None);
}
