//! Taking a server back: asked to shut down, cut off after the grace, confirmed off, its media ejected, its boot override cleared.
//!
//! It begins only from what is recorded on the Server: the UID of a claim that was read live with a deletion time.
//!
//! Promise held here: what was claimed is not claimable again before it is clean.

use corten_api::metal::{PowerState, ServerState};

use crate::{
    plan::Plan,
    run::{Kind, Outcome, Phase, Run, Step},
};

use super::{
    Act, Amendment, Decision, Observed, Reclaim, condition, leftover,
    pursuit::{self, Progress, Tidy},
};

pub(super) fn decide(o: &Observed) -> Decision {
    let uid = o.record.notes.claim_uid.as_deref().unwrap_or_default();
    let base = Decision::rest(match &o.record.state {
        Some(ServerState::Released) => ServerState::Released,
        _ => ServerState::Reserved,
    });
    let retained = o.record.reclaim == Reclaim::Retain && o.record.claim.is_some();
    if let Some(finish) = leftover(o, &[(Kind::Release, uid)]) {
        return finish;
    }
    let Some(run) = &o.run else {
        let ended = o
            .closed_for(Kind::Release, uid)
            .next()
            .is_some_and(|run| run.phase == Phase::Succeeded);
        if retained && (ended || o.record.state == Some(ServerState::Released)) {
            return released(o, uid);
        }
        let base = off_pending(base, uid, "ReleaseDue", "the release begins");
        return pursuit::start(o, base, Plan::release(uid));
    };
    proceed(o, run, uid, base, retained)
}

fn proceed(o: &Observed, run: &Run, uid: &str, base: Decision, retained: bool) -> Decision {
    let waiting = off_pending(
        base.clone(),
        uid,
        "ShuttingDown",
        "the machine is asked to shut down, and its power cut if it does not within the grace",
    );
    match pursuit::off(o, run, waiting.clone(), true) {
        Progress::Doing(decision) => return decision,
        Progress::Exhausted(message) => {
            return off_pending(base, uid, "PowerOffFailed", &message).with(Act::FinishRun {
                phase: Phase::Failed,
                message,
            });
        }
        Progress::Done => {}
    }
    let tidying = off_pending(
        base.clone(),
        uid,
        "TidyingUp",
        "power is off; media and boot override go",
    );
    let overridden = o
        .machine()
        .is_none_or(|m| m.boot_override != Some(false) && m.can.boot_override);
    if overridden
        && let Some(doing) = pursuit::once(o, run, tidying.clone(), Step::ClearBootOverride)
    {
        return doing;
    }
    // What stays in a drive is said, and keeps the server in Cleanup.
    if let Tidy::Doing(doing) = pursuit::eject(o, run, tidying) {
        return doing;
    }
    let base = confirmed(base, uid);
    if !retained {
        return base.with(Act::Amend(Amendment::recycle(&o.record, &run.name)));
    }
    if o.record.notes.server_uid.as_ref() != Some(&o.record.uid) {
        return base.with(Act::Amend(Amendment::retained(&o.record)));
    }
    let left: Vec<String> = run
        .results
        .iter()
        .filter(|done| done.outcome == Outcome::Failed)
        .map(|done| format!("{}: {}", done.step, done.evidence))
        .collect();
    let message = if left.is_empty() {
        "released".into()
    } else {
        format!("released; not done: {}", left.join("; "))
    };
    Decision {
        state: Some(ServerState::Released),
        ..base
    }
    .with(Act::FinishRun {
        phase: Phase::Succeeded,
        message,
    })
}

/// Kept until a person clears `spec.serverClaimRef`.
fn released(o: &Observed, uid: &str) -> Decision {
    let message = "kept by reclaimPolicy Retain; clear spec.serverClaimRef to have it cleaned and offered again";
    let base = confirmed(Decision::rest(ServerState::Released), uid).not_ready("Released", message);
    match o.machine() {
        Some(machine) if machine.power != PowerState::Off => base.finding(
            condition::RUNNING_UNEXPECTEDLY,
            Some(true),
            "FoundRunning",
            "it was released and powered off, and runs again: it is left alone",
        ),
        _ => base,
    }
}

fn confirmed(base: Decision, uid: &str) -> Decision {
    base.finding(
        condition::POWERED_OFF,
        Some(true),
        "ConfirmedOff",
        format!("confirmed off for the release of the claim {uid}"),
    )
}

fn off_pending(base: Decision, uid: &str, reason: &'static str, message: &str) -> Decision {
    base.finding(
        condition::POWERED_OFF,
        Some(false),
        reason,
        format!("release of the claim {uid}: {message}"),
    )
    .not_ready(reason, message)
}
