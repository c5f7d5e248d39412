//! The controllers that touch BMCs.
