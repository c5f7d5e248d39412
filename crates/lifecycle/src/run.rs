//! One piece of work on a server, as the record of it says: plan, intent, results.
//!
//! Promise held here: a call that may have gone out is never sent again blindly. [`settle`] says by evidence what became of it.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};

use corten_api::metal::PowerState;

use crate::server::{Machine, Media};

/// How long one mutating call may take, from the written intent to the BMC's answer.
pub const CALL: SignedDuration = SignedDuration::from_secs(6);

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Learning what the machine is. Only failed ones leave a record; reading changes nothing.
    Discovery,
    /// The first boot for a claim.
    Provisioning,
    /// Erasing drives.
    Cleaning,
    /// Something that a person asked for by annotation.
    Operation,
    /// Bringing power to where it is wanted.
    Power,
    /// Taking a server back from a claim.
    Release,
    /// What a forced deletion leaves behind, so that the machine is known when it is found again.
    Tombstone,
    /// Locator light and boot order.
    Settings,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Recorded; nothing was sent.
    #[default]
    Pending,
    /// At least one intent was written.
    Running,
    /// Every step is done.
    Succeeded,
    /// A step could not be done, or the run was overtaken.
    Failed,
    /// A step may or may not have happened, and nothing can tell.
    OutcomeUnknown,
}

/// One call that changes hardware. On the wire its `Display`, such as `ForceOff` or `EraseDrive/S4EVNX0R`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Asks the operating system to shut down.
    RequestShutdown,
    /// Cuts power.
    ForceOff,
    /// Switches power on.
    PowerOn,
    /// Asks the operating system to restart.
    GracefulRestart,
    /// Restarts without asking.
    ForceRestart,
    /// Cuts power and switches it on again.
    PowerCycle,
    /// The next boot, and only it, goes to the network.
    BootNetworkOnce,
    /// No boot override any more.
    ClearBootOverride,
    /// The next boot, and only it, is UEFI HTTP boot from the boot services' address.
    BootHttpOnce,
    /// The next boot, and only it, is UEFI HTTP boot from the address that DHCP says.
    BootUefiHttpOnce,
    /// Puts the boot services' ISO image into a virtual drive.
    InsertMedia,
    /// The next boot, and only it, goes to the virtual drive.
    BootMediaOnce,
    /// The probe takes inventory. Never sent to a BMC: the probe asks for it.
    ProbeInventory,
    /// The probe tests memory and reads drives for so many seconds.
    ProbeBurnIn(u32),
    /// The probe erases drives, on a grant.
    ProbeErase,
    /// The probe writes the claim's image, on a grant.
    ProbeWrite,
    /// The machine fetches what it boots from the boot services; they say so when it does.
    ServeImage,
    /// Takes out all virtual media: what a plan says, carried out as one [`Step::EjectMedium`] a slot.
    EjectMedia,
    /// Takes out the medium in the slot at this path.
    EjectMedium(String),
    /// Erases the drive with this serial number by `Drive.SecureErase`.
    EraseDrive(String),
    /// Sets the locator light.
    SetIndicatorLed(String),
    /// Sets the boot order of the server's spec.
    SetBootOrder,
}

/// What is true before a step is sent, written with its intent; evidence is judged against it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Before {
    /// Power state.
    pub power: Option<PowerState>,
    /// `LastResetTime`, as the BMC writes it.
    pub last_reset: Option<String>,
}

/// A step that may have been sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Intent {
    /// Unique in the run.
    pub id: String,
    /// What is to be sent.
    pub step: Step,
    /// What was observed before.
    pub before: Before,
    /// When it was written.
    pub written_at: Timestamp,
    /// It is not sent after this time, and whoever takes over waits it out.
    pub deadline: Timestamp,
    /// The replica that wrote it.
    pub holder: String,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The BMC did it, or evidence shows that it happened.
    Succeeded,
    /// The BMC took it on as a task that has to be followed.
    Accepted,
    /// The BMC refused, or the task failed.
    Failed,
    /// Evidence shows that it did not happen.
    NotSent,
    /// Nothing can tell.
    Unknown,
}

