//! Which server a claim gets, and what has to happen before and after it does.
//!
//! Start at [`decide`]. Who fits whom is in [`demand`] and [`offer`], which of those that fit is taken in [`choice`], and what a claim
//! is told while it waits in [`nofit`].
//!
//! Promises held here (`docs/promises.md`): a server is bound to at most one claim, by UID; a claim made anew under a name neither
//! inherits the machine of its predecessor nor wipes it; a claim is gone only when its server is confirmed off.

pub mod choice;
pub mod demand;
pub mod nofit;
pub mod offer;
mod release;
pub mod selector;

pub use corten_api::names::{BOUND_SERVER, CHOSEN_SERVER};
use corten_api::{
    metal::{Server, ServerBootConfiguration, ServerClaim},
    names,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub use self::{
    choice::choose,
    demand::{Demand, Target},
    nofit::{Misfit, NoFit},
    offer::{Offer, Standing},
};

/// What a claim says of its boot in annotations, which its boot configuration says in the same words.
pub const BOOT_ANNOTATIONS: [&str; 3] = [
    names::BOOT_MODE,
    names::IMAGE_PULL_SECRET,
    names::IMAGE_SHA256,
];

/// All that the decision rests on. Built by `corten_claims`, by hand in tests.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The claim.
    pub claim: &'a ServerClaim,
    /// The servers that refer to a claim of this name, or record this claim's UID. At most one in a world without accidents.
    pub referring: Vec<&'a Server>,
    /// The server that [`BOUND_SERVER`] names, whether or not it knows of the claim.
    pub former: Option<&'a Server>,
    /// The server that [`CHOSEN_SERVER`] names.
    pub chosen: Option<&'a Server>,
    /// The ServerBootConfiguration of the claim's name.
    pub boot: Option<&'a ServerBootConfiguration>,
    /// What the allocator has found for the claim, if it was asked.
    pub choice: Choice<'a>,
}

/// What the allocator has found for a claim.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// This server is set aside for the claim.
    Server(&'a Server),
    /// No server fits now; the claim stands in line.
    NoFit(&'a NoFit),
    /// It was not asked: [`wants_server`] says no.
    NotAsked,
}

/// What to do next. Each variant is one write, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write the choice on the claim, and our finalizer, before the server knows of it.
    Choose {
        /// The server's name.
        server: String,
        /// [`CHOSEN_SERVER`].
        record: String,
    },
    /// Put our finalizer back on a claim that has a server.
    Protect,
    /// Take the server for the claim, in one update by its resourceVersion; fails harmlessly if anybody wrote it in between.
    Bind {
        /// The server.
        server: String,
    },
    /// The server that was set aside does not fit any longer: ask the allocator again.
    Reconsider {
        /// The server.
        server: String,
    },
    /// A claim that had this name before left its boot configuration behind: delete it.
    ClearBoot,
    /// Create or correct the boot configuration of the claim for `server`.
    PrepareBoot {
        /// The server.
        server: String,
    },
    /// Write the server into the claim, where third parties read it.
    Publish {
        /// The server's name.
        server: String,
        /// [`BOUND_SERVER`].
        record: String,
        /// Whether `spec.serverRef` has to be written; it cannot change once it is set.
        reference: bool,
    },
    /// Read the claim live and, if it is this one and being deleted, ask the engine on the Server to release it.
    BeginRelease {
        /// The server.
        server: String,
    },
    /// Take our finalizer off the claim: no server is bound to it, or the one that is has been confirmed off.
    LetGo {
        /// The server that was released or lost, and how it went.
        released: Option<Farewell>,
    },
    /// Nothing to do but to say how things stand.
    Settled(Report),
    /// The claim is no concern of ours any more.
    Gone,
    /// Nothing, not even a status: its owner wants it left alone (`metal.ironcore.dev/operation: ignore`).
    Ignored,
}

