//! The gateway to BMCs: sessions, budgets, a tolerant Redfish model.

mod breaker;
pub mod document;
pub mod error;
pub mod gateway;
pub mod inventory;
pub mod login;
pub mod model;
pub mod operations;
mod pace;
mod queue;
pub mod quirks;
pub mod sse;
pub mod target;
pub mod tls;

pub use breaker::BreakerConfig;
pub use document::Document;
pub use error::GatewayError;
pub use gateway::{
    Bmc, Counters, Deadlines, Gateway, GatewayConfig, IfMatch, Manners, Method, Query, Reply,
    Request, Seen,
};
pub use login::{InMemoryLedger, LoginLedger};
pub use queue::Priority;
pub use sse::{EventStream, SseEvent};
pub use target::{Credentials, Target, Trust};
pub use tls::{CaBundle, Fingerprint, TlsFailure};
