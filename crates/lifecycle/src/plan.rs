//! The steps of a run, before anything is touched: what will be done, why, and whom it costs what.

use jiff::SignedDuration;

use crate::{
    inband::{self, BootMethod, Choice},
    names,
    run::{Kind, Step},
    server::Abilities,
};

/// A step and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Planned {
    /// The step.
    pub step: Step,
    /// Why, and under which condition it is skipped.
    pub reason: String,
}

/// A run that is about to be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// What it is for.
    pub kind: Kind,
    /// What makes it due.
    pub occasion: String,
    /// The claim concerned; empty when there is none.
    pub claim_uid: String,
    /// Who wants it.
    pub actor: String,
    /// Its steps in order. A step whose end is reached already is skipped.
    pub steps: Vec<Planned>,
}

/// What a plan costs, for those who have to agree to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The machine stops or restarts so often.
    pub interruptions: usize,
    /// Data goes.
    pub erases: bool,
    /// The longest time the machine is expected to be away, where it comes back by itself.
    pub downtime: SignedDuration,
}

const CORTEN: &str = "corten";

// === impl Plan ===

impl Plan {
    fn of(kind: Kind, occasion: &str, actor: &str) -> Self {
        Self {
            kind,
            occasion: occasion.to_owned(),
            claim_uid: String::new(),
            actor: actor.to_owned(),
            steps: Vec::new(),
        }
    }

    fn step(mut self, step: Step, reason: impl Into<String>) -> Self {
        self.steps.push(Planned {
            step,
            reason: reason.into(),
        });
        self
    }

    fn steps(mut self, steps: Vec<Planned>) -> Self {
        self.steps.extend(steps);
        self
    }

    /// The first boot for a claim by our boot services. An image for a disk is written by the probe, and the machine then starts from it.
    pub(crate) fn provisioning_by(
        claim_uid: &str,
        choice: &Choice,
        can: &Abilities,
        installs: bool,
    ) -> Self {
        let plan = Self {
            claim_uid: claim_uid.to_owned(),
            ..Self::of(Kind::Provisioning, claim_uid, CORTEN)
        };
        if installs {
            return plan
                .steps(inband::planned(
                    choice,
                    can,
                    Step::ProbeWrite,
                    "the claim's image is written to its disk",
                ))
                .steps(inband::taken_down(choice));
        }
        let plan = choice
            .method
            .steps(can)
            .into_iter()
            .fold(plan, |plan, step| plan.step(step, choice.why.clone()))
            .step(Step::PowerOn, "the claim wants it on");
        // A BMC fetches a medium when it is put in, so that nothing shows whether the machine has booted it.
        if choice.method == BootMethod::VirtualMedia {
            plan
        } else {
            plan.step(
                Step::ServeImage,
                "the machine asks the boot services for its image",
            )
        }
    }

    /// The probe looks at the machine from inside.
    pub(crate) fn probing(choice: &Choice, can: &Abilities) -> Self {
        Self::of(Kind::Discovery, inband::PROBING, CORTEN)
            .steps(inband::planned(
                choice,
                can,
                Step::ProbeInventory,
                "the policy wants the machine seen from inside",
            ))
            .steps(inband::taken_down(choice))
    }

    /// The probe tests the machine before anybody gets it.
    pub(crate) fn burning_in(seconds: u32, choice: &Choice, can: &Abilities) -> Self {
        Self::of(Kind::Discovery, inband::BURN_IN, CORTEN)
            .steps(inband::planned(
                choice,
                can,
                Step::ProbeBurnIn(seconds),
                "the policy wants a new machine tested",
            ))
            .steps(inband::taken_down(choice))
    }

    /// The probe erases the drives.
    pub(crate) fn cleaning_by_probe(occasion: &str, choice: &Choice, can: &Abilities) -> Self {
        Self::of(Kind::Cleaning, occasion, CORTEN)
            .steps(inband::planned(
                choice,
                can,
                Step::ProbeErase,
                "its disks hold data of a former claim",
            ))
            .steps(inband::taken_down(choice))
    }

    /// The first boot for a claim: from the network, once. A machine without a boot override starts as its boot order says, and its empty
    /// disks leave it the network.
    pub(crate) fn provisioning(claim_uid: &str, overridable: bool) -> Self {
        let plan = Self {
            claim_uid: claim_uid.to_owned(),
            ..Self::of(Kind::Provisioning, claim_uid, CORTEN)
        };
        let plan = if overridable {
            plan.step(
                Step::BootNetworkOnce,
                "the claim's image is booted from the network, once",
            )
        } else {
            plan
        };
        plan.step(Step::PowerOn, "the claim wants it on")
    }

