//! What the tests that cross processes share.

pub mod replay;