/// How a claim parted from its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// The server.
    pub server: String,
    /// False when the Server object is gone or no longer knows of the claim, so that nobody could confirm that the machine is off.
    pub confirmed: bool,
}

/// What the claim's status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether the claim has a server (`status.phase`).
    pub bound_phase: bool,
    /// Condition `Bound`.
    pub bound: Verdict,
    /// Condition `Released`, while the claim is being deleted.
    pub released: Option<Verdict>,
}

/// A condition's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the condition is true.
    pub status: bool,
    /// In CamelCase.
    pub reason: String,
    /// For people: cause and remedy, objects named.
    pub message: String,
}

/// Decides what the claim needs next.
pub fn decide(observed: &Observed<'_>) -> Decision {
    if observed.is_ignored() {
        return Decision::Ignored;
    }
    if observed.claim.metadata.deletion_timestamp.is_some() {
        return release::decide(observed);
    }
    match observed.owned() {
        Some(server) => keep(observed, server),
        None => seek(observed),
    }
}

/// Whether the allocator has to find a server for the claim: it lives, has none, and nothing speaks against it. `observed.choice` is not looked at.
pub fn wants_server(observed: &Observed<'_>) -> bool {
    !observed.is_ignored()
        && observed.claim.metadata.deletion_timestamp.is_none()
        && observed.owned().is_none()
        && observed.obstacle().is_none()
        && observed.choice_on_record().is_none()
}

/// The claim has no server yet.
fn seek(observed: &Observed<'_>) -> Decision {
    if let Some(report) = observed.obstacle() {
        return Decision::Settled(report);
    }
    if let Some(server) = observed.choice_on_record() {
        return Decision::Bind {
            server: name(server),
        };
    }
    match observed.choice {
        Choice::Server(server) => {
            if Demand::of(&observed.claim.spec)
                .check(&Offer::of(server))
                .is_err()
            {
                return Decision::Reconsider {
                    server: name(server),
                };
            }
            Decision::Choose {
                server: name(server),
                record: record_of(server),
            }
        }
        Choice::NoFit(report) => {
            Decision::Settled(Report::unbound(report.reason(), report.to_string()))
        }
        Choice::NotAsked => Decision::Settled(Report::unbound(
            "Pending",
            "the allocator has not looked at the claim yet",
        )),
    }
}

/// `server` records that it is bound to this very claim.
fn keep(observed: &Observed<'_>, server: &Server) -> Decision {
    let claim = observed.claim;
    let name = name(server);
    match &server.spec.server_claim_ref {
        Some(_) if !refers_to(server, claim) => {
            return Decision::Settled(Report::unbound(
                "ServerHeld",
                format!(
                    "server {name:?} records the UID of this claim but refers to another; it is held until its \
                     spec.serverClaimRef or its annotation {} is put right",
                    names::CLAIM_UID
                ),
            ));
        }
        Some(_) => {}
        // Somebody's apply dropped the reference, but the server is the claim's until it is released: put it back.
        None if released_uid(server).is_none() => return Decision::Bind { server: name },
        None => {}
    }
    if !observed.is_protected() {
        return Decision::Protect;
    }
    match observed.boot {
        Some(boot) if is_leftover(boot, claim) => return Decision::ClearBoot,
        Some(boot) if is_foreign(boot, claim) => {
            return Decision::Settled(Report::bound(
                "BootConfigurationTaken",
                format!(
                    "bound to server {name:?}, but ServerBootConfiguration {:?} belongs to another controller; \
                     delete it, so that the claim's own can be made",
                    self::name(boot)
                ),
            ));
        }
        // It has to be gone before ours can be made; its end wakes the claim.
        Some(boot) if boot.metadata.deletion_timestamp.is_some() => {}
        Some(boot) if boot_is_as_wanted(boot, claim, &name) => {}
        _ => return Decision::PrepareBoot { server: name },
    }
    if let Some(second) = observed.owned_beside(server) {
        return Decision::Settled(Report::bound(
            "BoundTwice",
            format!(
                "bound to server {name:?}, and server {:?} records the claim too, which must not be; neither is touched. Remove the \
                 annotation {} of the second: it is held then, and {}={} has it cleaned",
                self::name(second),
                names::CLAIM_UID,
                names::HOLD,
                names::HOLD_RELEASE,
            ),
        ));
    }
    let record = record_of(server);
    let named = claim
        .spec
        .server_ref
        .as_ref()
        .map(|reference| reference.name.as_str())
        .filter(|name| !name.is_empty());
    if named.is_none() || annotation(claim, BOUND_SERVER) != Some(record.as_str()) {
        return Decision::Publish {
            server: name,
            record,
            reference: named.is_none(),
        };
    }
    Decision::Settled(match named {
        Some(other) if other != name => Report::bound(
            "BoundElsewhere",
            format!(
                "bound to server {name:?} before spec.serverRef came to say {other:?}, and that cannot change while it is bound; \
                 delete the claim to release the server"
            ),
        ),
        _ => Report::bound("Bound", format!("bound to server {name:?}")),
    })
}