    /// Power comes on; `boot` has the calls by which an image without a disk is booted, else any override and an installer's medium go first.
    pub(crate) fn power_on(
        occasion: &str,
        overridden: Option<bool>,
        installer_in: bool,
        boot: Vec<Step>,
        reason: &str,
    ) -> Self {
        let plan = Self::of(Kind::Power, occasion, CORTEN);
        let plan = if installer_in {
            plan.step(
                Step::EjectMedia,
                "it starts from where it is installed, and its installer would install again",
            )
        } else {
            plan
        };
        let plan = if !boot.is_empty() {
            boot.into_iter().fold(plan, |plan, step| {
                plan.step(step, "its image needs the network at each start")
            })
        } else if overridden == Some(true) {
            plan.step(
                Step::ClearBootOverride,
                "it starts from where it is installed",
            )
        } else {
            plan
        };
        plan.step(Step::PowerOn, reason)
    }

    /// Power goes off: asked first, cut after the grace.
    pub(crate) fn power_off(occasion: &str, reason: &str) -> Self {
        Self::of(Kind::Power, occasion, CORTEN)
            .step(Step::RequestShutdown, reason)
            .step(Step::ForceOff, "if it does not shut down within the grace")
    }

    /// A server comes back from its claim.
    pub(crate) fn release(claim_uid: &str) -> Self {
        Self {
            claim_uid: claim_uid.to_owned(),
            ..Self::of(Kind::Release, claim_uid, CORTEN)
        }
        .step(Step::RequestShutdown, "its claim was deleted")
        .step(Step::ForceOff, "if it does not shut down within the grace")
        .step(Step::EjectMedia, "no medium of the claim stays behind")
        .step(
            Step::ClearBootOverride,
            "no boot target of the claim stays behind",
        )
    }

    /// Drives are erased.
    pub(crate) fn cleaning(occasion: &str, serials: &[String], reason: &str) -> Self {
        serials.iter().fold(
            Self::of(Kind::Cleaning, occasion, CORTEN),
            |plan, serial| plan.step(Step::EraseDrive(serial.clone()), reason),
        )
    }

    /// Somebody vouches for clean disks: no step, only the record.
    pub(crate) fn waiver(occasion: &str, actor: &str, _why: &str) -> Self {
        Self::of(Kind::Cleaning, occasion, actor)
    }

    /// What a person asked for.
    pub(crate) fn operation(name: &str, steps: &[Step], actor: &str) -> Self {
        steps
            .iter()
            .fold(Self::of(Kind::Operation, name, actor), |plan, step| {
                plan.step(step.clone(), format!("{}={name}", names::OPERATION))
            })
    }

    /// A small wish of the spec.
    pub(crate) fn setting(step: Step, occasion: String) -> Self {
        Self::of(Kind::Settings, &occasion, CORTEN).step(step, "the spec wants it")
    }

    /// What a forced deletion leaves.
    pub(crate) fn tombstone(claim_uid: &str) -> Self {
        Self {
            claim_uid: claim_uid.to_owned(),
            ..Self::of(Kind::Tombstone, "force-delete", "corten.dev/force-delete")
        }
    }

    /// True when the plan can take away power under a running system that its present owner did not ask for, or data.
    pub fn is_destructive(&self) -> bool {
        matches!(self.kind, Kind::Release)
            // A policy that hands over too much would shut down a fleet.
            || (self.kind == Kind::Power && self.occasion == crate::server::HANDED_OVER)
            || self
                .steps
                .iter()
                .any(|p| matches!(p.step, Step::EraseDrive(_) | Step::ProbeErase))
            || (self.kind == Kind::Operation && self.steps.iter().any(|p| p.step.is_destructive()))
    }

    /// What it costs.
    pub fn cost(&self) -> Cost {
        let steps = || self.steps.iter().map(|p| &p.step);
        let stops = steps().any(|s| matches!(s, Step::RequestShutdown | Step::ForceOff));
        let restarts = steps()
            .filter(|s| {
                matches!(
                    s,
                    Step::GracefulRestart | Step::ForceRestart | Step::PowerCycle
                )
            })
            .count();
        Cost {
            interruptions: usize::from(stops) + restarts,
            erases: steps().any(|s| matches!(s, Step::EraseDrive(_) | Step::ProbeErase)),
            downtime: SignedDuration::from_mins(10 * i64::try_from(restarts).unwrap_or(1)),
        }
    }
}

impl Kind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "Discovery",
            Self::Provisioning => "Provisioning",
            Self::Cleaning => "Cleaning",
            Self::Operation => "Operation",
            Self::Power => "Power",
            Self::Release => "Release",
            Self::Tombstone => "Tombstone",
            Self::Settings => "Settings",
        }
    }
}
