//! What the engine knows of its BMCs right now, in memory: who answers, what each system last showed, who disputes it.
//!
//! The BMC controller writes it (it has the one poll per BMC), everybody else reads: [`Fleet::server`] is what the
//! server controller asks instead of the BMC, and [`Fleet::wakes`] tells it which servers to look at again. Nothing here
//! is a record: after a restart it is filled by reading the BMCs again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use corten_api::metal::Server;
use corten_kit::ObjectKey;
use corten_lifecycle::{
    bmc::{Dispute, dispute},
    identity::Identity,
};
use corten_redfish::{
    Bmc, Document, Seen,
    inventory::{Inventory, PowerState, SystemFacts},
};
use jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::server::Reading;

/// How a server's BMC is named in this process: by its BMC object, or by the Server that has the access inline.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// A BMC object, by name.
    Bmc(Arc<str>),
    /// `Server.spec.bmc` of this Server.
    Inline(Arc<str>),
}

/// Whether a BMC can be talked to.
#[derive(Clone, Debug, Default)]
pub enum Link {
    /// Not tried yet since this process started.
    #[default]
    Unknown,
    /// It answers.
    Up {
        /// Since when.
        since: Timestamp,
    },
    /// It does not, or may not be talked to.
    Down {
        /// CamelCase, as in the BMC's condition.
        reason: Arc<str>,
        /// Cause and remedy.
        message: Arc<str>,
        /// Since when.
        since: Timestamp,
    },
}

/// What a system last showed.
#[derive(Clone, Debug)]
pub struct SystemView {
    /// The Server object's name.
    pub server: Arc<str>,
    /// What the ComputerSystem resource said.
    pub facts: Arc<SystemFacts>,
    /// UUID and serial number, parts that tell nothing emptied.
    pub identity: Identity,
    /// When it was read; an unchanged answer counts as a reading.
    pub read_at: Timestamp,
    /// What the answer looked like, for the next poll.
    pub mark: Option<PollMark>,
}

/// What a polled answer looked like.
#[derive(Clone, Debug)]
pub struct PollMark {
    /// Entity tag, to ask with.
    pub etag: Option<Arc<str>>,
    /// Tells an unchanged answer from BMCs that have no tags.
    pub seen: Seen,
}

/// What a first connection read of a machine, for the server's discovery.
#[derive(Clone, Debug)]
pub struct FirstRead {
    /// The ComputerSystem.
    pub(crate) reading: Reading,
    /// All the rest, by one pass.
    pub(crate) inventory: Inventory,
}

impl FirstRead {
    /// Takes in what was read just now. The document itself is not kept: a hundred kilobytes.
    pub fn new(document: &Document, facts: &SystemFacts, inventory: Inventory) -> Self {
        Self {
            reading: Reading::of(document, facts.clone(), Timestamp::now()),
            inventory,
        }
    }
}

/// One BMC.
#[derive(Clone, Debug, Default)]
pub struct Station {
    /// Whether it answers.
    pub link: Link,
    /// The handle: every call to the BMC goes through it.
    pub bmc: Option<Bmc>,
    /// Its systems.
    pub systems: Vec<SystemView>,
}

/// All that the server controller wants to know about its machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Whether the BMC answers.
    pub link: Link,
    /// The handle.
    pub bmc: Option<Bmc>,
    /// The system; none when the BMC does not show it.
    pub system: Option<SystemView>,
    /// Why it is not clear which machine this is, if it is not.
    pub dispute: Option<String>,
}

/// The fleet. Clones share it.
#[derive(Clone, Default)]
pub struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    stations: RwLock<HashMap<Access, Arc<Station>>>,
    /// Those that a person wants left alone, with the link that their servers see meanwhile.
    ignored: RwLock<HashMap<Access, Link>>,
    /// What first connections read, until the servers' discovery takes it.
    first_reads: Mutex<HashMap<Arc<str>, FirstRead>>,
    claims: Mutex<Claims>,
    wakes: RwLock<Vec<mpsc::UnboundedSender<ObjectKey>>>,
}

