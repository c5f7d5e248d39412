//! The rules of Corten: pure state machines and plans, no I/O.

pub mod annotation;
pub mod bmc;
pub mod boot;
pub mod brake;
pub mod claim;
pub mod cleanup;
pub mod endpoint;
pub mod hash;
pub mod identity;
pub mod image;
pub mod inband;
pub mod login;
pub mod names;
pub mod operation;
pub mod plan;
pub mod policy;
pub mod refresh;
pub mod retention;
pub mod run;
pub mod server;
pub mod trust;
