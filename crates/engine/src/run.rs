//! ServerRuns as objects: how a plan becomes one, and how those of one server are found.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use parking_lot::RwLock;

use corten_api::{
    corten::{PlannedStep, RunKind, RunPhase, ServerReference, ServerRun, ServerRunSpec},
    metal::Server,
    names,
};
use corten_kit::{ObjectKey, Store};
use corten_lifecycle::{
    brake::Start,
    hash,
    identity::Identity,
    plan::Plan,
    run::{Closed, Kind, Run, Step},
    server::{Tombstone, drives},
};

/// Label values are not longer than this.
const LABEL: usize = 63;

/// What tells this start of a plan from each other one: the same until a run of the server has ended. So a creation that was stored, and
/// whose answer was lost, is not made a second time under another name. A later one sorts after it, as whoever lists runs expects.
fn turn(server_uid: &str, plan: &Plan, closed: &[Closed]) -> String {
    let latest = closed.iter().map(|run| run.finished_at).max();
    let latest = latest.map_or(0, Timestamp::as_millisecond);
    let (kind, occasion, claim) = (plan.kind.as_str(), &plan.occasion, &plan.claim_uid);
    let start = hash::of(&format!("{server_uid}\n{kind}\n{occasion}\n{claim}"));
    format!("{latest:011x}{:03x}-{start:016x}", closed.len())
}

/// The run that `plan` becomes, named by the time: for what is recorded as it happens.
pub fn object(server: &Server, plan: &Plan, now: Timestamp) -> ServerRun {
    named(server, plan, &format!("{:x}", now.as_millisecond()))
}

