//! The allocator: binds ServerClaims to Servers, and lets go of them. One in a cluster; it never speaks to a BMC.
//!
//! Start at [`run`], or at [`Allocator`] to share caches with other controllers. The rules are in `corten_lifecycle::claim`; here is how
//! they are carried out: the [`index`] that finds servers for claims and claims for servers, and a reconcile that observes,
//! decides, acts and records.
//!
//! What is written, in this order, each by the resourceVersion of what was observed, so that a process killed between any two goes on where
//! it stood: the choice and our finalizer on the claim; the binding on the Server; the ServerBootConfiguration;
//! `spec.serverRef` of the claim; its status. On the way back: the release on the Server, after a live read of the claim; and, when
//! the server is confirmed off, the finalizer.

mod act;
mod allocator;
mod error;
pub mod index;
mod intake;
mod observe;
mod record;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use corten_api::metal::{Server, ServerBootConfiguration, ServerClaim};
use corten_kit::{Lease, Store};
use kube::{Client, runtime::watcher};
use tokio_util::sync::CancellationToken;

pub use self::{allocator::Allocator, error::Error};

/// How the allocator works.
#[derive(Clone, Debug)]
pub struct ClaimsConfig {
    /// Label selector of the claims that it serves; empty for all.
    pub claims: String,
    /// Label selector of the servers that it may bind; empty for all.
    pub servers: String,
    /// Labels that it puts on the objects that it creates.
    pub labels: BTreeMap<String, String>,
    /// This process, in Events.
    pub instance: String,
    /// The lease of the one active allocator.
    pub lease: Lease,
    /// How many claims are worked on at once.
    pub concurrency: usize,
    /// Orders servers that are equally good.
    pub seed: u64,
    /// How often a claim that waits is told anew why, if that has changed.
    pub refresh: Duration,
}

/// The caches that the allocator reads. Clones share them; other controllers of the process may as well.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    /// Servers.
    pub servers: Store<Server>,
    /// Claims.
    pub claims: Store<ServerClaim>,
    /// Boot configurations.
    pub boots: Store<ServerBootConfiguration>,
}

impl ClaimsConfig {
    /// Serves every claim from every server, under `lease`.
    pub fn new(lease: Lease) -> Self {
        Self {
            claims: String::new(),
            servers: String::new(),
            labels: BTreeMap::new(),
            instance: lease.holder().to_owned(),
            lease,
            concurrency: 16,
            seed: 0,
            refresh: Duration::from_secs(600),
        }
    }
}

impl Stores {
    /// Feeds the caches from `client` until dropped.
    pub async fn run(&self, client: Client, config: &ClaimsConfig) {
        let selecting = |labels: &str| {
            let all = watcher::Config::default();
            if labels.is_empty() {
                all
            } else {
                all.labels(labels)
            }
        };
        let servers = self.servers.run(client.clone(), selecting(&config.servers));
        let claims = self.claims.run(client.clone(), selecting(&config.claims));
        // A boot configuration may be anybody's, and one that is in a claim's way has to be seen.
        let boots = self.boots.run(client, watcher::Config::default());
        tokio::join!(servers, claims, boots);
    }
}

/// Runs the allocator with caches of its own until `shutdown`. It acts while `config.lease` is held.
pub async fn run(client: Client, config: ClaimsConfig, shutdown: CancellationToken) {
    let stores = Stores::default();
    let allocator = Allocator::new(client.clone(), config.clone(), stores.clone());
    tokio::select! {
        () = stores.run(client, &config) => {}
        () = allocator.run(shutdown) => {}
    }
}
