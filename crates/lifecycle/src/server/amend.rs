//! Updates of a Server's own spec and annotations: one write each, at the observed version, so that nobody's change in between is lost.

use crate::names;

use super::{CleaningDue, Record, Tombstone, drives};

/// What one update changes. All or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// Annotations that get a value.
    pub set: Vec<(&'static str, String)>,
    /// Annotations that go.
    pub remove: Vec<&'static str>,
    /// `spec.serverClaimRef` and `spec.bootConfigurationRef` go, and `spec.power` with them: fleets that come from the original carry
    /// the claim's wish there.
    pub unbind: bool,
    /// Our finalizer: true puts it on, false takes it off.
    pub finalizer: Option<bool>,
    /// The drives on record are noted with it ([`names::DRIVES`]), beside those that are noted already.
    pub drives: bool,
    /// What it is for, in logs.
    pub why: &'static str,
}

impl Amendment {
    fn of(why: &'static str) -> Self {
        Self {
            why,
            ..Self::default()
        }
    }

    fn and(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.set.push((key, value.into()));
        self
    }

    fn without(mut self, keys: &[&'static str]) -> Self {
        self.remove.extend_from_slice(keys);
        self
    }

    /// Puts our finalizer on.
    pub(crate) fn hook() -> Self {
        Self {
            finalizer: Some(true),
            ..Self::of("the server is looked after")
        }
    }

    /// Takes our finalizer off: the object may go.
    pub(crate) fn unhook() -> Self {
        Self {
            finalizer: Some(false),
            ..Self::of("nothing holds the object any more")
        }
    }

    /// Takes the server from its claim: it is nobody's, and due to be cleaned for `occasion`. Dirtiness stays.
    pub(crate) fn recycle(record: &Record, occasion: &str) -> Self {
        let notes = &record.notes;
        let mut amendment = Self {
            unbind: true,
            drives: true,
            ..Self::of("released from its claim")
        }
        .and(
            names::CLEANING,
            CleaningDue {
                server_uid: record.uid.clone(),
                occasion: occasion.to_owned(),
            }
            .to_string(),
        )
        .and(names::SERVER_UID, record.uid.clone())
        .without(&[
            names::CLAIM_UID,
            names::RELEASE,
            names::PROVISIONED,
            names::HOLD,
            // Words about an earlier cleaning, or an earlier machine found running, are none about this one.
            names::CLEANED_BY,
            names::HANDOVER,
        ]);
        if notes.dirty.is_none() {
            amendment = amendment.and(
                names::DIRTY,
                notes.claim_uid.clone().unwrap_or_else(|| "unknown".into()),
            );
        }
        amendment
    }

    /// The disks are clean, or somebody vouches for it.
    pub(crate) fn cleaned() -> Self {
        Self::of("clean").without(&[
            names::DIRTY,
            names::DRIVES,
            names::CLEANING,
            names::CLEANED_BY,
            names::SERVER_UID,
            names::HANDOVER,
        ])
    }

    /// Notes that the claim's image was booted.
    pub(crate) fn provisioned(claim_uid: &str) -> Self {
        Self {
            drives: true,
            ..Self::of("the claim's image was booted")
        }
        .and(names::PROVISIONED, claim_uid)
        .without(&[names::HANDOVER])
    }

    /// Notes that a retained server was released, for this very object.
    pub(crate) fn retained(record: &Record) -> Self {
        Self::of("released and retained").and(names::SERVER_UID, record.uid.clone())
    }

    /// A person gave the server back: its release is due.
    pub(crate) fn released_by_hand(record: &Record) -> Self {
        let notes = &record.notes;
        let claim = notes
            .claim_uid
            .clone()
            .or_else(|| notes.dirty.clone())
            .unwrap_or_else(|| "unknown".into());
        let mut amendment = Self::of("a person answered: release")
            .and(names::CLAIM_UID, claim.clone())
            .and(names::RELEASE, claim.clone())
            .and(names::SERVER_UID, record.uid.clone())
            .without(&[names::HOLD, names::CLEANED_BY]);
        if notes.dirty.is_none() {
            amendment = amendment.and(names::DIRTY, claim);
        }
        amendment
    }

    /// A person said that this claim owns the machine as it is. What is on its disks is the claim's, on or off: nothing is installed over it.
    pub(crate) fn adopted(record: &Record, claim_uid: &str) -> Self {
        Self::of("a person answered: adopt")
            .and(names::CLAIM_UID, claim_uid)
            .and(names::DIRTY, claim_uid)
            .and(names::SERVER_UID, record.uid.clone())
            .and(names::PROVISIONED, claim_uid)
            .without(&[
                names::HOLD,
                names::RELEASE,
                names::CLEANING,
                names::CLEANED_BY,
            ])
    }

    /// The machine of a tombstone was found again.
    pub(crate) fn found_again(record: &Record, tombstone: &Tombstone) -> Self {
        let claim = match tombstone.claim_uid.as_str() {
            "" => "unknown",
            claim => claim,
        };
        let amendment = Self::of("the machine of a tombstone was found again")
            .and(names::DIRTY, claim)
            .and(names::SERVER_UID, record.uid.clone())
            .and(
                names::CLEANING,
                CleaningDue {
                    server_uid: record.uid.clone(),
                    occasion: tombstone.run.clone(),
                }
                .to_string(),
            );
        match &tombstone.drives {
            Some(drives) => amendment.and(names::DRIVES, drives::noted(drives)),
            None => amendment,
        }
    }

    /// Remembers the machine as seen at onboarding.
    pub(crate) fn identity(identity: &crate::identity::Identity) -> Self {
        Self::of("the machine's identity is remembered").and(names::IDENTITY, identity.to_string())
    }

    /// A machine was found running: a person has to hand it over.
    pub(crate) fn found_running() -> Self {
        Self::of("found running").and(names::HANDOVER, names::HANDOVER_AWAITED)
    }

    /// The handover is done with.
    pub(crate) fn handed_over() -> Self {
        Self::of("handed over").without(&[names::HANDOVER])
    }

    /// A sign-off of a cleaning that is not due: it would waive the next one.
    pub(crate) fn stale_sign_off() -> Self {
        Self::of("no cleaning is due, so the sign-off goes").without(&[names::CLEANED_BY])
    }

    /// An answer to a hold that is no longer asked for.
    pub(crate) fn stale_answer() -> Self {
        Self::of("nothing is held, so the answer goes").without(&[names::HOLD])
    }

    /// The operation is taken up or refused: its annotation goes, so that it happens at most once.
    pub(crate) fn consume_operation() -> Self {
        Self::of("the operation is taken up").without(&[names::OPERATION, names::OPERATION_ACTOR])
    }

    /// Parks the server.
    pub(crate) fn park() -> Self {
        Self::of("parked")
            .and(names::PARKED, "true")
            .without(&[names::OPERATION, names::OPERATION_ACTOR])
    }

    /// Takes it out of parking.
    pub(crate) fn unpark() -> Self {
        Self::of("unparked").without(&[names::PARKED, names::OPERATION, names::OPERATION_ACTOR])
    }
}
