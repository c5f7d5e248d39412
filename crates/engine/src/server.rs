//! Drives Servers: observe, let [`corten_lifecycle::server`] decide, act, record. One arm for each [`Act`], no rule.
//!
//! [`start`] is the entry. Between two decisions nobody sleeps: what is due later is a requeue at a time that is persisted somewhere, and what
//! a machine does by itself is noticed by the BMC controller's poll, which wakes this one.

mod act;
mod guard;
mod hardware;
mod observe;
mod record;
mod refresh;
mod wakes;

use std::{sync::Arc, time::Duration};

use corten_api::corten::ServerRun;
use corten_boot::windows::Windows;
use corten_kit::{Driver, Lease, Next, ObjectKey, Objects, Reconcile, ReconcileError, gate};
use corten_lifecycle::server::{self as rules, Act, Decision, Reach};
use dashmap::DashMap;
use jiff::Timestamp;
pub(crate) use observe::Seen;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    executor::{Executor, ExecutorError},
    retention,
    run::RunIndex,
};
pub(crate) use observe::Reading;

/// Decisions in one reconcile, at most: a chain of quick steps needs few, and no server may hold a worker.
const STEPS: usize = 24;

/// Why a reconcile ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// What a decision needs could not be read.
    #[error("cannot observe the server")]
    Observe(#[source] corten_kit::Error),
    /// Something could not be done.
    #[error("cannot act on the server")]
    Act(#[source] corten_kit::Error),
    /// A step could not be carried through; the run says how far it came.
    #[error("cannot carry the step through")]
    Step(#[source] ExecutorError),
    /// Status could not be written.
    #[error("cannot record the server's status")]
    Record(#[source] corten_kit::Error),
}

impl ReconcileError for ServerError {
    fn label(&self) -> &'static str {
        match self {
            Self::Observe(_) => "observe",
            Self::Act(_) => "act",
            Self::Step(_) => "step",
            Self::Record(_) => "record",
        }
    }

    fn is_conflict(&self) -> bool {
        match self {
            Self::Observe(error) | Self::Act(error) | Self::Record(error) => {
                error.is_conflict() || error.is_not_found()
            }
            Self::Step(ExecutorError::Record(error)) => error.is_conflict() || error.is_not_found(),
            Self::Step(ExecutorError::Unsettled | ExecutorError::LeaseTooShort) => true,
        }
    }
}

/// The controller of Servers.
pub(crate) struct Controller {
    pub(crate) ctx: Context,
    runs: RunIndex,
    guards: guard::Guards,
    pub(crate) executor: Executor<Objects<ServerRun>, Lease>,
    /// What this process has read itself, by Server. Nothing here is a record.
    memory: DashMap<ObjectKey, observe::Memory>,
    /// Which machines came by DHCP, and were let in.
    pub(crate) windows: Windows,
    /// Since when probes are listened to.
    began: jiff::Timestamp,
    /// Inventories read at once: each holds some hundred kilobytes of documents meanwhile.
    readings: Semaphore,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("ctx", &self.ctx)
            .finish_non_exhaustive()
    }
}

/// Starts the controller for one term of the lease.
pub(crate) fn start(ctx: &Context, term: &CancellationToken, tasks: &mut JoinSet<()>) {
    let runs = RunIndex::new(ctx.runs.store.clone());
    let controller = Arc::new(Controller {
        guards: guard::Guards::new(ctx, runs.clone()),
        executor: Executor::new(ctx.runs.objects.clone(), ctx.lease.clone()),
        memory: DashMap::new(),
        windows: Windows::default(),
        began: jiff::Timestamp::now(),
        readings: Semaphore::new(ctx.config.onboarding.max(1)),
        ctx: ctx.clone(),
        runs,
    });
    ctx.desk.opened(&controller);
    let changes = wakes::start(ctx, term, tasks);
    tasks.spawn(retention::keep(
        ctx.runs.objects.clone(),
        ctx.runs.store.clone(),
        ctx.config.retention,
        term.clone(),
    ));
    if !ctx.config.inventory_refresh.is_zero() {
        let keep = refresh::keep(
            controller.clone(),
            ctx.config.inventory_refresh,
            term.clone(),
        );
        tasks.spawn(gate::carried(keep));
    }
    let driver = Driver::new("server", ctx.config.concurrency);
    let term = term.clone();
    tasks.spawn(gate::carried(async move {
        driver.run(controller, changes, term).await
    }));
}

impl Reconcile for Controller {
    type Error = ServerError;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ServerError> {
        for _ in 0..STEPS {
            let Some(seen) = self.observe(key).await? else {
                self.memory.remove(key);
                return Ok(Next::Done);
            };
            let decision = rules::decide(&seen.observed);
            if decision.act == Act::Nothing {
                self.record(&seen, &decision).await?;
                self.forget_drives(&seen);
                return Ok(next(&decision));
            }
            if decision.act == Act::Show {
                self.record(&seen, &decision).await?;
                continue;
            }
            self.record_before(&seen, &decision).await?;
            self.say(&seen.server, &decision);
            tracing::debug!(server = %key, act = ?decision.act, "decided");
            if let Some(wait) = self.act(&seen, &decision).await? {
                // Something runs on by itself, or nobody can be asked now: what is known is shown meanwhile.
                if let Some(seen) = self.observe(key).await?
                    && !is_unseen(&seen)
                {
                    self.record(&seen, &decision).await?;
                }
                return Ok(Next::After(wait).sooner(next(&decision), Timestamp::now()));
            }
        }
        Ok(Next::After(Duration::from_secs(1)))
    }
}

/// True while this process has yet to hear of the BMC and the status tells what the last one knew: nothing is known better.
fn is_unseen(seen: &observe::Seen) -> bool {
    let status = seen.server.status.as_ref();
    seen.observed.reach == Reach::Unknown && status.is_some_and(|status| status.state.is_some())
}

fn next(decision: &Decision) -> Next {
    decision.wake.map_or(Next::Done, Next::At)
}
