//! The only way to a BMC: one [`Gateway`] per process, one [`Bmc`] handle per BMC.
//!
//! Per BMC: one session reused, at most two requests in flight, one queue with priorities for every feature, a pace
//! that follows the latency, a circuit breaker, deadlines on everything, a login budget, a pinned or verified
//! certificate. Nothing is shared between BMCs but counters, so that a hung one costs nobody else anything.

mod bmc;
mod counters;
mod health;
mod manners;
mod path;
mod peer;
mod request;
mod session;
mod transport;

pub use bmc::Bmc;
pub use counters::{Counters, LATENCY_BOUNDS_MS};
pub use manners::Manners;
pub use request::{IfMatch, Method, Query, Reply, Request, Seen};

use crate::{
    breaker::BreakerConfig,
    login::{InMemoryLedger, LoginLedger},
    target::Target,
};
use counters::Tally;
use futures::StreamExt;
use health::Health;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// Sessions logged out at a time when the gateway closes.
const LOGOUTS_AT_ONCE: usize = 64;

/// How the gateway behaves towards every BMC.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Who keeps the login budget. The default forgets it when the process ends.
    pub ledger: Arc<dyn LoginLedger>,
    /// How long each phase may take.
    pub deadlines: Deadlines,
    /// Requests in flight per BMC, at most.
    pub in_flight: usize,
    /// When a BMC is left alone.
    pub breaker: BreakerConfig,
    /// How long a connection is kept open without a request. BMCs close theirs after 30 to 60 s.
    pub idle: Duration,
    /// The largest answer read, in bytes. The largest seen in recordings, a BIOS attribute registry, has 3 MB.
    pub body_limit: usize,
    /// `User-Agent`.
    pub user_agent: Arc<str>,
}

/// How long each phase of a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// TCP and TLS together.
    pub connect: Duration,
    /// From the request to the headers of the answer, for a GET.
    pub headers: Duration,
    /// The same for anything that changes something: some BMCs answer when the work is done.
    pub change: Duration,
    /// One request and its whole answer.
    pub exchange: Duration,
    /// One call: queueing, logging in, retries.
    pub call: Duration,
    /// Logging out.
    pub logout: Duration,
}

/// The gateway of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Arc<GatewayConfig>,
    bmcs: Mutex<HashMap<String, Bmc>>,
    total: Arc<Tally>,
    closed: AtomicBool,
}

// === impl GatewayConfig, Deadlines ===

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            ledger: Arc::new(InMemoryLedger::default()),
            deadlines: Deadlines::default(),
            in_flight: 2,
            breaker: BreakerConfig::default(),
            idle: Duration::from_secs(4),
            body_limit: 16 << 20,
            user_agent: Arc::from(concat!("corten/", env!("CARGO_PKG_VERSION"))),
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            headers: Duration::from_secs(30),
            change: Duration::from_secs(60),
            exchange: Duration::from_secs(90),
            call: Duration::from_secs(180),
            logout: Duration::from_secs(3),
        }
    }
}

// === impl Gateway ===

impl Gateway {
    /// A gateway that knows no BMC yet.
    #[must_use]
    pub fn new(config: GatewayConfig) -> Self {
        Self(Arc::new(Inner {
            config: Arc::new(config),
            bmcs: Mutex::default(),
            total: Arc::default(),
            closed: AtomicBool::new(false),
        }))
    }

    /// The handle to a BMC, the same for everybody who asks for `target.name`. A target that differs from the one
    /// known replaces it: calls under way end as they began, later ones use the new address, credentials and trust.
    pub fn bmc(&self, target: Target) -> Bmc {
        let config = &self.0.config;
        let mut bmcs = self.0.bmcs.lock();
        let (bmc, old) = match bmcs.entry(target.name.clone()) {
            Entry::Occupied(known) => {
                let bmc = known.get().clone();
                let old = bmc.retarget(target, config);
                (bmc, old)
            }
            Entry::Vacant(place) => {
                let health = Health::new(config.in_flight, config.breaker, self.0.total.clone());
                (
                    place
                        .insert(Bmc::new(target, config.clone(), health))
                        .clone(),
                    None,
                )
            }
        };
        drop(bmcs);
        if self.0.closed.load(Relaxed) {
            bmc.peer().session.close();
        }
        if let Some(old) = old
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { bmc::close(&old).await });
        }
        bmc
    }

    /// The handle to a BMC that is known already.
    #[must_use]
    pub fn known(&self, name: &str) -> Option<Bmc> {
        self.0.bmcs.lock().get(name).cloned()
    }

    /// Forgets a BMC and logs its session out. Handles to it answer [`GatewayError::Closed`](crate::GatewayError).
    pub async fn forget(&self, name: &str) {
        let bmc = self.0.bmcs.lock().remove(name);
        if let Some(bmc) = bmc {
            bmc.close().await;
        }
    }

    /// What was counted for all BMCs together.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.total.snapshot()
    }

    /// Logs all sessions out, each within its deadline, many at a time. Later calls answer
    /// [`GatewayError::Closed`](crate::GatewayError).
    pub async fn close(&self) {
        self.0.closed.store(true, Relaxed);
        let bmcs: Vec<Bmc> = self.0.bmcs.lock().values().cloned().collect();
        futures::stream::iter(bmcs)
            .for_each_concurrent(LOGOUTS_AT_ONCE, |bmc| async move { bmc.close().await })
            .await;
    }
}

#[cfg(test)]
mod tests;
