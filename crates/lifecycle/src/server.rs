//! What becomes of a server next: the rules that can cut power or destroy data, and nothing else.
//!
//! [`decide`] is the entry: from one [`Observed`] to one [`Decision`]. It does no I/O and reads no clock, so every rule is tested without
//! hardware and the whole is model-checked (`tests/promises.rs` of this crate). The engine has one arm for each [`Act`] and no rule.
//!
//! What safety rests on is in the spec and the annotations, never in the status alone: a restored backup has no status.
//!
//! Order of the rules, the first that speaks decides: deletion · `ignore` · our finalizer · another machine in the place · a step that may have been
//! sent · Hold · operations · Parked · release · cleaning · claimed · free.

mod amend;
mod available;
mod deletion;
mod discovery;
pub mod drives;
mod extract;
mod hold;
mod observed;
mod parked;
pub(crate) mod pursuit;
mod release;
mod reserved;
mod settings;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

use corten_api::metal::{PowerState, ServerState};

pub use amend::Amendment;
pub use discovery::HANDED_OVER;
pub(crate) use discovery::{is_due as is_unknown, take_over};
pub use observed::{
    Abilities, Attachment, Boot, Call, Claim, ClaimKey, CleaningDue, Drive, Guard, Handover,
    HoldAnswer, Inventory, Machine, Media, Notes, Observed, Reach, Reclaim, Record, Services,
    Tombstone,
};

use crate::{
    cleanup, operation,
    plan::Plan,
    run::{Phase, Settlement, Step},
};

/// A reading of the machine older than this is no ground for changing it.
pub const FRESH: SignedDuration = SignedDuration::from_secs(10);

/// Condition types that this machine sets.
pub mod condition {
    pub use corten_api::names::{
        CONDITION_DISCOVERED as DISCOVERED, CONDITION_ERASED as ERASED, CONDITION_HELD as HELD,
        CONDITION_IDENTITY_DISPUTED as IDENTITY_DISPUTED, CONDITION_POWERED_OFF as POWERED_OFF,
        CONDITION_READY as READY, CONDITION_RUNNING_UNEXPECTEDLY as RUNNING_UNEXPECTEDLY,
    };

    /// The claim's image was booted.
    pub const PROVISIONED: &str = "Provisioned";
    /// All of them.
    pub const ALL: [&str; 8] = [
        READY,
        DISCOVERED,
        RUNNING_UNEXPECTEDLY,
        HELD,
        ERASED,
        POWERED_OFF,
        IDENTITY_DISPUTED,
        PROVISIONED,
    ];
    /// Those that stay as they were when a decision does not speak of them; the others go.
    pub const LASTING: [&str; 3] = [DISCOVERED, ERASED, POWERED_OFF];
}

/// A condition to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Type, one of [`condition`].
    pub kind: &'static str,
    /// True, false, or unknown.
    pub holds: Option<bool>,
    /// CamelCase.
    pub reason: &'static str,
    /// Cause and remedy, with the names.
    pub message: String,
}

/// Something to be said as an Event, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// True when it needs eyes.
    pub warning: bool,
    /// CamelCase.
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
}

/// The one thing to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing until something changes or [`Decision::wake`].
    Nothing,
    /// Write the status now: what follows rests on it.
    Show,
    /// Read the system again; what is known is too old to act on.
    ReadMachine,
    /// Read the machine and what is in its virtual drives.
    ReadMedia,
    /// Read the whole inventory.
    ReadInventory,
    /// Update the Server's spec and annotations, in one write, at the observed version.
    Amend(Amendment),
    /// Record a run. Nothing is sent before it is recorded.
    StartRun(Plan),
    /// Write the intent, send the step, record what became of it.
    Send(Step),
    /// Record what evidence says of the intent.
    Settle(Settlement),
    /// Ask how the task of a drive's erasure stands, and record its end.
    FollowErasure {
        /// The drive.
        serial: String,
    },
    /// Record the run's end.
    FinishRun {
        /// How it ended.
        phase: Phase,
        /// Why.
        message: String,
    },
    /// Record that the machine of this tombstone was found again.
    SettleTombstone {
        /// The run's name.
        run: String,
    },
    /// Leave a tombstone: the object goes by force and the disks are not clean.
    LeaveTombstone(Plan),
    /// Record a discovery that failed.
    RecordFailedDiscovery {
        /// Why.
        message: String,
    },
}