fn named(server: &Server, plan: &Plan, turn: &str) -> ServerRun {
    let name = server.name_any();
    let kind = plan.kind.as_str().to_ascii_lowercase();
    let stem: String = name.chars().take(200).collect();
    let mut labels = BTreeMap::from([(
        names::RUN_KIND_LABEL.to_owned(),
        plan.kind.as_str().to_owned(),
    )]);
    if name.len() <= LABEL {
        labels.insert(names::SERVER_LABEL.to_owned(), name.clone());
    }
    if let Some(agent) = server.labels().get(names::AGENT) {
        labels.insert(names::AGENT.to_owned(), agent.clone());
    }
    if let Some(manager) = server.labels().get(names::MANAGED_BY) {
        labels.insert(names::MANAGED_BY.to_owned(), manager.clone());
    }
    let identity = identity(server);
    ServerRun {
        metadata: ObjectMeta {
            // Of two who begin the same run one gets AlreadyExists.
            name: Some(format!("{stem}-{kind}-{turn}")),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: ServerRunSpec {
            server_ref: ServerReference {
                name,
                uid: server.uid().unwrap_or_default(),
            },
            kind: RunKind::from(plan.kind),
            occasion: plan.occasion.clone(),
            claim_uid: (!plan.claim_uid.is_empty()).then(|| plan.claim_uid.clone()),
            actor: Some(plan.actor.clone()),
            plan: plan
                .steps
                .iter()
                .map(|planned| PlannedStep {
                    step: planned.step.to_string(),
                    reason: planned.reason.clone(),
                })
                .collect(),
            system_uuid: Some(identity.uuid).filter(|uuid| !uuid.is_empty()),
            serial_number: Some(identity.serial).filter(|serial| !serial.is_empty()),
        },
        status: None,
    }
}

/// The machine's identity as the object has it: as annotated at onboarding, else as seen last.
pub fn identity(server: &Server) -> Identity {
    server
        .annotations()
        .get(names::IDENTITY)
        .map(|text| Identity::parse(text))
        .filter(|identity| !identity.is_empty())
        .unwrap_or_else(|| {
            let serial = server
                .status
                .as_ref()
                .and_then(|s| s.serial_number.as_deref());
            Identity::new(&server.spec.system_uuid, serial.unwrap_or_default())
        })
}

/// All that the rules look at, of one server's runs.
#[derive(Clone, Debug, Default)]
pub struct RunsOf {
    /// The oldest open run, as object and as rules see it.
    pub open: Option<(Arc<ServerRun>, Run)>,
    /// Ended ones, the latest first.
    pub closed: Vec<Closed>,
    /// A tombstone was left for this very object.
    pub buried: bool,
}

/// Finds runs by server and tombstones by machine. Clones share it.
#[derive(Clone, Debug)]
pub struct RunIndex {
    store: Store<ServerRun>,
    inner: Arc<RwLock<Index>>,
}

#[derive(Debug, Default)]
struct Index {
    by_server: HashMap<String, BTreeMap<ObjectKey, Known>>,
    /// Destructive starts by time.
    starts: BTreeSet<(Timestamp, ObjectKey)>,
    tombstones: HashMap<Part, BTreeSet<ObjectKey>>,
}

/// What is known of a run without its object, which the cache keeps packed: a server has dozens that ended.
#[derive(Clone, Debug)]
enum Known {
    Ended(Closed),
    Buried,
    /// Open, or not understood.
    Other,
}

// === impl Known ===

impl Known {
    fn of(run: &ServerRun) -> Self {
        if run.spec.kind == RunKind::Tombstone {
            return Self::Buried;
        }
        Closed::of(run).map_or(Self::Other, Self::Ended)
    }
}

// === impl RunIndex ===

impl RunIndex {
    /// An index over `store`.
    pub fn new(store: Store<ServerRun>) -> Self {
        let inner = Arc::new(RwLock::new(Index::default()));
        // A new one is made for each Lease, and the store outlives them all.
        let index = Arc::downgrade(&inner);
        store.observe(move |key, old, new| {
            let Some(index) = index.upgrade() else { return };
            let mut index = index.write();
            if let Some(old) = old {
                index.take_out(key, old);
            }
            if let Some(new) = new {
                index.put_in(key, new);
            }
        });
        // What was known before.
        for run in store.all() {
            inner.write().put_in(&ObjectKey::of(&*run), &run);
        }
        Self { store, inner }
    }

    /// The runs of the server with this UID.
    pub fn of(&self, server_uid: &str) -> RunsOf {
        let mut found = RunsOf::default();
        let mut others = Vec::new();
        {
            let index = self.inner.read();
            for (key, known) in index.by_server.get(server_uid).into_iter().flatten() {
                match known {
                    Known::Ended(closed) => found.closed.push(closed.clone()),
                    Known::Buried => found.buried = true,
                    Known::Other => others.push(key.clone()),
                }
            }
        }
        for run in others.iter().filter_map(|key| self.store.get(key)) {
            // It may have ended since the index was asked.
            if let Some(closed) = Closed::of(&run) {
                found.closed.push(closed);
                continue;
            }
            let Some(read) = Run::of(&run) else {
                tracing::warn!(run = %run.name_any(), "a run of a kind, or with a step, that this version does not know is left alone");
                continue;
            };
            if found.open.as_ref().is_none_or(|(_, known)| {
                (read.created_at, &read.name) < (known.created_at, &known.name)
            }) {
                found.open = Some((run, read));
            }
        }
        found
            .closed
            .sort_by_key(|run| std::cmp::Reverse(run.finished_at));
        found
    }

    /// What a forced deletion of this machine left, unless it was settled or is this very object's.
    pub fn tombstone(&self, identity: &Identity, server_uid: &str) -> Option<Tombstone> {
        if identity.is_empty() {
            return None;
        }
        let index = self.inner.read();
        // By either part: a BMC may leave one out today that it showed when the server was buried, or the other way round.
        parts(identity)
            .iter()
            .filter_map(|part| index.tombstones.get(part))
            .flatten()
            .filter_map(|key| self.store.get(key))
            .filter(|run| buried(run).is_some_and(|buried| !buried.contradicts(identity)))
            .find(|run| run.spec.server_ref.uid != server_uid && !is_settled(run))
            .map(|run| Tombstone {
                run: run.name_any(),
                claim_uid: run.spec.claim_uid.clone().unwrap_or_default(),
                drives: drives::of(run.annotations()),
            })
    }

    /// Destructive starts that are on record, of the runs that carry `labels`.
    pub fn destructive_starts(
        &self,
        since: Timestamp,
        labels: &BTreeMap<String, String>,
    ) -> Vec<Start> {
        let recent: Vec<ObjectKey> = {
            let index = self.inner.read();
            let starts = index.starts.iter().rev();
            starts
                .take_while(|(at, _)| *at > since)
                .map(|(_, key)| key.clone())
                .collect()
        };
        recent
            .iter()
            .filter_map(|key| self.store.get(key))
            .filter(|run| {
                labels
                    .iter()
                    .all(|(key, value)| run.labels().get(key) == Some(value))
            })
            .filter_map(|run| start(&run))
            .filter(|start| start.at > since)
            .collect()
    }

    /// The run of this name.
    pub fn get(&self, name: &str) -> Option<Arc<ServerRun>> {
        self.store.get(&ObjectKey::cluster(name))
    }

    /// The run as which `plan` begins after those that are `closed`. An earlier try whose answer was lost has the same name, so only one is
    /// made; a run of that name that ended is no such try.
    pub fn begin(
        &self,
        server: &Server,
        plan: &Plan,
        closed: &[Closed],
        now: Timestamp,
    ) -> ServerRun {
        let uid = server.uid().unwrap_or_default();
        let run = named(server, plan, &turn(&uid, plan, closed));
        let known = self.get(&run.name_any());
        if known.is_some_and(|known| Closed::of(&known).is_some()) {
            return object(server, plan, now);
        }
        run
    }
}

fn is_settled(run: &ServerRun) -> bool {
    matches!(
        run.status.as_ref().and_then(|status| status.phase.as_ref()),
        Some(RunPhase::Succeeded)
    )
}

/// The destructive start that a run is, if it is one.
fn start(run: &ServerRun) -> Option<Start> {
    let steps: Vec<Step> = run
        .spec
        .plan
        .iter()
        .filter_map(|p| p.step.parse().ok())
        .collect();
    let destructive = match &run.spec.kind {
        RunKind::Release => true,
        RunKind::Power => run.spec.occasion == corten_lifecycle::server::HANDED_OVER,
        RunKind::Cleaning => !steps.is_empty(),
        RunKind::Operation => steps.iter().any(Step::is_destructive),
        _ => false,
    };
    let at = run.metadata.creation_timestamp.as_ref()?.0;
    destructive.then(|| Start {
        server: run.spec.server_ref.uid.clone(),
        at,
    })
}

impl Index {
    fn put_in(&mut self, key: &ObjectKey, run: &ServerRun) {
        self.by_server
            .entry(run.spec.server_ref.uid.clone())
            .or_default()
            .insert(key.clone(), Known::of(run));
        if let Some(start) = start(run) {
            self.starts.insert((start.at, key.clone()));
        }
        for part in buried(run).iter().flat_map(parts) {
            self.tombstones.entry(part).or_default().insert(key.clone());
        }
    }

    fn take_out(&mut self, key: &ObjectKey, run: &ServerRun) {
        if let Some(keys) = self.by_server.get_mut(&run.spec.server_ref.uid) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_server.remove(&run.spec.server_ref.uid);
            }
        }
        if let Some(start) = start(run) {
            self.starts.remove(&(start.at, key.clone()));
        }
        for part in buried(run).iter().flat_map(parts) {
            if let Some(keys) = self.tombstones.get_mut(&part) {
                keys.remove(key);
                if keys.is_empty() {
                    self.tombstones.remove(&part);
                }
            }
        }
    }
}

