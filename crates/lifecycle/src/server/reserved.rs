//! Somebody's server: power as the claim wants it, the claim's image booted once from the network, and nothing else.
//!
//! Promise held here: nothing that its owner did not ask for cuts its power, boots it elsewhere or writes its disks.

use corten_api::metal::{Power, PowerState, ServerState};

use crate::{
    inband::{self, BootMethod},
    names,
    plan::Plan,
    run::{Kind, Outcome, Phase, Run, Step},
};

use super::{
    Act, Amendment, Boot, Claim, Decision, Handover, Observed, Reach, after, condition, discovery,
    is_moving, leftover,
    pursuit::{self, Progress, Tidy},
    settings, unreachable_now,
};

pub(super) fn decide(o: &Observed) -> Decision {
    let base = Decision::rest(ServerState::Reserved);
    let Some(claim) = &o.claim else {
        // Hold has spoken before; this only keeps the rule total.
        return base;
    };
    let on = format!("{}/On", claim.uid);
    let off = format!("{}/Off", claim.uid);
    let settings = settings::occasion(o).unwrap_or_default();
    let provisioned = o.record.notes.provisioned.as_ref() == Some(&claim.uid);
    let wants_on = matches!(claim.power, Power::On);
    let wants_off = matches!(claim.power, Power::Off);
    // A machine that was handed over is on its way off until it is off.
    let handover = if o.is_off() {
        ""
    } else {
        discovery::HANDED_OVER
    };
    let wanted: &[(Kind, &str)] = match (claim.deleting, wants_on, provisioned) {
        // Its release is about to be recorded: nothing new is begun for it.
        (true, ..) => &[],
        (false, true, true) => &[(Kind::Power, &on), (Kind::Settings, &settings)],
        (false, true, false) => &[(Kind::Provisioning, &claim.uid), (Kind::Power, handover)],
        (false, false, _) if wants_off => &[(Kind::Power, &off), (Kind::Settings, &settings)],
        _ => &[],
    };
    if let Some(finish) = leftover(o, wanted) {
        return finish;
    }
    if claim.deleting {
        return base.not_ready(
            "ClaimEnding",
            "the claim is being deleted; its release is awaited",
        );
    }
    let machine = match &o.reach {
        Reach::Reached(machine) => machine,
        Reach::Unknown => return base.with(Act::ReadMachine),
        Reach::Lost { .. } => return unreachable_now(o, base),
    };
    let is_off = machine.power == PowerState::Off;
    if wants_on {
        if provisioned {
            keep_on(o, claim, base, &on)
        } else {
            provision(o, claim, base, is_off)
        }
    } else if wants_off {
        keep_off(o, base, &off)
    } else {
        base.not_ready(
            "PowerNotUnderstood",
            format!(
                "the claim asks for power {}, which this version does not know",
                claim.power
            ),
        )
    }
}

/// The claim's image is booted for the first time.
fn provision(o: &Observed, claim: &Claim, base: Decision, is_off: bool) -> Decision {
    let base = |reason: &'static str, message: &str| {
        base.clone()
            .finding(condition::PROVISIONED, Some(false), reason, message)
            .not_ready(reason, message)
    };
    let Some(run) = o.run.as_ref().filter(|run| run.kind == Kind::Provisioning) else {
        if !is_off {
            return unexpected(
                o,
                base(
                    "RunningUnexpectedly",
                    "it runs, and its image was not booted yet",
                ),
            );
        }
        return match &o.boot {
            Boot::Missing | Boot::Pending => base(
                "BootConfigurationPending",
                "its ServerBootConfiguration is not Ready yet",
            ),
            Boot::Error(why) => base(
                "BootConfigurationError",
                &format!("its ServerBootConfiguration is in Error: {why}"),
            ),
            Boot::Ready => begin(o, claim, base),
        };
    };
    let booting = base("Provisioning", "its image is being booted");
    if inband::work(run).is_some() {
        return install(o, claim, run, booting);
    }
    if let Err(decision) = boot_target(o, run, is_off, &booting) {
        return *decision;
    }
    match pursuit::on(o, run, booting.clone()) {
        Progress::Doing(decision) => decision,
        Progress::Done => match unserved(o, run) {
            None => booting.with(Act::Amend(Amendment::provisioned(&claim.uid))),
            Some(until) if o.now < until => booting.until(until),
            // It is left running: what it started may be anything, and its owner may see to it.
            Some(_) => not_provisioned(booting, unfetched(o, run)),
        },
        Progress::Exhausted(message) => not_provisioned(booting, message),
    }
}

/// What a provisioning without evidence ends with: of a virtual medium, or of somebody else's boot services.
const UNSEEN: &str = "it was started to boot its image, and nothing outside shows what it booted";