/// What to do, what to show, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What `status.state` is to say; none leaves the status alone.
    pub state: Option<ServerState>,
    /// The one thing to do.
    pub act: Act,
    /// Conditions to be shown.
    pub findings: Vec<Finding>,
    /// Events besides those that follow from changed state and conditions.
    pub remarks: Vec<Remark>,
    /// When to decide again at the latest.
    pub wake: Option<Timestamp>,
}

// === impl Decision ===

impl Decision {
    /// Shows `state` and does nothing.
    pub fn rest(state: ServerState) -> Self {
        Self {
            state: Some(state),
            act: Act::Nothing,
            findings: Vec::new(),
            remarks: Vec::new(),
            wake: None,
        }
    }

    /// Leaves object and machine alone.
    pub fn leave_alone() -> Self {
        Self {
            state: None,
            ..Self::rest(ServerState::Initial)
        }
    }

    /// With something to do.
    #[must_use]
    pub fn with(mut self, act: Act) -> Self {
        self.act = act;
        self
    }

    /// Looking again at `time`, or before if that was said already.
    #[must_use]
    pub fn until(mut self, time: Timestamp) -> Self {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
        self
    }

    /// With a condition; the first word on a type stands.
    #[must_use]
    pub fn finding(
        mut self,
        kind: &'static str,
        holds: Option<bool>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        if !self.findings.iter().any(|f| f.kind == kind) {
            self.findings.push(Finding {
                kind,
                holds,
                reason,
                message: message.into(),
            });
        }
        self
    }

    /// With `Ready=False`.
    #[must_use]
    pub fn not_ready(self, reason: &'static str, message: impl Into<String>) -> Self {
        self.finding(condition::READY, Some(false), reason, message)
    }

    /// With `Ready=False` for a reason that stands before any other: something has to give way first.
    #[must_use]
    pub fn blocked(mut self, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        self.findings.retain(|f| f.kind != condition::READY);
        // Nobody asks a machine to shut down, and nothing is erased, while that stands in the way.
        let delayed = self.findings.iter_mut().filter(|f| {
            matches!(f.kind, condition::POWERED_OFF | condition::ERASED) && f.holds == Some(false)
        });
        for finding in delayed {
            finding.reason = reason;
            finding.message.clone_from(&message);
        }
        self.not_ready(reason, message)
    }

    /// With `Ready=True`.
    #[must_use]
    pub fn ready(self, reason: &'static str, message: impl Into<String>) -> Self {
        self.finding(condition::READY, Some(true), reason, message)
    }

    /// With an Event.
    #[must_use]
    pub fn remark(mut self, warning: bool, reason: &'static str, note: impl Into<String>) -> Self {
        self.remarks.push(Remark {
            warning,
            reason,
            note: note.into(),
        });
        self
    }
}

/// What becomes of the server next.
pub fn decide(o: &Observed) -> Decision {
    if o.record.deleting {
        return deletion::decide(o);
    }
    if o.record.notes.ignores() {
        return Decision::leave_alone();
    }
    if !o.record.finalized {
        return Decision::leave_alone().with(Act::Amend(Amendment::hook()));
    }
    live(o)
}

/// A server that is not being deleted, or is held back from it.
fn live(o: &Observed) -> Decision {
    if let Some(stranger) = stranger(o) {
        return stranger;
    }
    let decision = unsettled(o)
        .or_else(|| stale_sign_off(o))
        .or_else(|| hold::decide(o))
        .or_else(|| operation::decide(o))
        .unwrap_or_else(|| by_standing(o));
    annotate(o, decision)
}

