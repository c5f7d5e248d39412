//! What a machine was asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::Method;
use parking_lot::Mutex;
use serde::Serialize;

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"];
const CLASSES: [&str; 10] = [
    "Root",
    "Systems",
    "Managers",
    "Chassis",
    "SessionService",
    "AccountService",
    "UpdateService",
    "TaskService",
    "EventService",
    "Other",
];

/// Counts of one machine; two hundred bytes.
#[derive(Default)]
pub(crate) struct Counters {
    requests: [[AtomicU32; CLASSES.len()]; METHODS.len()],
    pub connections: AtomicU32,
    pub logins: AtomicU32,
    pub failed_logins: AtomicU32,
    pub basic: AtomicU32,
    pub faults: AtomicU32,
    recording: AtomicBool,
    journal: Mutex<Vec<String>>,
}

/// A copy of a machine's counts, or the sum of many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// All requests.
    pub requests: u64,
    /// By `METHOD Class`, where the class is the first part of the path below `/redfish/v1`; only what is not zero.
    pub by_class: BTreeMap<String, u64>,
    /// TCP connections accepted.
    pub connections: u64,
    /// Sessions asked for, refused ones included.
    pub logins: u64,
    /// Wrong names or passwords, of sessions and of Basic authentication.
    pub failed_logins: u64,
    /// Requests with Basic authentication.
    pub basic: u64,
    /// Requests that met a fault.
    pub faults: u64,
}

impl Counts {
    /// Requests of a method, over all classes.
    pub fn method(&self, method: &str) -> u64 {
        self.by_class
            .iter()
            .filter(|(name, _)| name.split(' ').next() == Some(method))
            .map(|(_, count)| count)
            .sum()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.connections += other.connections;
        self.logins += other.logins;
        self.failed_logins += other.failed_logins;
        self.basic += other.basic;
        self.faults += other.faults;
        for (name, count) in &other.by_class {
            *self.by_class.entry(name.clone()).or_default() += count;
        }
    }
}

impl Counters {
    pub fn add(counter: &AtomicU32) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn request(&self, method: &Method, path: &str) {
        let row = METHODS
            .iter()
            .position(|name| *name == method.as_str())
            .unwrap_or(0);
        let class = path
            .strip_prefix("/redfish/v1")
            .map(|rest| {
                rest.trim_start_matches('/')
                    .split('/')
                    .next()
                    .unwrap_or_default()
            })
            .map_or(
                "Other",
                |class| if class.is_empty() { "Root" } else { class },
            );
        let column = CLASSES
            .iter()
            .position(|name| *name == class)
            .unwrap_or(CLASSES.len() - 1);
        if let Some(counter) = self.requests.get(row).and_then(|row| row.get(column)) {
            Self::add(counter);
        }
        if self.recording.load(Ordering::Relaxed) {
            let mut journal = self.journal.lock();
            if journal.len() < 100_000 {
                journal.push(format!("{method} {path}"));
            }
        }
    }

    pub fn record(&self, on: bool) {
        self.recording.store(on, Ordering::Relaxed);
        if !on {
            *self.journal.lock() = Vec::new();
        }
    }

    pub fn journal(&self) -> Vec<String> {
        self.journal.lock().clone()
    }

    pub fn read(&self) -> Counts {
        let get = |counter: &AtomicU32| u64::from(counter.load(Ordering::Relaxed));
        let mut counts = Counts {
            connections: get(&self.connections),
            logins: get(&self.logins),
            failed_logins: get(&self.failed_logins),
            basic: get(&self.basic),
            faults: get(&self.faults),
            ..Counts::default()
        };
        for (method, row) in METHODS.iter().zip(&self.requests) {
            for (class, counter) in CLASSES.iter().zip(row) {
                let count = get(counter);
                if count > 0 {
                    counts.requests += count;
                    counts.by_class.insert(format!("{method} {class}"), count);
                }
            }
        }
        counts
    }

    pub fn reset(&self) {
        for counter in self.requests.iter().flatten() {
            counter.store(0, Ordering::Relaxed);
        }
        for counter in [
            &self.connections,
            &self.logins,
            &self.failed_logins,
            &self.basic,
            &self.faults,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        self.journal.lock().clear();
    }
}
