use corten_api::corten::ServerPolicy;
use corten_api::metal::Server;
use corten_api::names;
use corten_engine::Context;
use corten_kit::gate::{self, Gate};
use corten_kit::{Events, Lease};
use corten_sim::{Contents, MachineHandle};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Lab, World};

impl Lab {
    /// The site's wishes for all machines of this laboratory: makes its ServerPolicy, or merges `spec` into it.
    pub async fn policy(&self, spec: Value) {
        let api = self.all::<ServerPolicy>();
        if api
            .get_opt(self.name())
            .await
            .expect("the policy")
            .is_some()
        {
            self.edit(&api, self.name(), json!({"spec": spec})).await;
            return;
        }
        let mut whole = json!({"selector": {"matchLabels": self.labels()}});
        if let (Some(whole), Some(more)) = (whole.as_object_mut(), spec.as_object()) {
            whole.extend(more.clone());
        }
        let policy = serde_json::from_value(json!({
            "metadata": {"name": self.name(), "labels": self.labels()}, "spec": whole,
        }))
        .expect("a ServerPolicy");
        api.create(&PostParams::default(), &policy)
            .await
            .expect("the ServerPolicy");
    }

    /// Lets the brake go, as a person does who has looked: needs [`Lab::policy`].
    pub async fn acknowledge(&self) {
        let change = json!({"metadata": {"annotations": {names::BRAKE_ACKNOWLEDGED: jiff::Timestamp::now().to_string()}}});
        self.edit(&self.all::<ServerPolicy>(), self.name(), change)
            .await;
    }

    /// The Server of a machine's first system, as it is now.
    pub async fn server_of(&self, machine: usize) -> Server {
        let machine = self.fleet().machine(machine);
        let world = self.world().await;
        world
            .server_of(&machine, 0)
            .cloned()
            .unwrap_or_else(|| panic!("machine {} has no Server", machine.index()))
    }

    /// The reasons of the Events about the object of that name, oldest first.
    pub async fn reasons(&self, name: &str) -> Vec<String> {
        let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
        let mut events = Api::<Event>::all(self.client())
            .list(&about)
            .await
            .expect("Events")
            .items;
        events.sort_by_key(|event| {
            event
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0)
        });
        events
            .into_iter()
            .filter_map(|event| event.reason)
            .collect()
    }

    /// Waits until there is an Event of this reason about the object of that name.
    #[track_caller]
    pub fn hears<'a>(&'a self, name: &'a str, reason: &'a str) -> impl Future<Output = ()> + 'a {
        let asked = std::panic::Location::caller();
        async move {
            for _ in 0..300 {
                if self.reasons(name).await.iter().any(|said| said == reason) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
            panic!(
                "{asked}: nothing says {reason} of {name}, only {:?}",
                self.reasons(name).await
            );
        }
    }

    /// Runs an engine behind `gate` until somebody is stopped there, then drops it wherever it is, as a crash would. False when it was
    /// not stopped before `ends`. It needs no Lease, so that its successor waits for none: nothing of it is left when this returns.
    pub async fn engine_until_stopped(&self, gate: Gate, ends: impl Future<Output = ()>) -> bool {
        let config = self.engine_config();
        let lease = Lease::alone(&config.instance);
        let events = Events::start(self.client(), "engine", &config.instance);
        let context = Context::new(self.client(), config, lease, events);
        let run = corten_engine::run_with(context, CancellationToken::new());
        tokio::select! {
            ended = gate::with(gate.clone(), run) => panic!("the engine ended: {ended:?}"),
            () = gate.stopped() => true,
            () = ends => false,
        }
    }
}

impl World {
    /// The Server of a system of a machine.
    pub fn server_of(&self, machine: &MachineHandle, system: usize) -> Option<&Server> {
        let systems = machine.systems();
        let uuid = systems.get(system)?.uuid.to_lowercase();
        self.servers
            .iter()
            .find(|server| server.spec.system_uuid.to_lowercase() == uuid)
    }

    /// Whether a Server's condition is so, for this reason.
    pub fn says(&self, server: &str, kind: &str, status: &str, reason: &str) -> bool {
        self.server_condition(server, kind)
            .is_some_and(|said| said.status == status && said.reason == reason)
    }
}

/// The kinds of the resets that a machine accepted, in order.
pub fn resets(machine: &MachineHandle) -> Vec<String> {
    machine
        .resets()
        .into_iter()
        .map(|reset| reset.kind)
        .collect()
}

/// Serial numbers of the drives of a machine on which something can be read.
pub fn readable_drives(machine: &MachineHandle) -> Vec<String> {
    machine
        .drives()
        .into_iter()
        .filter(|drive| drive.contents != Contents::Erased)
        .map(|drive| drive.serial)
        .collect()
}

/// An annotation of an object.
pub fn note<'a>(object: &'a impl kube::ResourceExt, key: &str) -> Option<&'a str> {
    object.annotations().get(key).map(String::as_str)
}
