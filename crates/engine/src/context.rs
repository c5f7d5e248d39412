//! What the controllers of one engine share: caches, ways to write, the fleet, the gateway.

use std::{fmt::Debug, sync::Arc};

use corten_api::{
    corten::{ServerInventory, ServerPolicy, ServerRun},
    metal::{Bmc, Endpoint, Server, ServerBootConfiguration, ServerClaim},
    names,
};
use corten_boot::{Ticket, links::Links};
use corten_kit::{Events, Lease, ObjectKey, Objects, Store, store::Relisted};
use corten_redfish::{Gateway, GatewayConfig};
use corten_wire::RootDeviceHints;
use kube::{Client, Resource, ResourceExt, core::PartialObjectMeta, runtime::watcher};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::JoinSet;

use crate::{
    boot::ResolvedImages,
    config::EngineConfig,
    connect::{Connector, ledger::Ledger},
    fleet::Fleet,
    inband::DeskSlot,
    onboarding::Onboarding,
    secret::Secrets,
};

/// A kind: its cache and the way to write it.
pub struct Kind<K> {
    /// The cache, never older than our own last write.
    pub store: Store<K>,
    /// Writes land in the cache.
    pub objects: Objects<K>,
}

/// One engine. Clones share everything.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The settings.
    pub config: Arc<EngineConfig>,
    /// Only its holder acts.
    pub lease: Lease,
    /// Events.
    pub events: Events,
    /// Endpoints of this shard.
    pub endpoints: Kind<Endpoint>,
    /// BMCs of this shard.
    pub bmcs: Kind<Bmc>,
    /// Servers of this shard.
    pub servers: Kind<Server>,
    /// Boot configurations, all.
    pub boots: Kind<ServerBootConfiguration>,
    /// Claims, all.
    pub claims: Kind<ServerClaim>,
    /// Runs, all.
    pub runs: Kind<ServerRun>,
    /// Policies, all.
    pub policies: Kind<ServerPolicy>,
    /// Metadata of inventories, all.
    pub inventory_metadata: Store<PartialObjectMeta<ServerInventory>>,
    /// Inventories: written, and read only one by one.
    pub inventories: Objects<ServerInventory>,
    /// Inventories as probes register them: a writer of its own, so that neither takes the other's fields away.
    pub(crate) registrations: Objects<ServerInventory>,
    /// Boot configurations, for what the booted systems say.
    pub(crate) booted: Objects<ServerBootConfiguration>,
    /// The one way to BMCs.
    pub gateway: Gateway,
    /// What the BMCs last said.
    pub fleet: Fleet,
    /// Places for machines that are read for the first time.
    pub(crate) onboarding: Arc<Onboarding>,
    /// From objects to BMCs.
    pub connector: Connector,
    /// What boot configurations were resolved to.
    pub(crate) resolved: ResolvedImages,
    /// What the boot services ask, while this replica acts.
    pub desk: DeskSlot,
    /// What the brake has judged of the lists of servers.
    pub(crate) judged: Arc<Mutex<Relisted>>,
}

// === impl Kind ===

impl<K> Kind<K>
where
    K: Resource<DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    /// An empty cache, to be fed by [`Kind::watch`].
    pub fn new(client: &Client) -> Self {
        Self::of(Store::new(), client)
    }

    fn of(store: Store<K>, client: &Client) -> Self {
        Self {
            objects: Objects::new(client.clone(), names::MANAGER_ENGINE, store.clone()),
            store,
        }
    }

    fn watch(&self, tasks: &mut JoinSet<()>, client: &Client, selector: Option<&str>) {
        tasks.spawn(self.store.run(client.clone(), watched(selector)));
    }
}

impl<K> Clone for Kind<K> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            objects: self.objects.clone(),
        }
    }
}

impl<K> Debug for Kind<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kind")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

fn watched(selector: Option<&str>) -> watcher::Config {
    let config = watcher::Config::default();
    match selector {
        Some(selector) => config.labels(selector),
        None => config,
    }
}

// === impl Context ===

