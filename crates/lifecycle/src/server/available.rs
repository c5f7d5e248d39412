//! Nobody's server: known, clean, and free to be claimed while it is off.
//!
//! Promise held here: one found running is reported and not switched off.

use corten_api::metal::{Power, PowerState, ServerState};

use crate::{
    names,
    plan::Plan,
    run::{Kind, Phase},
};

use super::{
    Act, Decision, Observed, Reach, condition, discovery, leftover,
    pursuit::{self, Progress},
    settings, unreachable_now,
};

const WANTED_ON: &str = "spec.power/On";
const WANTED_OFF: &str = "spec.power/Off";

pub(super) fn decide(o: &Observed) -> Decision {
    let base = Decision::rest(ServerState::Available).finding(
        condition::DISCOVERED,
        Some(true),
        "InventoryRead",
        "each section was read, or the BMC does not have it",
    );
    let machine = match &o.reach {
        Reach::Reached(machine) => machine,
        Reach::Unknown => return base.with(Act::ReadMachine),
        Reach::Lost { .. } => return unreachable_now(o, base),
    };
    // What was read before the last call to it is no news of its power.
    let last = o.closed.first().map(|run| run.finished_at);
    if last.is_some_and(|last| machine.read_at < last && last <= o.now) {
        return base.with(Act::ReadMachine);
    }
    let off = machine.power == PowerState::Off;
    match &o.record.power {
        Some(Power::On) => return to(o, base, WANTED_ON, !off),
        // Somebody asked for it by name; an operating system that does not listen is left running.
        Some(Power::Off) if !off => return to(o, base, WANTED_OFF, false),
        _ => {}
    }
    if off {
        let base = base.ready("Available", "free to be claimed");
        return leftover(
            o,
            &[(
                Kind::Settings,
                settings::occasion(o).as_deref().unwrap_or_default(),
            )],
        )
        .unwrap_or_else(|| settings::decide(o, base));
    }
    if o.policy.handover || o.record.notes.handover == super::Handover::Accepted {
        return discovery::take_over(o, base);
    }
    let message = format!(
        "it runs, and nobody here asked for that: it is left alone, and no claim gets it while it runs. Switch it off, or set the annotation {}=accepted to have it shut down",
        names::HANDOVER
    );
    leftover(o, &[]).unwrap_or_else(|| {
        base.finding(
            condition::RUNNING_UNEXPECTEDLY,
            Some(true),
            "FoundRunning",
            message.clone(),
        )
        .not_ready("RunningUnexpectedly", message)
    })
}

/// Power as `spec.power` says, while nobody has claimed the server.
fn to(o: &Observed, base: Decision, occasion: &'static str, there: bool) -> Decision {
    if let Some(finish) = leftover(o, &[(Kind::Power, occasion)]) {
        return finish;
    }
    let on = occasion == WANTED_ON;
    let base = base.not_ready(
        "PowerWanted",
        "power is as spec.power wants it, or on the way; no claim gets it while it runs",
    );
    let Some(run) = &o.run else {
        if there {
            return settings::decide(o, base);
        }
        let plan = if on {
            Plan::power_on(occasion, None, false, Vec::new(), "spec.power is On")
        } else {
            Plan::power_off(occasion, "spec.power is Off")
        };
        return pursuit::start(o, base, plan);
    };
    let progress = if on {
        pursuit::on(o, run, base.clone())
    } else {
        pursuit::off(o, run, base.clone(), false)
    };
    match progress {
        Progress::Doing(decision) => decision,
        Progress::Done => base.with(Act::FinishRun {
            phase: Phase::Succeeded,
            message: "power is as wanted".into(),
        }),
        Progress::Exhausted(message) => base.with(Act::FinishRun {
            phase: Phase::Failed,
            message,
        }),
    }
}
