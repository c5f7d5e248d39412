//! Learning what a machine is, without changing it.
//!
//! Out of band, discovery only reads: it needs no run and no power, and there is nothing to restore when it fails. The probe's half is
//! [`probed`].
//!
//! Promise held here: a machine found running is inventoried and left alone.

mod probed;

use jiff::{SignedDuration, Timestamp};

use corten_api::metal::{PowerState, ServerState};

use crate::{
    inband::BURN_IN,
    names,
    plan::Plan,
    run::{Kind, Phase},
};

use super::{
    Act, Amendment, Decision, Handover, Observed, Reach, after, available, condition, leftover,
    pursuit::{self, Progress},
    unreachable_now,
};

/// Occasion of the run that shuts a handed-over machine down.
pub const HANDED_OVER: &str = "handover";
/// Sections that could not be read are tried again after this long.
const AGAIN: SignedDuration = SignedDuration::from_secs(20);

/// True while the server has to be learnt about before anybody may have it.
pub(crate) fn is_due(o: &Observed) -> bool {
    !o.record.discovered
        || o.record.notes.handover != Handover::Unset
        || matches!(
            o.record.state,
            None | Some(ServerState::Initial | ServerState::Discovery | ServerState::Error)
        )
}

pub(super) fn decide(o: &Observed) -> Decision {
    let attempt = Attempt::of(o);
    let base = Decision::rest(attempt.state(o));
    if let Some(found) = &o.tombstone
        && o.machine().is_some()
    {
        return base.with(Act::Amend(Amendment::found_again(&o.record, found)));
    }
    if let Some(doing) = probed::pursue(o, &base) {
        return doing;
    }
    match attempt {
        Attempt::Exhausted { failed } => {
            return undiscovered(
                base,
                "DiscoveryFailed",
                format!(
                    "discovery failed {failed} times; it is tried again when the BMC has been away and answers again, or when this Server is deleted and found anew"
                ),
            );
        }
        Attempt::Waiting { until } => {
            return undiscovered(base, "DiscoveryTimedOut", last_failure(o)).until(until);
        }
        Attempt::Over => {
            let message = missing(o);
            return undiscovered(base, "DiscoveryTimedOut", message.clone())
                .with(Act::RecordFailedDiscovery { message });
        }
        Attempt::Running { .. } => {}
    }
    let deadline = attempt.deadline();
    let machine = match &o.reach {
        Reach::Reached(machine) => machine,
        Reach::Unknown => return base.with(Act::ReadMachine),
        Reach::Lost { .. } => {
            let message = missing(o);
            return unreachable_now(o, undiscovered(base, "BMCUnreachable", message))
                .until(deadline);
        }
    };
    if let Some(finish) = leftover(o, &[(Kind::Power, HANDED_OVER)]) {
        return finish;
    }
    if o.record.notes.identity.is_none() && !machine.identity.is_empty() {
        return base.with(Act::Amend(Amendment::identity(&machine.identity)));
    }
    match &o.inventory {
        None => return base.with(Act::ReadInventory),
        Some(read) if !read.unread.is_empty() => {
            let again = after(read.read_at, AGAIN);
            let base = undiscovered(base, "SectionsUnread", missing(o)).until(deadline);
            return if again <= o.now {
                base.with(Act::ReadInventory)
            } else {
                base.until(again)
            };
        }
        Some(_) => {}
    }
    if let Some(waiting) = probed::decide(o, base.clone(), attempt.since()) {
        return waiting.until(deadline);
    }
    let known = base.finding(
        condition::DISCOVERED,
        Some(true),
        "InventoryRead",
        "each section was read, or the BMC does not have it",
    );
    found_running(o, known).unwrap_or_else(|| available::decide(o))
}

/// A machine that nobody here switched on belongs to somebody else until a person hands it over.
fn found_running(o: &Observed, known: Decision) -> Option<Decision> {
    let machine = o.machine()?;
    let handover = if o.policy.handover && o.record.notes.handover == Handover::Awaited {
        Handover::Accepted
    } else {
        o.record.notes.handover
    };
    let runs = machine.power != PowerState::Off;
    match handover {
        Handover::Unset if !runs => None,
        Handover::Unset => Some(
            Decision {
                state: Some(ServerState::Discovery),
                ..known
            }
            .with(Act::Amend(Amendment::found_running())),
        ),
        Handover::Awaited => {
            let message = format!(
                "found {}: it was inventoried and is left alone, and no claim gets it. To hand it over, set the annotation {}=accepted (it is then shut down, and its disks count as free), or let a ServerPolicy say `handover: true`",
                if runs {
                    "running"
                } else {
                    "running; it is off now"
                },
                names::HANDOVER,
            );
            Some(
                Decision {
                    state: Some(ServerState::Discovery),
                    ..known
                }
                .finding(
                    condition::RUNNING_UNEXPECTEDLY,
                    Some(true),
                    "FoundRunning",
                    message.clone(),
                )
                .not_ready("FoundRunning", message),
            )
        }
        Handover::Accepted if runs => Some(take_over(
            o,
            Decision {
                state: Some(ServerState::Discovery),
                ..known
            },
        )),
        Handover::Accepted => Some(
            leftover(o, &[]).unwrap_or_else(|| known.with(Act::Amend(Amendment::handed_over()))),
        ),
    }
}

