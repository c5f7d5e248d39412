//! What the tests that cross processes share.
