//! Of several `serve` with overlapping selectors that start in the same second exactly one goes on.
//!
//! Each writes its engine's Lease first and lists all of them after it, so that of any two at least one sees the other. Nobody goes on while it
//! sees a rival. Of two that see each other the one that took its Lease later, then the one whose name comes later, steps back; the other waits
//! until that has happened. One that is not seen, because it had looked before, is seen by its rival, which took its Lease later and steps back.

use std::time::Duration;

use anyhow::{Context as _, bail};
use corten_kit::Lease;
use corten_kit::lease::LeaseConfig;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::others::{Ours, leases, renewed};

/// How often a winner looks whether the other has stepped back.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Writes our engine's Lease, as the engine itself will hold it, and returns when no rival is left.
///
/// # Errors
/// A rival comes first, or does not go.
pub async fn win(client: &Client, ours: &Ours, lease: LeaseConfig) -> anyhow::Result<()> {
    let patience = lease.duration * 2 + Duration::from_secs(5);
    let release = CancellationToken::new();
    let (held, keeper) = Lease::start(client.clone(), lease, release.clone());
    let outcome = contend(client, ours, &held, patience).await;
    if outcome.is_err() {
        // The winner need not wait for it to run out.
        release.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(5), keeper).await;
    } else {
        // Not let go: the engine goes on renewing it under the same name, and rivals see no gap.
        keeper.abort();
    }
    outcome
}

