//! Bringing power to where a run wants it: send once, wait, look, and only then decide anew.

use jiff::SignedDuration;

use corten_api::metal::PowerState;

use crate::{
    plan::Plan,
    run::{Closed, Kind, Outcome, Phase, Run, Step},
};

use super::{
    Act, Decision, FRESH, Machine, Media, Observed, Reach, after, is_moving, look_again, send,
};

/// A power call is sent at most so often in one run.
const TRIES: usize = 3;

/// How far a pursuit is.
pub(crate) enum Progress {
    /// There.
    Done,
    /// This comes next.
    Doing(Decision),
    /// It cannot be brought there.
    Exhausted(String),
}

/// Off: asked for, waited for through the grace, then cut if `force` allows it, and confirmed.
pub(crate) fn off(o: &Observed, run: &Run, base: Decision, force: bool) -> Progress {
    let Some(machine) = o.machine() else {
        return Progress::Doing(send(o, base, Step::RequestShutdown));
    };
    if machine.power == PowerState::Off {
        // Confirmed off means read after the last call, or at least in this run, not remembered from before it.
        return if is_news(o, run, machine) {
            Progress::Done
        } else {
            Progress::Doing(base.with(Act::ReadMachine))
        };
    }
    if let Some(asking) = ask(o, run, machine, base.clone()) {
        return Progress::Doing(asking);
    }
    if !force {
        return Progress::Exhausted(
            "the operating system did not shut down, and power is not cut without being asked"
                .into(),
        );
    }
    repeat(o, run, machine, base, Step::ForceOff)
}

/// Asks the operating system to shut down, and waits for it through the grace; none when there is nothing left to ask or to wait for.
/// Power is not cut because one message was lost: a request that was not sent is made again until the grace is over,
/// one that the BMC refused a few times.
fn ask(o: &Observed, run: &Run, machine: &Machine, base: Decision) -> Option<Decision> {
    let step = Step::RequestShutdown;
    let Some(last) = run.last(&step) else {
        return machine.can.graceful_shutdown.then(|| send(o, base, step));
    };
    let (tries, refusals) = (run.tries(&step), run.refusals(&step));
    let over = |since| after(since, o.policy.shutdown_grace);
    match last.outcome {
        Outcome::Failed if refusals >= TRIES => None,
        Outcome::Failed | Outcome::NotSent if tries >= TRIES && o.now >= over(run.created_at) => {
            None
        }
        Outcome::Failed | Outcome::NotSent => {
            let pause = SignedDuration::from_secs(10 * i64::try_from(tries.min(6)).unwrap_or(6));
            let again = after(last.finished_at, pause);
            Some(if o.now < again {
                base.until(again)
            } else {
                send(o, base, step)
            })
        }
        _ if o.now < over(last.finished_at) => {
            Some(watch(o, machine, base, last.finished_at).until(over(last.finished_at)))
        }
        _ => None,
    }
}

/// On, and confirmed.
pub(crate) fn on(o: &Observed, run: &Run, base: Decision) -> Progress {
    let Some(machine) = o.machine() else {
        return Progress::Doing(send(o, base, Step::PowerOn));
    };
    match machine.power {
        PowerState::On | PowerState::Paused if is_news(o, run, machine) => Progress::Done,
        PowerState::On | PowerState::Paused => Progress::Doing(base.with(Act::ReadMachine)),
        _ => repeat(o, run, machine, base, Step::PowerOn),
    }
}

/// Whether the machine was read since the run was recorded and since its last call.
pub(crate) fn is_news(o: &Observed, run: &Run, machine: &Machine) -> bool {
    let since = run.results.last().map_or_else(
        // The API server's clock says when it was recorded, and may be ahead of ours.
        || {
            let moment_ago = o.now.checked_sub(SignedDuration::from_secs(1));
            run.created_at.min(moment_ago.unwrap_or(o.now))
        },
        |done| done.finished_at,
    );
    since <= machine.read_at
}

/// Sends `step`, and again only when the machine was seen unmoved long after it.
fn repeat(o: &Observed, run: &Run, machine: &Machine, base: Decision, step: Step) -> Progress {
    let Some(last) = run.last(&step) else {
        return Progress::Doing(send(o, base, step));
    };
    let patience = after(last.finished_at, o.policy.power_confirm);
    if o.now < patience
        || is_moving(&machine.power) && o.now < after(patience, o.policy.power_confirm)
    {
        return Progress::Doing(
            watch(o, machine, base, last.finished_at)
                .until(patience.max(after(o.now, SignedDuration::from_secs(1)))),
        );
    }
    if run.tries(&step) < TRIES {
        return Progress::Doing(send(o, base, step));
    }
    Progress::Exhausted(format!(
        "power stays {} after {TRIES} times {step}: {}",
        machine.power, last.evidence
    ))
}

