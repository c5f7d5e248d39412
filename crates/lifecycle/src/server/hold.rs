//! Hold: the server refers to a claim that is not, or not surely, the one that it was bound to. Outages, moves, restores and foreign clients
//! look like that, so nothing is done to the machine until a person answers.
//!
//! Promise held here: nothing is released, rebooted or wiped because an object is missing.

use corten_api::metal::ServerState;

use crate::{names, operation, server::Act};

use super::{Amendment, Decision, HoldAnswer, Observed, condition};

/// Why the server is held: reason and cause.
pub(crate) type Why = (&'static str, String);

/// Holds the server, carries out the answer, or has nothing to say.
pub(super) fn decide(o: &Observed) -> Option<Decision> {
    let notes = &o.record.notes;
    let Some((reason, cause)) = why(o) else {
        // An answer that lies about would be taken for the answer to the next question.
        return notes
            .hold
            .as_ref()
            .map(|_| Decision::rest(o.shown_state()).with(Act::Amend(Amendment::stale_answer())));
    };
    let held = |cause: &str, reason: &'static str| {
        let message = format!(
            "{cause}. No power action, no boot and no erasure until somebody answers with the annotation {}: `release` (power off and clean) or `adopt:<claim uid>` (the claim owns the machine as it is: nothing is installed on it)",
            names::HOLD
        );
        Decision::rest(o.shown_state())
            .finding(condition::HELD, Some(true), reason, message.clone())
            .not_ready("Held", message)
    };
    if let Some(refused) = operation::refuse_while_held(o) {
        return Some(refused);
    }
    Some(match &notes.hold {
        None => held(&cause, reason),
        Some(HoldAnswer::Release) => Decision::rest(o.shown_state())
            .with(Act::Amend(Amendment::released_by_hand(&o.record)))
            .remark(
                true,
                "HoldAnswered",
                "a person answered the hold: the server is released",
            ),
        Some(HoldAnswer::Adopt(uid)) => match &o.claim {
            Some(claim) if &claim.uid == uid && !claim.deleting && o.record.claim.is_some() => {
                Decision::rest(ServerState::Reserved)
                    .with(Act::Amend(Amendment::adopted(&o.record, uid)))
                    .remark(
                        true,
                        "HoldAnswered",
                        format!("a person answered the hold: the claim {uid} owns the machine"),
                    )
            }
            _ => held(
                &format!(
                    "{cause}; the answer names the claim {uid}, which spec.serverClaimRef does not refer to"
                ),
                "AdoptionMismatch",
            ),
        },
        Some(HoldAnswer::Other(text)) => {
            held(&format!("{cause}; the answer {text:?} is none"), reason)
        }
    })
}

/// Why the server has to be held, if it has to.
pub(crate) fn why(o: &Observed) -> Option<Why> {
    let notes = &o.record.notes;
    match (&o.record.claim, &notes.claim_uid) {
        (Some(key), None) => Some((
            "ClaimNotRecorded",
            format!(
                "spec.serverClaimRef names {key}, and no binding to it is recorded on this server"
            ),
        )),
        // A claim made anew under the same name changes nothing about a release that was recorded before.
        (_, Some(uid)) if notes.is_releasing() => begun(o, uid),
        (Some(key), Some(uid)) => match &o.claim {
            None => Some((
                "ClaimMissing",
                format!(
                    "the claim {key} (UID {uid}) does not exist, and its release was never recorded"
                ),
            )),
            Some(claim) if &claim.uid != uid => Some((
                "ClaimChanged",
                format!(
                    "the claim {key} has the UID {}, and the server was bound to {uid}",
                    claim.uid
                ),
            )),
            Some(_) => None,
        },
        (None, Some(uid)) => Some((
            "ClaimRefRemoved",
            format!(
                "spec.serverClaimRef was removed, and the release of the bound claim {uid} was never recorded"
            ),
        )),
        (None, None) => unclaimed(o),
    }
}

/// A recorded release counts only for the object on which it was recorded.
fn begun(o: &Observed, uid: &str) -> Option<Why> {
    let same_claim = o
        .claim
        .as_ref()
        .is_some_and(|claim| claim.uid == uid && claim.deleting);
    let has_run = o
        .run
        .as_ref()
        .is_some_and(|run| run.kind == crate::run::Kind::Release && run.occasion == uid)
        || o.closed_for(crate::run::Kind::Release, uid)
            .next()
            .is_some();
    let same_object = o.record.notes.server_uid.as_ref() == Some(&o.record.uid);
    (!same_claim && !has_run && !same_object).then(|| {
        (
            "Restored",
            format!("a release of the claim {uid} is recorded, and neither that claim nor a trace of the release is left: the object was restored or moved"),
        )
    })
}

fn unclaimed(o: &Observed) -> Option<Why> {
    let notes = &o.record.notes;
    match (&notes.dirty, &notes.cleaning) {
        (None, None) => matches!(
            o.record.state,
            Some(ServerState::Reserved | ServerState::Released)
        )
        .then(|| {
            (
                "ReservedWithoutClaim",
                "the status says that the server is taken, and neither a claim nor a release is recorded on it".to_owned(),
            )
        }),
        (_, Some(due)) if due.server_uid == o.record.uid => None,
        (dirty, _) => Some((
            "Restored",
            format!(
                "the disks hold data of the claim {}, and a cleaning is not recorded for this object: it was restored or moved",
                dirty.as_deref().unwrap_or("unknown")
            ),
        )),
    }
}
