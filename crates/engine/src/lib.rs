//! The controllers that touch BMCs.

pub mod macdb;