/// Who shows which machine: by UUID, else by serial number.
#[derive(Default)]
struct Claims {
    by_mark: HashMap<Arc<str>, Vec<Claim>>,
    marks: HashMap<Access, Vec<Arc<str>>>,
    servers: HashMap<Arc<str>, Arc<str>>,
}

#[derive(Clone)]
struct Claim {
    access: Access,
    identity: Identity,
    server: Option<Arc<str>>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("stations", &self.inner.stations.read().len())
            .finish_non_exhaustive()
    }
}

// === impl Access ===

impl Access {
    /// How this server's BMC is reached; none when the object says neither way.
    pub fn of(server: &Server) -> Option<Self> {
        match &server.spec.bmc_ref {
            Some(reference) => Some(Self::Bmc(reference.name.as_str().into())),
            None => server
                .spec
                .bmc
                .as_ref()
                .map(|_| Self::Inline(server.name_any().into())),
        }
    }

    /// The gateway's name for it.
    pub fn target_name(&self) -> String {
        match self {
            Self::Bmc(name) => name.to_string(),
            Self::Inline(server) => format!("server/{server}"),
        }
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bmc(name) => write!(f, "BMC {name}"),
            Self::Inline(server) => write!(f, "the inline BMC of Server {server}"),
        }
    }
}

// === impl Link ===

impl Link {
    /// True when the BMC answers.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

// === impl Fleet ===

impl Fleet {
    /// An empty fleet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known of a server's machine.
    pub fn server(&self, server: &Server) -> Machine {
        let name = server.name_any();
        let access = Access::of(server);
        let station = access
            .as_ref()
            .and_then(|access| self.station(access))
            .unwrap_or_default();
        let ignored = self.inner.ignored.read();
        let ignored = access.and_then(|access| ignored.get(&access).cloned());
        Machine {
            link: ignored.unwrap_or_else(|| station.link.clone()),
            bmc: station.bmc.clone(),
            system: station
                .systems
                .iter()
                .find(|system| *system.server == *name)
                .cloned(),
            dispute: self.dispute(&name),
        }
    }

    /// A BMC is to be left alone, or no longer: from now on none of its servers counts as reached, whatever a look that is under way finds. Says whether
    /// that is news.
    pub fn ignore(&self, access: &Access, reason: Option<(&str, &str)>) -> bool {
        let mut ignored = self.inner.ignored.write();
        match reason {
            None => ignored.remove(access).is_some(),
            Some(_) if ignored.contains_key(access) => false,
            Some((reason, message)) => {
                let link = Link::Down {
                    reason: reason.into(),
                    message: message.into(),
                    since: Timestamp::now(),
                };
                ignored.insert(access.clone(), link).is_none()
            }
        }
    }

    /// One BMC as it was last seen.
    pub fn station(&self, access: &Access) -> Option<Arc<Station>> {
        self.inner.stations.read().get(access).cloned()
    }

    /// What the first connection read of a server's machine, once: so that discovery need not read it again.
    pub fn take_first_read(&self, server: &str) -> Option<FirstRead> {
        self.inner.first_reads.lock().remove(server)
    }

    /// Tells what somebody else than the poll has just read of a system, such as the power state after a reset.
    pub fn saw(&self, server: &Server, facts: SystemFacts, at: Timestamp) {
        let Some(access) = Access::of(server) else {
            return;
        };
        let name = server.name_any();
        self.change(&access, |station| {
            if let Some(system) = station
                .systems
                .iter_mut()
                .find(|system| *system.server == *name)
            {
                system.facts = Arc::new(facts);
                system.read_at = at;
                system.mark = None;
            }
        });
    }

    /// Names of servers whose machine changed in a way that matters: link, power, boot progress, LED, dispute.
    pub fn wakes(&self) -> mpsc::UnboundedReceiver<ObjectKey> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.inner.wakes.write().push(sender);
        receiver
    }

