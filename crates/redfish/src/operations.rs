//! What can be asked of a machine: power, boot, media, LED, erasure, settings, firmware, events.
//!
//! Each operation is one request to the BMC, apart from the reading that it needs: a step of a run sends it once and
//! settles it by evidence. What to send is decided by pure functions on documents read before.

pub mod action;
