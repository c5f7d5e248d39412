//! Reading a BMC in full: its systems become Servers, its Manager the BMC's status.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use corten_api::{
    LocalObjectReference,
    metal::{Bmc, Server, ServerSpec},
    names,
};
use corten_kit::{ObjectKey, conditions, gate};
use corten_lifecycle::{
    bmc::{Found, Known, Place, Placement, place, watch},
    identity::Identity,
};
use corten_redfish::{
    GatewayError,
    error::Phase,
    inventory::{ManagerFacts, SystemFacts},
    model::{Service, System},
};
use jiff::Timestamp;
use kube::{ResourceExt, api::ObjectMeta};
use serde_json::json;

use super::{
    BmcController, LookError,
    look::{Seen, identity},
};
use crate::{
    config::passed_on,
    connect::{ConnectError, Connected},
    failure::Failure,
    fleet::{Access, FirstRead, Link, SystemView},
};

/// How long one inventory pass may take; what was read until then is lost, and the server reads it for itself.
const INVENTORY: Duration = Duration::from_secs(300);

/// Who takes longer to log in and to list its systems waits for that without a place.
const PROMPT: Duration = Duration::from_secs(3);

const NIL_UUID: &str = "00000000-0000-0000-0000-000000000000";

/// A system and what belongs to it.
struct Shown {
    system: System,
    facts: SystemFacts,
    identity: Identity,
    place: Place,
}

impl BmcController {
    /// Reads everything.
    pub(super) async fn open(&self, bmc: &Bmc, connected: &Connected) -> Result<Seen, LookError> {
        let name = bmc.name_any();
        let access = Access::Bmc(name.as_str().into());
        gate::pass().await;
        let service = greet(connected).await.map_err(ConnectError::Gateway)?;
        gate::pass().await;
        // Until the end: what is read is some hundred kilobytes of documents, which only so many BMCs may hold at a time. Not before the
        // BMC has answered, so that a hung one never holds a place, and not through a login that hangs.
        let has_to_discover = self.has_to_discover(&name);
        let onboarding = async || match has_to_discover {
            true => self.context.onboarding.place().await,
            false => None,
        };
        let mut _place = onboarding().await;
        let reading = service.systems();
        tokio::pin!(reading);
        let systems = match tokio::time::timeout(PROMPT, &mut reading).await {
            Ok(systems) => systems,
            Err(_) => {
                _place = None;
                let systems = reading.await;
                if systems.is_ok() {
                    _place = onboarding().await;
                }
                systems
            }
        };
        gate::pass().await;
        let systems = systems.map_err(ConnectError::Gateway)?;
        let shown = self.place(&name, &access, systems)?;
        if shown.iter().any(|system| self.is_to_be_discovered(system)) {
            // The login worked: written before the long reading, so that a crash in it does not cost the login budget.
            let system = shown.first().map(|system| &system.facts);
            self.record_login(bmc, connected, system, shown.len())
                .await?;
        }
        let inventories = self.inventories(&service, &shown).await?;
        gate::pass().await;
        let from_inventory = inventories
            .iter()
            .flatten()
            .find_map(|read| read.inventory.managers.first().cloned());
        let manager = match from_inventory {
            Some(manager) => Some(manager),
            None => service
                .manager_facts()
                .await
                .map_err(ConnectError::Gateway)?
                .into_iter()
                .next(),
        };
        self.publish(&access, connected, &shown, inventories);
        for system in &shown {
            match &system.place {
                Place::New { server } => self.create_server(bmc, server, system).await?,
                Place::Is { server } => self.pass_labels_on(bmc, server).await?,
                Place::Taken { .. } => {}
            }
        }
        let names = shown
            .iter()
            .map(|system| (system.identity.clone(), server_of(system).map(Into::into)));
        self.claim(&access, &names.collect::<Vec<_>>());
        Ok(Seen::All {
            manager: manager.map(Box::<ManagerFacts>::new),
            system: shown.first().map(|system| Box::new(system.facts.clone())),
            systems: shown.len(),
            url: connected.url.to_string(),
        })
    }