/// The parts that an identity is found by.
fn parts(identity: &Identity) -> Vec<Part> {
    let uuid = (!identity.uuid.is_empty()).then(|| Part::Uuid(identity.uuid.clone()));
    let serial = (!identity.serial.is_empty()).then(|| Part::Serial(identity.serial.clone()));
    uuid.into_iter().chain(serial).collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Uuid(String),
    Serial(String),
}

fn buried(run: &ServerRun) -> Option<Identity> {
    (run.spec.kind == RunKind::from(Kind::Tombstone)).then(|| {
        Identity::new(
            run.spec.system_uuid.as_deref().unwrap_or_default(),
            run.spec.serial_number.as_deref().unwrap_or_default(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_is_tried_again_has_the_same_name_until_a_run_has_ended() {
        let plan = |occasion: &str| Plan {
            kind: Kind::Power,
            occasion: occasion.into(),
            claim_uid: String::new(),
            actor: "corten".into(),
            steps: Vec::new(),
        };
        let closed = |second| Closed {
            kind: Kind::Power,
            occasion: "x".into(),
            phase: corten_lifecycle::run::Phase::Succeeded,
            finished_at: Timestamp::from_second(second).unwrap(),
            message: String::new(),
        };
        let first = turn("u", &plan("x"), &[]);
        assert_eq!(first, turn("u", &plan("x"), &[]));
        assert_ne!(first, turn("u", &plan("y"), &[]));
        assert_ne!(first, turn("v", &plan("x"), &[]));
        let second = turn("u", &plan("x"), &[closed(1)]);
        assert_ne!(first, second);
        // Two that ended within one second.
        let third = turn("u", &plan("x"), &[closed(1), closed(1)]);
        assert_ne!(second, third);
        let fourth = turn("u", &plan("w"), &[closed(1), closed(1), closed(3)]);
        assert!(first < second && second < third && third < fourth);
    }

    #[test]
    fn a_run_that_came_to_be_known_while_its_start_was_prepared_is_not_made_again() {
        let store: Store<ServerRun> = Store::packed();
        let runs = RunIndex::new(store.clone());
        let server = serde_json::json!({
            "metadata": {"name": "s", "uid": "u"},
            "spec": {"systemUUID": "1", "bmcRef": {"name": "b"}},
        });
        let server: Server = serde_json::from_value(server).unwrap();
        let plan = Plan {
            kind: Kind::Power,
            occasion: "x".into(),
            claim_uid: String::new(),
            actor: "corten".into(),
            steps: Vec::new(),
        };
        let begin = || runs.begin(&server, &plan, &[], Timestamp::UNIX_EPOCH);
        let mut first = begin();
        first.metadata.uid = Some("r".into());
        first.metadata.resource_version = Some("1".into());
        first.metadata.creation_timestamp = Some(Timestamp::UNIX_EPOCH.into());
        store.wrote(first.clone());
        assert_eq!(begin().name_any(), first.name_any());
        let mut ended = first.clone();
        ended.metadata.resource_version = Some("2".into());
        ended.status = Some(corten_api::corten::ServerRunStatus {
            phase: Some(RunPhase::Succeeded),
            finished_at: Some(Timestamp::UNIX_EPOCH),
            ..Default::default()
        });
        store.wrote(ended);
        assert_ne!(begin().name_any(), first.name_any());
    }

    #[test]
    fn a_run_is_open_then_ended_and_its_start_is_on_record_until_it_goes() {
        let store: Store<ServerRun> = Store::packed();
        let runs = RunIndex::new(store.clone());
        let run = |version: &str, status: serde_json::Value| -> ServerRun {
            serde_json::from_value(serde_json::json!({
                "metadata": {
                    "name": "r", "uid": "r1", "resourceVersion": version, "creationTimestamp": "2026-11-27T10:00:00Z",
                    "labels": {"shard": "a"},
                },
                "spec": {
                    "kind": "Cleaning", "serverRef": {"name": "s", "uid": "u"}, "occasion": "x",
                    "plan": [{"step": "ForceOff", "reason": "r"}],
                },
                "status": status,
            }))
            .unwrap()
        };
        let starts = |since: &str, shard: &str| {
            let labels = BTreeMap::from([("shard".to_owned(), shard.to_owned())]);
            runs.destructive_starts(since.parse().unwrap(), &labels)
                .len()
        };
        store.wrote(run("1", serde_json::json!({"phase": "Running"})));
        assert!(runs.of("u").open.is_some() && runs.of("u").closed.is_empty());
        assert_eq!(starts("2026-11-27T09:00:00Z", "a"), 1);
        assert_eq!(starts("2026-11-27T09:00:00Z", "b"), 0);
        assert_eq!(starts("2026-11-27T10:00:00Z", "a"), 0, "at that time");
        store.wrote(run(
            "2",
            serde_json::json!({"phase": "Succeeded", "finishedAt": "2026-11-27T10:05:00Z"}),
        ));
        let found = runs.of("u");
        assert!(found.open.is_none() && found.closed.len() == 1);
        assert_eq!(starts("2026-11-27T09:00:00Z", "a"), 1);
        store.removed(&ObjectKey::cluster("r"));
        assert!(runs.of("u").closed.is_empty());
        assert_eq!(starts("2026-11-27T09:00:00Z", "a"), 0);
    }

    #[test]
    fn a_tombstone_is_found_by_either_part_and_by_no_contradicting_one() {
        let store: Store<ServerRun> = Store::new();
        let runs = RunIndex::new(store.clone());
        let run: ServerRun = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "tomb", "uid": "r1", "resourceVersion": "1"},
            "spec": {
                "kind": "Tombstone", "serverRef": {"name": "s", "uid": "old"}, "occasion": "x",
                "systemUUID": "4c4c4544-0042-3510-8052-b7c04f4c3232", "serialNumber": "S1", "claimUID": "c1",
            },
        }))
        .unwrap();
        store.wrote(run);
        let uuid = "4c4c4544-0042-3510-8052-b7c04f4c3232";
        for (identity, found) in [
            (Identity::new(uuid, "S1"), true),
            (Identity::new(uuid, ""), true),
            (Identity::new("", "S1"), true),
            (Identity::new(uuid, "S2"), false),
            (
                Identity::new("11111111-2222-3333-4444-555555555555", "S1"),
                false,
            ),
            (Identity::default(), false),
        ] {
            assert_eq!(
                runs.tombstone(&identity, "new").is_some(),
                found,
                "{identity}"
            );
        }
        assert!(
            runs.tombstone(&Identity::new(uuid, "S1"), "old").is_none(),
            "its own"
        );
    }
}
