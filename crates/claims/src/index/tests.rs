use std::collections::BTreeMap;

use corten_api::ObjectReference;
use corten_api::metal::{PowerState, Server, ServerClaim, ServerState, Taint, TaintEffect};
use corten_lifecycle::claim::choose;
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const SEED: u64 = 11;
const SERVERS: usize = 6;
const CLAIMS: usize = 8;

/// What a server of the model looks like.
#[derive(Clone, Debug, PartialEq)]
struct Look {
    zone: Option<u8>,
    gpu: bool,
    tainted: bool,
    state: ServerState,
    bound_to: Option<usize>,
}

fn server(name: &str, look: &Look) -> Server {
    let mut server = Server::new(name, Default::default());
    let labels = server.metadata.labels.get_or_insert_default();
    if let Some(zone) = look.zone {
        labels.insert("zone".into(), zone.to_string());
    }
    if look.gpu {
        labels.insert("gpu".into(), "yes".into());
    }
    if look.tainted {
        server.spec.taints = vec![Taint {
            key: "kept".into(),
            value: None,
            effect: TaintEffect::NoBind,
        }];
    }
    if let Some(claim) = look.bound_to {
        server.spec.server_claim_ref = Some(ObjectReference {
            name: format!("c{claim}"),
            namespace: "n".into(),
        });
    }
    let status = server.status.get_or_insert_default();
    status.state = Some(look.state.clone());
    status.power_state = Some(PowerState::Off);
    server
}

fn facts(name: &str, look: &Look) -> Facts {
    let server = server(name, look);
    Facts {
        offer: Offer::of(&server),
        refers_to: look.bound_to.map(claim_key),
        bound_uid: look.bound_to.map(|claim| format!("u{claim}").into()),
    }
}

fn free() -> Look {
    Look {
        zone: None,
        gpu: false,
        tainted: false,
        state: ServerState::Available,
        bound_to: None,
    }
}

fn claim_key(claim: usize) -> ObjectKey {
    ObjectKey::namespaced("n", &format!("c{claim}"))
}

fn server_name(server: usize) -> String {
    format!("s{server}")
}

fn demand(spec: serde_json::Value) -> Arc<Demand> {
    let mut whole = json!({ "power": "On", "image": "example.org/os:1" });
    whole
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    let claim = ServerClaim::new("x", serde_json::from_value(whole).unwrap());
    Arc::new(Demand::of(&claim.spec))
}

fn asker(claim: usize, created: i64, demand: Arc<Demand>) -> Asker {
    Asker {
        uid: format!("u{claim}").into(),
        created: Timestamp::from_second(created).unwrap(),
        demand,
    }
}

#[derive(Clone, Debug)]
enum Do {
    Observe(usize, Look),
    Vanish(usize),
    Ask(usize, i64, serde_json::Value),
    Withdraw(usize),
    Commit(usize),
}

fn looks() -> impl Strategy<Value = Look> {
    let state = prop_oneof![4 => Just(ServerState::Available), 1 => Just(ServerState::Cleanup), 1 => Just(ServerState::Error)];
    (
        proptest::option::of(0..2_u8),
        any::<bool>(),
        any::<bool>(),
        state,
    )
        .prop_map(|(zone, gpu, tainted, state)| Look {
            zone,
            gpu,
            tainted,
            state,
            bound_to: None,
        })
}