    /// Which Server each system is.
    fn place(
        &self,
        name: &str,
        access: &Access,
        systems: Vec<System>,
    ) -> Result<Vec<Shown>, LookError> {
        let facts: Vec<SystemFacts> = systems.iter().map(System::facts).collect();
        let found: Vec<Found> = facts
            .iter()
            .map(|facts| Found {
                path: facts.path.clone(),
                identity: identity(facts),
            })
            .collect();
        let known: Vec<Known> = self
            .servers_of(name)
            .iter()
            .map(|server| known(server))
            .collect();
        // Said before it is asked whether others show the same, so that of two at once one is first.
        let already = |identity: &Identity| {
            known
                .iter()
                .find(|known| known.identity.is_same(identity))
                .map(|known| Arc::<str>::from(known.name.as_str()))
        };
        let claims: Vec<_> = found
            .iter()
            .map(|found| (found.identity.clone(), already(&found.identity)))
            .collect();
        self.claim(access, &claims);
        let taken = |server: &str| {
            self.context
                .servers
                .store
                .contains(&ObjectKey::cluster(server))
        };
        let elsewhere = |identity: &Identity| {
            let live = self
                .context
                .fleet
                .shown_elsewhere(access, identity)
                .map(|other| other.to_string());
            live.or_else(|| self.server_elsewhere(name, identity))
        };
        match place(name, &found, &known, taken, elsewhere) {
            Placement::OtherMachine { expected, found } => {
                self.claim(access, &[]);
                Err(LookError::OtherMachine { expected, found })
            }
            Placement::Placed { places, absent } => {
                for server in absent {
                    tracing::warn!(
                        bmc = name,
                        server,
                        "the BMC shows no system for this Server"
                    );
                }
                let all = systems.into_iter().zip(facts).zip(found).zip(places);
                Ok(all
                    .map(|(((system, facts), found), place)| Shown {
                        system,
                        facts,
                        identity: found.identity,
                        place,
                    })
                    .collect())
            }
        }
    }

    /// Says what this BMC shows; a dispute is named on both sides, also on the one that was there first.
    fn claim(&self, access: &Access, shown: &[(Identity, Option<Arc<str>>)]) {
        for other in self.context.fleet.claim(access, shown) {
            self.look_again(&other);
        }
    }

    /// A Server of surely the same machine by a BMC that this process has not read yet.
    fn server_elsewhere(&self, bmc: &str, identity: &Identity) -> Option<String> {
        let keys = self
            .servers
            .by_uuid
            .get(&identity.uuid)
            .filter(|_| !identity.uuid.is_empty())?
            .clone();
        keys.iter()
            .filter_map(|key| self.context.servers.store.get(key))
            .find_map(|server| {
                let other = server
                    .spec
                    .bmc_ref
                    .as_ref()
                    .map(|reference| reference.name.clone());
                let is_same = corten_lifecycle::bmc::dispute(&known(&server).identity, identity)
                    == Some(corten_lifecycle::bmc::Dispute::SameMachine);
                (other.as_deref() != Some(bmc) && is_same).then(|| match other {
                    Some(other) => format!("BMC {other}"),
                    None => format!("Server {}", server.name_any()),
                })
            })
    }

    /// Reads the inventories of systems whose discovery is still to come, so that discovery need not.
    async fn inventories(
        &self,
        service: &Service,
        shown: &[Shown],
    ) -> Result<Vec<Option<FirstRead>>, LookError> {
        let mut all = Vec::with_capacity(shown.len());
        for system in shown {
            if !self.is_to_be_discovered(system) {
                all.push(None);
                continue;
            }
            let read = tokio::time::timeout(INVENTORY, service.inventory(&system.system)).await;
            all.push(match read {
                Ok(Ok(inventory)) => Some(FirstRead::new(
                    system.system.document(),
                    &system.facts,
                    inventory,
                )),
                Ok(Err(error)) => return Err(ConnectError::Gateway(error).into()),
                Err(_) => None,
            });
        }
        Ok(all)
    }

    fn is_to_be_discovered(&self, system: &Shown) -> bool {
        match &system.place {
            Place::New { .. } => true,
            Place::Taken { .. } => false,
            Place::Is { server } => {
                let server = self.context.servers.store.get(&ObjectKey::cluster(server));
                server.is_some_and(|server| !is_discovered(&server))
            }
        }
    }

    /// Whether a reading of this BMC will be a long one, as far as that is known before it is read.
    fn has_to_discover(&self, bmc: &str) -> bool {
        let servers = self.servers_of(bmc);
        servers.is_empty() || !servers.iter().all(|server| is_discovered(server))
    }

    fn publish(
        &self,
        access: &Access,
        connected: &Connected,
        shown: &[Shown],
        inventories: Vec<Option<FirstRead>>,
    ) {
        let now = Timestamp::now();
        for (system, read) in shown.iter().zip(inventories) {
            if let (Some(server), Some(read)) = (server_of(system), read) {
                self.context.fleet.keep_first_read(server, read);
            }
        }
        let views: Vec<SystemView> = shown
            .iter()
            .filter_map(|system| {
                Some(SystemView {
                    server: server_of(system)?.into(),
                    facts: Arc::new(system.facts.clone()),
                    identity: system.identity.clone(),
                    read_at: now,
                    mark: None,
                })
            })
            .collect();
        self.context.fleet.change(access, |station| {
            if !station.link.is_up() {
                station.link = Link::Up { since: now };
            }
            station.bmc = Some(connected.bmc.clone());
            station.systems = views;
        });
    }

