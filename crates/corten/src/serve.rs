//! `corten serve`: checks that it may act, then runs the controllers until it is asked to stop.

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

pub use self::args::Args;
use crate::admin::{self, Readiness};
use crate::shutdown;

/// Leases of the one active allocator and of the one active engine of a shard.
const CLAIMS_LEASE: &str = "corten-claims";
const ENGINE_LEASE: &str = "corten-engine";
/// How often another operator is looked for while we act.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const ROLE_EVERY: Duration = Duration::from_millis(250);

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown::on_signal()?;
    let readiness = Readiness::new();
    let admin = admin::serve(args.admin_address, readiness.clone(), shutdown.clone()).await?;
    tracing::info!(address = %admin, "/healthz, /readyz and /metrics");
    // Whatever is wrong with a file or a flag is said before anything is sent anywhere.
    let mut engine = args.engine()?;
    engine.lease_name = args.engine_lease();
    let client = args.client().await?;
    tokio::select! {
        checked = cluster::prepare(&client, &args, &readiness) => checked?,
        () = shutdown.cancelled() => return Ok(ExitCode::SUCCESS),
    }
    let boot = args.services.prepare(&client, &args.namespace).await?;
    engine.services = boot.as_ref().map(boot::Prepared::services);
    let ours = others::Ours {
        namespace: args.namespace.clone(),
        claims_lease: CLAIMS_LEASE,
        engine_lease: engine.lease_name.clone(),
        selector: args.label_selector.clone(),
    };
    if !args.despite_other_operators {
        refuse_beside_others(&client, &ours).await?;
        let lease = engine.lease();
        tokio::select! {
            won = contend::win(&client, &ours, lease) => won?,
            () = shutdown.cancelled() => return Ok(ExitCode::SUCCESS),
        }
    }

    let stop = shutdown.child_token();
    // The lease outlives the controllers: what they have under way ends first.
    let release = CancellationToken::new();
    let (lease, keeper) = Lease::start(
        client.clone(),
        LeaseConfig {
            namespace: args.namespace.clone(),
            name: CLAIMS_LEASE.to_owned(),
            holder: args.instance(),
            duration: args.lease_duration,
            annotations: BTreeMap::default(),
        },
        release.clone(),
    );
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let claims = args.claims(lease.clone());
    tasks.spawn({
        let (client, stop) = (client.clone(), stop.clone());
        async move {
            Box::pin(corten_claims::run(client, claims, stop)).await;
            Ok(())
        }
    });
    let (tell, context) = oneshot::channel();
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
    tasks.spawn({
        let (client, stop) = (client.clone(), stop.clone());
        async move {
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
        }
    });
    tasks.spawn(report_role(lease, context, readiness.clone(), stop.clone()));
    if !args.despite_other_operators {
        tasks.spawn(keep_looking(client.clone(), ours, stop.clone()));
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace = %args.namespace, selector = %args.label_selector, "corten serves");

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
    let drained = tokio::time::timeout(args.shutdown_grace, async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
    release.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(5), keeper).await;
    if drained.is_err() {
        bail!(
            "work was still under way after {} s (--shutdown-grace); it is settled at the next start",
            args.shutdown_grace.as_secs()
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
    claims: Lease,
    context: oneshot::Receiver<corten_engine::Context>,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(Ok(context)) = stop.run_until_cancelled(context).await else {
        // The engine ended before it began, and its own task says why.
        stop.cancelled().await;
        return Ok(());
    };
    let mut told = None;
    loop {
        let role = role(
            context.is_ready(),
            context.lease.is_held(),
            claims.is_held(),
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

/// What `/readyz` says: a role, or why this replica could not take over.
fn role(
    is_complete: bool,
    has_engine: bool,
    has_claims: bool,
) -> Result<&'static str, &'static str> {
    match (is_complete, has_engine, has_claims) {
        (false, _, _) => Err("the engine's caches are not complete"),
        (true, true, true) => Ok("acting"),
        (true, true, false) => Ok("acting as engine, standing by as allocator"),
        (true, false, true) => Ok("acting as allocator, standing by as engine"),
        (true, false, false) => Ok("standing by"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_ready_when_its_caches_are_complete_and_names_the_leases_it_holds() {
        assert!(role(false, true, true).is_err());
        assert!(role(false, false, false).is_err());
        assert_eq!(role(true, true, true), Ok("acting"));
        assert_eq!(role(true, false, false), Ok("standing by"));
        assert_ne!(role(true, false, true), Ok("acting"));
        assert_ne!(role(true, true, false), Ok("acting"));
    }
}