/// What shows that a provisioning got where it was meant to.
pub(crate) fn shown(run: &crate::run::Run) -> &'static str {
    let has = |step: &Step| {
        run.last(step)
            .is_some_and(|done| done.outcome == Outcome::Succeeded)
    };
    if has(&Step::ProbeWrite) {
        "its image was written to its disk and read back, and the probe was told to start it from there"
    } else if has(&Step::ServeImage) {
        "its image was fetched from the boot services after it was started"
    } else {
        UNSEEN
    }
}

/// Until when it is waited for the machine to fetch its image from our boot services; none when it has, or boots from elsewhere.
fn unserved(o: &Observed, run: &Run) -> Option<jiff::Timestamp> {
    let is_awaited = run.plan.contains(&Step::ServeImage)
        && run
            .last(&Step::ServeImage)
            .is_none_or(|done| done.outcome != Outcome::Succeeded);
    let since = run
        .last(&Step::PowerOn)
        .map_or(o.now, |done| done.finished_at);
    (is_awaited && !inband::was_sent(o, run)).then(|| after(since, o.policy.probe_timeout))
}

fn unfetched(o: &Observed, run: &Run) -> String {
    match inband::unserved(o, run) {
        Some(why) => format!("it came for its image and could not be sent it: {why}"),
        None => format!(
            "it was switched on to boot its image, and nothing of it was fetched within {} minutes: it started something else, or does not reach the boot services. See its console",
            o.policy.probe_timeout.as_mins()
        ),
    }
}

