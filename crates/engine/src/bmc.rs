//! Drives [`Bmc`]s: connects, reads who they are, makes a Server of each ComputerSystem, and keeps looking.
//!
//! The rules are [`corten_lifecycle::bmc`]. There is one poll per BMC, this one; what it sees goes into the
//! [`crate::fleet::Fleet`], which wakes the server controller. What a BMC said last is kept while it does not answer.

mod deletion;
mod look;
mod open;
mod operation;
mod record;
mod rotation;

pub(crate) use look::{ask, identity};
pub(crate) use open::greet;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use corten_api::{
    metal::{Bmc, Server},
    names,
};
use corten_kit::{Driver, Next, ObjectKey, Reconcile};
use corten_lifecycle::{annotation, endpoint::mac::MacAddress, server::BMC_IGNORED};
use dashmap::DashMap;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Context,
    connect::{ConnectError, Connected, Wanted},
    failure::Failure,
    fleet::Access,
    secret::SecretKey,
};

/// The controller.
pub struct BmcController {
    context: Context,
    memories: DashMap<Arc<str>, Memory>,
    servers: Arc<ServerIndex>,
    by_endpoint: Arc<DashMap<String, BTreeSet<ObjectKey>>>,
    /// BMCs to look at again for a reason outside their objects: a dispute began or ended.
    again: parking_lot::Mutex<Option<mpsc::UnboundedSender<ObjectKey>>>,
}

/// Servers by their BMC, and by their system's UUID.
#[derive(Default)]
struct ServerIndex {
    by_bmc: DashMap<String, BTreeSet<ObjectKey>>,
    by_uuid: DashMap<String, BTreeSet<ObjectKey>>,
}

/// What this process remembers of one BMC between two looks. Losing it costs one full reading.
#[derive(Debug, Default)]
struct Memory {
    /// What the present connection was made from.
    wanted: Option<Wanted>,
    connected: Option<Connected>,
    /// When the Secret was read last.
    secret_at: Option<Instant>,
    /// When everything was read last.
    opened_at: Option<Instant>,
    /// Looks in a row that had no answer.
    failures: u32,
    /// When the BMC answered last.
    last_seen: Option<Timestamp>,
    next_look: Option<Instant>,
    held: Option<Held>,
}

/// Refused credentials: not tried again before the time, unless the Secret changes.
#[derive(Clone, Debug)]
struct Held {
    until: Timestamp,
    secret_version: String,
    /// The factory credential to try then.
    next_factory: Option<usize>,
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum LookError {
    /// There is no way to the BMC, or it did not answer as it should.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another machine stands behind the address.
    #[error(
        "another machine answers at this address: expected {expected}, found {found}; nothing is done to it. Correct the address, or, if the machine was replaced on purpose, delete the old Servers"
    )]
    OtherMachine {
        /// The Servers that were expected.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The API server did not let a step happen.
    #[error(transparent)]
    Api(#[from] Failure),
}

// === impl BmcController ===

impl std::fmt::Debug for BmcController {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BmcController")
            .field("bmcs", &self.memories.len())
            .finish_non_exhaustive()
    }
}

