//! The end of a claim: it stays until its server is confirmed off, and says what it waits for.

use corten_api::{
    metal::{Server, ServerState},
    names,
};

use super::{
    BOUND_SERVER, Decision, Farewell, Observed, Report, Verdict, annotation, condition, name,
    released_uid,
};

/// What a claim that is being deleted needs next.
pub(super) fn decide(observed: &Observed<'_>) -> Decision {
    if !observed.is_protected() {
        return Decision::Gone;
    }
    let Some(server) = observed.owned() else {
        // The record of the claim is gone from the server, and the server is not: somebody wrote over it, and the machine may run.
        if let Some(held) = observed.former.filter(|former| refers(former, observed)) {
            return Decision::Settled(Report {
                bound_phase: true,
                bound: Verdict::new(
                    true,
                    "Releasing",
                    format!("server {:?} still refers to the claim", name(held)),
                ),
                released: Some(waiting_for(held)),
            });
        }
        return Decision::LetGo {
            released: lost(observed),
        };
    };
    // Which UID is released is the engine's only licence to power the machine off.
    if released_uid(server).is_none() {
        return Decision::BeginRelease {
            server: name(server),
        };
    }
    if is_confirmed_off(server) {
        return Decision::LetGo {
            released: Some(Farewell {
                server: name(server),
                confirmed: true,
            }),
        };
    }
    Decision::Settled(Report {
        bound_phase: true,
        bound: Verdict::new(
            true,
            "Releasing",
            format!("server {:?} is being released", name(server)),
        ),
        released: Some(waiting_for(server)),
    })
}

/// Whether the engine has seen the machine off in the course of the release.
fn is_confirmed_off(server: &Server) -> bool {
    let state = server
        .status
        .as_ref()
        .and_then(|status| status.state.as_ref());
    // These states are entered by a release only when the machine is off; the condition says that somebody saw it.
    matches!(state, Some(ServerState::Cleanup | ServerState::Released))
        && condition(server, names::CONDITION_POWERED_OFF)
            .is_some_and(|condition| condition.status == "True")
}

/// The server's spec names the claim.
fn refers(server: &Server, observed: &Observed<'_>) -> bool {
    let claim = &observed.claim.metadata;
    server.spec.server_claim_ref.as_ref().is_some_and(|at| {
        Some(&at.name) == claim.name.as_ref() && Some(&at.namespace) == claim.namespace.as_ref()
    })
}

/// No server records the claim: the engine has let go of it, or the Server is gone.
fn lost(observed: &Observed<'_>) -> Option<Farewell> {
    let (server, uid) = annotation(observed.claim, BOUND_SERVER)?.split_once('/')?;
    // The engine takes its record off only after it has seen the machine off.
    let confirmed = observed
        .former
        .is_some_and(|former| former.metadata.uid.as_deref() == Some(uid));
    Some(Farewell {
        server: server.to_owned(),
        confirmed,
    })
}

/// What the server says about why it is not off yet.
fn waiting_for(server: &Server) -> Verdict {
    let is = |kind: &str, status: &str| {
        condition(server, kind).filter(|condition| condition.status == status)
    };
    // Ready says what stands in the way of all else, PoweredOff how far the release is.
    let quoted = is(names::CONDITION_HELD, "True")
        .or_else(|| is(names::CONDITION_READY, "False"))
        .or_else(|| is(names::CONDITION_POWERED_OFF, "False"));
    let server_name = name(server);
    if annotation(server, names::OPERATION) == Some(names::OPERATION_IGNORE) {
        let message = format!(
            "server {server_name:?} is ignored: remove its annotation {} to go on",
            names::OPERATION
        );
        return Verdict::new(false, "ServerIgnored", message);
    }
    match quoted {
        Some(condition) => Verdict::new(
            false,
            &condition.reason,
            format!(
                "waiting until server {server_name:?} is confirmed off: {}",
                condition.message
            ),
        ),
        None => Verdict::new(
            false,
            "PoweringOff",
            format!("waiting until server {server_name:?} is confirmed off"),
        ),
    }
}