    async fn create_server(&self, bmc: &Bmc, name: &str, system: &Shown) -> Result<(), Failure> {
        let uuid = system
            .facts
            .uuid
            .as_ref()
            .map_or_else(|| NIL_UUID.to_owned(), ToString::to_string);
        let server = Server {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(self.labels_for(bmc)),
                annotations: Some(
                    [(names::IDENTITY.to_owned(), system.identity.to_string())].into(),
                ),
                finalizers: Some(vec![names::FINALIZER_SERVER.to_owned()]),
                ..ObjectMeta::default()
            },
            spec: ServerSpec {
                system_uuid: uuid,
                system_uri: Some(system.facts.path.clone()),
                bmc_ref: Some(LocalObjectReference::from(bmc.name_any())),
                ..ServerSpec::default()
            },
            status: None,
        };
        match self.context.servers.objects.create(&server).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_conflict() => self.adopt(bmc, name, error).await,
            Err(error) => Err(Failure::at("create Server")(error)),
        }
    }

    /// A Server of this name exists and our cache does not have it: after a change of shard it carries the old label.
    async fn adopt(
        &self,
        bmc: &Bmc,
        name: &str,
        conflict: corten_kit::Error,
    ) -> Result<(), Failure> {
        let live = self
            .context
            .servers
            .objects
            .live(&ObjectKey::cluster(name))
            .await
            .map_err(Failure::at("observe"))?;
        let is_ours = live
            .spec
            .bmc_ref
            .as_ref()
            .is_some_and(|reference| reference.name == bmc.name_any());
        if !is_ours {
            // Seen from now on, so that the next look passes the name over.
            self.context.servers.store.wrote((*live).clone());
            return Err(Failure::at("create Server")(conflict));
        }
        let patch = json!({ "metadata": { "labels": self.labels_for(bmc) } });
        self.context
            .servers
            .objects
            .merge(&live, patch, false)
            .await
            .map_err(Failure::at("label Server"))?;
        Ok(())
    }

    async fn pass_labels_on(&self, bmc: &Bmc, server: &str) -> Result<(), Failure> {
        let Some(server) = self.context.servers.store.get(&ObjectKey::cluster(server)) else {
            return Ok(());
        };
        let labels = self.labels_for(bmc);
        if labels
            .iter()
            .all(|(key, value)| server.labels().get(key) == Some(value))
        {
            return Ok(());
        }
        let patch = json!({ "metadata": { "labels": labels } });
        self.context
            .servers
            .objects
            .merge(&server, patch, false)
            .await
            .map_err(Failure::at("label Server"))?;
        Ok(())
    }

    fn labels_for(&self, bmc: &Bmc) -> BTreeMap<String, String> {
        let mut labels = passed_on(Some(bmc.labels()));
        labels.extend(self.context.config.demanded_labels());
        labels
    }
}

/// The service root, as quickly as a poll: a BMC that keeps silent must not hold the look that confirms its loss.
pub(crate) async fn greet(connected: &Connected) -> Result<Service, GatewayError> {
    match tokio::time::timeout(watch::DEADLINE, Service::open(&connected.bmc)).await {
        Ok(service) => service,
        Err(_) => Err(GatewayError::Timeout {
            authority: connected.url.authority().into(),
            phase: Phase::Headers,
            after: watch::DEADLINE,
        }),
    }
}

fn is_discovered(server: &Server) -> bool {
    let conditions = server
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    conditions::is_true(conditions.unwrap_or_default(), names::CONDITION_DISCOVERED)
}

fn server_of(system: &Shown) -> Option<&str> {
    match &system.place {
        Place::Is { server } | Place::New { server } => Some(server),
        Place::Taken { .. } => None,
    }
}

/// A Server's identity as recorded: the annotation, else what spec and status say.
fn known(server: &Server) -> Known {
    let identity = match server.annotations().get(names::IDENTITY) {
        Some(text) => Identity::parse(text),
        None => {
            let serial = server
                .status
                .as_ref()
                .and_then(|status| status.serial_number.as_deref());
            Identity::new(&server.spec.system_uuid, serial.unwrap_or_default())
        }
    };
    Known {
        name: server.name_any(),
        identity,
        path: server.spec.system_uri.clone(),
    }
}
