//! What every controller of Corten needs, and nothing that knows what a server is.
//!
//! - [`store::Store`]: a cache of one kind, fed by a watch that no undecodable object can stop, and never older than our own last write.
//! - [`objects::Objects`]: the one way to write a kind; each write lands in the store before the call returns.
//! - [`driver::Driver`]: a queue by object that runs a [`driver::Reconcile`] with bounded concurrency and backoff.
//! - [`definitions`]: are the CustomResourceDefinitions in the cluster, and do they take what we write.
//! - [`conditions`], [`events::Events`], [`lease::Lease`], [`metrics::Metrics`].
//! - [`gate`]: where tests stop a future at its n-th input or output.
//!
//! No function here sleeps inside a reconcile: waiting is a [`driver::Next`].

pub mod conditions;
pub mod definitions;
pub mod driver;
pub mod error;
pub mod events;
pub mod gate;
pub mod key;
pub mod lease;
pub mod metrics;
pub mod objects;
pub mod store;
mod tolerant;

pub use driver::{Driver, Next, Reconcile, ReconcileError};
pub use error::Error;
pub use events::{Events, Subject};
pub use key::ObjectKey;
pub use lease::Lease;
pub use metrics::Metrics;
pub use objects::Objects;
pub use store::Store;
