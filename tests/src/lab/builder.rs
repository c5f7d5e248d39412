use std::time::Duration;

use corten_claims::ClaimsConfig;
use corten_engine::EngineConfig;
use corten_engine::macdb::MacDatabase;
use corten_sim::{Builder, Fleet, Inventory, Timing};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::{Lab, controllers::Controllers};
use crate::control_plane;

type Change = Box<dyn FnOnce(&mut EngineConfig) + Send>;

/// How a laboratory is to be: each method is a part of the sentence, the last one starts it.
pub struct LabBuilder {
    fleet: Builder,
    configure: Vec<Change>,
    allocator: bool,
    own: bool,
}

impl Default for LabBuilder {
    fn default() -> Self {
        let quick = Timing {
            post: Duration::from_millis(300),
            shutdown: Duration::from_millis(200),
            cycle: Duration::from_millis(200),
            erase: Duration::from_millis(300),
            ..Timing::default()
        };
        Self {
            fleet: Fleet::builder().machines(1).mixed().timing(quick),
            configure: Vec::new(),
            allocator: true,
            own: false,
        }
    }
}

// === impl LabBuilder ===

impl LabBuilder {
    /// With `count` machines, of several vendors in turn.
    pub fn servers(self, count: usize) -> Self {
        self.fleet(|fleet| fleet.machines(count))
    }

    /// With machines as `change` makes them: shapes, TLS, faults, timing.
    pub fn fleet(mut self, change: impl FnOnce(Builder) -> Builder) -> Self {
        self.fleet = change(self.fleet);
        self
    }

    /// With machines that have few parts, two drives among them, where many would only take time.
    pub fn small(self) -> Self {
        self.fleet(|fleet| fleet.inventory(Inventory::Small))
    }

    /// With an engine whose settings `change` changes.
    pub fn engine(mut self, change: impl FnOnce(&mut EngineConfig) + Send + 'static) -> Self {
        self.configure.push(Box::new(change));
        self
    }

    /// Without the allocator: claims are not served.
    pub fn without_claims(mut self) -> Self {
        self.allocator = false;
        self
    }

    /// With a control plane that nobody else uses, so that the test may stop and break it. Give such tests a binary of their own.
    pub fn own_control_plane(mut self) -> Self {
        self.own = true;
        self
    }

    /// Starts it, tells the API server of the machines, and waits until all are Available.
    pub async fn available(self) -> Lab {
        let lab = self.onboarding().await;
        let systems: usize = lab
            .fleet()
            .machines()
            .map(|machine| machine.systems().len())
            .sum();
        lab.eventually(|world| world.available() == systems).await;
        lab
    }

    /// Starts it and tells the API server of the machines.
    pub async fn onboarding(self) -> Lab {
        let lab = self.idle().await;
        lab.plug_in().await;
        lab
    }

    /// Starts it: machines and controllers run, and no Endpoint exists yet.
    pub async fn idle(self) -> Lab {
        crate::logs();
        let own = if self.own {
            Some(control_plane::own().await)
        } else {
            None
        };
        let client = match &own {
            Some(plane) => plane.client().expect("a client of the control plane"),
            None => control_plane::client().await,
        };
        let name = control_plane::unique("lab");
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Namespace");
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .expect("the namespace");
        let fleet = self.fleet.start().await.expect("the fleet");
        let endpoints = fleet
            .machines()
            .map(|machine| format!("{name}-{}-{:03}", machine.shape(), machine.index()))
            .collect();
        let selector = format!("{}={name}", corten_api::names::AGENT);
        let mut engine = EngineConfig {
            selector: Some(selector.clone()),
            macs: MacDatabase::only_file("the fleet's", &fleet.mac_database())
                .expect("the fleet's MAC database")
                .into(),
            namespace: name.clone(),
            instance: format!("{name}-0"),
            ..EngineConfig::default()
        };
        for change in self.configure {
            change(&mut engine);
        }
        let allocator = self.allocator.then_some(selector);
        let mut controllers = Controllers::new(client.clone(), engine, allocator);
        controllers.start_engine();
        controllers.start_claims();
        Lab {
            name,
            client,
            fleet,
            endpoints,
            controllers,
            own,
        }
    }
}

/// The allocator's settings in a laboratory.
pub(super) fn claims(selector: &str, lease: corten_kit::Lease) -> ClaimsConfig {
    ClaimsConfig {
        claims: selector.to_owned(),
        servers: selector.to_owned(),
        ..ClaimsConfig::new(lease)
    }
}
