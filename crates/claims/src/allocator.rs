//! What the allocator works with, and its reconcile.

use std::{collections::HashMap, sync::Arc, time::Duration};

use corten_api::{
    metal::{Server, ServerBootConfiguration, ServerClaim},
    names,
};
use corten_kit::{Driver, Events, Next, ObjectKey, Objects, Reconcile};
use corten_lifecycle::claim::{self, Decision};
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{ClaimsConfig, Error, Stores, index::Index, intake};

/// More steps than any claim takes from its first look to rest: a bound on a defect, not a rule.
const STEPS: usize = 12;

/// Binds claims to servers. [`crate::run`] makes one with caches of its own.
#[derive(Debug)]
pub struct Allocator {
    pub(crate) config: ClaimsConfig,
    pub(crate) stores: Stores,
    pub(crate) servers: Objects<Server>,
    /// Past the cache: what a label selector hides from us may still be bound.
    pub(crate) any_server: Objects<Server>,
    pub(crate) claims: Objects<ServerClaim>,
    pub(crate) boots: Objects<ServerBootConfiguration>,
    pub(crate) events: Events,
    /// Taken before a store is read, so that what is noted is never older than what was noted before.
    pub(crate) index: Mutex<Index>,
    /// Claims that are being bound by this process: UID and server, until they are settled.
    pub(crate) binding: Mutex<HashMap<ObjectKey, (String, String)>>,
    pub(crate) wake: mpsc::UnboundedSender<ObjectKey>,
    woken: Mutex<Option<mpsc::UnboundedReceiver<ObjectKey>>>,
}

/// What became of one step.
pub(crate) enum Done {
    /// Something was written: look again.
    Step,
    /// The claim rests until something changes, or until then.
    Rest(Next),
}

impl Allocator {
    /// An allocator that reads `stores` and writes through `client`.
    pub fn new(client: Client, config: ClaimsConfig, stores: Stores) -> Arc<Self> {
        let manager = names::MANAGER_CLAIMS;
        let (wake, woken) = mpsc::unbounded_channel();
        let events = Events::start(client.clone(), "claims", &config.instance);
        events.tell_of_broken(&stores.claims);
        Arc::new(Self {
            servers: Objects::new(client.clone(), manager, stores.servers.clone()),
            any_server: Objects::uncached(client.clone(), manager),
            claims: Objects::new(client.clone(), manager, stores.claims.clone()),
            boots: Objects::new(client, manager, stores.boots.clone()),
            events,
            index: Mutex::new(Index::new(config.seed)),
            binding: Mutex::default(),
            stores,
            config,
            wake,
            woken: Mutex::new(Some(woken)),
        })
    }

    /// Works until `shutdown`, while the lease is held. To be called once.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let Some(mut woken) = self.woken.lock().take() else {
            return;
        };
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.config.lease.acquired() => {}
            }
            let term = shutdown.child_token();
            let (queue, changes) = mpsc::unbounded_channel();
            // A claim that nobody else binds is worth a prompt second try.
            let driver = Driver {
                backoff: Duration::from_millis(500),
                backoff_limit: Duration::from_secs(60),
                grace: Duration::from_secs(5),
                ..Driver::new("claims", self.config.concurrency)
            };
            let work = driver.run(self.clone(), changes, term.clone());
            let feed = async {
                tokio::select! {
                    () = intake::run(&self, &queue, &mut woken) => {}
                    () = term.cancelled() => {}
                }
            };
            let watch = async {
                tokio::select! {
                    () = self.config.lease.lost() => tracing::warn!("the allocator stands by: its lease is lost"),
                    () = term.cancelled() => {}
                }
                term.cancel();
            };
            tokio::join!(work, feed, watch);
        }
    }
}

impl Reconcile for Allocator {
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        for _ in 0..STEPS {
            let Some(world) = self.observe(key) else {
                return self.vanished(key).await;
            };
            let overtaken =
                self.binding.lock().get(key).is_some_and(|(uid, _)| {
                    Some(uid.as_str()) != world.claim.metadata.uid.as_deref()
                });
            if overtaken {
                // A claim made anew under its name stands where the one that was being bound stood.
                self.vanished(key).await?;
                continue;
            }
            let decision = claim::decide(&world.view());
            if !matches!(
                decision,
                Decision::Settled(_) | Decision::Gone | Decision::Ignored
            ) {
                tracing::debug!(claim = %key, ?decision, "step");
            }
            match self.act(&world, decision).await? {
                Done::Step => {}
                Done::Rest(next) => return Ok(next),
            }
        }
        tracing::error!(claim = %key, "claim does not come to rest: a defect of Corten");
        Ok(Next::After(Duration::from_secs(60)))
    }
}