/// A step's end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// What became of it.
    pub outcome: Outcome,
    /// When the intent was written.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What shows it: the BMC's answer, a task's address, the observed change.
    pub evidence: String,
}

/// A ServerRun, as far as rules look at it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// Name of the object.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// What made it due, such as a claim's UID: a run serves one occasion and no later one.
    pub occasion: String,
    /// UID of the claim that had the server then; empty when none had it.
    pub claim_uid: String,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// How far it is.
    pub phase: Phase,
    /// Its steps, as they were planned.
    pub plan: Vec<Step>,
    /// A step that may have been sent and is not settled.
    pub intent: Option<Intent>,
    /// Steps that ended, in order.
    pub results: Vec<Done>,
    /// What was done to each drive, as reported.
    pub drives: Vec<Erased>,
    /// When the probe was last seen to get on with its work.
    pub progressed_at: Option<Timestamp>,
}

/// What a report says of one drive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Erased {
    /// Serial number.
    pub serial: String,
    /// What the erasure is worth.
    pub class: Worth,
    /// Reading back has shown it.
    pub verified: bool,
    /// It succeeded.
    pub done: bool,
    /// It is not this machine's to write: fabric, multipath, shared, removable.
    pub foreign: bool,
    /// For people.
    pub message: String,
}

/// What an erasure is worth, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Worth {
    /// Nothing.
    #[default]
    None,
    /// A BMC's word.
    Reported,
    /// Partition tables and both ends only.
    Metadata,
    /// NIST SP 800-88 Clear.
    Clear,
    /// NIST SP 800-88 Purge.
    Purge,
}

/// A run that ended, as far as later decisions look back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Closed {
    /// What it was for.
    pub kind: Kind,
    /// What had made it due.
    pub occasion: String,
    /// How it ended.
    pub phase: Phase,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Why it ended so, for people.
    pub message: String,
}

/// What evidence says of an intent whose deadline has passed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settlement {
    /// What became of the step.
    pub outcome: Outcome,
    /// What shows it.
    pub evidence: String,
}

// === impl Worth ===

impl Worth {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Reported => "Reported",
            Self::Metadata => "Metadata",
            Self::Clear => "Clear",
            Self::Purge => "Purge",
        }
    }
}

// === impl Run ===

impl Run {
    /// True while it may still do something.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Running)
    }

    /// The ends of `step`, oldest first.
    pub fn ends<'a>(&'a self, step: &'a Step) -> impl DoubleEndedIterator<Item = &'a Done> {
        self.results.iter().filter(move |done| &done.step == step)
    }

    /// How often `step` was tried.
    pub fn tries(&self, step: &Step) -> usize {
        self.ends(step).count()
    }

    /// The last end of `step`.
    pub fn last(&self, step: &Step) -> Option<&Done> {
        self.results.iter().rfind(|done| &done.step == step)
    }

    /// The step whose outcome is unknown and that done twice would not be the same as once.
    pub fn lost(&self) -> Option<&Done> {
        self.results
            .iter()
            .find(|done| done.outcome == Outcome::Unknown && !done.step.is_repeatable())
    }

    /// True when there is such a step.
    pub fn is_lost(&self) -> bool {
        self.lost().is_some()
    }

    /// True when every planned step is done.
    pub fn is_complete(&self) -> bool {
        self.plan.iter().all(|step| {
            self.last(step)
                .is_some_and(|done| done.outcome == Outcome::Succeeded)
        })
    }

    /// How often `step` was tried and did not get there.
    pub fn failures(&self, step: &Step) -> usize {
        self.ends(step)
            .filter(|done| !matches!(done.outcome, Outcome::Succeeded | Outcome::Accepted))
            .count()
    }

    /// How often the BMC refused `step`.
    pub fn refusals(&self, step: &Step) -> usize {
        self.ends(step)
            .filter(|done| done.outcome == Outcome::Failed)
            .count()
    }

    /// True when nothing was ever intended.
    pub fn is_untouched(&self) -> bool {
        self.intent.is_none() && self.results.is_empty()
    }
}

