//! The controllers that touch BMCs.

pub mod inventory;
pub mod macdb;
pub mod retention;
