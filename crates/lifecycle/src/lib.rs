//! The rules of Corten: pure state machines and plans, no I/O.

pub mod endpoint;
pub mod image;
pub mod login;
pub mod trust;
