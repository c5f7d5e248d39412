//! Empty: the tests are the package. See `tests/walk.rs`.