    /// Changes one station and wakes the servers to which the change matters.
    pub fn change(&self, access: &Access, change: impl FnOnce(&mut Station)) {
        let (before, after) = {
            let mut stations = self.inner.stations.write();
            let before = stations.get(access).cloned();
            let mut station = before.as_deref().cloned().unwrap_or_default();
            change(&mut station);
            let after = Arc::new(station);
            stations.insert(access.clone(), after.clone());
            (before.unwrap_or_default(), after)
        };
        let link_changed = !same_link(&before.link, &after.link);
        for system in &after.systems {
            let old = before
                .systems
                .iter()
                .find(|old| old.server == system.server);
            if link_changed || old.is_none_or(|old| matters(&old.facts, &system.facts)) {
                self.wake(&system.server);
            }
        }
        for gone in before
            .systems
            .iter()
            .filter(|old| after.systems.iter().all(|new| new.server != old.server))
        {
            self.wake(&gone.server);
        }
    }

    /// Keeps what was read for the server's discovery, and wakes it.
    pub fn keep_first_read(&self, server: &str, read: FirstRead) {
        self.inner.first_reads.lock().insert(server.into(), read);
        self.wake(server);
    }

    /// Says which machines a BMC shows, and as which Servers. Returns the other BMCs with which that begins or ends a
    /// dispute.
    pub fn claim(&self, access: &Access, shown: &[(Identity, Option<Arc<str>>)]) -> Vec<Access> {
        let mut claims = self.inner.claims.lock();
        let before = claims.disputed_with(access);
        claims.forget(access);
        for (identity, server) in shown {
            claims.add(Claim {
                access: access.clone(),
                identity: identity.clone(),
                server: server.clone(),
            });
        }
        let after = claims.disputed_with(access);
        let changed: Vec<Access> = before.symmetric_difference(&after).cloned().collect();
        let servers: Vec<Arc<str>> = changed
            .iter()
            .flat_map(|other| claims.servers_of(other))
            .collect();
        drop(claims);
        if !changed.is_empty() {
            let own = shown.iter().filter_map(|(_, server)| server.clone());
            own.chain(servers).for_each(|server| self.wake(&server));
        }
        changed
    }

    /// The BMC by which surely the same machine has its Server already, or that showed it before this one did.
    pub fn shown_elsewhere(&self, access: &Access, identity: &Identity) -> Option<Access> {
        let mark = mark(identity)?;
        let claims = self.inner.claims.lock();
        let sides = claims.by_mark.get(&*mark)?;
        let own = sides
            .iter()
            .position(|claim| claim.access == *access)
            .unwrap_or(sides.len());
        let is_other = |claim: &Claim| {
            claim.access != *access
                && dispute(&claim.identity, identity) == Some(Dispute::SameMachine)
        };
        sides
            .iter()
            .enumerate()
            .find(|(at, claim)| is_other(claim) && (*at < own || claim.server.is_some()))
            .map(|(_, claim)| claim.access.clone())
    }

    /// What is unclear about the machines of a BMC, for its condition.
    pub fn disputes(&self, access: &Access) -> Vec<String> {
        let claims = self.inner.claims.lock();
        let marks = claims.marks.get(access).into_iter().flatten();
        marks
            .filter_map(|mark| {
                let sides = claims.by_mark.get(mark)?;
                let own = sides.iter().find(|claim| claim.access == *access)?;
                let clashes = |claim: &&Claim| {
                    claim.access != *access && dispute(&claim.identity, &own.identity).is_some()
                };
                Some(disputed(mark, own, sides.iter().find(clashes)?))
            })
            .collect()
    }

    /// Why it is not clear which machine a server is, if it is not: both sides are named.
    pub fn dispute(&self, server: &str) -> Option<String> {
        let claims = self.inner.claims.lock();
        let mark = claims.servers.get(server)?;
        let sides = claims.by_mark.get(mark)?;
        let own = sides
            .iter()
            .find(|claim| claim.server.as_deref() == Some(server))?;
        let other = sides.iter().find(|claim| {
            claim.access != own.access && dispute(&claim.identity, &own.identity).is_some()
        })?;
        Some(disputed(mark, own, other))
    }

