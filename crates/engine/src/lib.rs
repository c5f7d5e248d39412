//! The controllers that touch BMCs.
//!
//! [`run`] is the entry point: caches, the shard's Lease, the controllers while it is held, and at the end every
//! session on a BMC closed. Nothing here assumes to be alone, or to be in the cluster that it serves.

pub mod bmc;
pub mod boot;
pub mod config;
pub mod connect;
pub mod context;
pub mod endpoint;
pub mod executor;
pub mod failure;
pub mod fleet;
mod inband;
pub mod inline;
pub mod inventory;
pub mod macdb;
mod onboarding;
pub mod retention;
pub mod run;
pub mod secret;
mod server;

use std::sync::Arc;

use corten_kit::{Events, Lease, gate};
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use config::{
    BootProvider, BootServices, DiskImage, EngineConfig, FetchedImage, ImageFailure, Images,
    LEAST_LEASE,
};
pub use context::Context;
pub use inband::{DeskSlot, EngineDesk};

/// Why an engine ended other than by its shutdown. Starting again helps.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A task that never ends has ended: a defect of Corten.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// Runs an engine until `shutdown`: waits for the Lease, acts while it is held, and waits again when it is lost.
///
/// # Errors
/// [`EngineError`].
pub async fn run(
    client: Client,
    config: EngineConfig,
    shutdown: CancellationToken,
) -> Result<(), EngineError> {
    run_told(client, config, shutdown, |_| ()).await
}

/// [`run`], for a process that wants to know how the engine does: `tell` gets the context before anything is done with it.
///
/// # Errors
/// [`EngineError`].
pub async fn run_told(
    client: Client,
    config: EngineConfig,
    shutdown: CancellationToken,
    tell: impl FnOnce(&Context),
) -> Result<(), EngineError> {
    // The lease outlives the controllers: what they have under way ends first.
    let release = CancellationToken::new();
    let (lease, keeper) = Lease::start(client.clone(), config.lease(), release.clone());
    // Whoever drops this future half-way stops renewing too, as a crash would.
    let keeper = AbortOnDropHandle::new(keeper);
    let events = Events::start(client.clone(), "engine", &config.instance);
    let context = Context::new(client, config, lease, events);
    tell(&context);
    let outcome = run_with(context, shutdown).await;
    release.cancel();
    let _ = keeper.await;
    outcome
}

/// Runs an engine on a context that was made before: for tests and tools that want to look inside.
///
/// # Errors
/// [`EngineError`].
pub async fn run_with(context: Context, shutdown: CancellationToken) -> Result<(), EngineError> {
    // Their indices are in place before the first object comes.
    let controllers = Controllers::new(&context);
    let mut watches = context.watch();
    let outcome = loop {
        tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            Some(_) = watches.join_next() => break Err(EngineError::Ended("a watch")),
            () = acted(&context, &controllers, &shutdown) => {}
        }
    };
    context.gateway.close().await;
    outcome
}

/// One term of the Lease.
async fn acted(context: &Context, controllers: &Controllers, shutdown: &CancellationToken) {
    context.ready().await;
    context.lease.acquired().await;
    let term = shutdown.child_token();
    let mut tasks = controllers.start(context, &term);
    tokio::select! {
        () = context.lease.lost() => tracing::warn!("lease lost: controllers stop"),
        () = shutdown.cancelled() => {}
        Some(_) = tasks.join_next() => {}
    }
    term.cancel();
    while tasks.join_next().await.is_some() {}
}

/// The controllers that live as long as the engine; they act only in a term of the Lease.
struct Controllers {
    endpoint: Arc<endpoint::EndpointController>,
    bmc: Arc<bmc::BmcController>,
    boot: Arc<boot::BootController>,
    inline: Arc<inline::InlineController>,
}

impl Controllers {
    fn new(context: &Context) -> Self {
        Self {
            endpoint: Arc::new(endpoint::EndpointController::new(context.clone())),
            bmc: Arc::new(bmc::BmcController::new(context.clone())),
            boot: Arc::new(boot::BootController::new(context.clone())),
            inline: Arc::new(inline::InlineController::new(context.clone())),
        }
    }

    fn start(&self, context: &Context, term: &CancellationToken) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        server::start(context, term, &mut tasks);
        tasks.spawn(gate::carried(self.endpoint.clone().run(term.clone())));
        tasks.spawn(gate::carried(self.bmc.clone().run(term.clone())));
        tasks.spawn(self.inline.clone().run(term.clone()));
        if context.config.boot == BootProvider::Builtin {
            tasks.spawn(gate::carried(self.boot.clone().run(term.clone())));
        }
        tasks
    }
}