impl BmcController {
    /// A controller on `context`; its indices are in place before the caches are fed.
    pub fn new(context: Context) -> Self {
        let servers = Arc::new(ServerIndex::default());
        let index = servers.clone();
        context
            .servers
            .store
            .observe(move |key, old, new| index.changed(key, old, new));
        let by_endpoint: Arc<DashMap<String, BTreeSet<ObjectKey>>> = Arc::default();
        let index = by_endpoint.clone();
        let (fleet, by_bmc) = (context.fleet.clone(), servers.clone());
        context.bmcs.store.observe(move |key, old, new| {
            // Its servers are to know before anything else is done to them.
            let access = Access::Bmc(key.name().into());
            let is_ignored = new.is_some_and(|bmc| annotation::is_ignored(bmc.annotations()));
            let message = is_ignored.then(|| ignored(key.name()));
            let reason = message.as_deref().map(|message| (BMC_IGNORED, message));
            if fleet.ignore(&access, reason) {
                for server in by_bmc.of(key.name()) {
                    fleet.wake(server.name());
                }
            }
            let endpoint = |bmc: &Bmc| {
                bmc.spec
                    .endpoint_ref
                    .as_ref()
                    .map(|reference| reference.name.clone())
            };
            reindex(&index, key, old.and_then(endpoint), new.and_then(endpoint));
        });
        Self {
            context,
            memories: DashMap::new(),
            servers,
            by_endpoint,
            again: parking_lot::Mutex::default(),
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let (sender, changes) = mpsc::unbounded_channel();
        let mut pumps = JoinSet::new();
        let mut bmcs = self.context.bmcs.store.subscribe();
        let to = sender.clone();
        pumps.spawn(async move {
            while let Some(key) = bmcs.recv().await {
                let _ = to.send(key);
            }
        });
        let mut endpoints = self.context.endpoints.store.subscribe();
        let (to, index) = (sender.clone(), self.by_endpoint.clone());
        pumps.spawn(async move {
            while let Some(endpoint) = endpoints.recv().await {
                for bmc in index
                    .get(endpoint.name())
                    .map(|keys| keys.clone())
                    .unwrap_or_default()
                {
                    let _ = to.send(bmc);
                }
            }
        });
        *self.again.lock() = Some(sender);
        // Another replica may have acted since the last term.
        self.memories.clear();
        let concurrency = self.context.config.concurrency;
        Driver::new("bmc", concurrency)
            .run(self, changes, shutdown)
            .await;
    }

    /// Where the BMC is and where its credentials are, as its objects say.
    fn wanted(&self, bmc: &Bmc) -> Result<Wanted, ConnectError> {
        let status = bmc.status.as_ref();
        let (host, mac) = match (&bmc.spec.endpoint_ref, &bmc.spec.access) {
            (Some(reference), _) => match self
                .context
                .endpoints
                .store
                .get(&ObjectKey::cluster(&reference.name))
            {
                Some(endpoint) => (endpoint.spec.ip.clone(), endpoint.spec.mac_address.clone()),
                // An Endpoint that went first must not keep its machine from being given back.
                None => {
                    let known = status
                        .and_then(|status| Some((status.ip.clone()?, status.mac_address.clone())));
                    let (ip, mac) = known
                        .ok_or_else(|| ConnectError::EndpointMissing(reference.name.clone()))?;
                    (ip, mac.unwrap_or_default())
                }
            },
            (None, Some(access)) if !access.host.is_empty() => {
                (access.host.clone(), access.mac_address.clone())
            }
            (None, Some(access)) => (access.ip.clone(), access.mac_address.clone()),
            (None, None) => return Err(ConnectError::NoAddress),
        };
        if host.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let secret = secret_key(
            &self.context,
            bmc.spec
                .secret_ref
                .as_ref()
                .map(|reference| (reference.namespace.as_str(), reference.name.as_str())),
            bmc.spec
                .bmc_secret_ref
                .as_ref()
                .map(|reference| reference.name.as_str()),
        )?;
        Ok(Wanted {
            target: bmc.name_any(),
            host,
            protocol: bmc.spec.protocol.clone(),
            secret,
            mac: mac.parse::<MacAddress>().ok(),
            pin: bmc.annotations().get(names::TLS_PIN).cloned(),
            labels: bmc.labels().clone(),
        })
    }

    fn servers_of(&self, bmc: &str) -> Vec<Arc<Server>> {
        let keys = self.servers.of(bmc);
        keys.iter()
            .filter_map(|key| self.context.servers.store.get(key))
            .collect()
    }

    /// The object is gone: nothing of it is kept.
    async fn forget(&self, name: &str) {
        self.memories.remove(name);
        self.context.gateway.forget(name).await;
        self.context.connector.ledger.forget(name);
        for other in self.context.fleet.forget(&Access::Bmc(name.into())) {
            self.look_again(&other);
        }
    }

    /// An ignored BMC is left alone: its session ends, and what was known of its link counts no more when it is back.
    async fn let_go(&self, bmc: &Bmc) {
        let name = bmc.name_any();
        self.memories.remove(&*name);
        self.publish_loss(bmc, BMC_IGNORED, &ignored(&name));
        self.context.gateway.forget(&name).await;
    }

    /// Another BMC's dispute began or ended: it is read again.
    fn look_again(&self, access: &Access) {
        if let Access::Bmc(name) = access {
            if let Some(mut memory) = self.memories.get_mut(name) {
                memory.opened_at = None;
                memory.next_look = None;
            }
            if let Some(again) = &*self.again.lock() {
                let _ = again.send(ObjectKey::cluster(name));
            }
        }
    }

    async fn ensure_finalizer(&self, bmc: &Arc<Bmc>) -> Result<Arc<Bmc>, Failure> {
        if bmc
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == names::FINALIZER_BMC)
        {
            return Ok(bmc.clone());
        }
        let mut finalizers = bmc.finalizers().to_vec();
        finalizers.push(names::FINALIZER_BMC.to_owned());
        let patch = json!({ "metadata": { "finalizers": finalizers } });
        self.context
            .bmcs
            .objects
            .merge(bmc, patch, true)
            .await
            .map_err(Failure::at("add finalizer"))
    }

