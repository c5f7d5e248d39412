//! The rules of Corten: pure state machines and plans, no I/O.