// === impl Observed ===

impl<'a> Observed<'a> {
    /// The server that records this claim's UID; should there be two, the one that the claim names.
    fn owned(&self) -> Option<&'a Server> {
        let named = self
            .claim
            .spec
            .server_ref
            .as_ref()
            .map(|reference| reference.name.as_str());
        let mut recording = self.recording();
        let first = recording.next()?;
        Some(
            recording
                .chain([first])
                .find(|server| server.metadata.name.as_deref() == named)
                .unwrap_or(first),
        )
    }

    fn owned_beside(&self, owned: &Server) -> Option<&'a Server> {
        self.recording()
            .find(|server| server.metadata.name != owned.metadata.name)
    }

    fn recording(&self) -> impl Iterator<Item = &'a Server> {
        let uid = self.claim.metadata.uid.as_deref();
        self.referring
            .iter()
            .copied()
            .filter(move |server| uid.is_some() && annotation(*server, names::CLAIM_UID) == uid)
    }

    /// The server that was chosen for the claim and still fits it.
    fn choice_on_record(&self) -> Option<&'a Server> {
        let record = annotation(self.claim, CHOSEN_SERVER).filter(|_| self.is_protected())?;
        let server = self.chosen.filter(|server| record_of(server) == record)?;
        Demand::of(&self.claim.spec)
            .check(&Offer::of(server))
            .is_ok()
            .then_some(server)
    }

    fn is_ignored(&self) -> bool {
        annotation(self.claim, names::OPERATION) == Some(names::OPERATION_IGNORE)
    }

    fn is_protected(&self) -> bool {
        self.claim
            .metadata
            .finalizers
            .iter()
            .flatten()
            .any(|finalizer| finalizer == names::FINALIZER_SERVER_CLAIM)
    }

    /// What keeps an unbound claim from being bound to any server until somebody acts.
    fn obstacle(&self) -> Option<Report> {
        let own = self.claim.metadata.uid.as_deref().unwrap_or_default();
        // A server that was released properly and is retained is nobody's business but its administrator's.
        let stranger = self.referring.iter().copied().find(|server| {
            refers_to(server, self.claim)
                && (annotation(*server, names::CLAIM_UID).is_none()
                    || released_uid(server).is_none())
        });
        if let Some(server) = stranger {
            let recorded = annotation(server, names::CLAIM_UID);
            let whose = recorded.map_or("no claim's UID".to_owned(), |uid| {
                format!("the UID {uid} of an earlier one")
            });
            return Some(Report::unbound(
                "ServerHeld",
                format!(
                    "server {:?} refers to a claim of this name but records {whose}, not {own}; it is neither inherited nor wiped. \
                     Annotate the server with {}={}{own} to give it to this claim, or with {}={} to have it cleaned",
                    name(server),
                    names::HOLD,
                    names::HOLD_ADOPT_PREFIX,
                    names::HOLD,
                    names::HOLD_RELEASE,
                ),
            ));
        }
        let lost = annotation(self.claim, BOUND_SERVER)?;
        let (server, uid) = lost.split_once('/').unwrap_or((lost, "unknown"));
        Some(Report::unbound(
            "ServerLost",
            format!(
                "the claim was bound to server {server:?} (UID {uid}), and no server knows of it any more. It is not bound anew by \
                 itself, since that would boot its image again: delete the claim, or remove its annotation {BOUND_SERVER}"
            ),
        ))
    }
}

