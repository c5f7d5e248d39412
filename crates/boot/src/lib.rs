//! Boot services: what a machine fetches while it boots, and what its probe says.
//!
//! This room serves and keeps artefacts. It decides nothing: whom something is served to, and what a probe may do, is asked of the [`Desk`],
//! which the engine implements from live objects.

pub mod artefacts;
pub mod cache;
pub mod cpio;
pub mod desk;
pub mod grub;
pub mod image;
pub mod ipxe;
pub mod iso;
pub mod links;
pub mod machine;
pub mod piece;
pub mod ramdisk;
mod registry;
pub mod server;
pub mod service;
pub mod tftp;
pub mod token;
pub mod uki;
pub mod userdata;
pub mod windows;

pub use desk::{Caller, Desk, Refusal, Target, Ticket, UserData};
pub use service::{Config, serve};
