//! BMCs without an object: `Server.spec.bmc`. Connects, finds the system, and keeps looking, as for a BMC object.
//!
//! What is seen goes into the [`crate::fleet::Fleet`] under [`Access::Inline`]; the server controller shows it on the
//! Server. The pin and the login budget are annotations on the Server.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use corten_api::{
    metal::{InlineBmc, Server},
    names,
};
use corten_kit::{Driver, Next, ObjectKey, Reconcile, conditions};
use corten_lifecycle::{
    annotation,
    bmc::{watch, words},
    identity::Identity,
};
use corten_redfish::{GatewayError, inventory::SystemFacts, model::System};
use dashmap::DashMap;
use jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::RwLock;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Context,
    bmc::{ask, greet, identity, secret_key},
    connect::{ConnectError, Connected, Wanted, Way},
    failure::Failure,
    fleet::{Access, FirstRead, Link, SystemView},
};

/// Everything, the Secret included, is read again after this time.
const FRESH: Duration = Duration::from_secs(600);

/// The controller.
#[derive(Debug)]
pub struct InlineController {
    context: Context,
    memories: DashMap<ObjectKey, Memory>,
    /// Servers that have, or had, their access inline.
    servers: Arc<RwLock<BTreeSet<ObjectKey>>>,
}

#[derive(Debug, Default)]
struct Memory {
    wanted: Option<Wanted>,
    connected: Option<Connected>,
    opened_at: Option<Instant>,
    failures: u32,
    next_look: Option<Instant>,
    held: Option<(Timestamp, String)>,
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(
        "the BMC shows no system with {wanted}, but {found}; correct spec.systemUUID or spec.bmc.address"
    )]
    NoSuchSystem { wanted: String, found: String },
    #[error(transparent)]
    Api(#[from] Failure),
}

// === impl InlineController ===