// === impl Step ===

impl Step {
    /// True when sending it a second time leaves the machine as the first time did.
    pub fn is_repeatable(&self) -> bool {
        !matches!(
            self,
            Self::GracefulRestart | Self::ForceRestart | Self::PowerCycle
        )
    }

    /// True for steps that change power.
    pub fn is_power(&self) -> bool {
        matches!(
            self,
            Self::RequestShutdown
                | Self::ForceOff
                | Self::PowerOn
                | Self::GracefulRestart
                | Self::ForceRestart
                | Self::PowerCycle
        )
    }

    /// True for what the probe does: it is granted to it, and never sent to a BMC.
    pub fn is_probe(&self) -> bool {
        matches!(
            self,
            Self::ProbeInventory | Self::ProbeBurnIn(_) | Self::ProbeErase | Self::ProbeWrite
        )
    }

    /// True for steps that take something away that does not come back: power under a running system, or data.
    pub fn is_destructive(&self) -> bool {
        matches!(
            self,
            Self::ForceOff
                | Self::ForceRestart
                | Self::PowerCycle
                | Self::EraseDrive(_)
                | Self::ProbeErase
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestShutdown => f.write_str("RequestShutdown"),
            Self::ForceOff => f.write_str("ForceOff"),
            Self::PowerOn => f.write_str("PowerOn"),
            Self::GracefulRestart => f.write_str("GracefulRestart"),
            Self::ForceRestart => f.write_str("ForceRestart"),
            Self::PowerCycle => f.write_str("PowerCycle"),
            Self::BootNetworkOnce => f.write_str("BootNetworkOnce"),
            Self::ClearBootOverride => f.write_str("ClearBootOverride"),
            Self::BootHttpOnce => f.write_str("BootHttpOnce"),
            Self::BootUefiHttpOnce => f.write_str("BootUefiHttpOnce"),
            Self::InsertMedia => f.write_str("InsertMedia"),
            Self::BootMediaOnce => f.write_str("BootMediaOnce"),
            Self::ProbeInventory => f.write_str("ProbeInventory"),
            Self::ProbeBurnIn(seconds) => write!(f, "ProbeBurnIn/{seconds}"),
            Self::ProbeErase => f.write_str("ProbeErase"),
            Self::ProbeWrite => f.write_str("ProbeWrite"),
            Self::ServeImage => f.write_str("ServeImage"),
            Self::EjectMedia => f.write_str("EjectMedia"),
            // The slot is a path, which begins with a slash.
            Self::EjectMedium(slot) => write!(f, "EjectMedia{slot}"),
            Self::EraseDrive(serial) => write!(f, "EraseDrive/{serial}"),
            Self::SetIndicatorLed(led) => write!(f, "SetIndicatorLED/{led}"),
            Self::SetBootOrder => f.write_str("SetBootOrder"),
        }
    }
}

/// A step's name that this version does not know. It is never sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown step {0:?}")]
pub struct UnknownStep(pub String);

impl FromStr for Step {
    type Err = UnknownStep;

