//! Annotations by which the server machine remembers; they are those of [`corten_api::names`].

pub use corten_api::names::{
    BOOT_METHOD, CLAIM_UID, CLEANED_BY, CLEANING, DIRTY, DRIVES, HANDOVER, HANDOVER_AWAITED, HOLD,
    IDENTITY, OPERATION, OPERATION_ACTOR, PARKED, PROVISIONED, RELEASE, SERVER_UID,
};