/// Looks at the machine at the pace of its change.
pub(crate) fn watch(
    o: &Observed,
    machine: &Machine,
    base: Decision,
    since: jiff::Timestamp,
) -> Decision {
    let next = after(machine.read_at, look_again(since, o.now));
    if next <= o.now {
        base.with(Act::ReadMachine)
    } else {
        base.until(next)
    }
}

/// Sends a step whose failure does not stop the run; none when it is done or was tried enough.
pub(crate) fn once(o: &Observed, run: &Run, base: Decision, step: Step) -> Option<Decision> {
    let last = run.last(&step);
    let over =
        last.is_some_and(|done| done.outcome == Outcome::Succeeded) || run.failures(&step) >= 2;
    if over {
        return None;
    }
    let again = last.map(|done| after(done.finished_at, SignedDuration::from_secs(10)));
    Some(match again {
        Some(again) if o.now < again => base.until(again),
        _ => send(o, base, step),
    })
}

/// How far the virtual drives are.
pub(crate) enum Tidy {
    /// They are empty.
    Empty,
    /// This comes next.
    Doing(Decision),
    /// They cannot be emptied: why.
    Stays(String),
}

/// Media out of all virtual drives, one intent a slot; what is in them is read before any intent is written, and after each.
pub(crate) fn eject(o: &Observed, run: &Run, base: Decision) -> Tidy {
    let slots = match o.machine().map(|machine| &machine.media) {
        None | Some(Media::Unread) => return Tidy::Doing(base.with(Act::ReadMedia)),
        Some(Media::Unreadable(why)) => {
            return Tidy::Stays(format!("the virtual drives could not be read: {why}"));
        }
        Some(Media::Inserted(slots)) if slots.is_empty() => return Tidy::Empty,
        Some(Media::Inserted(slots)) => slots,
    };
    let mut kept = Vec::new();
    for slot in slots {
        let step = Step::EjectMedium(slot.clone());
        match once(o, run, base.clone(), step.clone()) {
            Some(doing) => return Tidy::Doing(doing),
            None => {
                let why = run.last(&step).map_or("", |done| done.evidence.as_str());
                kept.push(format!("{slot} ({why})"));
            }
        }
    }
    Tidy::Stays(format!(
        "a medium stays in a virtual drive: {}",
        kept.join("; ")
    ))
}

/// Starts a run, unless the brake holds back what is destructive or earlier ones failed too recently or too often.
pub(crate) fn start(o: &Observed, base: Decision, plan: Plan) -> Decision {
    if matches!(o.reach, Reach::Lost { .. }) {
        return super::unreachable_now(o, base);
    }
    if let Some(why) = &o.dispute {
        return base.blocked("IdentityDisputed", why.clone());
    }
    // A plan rests on what the machine can and on its boot override, which only its own document tells.
    if o.machine()
        .is_some_and(|machine| after(machine.read_at, FRESH) < o.now)
    {
        return base.with(Act::ReadMachine);
    }
    if plan.is_destructive()
        && let Some(brake) = &o.guard.brake
    {
        return base
            .blocked("BrakeEngaged", brake.clone())
            .until(after(o.now, SignedDuration::from_secs(60)));
    }
    let failed: Vec<_> = o
        .closed_for(plan.kind, &plan.occasion)
        .take_while(|run| run.phase != Phase::Succeeded)
        .collect();
    if let Some(last) = failed.first() {
        let next = after(last.finished_at, backoff(failed.len()));
        // A BMC that was away and answers again deserves a fresh try.
        let anew = o
            .answering_since
            .is_some_and(|since| since > last.finished_at);
        if !anew && plan.kind != Kind::Release && failed.len() >= RUNS {
            return base.blocked(
                "GivenUp",
                format!(
                    "{} failed {} times, at last: {}. Mend that, then delete its failed ServerRuns of kind {} to have it tried anew; it also is when the BMC has been away and answers again",
                    plan.kind.as_str(),
                    failed.len(),
                    why(last),
                    plan.kind.as_str(),
                ),
            );
        }
        if !anew && o.now < next {
            return base
                .blocked(
                    "WaitingToRetry",
                    format!(
                        "{} failed: {}. It is tried again at {next}",
                        plan.kind.as_str(),
                        why(last),
                    ),
                )
                .until(next);
        }
    }
    base.with(Act::StartRun(plan))
}

fn why(run: &Closed) -> &str {
    if run.message.is_empty() {
        "its last ServerRun says why"
    } else {
        &run.message
    }
}

/// So many runs in a row may fail for one occasion.
const RUNS: usize = 5;

/// How long to wait after the n-th failure: 1, 5, 15, then every 30 minutes.
pub(crate) fn backoff(failed: usize) -> SignedDuration {
    SignedDuration::from_mins(match failed {
        0 => 0,
        1 => 1,
        2 => 5,
        3 => 15,
        _ => 30,
    })
}