impl Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("config", &self.config)
            .field("fleet", &self.fleet)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Everything an engine needs, with empty caches.
    pub fn new(client: Client, config: EngineConfig, lease: Lease, events: Events) -> Self {
        // What there is one or more of for each server is packed while nobody asks.
        let bmcs = Kind::of(Store::packed(), &client);
        let servers: Kind<Server> = Kind::of(Store::packed(), &client);
        let policies: Kind<ServerPolicy> = Kind::new(&client);
        let ledger = Ledger::new(bmcs.clone(), servers.clone());
        let gateway = Gateway::new(GatewayConfig {
            ledger: Arc::new(ledger.clone()),
            ..config.gateway.clone()
        });
        let connector = Connector::new(
            gateway.clone(),
            ledger,
            Secrets::new(client.clone(), names::MANAGER_ENGINE),
            config.macs.clone(),
            policies.store.clone(),
            config.assume_http_for.clone(),
        );
        let (endpoints, runs) = (
            Kind::of(Store::packed(), &client),
            Kind::of(Store::packed(), &client),
        );
        let boots = Kind::new(&client);
        events.tell_of_broken(&endpoints.store);
        events.tell_of_broken(&bmcs.store);
        events.tell_of_broken(&servers.store);
        events.tell_of_broken(&boots.store);
        events.tell_of_broken(&runs.store);
        events.tell_of_broken(&policies.store);
        Self {
            endpoints,
            bmcs,
            servers,
            boots,
            // The allocator tells of those that cannot be read.
            claims: Kind::new(&client),
            runs,
            policies,
            inventory_metadata: Store::new(),
            inventories: Objects::uncached(client.clone(), names::MANAGER_ENGINE),
            registrations: Objects::uncached(client.clone(), names::MANAGER_PROBE),
            booted: Objects::uncached(client.clone(), names::MANAGER_PROBE),
            gateway,
            fleet: Fleet::new(),
            onboarding: Arc::new(Onboarding::new(config.onboarding)),
            connector,
            resolved: ResolvedImages::default(),
            desk: DeskSlot::default(),
            judged: Arc::default(),
            lease,
            events,
            config: Arc::new(config),
            client,
        }
    }

    /// The boot configuration that `server` refers to, as the cache has it.
    pub(crate) fn boot_of(&self, server: &Server) -> Option<Arc<ServerBootConfiguration>> {
        let at = server.spec.boot_configuration_ref.as_ref()?;
        let key = ObjectKey::namespaced(&at.namespace, &at.name);
        self.boots.store.get(&key)
    }

    /// The claim that `server` refers to, as the cache has it: for its wishes, not for whether it is there.
    pub(crate) fn claim_of(&self, server: &Server) -> Option<Arc<ServerClaim>> {
        let at = server.spec.server_claim_ref.as_ref()?;
        let key = ObjectKey::namespaced(&at.namespace, &at.name);
        self.claims.store.get(&key)
    }

    /// Which disk an image is written to: as the claim says, else as the server says, else any that is the only one.
    ///
    /// # Errors
    /// What is wrong with what is said. A hint that is not known is never passed over: without it another disk would fit.
    pub(crate) fn root_device_hints(&self, server: &Server) -> Result<RootDeviceHints, String> {
        let claim = self.claim_of(server);
        let text = claim
            .as_ref()
            .and_then(|claim| claim.annotations().get(names::ROOT_DEVICE_HINTS))
            .or_else(|| server.annotations().get(names::ROOT_DEVICE_HINTS));
        text.map_or_else(|| Ok(RootDeviceHints::default()), |text| hints(text))
    }

    /// Where the boot `nonce` of `server` finds what it boots; none without boot services.
    pub(crate) fn links(&self, server: &Server, nonce: &str) -> Option<Links> {
        let services = self.config.services.as_ref()?;
        let ticket = Ticket {
            server: server.name_any(),
            server_uid: server.uid()?,
            nonce: nonce.to_owned(),
        };
        let links = services
            .address
            .links(&services.keys.current(), &ticket, None);
        links
            .inspect_err(|error| tracing::error!(server = %ticket.server, %error, "no boot token"))
            .ok()
    }

    /// Feeds the caches until the tasks are dropped. Indices and subscriptions must be in place before.
    pub fn watch(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let shard = self.config.selector.as_deref();
        self.endpoints.watch(&mut tasks, &self.client, shard);
        self.bmcs.watch(&mut tasks, &self.client, shard);
        self.servers.watch(&mut tasks, &self.client, shard);
        self.boots.watch(&mut tasks, &self.client, None);
        self.claims.watch(&mut tasks, &self.client, None);
        self.runs.watch(&mut tasks, &self.client, None);
        self.policies.watch(&mut tasks, &self.client, None);
        tasks.spawn(
            self.inventory_metadata
                .run_metadata(self.client.clone(), watched(None)),
        );
        tasks
    }

    /// Ends when every cache has its first complete list.
    pub async fn ready(&self) {
        self.endpoints.store.ready().await;
        self.bmcs.store.ready().await;
        self.servers.store.ready().await;
        self.boots.store.ready().await;
        self.claims.store.ready().await;
        self.runs.store.ready().await;
        self.policies.store.ready().await;
        self.inventory_metadata.ready().await;
    }

    /// True when every cache has its first complete list.
    pub fn is_ready(&self) -> bool {
        self.endpoints.store.is_ready()
            && self.bmcs.store.is_ready()
            && self.servers.store.is_ready()
            && self.boots.store.is_ready()
            && self.claims.store.is_ready()
            && self.runs.store.is_ready()
            && self.policies.store.is_ready()
            && self.inventory_metadata.is_ready()
    }
}

fn hints(text: &str) -> Result<RootDeviceHints, String> {
    let said: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
        .map_err(|error| format!("it is no JSON object of root-device hints: {error}"))?;
    let known = serde_json::to_value(RootDeviceHints::default()).unwrap_or_default();
    if let Some(unknown) = said.keys().find(|key| known.get(key.as_str()).is_none()) {
        let known: Vec<&str> = known
            .as_object()
            .into_iter()
            .flat_map(|known| known.keys().map(String::as_str))
            .collect();
        return Err(format!(
            "{unknown:?} is no hint that is known: {} are",
            known.join(", ")
        ));
    }
    serde_json::from_value(said.into()).map_err(|error| format!("a hint is wrong: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_that_is_not_known_is_an_error_and_no_wildcard() {
        let good = hints(r#"{"serialNumber": "S1", "minSizeGigabytes": 100}"#).unwrap();
        assert_eq!(good.serial_number.as_deref(), Some("S1"));
        for bad in [
            r#"{"serial": "S1"}"#,
            r#"{"hctl": "0:0:0:0"}"#,
            r#"{"serialNumber": 5}"#,
            "[]",
            "S1",
        ] {
            assert!(hints(bad).is_err(), "{bad}");
        }
        assert!(
            hints(r#"{"serial": "S1"}"#)
                .unwrap_err()
                .contains("serialNumber")
        );
    }
}
