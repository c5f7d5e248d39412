//! One active replica: a `coordination.k8s.io/v1` Lease, held by renewing it.
//!
//! Whoever holds it may act only until the time at which another may take it ([`Lease::outlives`]): that is measured from before the
//! renewal was sent, on this machine's clock, less a margin for clocks that drift. So of two replicas at most one thinks it may act.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1::{Lease as LeaseObject, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// The share of the lease's duration that a holder does not use, for clocks that drift.
const MARGIN: u32 = 5;

/// How a lease is held.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// Namespace of the Lease object.
    pub namespace: String,
    /// Name of the Lease object: one for each shard.
    pub name: String,
    /// This replica.
    pub holder: String,
    /// How long a holder that went silent keeps others out. Renewed every third of it.
    pub duration: Duration,
    /// Annotations that the Lease has while this replica holds it.
    pub annotations: BTreeMap<String, String>,
}

/// A lease that is held or waited for. Clones share it.
#[derive(Clone, Debug)]
pub struct Lease {
    held_until: watch::Receiver<Option<Held>>,
    holder: Arc<str>,
    notes: Arc<Notes>,
}

/// The Lease object's annotations: what was read at the last renewal, and what the next one is to write.
#[derive(Debug, Default)]
struct Notes {
    read: Mutex<BTreeMap<String, String>>,
    unwritten: Mutex<BTreeMap<String, String>>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    until: Instant,
    wall: Timestamp,
}

impl Lease {
    /// Begins to try for the lease and to renew it, until `shutdown`; then lets it go, so that a standby need not wait.
    pub fn start(
        client: Client,
        config: LeaseConfig,
        shutdown: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (send, held_until) = watch::channel(None);
        let lease = Self {
            held_until,
            holder: config.holder.as_str().into(),
            notes: Arc::default(),
        };
        let api = Api::namespaced(client, &config.namespace);
        let task = tokio::spawn(
            Keeper {
                api,
                config,
                send,
                seen: None,
                notes: lease.notes.clone(),
            }
            .keep(shutdown),
        );
        (lease, task)
    }

    /// A lease that is always held: for tests and for tools that run alone.
    pub fn alone(holder: &str) -> Self {
        let far = Held {
            until: Instant::now() + Duration::from_secs(86_400 * 365),
            wall: Timestamp::MAX,
        };
        let (_, held_until) = watch::channel(Some(far));
        Self {
            held_until,
            holder: holder.into(),
            notes: Arc::default(),
        }
    }

    /// An annotation of the Lease object, as of the last renewal; what [`Lease::annotate`] asked for counts at once.
    pub fn annotation(&self, key: &str) -> Option<String> {
        let unwritten = self.notes.unwritten.lock().get(key).cloned();
        unwritten.or_else(|| self.notes.read.lock().get(key).cloned())
    }

    /// Writes an annotation on the Lease object with a renewal that begins now, and again until one succeeds.
    pub fn annotate(&self, key: &str, value: &str) {
        self.notes
            .unwritten
            .lock()
            .insert(key.to_owned(), value.to_owned());
        self.notes.changed.notify_one();
    }

    /// This replica's name, for intents.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// True while this replica may act.
    pub fn is_held(&self) -> bool {
        self.held_until
            .borrow()
            .is_some_and(|held| Instant::now() < held.until)
    }

    /// True when the lease, as renewed so far, lasts beyond `deadline`: only then may something be sent that must not overlap with a successor.
    pub fn outlives(&self, deadline: Timestamp) -> bool {
        self.is_held()
            && self
                .held_until
                .borrow()
                .is_some_and(|held| deadline < held.wall)
    }

    /// Ends when the lease is held.
    pub async fn acquired(&self) {
        let mut held = self.held_until.clone();
        if held
            .wait_for(|held| held.is_some_and(|h| Instant::now() < h.until))
            .await
            .is_err()
        {
            // The keeper is gone without ever holding it: nobody acts.
            std::future::pending::<()>().await;
        }
    }

    /// Ends when a held lease is lost or let go.
    pub async fn lost(&self) {
        let mut held = self.held_until.clone();
        loop {
            let Some(now) = *held.borrow_and_update() else {
                return;
            };
            if Instant::now() >= now.until {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(now.until) => {}
                changed = held.changed() => if changed.is_err() {
                    tokio::time::sleep_until(now.until).await;
                    return;
                },
            }
        }
    }
}

struct Keeper {
    api: Api<LeaseObject>,
    config: LeaseConfig,
    send: watch::Sender<Option<Held>>,
    /// The other holder's last renewal as we saw it change, on our own clock: its clock is not trusted.
    seen: Option<(String, Option<MicroTime>, Instant)>,
    notes: Arc<Notes>,
}