async fn contend(
    client: &Client,
    ours: &Ours,
    held: &Lease,
    patience: Duration,
) -> anyhow::Result<()> {
    let end = Instant::now() + patience;
    tokio::select! {
        () = held.acquired() => {}
        // It has been through this, or is in it, for both; rivals see its Lease.
        standby = stands_by(client, ours, held.holder()) => return standby,
    }
    loop {
        let all = match leases(client).await {
            Ok(all) => all,
            Err(kube::Error::Api(status)) if status.code == 403 => {
                tracing::warn!(
                    "not permitted to list Leases in all namespaces, so another engine that starts now is not seen"
                );
                return Ok(());
            }
            Err(error) => return Err(error).context("cannot look for other engines"),
        };
        match judge(&all, ours, Timestamp::now()) {
            Verdict::Alone if held.is_held() => return Ok(()),
            Verdict::Alone => {}
            Verdict::Later(why) => bail!(why),
            Verdict::First(who) if Instant::now() >= end => bail!(
                "{who} looks after servers that this one would look after too, and does not step back. Give each a --label-selector of its own"
            ),
            Verdict::First(who) => {
                tracing::info!(rival = who, "waiting for another engine to step back");
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Ends when another replica of this shard renews the Lease: one that only was there before may be dead.
async fn stands_by(client: &Client, ours: &Ours, holder: &str) -> anyhow::Result<()> {
    let api: Api<LeaseObject> = Api::namespaced(client.clone(), &ours.namespace);
    let mut seen = None;
    loop {
        let found = api
            .get_opt(ours.own_lease())
            .await
            .context("cannot read our own Lease")?;
        let spec = found.and_then(|lease| lease.spec).unwrap_or_default();
        let other = spec
            .holder_identity
            .filter(|other| !other.is_empty() && other != holder);
        let renewal = other.zip(spec.renew_time);
        if seen.is_some() && renewal.is_some() && seen != renewal {
            return Ok(());
        }
        seen = renewal.or(seen);
        sleep(LOOK_EVERY).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nobody else is there.
    Alone,
    /// Somebody is, and gives way.
    First(String),
    /// Somebody is, and came first.
    Later(String),
}

fn judge(all: &[LeaseObject], ours: &Ours, now: Timestamp) -> Verdict {
    let own = all.iter().find(|lease| {
        lease.name_any() == ours.own_lease()
            && lease.namespace().as_deref() == Some(&ours.namespace)
    });
    let rivals = all
        .iter()
        .filter(|lease| ours.is_rival_engine(lease) && renewed(lease, now).is_some());
    let Some(first) = rivals.min_by_key(|lease| order(lease)) else {
        return Verdict::Alone;
    };
    let theirs = named(first);
    match own {
        Some(own) if order(own) < order(first) => Verdict::First(theirs),
        _ => Verdict::Later(format!(
            "another Corten starts at the same time and looks after servers that this one would look after too: {theirs} came first, and {} steps back. \
             Give each a --label-selector of its own, or say --despite-other-operators if you know that they share no server",
            own.map_or_else(
                || format!("Lease {}/{}", ours.namespace, ours.own_lease()),
                named
            )
        )),
    }
}

/// Who comes first: by when its holder took it (a Lease of an earlier run is not older than one made now), then by name. Both sides read the same
/// two times, so that clocks which disagree make another one first, never both.
fn order(lease: &LeaseObject) -> (Timestamp, String, String) {
    let taken = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.acquire_time.as_ref());
    (
        taken.map_or(Timestamp::MAX, |taken| taken.0),
        lease.name_any(),
        lease.namespace().unwrap_or_default(),
    )
}

fn named(lease: &LeaseObject) -> String {
    let selector = lease.annotations().get(corten_api::names::SELECTOR);
    format!(
        "Lease {}/{} (selector {:?}, taken {})",
        lease.namespace().unwrap_or_default(),
        lease.name_any(),
        selector.map_or("", String::as_str),
        order(lease).0
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ours(name: &str, selector: &str) -> Ours {
        Ours {
            namespace: "corten-system".into(),
            claims_lease: "corten-claims",
            engine_lease: Some(name.into()),
            selector: selector.into(),
        }
    }

    fn lease(name: &str, selector: &str, taken: &str, renewed: &str) -> LeaseObject {
        serde_json::from_value(json!({
            "metadata": {
                "namespace": "corten-system", "name": name, "creationTimestamp": "2026-11-01T00:00:00Z",
                "annotations": {(corten_api::names::SELECTOR): selector},
            },
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 15, "acquireTime": taken, "renewTime": renewed},
        }))
        .unwrap()
    }

    const NOW: &str = "2026-11-21T12:00:00Z";
    const FRESH: &str = "2026-11-21T11:59:58.000000Z";

    fn judged(all: &[LeaseObject], name: &str, selector: &str) -> Verdict {
        judge(all, &ours(name, selector), NOW.parse().unwrap())
    }

    #[test]
    fn of_two_that_overlap_exactly_the_later_steps_back_and_in_one_microsecond_the_later_name() {
        let (a, b) = ("corten-engine-a", "corten-engine-b");
        for (taken_a, taken_b, first) in [
            (
                "2026-11-21T11:59:57.000000Z",
                "2026-11-21T11:59:57.000001Z",
                a,
            ),
            (
                "2026-11-21T11:59:58.000000Z",
                "2026-11-21T11:59:57.000000Z",
                b,
            ),
            (
                "2026-11-21T11:59:57.000000Z",
                "2026-11-21T11:59:57.000000Z",
                a,
            ),
        ] {
            let all = [
                lease(b, "rack=7", taken_b, FRESH),
                lease(a, "", taken_a, FRESH),
            ];
            let (of_a, of_b) = (judged(&all, a, ""), judged(&all, b, "rack=7"));
            assert_eq!(matches!(of_a, Verdict::First(_)), first == a, "{of_a:?}");
            assert_eq!(matches!(of_b, Verdict::First(_)), first == b, "{of_b:?}");
            assert_eq!(matches!(of_a, Verdict::Later(_)), first == b, "{of_a:?}");
            assert_eq!(matches!(of_b, Verdict::Later(_)), first == a, "{of_b:?}");
        }
    }

    #[test]
    fn one_that_let_its_lease_go_or_shares_no_server_is_no_rival() {
        let (a, b) = ("corten-engine-rack-7", "corten-engine-rack-8");
        let own = lease(a, "rack=7", "2026-11-21T11:59:58Z", FRESH);
        let apart = lease(b, "rack=8", "2026-11-21T11:59:50Z", FRESH);
        let stale = lease(
            "corten-engine",
            "",
            "2026-11-01T00:00:00Z",
            "2026-11-21T11:00:00.000000Z",
        );
        let mut gone = lease("corten-engine-x", "x=1", "2026-11-01T00:00:00Z", FRESH);
        gone.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert_eq!(
            judged(&[apart, own, stale, gone], a, "rack=7"),
            Verdict::Alone
        );
    }
}