/// Shuts a machine down that was handed over.
pub(crate) fn take_over(o: &Observed, base: Decision) -> Decision {
    let base = base.not_ready("HandedOver", "handed over: it is being shut down");
    if let Some(finish) = leftover(o, &[(Kind::Power, HANDED_OVER)]) {
        return finish;
    }
    let Some(run) = &o.run else {
        return pursuit::start(
            o,
            base,
            Plan::power_off(
                HANDED_OVER,
                "a person, or the policy, handed the running machine over",
            ),
        );
    };
    match pursuit::off(o, run, base.clone(), true) {
        Progress::Doing(decision) => decision,
        Progress::Done => base.with(Act::FinishRun {
            phase: Phase::Succeeded,
            message: "power is off".into(),
        }),
        Progress::Exhausted(message) => base.with(Act::FinishRun {
            phase: Phase::Failed,
            message,
        }),
    }
}

fn undiscovered(base: Decision, reason: &'static str, message: String) -> Decision {
    base.finding(condition::DISCOVERED, Some(false), reason, message.clone())
        .not_ready(reason, message)
}

fn missing(o: &Observed) -> String {
    match (&o.reach, &o.inventory) {
        (Reach::Lost { reason, message }, _) => {
            format!("the BMC does not answer ({reason}): {message}")
        }
        (_, Some(read)) if !read.unread.is_empty() => {
            format!(
                "these sections could not be read: {}",
                read.unread.join(", ")
            )
        }
        _ => "the inventory was not read yet".into(),
    }
}

fn last_failure(o: &Observed) -> String {
    format!(
        "{}; discovery is tried again at the time shown by the queue",
        missing(o)
    )
}

/// Which try it is, from persisted times only.
enum Attempt {
    Running {
        since: Timestamp,
        /// Its time counts from here: a test of a day is not held against it.
        from: Timestamp,
        failed: usize,
        timeout: SignedDuration,
    },
    Over,
    Waiting {
        until: Timestamp,
    },
    Exhausted {
        failed: usize,
    },
}

impl Attempt {
    fn of(o: &Observed) -> Self {
        let began = o
            .record
            .discovery_since
            .unwrap_or(o.now)
            .max(o.answering_since.unwrap_or(Timestamp::MIN));
        let mut failures = o
            .closed_for(Kind::Discovery, "")
            .filter(|run| run.finished_at > began);
        let last = failures.next();
        let failed = last.map_or(0, |_| 1 + failures.count());
        let since = last.map_or(began, |last| {
            after(last.finished_at, pursuit::backoff(failed))
        });
        let tested = o.closed_for(Kind::Discovery, BURN_IN).next();
        let from = tested.map_or(since, |run| since.max(run.finished_at));
        if failed >= o.policy.discovery_attempts {
            Self::Exhausted { failed }
        } else if failed > 0 && o.now < since {
            Self::Waiting { until: since }
        } else if o.now >= after(from, o.policy.discovery_timeout) {
            Self::Over
        } else {
            Self::Running {
                since,
                from,
                failed,
                timeout: o.policy.discovery_timeout,
            }
        }
    }

    /// Since when this discovery goes on.
    fn since(&self) -> Timestamp {
        match self {
            Self::Running { since, .. } => *since,
            _ => Timestamp::MAX,
        }
    }

    fn deadline(&self) -> Timestamp {
        match self {
            Self::Running { from, timeout, .. } => after(*from, *timeout),
            _ => Timestamp::MAX,
        }
    }

    /// After a first failure the server shows Error until it is known: no flapping.
    fn state(&self, o: &Observed) -> ServerState {
        match self {
            Self::Running { failed: 0, .. } => match (&o.record.state, &o.reach) {
                (None | Some(ServerState::Initial), Reach::Unknown | Reach::Lost { .. }) => {
                    ServerState::Initial
                }
                _ => ServerState::Discovery,
            },
            _ => ServerState::Error,
        }
    }
}
