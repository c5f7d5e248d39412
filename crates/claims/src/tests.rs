use std::{sync::Arc, time::Duration};

use corten_api::names;
use corten_kit::{Lease, Next, ObjectKey, Reconcile, gate};
use serde_json::{Value, json};

use crate::{Allocator, ClaimsConfig, Stores, fake::Fake};

const NAMESPACE: &str = "n";

fn add_server(fake: &Fake, name: &str, labels: Value) {
    let server = json!({
        "metadata": { "labels": labels },
        "spec": { "systemUUID": format!("uuid-of-{name}") },
        "status": { "state": "Available", "powerState": "Off" },
    });
    fake.add("servers", "", name, server);
}

fn add_claim(fake: &Fake, name: &str, spec: Value) {
    let mut whole = json!({ "power": "On", "image": "example.org/os:1" });
    whole
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    fake.add(
        "serverclaims",
        NAMESPACE,
        name,
        json!({ "metadata": {}, "spec": whole }),
    );
}

fn claim(fake: &Fake, name: &str) -> Option<Value> {
    fake.get("serverclaims", NAMESPACE, name)
}

fn server(fake: &Fake, name: &str) -> Value {
    fake.get("servers", "", name).unwrap()
}

fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let all = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = all
        .iter()
        .find(|c| c["type"] == kind)
        .unwrap_or_else(|| panic!("no condition {kind} in {object}"));
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// The server of each claim that is bound, by what the servers say.
fn bindings(fake: &Fake) -> Vec<(String, String)> {
    let servers = fake.all("servers");
    let bound = servers.iter().filter_map(|server| {
        let claim = server["spec"]["serverClaimRef"]["name"].as_str()?;
        Some((
            claim.to_owned(),
            server["metadata"]["name"].as_str().unwrap().to_owned(),
        ))
    });
    let mut bound: Vec<_> = bound.collect();
    bound.sort();
    bound
}

fn allocator(fake: &Fake) -> Arc<Allocator> {
    Allocator::new(
        fake.client(),
        ClaimsConfig::new(Lease::alone("test")),
        Stores::default(),
    )
}

/// Lets the allocator see the API server as it is.
fn show(fake: &Fake, allocator: &Allocator) {
    let known: Vec<_> = allocator
        .stores
        .servers
        .all()
        .iter()
        .map(|s| ObjectKey::of(&**s))
        .collect();
    fake.feed(&allocator.stores);
    let now = allocator
        .stores
        .servers
        .all()
        .into_iter()
        .map(|s| ObjectKey::of(&*s));
    known
        .into_iter()
        .chain(now)
        .for_each(|key| allocator.note_server(&key));
}

fn claims_by_age(allocator: &Allocator) -> Vec<ObjectKey> {
    let mut claims = allocator.stores.claims.all();
    claims.sort_by_key(|claim| claim.metadata.creation_timestamp.clone());
    claims.iter().map(|claim| ObjectKey::of(&**claim)).collect()
}

/// Reconciles all claims until nothing is written any more.
async fn settle(fake: &Fake, allocator: &Allocator) {
    for _ in 0..50 {
        let before = fake.writes();
        show(fake, allocator);
        let claims = claims_by_age(allocator);
        claims.iter().for_each(|key| allocator.consider(key));
        for key in &claims {
            // A conflict is looked at again in the next round.
            let _: Result<Next, _> = allocator.reconcile(key).await;
        }
        if fake.writes() == before {
            return;
        }
    }
    panic!("does not come to rest");
}

/// The engine's part, in one step: boots what is bound, powers off what is released.
fn engine(fake: &Fake) {
    for server in fake.all("servers") {
        let name = server["metadata"]["name"].as_str().unwrap().to_owned();
        let notes = server["metadata"]["annotations"].clone();
        let bound = notes[names::CLAIM_UID].is_string();
        fake.change("servers", "", &name, |server| {
            if bound && notes[names::RELEASE] == notes[names::CLAIM_UID] {
                let meta = server["metadata"]["annotations"].as_object_mut().unwrap();
                meta.remove(names::CLAIM_UID);
                meta.remove(names::RELEASE);
                let spec = server["spec"].as_object_mut().unwrap();
                spec.remove("serverClaimRef");
                spec.remove("bootConfigurationRef");
                server["status"] = json!({ "state": "Cleanup", "powerState": "Off" });
            } else if bound {
                server["status"] = json!({ "state": "Reserved", "powerState": "On" });
            }
        });
    }
}