    /// Forgets a BMC that is gone. Returns the others whose disputes that ends.
    pub fn forget(&self, access: &Access) -> Vec<Access> {
        let freed = self.claim(access, &[]);
        let gone = self.inner.stations.write().remove(access);
        for system in gone.iter().flat_map(|station| &station.systems) {
            self.inner.first_reads.lock().remove(&*system.server);
            self.wake(&system.server);
        }
        freed
    }

    /// Has a server looked at again.
    pub(crate) fn wake(&self, server: &str) {
        let key = ObjectKey::cluster(server);
        self.inner
            .wakes
            .write()
            .retain(|sender| sender.send(key.clone()).is_ok());
    }
}

fn disputed(mark: &str, own: &Claim, other: &Claim) -> String {
    let remedy = match dispute(&own.identity, &other.identity) {
        Some(Dispute::SharedUuid) => {
            "they have different serial numbers: give one of the machines a UUID of its own"
        }
        _ => "if it is one machine, delete one of the two objects",
    };
    format!(
        "{} and {} both show the machine with {mark}; {remedy}",
        own.access, other.access
    )
}

impl Claims {
    fn add(&mut self, claim: Claim) {
        let Some(mark) = mark(&claim.identity).map(Arc::<str>::from) else {
            return;
        };
        self.marks
            .entry(claim.access.clone())
            .or_default()
            .push(mark.clone());
        if let Some(server) = &claim.server {
            self.servers.insert(server.clone(), mark.clone());
        }
        self.by_mark.entry(mark).or_default().push(claim);
    }

    fn forget(&mut self, access: &Access) {
        for mark in self.marks.remove(access).unwrap_or_default() {
            let Some(sides) = self.by_mark.get_mut(&mark) else {
                continue;
            };
            for server in sides
                .iter()
                .filter(|claim| claim.access == *access)
                .filter_map(|claim| claim.server.as_ref())
            {
                self.servers.remove(server);
            }
            sides.retain(|claim| claim.access != *access);
            if sides.is_empty() {
                self.by_mark.remove(&mark);
            }
        }
    }

    /// The BMCs that show a machine of this one's.
    fn disputed_with(&self, access: &Access) -> BTreeSet<Access> {
        let marks = self.marks.get(access).into_iter().flatten();
        let sides = marks.filter_map(|mark| self.by_mark.get(mark));
        sides
            .flat_map(|sides| {
                let own: Vec<&Claim> = sides
                    .iter()
                    .filter(|claim| claim.access == *access)
                    .collect();
                let clashes = move |other: &&Claim| {
                    own.iter()
                        .any(|own| dispute(&own.identity, &other.identity).is_some())
                };
                sides
                    .iter()
                    .filter(|claim| claim.access != *access)
                    .filter(clashes)
                    .map(|claim| claim.access.clone())
            })
            .collect()
    }

    fn servers_of(&self, access: &Access) -> Vec<Arc<str>> {
        let marks = self.marks.get(access).into_iter().flatten();
        let sides = marks.filter_map(|mark| self.by_mark.get(mark)).flatten();
        sides
            .filter(|claim| claim.access == *access)
            .filter_map(|claim| claim.server.clone())
            .collect()
    }
}

/// What two BMCs clash by: the UUID, or the serial number of a machine that has no UUID of its own.
fn mark(identity: &Identity) -> Option<String> {
    if !identity.uuid.is_empty() {
        Some(format!("system UUID {}", identity.uuid))
    } else if !identity.serial.is_empty() {
        Some(format!("serial number {} and no UUID", identity.serial))
    } else {
        None
    }
}

fn same_link(a: &Link, b: &Link) -> bool {
    match (a, b) {
        (Link::Unknown, Link::Unknown) | (Link::Up { .. }, Link::Up { .. }) => true,
        (
            Link::Down {
                reason: a,
                message: left,
                ..
            },
            Link::Down {
                reason: b,
                message: right,
                ..
            },
        ) => a == b && left == right,
        _ => false,
    }
}

