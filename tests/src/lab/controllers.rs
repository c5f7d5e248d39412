use std::sync::{Arc, Mutex};

use corten_engine::{DeskSlot, EngineConfig, EngineDesk};
use corten_kit::Lease;
use kube::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Lab, builder};
use crate::control_plane;

/// The engine and the allocator of a laboratory, each as one task.
pub(super) struct Controllers {
    client: Client,
    config: EngineConfig,
    selector: Option<String>,
    starts: u32,
    engine: Option<Running>,
    claims: Option<Running>,
    desk: Arc<Mutex<DeskSlot>>,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

// === impl Controllers ===

impl Controllers {
    pub(super) fn new(client: Client, config: EngineConfig, selector: Option<String>) -> Self {
        Self {
            client,
            config,
            selector,
            starts: 0,
            engine: None,
            claims: None,
            desk: Arc::default(),
        }
    }

    pub(super) fn start_engine(&mut self) {
        // As in production, each process has a name of its own; the Lease tells them apart by it.
        self.starts += 1;
        let mut config = self.config.clone();
        config.instance = format!("{}-{}", config.namespace, self.starts);
        let (client, stop) = (self.client.clone(), CancellationToken::new());
        let run = {
            let stop = stop.clone();
            let desk = self.desk.clone();
            let tell = move |context: &corten_engine::Context| {
                *desk.lock().expect("nobody panics here") = context.desk.clone();
            };
            async move {
                if let Err(error) = corten_engine::run_told(client, config, stop, tell).await {
                    eprintln!("the engine ended: {error}");
                }
            }
        };
        self.engine = Some(Running {
            stop,
            task: tokio::spawn(run),
        });
    }

    pub(super) fn start_claims(&mut self) {
        let Some(selector) = &self.selector else {
            return;
        };
        self.starts += 1;
        let lease = Lease::alone(&format!("{}-claims-{}", self.config.namespace, self.starts));
        let config = builder::claims(selector, lease);
        let (client, stop) = (self.client.clone(), CancellationToken::new());
        let task = tokio::spawn(corten_claims::run(client, config, stop.clone()));
        self.claims = Some(Running { stop, task });
    }

    pub(super) fn ended(&self) -> Vec<String> {
        [("engine", &self.engine), ("allocator", &self.claims)]
            .into_iter()
            .filter_map(|(name, running)| match running {
                None => Some(format!("the {name} does not run")),
                Some(running) if running.task.is_finished() => {
                    Some(format!("the {name} has ended by itself"))
                }
                Some(_) => None,
            })
            .collect()
    }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("a controller ends in order");
    }

    /// The future is dropped wherever it waits, as when a process is killed.
    async fn cut(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        for running in [&self.engine, &self.claims].into_iter().flatten() {
            running.stop.cancel();
            running.task.abort();
        }
    }
}

impl Lab {
    /// Where the boot services ask this engine, for tests that play the machine or its probe.
    pub fn desk(&self) -> EngineDesk {
        let slot = self.controllers.desk.lock().expect("nobody panics here");
        EngineDesk::new(slot.clone())
    }

    /// Ends the engine in order.
    pub async fn stop_engine(&mut self) {
        if let Some(engine) = self.controllers.engine.take() {
            engine.end().await;
        }
    }

    /// Ends the engine wherever it is, as a crash would; its Lease stays held until it runs out.
    pub async fn crash_engine(&mut self) {
        if let Some(engine) = self.controllers.engine.take() {
            engine.cut().await;
        }
    }

    /// Starts the engine again, as another process would be.
    pub fn start_engine(&mut self) {
        self.controllers.start_engine();
    }

    /// Settings of an engine of this laboratory, with a name that no other has.
    pub(super) fn engine_config(&self) -> EngineConfig {
        let mut config = self.controllers.config.clone();
        config.instance = control_plane::unique(&config.namespace);
        config
    }

    /// Ends the allocator in order.
    pub async fn stop_claims(&mut self) {
        if let Some(claims) = self.controllers.claims.take() {
            claims.end().await;
        }
    }

    /// Ends the allocator wherever it is, as a crash would.
    pub async fn crash_claims(&mut self) {
        if let Some(claims) = self.controllers.claims.take() {
            claims.cut().await;
        }
    }

    /// Starts the allocator again.
    pub fn start_claims(&mut self) {
        self.controllers.start_claims();
    }
}
