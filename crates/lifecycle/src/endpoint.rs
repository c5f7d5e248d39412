//! What becomes of an Endpoint: a BMC, a BMC whose password must be given, or nothing.

pub mod mac;