// === impl Report ===

impl Report {
    fn bound(reason: &str, message: impl Into<String>) -> Self {
        Self {
            bound_phase: true,
            bound: Verdict::new(true, reason, message),
            released: None,
        }
    }

    fn unbound(reason: &str, message: impl Into<String>) -> Self {
        Self {
            bound_phase: false,
            bound: Verdict::new(false, reason, message),
            released: None,
        }
    }
}

impl Verdict {
    fn new(status: bool, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

// === what objects say ===

/// [`BOUND_SERVER`] for `server`.
pub fn record_of(server: &Server) -> String {
    format!(
        "{}/{}",
        name(server),
        server.metadata.uid.as_deref().unwrap_or_default()
    )
}

/// Whether `server.spec.serverClaimRef` names a claim of this namespace and name, whichever its UID.
fn refers_to(server: &Server, claim: &ServerClaim) -> bool {
    server
        .spec
        .server_claim_ref
        .as_ref()
        .is_some_and(|reference| {
            Some(&reference.name) == claim.metadata.name.as_ref()
                && Some(&reference.namespace) == claim.metadata.namespace.as_ref()
        })
}

/// The UID that the server is bound to, if exactly that binding is being released.
fn released_uid(server: &Server) -> Option<&str> {
    annotation(server, names::CLAIM_UID)
        .filter(|bound| annotation(server, names::RELEASE) == Some(*bound))
}

/// Whether an earlier claim of the same name made `boot`.
fn is_leftover(boot: &ServerBootConfiguration, claim: &ServerClaim) -> bool {
    boot.metadata.deletion_timestamp.is_none()
        && controller_of(boot).is_some_and(|(kind, uid)| {
            kind == "ServerClaim" && Some(uid) != claim.metadata.uid.as_deref()
        })
}

/// Whether another kind's controller made `boot`.
fn is_foreign(boot: &ServerBootConfiguration, _claim: &ServerClaim) -> bool {
    controller_of(boot).is_some_and(|(kind, _)| kind != "ServerClaim")
}

fn controller_of(boot: &ServerBootConfiguration) -> Option<(&str, &str)> {
    let owners = boot.metadata.owner_references.iter().flatten();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| (owner.kind.as_str(), owner.uid.as_str()))
}

fn boot_is_as_wanted(boot: &ServerBootConfiguration, claim: &ServerClaim, server: &str) -> bool {
    controller_of(boot).is_some()
        && boot.spec.server_ref.name == server
        && boot.spec.image.as_deref().unwrap_or_default() == claim.spec.image
        && boot.spec.ignition_secret_ref == claim.spec.ignition_secret_ref
        && BOOT_ANNOTATIONS
            .iter()
            .all(|name| annotation(boot, name) == annotation(claim, name))
}

fn name<K: kube::Resource>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}

fn annotation<'a, K: kube::Resource>(object: &'a K, key: &str) -> Option<&'a str> {
    object
        .meta()
        .annotations
        .as_ref()
        .and_then(|all| all.get(key))
        .map(String::as_str)
}

/// The server's condition of type `kind`.
fn condition<'a>(server: &'a Server, kind: &str) -> Option<&'a Condition> {
    server.status.as_ref().and_then(|status| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind)
    })
}

#[cfg(test)]
mod tests;
