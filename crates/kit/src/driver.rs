//! A queue by object: each object is reconciled by one task at a time, many objects at once, failures later and later.
//!
//! Start at [`Driver::run`]. A reconcile never sleeps: it returns when it wants to be called again, and the queue waits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    error::Error as StdError,
    fmt::Debug,
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use rand::Rng;
use tokio::{
    sync::mpsc,
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::{
    sync::CancellationToken,
    time::{DelayQueue, delay_queue},
};

use crate::{gate, key::ObjectKey, metrics};

/// When to call a reconcile again, besides when something changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Only when something changes.
    Done,
    /// At this time; it is persisted somewhere, so that a restart keeps it.
    At(Timestamp),
    /// After this long.
    After(Duration),
}

impl Next {
    /// The earlier of two.
    pub fn sooner(self, other: Self, now: Timestamp) -> Self {
        match (self.wait(now), other.wait(now)) {
            (None, _) => other,
            (_, None) => self,
            (Some(a), Some(b)) => {
                if a <= b {
                    self
                } else {
                    other
                }
            }
        }
    }

    fn wait(self, now: Timestamp) -> Option<Duration> {
        match self {
            Self::Done => None,
            Self::After(duration) => Some(duration),
            Self::At(time) => {
                Some(Duration::try_from(time.duration_since(now)).unwrap_or(Duration::ZERO))
            }
        }
    }
}

/// What a controller does with one object.
pub trait Reconcile: Send + Sync + 'static {
    /// Why it could not.
    type Error: ReconcileError;

    /// Observes, decides, acts and records, once. It may be dropped at any `await`; the next call starts from what was recorded.
    fn reconcile(&self, key: &ObjectKey) -> impl Future<Output = Result<Next, Self::Error>> + Send;
}

/// What the queue has to know about a failure.
pub trait ReconcileError: StdError + Send + 'static {
    /// The step that failed, as a metric label: few values.
    fn label(&self) -> &'static str;

    /// True when the object was changed in between and is to be looked at again at once; such failures are ordinary and not logged as errors.
    fn is_conflict(&self) -> bool {
        false
    }

    /// The earliest time at which another try makes sense, where the failure says so.
    fn retry_at(&self) -> Option<Timestamp> {
        None
    }
}

/// The queue's settings.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Controller name, in logs and metrics.
    pub name: &'static str,
    /// How many objects at once.
    pub concurrency: usize,
    /// First wait after a failure; it doubles with each further one.
    pub backoff: Duration,
    /// Longest wait after failures.
    pub backoff_limit: Duration,
    /// How long running reconciles may finish after the shutdown began.
    pub grace: Duration,
}

impl Driver {
    /// A driver with the usual backoff: from one second to five minutes.
    pub fn new(name: &'static str, concurrency: usize) -> Self {
        Self {
            name,
            concurrency: concurrency.max(1),
            backoff: Duration::from_secs(1),
            backoff_limit: Duration::from_secs(300),
            grace: Duration::from_secs(10),
        }
    }

    /// Reconciles what arrives on `changes` until `shutdown`, then lets running reconciles finish for the grace period.
    pub async fn run<R: Reconcile>(
        self,
        reconciler: Arc<R>,
        mut changes: mpsc::UnboundedReceiver<ObjectKey>,
        shutdown: CancellationToken,
    ) {
        let mut queue = Queue::new(self.clone(), reconciler);
        loop {
            queue.start_what_can();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = queue.running.join_next_with_id(), if !queue.running.is_empty() => queue.ended(ended),
                changed = changes.recv() => match changed {
                    Some(key) => queue.changed(key),
                    None => break,
                },
                Some(due) = queue.delayed.next(), if !queue.delayed.is_empty() => queue.due(due.into_inner()),
            }
        }
        let _ = tokio::time::timeout(self.grace, async {
            while let Some(ended) = queue.running.join_next_with_id().await {
                queue.ended(ended);
            }
        })
        .await;
    }
}

type Outcome<E> = Result<Next, E>;

struct Queue<R: Reconcile> {
    driver: Driver,
    reconciler: Arc<R>,
    ready: VecDeque<ObjectKey>,
    queued: HashSet<ObjectKey>,
    delayed: DelayQueue<ObjectKey>,
    delays: HashMap<ObjectKey, delay_queue::Key>,
    running: JoinSet<Outcome<R::Error>>,
    by_task: HashMap<Id, (ObjectKey, Instant)>,
    busy: HashSet<ObjectKey>,
    failures: HashMap<ObjectKey, u32>,
}

impl<R: Reconcile> Queue<R> {
    fn new(driver: Driver, reconciler: Arc<R>) -> Self {
        Self {
            driver,
            reconciler,
            ready: VecDeque::new(),
            queued: HashSet::new(),
            delayed: DelayQueue::new(),
            delays: HashMap::new(),
            running: JoinSet::new(),
            by_task: HashMap::new(),
            busy: HashSet::new(),
            failures: HashMap::new(),
        }
    }