fn cleaned(fake: &Fake) {
    for server in fake.all("servers") {
        if server["status"]["state"] == "Cleanup" {
            fake.change(
                "servers",
                "",
                server["metadata"]["name"].as_str().unwrap(),
                |server| {
                    server["metadata"]["annotations"]
                        .as_object_mut()
                        .unwrap()
                        .remove(names::DIRTY);
                    server["status"]["state"] = json!("Available");
                },
            );
        }
    }
}

#[tokio::test]
async fn a_claim_is_bound_published_and_told() {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s", json!({}));
    add_claim(&fake, "c", json!({}));
    let allocator = allocator(&fake);
    settle(&fake, &allocator).await;
    let (claim, server) = (claim(&fake, "c").unwrap(), server(&fake, "s"));
    assert_eq!(
        server["spec"]["serverClaimRef"],
        json!({ "name": "c", "namespace": NAMESPACE })
    );
    assert_eq!(
        server["spec"]["bootConfigurationRef"],
        json!({ "name": "c", "namespace": NAMESPACE })
    );
    assert_eq!(
        server["metadata"]["annotations"][names::CLAIM_UID],
        claim["metadata"]["uid"]
    );
    assert_eq!(
        server["metadata"]["annotations"][names::DIRTY],
        claim["metadata"]["uid"]
    );
    assert_eq!(claim["spec"]["serverRef"]["name"], "s");
    assert_eq!(claim["status"]["phase"], "Bound");
    assert_eq!(condition(&claim, names::CONDITION_BOUND).1, "Bound");
    assert_eq!(
        claim["metadata"]["finalizers"],
        json!([names::FINALIZER_SERVER_CLAIM])
    );
    let boot = fake
        .get("serverbootconfigurations", NAMESPACE, "c")
        .unwrap();
    assert_eq!(
        boot["spec"],
        json!({ "serverRef": { "name": "s" }, "image": "example.org/os:1" })
    );
    assert_eq!(
        boot["metadata"]["ownerReferences"][0]["uid"],
        claim["metadata"]["uid"]
    );
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(fake.events().contains("Bound"), "{:?}", fake.events());
}

#[tokio::test]
async fn binding_takes_five_writes_and_rest_takes_none() {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s", json!({}));
    add_claim(&fake, "c", json!({}));
    add_claim(&fake, "waits", json!({}));
    let before = fake.writes();
    let allocator = allocator(&fake);
    settle(&fake, &allocator).await;
    // Choice, binding, boot configuration, reference, status; and the status of the one that waits.
    assert_eq!(fake.writes() - before, 6);
    let rest = fake.writes();
    settle(&fake, &allocator).await;
    let restarted = self::allocator(&fake);
    settle(&fake, &restarted).await;
    assert_eq!(fake.writes(), rest);
}

#[tokio::test]
async fn a_claim_waits_with_a_reason_and_is_served_when_a_server_comes_free() {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s", json!({ "zone": "a" }));
    add_claim(&fake, "first", json!({}));
    add_claim(
        &fake,
        "second",
        json!({ "serverSelector": { "matchLabels": { "zone": "a" } } }),
    );
    add_claim(
        &fake,
        "missing",
        json!({ "serverRef": { "name": "nobody" } }),
    );
    let allocator = allocator(&fake);
    settle(&fake, &allocator).await;
    let waiting = claim(&fake, "second").unwrap();
    assert_eq!(waiting["status"]["phase"], "Unbound");
    assert_eq!(
        condition(&waiting, names::CONDITION_BOUND).1,
        "NoServerFits"
    );
    assert_eq!(
        condition(&claim(&fake, "missing").unwrap(), names::CONDITION_BOUND).1,
        "ServerNotFound"
    );
    // A claim that waits can be deleted at once.
    assert!(waiting["metadata"]["finalizers"].is_null());

    fake.delete("serverclaims", NAMESPACE, "first");
    settle(&fake, &allocator).await;
    assert!(
        claim(&fake, "first").is_some(),
        "the claim stays until its server is off"
    );
    engine(&fake);
    settle(&fake, &allocator).await;
    assert!(claim(&fake, "first").is_none());
    assert_eq!(bindings(&fake), [], "a server in Cleanup is nobody's");
    cleaned(&fake);
    settle(&fake, &allocator).await;
    assert_eq!(bindings(&fake), [("second".into(), "s".into())]);

    add_server(&fake, "nobody", json!({}));
    settle(&fake, &allocator).await;
    assert_eq!(bindings(&fake).len(), 2);
}

