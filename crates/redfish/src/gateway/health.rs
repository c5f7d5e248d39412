//! What is known of one BMC's strength: its queue, its breaker, its pace, its counters. Outlives a change of target.

use super::counters::Tally;
use crate::{
    breaker::{Admission, Breaker, BreakerConfig},
    error::GatewayError,
    pace::Pace,
    queue::{Place, Priority, Queue},
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Health {
    queue: Arc<Queue>,
    inner: Mutex<Inner>,
    pub(crate) tally: Tally,
    pub(crate) total: Arc<Tally>,
}

#[derive(Debug)]
struct Inner {
    breaker: Breaker,
    pace: Pace,
}

/// Leave to send: a place, and if it is a probe, the duty to say what came of it.
#[derive(Debug)]
pub(crate) struct Leave {
    health: Arc<Health>,
    probe: bool,
    /// Shared with a login that this request started: the place is free when both are done.
    pub(crate) place: Arc<Place>,
}

// === impl Health ===

impl Health {
    pub(crate) fn new(in_flight: usize, breaker: BreakerConfig, total: Arc<Tally>) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::new(in_flight),
            inner: Mutex::new(Inner {
                breaker: Breaker::new(breaker),
                pace: Pace::new(in_flight),
            }),
            tally: Tally::default(),
            total,
        })
    }

    /// Waits for a place and the BMC's pace, unless the breaker is open.
    pub(crate) async fn leave(self: &Arc<Self>, priority: Priority) -> Result<Leave, GatewayError> {
        self.check_breaker()?;
        let place = self.queue.enter(priority).await;
        // Those who waited behind requests that hung are turned away one after the other, without a pause each.
        self.check_breaker()?;
        let gap = self.inner.lock().pace.gap();
        if !gap.is_zero() && priority != Priority::Power {
            tokio::time::sleep(gap).await;
        }
        let admission = self.inner.lock().breaker.admit(Instant::now());
        let probe = admission == Admission::Probe;
        refused(admission)?;
        Ok(Leave {
            health: self.clone(),
            probe,
            place: Arc::new(place),
        })
    }

    fn check_breaker(&self) -> Result<(), GatewayError> {
        let refusal = self.inner.lock().breaker.refuses(Instant::now());
        refused(refusal.unwrap_or(Admission::Go))
    }

    pub(crate) fn is_left_alone(&self) -> bool {
        self.inner.lock().breaker.is_open()
    }

    pub(crate) fn sent(&self) {
        self.count(|tally| &tally.requests, 1);
    }

    pub(crate) fn answered(&self, latency: Duration, status: u16) {
        self.tally.latency(latency);
        self.total.latency(latency);
        if status == 304 {
            self.count(|tally| &tally.not_modified, 1);
        }
        let places = {
            let mut inner = self.inner.lock();
            inner.breaker.answered();
            inner.pace.answered(latency, matches!(status, 429 | 503));
            inner.pace.places()
        };
        self.queue.set_places(places);
    }

    pub(crate) fn silent(&self, error: &GatewayError) {
        self.count(|tally| &tally.silences, 1);
        let places = {
            let mut inner = self.inner.lock();
            inner
                .breaker
                .silent(Instant::now(), &error.to_string(), rand::random());
            inner.pace.silent();
            inner.pace.places()
        };
        self.queue.set_places(places);
    }

    pub(crate) fn limit(&self, in_flight: usize) {
        let places = {
            let mut inner = self.inner.lock();
            inner.pace.limit(in_flight);
            inner.pace.places()
        };
        self.queue.set_places(places);
    }

    /// The address changed: what was learned about the old one does not hold.
    pub(crate) fn forget(&self) {
        self.inner.lock().breaker.reset();
    }

    pub(crate) fn count(&self, which: impl Fn(&Tally) -> &std::sync::atomic::AtomicU64, by: u64) {
        which(&self.tally).fetch_add(by, Relaxed);
        which(&self.total).fetch_add(by, Relaxed);
    }
}

fn refused(admission: Admission) -> Result<(), GatewayError> {
    match admission {
        Admission::Go | Admission::Probe => Ok(()),
        Admission::No {
            wait,
            failures,
            last,
        } => Err(GatewayError::BreakerOpen {
            until: SignedDuration::try_from(wait)
                .ok()
                .and_then(|wait| Timestamp::now().checked_add(wait).ok())
                .unwrap_or(Timestamp::MAX),
            failures,
            last,
        }),
    }
}

// === impl Leave ===

impl Drop for Leave {
    fn drop(&mut self) {
        if self.probe {
            // No effect if the outcome was told.
            self.health
                .inner
                .lock()
                .breaker
                .probe_abandoned(Instant::now());
        }
    }
}