    fn from_str(text: &str) -> Result<Self, UnknownStep> {
        let (name, argument) = match text.split_once('/') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        match (name, argument) {
            ("RequestShutdown", None) => Ok(Self::RequestShutdown),
            ("ForceOff", None) => Ok(Self::ForceOff),
            ("PowerOn", None) => Ok(Self::PowerOn),
            ("GracefulRestart", None) => Ok(Self::GracefulRestart),
            ("ForceRestart", None) => Ok(Self::ForceRestart),
            ("PowerCycle", None) => Ok(Self::PowerCycle),
            ("BootNetworkOnce", None) => Ok(Self::BootNetworkOnce),
            ("ClearBootOverride", None) => Ok(Self::ClearBootOverride),
            ("BootHttpOnce", None) => Ok(Self::BootHttpOnce),
            ("BootUefiHttpOnce", None) => Ok(Self::BootUefiHttpOnce),
            ("InsertMedia", None) => Ok(Self::InsertMedia),
            ("BootMediaOnce", None) => Ok(Self::BootMediaOnce),
            ("ProbeInventory", None) => Ok(Self::ProbeInventory),
            ("ProbeBurnIn", Some(seconds)) => match seconds.parse() {
                Ok(seconds) => Ok(Self::ProbeBurnIn(seconds)),
                Err(_) => Err(UnknownStep(text.to_owned())),
            },
            ("ProbeErase", None) => Ok(Self::ProbeErase),
            ("ProbeWrite", None) => Ok(Self::ProbeWrite),
            ("ServeImage", None) => Ok(Self::ServeImage),
            ("EjectMedia", None) => Ok(Self::EjectMedia),
            ("EjectMedia", Some(slot)) => Ok(Self::EjectMedium(format!("/{slot}"))),
            ("SetBootOrder", None) => Ok(Self::SetBootOrder),
            ("EraseDrive", Some(serial)) => Ok(Self::EraseDrive(serial.to_owned())),
            ("SetIndicatorLED", Some(led)) => Ok(Self::SetIndicatorLed(led.to_owned())),
            _ => Err(UnknownStep(text.to_owned())),
        }
    }
}

/// Judges an intent by what the machine shows after its deadline. `machine` was read after that.
pub fn settle(intent: &Intent, machine: &Machine) -> Settlement {
    let (happened, what) = match &intent.step {
        Step::RequestShutdown | Step::ForceOff => (
            Some(machine.power == PowerState::Off),
            format!("power is {}", machine.power),
        ),
        Step::PowerOn => (
            Some(machine.power != PowerState::Off),
            format!("power is {}", machine.power),
        ),
        Step::GracefulRestart | Step::ForceRestart | Step::PowerCycle => {
            reset_since(intent, machine)
        }
        Step::ClearBootOverride => (
            machine.boot_override.map(|set| !set),
            "boot override read again".into(),
        ),
        Step::BootNetworkOnce
        | Step::BootHttpOnce
        | Step::BootUefiHttpOnce
        | Step::BootMediaOnce => (
            // Off, nothing can have used it up; otherwise a missing override tells nothing.
            machine
                .boot_override
                .filter(|set| *set || machine.power == PowerState::Off),
            "boot override read again".into(),
        ),
        Step::SetIndicatorLed(led) => (
            machine.led.as_ref().map(|seen| seen == led),
            "locator light read again".into(),
        ),
        Step::EjectMedium(slot) => (
            match &machine.media {
                Media::Inserted(slots) => Some(!slots.contains(slot)),
                Media::Unread | Media::Unreadable(_) => None,
            },
            "virtual media read again".into(),
        ),
        Step::EjectMedia
        | Step::InsertMedia
        | Step::EraseDrive(_)
        | Step::SetBootOrder
        | Step::ProbeInventory
        | Step::ProbeBurnIn(_)
        | Step::ProbeErase
        | Step::ProbeWrite
        | Step::ServeImage => (None, "nothing the machine shows can tell".into()),
    };
    let outcome = match happened {
        Some(true) => Outcome::Succeeded,
        // Power takes its time to change, and longer to be shown: that nothing is seen yet does not show that nothing was sent.
        Some(false) if intent.step.is_power() => Outcome::Unknown,
        Some(false) => Outcome::NotSent,
        None => Outcome::Unknown,
    };
    Settlement {
        outcome,
        evidence: what,
    }
}

/// `LastResetTime` (ComputerSystem v1.12) is the only thing that a finished restart leaves behind. Moved, it shows that there was one;
/// unmoved, it shows nothing.
fn reset_since(intent: &Intent, machine: &Machine) -> (Option<bool>, String) {
    match (&intent.before.last_reset, &machine.last_reset) {
        (Some(before), Some(now)) if before != now => {
            (Some(true), format!("LastResetTime was {before}, is {now}"))
        }
        (Some(before), Some(_)) => (
            None,
            format!(
                "LastResetTime is {before} as before, and many BMCs show it late or never, so it does not show that there was no restart"
            ),
        ),
        _ => (None, "the BMC gives no LastResetTime".into()),
    }
}