#[tokio::test]
async fn a_claim_whose_server_does_not_go_off_stays_and_says_why() {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s", json!({}));
    add_claim(&fake, "c", json!({}));
    let allocator = allocator(&fake);
    settle(&fake, &allocator).await;
    engine(&fake);
    fake.delete("serverclaims", NAMESPACE, "c");
    settle(&fake, &allocator).await;
    let uid = claim(&fake, "c").unwrap()["metadata"]["uid"].clone();
    assert_eq!(
        server(&fake, "s")["metadata"]["annotations"][names::RELEASE],
        uid
    );
    fake.change("servers", "", "s", |server| {
        server["status"]["conditions"] = json!([{ "type": "PoweredOff", "status": "False", "reason": "BMCUnreachable",
            "message": "BMC b has not answered since 10:00", "lastTransitionTime": "2026-11-21T10:00:00Z" }]);
    });
    settle(&fake, &allocator).await;
    let (status, reason, message) =
        condition(&claim(&fake, "c").unwrap(), names::CONDITION_RELEASED);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "BMCUnreachable")
    );
    assert!(message.contains("BMC b has not answered"), "{message}");
    assert_eq!(bindings(&fake).len(), 1);
}

#[tokio::test]
async fn a_claim_made_anew_under_the_same_name_neither_inherits_nor_wipes() {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s", json!({}));
    add_claim(&fake, "c", json!({}));
    let allocator = allocator(&fake);
    settle(&fake, &allocator).await;
    engine(&fake);
    let first = server(&fake, "s");
    // Somebody takes the finalizer off, and a controller makes the claim again.
    fake.vanish("serverclaims", NAMESPACE, "c");
    show(&fake, &allocator);
    add_claim(&fake, "c", json!({}));
    add_server(&fake, "t", json!({}));
    settle(&fake, &allocator).await;
    assert_eq!(
        server(&fake, "s"),
        first,
        "nothing was written on the server"
    );
    let (_, reason, message) = condition(&claim(&fake, "c").unwrap(), names::CONDITION_BOUND);
    assert_eq!(reason, "ServerHeld");
    assert!(
        message.contains("\"s\"") && message.contains("adopt:"),
        "{message}"
    );
    fake.delete("serverclaims", NAMESPACE, "c");
    settle(&fake, &allocator).await;
    assert!(claim(&fake, "c").is_none());
    assert_eq!(server(&fake, "s"), first, "deleting it releases nothing");
}

#[tokio::test]
async fn a_claim_that_vanishes_while_it_is_being_bound_leaves_its_server_released() {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s", json!({}));
    add_claim(&fake, "c", json!({}));
    let allocator = allocator(&fake);
    show(&fake, &allocator);
    // Choice, live read and binding, each before and after: then the deletion that was under way overtakes us.
    let stop = gate::Gate::stopping_at(6);
    let key = ObjectKey::namespaced(NAMESPACE, "c");
    tokio::select! {
        _ = gate::with(stop.clone(), allocator.reconcile(&key)) => panic!("was not stopped"),
        () = stop.stopped() => {}
    }
    let uid = claim(&fake, "c").unwrap()["metadata"]["uid"].clone();
    assert_eq!(
        server(&fake, "s")["metadata"]["annotations"][names::CLAIM_UID],
        uid
    );
    fake.vanish("serverclaims", NAMESPACE, "c");
    show(&fake, &allocator);
    allocator.reconcile(&key).await.unwrap();
    assert_eq!(
        server(&fake, "s")["metadata"]["annotations"][names::RELEASE],
        uid
    );
    assert_eq!(
        server(&fake, "s")["metadata"]["annotations"][names::DIRTY],
        uid
    );
}

#[tokio::test]
async fn a_server_deleted_by_force_is_reported_and_not_replaced_by_its_successor() {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s", json!({}));
    add_claim(&fake, "c", json!({ "serverRef": { "name": "s" } }));
    let allocator = allocator(&fake);
    settle(&fake, &allocator).await;
    fake.vanish("servers", "", "s");
    settle(&fake, &allocator).await;
    add_server(&fake, "s", json!({}));
    settle(&fake, &allocator).await;
    let lost = claim(&fake, "c").unwrap();
    assert_eq!(lost["status"]["phase"], "Unbound");
    assert_eq!(condition(&lost, names::CONDITION_BOUND).1, "ServerLost");
    assert_eq!(bindings(&fake), []);
    fake.delete("serverclaims", NAMESPACE, "c");
    settle(&fake, &allocator).await;
    assert!(claim(&fake, "c").is_none());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(fake.events().contains("ServerGone"), "{:?}", fake.events());
}

