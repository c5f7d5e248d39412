//! What a person asks for by the annotation `metal.ironcore.dev/operation`: taken up once, or refused with the reason, never later by surprise.
//!
//! The order that makes it once: the run is recorded, then the annotation goes, and only when it is gone is anything sent.
//!
//! Promise held here: on a claimed server nothing is done without its owner's consent or an override that names who answers for it.

use jiff::SignedDuration;

use corten_api::metal::{PowerState, ServerState};

use crate::{
    names,
    plan::Plan,
    run::{Done, Kind, Outcome, Phase, Run, Step},
    server::{
        Act, Amendment, Decision, Observed, Reach, after,
        pursuit::{self, Progress},
        send, unreachable_now,
    },
};

/// An operation that could not be sent within this time is dropped: later it would be a surprise.
pub const EXPIRES: SignedDuration = SignedDuration::from_mins(10);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The operating system restarts.
    GracefulRestart,
    /// The machine is reset.
    HardRestart,
    /// Power goes and comes.
    PowerCycle,
    /// Power goes.
    ForceOff,
    /// Power comes.
    ForceOn,
    /// Off, and out of everybody's hands.
    Park,
    /// Back.
    Unpark,
}

impl Operation {
    /// Reads the annotation's value; none for what a Server does not know.
    pub fn parse(value: &str) -> Option<Self> {
        match value {
            "graceful-restart-server" => Some(Self::GracefulRestart),
            "hard-restart-server" => Some(Self::HardRestart),
            "power-cycle-server" => Some(Self::PowerCycle),
            "force-off-server" => Some(Self::ForceOff),
            "force-on-server" => Some(Self::ForceOn),
            "park" => Some(Self::Park),
            "unpark" => Some(Self::Unpark),
            _ => None,
        }
    }

    fn steps(self) -> &'static [Step] {
        match self {
            Self::GracefulRestart => &[Step::GracefulRestart],
            Self::HardRestart => &[Step::ForceRestart],
            Self::PowerCycle => &[Step::PowerCycle],
            Self::ForceOff => &[Step::ForceOff],
            Self::ForceOn => &[Step::PowerOn],
            Self::Park => &[Step::RequestShutdown, Step::ForceOff],
            Self::Unpark => &[],
        }
    }
}

/// Takes up, refuses or carries on an operation; none when there is nothing to do about one.
pub(crate) fn decide(o: &Observed) -> Option<Decision> {
    let asked = o
        .record
        .notes
        .operation
        .as_deref()
        .filter(|_| !o.record.notes.ignores());
    if let Some(run) = o.run.as_ref().filter(|run| run.kind == Kind::Operation) {
        if run.is_untouched() && asked == Some(run.occasion.as_str()) {
            return Some(shown(o).with(Act::Amend(Amendment::consume_operation())));
        }
        return Some(carry_out(o, run));
    }
    let asked = asked?;
    let Some(operation) = Operation::parse(asked) else {
        let remedy = match asked {
            "graceful-restart-bmc" | "rotate-credentials" => "; it belongs on the BMC",
            _ => "",
        };
        return Some(refuse(
            o,
            "UnsupportedOperation",
            format!("the operation {asked:?} is not one of a Server{remedy}"),
        ));
    };
    if operation == Operation::Unpark {
        return Some(if o.record.notes.parked {
            shown(o)
                .with(Act::Amend(Amendment::unpark()))
                .remark(false, "Unparked", "unparked")
        } else {
            refuse(o, "OperationRefused", "unpark: it is not parked".into())
        });
    }
    if let Some(why) = objection(o, operation) {
        return Some(refuse(o, "OperationRefused", format!("{asked}: {why}")));
    }
    if let Some(run) = &o.run {
        // What ends in seconds ends first, and who wants it parked wants it whenever that may be. What is meant for now does not come upon a machine
        // an hour later, when its image is written.
        return long(run.kind)
            .filter(|_| operation != Operation::Park)
            .map(|what| {
                let why = format!("{what} is under way; ask again when it has ended");
                refuse(o, "OperationRefused", format!("{asked}: {why}"))
            });
    }
    let notes = &o.record.notes;
    let plan = Plan {
        // Whoever has the server when it is sent must be who had it when it was agreed to.
        claim_uid: notes.claim_uid.clone().unwrap_or_default(),
        ..Plan::operation(
            asked,
            operation.steps(),
            notes.operation_actor.as_deref().unwrap_or("annotation"),
        )
    };
    Some(shown(o).with(Act::StartRun(plan)))
}

