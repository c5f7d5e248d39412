//! Deletion of a Server object: bounded in time, even when its BMC is dead, and held while something could be forgotten by it.
//!
//! Promise held here: an object that is Reserved or dirty does not vanish; by force it leaves a tombstone, by which the machine is known again.

use corten_api::metal::ServerState;

use crate::{plan::Plan, run::Phase};

use super::{Act, Amendment, Decision, Observed, Reach, live};

pub(super) fn decide(o: &Observed) -> Decision {
    if !o.record.finalized {
        return Decision::leave_alone();
    }
    let notes = &o.record.notes;
    let taken = o.record.claim.is_some()
        || notes.claim_uid.is_some()
        || matches!(
            o.record.state,
            Some(ServerState::Reserved | ServerState::Released)
        );
    let dirty = notes.dirty.is_some() || notes.cleaning.is_some();
    if notes.force_delete {
        if (taken || dirty) && !o.buried {
            let claim = notes
                .claim_uid
                .as_deref()
                .or(notes.dirty.as_deref())
                .unwrap_or_default();
            return Decision::leave_alone().with(Act::LeaveTombstone(Plan::tombstone(claim)));
        }
        return let_go(o);
    }
    if taken || dirty {
        let what = if taken {
            "it is reserved: delete its claim first"
        } else {
            "its disks are not clean: wait for the cleaning"
        };
        let note = format!(
            "not deleted yet: {what}, or set the annotation corten.dev/force-delete=true, which leaves a tombstone, by which the machine is cleaned when it is found again"
        );
        if notes.ignores() {
            return Decision::leave_alone().remark(true, "DeletionHeld", note);
        }
        let mut decision = live(o);
        if decision.state.is_some() {
            decision = decision.remark(true, "DeletionHeld", note);
        }
        return decision;
    }
    let_go(o)
}

/// A call under way gets its few seconds; what nobody can settle any more is recorded as such.
fn let_go(o: &Observed) -> Decision {
    if let Some(run) = &o.run {
        return match &run.intent {
            Some(intent) if o.now < intent.deadline => {
                Decision::leave_alone().until(intent.deadline)
            }
            Some(intent) => Decision::leave_alone().with(Act::FinishRun {
                phase: Phase::OutcomeUnknown,
                message: format!(
                    "the Server was deleted before it was known what became of {}",
                    intent.step
                ),
            }),
            None => Decision::leave_alone().with(Act::FinishRun {
                phase: Phase::Failed,
                message: "the Server was deleted".into(),
            }),
        };
    }
    let decision = Decision::leave_alone().with(Act::Amend(Amendment::unhook()));
    match &o.reach {
        Reach::Lost { reason, .. } => decision.remark(
            true,
            "DeletedUnseen",
            format!("deleted while its BMC did not answer ({reason}): power, virtual media, boot override and locator light were left as they are"),
        ),
        _ => decision,
    }
}