impl Keeper {
    async fn keep(mut self, shutdown: CancellationToken) {
        let period = self.config.duration / 3;
        loop {
            let before = Instant::now();
            let before_wall = Timestamp::now();
            let tried = tokio::select! {
                () = shutdown.cancelled() => break,
                tried = timeout(period, self.try_once()) => tried,
            };
            match tried {
                Ok(Ok(true)) => {
                    let usable = self.config.duration - self.config.duration / MARGIN;
                    let wall = SignedDuration::try_from(usable)
                        .ok()
                        .and_then(|usable| before_wall.checked_add(usable).ok())
                        .unwrap_or(before_wall);
                    if self
                        .send
                        .send_replace(Some(Held {
                            until: before + usable,
                            wall,
                        }))
                        .is_none()
                    {
                        tracing::info!(lease = %self.config.name, holder = %self.config.holder, "lease held: this replica acts");
                    }
                }
                Ok(Ok(false)) => {
                    if self.send.send_replace(None).is_some() {
                        tracing::warn!(lease = %self.config.name, "lease lost to another replica");
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.config.name, %error, "lease not renewed")
                }
                Err(_) => {
                    tracing::warn!(lease = %self.config.name, "lease not renewed: no answer in time")
                }
            }
            let wait = period
                .saturating_sub(before.elapsed())
                .max(Duration::from_millis(100));
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.notes.changed.notified() => {}
                () = sleep(wait) => {}
            }
        }
        self.let_go(period).await;
    }

    /// A conflict says that somebody wrote the object meanwhile: another replica, or a human who annotates it. Who holds it is read again.
    async fn try_once(&mut self) -> Result<bool, kube::Error> {
        for _ in 0..3 {
            match self.attempt().await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                tried => return tried,
            }
        }
        Ok(false)
    }

    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let notes = self.notes.unwritten.lock().clone();
        let found = self.api.get_opt(&self.config.name).await?;
        let is_new = found.is_none();
        let mut lease = found.unwrap_or_else(|| self.fresh());
        self.notes.read.lock().clone_from(&annotations(&lease));
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        if holder != self.config.holder {
            if !holder.is_empty() && !self.is_expired(&holder, spec) {
                return Ok(false);
            }
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.holder_identity = Some(self.config.holder.clone());
        spec.lease_duration_seconds = Some(self.seconds());
        spec.renew_time = Some(now);
        let wanted = self.config.annotations.iter().chain(&notes);
        let wanted = wanted.map(|(key, value)| (key.clone(), value.clone()));
        lease
            .metadata
            .annotations
            .get_or_insert_default()
            .extend(wanted);
        let params = PostParams::default();
        let written = if is_new {
            self.api.create(&params, &lease).await?
        } else {
            self.api.replace(&self.config.name, &params, &lease).await?
        };
        self.notes.read.lock().clone_from(&annotations(&written));
        self.notes
            .unwritten
            .lock()
            .retain(|key, value| notes.get(key) != Some(value));
        Ok(true)
    }

    fn is_expired(&mut self, holder: &str, spec: &LeaseSpec) -> bool {
        let duration = Duration::from_secs(
            u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(15),
        );
        match &self.seen {
            Some((who, renewed, since)) if who == holder && *renewed == spec.renew_time => {
                since.elapsed() >= duration
            }
            _ => {
                self.seen = Some((holder.to_owned(), spec.renew_time.clone(), Instant::now()));
                false
            }
        }
    }

    fn fresh(&self) -> LeaseObject {
        let now = Some(MicroTime(Timestamp::now()));
        LeaseObject {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.config.holder.clone()),
                lease_duration_seconds: Some(self.seconds()),
                acquire_time: now.clone(),
                renew_time: now,
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.config.duration.as_secs().max(1)).unwrap_or(i32::MAX)
    }

    /// An empty holder lets a standby in at once.
    async fn let_go(&self, limit: Duration) {
        if self.send.send_replace(None).is_none() {
            return;
        }
        let released = timeout(limit, async {
            let Some(mut lease) = self.api.get_opt(&self.config.name).await? else {
                return Ok(());
            };
            let Some(spec) = lease
                .spec
                .as_mut()
                .filter(|s| s.holder_identity.as_deref() == Some(&self.config.holder))
            else {
                return Ok(());
            };
            spec.holder_identity = Some(String::new());
            self.api
                .replace(&self.config.name, &PostParams::default(), &lease)
                .await
                .map(drop)
        })
        .await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!(lease = %self.config.name, "lease not released; a standby waits until it has run out");
        }
    }
}

fn annotations(lease: &LeaseObject) -> BTreeMap<String, String> {
    lease.metadata.annotations.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_outlives_only_deadlines_before_its_end() {
        let wall = Timestamp::from_second(1_000).unwrap();
        let (_send, held_until) = watch::channel(Some(Held {
            until: Instant::now() + Duration::from_secs(5),
            wall,
        }));
        let lease = Lease {
            held_until,
            holder: "a".into(),
            notes: Arc::default(),
        };
        assert!(lease.outlives(Timestamp::from_second(999).unwrap()));
        assert!(!lease.outlives(Timestamp::from_second(1_000).unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_ends_by_itself() {
        let held = Held {
            until: Instant::now() + Duration::from_secs(5),
            wall: Timestamp::MAX,
        };
        let (_send, held_until) = watch::channel(Some(held));
        let lease = Lease {
            held_until,
            holder: "a".into(),
            notes: Arc::default(),
        };
        assert!(lease.is_held());
        lease.lost().await;
        assert!(!lease.is_held());
        assert!(!lease.outlives(Timestamp::UNIX_EPOCH));
    }
}