    async fn step(&self, bmc: Arc<Bmc>, memory: &mut Memory) -> Result<Next, Failure> {
        let mut again = Next::Done;
        let bmc = if bmc.metadata.deletion_timestamp.is_some() {
            match self.delete(&bmc).await? {
                deletion::Outcome::Gone => return Ok(Next::Done),
                deletion::Outcome::Waits(after) => again = Next::After(after),
            }
            bmc
        } else {
            self.ensure_finalizer(&bmc).await?
        };
        let wanted = self.wanted(&bmc);
        if asks_for_operation(&bmc) {
            memory.next_look = None;
        }
        let now = Instant::now();
        if let (Ok(wanted), Some(at)) = (&wanted, memory.next_look)
            && memory.wanted.as_ref() == Some(wanted)
            && at > now
        {
            return Ok(Next::After(at - now).sooner(again, Timestamp::now()));
        }
        let looked = match wanted {
            Ok(wanted) => self.look(&bmc, wanted, memory).await,
            Err(error) => Err(error.into()),
        };
        let wait = match looked {
            Ok(seen) => {
                let wait = self.record_seen(&bmc, seen, memory).await?;
                self.operate(&bmc, memory).await?;
                wait
            }
            Err(LookError::Api(failure)) => return Err(failure),
            Err(error) => self.record_failure(&bmc, &error, memory).await?,
        };
        memory.next_look = Some(Instant::now() + wait);
        Ok(Next::After(wait).sooner(again, Timestamp::now()))
    }
}

impl Reconcile for BmcController {
    type Error = Failure;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Failure> {
        let Some(bmc) = self.context.bmcs.store.get(key) else {
            self.forget(key.name()).await;
            return Ok(Next::Done);
        };
        if annotation::is_ignored(bmc.annotations()) {
            self.let_go(&bmc).await;
            return Ok(Next::Done);
        }
        // Out of the map while it is in use: a look that is dropped half-way begins anew.
        let (name, mut memory) = self
            .memories
            .remove(key.name())
            .unwrap_or_else(|| (key.name().into(), Memory::default()));
        let next = self.step(bmc, &mut memory).await;
        if self.context.bmcs.store.get(key).is_some() {
            self.memories.insert(name, memory);
        }
        next
    }
}

fn ignored(bmc: &str) -> String {
    format!(
        "the BMC {bmc:?} is ignored: remove its annotation {}",
        names::OPERATION
    )
}

fn asks_for_operation(bmc: &Bmc) -> bool {
    bmc.annotations().contains_key(names::OPERATION)
}

/// The Secret that an object means.
pub(crate) fn secret_key(
    context: &Context,
    core: Option<(&str, &str)>,
    bmc_secret: Option<&str>,
) -> Result<SecretKey, ConnectError> {
    match (core, bmc_secret) {
        (Some((namespace, name)), _) if !name.is_empty() => {
            let namespace = if namespace.is_empty() {
                &context.config.namespace
            } else {
                namespace
            };
            Ok(SecretKey::Core {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        (_, Some(name)) if !name.is_empty() => Ok(SecretKey::BmcSecret(name.to_owned())),
        _ => Err(ConnectError::NoSecret),
    }
}

fn reindex<I>(
    index: &DashMap<String, BTreeSet<I>>,
    key: &I,
    old: Option<String>,
    new: Option<String>,
) where
    I: Clone + Ord,
{
    if old == new {
        return;
    }
    if let Some(old) = old {
        if let Some(mut keys) = index.get_mut(&old) {
            keys.remove(key);
        }
        index.remove_if(&old, |_, keys| keys.is_empty());
    }
    if let Some(new) = new {
        index.entry(new).or_default().insert(key.clone());
    }
}

// === impl ServerIndex ===

impl ServerIndex {
    fn of(&self, bmc: &str) -> BTreeSet<ObjectKey> {
        let found = self.by_bmc.get(bmc);
        found.map(|keys| keys.clone()).unwrap_or_default()
    }

    fn changed(&self, key: &ObjectKey, old: Option<&Server>, new: Option<&Server>) {
        let bmc = |server: &Server| {
            server
                .spec
                .bmc_ref
                .as_ref()
                .map(|reference| reference.name.clone())
        };
        reindex(&self.by_bmc, key, old.and_then(bmc), new.and_then(bmc));
        let uuid = |server: &Server| Some(server.spec.system_uuid.to_ascii_lowercase());
        reindex(&self.by_uuid, key, old.and_then(uuid), new.and_then(uuid));
    }
}

/// A wait with some chance in it, so that BMCs are not asked in step.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.85..1.15))
}