fn matters(old: &SystemFacts, new: &SystemFacts) -> bool {
    let look = |facts: &SystemFacts| -> (Option<PowerState>, _, _, _, _, _) {
        (
            facts.power_state.clone(),
            facts.boot_progress.clone(),
            facts.led.clone(),
            facts.last_reset,
            facts.uuid.clone(),
            facts.serial_number.clone(),
        )
    };
    look(old) != look(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "4c4c4544-0042-3510-8052-b7c04f4c3232";

    fn access(name: &str) -> Access {
        Access::Bmc(name.into())
    }

    fn shown(uuid: &str, serial: &str, server: Option<&str>) -> (Identity, Option<Arc<str>>) {
        (Identity::new(uuid, serial), server.map(Into::into))
    }

    fn view(server: &str, power: PowerState) -> SystemView {
        let facts = SystemFacts {
            power_state: Some(power),
            ..SystemFacts::default()
        };
        SystemView {
            server: server.into(),
            facts: facts.into(),
            identity: Identity::default(),
            read_at: Timestamp::UNIX_EPOCH,
            mark: None,
        }
    }

    #[test]
    fn two_bmcs_that_show_one_uuid_are_in_dispute_and_both_are_named() {
        let fleet = Fleet::new();
        assert!(
            fleet
                .claim(&access("a"), &[shown(UUID, "1", Some("a-system-0"))])
                .is_empty()
        );
        assert_eq!(fleet.dispute("a-system-0"), None);
        assert_eq!(
            fleet.claim(&access("b"), &[shown(UUID, "1", None)]),
            [access("a")]
        );
        let why = fleet.dispute("a-system-0").unwrap();
        assert!(
            why.contains("BMC a") && why.contains("BMC b") && why.contains(UUID),
            "{why}"
        );
        assert_eq!(
            fleet.shown_elsewhere(&access("b"), &Identity::new(UUID, "1")),
            Some(access("a"))
        );
        assert_eq!(
            fleet.shown_elsewhere(&access("a"), &Identity::new(UUID, "1")),
            None
        );
        assert_eq!(fleet.disputes(&access("a")).len(), 1);
    }

    #[test]
    fn a_dispute_ends_when_one_side_is_gone() {
        let fleet = Fleet::new();
        fleet.claim(&access("a"), &[shown(UUID, "1", Some("a-system-0"))]);
        fleet.claim(&access("b"), &[shown(UUID, "1", None)]);
        let mut wakes = fleet.wakes();
        assert_eq!(fleet.forget(&access("b")), [access("a")]);
        assert_eq!(fleet.dispute("a-system-0"), None);
        assert_eq!(wakes.try_recv().unwrap().name(), "a-system-0");
    }

    #[test]
    fn machines_without_a_uuid_of_their_own_are_told_apart_by_serial_number() {
        let fleet = Fleet::new();
        let nil = "00000000-0000-0000-0000-000000000000";
        fleet.claim(&access("a"), &[shown(nil, "1", Some("a-system-0"))]);
        assert!(
            fleet
                .claim(&access("b"), &[shown(nil, "2", Some("b-system-0"))])
                .is_empty()
        );
        assert_eq!(fleet.dispute("a-system-0"), None);
    }

    #[test]
    fn only_what_matters_wakes_a_server() {
        let fleet = Fleet::new();
        let mut wakes = fleet.wakes();
        let a = access("a");
        fleet.change(&a, |station| {
            station.systems = vec![view("s", PowerState::Off)]
        });
        assert!(wakes.try_recv().is_ok());
        fleet.change(&a, |station| station.systems[0].read_at = Timestamp::now());
        assert!(wakes.try_recv().is_err());
        fleet.change(&a, |station| station.systems[0] = view("s", PowerState::On));
        assert!(wakes.try_recv().is_ok());
        fleet.change(&a, |station| {
            station.link = Link::Down {
                reason: "Timeout".into(),
                message: "m".into(),
                since: Timestamp::now(),
            };
        });
        assert!(wakes.try_recv().is_ok());
    }
}