fn demands() -> impl Strategy<Value = serde_json::Value> {
    let target = prop_oneof![
        Just(json!({})),
        (0..SERVERS).prop_map(|s| json!({ "serverRef": { "name": server_name(s) } })),
        (0..2_u8).prop_map(
            |z| json!({ "serverSelector": { "matchLabels": { "zone": z.to_string() } } })
        ),
        Just(json!({ "serverSelector": { "matchLabels": { "zone": "1", "gpu": "yes" } } })),
        Just(
            json!({ "serverSelector": { "matchExpressions": [{ "key": "gpu", "operator": "DoesNotExist" }] } })
        ),
        Just(
            json!({ "serverSelector": { "matchExpressions": [{ "key": "gpu", "operator": "Near" }] } })
        ),
    ];
    (target, any::<bool>()).prop_map(|(mut spec, tolerates)| {
        if tolerates {
            spec["tolerations"] = json!([{ "key": "kept", "operator": "Exists" }]);
        }
        spec
    })
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let step = prop_oneof![
        3 => (0..SERVERS, looks()).prop_map(|(s, look)| Do::Observe(s, look)),
        1 => (0..SERVERS).prop_map(Do::Vanish),
        4 => (0..CLAIMS, 0..4_i64, demands()).prop_map(|(c, at, spec)| Do::Ask(c, at, spec)),
        1 => (0..CLAIMS).prop_map(Do::Withdraw),
        3 => (0..CLAIMS).prop_map(Do::Commit),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Says what must hold between any two calls, by looking at everything.
fn check(index: &Index) {
    let free: Vec<_> = index
        .servers
        .iter()
        .filter(|(_, entry)| entry.is_free())
        .collect();
    assert_eq!(free.len(), index.free());
    for (claim, (asker, got)) in &index.askers {
        match got {
            Some(server) => {
                let entry = &index.servers[server];
                assert_eq!(entry.aside.as_ref(), Some(claim));
                assert_eq!(
                    asker.demand.check(&entry.facts.offer),
                    Ok(()),
                    "{claim} does not fit {server}"
                );
            }
            None => {
                for (name, entry) in &free {
                    assert!(
                        asker.demand.check(&entry.facts.offer).is_err(),
                        "{claim} waits while {name} is free"
                    );
                }
                let mut reference = NoFit::new(&asker.demand);
                for misfit in index
                    .servers
                    .values()
                    .filter_map(|entry| entry.misfit(&asker.demand))
                {
                    reference.count(misfit, 1);
                }
                let report = index.report(&asker.demand);
                assert_eq!(
                    (report.reason(), report.to_string()),
                    (reference.reason(), reference.to_string())
                );
            }
        }
    }
    for (name, entry) in &index.servers {
        if let Some(claim) = &entry.aside {
            assert_eq!(index.askers[claim].1.as_ref(), Some(name));
        }
    }
    let mut standings: HashMap<Standing, usize> = HashMap::new();
    for entry in index.servers.values() {
        *standings
            .entry(entry.facts.offer.standing().clone())
            .or_default() += 1;
    }
    let mut counted = index.standings.clone();
    counted.retain(|_, n| *n > 0);
    assert_eq!(counted, standings);
}

/// A model that remembers what the API server would hold.
#[derive(Default)]
struct World {
    looks: BTreeMap<usize, Look>,
}

fn run(steps: Vec<Do>) {
    let mut index = Index::new(SEED);
    let mut world = World::default();
    for step in steps {
        match step {
            Do::Observe(s, look) => {
                // Seen again with its binding, as the API server has it.
                let bound_to = world.looks.get(&s).and_then(|known| known.bound_to);
                let look = Look { bound_to, ..look };
                index.observe(&server_name(s), Some(facts(&server_name(s), &look)));
                world.looks.insert(s, look);
            }
            Do::Vanish(s) => {
                world.looks.remove(&s);
                index.observe(&server_name(s), None);
            }
            Do::Ask(c, at, spec) => {
                if index.referring(&claim_key(c), &format!("u{c}")).is_empty() {
                    let asker = asker(c, at, demand(spec));
                    let known = index
                        .askers
                        .get(&claim_key(c))
                        .is_some_and(|(known, _)| *known == asker);
                    let offers: Vec<_> = index
                        .servers
                        .values()
                        .filter(|e| e.is_free())
                        .map(|e| e.facts.offer.clone())
                        .collect();
                    let reference = choose(&asker.demand, &asker.uid, &offers, SEED)
                        .map(|offer| offer.name().to_owned());
                    let displaces = index.askers.contains_key(&claim_key(c));
                    match index.ask(&claim_key(c), asker).0 {
                        Answer::Aside(server) if !known && !displaces => {
                            assert_eq!(Ok(server.to_string()), reference)
                        }
                        Answer::NoFit(_) if !known && !displaces => assert!(reference.is_err()),
                        _ => {}
                    }
                }
            }
            Do::Withdraw(c) => {
                index.withdraw(&claim_key(c));
            }
            Do::Commit(c) => {
                if let Some((_, Some(server))) = index.askers.get(&claim_key(c)) {
                    let s: usize = server[1..].parse().unwrap();
                    let look = Look {
                        bound_to: Some(c),
                        state: ServerState::Reserved,
                        ..world.looks[&s].clone()
                    };
                    let woken = index.observe(&server_name(s), Some(facts(&server_name(s), &look)));
                    assert!(woken.contains(&claim_key(c)));
                    assert!(
                        !index.askers.contains_key(&claim_key(c)),
                        "a bound claim asks for nothing"
                    );
                    world.looks.insert(s, look);
                }
            }
        }
        check(&index);
    }
    for c in 0..CLAIMS {
        index.withdraw(&claim_key(c));
    }
    check(&index);
    assert_eq!(index.waiting(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_claim_waits_while_a_server_that_fits_it_is_free_and_no_server_is_set_aside_twice(steps in steps()) {
        run(steps);
    }
}

#[test]
fn the_oldest_claim_that_it_fits_gets_a_freed_server() {
    let mut index = Index::new(SEED);
    let gpu = demand(json!({ "serverSelector": { "matchLabels": { "gpu": "yes" } } }));
    for (claim, created, wants) in [
        (0, 30, demand(json!({}))),
        (1, 10, gpu),
        (2, 20, demand(json!({}))),
    ] {
        assert!(matches!(
            index.ask(&claim_key(claim), asker(claim, created, wants)).0,
            Answer::NoFit(_)
        ));
    }
    // Claim 1 is the oldest, but wants a GPU.
    assert_eq!(
        index.observe("s0", Some(facts("s0", &free()))),
        [claim_key(2)]
    );
    assert_eq!(
        index.observe(
            "s1",
            Some(facts(
                "s1",
                &Look {
                    gpu: true,
                    ..free()
                }
            ))
        ),
        [claim_key(1)]
    );
    assert_eq!(index.waiting(), 1);
}

#[test]
fn what_was_set_aside_for_a_claim_that_goes_is_handed_to_the_next() {
    let mut index = Index::new(SEED);
    index.observe("s0", Some(facts("s0", &free())));
    assert_eq!(
        index.ask(&claim_key(0), asker(0, 1, demand(json!({})))).0,
        Answer::Aside("s0".into())
    );
    index.ask(&claim_key(1), asker(1, 2, demand(json!({}))));
    assert_eq!(index.withdraw(&claim_key(0)), [claim_key(1)]);
}

#[test]
fn a_waiting_claim_is_woken_only_by_a_server_that_could_serve_it() {
    let mut index = Index::new(SEED);
    let named = demand(json!({ "serverRef": { "name": "s1" } }));
    let zone = demand(json!({ "serverSelector": { "matchLabels": { "zone": "1" } } }));
    index.ask(&claim_key(0), asker(0, 1, named));
    index.ask(&claim_key(1), asker(1, 1, zone));
    let dead = Look {
        state: ServerState::Error,
        ..free()
    };
    assert!(index.observe("s0", Some(facts("s0", &dead))).is_empty());
    assert!(index.observe("s0", Some(facts("s0", &free()))).is_empty());
    // The one that waits for this server is told that it is not ready yet.
    assert_eq!(
        index.observe("s1", Some(facts("s1", &dead))),
        [claim_key(0)]
    );
    assert!(index.observe("s1", Some(facts("s1", &dead))).is_empty());
}

/// The index, and for each server the version of the API server's that it has seen last.
struct Seen {
    index: Index,
    versions: Vec<u64>,
}

impl Seen {
    fn note(&mut self, s: usize, truth: &Mutex<Vec<(u64, Option<usize>)>>) {
        let (version, bound_to) = truth.lock()[s];
        self.versions[s] = version;
        let look = Look { bound_to, ..free() };
        self.index
            .observe(&server_name(s), Some(facts(&server_name(s), &look)));
    }
}

#[test]
fn threads_that_ask_commit_and_release_at_random_never_share_a_server() {
    // What the API server holds: by server, its version and the claim that it is bound to.
    let truth: Mutex<Vec<(u64, Option<usize>)>> = Mutex::new(vec![(1, None); SERVERS]);
    let seen = Mutex::new(Seen {
        index: Index::new(SEED),
        versions: vec![0; SERVERS],
    });
    (0..SERVERS).for_each(|s| seen.lock().note(s, &truth));
    let commits = std::sync::atomic::AtomicUsize::new(0);
    let pace = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (seen, truth, commits, pace) = (&seen, &truth, &commits, &pace);
            scope.spawn(move || {
                let mut random = position(thread as u64, "start");
                let mut roll = |n: u64| {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    usize::try_from((random >> 33) % n).unwrap()
                };
                for turn in 0..2_000_u64 {
                    // On a busy machine one thread would run alone, and what is set aside for the claims of the others would stay so.
                    if turn % 10 == 0 {
                        pace.wait();
                    }
                    let claim = thread * 3 + roll(3);
                    let held = truth
                        .lock()
                        .iter()
                        .position(|(_, bound)| *bound == Some(claim));
                    if let Some(s) = held {
                        // Versions only grow, as the API server's do: threads run at their own pace.
                        let mut truth_now = truth.lock();
                        truth_now[s] = (truth_now[s].0 + 1, None);
                        drop(truth_now);
                        seen.lock().note(s, truth);
                        continue;
                    }
                    let (server, version) = {
                        let mut seen = seen.lock();
                        match seen
                            .index
                            .ask(&claim_key(claim), asker(claim, 0, demand(json!({}))))
                            .0
                        {
                            Answer::Aside(server) => {
                                let s: usize = server[1..].parse().unwrap();
                                (s, seen.versions[s])
                            }
                            Answer::NoFit(_) => continue,
                        }
                    };
                    if roll(5) == 0 {
                        seen.lock().index.withdraw(&claim_key(claim));
                        continue;
                    }
                    {
                        let mut truth = truth.lock();
                        if truth[server].0 == version {
                            assert_eq!(truth[server].1, None, "bound twice");
                            truth[server] = (version + 1, Some(claim));
                            commits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                    // Committed or not, the watch brings what the API server has.
                    seen.lock().note(server, truth);
                }
            });
        }
    });
    assert!(commits.into_inner() > 500);
    check(&seen.lock().index);
}

#[test]
fn ten_thousand_servers_and_claims_are_matched_in_moments() {
    let mut index = Index::new(SEED);
    for s in 0..10_000 {
        let look = Look {
            zone: Some((s % 40) as u8),
            ..free()
        };
        index.observe(&server_name(s), Some(facts(&server_name(s), &look)));
    }
    for c in 0..10_000 {
        let spec = json!({ "serverSelector": { "matchLabels": { "zone": (c % 40).to_string() } } });
        assert!(matches!(
            index.ask(&claim_key(c), asker(c, 1, demand(spec))).0,
            Answer::Aside(_)
        ));
    }
    assert_eq!((index.free(), index.waiting()), (0, 0));
}