/// A sign-off counts for the cleaning that is due when it is given, and for no other.
fn stale_sign_off(o: &Observed) -> Option<Decision> {
    let notes = &o.record.notes;
    (notes.cleaned_by.is_some() && notes.cleaning.is_none()).then(|| {
        Decision::rest(o.shown_state())
            .remark(
                true,
                "SignOffIgnored",
                format!(
                    "no cleaning is due, so the annotation {} is taken off: set it when one is",
                    crate::names::CLEANED_BY
                ),
            )
            .with(Act::Amend(Amendment::stale_sign_off()))
    })
}

/// Who the server belongs to, by what is written on it.
fn by_standing(o: &Observed) -> Decision {
    let notes = &o.record.notes;
    if notes.parked {
        return parked::decide(o);
    }
    if notes.is_releasing() {
        return release::decide(o);
    }
    if o.record.claim.is_some() {
        return reserved::decide(o);
    }
    if notes.dirty.is_some() || notes.cleaning.is_some() {
        return cleanup::decide(o);
    }
    match &o.record.state {
        Some(state @ (ServerState::Maintenance | ServerState::Retired | ServerState::Other(_))) => {
            // Maintenance is driven by its own controller; states that this version does not know are somebody else's.
            Decision::rest(state.clone()).not_ready(
                "NotDriven",
                format!("the state {state} is not driven by this version"),
            )
        }
        _ if discovery::is_due(o) => discovery::decide(o),
        _ => available::decide(o),
    }
}

/// Another machine stands in the place: nothing is touched, whatever else is true.
fn stranger(o: &Observed) -> Option<Decision> {
    let (Reach::Reached(machine), Some(expected)) = (&o.reach, &o.record.notes.identity) else {
        return None;
    };
    if !expected.contradicts(&machine.identity) {
        return None;
    }
    let message = format!(
        "expected {expected} behind this BMC and found {}: nothing is done to it. Put the machine back, or delete this Server so that the other one is onboarded",
        machine.identity
    );
    Some(Decision::rest(ServerState::Error).not_ready("IdentityMismatch", message))
}

/// A step that may have been sent is settled before anything else is thought of: its deadline is waited out, the machine is read after it.
fn unsettled(o: &Observed) -> Option<Decision> {
    let intent = o.run.as_ref()?.intent.as_ref()?;
    let decision = Decision::rest(o.shown_state());
    Some(if o.now < intent.deadline {
        decision.until(intent.deadline)
    } else {
        match &o.reach {
            Reach::Reached(machine) if machine.read_at >= intent.deadline => {
                decision.with(Act::Settle(crate::run::settle(intent, machine)))
            }
            Reach::Lost { .. } => unreachable_now(o, decision),
            _ => decision.with(Act::ReadMachine),
        }
    })
}

/// An open run that serves none of `occasions` any more ends here. Complete ones end as succeeded.
pub(crate) fn leftover(o: &Observed, wanted: &[(crate::run::Kind, &str)]) -> Option<Decision> {
    let run = o.run.as_ref()?;
    if wanted
        .iter()
        .any(|(kind, occasion)| run.kind == *kind && run.occasion == *occasion)
    {
        return None;
    }
    let (phase, message) = if achieved(o, run) {
        let message = match run.kind {
            crate::run::Kind::Provisioning => reserved::shown(run),
            _ => "done",
        };
        (Phase::Succeeded, message.to_owned())
    } else {
        (
            Phase::Failed,
            "overtaken: what made it due is no longer so".to_owned(),
        )
    };
    Some(Decision::rest(o.shown_state()).with(Act::FinishRun { phase, message }))
}

/// Whether a run got where it was meant to, so that it ends well although nothing asks for it any more.
fn achieved(o: &Observed, run: &crate::run::Run) -> bool {
    use crate::run::Kind;
    match run.kind {
        // The cleaning that followed bears its name.
        Kind::Release => o
            .record
            .notes
            .cleaning
            .as_ref()
            .is_some_and(|due| due.occasion == run.name),
        Kind::Cleaning => o.record.notes.cleaning.is_none() && o.record.notes.dirty.is_none(),
        Kind::Provisioning => o.record.notes.provisioned.as_ref() == Some(&run.claim_uid),
        Kind::Power => {
            let wants_on = run.plan.contains(&Step::PowerOn);
            o.machine()
                .is_some_and(|m| (m.power == PowerState::Off) != wants_on)
        }
        _ => run.is_complete(),
    }
}

