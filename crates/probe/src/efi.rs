//! UEFI boot entries and variables.

pub mod load_option;
pub mod variables;