/// What may take longer than an operation may wait.
fn long(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Discovery => Some("its discovery"),
        Kind::Provisioning => Some("its provisioning"),
        _ => None,
    }
}

/// While a hold asks a question, no operation is carried out, and none is kept for later.
pub(crate) fn refuse_while_held(o: &Observed) -> Option<Decision> {
    let asked = o.record.notes.operation.as_deref()?;
    if let Some(run) = o
        .run
        .as_ref()
        .filter(|run| run.kind == Kind::Operation && run.is_untouched())
    {
        return Some(shown(o).with(Act::FinishRun {
            phase: Phase::Failed,
            message: format!("{} is not carried out: the server is held", run.occasion),
        }));
    }
    Some(refuse(
        o,
        "OperationRefused",
        format!("{asked}: the server is held; answer the hold first"),
    ))
}

/// Why the operation may not be carried out.
fn objection(o: &Observed, operation: Operation) -> Option<String> {
    let notes = &o.record.notes;
    if notes.parked {
        return Some("it is parked; unpark it first".into());
    }
    if let Some(why) = &o.dispute {
        return Some(why.clone());
    }
    if notes.is_releasing() || notes.dirty.is_some() && o.record.claim.is_none() {
        return Some("it is being released or cleaned".into());
    }
    if o.record.claim.is_none() && crate::server::is_unknown(o) && notes.operation_actor.is_none() {
        return Some(format!(
            "it was not taken over yet, so somebody else may be using it. To override, say who answers for it: {}=<name>",
            names::OPERATION_ACTOR
        ));
    }
    if o.record.claim.is_some()
        && notes.operation_actor.is_none()
        && !o
            .claim
            .as_ref()
            .is_some_and(|claim| claim.allow_operations && !claim.deleting)
    {
        return Some(format!(
            "it is reserved, and the claim does not allow it (annotation corten.dev/allow-operations on the claim). To override, say who answers for it: {}=<name>",
            names::OPERATION_ACTOR
        ));
    }
    let can = o.machine().map(|m| m.can).unwrap_or_default();
    let lacks = match operation {
        Operation::GracefulRestart => !can.graceful_restart,
        Operation::HardRestart => !can.force_restart,
        Operation::PowerCycle => !can.power_cycle,
        _ => false,
    };
    if lacks {
        return Some("the BMC does not offer it".into());
    }
    o.guard
        .brake
        .clone()
        .filter(|_| operation.steps().iter().any(Step::is_destructive))
}

