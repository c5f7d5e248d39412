//! Locator light and boot order: small wishes of the spec, done when nothing else is.

use jiff::SignedDuration;

use crate::{
    plan::Plan,
    run::{Kind, Outcome, Phase, Step},
};

use super::{Act, Decision, Observed, after, send};

/// A setting that the BMC refused, or took and does not show, is tried again after this long.
const AGAIN: SignedDuration = SignedDuration::from_hours(1);
/// And after this long once it was tried as often as [`TRIES`] for one version of the spec.
const SELDOM: SignedDuration = SignedDuration::from_hours(24);
const TRIES: usize = 3;

/// What is to be set: the step and what names it.
fn wanted(o: &Observed) -> Option<(Step, String)> {
    let machine = o.machine()?;
    if let (Some(want), Some(seen)) = (&o.record.led, &machine.led)
        && want != seen
        && matches!(want.as_str(), "Lit" | "Blinking" | "Off")
    {
        let occasion = format!("led/{want}/{}", o.record.generation);
        return Some((Step::SetIndicatorLed(want.clone()), occasion));
    }
    // A claimed machine boots as its owner left it.
    let order = &o.record.boot_order;
    (o.record.claim.is_none()
        && !order.is_empty()
        && !machine.boot_order.is_empty()
        && !machine.boot_order.starts_with(order))
    .then(|| {
        let occasion = format!("bootOrder/{}/{}", order.join(","), o.record.generation);
        (Step::SetBootOrder, occasion)
    })
}

/// The occasion of the setting that is due.
pub(super) fn occasion(o: &Observed) -> Option<String> {
    wanted(o).map(|(_, occasion)| occasion)
}

/// Sets what is due, or leaves `base` as it is.
pub(super) fn decide(o: &Observed, base: Decision) -> Decision {
    let Some((step, occasion)) = wanted(o) else {
        return base;
    };
    if let Some(run) = o.run.as_ref().filter(|run| run.kind == Kind::Settings) {
        return match run.last(&step) {
            None => send(o, base, step),
            Some(done) if done.outcome == Outcome::Succeeded => {
                // The reading is from before the call; it is read again before anything is concluded.
                base.with(Act::FinishRun {
                    phase: Phase::Succeeded,
                    message: "set".into(),
                })
            }
            Some(done) => base.with(Act::FinishRun {
                phase: Phase::Failed,
                message: done.evidence.clone(),
            }),
        };
    }
    if o.run.is_some() || o.dispute.is_some() {
        return base;
    }
    let tried = o.closed_for(Kind::Settings, &occasion).count();
    let pause = if tried < TRIES { AGAIN } else { SELDOM };
    let last = o.closed_for(Kind::Settings, &occasion).next().cloned();
    match last {
        Some(last) if o.now < after(last.finished_at, pause) => {
            let machine_is_newer = o.machine().is_some_and(|m| m.read_at > last.finished_at);
            match last.phase {
                Phase::Succeeded if !machine_is_newer => base.with(Act::ReadMachine),
                _ => base.until(after(last.finished_at, pause)),
            }
        }
        _ => base.with(Act::StartRun(Plan::setting(step, occasion))),
    }
}
