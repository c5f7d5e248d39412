//! `corten serve`, `agent` and `operator`: check that they may act, then run their controllers until they are asked to stop.

mod args;
mod boot;
mod cluster;
mod contend;
mod metrics;
mod others;
mod selector;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use corten_kit::Lease;
use corten_kit::lease::LeaseConfig;
use kube::Client;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::args::{AgentArgs, Args, Job, OperatorArgs};
use crate::admin::{self, Readiness};
use crate::shutdown;

/// Leases of the one active allocator and of the one active engine of a shard.
const CLAIMS_LEASE: &str = "corten-claims";
const ENGINE_LEASE: &str = "corten-engine";
/// How often another operator is looked for while we act.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const ROLE_EVERY: Duration = Duration::from_millis(250);

pub async fn run(job: Job) -> anyhow::Result<ExitCode> {
    let (cluster, process) = (&job.cluster, &job.process);
    let shutdown = shutdown::on_signal()?;
    let readiness = Readiness::new();
    let admin = admin::serve(process.admin_address, readiness.clone(), shutdown.clone()).await?;
    tracing::info!(address = %admin, "/healthz, /readyz and /metrics");
    // Whatever is wrong with a file or a flag is said before anything is sent anywhere.
    cluster.check()?;
    let mut engine = job
        .machines
        .as_ref()
        .map(|machines| job.engine(machines))
        .transpose()?;
    let client = cluster.client().await?;
    tokio::select! {
        checked = cluster::prepare(&client, cluster, &readiness) => checked?,
        () = shutdown.cancelled() => return Ok(ExitCode::SUCCESS),
    }
    let boot = match &job.machines {
        Some(machines) => {
            let services = &machines.services;
            services.prepare(&client, &cluster.namespace).await?
        }
        None => None,
    };
    if let Some(engine) = &mut engine {
        engine.services = boot.as_ref().map(boot::Prepared::services);
    }
    let ours = others::Ours {
        namespace: cluster.namespace.clone(),
        claims_lease: CLAIMS_LEASE,
        engine_lease: engine.as_ref().map(|engine| engine.lease_name.clone()),
        selector: job.selector.clone(),
    };
    if !cluster.despite_other_operators {
        refuse_beside_others(&client, &ours).await?;
        if let Some(engine) = &engine {
            let lease = engine.lease();
            tokio::select! {
                won = contend::win(&client, &ours, lease) => won?,
                () = shutdown.cancelled() => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    let stop = shutdown.child_token();
    // The lease outlives the controllers: what they have under way ends first.
    let release = CancellationToken::new();
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let allocator = job.claims.as_ref().map(|claims| {
        let (lease, keeper) = Lease::start(
            client.clone(),
            LeaseConfig {
                namespace: cluster.namespace.clone(),
                name: CLAIMS_LEASE.to_owned(),
                holder: cluster.instance(),
                duration: cluster.lease_duration,
                annotations: BTreeMap::default(),
            },
            release.clone(),
        );
        let claims = job.allocator(claims, lease.clone());
        let (client, stop) = (client.clone(), stop.clone());
        tasks.spawn(async move {
            Box::pin(corten_claims::run(client, claims, stop)).await;
            Ok(())
        });
        (lease, keeper)
    });
    let (lease, keeper) = allocator.unzip();
    let tell_boot = boot.map(|boot| {
        let (tell, context) = oneshot::channel::<corten_engine::Context>();
        let stop = stop.clone();
        tasks.spawn(async move {
            match stop.run_until_cancelled(context).await {
                Some(Ok(context)) => boot.serve(&context, stop).await,
                // The engine ended before it began, and its own task says why.
                _ => {
                    stop.cancelled().await;
                    Ok(())
                }
            }
        });
        tell
    });
    let context = engine.map(|engine| {
        let (tell, context) = oneshot::channel();
        let (client, stop) = (client.clone(), stop.clone());
        tasks.spawn(async move {
            let tell = |context: &corten_engine::Context| {
                if let Some(tell_boot) = tell_boot {
                    drop(tell_boot.send(context.clone()));
                }
                metrics::Fleet::register(context);
                drop(tell.send(context.clone()));
            };
            Box::pin(corten_engine::run_told(client, engine, stop, tell))
                .await
                .context("the engine")
        });
        context
    });
    tasks.spawn(report_role(lease, context, readiness.clone(), stop.clone()));
    if !cluster.despite_other_operators {
        tasks.spawn(keep_looking(client.clone(), ours, stop.clone()));
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace = %cluster.namespace, selector = %job.selector, "corten serves");

    let outcome = tokio::select! {
        // In this order: controllers that end because they were asked to are no failure.
        biased;
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            Ok(Ok(())) => Err(anyhow::anyhow!("a controller ended unexpectedly")),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(panic.into()),
        },
    };
    readiness.not_ready("shutting down");
    stop.cancel();
    let drained = tokio::time::timeout(process.shutdown_grace, async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
    release.cancel();
    if let Some(keeper) = keeper {
        let _ = tokio::time::timeout(Duration::from_secs(5), keeper).await;
    }
    if drained.is_err() {
        bail!(
            "work was still under way after {} s (--shutdown-grace); it is settled at the next start",
            process.shutdown_grace.as_secs()
        );
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn refuse_beside_others(client: &Client, ours: &others::Ours) -> anyhow::Result<()> {
    let signs = others::signs(client, ours).await?;
    if signs.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = signs.iter().map(|sign| format!("\n  - {sign}")).collect();
    bail!(
        "another operator of these kinds is active, and two would switch the same machines:{}\nScale it to 0 and start again, \
         or say --despite-other-operators if you know that it leaves these servers alone",
        list.concat()
    );
}

/// An operator that comes later is seen too; what is under way ends in order.
async fn keep_looking(
    client: Client,
    ours: others::Ours,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match others::signs(&client, &ours).await {
            Ok(signs) if signs.is_empty() => {}
            Ok(_) => return refuse_beside_others(&client, &ours).await,
            // The API server is away: nobody acts on new orders meanwhile, and the lease decides about us.
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "looking for other operators")
            }
        }
    }
}

/// Ready means that this replica can act or take over at once: its caches are complete.
async fn report_role(
    claims: Option<Lease>,
    context: Option<oneshot::Receiver<corten_engine::Context>>,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let context = match context {
        None => None,
        Some(context) => match stop.run_until_cancelled(context).await {
            Some(Ok(context)) => Some(context),
            // The engine ended before it began, and its own task says why.
            _ => {
                stop.cancelled().await;
                return Ok(());
            }
        },
    };
    let mut told = None;
    loop {
        let role = role(
            context
                .as_ref()
                .is_none_or(corten_engine::Context::is_ready),
            context.as_ref().map(|context| context.lease.is_held()),
            claims.as_ref().map(Lease::is_held),
        );
        match role {
            Ok(role) => readiness.ready(role),
            Err(why) => readiness.not_ready(why),
        }
        if told.replace(role) != Some(role) {
            let (Ok(text) | Err(text)) = role;
            tracing::info!(role = text, "role");
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(ROLE_EVERY) => {}
        }
    }
}

/// What `/readyz` says: a role, or why this replica could not take over. An agent has no allocator, an operator no engine.
fn role(
    is_complete: bool,
    has_engine: Option<bool>,
    has_claims: Option<bool>,
) -> Result<&'static str, &'static str> {
    if !is_complete {
        return Err("the engine's caches are not complete");
    }
    Ok(match (has_engine, has_claims) {
        (Some(true) | None, Some(true)) | (Some(true), None) => "acting",
        (Some(true), Some(false)) => "acting as engine, standing by as allocator",
        (Some(false), Some(true)) => "acting as allocator, standing by as engine",
        (Some(false) | None, Some(false) | None) => "standing by",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_ready_when_its_caches_are_complete_and_names_the_leases_it_holds() {
        assert!(role(false, Some(true), Some(true)).is_err());
        assert!(role(false, Some(false), Some(false)).is_err());
        assert_eq!(role(true, Some(true), Some(true)), Ok("acting"));
        assert_eq!(role(true, Some(false), Some(false)), Ok("standing by"));
        assert_ne!(role(true, Some(false), Some(true)), Ok("acting"));
        assert_ne!(role(true, Some(true), Some(false)), Ok("acting"));
        for has in [false, true] {
            let said = if has { "acting" } else { "standing by" };
            assert_eq!(role(true, Some(has), None), Ok(said), "an agent");
            assert_eq!(role(true, None, Some(has)), Ok(said), "an operator");
        }
    }
}