fn carry_out(o: &Observed, run: &Run) -> Decision {
    let base = shown(o).not_ready(
        "Operation",
        format!("the operation {} is carried out", run.occasion),
    );
    if let Some(done) = run.lost() {
        return unknown(base, run, done);
    }
    if run.is_untouched()
        && o.record.notes.claim_uid.as_deref().unwrap_or_default() != run.claim_uid
    {
        return base
            .with(Act::FinishRun {
                phase: Phase::Failed,
                message: "the server changed hands before it was sent".into(),
            })
            .remark(
                true,
                "OperationRefused",
                format!(
                    "{}: the server changed hands before it was sent",
                    run.occasion
                ),
            );
    }
    if run.is_untouched() && o.now > after(run.created_at, EXPIRES) {
        return base
            .with(Act::FinishRun {
                phase: Phase::Failed,
                message: "expired: it could not be sent in time".into(),
            })
            .remark(
                true,
                "OperationExpired",
                format!(
                    "{}: dropped, because the BMC could not be asked within ten minutes",
                    run.occasion
                ),
            );
    }
    if Operation::parse(&run.occasion) == Some(Operation::Park) {
        return park(o, run, base);
    }
    let Some(step) = run.plan.first().cloned() else {
        return base.with(Act::FinishRun {
            phase: Phase::Succeeded,
            message: "nothing to do".into(),
        });
    };
    match run.last(&step) {
        None if o.machine().is_some_and(|m| !pursuit::is_news(o, run, m)) => base
            .with(Act::ReadMachine)
            .until(after(run.created_at, EXPIRES)),
        None => match (&step, o.machine().map(|m| &m.power)) {
            // Restarting what is off would switch it on.
            (
                Step::GracefulRestart | Step::ForceRestart | Step::PowerCycle,
                Some(PowerState::Off),
            ) => base
                .with(Act::FinishRun {
                    phase: Phase::Failed,
                    message: "it is off, so there is nothing to restart".into(),
                })
                .remark(
                    true,
                    "OperationFailed",
                    format!(
                        "{}: it is off, so there is nothing to restart",
                        run.occasion
                    ),
                ),
            _ => send(o, base, step).until(after(run.created_at, EXPIRES)),
        },
        Some(done) => match done.outcome {
            Outcome::Succeeded | Outcome::Accepted => base
                .with(Act::FinishRun {
                    phase: Phase::Succeeded,
                    message: done.evidence.clone(),
                })
                .remark(
                    false,
                    "OperationDone",
                    format!("{} was carried out", run.occasion),
                ),
            Outcome::Unknown => unknown(base, run, done),
            Outcome::Failed | Outcome::NotSent => base
                .with(Act::FinishRun {
                    phase: Phase::Failed,
                    message: done.evidence.clone(),
                })
                .remark(
                    true,
                    "OperationFailed",
                    format!("{}: {}", run.occasion, done.evidence),
                ),
        },
    }
}

/// Nobody knows whether it happened. The run ends, so that it holds nobody up, and a person decides.
fn unknown(base: Decision, run: &Run, done: &Done) -> Decision {
    let message = format!(
        "{} was sent, or may have been, and nothing shows whether it happened ({}); it is not sent again. Look at the machine's console, and ask again if it is still wanted",
        done.step, done.evidence
    );
    base.with(Act::FinishRun {
        phase: Phase::OutcomeUnknown,
        message: message.clone(),
    })
    .remark(
        true,
        "OperationOutcomeUnknown",
        format!("{}: {message}", run.occasion),
    )
}

fn park(o: &Observed, run: &Run, base: Decision) -> Decision {
    if o.record.notes.parked {
        return base.with(Act::FinishRun {
            phase: Phase::Succeeded,
            message: "parked".into(),
        });
    }
    if matches!(o.reach, Reach::Lost { .. }) {
        return unreachable_now(o, base).until(after(run.created_at, EXPIRES));
    }
    match pursuit::off(o, run, base.clone(), true) {
        Progress::Doing(decision) => decision,
        Progress::Done => base.with(Act::Amend(Amendment::park())).remark(
            false,
            "Parked",
            "powered off and parked",
        ),
        Progress::Exhausted(message) => base
            .with(Act::FinishRun {
                phase: Phase::Failed,
                message: message.clone(),
            })
            .remark(true, "OperationFailed", format!("park: {message}")),
    }
}

fn refuse(o: &Observed, reason: &'static str, note: String) -> Decision {
    shown(o)
        .with(Act::Amend(Amendment::consume_operation()))
        .remark(true, reason, note)
}

fn shown(o: &Observed) -> Decision {
    Decision::rest(match o.shown_state() {
        ServerState::Parked if !o.record.notes.parked => ServerState::Initial,
        state => state,
    })
}