/// How the image is booted is decided when it is, from what the machine shows then.
fn begin(o: &Observed, claim: &Claim, base: impl Fn(&'static str, &str) -> Decision) -> Decision {
    let about = base("Provisioning", "its image is about to be booted");
    let can = machine_can(o);
    let plan = match inband::choice(o) {
        None => Plan::provisioning(&claim.uid, can.boot_override),
        Some(Err(why)) => return base("BootMethodUnavailable", &why),
        Some(Ok(choice)) => Plan::provisioning_by(&claim.uid, &choice, &can, claim.written),
    };
    pursuit::start(o, about, plan)
}

/// What stands before PowerOn in the plan, done one by one while the machine is off; an Err is what to do meanwhile.
fn boot_target(
    o: &Observed,
    run: &Run,
    is_off: bool,
    booting: &Decision,
) -> Result<(), Box<Decision>> {
    for step in run.plan.iter().take_while(|step| **step != Step::PowerOn) {
        let last = run.last(step);
        if last.is_some_and(|done| done.outcome == Outcome::Succeeded) {
            continue;
        }
        if !is_off {
            return Err(Box::new(not_provisioned(
                booting.clone(),
                "somebody switched it on before its boot target was set".into(),
            )));
        }
        return Err(Box::new(
            pursuit::once(o, run, booting.clone(), step.clone()).unwrap_or_else(|| {
                let why = last.map_or_else(String::new, |done| done.evidence.clone());
                not_provisioned(
                    booting.clone(),
                    format!("the network boot could not be set ({step}): {why}"),
                )
            }),
        ));
    }
    Ok(())
}

/// The claim's image is written to its disk by the probe; then the machine starts from that disk.
fn install(o: &Observed, claim: &Claim, run: &Run, booting: Decision) -> Decision {
    match inband::pursue(o, run, booting.clone()) {
        Progress::Doing(decision) => decision,
        Progress::Done => {
            // A medium that stays does not keep the owner from what is installed: the boot override was for one start.
            if run.plan.contains(&Step::EjectMedia)
                && let Tidy::Doing(doing) = pursuit::eject(o, run, booting.clone())
            {
                return doing;
            }
            booting.with(Act::Amend(Amendment::provisioned(&claim.uid)))
        }
        Progress::Exhausted(message) => match inband::take_down(o, run, booting.clone()) {
            Progress::Doing(decision) => decision,
            Progress::Done => not_provisioned(booting, message),
            Progress::Exhausted(more) => not_provisioned(booting, format!("{message}; {more}")),
        },
    }
}

/// The claim's image was not booted, which its owner waits for: said as an Event, since the condition only says when it is tried again.
fn not_provisioned(booting: Decision, message: String) -> Decision {
    booting
        .remark(true, "ProvisioningFailed", message.clone())
        .with(Act::FinishRun {
            phase: Phase::Failed,
            message,
        })
}

fn machine_can(o: &Observed) -> super::Abilities {
    o.machine().map(|machine| machine.can).unwrap_or_default()
}

/// It runs with whatever is on its disks, before its image was ever booted.
fn unexpected(o: &Observed, base: Decision) -> Decision {
    if o.record.notes.handover == Handover::Accepted {
        return discovery::take_over(o, base);
    }
    base.finding(
        condition::RUNNING_UNEXPECTEDLY,
        Some(true),
        "FoundRunning",
        format!(
            "it was switched on by somebody else before its image was booted, and is left alone. Switch it off, or set the annotation {}=accepted to have it shut down and provisioned",
            names::HANDOVER
        ),
    )
}

/// It was provisioned and has to run: after a loss of power it starts from the disk, or from the network where the image has no disk.
fn keep_on(o: &Observed, claim: &Claim, base: Decision, occasion: &str) -> Decision {
    let last = o.closed_for(Kind::Provisioning, &claim.uid).next();
    let message = match last {
        Some(run) if run.message == UNSEEN => {
            "it was started to boot the claim's image; nothing outside shows that it has: the image itself may say so (BootStateReceived of the ServerBootConfiguration)"
        }
        _ => "the claim's image was booted",
    };
    let base = base.finding(condition::PROVISIONED, Some(true), "Booted", message);
    let Some(machine) = o.machine() else {
        return base;
    };
    if !matches!(machine.power, PowerState::Off) {
        if is_moving(&machine.power) {
            return pursuit::watch(
                o,
                machine,
                base.not_ready("PowerChanging", "its power is changing"),
                machine.read_at,
            );
        }
        return settled(o, base, "On");
    }
    let base = base.not_ready("PowerLost", "it is off, and its claim wants it on");
    let Some(run) = &o.run else {
        if claim.diskless && o.boot != Boot::Ready {
            return base.not_ready("BootConfigurationPending", "its image needs the network at each start, and its ServerBootConfiguration is not Ready");
        }
        let boot = match (claim.diskless, inband::choice(o)) {
            (false, _) => Vec::new(),
            (true, Some(Ok(choice))) => choice.method.steps(&machine.can),
            (true, Some(Err(why))) => return base.not_ready("BootMethodUnavailable", why),
            (true, None) => BootMethod::Network.steps(&machine.can),
        };
        return pursuit::start(
            o,
            base,
            Plan::power_on(
                occasion,
                machine.boot_override,
                may_hold_installer(o, claim),
                boot,
                "its claim wants it on",
            ),
        );
    };
    for aim in run.plan.iter().take_while(|step| **step != Step::PowerOn) {
        if *aim == Step::EjectMedia {
            match pursuit::eject(o, run, base.clone()) {
                Tidy::Doing(doing) => return doing,
                Tidy::Empty => continue,
                Tidy::Stays(why) => {
                    return unstarted(base, format!("its installer may be started again: {why}"));
                }
            }
        }
        if let Some(doing) = pursuit::once(o, run, base.clone(), aim.clone()) {
            return doing;
        }
        // On it goes only as its image wants it: an override that stays would boot an installed server from elsewhere.
        let last = run.last(aim);
        if last.is_some_and(|done| done.outcome == Outcome::Succeeded) {
            continue;
        }
        let what = if claim.diskless {
            "the network boot could not be set"
        } else {
            "the boot override could not be cleared, and would boot it from elsewhere than its disk"
        };
        let why = last.map_or_else(String::new, |done| format!(": {}", done.evidence));
        return unstarted(base, format!("{what}{why}"));
    }
    finish(base.clone(), pursuit::on(o, run, base))
}

/// It stays off: on it would start something else than its owner's system.
fn unstarted(base: Decision, message: String) -> Decision {
    base.remark(true, "PowerOnFailed", message.clone())
        .with(Act::FinishRun {
            phase: Phase::Failed,
            message,
        })
}

/// An image that was booted once and lives on a disk now came as a medium, which nobody has taken out.
fn may_hold_installer(o: &Observed, claim: &Claim) -> bool {
    let by_medium = || {
        inband::choice(o)
            .and_then(Result::ok)
            .is_some_and(|choice| choice.method == BootMethod::VirtualMedia)
    };
    !claim.diskless && !claim.written && by_medium()
}

/// Its owner wants it off: asked to shut down, then cut off.
fn keep_off(o: &Observed, base: Decision, occasion: &str) -> Decision {
    if o.is_off() && o.run.as_ref().is_none_or(|run| run.kind != Kind::Power) {
        return settled(o, base, "Off");
    }
    let base = base.not_ready("PowerChanging", "its claim wants it off");
    let Some(run) = o.run.as_ref().filter(|run: &&Run| run.kind == Kind::Power) else {
        return pursuit::start(o, base, Plan::power_off(occasion, "its claim wants it off"));
    };
    finish(base.clone(), pursuit::off(o, run, base, true))
}

fn finish(base: Decision, progress: Progress) -> Decision {
    match progress {
        Progress::Doing(decision) => decision,
        Progress::Done => base.with(Act::FinishRun {
            phase: Phase::Succeeded,
            message: "power is as the claim wants it".into(),
        }),
        Progress::Exhausted(message) => base.with(Act::FinishRun {
            phase: Phase::Failed,
            message,
        }),
    }
}

fn settled(o: &Observed, base: Decision, power: &str) -> Decision {
    if o.run.as_ref().is_some_and(|run| run.kind == Kind::Power) {
        return base.with(Act::FinishRun {
            phase: Phase::Succeeded,
            message: format!("power is {power}, as the claim wants it"),
        });
    }
    let claim = o
        .record
        .claim
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    settings::decide(
        o,
        base.ready(
            "Reserved",
            format!("the claim {claim} has it, power {power} as claimed"),
        ),
    )
}