impl InlineController {
    /// A controller on `context`; its index is in place before the caches are fed.
    pub fn new(context: Context) -> Self {
        let servers: Arc<RwLock<BTreeSet<ObjectKey>>> = Arc::default();
        let index = servers.clone();
        context.servers.store.observe(move |key, _, new| {
            if new.is_some_and(|server| inline(server).is_some()) {
                index.write().insert(key.clone());
            }
        });
        Self {
            context,
            memories: DashMap::new(),
            servers,
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        self.memories.clear();
        let (sender, changes) = mpsc::unbounded_channel();
        let mut servers = self.context.servers.store.subscribe();
        let index = self.servers.clone();
        let pump = async move {
            while let Some(key) = servers.recv().await {
                if index.read().contains(&key) {
                    let _ = sender.send(key);
                }
            }
        };
        let driver = Driver::new("inline", self.context.config.concurrency);
        tokio::select! {
            () = pump => {}
            () = driver.run(self.clone(), changes, shutdown) => {}
        }
    }

    fn wanted(&self, server: &Server, bmc: &InlineBmc) -> Result<Wanted, ConnectError> {
        if bmc.address.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let secret = secret_key(
            &self.context,
            bmc.secret_ref
                .as_ref()
                .map(|reference| (reference.namespace.as_str(), reference.name.as_str())),
            bmc.bmc_secret_ref
                .as_ref()
                .map(|reference| reference.name.as_str()),
        )?;
        Ok(Wanted {
            target: Access::Inline(server.name_any().into()).target_name(),
            host: bmc.address.clone(),
            protocol: bmc.protocol.clone(),
            secret,
            mac: None,
            pin: server.annotations().get(names::TLS_PIN).cloned(),
            labels: server.labels().clone(),
        })
    }

    async fn look(
        &self,
        server: &Server,
        wanted: Wanted,
        memory: &mut Memory,
    ) -> Result<(), LookError> {
        let connected = self.way(server, wanted, memory).await?;
        if let Some((until, version)) = memory.held.take()
            && version == connected.secret_version
            && until > Timestamp::now()
        {
            memory.held = Some((until, version));
            let why = "the last login was refused".into();
            return Err(ConnectError::Gateway(GatewayError::LoginHeld { until, why }).into());
        }
        let access = Access::Inline(server.name_any().into());
        let polled = memory.opened_at.is_some_and(|at| at.elapsed() < FRESH);
        let looked = match self
            .context
            .fleet
            .station(&access)
            .and_then(|station| station.systems.first().cloned())
        {
            Some(system) if polled => self.poll(&access, &connected, &system).await,
            _ => {
                let opened = self.open(server, &access, &connected).await;
                memory.opened_at = opened.is_ok().then(Instant::now);
                opened
            }
        };
        if let Err(LookError::Connect(ConnectError::Gateway(error))) = &looked {
            let until = match error {
                GatewayError::LoginHeld { until, .. } => Some(*until),
                GatewayError::AuthFailed { .. } => self
                    .context
                    .connector
                    .ledger
                    .held_until(&access.target_name()),
                _ => None,
            };
            memory.held = until.map(|until| (until, connected.secret_version.clone()));
        }
        looked
    }

    async fn way(
        &self,
        server: &Server,
        mut wanted: Wanted,
        memory: &mut Memory,
    ) -> Result<Connected, LookError> {
        let is_fresh = memory.opened_at.is_some_and(|at| at.elapsed() < FRESH);
        if let Some(connected) = &memory.connected
            && memory.wanted.as_ref() == Some(&wanted)
            && is_fresh
        {
            return Ok(connected.clone());
        }
        memory.opened_at = None;
        memory.connected = None;
        memory.wanted = Some(wanted.clone());
        let connected = match self.context.connector.connect(&wanted).await? {
            Way::Open(connected) => connected,
            Way::PinFirst(handle) => {
                handle.service_root().await.map_err(ConnectError::Gateway)?;
                let pin = handle
                    .observed_pin()
                    .map(|pin| pin.to_string())
                    .unwrap_or_default();
                let patch = json!({ "metadata": { "annotations": { names::TLS_PIN: pin } } });
                let objects = &self.context.servers.objects;
                objects
                    .merge(server, patch, true)
                    .await
                    .map_err(Failure::at("pin certificate"))?;
                wanted.pin = Some(pin.clone());
                memory.wanted = Some(wanted.clone());
                match self.context.connector.connect(&wanted).await? {
                    Way::Open(connected) => connected,
                    Way::PinFirst(_) => return Err(ConnectError::BadPin(pin).into()),
                }
            }
        };
        memory.connected = Some(connected.clone());
        Ok(connected)
    }

    async fn open(
        &self,
        server: &Server,
        access: &Access,
        connected: &Connected,
    ) -> Result<(), LookError> {
        let service = greet(connected).await.map_err(ConnectError::Gateway)?;
        let systems = service.systems().await.map_err(ConnectError::Gateway)?;
        let (system, facts) = choose(server, systems)?;
        let conditions = server
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        if !conditions::is_true(conditions, names::CONDITION_DISCOVERED) {
            let inventory = service
                .inventory(&system)
                .await
                .map_err(ConnectError::Gateway)?;
            let read = FirstRead::new(system.document(), &facts, inventory);
            self.context.fleet.keep_first_read(&server.name_any(), read);
        }
        let name: Arc<str> = server.name_any().into();
        let identity = identity(&facts);
        self.context
            .fleet
            .claim(access, &[(identity.clone(), Some(name.clone()))]);
        let now = Timestamp::now();
        self.context.fleet.change(access, |station| {
            if !station.link.is_up() {
                station.link = Link::Up { since: now };
            }
            station.bmc = Some(connected.bmc.clone());
            let facts = Arc::new(facts);
            station.systems = vec![SystemView {
                server: name,
                facts,
                identity,
                read_at: now,
                mark: None,
            }];
        });
        Ok(())
    }

    async fn poll(
        &self,
        access: &Access,
        connected: &Connected,
        system: &SystemView,
    ) -> Result<(), LookError> {
        let seen = ask(&connected.bmc, system)
            .await
            .map_err(ConnectError::Gateway)?;
        let now = Timestamp::now();
        self.context.fleet.change(access, |station| {
            if !station.link.is_up() {
                station.link = Link::Up { since: now };
            }
            if let Some(system) = station.systems.first_mut() {
                match seen {
                    Some(view) => *system = view,
                    None => system.read_at = now,
                }
            }
        });
        Ok(())
    }

    /// The time to the next look; the server controller shows what went wrong.
    fn failed(&self, access: &Access, error: &LookError, memory: &mut Memory) -> Duration {
        let was_up = self
            .context
            .fleet
            .station(access)
            .is_some_and(|station| station.link.is_up());
        let (reason, is_silence) = match error {
            LookError::Connect(error) => (error.reason(), error.is_silence()),
            LookError::NoSuchSystem { .. } => ("IdentityMismatch", false),
            LookError::Api(_) => ("Internal", false),
        };
        if is_silence {
            memory.failures = memory.failures.saturating_add(1);
            if was_up && !watch::is_lost(memory.failures) {
                return watch::wait(memory.failures, rand::random());
            }
        }
        memory.opened_at = None;
        let message = error.to_string();
        self.context.fleet.change(access, |station| {
            // The words of a silence vary; the first ones stand.
            if !matches!(&station.link, Link::Down { reason: said, .. } if **said == *reason) {
                station.link = Link::Down {
                    reason: reason.into(),
                    message: message.into(),
                    since: Timestamp::now(),
                };
            }
        });
        if is_silence {
            watch::wait(memory.failures, rand::random())
        } else {
            Duration::from_secs(20).mul_f64(rand::random_range(0.85..1.15))
        }
    }

    async fn forget(&self, key: &ObjectKey) {
        let access = Access::Inline(key.name().into());
        self.memories.remove(key);
        self.servers.write().remove(key);
        self.context.gateway.forget(&access.target_name()).await;
        self.context.connector.ledger.forget(&access.target_name());
        self.context.fleet.forget(&access);
    }

    async fn step(
        &self,
        server: &Server,
        bmc: &InlineBmc,
        memory: &mut Memory,
    ) -> Result<Next, Failure> {
        let access = Access::Inline(server.name_any().into());
        let wanted = self.wanted(server, bmc);
        let now = Instant::now();
        if let (Ok(wanted), Some(at)) = (&wanted, memory.next_look)
            && memory.wanted.as_ref() == Some(wanted)
            && at > now
        {
            return Ok(Next::After(at - now));
        }
        let looked = match wanted {
            Ok(wanted) => self.look(server, wanted, memory).await,
            Err(error) => Err(error.into()),
        };
        let wait = match looked {
            Ok(()) => {
                memory.failures = 0;
                watch::wait(0, rand::random())
            }
            Err(LookError::Api(failure)) => return Err(failure),
            Err(error) => self.failed(&access, &error, memory),
        };
        memory.next_look = Some(Instant::now() + wait);
        Ok(Next::After(wait))
    }
}

impl Reconcile for InlineController {
    type Error = Failure;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Failure> {
        let server = self.context.servers.store.get(key);
        let Some((server, bmc)) = server
            .as_ref()
            .and_then(|server| Some((server, inline(server)?)))
        else {
            self.forget(key).await;
            return Ok(Next::Done);
        };
        if annotation::is_ignored(server.annotations()) {
            return Ok(Next::Done);
        }
        let mut memory = self
            .memories
            .remove(key)
            .map(|(_, memory)| memory)
            .unwrap_or_default();
        let next = self.step(server, bmc, &mut memory).await;
        self.memories.insert(key.clone(), memory);
        next
    }
}

/// The inline access, where it is the one that counts.
fn inline(server: &Server) -> Option<&InlineBmc> {
    server
        .spec
        .bmc
        .as_ref()
        .filter(|_| server.spec.bmc_ref.is_none())
}

/// The system that the Server means: by UUID; without one of its own by path; without either the only one.
fn choose(server: &Server, systems: Vec<System>) -> Result<(System, SystemFacts), LookError> {
    let serial = server
        .status
        .as_ref()
        .and_then(|status| status.serial_number.as_deref())
        .unwrap_or_default();
    let wanted = match server.annotations().get(names::IDENTITY) {
        Some(text) => Identity::parse(text),
        None => Identity::new(&server.spec.system_uuid, serial),
    };
    let mut all: Vec<(System, SystemFacts)> = systems
        .into_iter()
        .map(|system| (system.facts(), system))
        .map(|(facts, system)| (system, facts))
        .collect();
    let path = server
        .spec
        .system_uri
        .as_deref()
        .unwrap_or_default()
        .trim_end_matches('/');
    let place = if wanted.is_empty() {
        let by_path = all.iter().position(|(system, _)| {
            !path.is_empty() && system.path().trim_end_matches('/') == path
        });
        by_path.or((all.len() == 1).then_some(0))
    } else {
        all.iter()
            .position(|(_, facts)| !wanted.contradicts(&identity(facts)))
    };
    match place {
        Some(place) => Ok(all.swap_remove(place)),
        None => {
            let found = all
                .iter()
                .map(|(_, facts)| words(&identity(facts)))
                .collect::<Vec<_>>()
                .join("; ");
            Err(LookError::NoSuchSystem {
                wanted: words(&wanted),
                found,
            })
        }
    }
}