#[tokio::test]
async fn a_claim_is_not_let_go_of_while_a_server_that_our_selector_hides_is_bound_to_it() {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s", json!({}));
    add_claim(&fake, "c", json!({}));
    let allocator = allocator(&fake);
    settle(&fake, &allocator).await;
    engine(&fake);
    fake.delete("serverclaims", NAMESPACE, "c");
    show(&fake, &allocator);
    let hidden = ObjectKey::cluster("s");
    allocator.stores.servers.removed(&hidden);
    allocator.note_server(&hidden);
    allocator
        .reconcile(&ObjectKey::namespaced(NAMESPACE, "c"))
        .await
        .unwrap();
    let claim = claim(&fake, "c").expect("the claim stays");
    assert_eq!(
        server(&fake, "s")["metadata"]["annotations"][names::RELEASE],
        claim["metadata"]["uid"]
    );
}

#[tokio::test]
async fn a_stale_cache_of_a_deletion_releases_nothing() {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s", json!({}));
    add_claim(&fake, "c", json!({}));
    let allocator = allocator(&fake);
    settle(&fake, &allocator).await;
    // Our cache shows a deletion that the API server does not have.
    let mut stale = (*allocator
        .stores
        .claims
        .get(&ObjectKey::namespaced(NAMESPACE, "c"))
        .unwrap())
    .clone();
    stale.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-11-21T11:00:00Z")).unwrap());
    stale.metadata.resource_version = Some("9999".into());
    allocator.stores.claims.wrote(stale);
    allocator
        .reconcile(&ObjectKey::namespaced(NAMESPACE, "c"))
        .await
        .unwrap();
    assert!(server(&fake, "s")["metadata"]["annotations"][names::RELEASE].is_null());
}

#[tokio::test]
async fn a_changed_image_and_a_lost_boot_configuration_are_put_right() {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s", json!({}));
    add_claim(&fake, "c", json!({}));
    let allocator = allocator(&fake);
    settle(&fake, &allocator).await;
    fake.change("serverclaims", NAMESPACE, "c", |claim| {
        claim["spec"]["image"] = json!("example.org/os:2")
    });
    settle(&fake, &allocator).await;
    let image = |fake: &Fake| {
        fake.get("serverbootconfigurations", NAMESPACE, "c")
            .unwrap()["spec"]["image"]
            .clone()
    };
    assert_eq!(image(&fake), "example.org/os:2");
    fake.vanish("serverbootconfigurations", NAMESPACE, "c");
    settle(&fake, &allocator).await;
    assert_eq!(image(&fake), "example.org/os:2");
}

/// A life of three claims and two servers: bound, booted, the first released, its server cleaned and given to the one that waited.
async fn life(fake: &Fake, allocator: &Allocator) {
    settle(fake, allocator).await;
    engine(fake);
    settle(fake, allocator).await;
    fake.delete("serverclaims", NAMESPACE, "c0");
    settle(fake, allocator).await;
    engine(fake);
    settle(fake, allocator).await;
    cleaned(fake);
    settle(fake, allocator).await;
}

fn newborn() -> Fake {
    let fake = Fake::new(1, 0);
    add_server(&fake, "s0", json!({ "zone": "a" }));
    add_server(&fake, "s1", json!({}));
    add_claim(
        &fake,
        "c0",
        json!({ "serverSelector": { "matchLabels": { "zone": "a" } } }),
    );
    add_claim(&fake, "c1", json!({}));
    add_claim(&fake, "c2", json!({ "serverRef": { "name": "s0" } }));
    fake
}

