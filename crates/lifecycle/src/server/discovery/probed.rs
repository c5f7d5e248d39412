//! Discovery from inside: the probe is booted on a machine that is off and nobody's, reports, and the machine goes off again.

use corten_api::metal::PowerState;
use jiff::Timestamp;

use crate::{
    inband::{self, BURN_IN, PROBING},
    plan::Plan,
    policy::Discovery,
    run::{Kind, Phase},
    server::{
        Act, Decision, Handover, Observed,
        pursuit::{self, Progress},
    },
};

use super::undiscovered;

/// What is awaited from the probe, if policy wants one: none when it has reported in this discovery and tested the machine, or is not wanted. `since`
/// is when the discovery began.
pub(super) fn decide(o: &Observed, base: Decision, since: Timestamp) -> Option<Decision> {
    let required = match o.policy.discovery {
        Discovery::OutOfBand => return None,
        Discovery::InBand => true,
        // Where nothing can be booted, what the BMC says is all there is to know.
        Discovery::Both => o.services.is_some(),
    };
    let due = if !reported(o, since) {
        Due::Report
    } else if o.policy.burn_in_seconds > 0 && !o.record.discovered && !is_tested(o) {
        Due::BurnIn
    } else {
        return None;
    };
    if !required {
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
    let waiting = undiscovered(base.clone(), "ProbeAwaited", due.said(o));
    Some(match choice {
        Err(why) => undiscovered(base, "BootMethodUnavailable", why),
        Ok(choice) => {
            let can = o.machine().map(|machine| machine.can).unwrap_or_default();
            let plan = match due {
                Due::Report => Plan::probing(&choice, &can),
                Due::BurnIn => Plan::burning_in(o.policy.burn_in_seconds, &choice, &can),
            };
            pursuit::start(o, waiting, plan)
        }
    })
}

/// What a discovery still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Report,
    BurnIn,
}

impl Due {
    fn said(self, o: &Observed) -> String {
        match self {
            Self::Report => "the probe is started to see the machine from inside".into(),
            Self::BurnIn => format!(
                "the probe is started to test the machine for {} s, as the policy {} wants it",
                o.policy.burn_in_seconds, o.policy.name
            ),
        }
    }
}

/// True when the probe has tested this machine and found nothing wrong. Once is enough: what lasts a day is not done again because a discovery
/// failed of something else.
fn is_tested(o: &Observed) -> bool {
    o.closed_for(Kind::Discovery, BURN_IN)
        .any(|run| run.phase == Phase::Succeeded)
}

/// Carries an open probing through to its end, whatever the attempt's time: the machine does not stay on.
pub(super) fn pursue(o: &Observed, base: &Decision) -> Option<Decision> {
    let run = o
        .run
        .as_ref()
        .filter(|run| run.kind == Kind::Discovery)
        .filter(|run| [PROBING, BURN_IN].contains(&run.occasion.as_str()))?;
    let (tests, at) = if run.occasion == BURN_IN {
        (true, "the probe tests the machine")
    } else {
        (false, "the probe looks at the machine from inside")
    };
    let waiting = undiscovered(base.clone(), "ProbeAwaited", at.into());
    Some(match inband::carry_through(o, run, &waiting) {
        Progress::Doing(decision) => decision,
        Progress::Done => waiting.with(Act::FinishRun {
            phase: Phase::Succeeded,
            message: match inband::work(run).and_then(|work| run.last(&work).cloned()) {
                Some(done) if tests => done.evidence,
                _ => "the probe has reported".into(),
            },
        }),
        Progress::Exhausted(message) if tests => failed(base, "BurnInFailed", message),
        Progress::Exhausted(message) => failed(base, "ProbeFailed", message),
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

fn failed(base: &Decision, reason: &'static str, message: String) -> Decision {
    undiscovered(base.clone(), reason, message.clone())
        .remark(true, reason, message.clone())
        .with(Act::FinishRun {
            phase: Phase::Failed,
            message,
        })
}
