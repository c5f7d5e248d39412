//! Parked: a person took the server out of everybody's hands. Nothing is done until it is unparked.

use corten_api::metal::ServerState;

use super::{Decision, Observed, leftover};

pub(super) fn decide(o: &Observed) -> Decision {
    leftover(o, &[]).unwrap_or_else(|| {
        Decision::rest(ServerState::Parked).not_ready(
            "Parked",
            "parked: nothing is done to it until the operation `unpark`",
        )
    })
}
