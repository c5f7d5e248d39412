//! Discovery from inside: the probe is booted on a machine that is off and nobody's, reports, and the machine goes off again.

use corten_api::metal::PowerState;
use jiff::Timestamp;

use crate::{
    inband::{self, PROBING},
    plan::Plan,
    policy::Discovery,
    run::{Kind, Phase},
    server::{
        Act, Decision, Handover, Observed,
        pursuit::{self, Progress},
    },
};

use super::undiscovered;

/// What is awaited from the probe, if policy wants one: none when it has reported in this discovery, or is not wanted. `since` is when the
/// discovery began.
pub(super) fn decide(o: &Observed, base: Decision, since: Timestamp) -> Option<Decision> {
    let required = match o.policy.discovery {
        Discovery::OutOfBand => return None,
        Discovery::InBand => true,
        // Where nothing can be booted, what the BMC says is all there is to know.
        Discovery::Both => o.services.is_some(),
    };
    if !required || reported(o, since) {
        return None;
    }
    let Some(choice) = inband::choice(o) else {
        return Some(undiscovered(
            base,
            "ProbeAwaited",
            format!(
                "the policy {} wants discovery by the probe, which this installation does not boot: set up boot services (corten serve --boot-address), or use discovery OutOfBand or Both",
                o.policy.name
            ),
        ));
    };
    // Somebody else's machine, until it is handed over: it is inventoried out of band and left alone.
    let runs = o
        .machine()
        .is_none_or(|machine| machine.power != PowerState::Off);
    if runs || o.record.notes.handover != Handover::Unset {
        return None;
    }
    let waiting = undiscovered(
        base.clone(),
        "ProbeAwaited",
        "the probe is started to see the machine from inside".into(),
    );
    Some(match choice {
        Err(why) => undiscovered(base, "BootMethodUnavailable", why),
        Ok(choice) => {
            let can = o.machine().map(|machine| machine.can).unwrap_or_default();
            pursuit::start(o, waiting, Plan::probing(&choice, &can))
        }
    })
}

/// Carries an open probing through to its end, whatever the attempt's time: the machine does not stay on.
pub(super) fn pursue(o: &Observed, base: &Decision) -> Option<Decision> {
    let run = o
        .run
        .as_ref()
        .filter(|run| run.kind == Kind::Discovery && run.occasion == PROBING)?;
    let waiting = undiscovered(
        base.clone(),
        "ProbeAwaited",
        "the probe looks at the machine from inside".into(),
    );
    Some(match inband::carry_through(o, run, &waiting) {
        Progress::Doing(decision) => decision,
        Progress::Done => waiting.with(Act::FinishRun {
            phase: Phase::Succeeded,
            message: "the probe has reported".into(),
        }),
        Progress::Exhausted(message) => failed(base, message),
    })
}

/// True when a handed-over machine, or one that policy wants probed, was seen from inside since this discovery began.
fn reported(o: &Observed, since: Timestamp) -> bool {
    o.closed_for(Kind::Discovery, PROBING)
        .next()
        .is_some_and(|run| {
            run.phase == Phase::Succeeded && (o.record.discovered || run.finished_at >= since)
        })
}

fn failed(base: &Decision, message: String) -> Decision {
    undiscovered(base.clone(), "ProbeFailed", message.clone())
        .remark(true, "ProbeFailed", message.clone())
        .with(Act::FinishRun {
            phase: Phase::Failed,
            message,
        })
}
