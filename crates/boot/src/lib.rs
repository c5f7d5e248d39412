//! Boot services: what a machine fetches while it boots, and what its probe says.
//!
//! This room serves and keeps artefacts. It decides nothing: whom something is served to, and what a probe may do, is asked of the [`Desk`],
//! which the engine implements from live objects.

pub mod cpio;
pub mod desk;
pub mod iso;
pub mod links;
pub mod ramdisk;
pub mod server;
pub mod token;
pub mod uki;

pub use desk::{Caller, Desk, Refusal, Target, Ticket, UserData};
