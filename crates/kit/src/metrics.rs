//! What Corten measures about itself, in OpenMetrics text.
//!
//! One registry a process: counters are cheap atomics, and a controller need not carry a handle to be counted.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reconciled {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    verb: &'static str,
    kind: String,
    outcome: &'static str,
}

type Histograms = Family<Controller, Histogram, fn() -> Histogram>;

struct Own {
    registry: Mutex<Registry>,
    reconciles: Family<Reconciled, Counter<u64, AtomicU64>>,
    seconds: Histograms,
    waiting: Family<Controller, Gauge<i64, AtomicI64>>,
    running: Family<Controller, Gauge<i64, AtomicI64>>,
    writes: Family<Write, Counter<u64, AtomicU64>>,
    events_dropped: Counter<u64, AtomicU64>,
}

static OWN: LazyLock<Own> = LazyLock::new(|| {
    let mut registry = Registry::with_prefix("corten");
    let own = Own {
        registry: Mutex::default(),
        reconciles: Family::default(),
        seconds: Family::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 4.0, 9))
        }),
        waiting: Family::default(),
        running: Family::default(),
        writes: Family::default(),
        events_dropped: Counter::default(),
    };
    registry.register(
        "reconciles",
        "Reconciles by controller and outcome",
        own.reconciles.clone(),
    );
    registry.register(
        "reconcile_seconds",
        "How long a reconcile took",
        own.seconds.clone(),
    );
    registry.register(
        "queue_waiting",
        "Objects that wait for a reconcile",
        own.waiting.clone(),
    );
    registry.register("queue_running", "Reconciles under way", own.running.clone());
    registry.register(
        "api_writes",
        "Writes to the API server by verb, kind and outcome",
        own.writes.clone(),
    );
    registry.register(
        "events_dropped",
        "Events that did not fit into the queue",
        own.events_dropped.clone(),
    );
    *own.registry.lock() = registry;
    own
});

/// The process's metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics;

impl Metrics {
    /// Adds a metric of a room's own. `name` gets the prefix `corten_`.
    pub fn register(name: &str, help: &str, metric: impl Metric) {
        OWN.registry.lock().register(name, help, metric);
    }

    /// Adds numbers that are read when somebody asks. Names get the prefix `corten_`.
    pub fn register_collector(collector: Box<dyn Collector>) {
        OWN.registry.lock().register_collector(collector);
    }

    /// All metrics, in OpenMetrics text.
    pub fn encode() -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut out, &OWN.registry.lock());
        out
    }
}

pub(crate) fn reconciled(controller: &'static str, outcome: &'static str, took: Duration) {
    OWN.reconciles
        .get_or_create(&Reconciled {
            controller,
            outcome,
        })
        .inc();
    OWN.seconds
        .get_or_create(&Controller { controller })
        .observe(took.as_secs_f64());
}

pub(crate) fn queue(controller: &'static str, waiting: usize, running: usize) {
    let label = Controller { controller };
    OWN.waiting
        .get_or_create(&label)
        .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    OWN.running
        .get_or_create(&label)
        .set(i64::try_from(running).unwrap_or(i64::MAX));
}

pub(crate) fn wrote(verb: &'static str, kind: &str, ok: bool) {
    let outcome = if ok { "ok" } else { "failed" };
    OWN.writes
        .get_or_create(&Write {
            verb,
            kind: kind.to_owned(),
            outcome,
        })
        .inc();
}

pub(crate) fn event_dropped() {
    OWN.events_dropped.inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_by_kind() {
        wrote("create", "Server", true);
        assert!(
            Metrics::encode()
                .contains(r#"corten_api_writes_total{verb="create",kind="Server",outcome="ok"} 1"#)
        );
    }
}