/// Reason of `Ready` while the BMC does not answer.
pub(crate) const UNREACHABLE: &str = "BMCUnreachable";

/// Reason of a BMC that is lost because a person wants it left alone.
pub const BMC_IGNORED: &str = "BMCIgnored";
/// Reason of a BMC that is lost because there is none.
pub const BMC_MISSING: &str = "BMCMissing";

/// The machine has to be asked, and does not answer.
pub(crate) fn unreachable_now(o: &Observed, decision: Decision) -> Decision {
    match &o.reach {
        // Nobody tries: a person took its BMC away from us, or gave none.
        Reach::Lost { reason, message } if [BMC_IGNORED, BMC_MISSING].contains(&reason.as_str()) => {
            decision.blocked(UNREACHABLE, format!("{message}. What is due is done then"))
        }
        Reach::Lost { reason, message } => decision.blocked(
            UNREACHABLE,
            format!("the BMC does not answer ({reason}): {message}. It is tried again; what is due is done then"),
        ),
        _ => decision,
    }
}

/// What is shown whatever the server is doing.
fn annotate(o: &Observed, mut decision: Decision) -> Decision {
    if decision.state.is_none() {
        return decision;
    }
    if let Some(why) = &o.dispute {
        decision = decision.finding(
            condition::IDENTITY_DISPUTED,
            Some(true),
            "IdentityDisputed",
            format!("{why}. It is not given to any claim and nothing is done to it until its identity is settled"),
        );
    }
    if let (Some(brake), true) = (&o.guard.brake, decision.act == Act::Nothing)
        && decision
            .findings
            .iter()
            .any(|f| f.kind == condition::READY && f.reason == "BrakeEngaged")
    {
        decision = decision.remark(true, "BrakeEngaged", brake.clone());
    }
    decision
}

/// Lets a step through to the executor, if everything that must be true before it is.
///
/// `decision` is what is shown meanwhile.
pub(crate) fn send(o: &Observed, decision: Decision, step: Step) -> Decision {
    let Reach::Reached(machine) = &o.reach else {
        return match &o.reach {
            Reach::Lost { .. } => unreachable_now(o, decision),
            _ => decision.with(Act::ReadMachine),
        };
    };
    if let Some(why) = &o.dispute {
        return decision.blocked("IdentityDisputed", why.clone());
    }
    if after(machine.read_at, FRESH) < o.now {
        return decision.with(Act::ReadMachine);
    }
    if step.is_destructive()
        && let Some(brake) = &o.guard.brake
    {
        return decision
            .blocked("BrakeEngaged", brake.clone())
            .until(after(o.now, SignedDuration::from_secs(60)));
    }
    let slot = match &step {
        Step::EraseDrive(_) => o.guard.erase_at,
        step if step.is_power() => o.guard.power_at,
        _ => None,
    };
    if let Some(slot) = slot.filter(|slot| *slot > o.now) {
        return decision.until(slot);
    }
    decision.with(Act::Send(step))
}

/// `time` plus `span`, at the end of time if that is beyond it.
pub(crate) fn after(time: Timestamp, span: SignedDuration) -> Timestamp {
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// How often to look while the machine is expected to change: often at first.
pub(crate) fn look_again(since: Timestamp, now: Timestamp) -> SignedDuration {
    if now < after(since, SignedDuration::from_secs(30)) {
        SignedDuration::from_secs(1)
    } else {
        SignedDuration::from_secs(5)
    }
}

/// True when the machine is between On and Off.
pub(crate) fn is_moving(power: &PowerState) -> bool {
    matches!(power, PowerState::PoweringOn | PowerState::PoweringOff)
}
