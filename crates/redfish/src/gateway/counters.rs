//! What the gateway counts, per BMC and in all.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the latency histogram's buckets, in milliseconds; one more bucket holds what is slower.
pub const LATENCY_BOUNDS_MS: [u64; 9] = [3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000];

/// A snapshot. All numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// HTTP requests sent, logins and logouts included.
    pub requests: u64,
    /// Connections made (with TLS: handshakes finished).
    pub connections: u64,
    /// Logins tried: sessions asked for, and first uses of Basic.
    pub logins: u64,
    /// Logins that the BMC refused.
    pub logins_refused: u64,
    /// Sessions opened again because the BMC had forgotten them.
    pub sessions_lapsed: u64,
    /// Requests without an answer.
    pub silences: u64,
    /// Conditional requests that spared a body.
    pub not_modified: u64,
    /// Answers by latency, in the buckets of [`LATENCY_BOUNDS_MS`].
    pub latency: [u64; 10],
    /// Sum of all latencies, in microseconds.
    pub latency_sum_us: u64,
}

/// Where counting happens.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) logins: AtomicU64,
    pub(crate) logins_refused: AtomicU64,
    pub(crate) sessions_lapsed: AtomicU64,
    pub(crate) silences: AtomicU64,
    pub(crate) not_modified: AtomicU64,
    latency: [AtomicU64; 10],
    latency_sum_us: AtomicU64,
}

// === impl Tally ===

impl Tally {
    pub(crate) fn latency(&self, latency: Duration) {
        let ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_MS
            .iter()
            .take_while(|bound| ms > **bound)
            .count();
        if let Some(bucket) = self.latency.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.latency_sum_us
            .fetch_add(u64::try_from(latency.as_micros()).unwrap_or(0), Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Counters {
        Counters {
            requests: self.requests.load(Relaxed),
            connections: self.connections.load(Relaxed),
            logins: self.logins.load(Relaxed),
            logins_refused: self.logins_refused.load(Relaxed),
            sessions_lapsed: self.sessions_lapsed.load(Relaxed),
            silences: self.silences.load(Relaxed),
            not_modified: self.not_modified.load(Relaxed),
            latency: std::array::from_fn(|i| {
                self.latency.get(i).map_or(0, |bucket| bucket.load(Relaxed))
            }),
            latency_sum_us: self.latency_sum_us.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let tally = Tally::default();
        for ms in [0, 3, 4, 30_000, 30_001] {
            tally.latency(Duration::from_millis(ms));
        }
        assert_eq!(tally.snapshot().latency, [2, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
    }
}