#[tokio::test]
async fn killed_before_or_after_any_request_it_goes_on_where_it_stood() {
    let gate = gate::Gate::counting();
    let whole = newborn();
    gate::with(gate.clone(), life(&whole, &allocator(&whole))).await;
    let end = vec![
        ("c1".to_owned(), "s1".to_owned()),
        ("c2".to_owned(), "s0".to_owned()),
    ];
    assert_eq!(bindings(&whole), end);
    assert!(gate.passed() > 30, "{}", gate.passed());
    for n in 0..gate.passed() {
        let fake = newborn();
        let stop = gate::Gate::stopping_at(n);
        let first = allocator(&fake);
        tokio::select! {
            () = gate::with(stop.clone(), life(&fake, &first)) => panic!("was not stopped at {n}"),
            () = stop.stopped() => {}
        }
        drop(first);
        let second = allocator(&fake);
        life(&fake, &second).await;
        engine(&fake);
        settle(&fake, &second).await;
        assert_eq!(bindings(&fake), end, "killed at pass {n}");
        assert!(claim(&fake, "c0").is_none(), "killed at pass {n}");
        for name in ["c1", "c2"] {
            let claim = claim(&fake, name).unwrap();
            assert_eq!(
                claim["status"]["phase"], "Bound",
                "killed at pass {n}: {claim}"
            );
            assert!(
                fake.get("serverbootconfigurations", NAMESPACE, name)
                    .is_some(),
                "killed at pass {n}"
            );
        }
        let rest = fake.writes();
        settle(&fake, &second).await;
        assert_eq!(fake.writes(), rest, "killed at pass {n}: writes at rest");
    }
}

/// Works on claims in turns with whatever the caches happen to show.
async fn hurry(fake: &Fake, allocator: &Allocator, rounds: usize) {
    for round in 0..rounds {
        if round % 3 == 0 {
            show(fake, allocator);
        }
        for key in claims_by_age(allocator) {
            let _: Result<Next, _> = allocator.reconcile(&key).await;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn two_allocators_that_both_think_they_act_never_bind_twice() {
    for seed in 0..60 {
        let fake = Fake::new(seed, 6);
        for s in 0..6 {
            add_server(
                &fake,
                &format!("s{s}"),
                json!({ "zone": (s % 2).to_string() }),
            );
        }
        for c in 0..9 {
            let spec = match c % 3 {
                0 => json!({}),
                1 => json!({ "serverSelector": { "matchLabels": { "zone": "1" } } }),
                _ => json!({ "serverRef": { "name": format!("s{}", c % 6) } }),
            };
            add_claim(&fake, &format!("c{c}"), spec);
        }
        // Other orders of equal servers, so that they disagree about each claim.
        let config = |seed| ClaimsConfig {
            seed,
            ..ClaimsConfig::new(Lease::alone("test"))
        };
        let one = Allocator::new(fake.client(), config(1), Stores::default());
        let two = Allocator::new(fake.client(), config(2), Stores::default());
        tokio::join!(hurry(&fake, &one, 4), hurry(&fake, &two, 4));
        fake.delete("serverclaims", NAMESPACE, "c0");
        engine(&fake);
        tokio::join!(hurry(&fake, &one, 6), hurry(&fake, &two, 6));
        engine(&fake);
        cleaned(&fake);
        settle(&fake, &one).await;
        let bound = bindings(&fake);
        let mut claims: Vec<_> = bound.iter().map(|(claim, _)| claim).collect();
        claims.dedup();
        assert_eq!(
            claims.len(),
            bound.len(),
            "seed {seed}: a claim has two servers: {bound:?}"
        );
        // The released server may fit none of those that wait.
        assert!(bound.len() >= 5, "seed {seed}: {bound:?}");
    }
}

#[tokio::test]
async fn two_hundred_claims_share_a_hundred_servers() {
    let fake = Fake::new(3, 0);
    for s in 0..100 {
        add_server(&fake, &format!("s{s}"), json!({}));
    }
    for c in 0..200 {
        add_claim(&fake, &format!("c{c}"), json!({}));
    }
    let allocator = allocator(&fake);
    settle(&fake, &allocator).await;
    assert_eq!(bindings(&fake).len(), 100);
    let in_line = |allocator: &Allocator| {
        let index = allocator.index.lock();
        (index.waiting(), index.free())
    };
    assert_eq!(in_line(&allocator), (100, 0));
    engine(&fake);
    for (claim, _) in bindings(&fake).into_iter().take(50) {
        fake.delete("serverclaims", NAMESPACE, &claim);
    }
    settle(&fake, &allocator).await;
    engine(&fake);
    cleaned(&fake);
    settle(&fake, &allocator).await;
    assert_eq!(bindings(&fake).len(), 100);
    assert_eq!(in_line(&allocator), (50, 0));
}
