//! Deletes ServerRuns that [`lifecycle::retention`](corten_lifecycle::retention) lets go, a few at a time.

use std::time::Duration;

use corten_api::corten::ServerRun;
use corten_kit::{Error, Objects, Store};
pub use corten_lifecycle::retention::Limits;
use corten_lifecycle::retention::expired;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

/// How often the record is looked through.
const PERIOD: Duration = Duration::from_secs(600);
/// At most so many go in one look: a change of the limits must not become a storm of deletions.
const AT_ONCE: usize = 200;

/// Looks through the record every ten minutes until `shutdown`.
pub async fn keep(
    runs: Objects<ServerRun>,
    store: Store<ServerRun>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    store.ready().await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        if let Err(error) = sweep(&runs, &store, limits, Timestamp::now()).await {
            tracing::warn!(%error, "old runs not deleted; they will be next time");
        }
    }
}

/// Deletes what may go now; returns how many went.
///
/// # Errors
/// What the API server says; a run that somebody else deleted is none.
pub async fn sweep(
    runs: &Objects<ServerRun>,
    store: &Store<ServerRun>,
    limits: Limits,
    now: Timestamp,
) -> Result<usize, Error> {
    let all = store.all();
    let mut gone = 0;
    for run in expired(all.iter().map(AsRef::as_ref), limits, now)
        .into_iter()
        .take(AT_ONCE)
    {
        match runs.delete(run).await {
            Ok(()) => gone += 1,
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(gone)
}
