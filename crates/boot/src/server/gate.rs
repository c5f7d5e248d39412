//! How many may come at once, and how often: all tables are bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Entries of a rate table before those at rest are dropped.
const TABLE: usize = 16_384;

/// Counts connections, in total and by address.
#[derive(Debug)]
pub struct Gate {
    total: usize,
    each: usize,
    inside: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

impl Gate {
    /// At most `total`, and at most `each` from one address.
    #[must_use]
    pub fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            each,
            inside: Mutex::default(),
        })
    }

    /// Lets one in; it is out again when the pass is dropped. None if too many are in.
    #[must_use]
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Pass> {
        let mut inside = self.inside.lock();
        if inside.0 >= self.total {
            return None;
        }
        let of_address = inside.1.entry(address).or_default();
        if *of_address >= self.each {
            return None;
        }
        *of_address += 1;
        inside.0 += 1;
        Some(Pass {
            gate: self.clone(),
            address,
        })
    }
}

/// One that is inside.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.gate.inside.lock();
        inside.0 = inside.0.saturating_sub(1);
        if let Some(count) = inside.1.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                inside.1.remove(&self.address);
            }
        }
    }
}

/// A token bucket a key.
#[derive(Debug)]
pub struct Pace<K> {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<K, (f64, Instant)>>,
}

impl<K: Eq + Hash> Pace<K> {
    /// `per_second` in the long run, `burst` at once.
    #[must_use]
    pub fn new(per_second: f64, burst: f64) -> Self {
        Self {
            per_second,
            burst,
            buckets: Mutex::default(),
        }
    }

    /// Whether another one may pass now.
    pub fn allows(&self, key: K, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= TABLE {
            let full = Duration::from_secs_f64(self.burst / self.per_second);
            buckets.retain(|_, (_, last)| now.saturating_duration_since(*last) < full);
            if buckets.len() >= TABLE && !buckets.contains_key(&key) {
                return false;
            }
        }
        let (level, last) = buckets.entry(key).or_insert((self.burst, now));
        *level = (*level + now.saturating_duration_since(*last).as_secs_f64() * self.per_second)
            .min(self.burst);
        *last = now;
        let passes = *level >= 1.0;
        if passes {
            *level -= 1.0;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_all_places() {
        let gate = Gate::new(3, 2);
        let (one, other): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = gate.enter(one).unwrap();
        let _second = gate.enter(one).unwrap();
        assert!(gate.enter(one).is_none());
        let _third = gate.enter(other).unwrap();
        assert!(gate.enter(other).is_none(), "the total is reached");
        drop(first);
        assert!(gate.enter(other).is_some());
    }

    #[test]
    fn a_burst_passes_and_then_the_pace_holds() {
        let pace = Pace::new(2.0, 3.0);
        let start = Instant::now();
        assert_eq!((0..5).filter(|_| pace.allows("a", start)).count(), 3);
        assert!(pace.allows("b", start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..5).filter(|_| pace.allows("a", later)).count(), 2);
    }

    #[test]
    fn a_flood_of_keys_does_not_grow_the_table_without_end() {
        let pace = Pace::new(1.0, 2.0);
        let start = Instant::now();
        for key in 0..TABLE * 2 {
            pace.allows(key, start);
        }
        assert!(pace.buckets.lock().len() <= TABLE);
        assert!(pace.allows(usize::MAX, start + Duration::from_secs(10)));
    }
}