    /// A change counts at once, even during a backoff: it may be the remedy.
    fn changed(&mut self, key: ObjectKey) {
        if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn due(&mut self, key: ObjectKey) {
        self.delays.remove(&key);
        self.changed(key);
    }

    fn start_what_can(&mut self) {
        let mut waiting = self.ready.len();
        while self.running.len() < self.driver.concurrency && waiting > 0 {
            waiting -= 1;
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            if self.busy.contains(&key) {
                // Changed while it runs: it goes again afterwards.
                self.ready.push_back(key);
                continue;
            }
            self.queued.remove(&key);
            if let Some(delay) = self.delays.remove(&key) {
                self.delayed.try_remove(&delay);
            }
            self.busy.insert(key.clone());
            let reconciler = self.reconciler.clone();
            let task_key = key.clone();
            let task = self.running.spawn(gate::carried(async move {
                reconciler.reconcile(&task_key).await
            }));
            self.by_task.insert(task.id(), (key, Instant::now()));
        }
        metrics::queue(self.driver.name, self.ready.len(), self.running.len());
    }

    fn ended(&mut self, ended: Result<(Id, Outcome<R::Error>), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some((key, started)) = self.by_task.remove(&id) else {
            return;
        };
        self.busy.remove(&key);
        let took = started.elapsed();
        let name = self.driver.name;
        match ended {
            Ok((_, Ok(next))) => {
                metrics::reconciled(name, "ok", took);
                self.failures.remove(&key);
                if let Some(wait) = next.wait(Timestamp::now()) {
                    self.again(key, wait);
                }
            }
            Ok((_, Err(error))) if error.is_conflict() => {
                metrics::reconciled(name, "conflict", took);
                // The watch brings the newer state; this is for the case that it already did.
                self.again(key, Duration::from_millis(50));
            }
            Ok((_, Err(error))) => {
                metrics::reconciled(name, error.label(), took);
                let wait = self.backoff(&key, error.retry_at());
                tracing::warn!(controller = name, object = %key, step = error.label(), retry_in = ?wait, error = %chain(&error), "reconcile failed");
                self.again(key, wait);
            }
            Err(error) => {
                metrics::reconciled(name, "panic", took);
                let wait = self.backoff(&key, None);
                tracing::error!(controller = name, object = %key, retry_in = ?wait, %error, "reconcile panicked: a defect of Corten");
                self.again(key, wait);
            }
        }
    }

    fn backoff(&mut self, key: &ObjectKey, at: Option<Timestamp>) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        *failures = failures.saturating_add(1);
        if let Some(at) = at {
            return Next::At(at).wait(Timestamp::now()).unwrap_or_default();
        }
        let doubled = self
            .driver
            .backoff
            .saturating_mul(1_u32.checked_shl(*failures - 1).unwrap_or(u32::MAX));
        // Half of it is random, so that a fleet that failed together does not come back together.
        doubled
            .min(self.driver.backoff_limit)
            .mul_f64(rand::rng().random_range(0.5..1.0))
    }

    fn again(&mut self, key: ObjectKey, wait: Duration) {
        if let Some(old) = self.delays.remove(&key) {
            self.delayed.try_remove(&old);
        }
        let delay = self.delayed.insert(key.clone(), wait);
        self.delays.insert(key, delay);
    }
}

/// An error with all its sources, once each.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct No;

    impl ReconcileError for No {
        fn label(&self) -> &'static str {
            "no"
        }
    }

    #[derive(Default)]
    struct Probe {
        runs: Mutex<Vec<(String, Instant)>>,
        active: AtomicUsize,
        most: AtomicUsize,
        fail_first: usize,
        takes: Duration,
    }

    impl Reconcile for Probe {
        type Error = No;

        async fn reconcile(&self, key: &ObjectKey) -> Result<Next, No> {
            let now = self.active.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(self.takes).await;
            self.active.fetch_sub(1, Ordering::SeqCst);
            let mut runs = self.runs.lock();
            runs.push((key.to_string(), Instant::now()));
            if runs.len() <= self.fail_first {
                Err(No)
            } else {
                Ok(Next::Done)
            }
        }
    }

    async fn drive(probe: Arc<Probe>, concurrency: usize, keys: &[&str], time: Duration) {
        let (send, receive) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let task = tokio::spawn(Driver::new("test", concurrency).run(probe, receive, stop.clone()));
        for key in keys {
            send.send(ObjectKey::cluster(key)).unwrap();
        }
        tokio::time::sleep(time).await;
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_object_is_never_reconciled_twice_at_once() {
        let probe = Arc::new(Probe {
            takes: Duration::from_secs(1),
            ..Probe::default()
        });
        let (send, receive) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let task = tokio::spawn(Driver::new("test", 8).run(probe.clone(), receive, stop.clone()));
        for _ in 0..5 {
            send.send(ObjectKey::cluster("a")).unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        stop.cancel();
        task.await.unwrap();
        assert_eq!(probe.most.load(Ordering::SeqCst), 1);
        // Changes during a run are one further run, not one each.
        assert!((2..=3).contains(&probe.runs.lock().len()));
    }

    #[tokio::test(start_paused = true)]
    async fn concurrency_is_bounded() {
        let probe = Arc::new(Probe {
            takes: Duration::from_secs(1),
            ..Probe::default()
        });
        drive(
            probe.clone(),
            2,
            &["a", "b", "c", "d", "e"],
            Duration::from_secs(10),
        )
        .await;
        assert_eq!(probe.most.load(Ordering::SeqCst), 2);
        assert_eq!(probe.runs.lock().len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_later_and_later() {
        let probe = Arc::new(Probe {
            fail_first: 4,
            ..Probe::default()
        });
        drive(probe.clone(), 2, &["a"], Duration::from_secs(60)).await;
        let runs = probe.runs.lock();
        assert_eq!(runs.len(), 5);
        let waits: Vec<_> = runs.windows(2).map(|w| w[1].1 - w[0].1).collect();
        assert!(waits[3] > waits[0] * 2, "{waits:?}");
    }

    #[test]
    fn the_sooner_of_two_is_kept() {
        let now = Timestamp::UNIX_EPOCH;
        let soon = Next::After(Duration::from_secs(1));
        let late = Next::At(Timestamp::from_second(60).unwrap());
        assert_eq!(soon.sooner(late, now), soon);
        assert_eq!(late.sooner(soon, now), soon);
        assert_eq!(Next::Done.sooner(late, now), late);
    }
}
