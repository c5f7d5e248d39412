//! What a server offers to claims: the little of it that matching needs.

use std::fmt;

use corten_api::{
    metal::{Power, Server, ServerState, TaintEffect},
    names,
};

use super::selector::Labels;
use crate::{claim::condition, server::UNREACHABLE};

/// A server as the allocator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    name: Box<str>,
    /// Sorted by key.
    labels: Box<[(Box<str>, Box<str>)]>,
    taints: Box<[Taint]>,
    standing: Standing,
}

/// A reason to keep claims away that do not tolerate it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, empty if none was given.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// Whether a server could be bound to any claim at all, and if not, the first thing that stands against it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// It can be bound.
    Free,
    /// It refers to a claim, or is about to.
    Taken,
    /// It is being deleted.
    Deleting,
    /// Its state is another than Available.
    State(ServerState),
    /// Its machine's identity is in doubt: another machine stands in its place, or two servers claim one UUID.
    Disputed,
    /// A human has to decide about it first (condition `Held`).
    Held,
    /// The disks hold a tenant's data that nobody has proved to be gone.
    Dirty,
    /// `spec.unclaimable`.
    Unclaimable,
    /// Annotation `operation: ignore`.
    Ignored,
    /// Parked.
    Parked,
    /// Its BMC does not answer, so nothing could be done for a claim now.
    Unreachable,
    /// It runs although nobody asked it to.
    Running,
    /// Its power state is not known to be off.
    PowerUnknown,
}

// === impl Offer ===

impl Offer {
    /// What `server` offers.
    pub fn of(server: &Server) -> Self {
        let labels = server.metadata.labels.iter().flatten();
        let taints = server.spec.taints.iter().map(|wire| Taint {
            key: wire.key.clone(),
            value: wire.value.clone().unwrap_or_default(),
            effect: wire.effect.clone(),
        });
        Self {
            name: server.metadata.name.clone().unwrap_or_default().into(),
            labels: labels
                .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
                .collect(),
            taints: taints.collect(),
            standing: Standing::of(server),
        }
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its labels, by key.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Its taints.
    pub fn taints(&self) -> &[Taint] {
        &self.taints
    }

    /// Whether it can be bound.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// True when it can be bound to a claim that wants it and tolerates its taints.
    pub fn is_free(&self) -> bool {
        self.standing == Standing::Free
    }

    /// How good it is for a claim that it fits; the smallest is the best.
    pub fn rank(&self) -> Rank {
        Rank {
            spared: usize::MAX - self.taints.len(),
            labels: self.labels.len(),
        }
    }
}

impl Labels for Offer {
    fn label(&self, key: &str) -> Option<&str> {
        let at = self
            .labels
            .binary_search_by(|(known, _)| (**known).cmp(key))
            .ok()?;
        self.labels.get(at).map(|(_, value)| &**value)
    }
}

/// Best fit first: a server whose taints the claim tolerates is kept for such claims, so it goes first and leaves the general ones to
/// others; then the one with the fewest labels, since labels are what others select by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rank {
    spared: usize,
    labels: usize,
}

// === impl Standing ===

impl Standing {
    fn of(server: &Server) -> Self {
        let annotations = server.metadata.annotations.as_ref();
        let annotation = |key: &str| annotations.and_then(|all| all.get(key)).map(String::as_str);
        let status = server.status.as_ref();
        let state = status
            .and_then(|status| status.state.clone())
            .unwrap_or(ServerState::Initial);
        let says = |kind: &str| {
            condition(server, kind).is_some_and(|condition| condition.status == "True")
        };

        if server.metadata.deletion_timestamp.is_some() {
            Self::Deleting
        } else if server.spec.server_claim_ref.is_some() || annotation(names::CLAIM_UID).is_some() {
            Self::Taken
        } else if state != ServerState::Available {
            Self::State(state)
        } else if says(names::CONDITION_HELD) {
            Self::Held
        } else if says(names::CONDITION_IDENTITY_DISPUTED) {
            Self::Disputed
        } else if annotation(names::DIRTY).is_some() {
            Self::Dirty
        } else if server.spec.unclaimable == Some(true) {
            Self::Unclaimable
        } else if annotation(names::OPERATION) == Some(names::OPERATION_IGNORE) {
            Self::Ignored
        } else if annotation(names::PARKED).is_some() {
            Self::Parked
        } else if condition(server, names::CONDITION_READY)
            .is_some_and(|ready| ready.status == "False" && ready.reason == UNREACHABLE)
        {
            Self::Unreachable
        } else if says(names::CONDITION_RUNNING_UNEXPECTEDLY) {
            Self::Running
        } else {
            match status.and_then(|status| status.power_state.as_ref()) {
                Some(power) if power.as_str() == Power::Off.as_str() => Self::Free,
                Some(_) => Self::Running,
                None => Self::PowerUnknown,
            }
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::Taken => f.write_str("bound to other claims"),
            Self::Deleting => f.write_str("being deleted"),
            Self::State(state) => write!(f, "in state {state}"),
            Self::Disputed => f.write_str("of disputed identity"),
            Self::Held => f.write_str("held until somebody decides"),
            Self::Dirty => f.write_str("not proved clean"),
            Self::Unclaimable => f.write_str("unclaimable"),
            Self::Ignored => f.write_str("ignored by annotation"),
            Self::Parked => f.write_str("parked"),
            Self::Unreachable => f.write_str("behind a BMC that does not answer"),
            Self::Running => f.write_str("not powered off"),
            Self::PowerUnknown => f.write_str("of unknown power state"),
        }
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if !self.value.is_empty() {
            write!(f, "={}", self.value)?;
        }
        write!(f, ":{}", self.effect.as_str())
    }
}
