//! A laboratory: a real API server, simulated machines, the engine and the allocator in this process.
//!
//! ```text
//! let lab = Lab::start().servers(100).available().await;
//! let claims = lab.claim_many(200).await;
//! lab.eventually(|w| w.bound() == 100 && w.waiting() == 100).await;
//! assert_eq!(lab.servers_bound_twice().await, [""; 0]);
//! ```
//!
//! Each laboratory has a namespace and a label of its own on the control plane that the tests of a binary share, so that
//! many of them work side by side; its machines listen on loopback addresses of their own. When it is dropped, its
//! controllers and machines stop; its objects go with the control plane, at the end of the process. Use
//! `#[tokio::test(flavor = "multi_thread")]`.

mod builder;
mod claims;
mod controllers;
mod report;
mod wishes;
mod world;

use std::collections::BTreeMap;
use std::panic::Location;
use std::time::Duration;

use corten_controlplane::ControlPlane;
use corten_sim::Fleet;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

pub use self::builder::LabBuilder;
use self::controllers::Controllers;
pub use self::wishes::{note, readable_drives, resets};
pub use self::world::World;

/// How often the world is looked at while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// How long something may take, beside a share for each machine. Generous: other work may have the processors.
const PATIENCE: Duration = Duration::from_secs(90);

/// See the [module](self).
pub struct Lab {
    name: String,
    client: Client,
    fleet: Fleet,
    endpoints: Vec<String>,
    // Dropped in this order: nobody works any more when the control plane goes.
    controllers: Controllers,
    own: Option<ControlPlane>,
}

// === impl Lab ===

impl Lab {
    /// Begins the sentence; see [`LabBuilder`] for how it goes on.
    pub fn start() -> LabBuilder {
        LabBuilder::default()
    }

    /// Name of the laboratory, of its namespace, and value of its label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace: claims, boot configurations and Leases.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// The label that all its objects carry, as a selector.
    pub fn selector(&self) -> String {
        format!("{}={}", corten_api::names::AGENT, self.name)
    }

    /// The label that all its objects carry.
    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(corten_api::names::AGENT.to_owned(), self.name.clone())])
    }

    /// An administrator's client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The machines.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The control plane, if it is this laboratory's own: [`LabBuilder::own_control_plane`].
    pub fn control_plane(&mut self) -> &mut ControlPlane {
        self.own
            .as_mut()
            .expect("a control plane of its own: Lab::start().own_control_plane()")
    }

    /// Name of the Endpoint of machine `index`, and of the BMC that comes of it.
    pub fn endpoint(&self, index: usize) -> &str {
        &self.endpoints[index]
    }

    /// All cluster-scoped or all namespaces' objects of a kind.
    pub fn all<K: kube::Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client())
    }

    /// Objects of a kind in the laboratory's namespace.
    pub fn here<K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
        &self,
    ) -> Api<K> {
        Api::namespaced(self.client(), &self.name)
    }

    /// Tells the API server of every machine that it has not been told of yet.
    pub async fn plug_in(&self) {
        let api = self.all::<corten_api::metal::Endpoint>();
        for (machine, name) in self.fleet.machines().zip(&self.endpoints) {
            let endpoint = serde_json::from_value(json!({
                "metadata": {"name": name, "labels": self.labels()},
                "spec": {"macAddress": machine.mac().to_string(), "ip": machine.ip().to_string()},
            }))
            .expect("an Endpoint");
            match api.create(&PostParams::default(), &endpoint).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => panic!("Endpoint {name}: {error}"),
            }
        }
    }

    /// Everything of this laboratory, read from the API server now.
    pub async fn world(&self) -> World {
        World::read(&self.client, &self.name, &self.selector())
            .await
            .expect("the world")
    }

    /// Waits until `holds`, and panics with a report of everything if it does not within a generous bound.
    #[track_caller]
    pub fn eventually<'a>(
        &'a self,
        holds: impl Fn(&World) -> bool + 'a,
    ) -> impl Future<Output = World> + 'a {
        let share =
            Duration::from_millis(400) * u32::try_from(self.fleet.len()).unwrap_or(u32::MAX);
        self.within(PATIENCE + share, holds)
    }

    /// The same with another bound.
    #[track_caller]
    pub fn within<'a>(
        &'a self,
        bound: Duration,
        holds: impl Fn(&World) -> bool + 'a,
    ) -> impl Future<Output = World> + 'a {
        let asked = Location::caller();
        async move {
            let deadline = Instant::now() + bound;
            let mut last = None;
            loop {
                // The API server may be away while a test breaks it.
                if let Ok(Ok(world)) = timeout(
                    Duration::from_secs(10),
                    World::read(&self.client, &self.name, &self.selector()),
                )
                .await
                {
                    if holds(&world) {
                        return world;
                    }
                    last = Some(world);
                }
                if Instant::now() >= deadline {
                    let report = report::write(self, last.as_ref()).await;
                    panic!(
                        "what {asked} waits for did not come in {} s\n{report}",
                        bound.as_secs()
                    );
                }
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Panics if `holds` ceases to be true within `time`: for what must not happen.
    #[track_caller]
    pub fn stays<'a>(
        &'a self,
        time: Duration,
        holds: impl Fn(&World) -> bool + 'a,
    ) -> impl Future<Output = ()> + 'a {
        let asked = Location::caller();
        async move {
            let end = Instant::now() + time;
            while Instant::now() < end {
                let world = self.world().await;
                if !holds(&world) {
                    let report = report::write(self, Some(&world)).await;
                    panic!("what {asked} wants to stay true became false\n{report}");
                }
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Merges `change` into an object, as `kubectl annotate` or a person's editor would.
    pub async fn edit<K>(&self, api: &Api<K>, name: &str, change: Value) -> K
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let params = PatchParams {
            field_manager: Some("somebody".to_owned()),
            ..PatchParams::default()
        };
        api.patch(name, &params, &Patch::Merge(change))
            .await
            .unwrap_or_else(|error| panic!("edit {name}: {error}"))
    }

    /// Annotates a Server as an operator would.
    pub async fn annotate_server(&self, name: &str, key: &str, value: &str) {
        let change = json!({"metadata": {"annotations": {key: value}}});
        self.edit(&self.all::<corten_api::metal::Server>(), name, change)
            .await;
    }

    /// Asks for the deletion of an object; returns at once.
    pub async fn delete<K>(&self, api: &Api<K>, name: &str)
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        api.delete(name, &DeleteParams::default())
            .await
            .unwrap_or_else(|error| panic!("delete {name}: {error}"));
    }

    /// The controllers' ends, for a report: empty while they run.
    pub(crate) fn ended(&self) -> Vec<String> {
        self.controllers.ended()
    }
}
