//! One look at a BMC: the way to it, then all of it or only what changes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use corten_api::{metal::Bmc, names};
use corten_kit::{ObjectKey, conditions};
use corten_lifecycle::{bmc::watch, identity::Identity};
use corten_redfish::{
    Bmc as Handle, GatewayError, Method, Priority, Request,
    inventory::{ManagerFacts, SystemFacts},
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::{BmcController, Held, LookError, Memory};
use crate::{
    connect::{ConnectError, Connected, Wanted, Way},
    failure::Failure,
    fleet::{Access, Link, PollMark, SystemView},
};

/// A Secret is read again after this time, so that a changed password is used before the old one fails.
const SECRET_FRESH: Duration = Duration::from_secs(300);

/// Everything is read again after this time: firmware, new systems.
const ALL_FRESH: Duration = Duration::from_secs(600);

/// What a look saw.
#[derive(Debug)]
pub(super) enum Seen {
    /// All of it.
    All {
        /// The BMC itself, where it has a Manager.
        manager: Option<Box<ManagerFacts>>,
        /// Its only or first system, which says what managers leave out.
        system: Option<Box<SystemFacts>>,
        /// How many systems it has.
        systems: usize,
        /// Its address, for messages.
        url: String,
    },
    /// Only what changes, and that is in the fleet.
    Poll,
}

impl BmcController {
    /// Looks once.
    pub(super) async fn look(
        &self,
        bmc: &Bmc,
        wanted: Wanted,
        memory: &mut Memory,
    ) -> Result<Seen, LookError> {
        let connected = self.way(bmc, wanted, memory).await?;
        if let Some(held) = &memory.held {
            let still = self.is_still_held(bmc, held.until);
            if held.secret_version == connected.secret_version && still {
                let why = "the last login was refused".into();
                return Err(ConnectError::Gateway(GatewayError::LoginHeld {
                    until: held.until,
                    why,
                })
                .into());
            }
            memory.held = None;
        }
        let is_fresh = memory.opened_at.is_some_and(|at| at.elapsed() < ALL_FRESH);
        let looked = if is_fresh {
            self.poll(bmc, &connected, memory).await
        } else {
            self.open(bmc, &connected).await
        };
        match looked {
            Ok(seen) => {
                if matches!(seen, Seen::All { .. }) {
                    memory.opened_at = Some(Instant::now());
                }
                memory.last_seen = Some(Timestamp::now());
                memory.failures = 0;
                Ok(seen)
            }
            Err(error) => {
                self.remember_refusal(bmc, &connected, &error, memory);
                if let LookError::Connect(ConnectError::Gateway(GatewayError::TlsFailed {
                    ..
                })) = &error
                {
                    // Whoever mends it puts another authority into the Secret or a policy, which nothing here watches.
                    memory.secret_at = None;
                }
                Err(error)
            }
        }
    }

    /// The way to the BMC: the present one while nothing it rests on has changed.
    async fn way(
        &self,
        bmc: &Bmc,
        mut wanted: Wanted,
        memory: &mut Memory,
    ) -> Result<Connected, LookError> {
        let is_fresh = memory
            .secret_at
            .is_some_and(|at| at.elapsed() < SECRET_FRESH)
            && memory.held.is_none();
        if let Some(connected) = &memory.connected
            && memory.wanted.as_ref() == Some(&wanted)
            && is_fresh
        {
            return Ok(connected.clone());
        }
        if memory
            .wanted
            .as_ref()
            .is_some_and(|old| (&old.host, &old.protocol) != (&wanted.host, &wanted.protocol))
        {
            // Another address, or another port of it, must show the same machine.
            memory.opened_at = None;
        }
        memory.connected = None;
        memory.wanted = Some(wanted.clone());
        self.rotate_factory_credentials(bmc, &wanted, memory)
            .await?;
        let connected = match self.context.connector.connect(&wanted).await? {
            Way::Open(connected) => connected,
            Way::PinFirst(handle) => {
                wanted.pin = Some(self.pin(bmc, &handle).await?);
                memory.wanted = Some(wanted.clone());
                match self.context.connector.connect(&wanted).await? {
                    Way::Open(connected) => connected,
                    Way::PinFirst(_) => {
                        return Err(ConnectError::BadPin(wanted.pin.unwrap_or_default()).into());
                    }
                }
            }
        };
        memory.secret_at = Some(Instant::now());
        memory.connected = Some(connected.clone());
        Ok(connected)
    }

    /// Looks at the certificate without credentials and writes its pin down.
    async fn pin(&self, bmc: &Bmc, handle: &Handle) -> Result<String, LookError> {
        handle.service_root().await.map_err(ConnectError::Gateway)?;
        let pin = handle
            .observed_pin()
            .map(|pin| pin.to_string())
            .unwrap_or_default();
        let patch = json!({ "metadata": { "annotations": { names::TLS_PIN: pin } } });
        self.context
            .bmcs
            .objects
            .merge(bmc, patch, true)
            .await
            .map_err(Failure::at("pin certificate"))?;
        tracing::info!(bmc = %bmc.name_any(), pin, "certificate pinned at first sight");
        Ok(pin)
    }

    /// A person may take a hold back by removing the annotation, unless this process itself was refused.
    fn is_still_held(&self, bmc: &Bmc, until: Timestamp) -> bool {
        let now = Timestamp::now();
        let known = self
            .context
            .connector
            .ledger
            .held_until(&bmc.name_any())
            .is_some_and(|until| until > now);
        known || (until > now && bmc.annotations().contains_key(names::NEXT_LOGIN_ATTEMPT))
    }

    fn remember_refusal(
        &self,
        bmc: &Bmc,
        connected: &Connected,
        error: &LookError,
        memory: &mut Memory,
    ) {
        let LookError::Connect(ConnectError::Gateway(error)) = error else {
            return;
        };
        let known = || self.context.connector.ledger.held_until(&bmc.name_any());
        let (until, refused) = match error {
            // What was said before a restart still tells a refusal from a crash.
            GatewayError::LoginHeld { until, .. } => (*until, said_auth_failed(bmc)),
            GatewayError::AuthFailed { .. } => (
                known().unwrap_or_else(|| Timestamp::now() + corten_lifecycle::login::BUDGET),
                true,
            ),
            _ => return,
        };
        memory.held = Some(Held {
            until,
            secret_version: connected.secret_version.clone(),
            next_factory: connected
                .factory
                .filter(|_| refused)
                .map(|factory| factory + 1),
        });
    }

    /// Asks each system whether it changed.
    async fn poll(
        &self,
        bmc: &Bmc,
        connected: &Connected,
        memory: &mut Memory,
    ) -> Result<Seen, LookError> {
        let access = Access::Bmc(bmc.name_any().into());
        let Some(station) = self.context.fleet.station(&access) else {
            memory.opened_at = None;
            return self.open(bmc, connected).await;
        };
        if station.systems.is_empty() {
            // Nothing to ask but whether it is there.
            let request = Request::new(Method::Get, "/redfish/v1/", Priority::Control)
                .deadline(watch::DEADLINE);
            connected
                .bmc
                .send(request)
                .await
                .map_err(ConnectError::Gateway)?;
        }
        let is_gone = |system: &SystemView| {
            let key = ObjectKey::cluster(&system.server);
            !self.context.servers.store.contains(&key)
        };
        if station.systems.iter().any(is_gone) {
            // Somebody deleted a Server, and its machine is still there: it is found anew.
            return self.open(bmc, connected).await;
        }
        let mut changed = Vec::new();
        for system in &station.systems {
            match ask(&connected.bmc, system).await {
                Ok(None) => {}
                Ok(Some(view)) if view.identity.contradicts(&system.identity) => {
                    return self.open(bmc, connected).await;
                }
                Ok(Some(view)) => changed.push(view),
                // A system that moved or went: the whole is read again.
                Err(GatewayError::Status {
                    code: 404 | 410, ..
                }) => return self.open(bmc, connected).await,
                Err(error) => return Err(ConnectError::Gateway(error).into()),
            }
        }
        let now = Timestamp::now();
        self.context.fleet.change(&access, |station| {
            if !station.link.is_up() {
                station.link = Link::Up { since: now };
            }
            for system in &mut station.systems {
                match changed.iter().find(|view| view.server == system.server) {
                    Some(view) => *system = view.clone(),
                    None => system.read_at = now,
                }
            }
        });
        Ok(Seen::Poll)
    }
}

/// Reads a system if it changed since `old`.
pub(crate) async fn ask(
    bmc: &Handle,
    old: &SystemView,
) -> Result<Option<SystemView>, GatewayError> {
    let mut request = Request::new(Method::Get, old.facts.path.clone(), Priority::Control)
        .deadline(watch::DEADLINE);
    if let Some(etag) = old.mark.as_ref().and_then(|mark| mark.etag.as_deref()) {
        request = request.if_none_match(etag);
    }
    let reply = bmc.send(request).await?;
    let mark = PollMark {
        etag: reply.etag.as_deref().map(Arc::from),
        seen: reply.seen(),
    };
    if reply.status == 304 || old.mark.as_ref().is_some_and(|old| old.seen == mark.seen) {
        return Ok(None);
    }
    let facts = SystemFacts::read(&reply.into_document());
    // Some BMCs show a system without its identity while they start.
    let identity = identity(&facts);
    Ok(Some(SystemView {
        facts: Arc::new(facts),
        identity,
        read_at: Timestamp::now(),
        mark: Some(mark),
        ..old.clone()
    }))
}

pub(super) fn said_auth_failed(bmc: &Bmc) -> bool {
    let conditions = bmc
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    conditions::get(conditions, names::CONDITION_READY)
        .is_some_and(|ready| ready.reason == "AuthFailed")
}

/// A system's identity, parts that tell nothing emptied.
pub(crate) fn identity(facts: &SystemFacts) -> Identity {
    let uuid = facts
        .uuid
        .as_ref()
        .map(|uuid| uuid.as_str())
        .unwrap_or_default();
    Identity::new(uuid, facts.serial_number.as_deref().unwrap_or_default())
}
