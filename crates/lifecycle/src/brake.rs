//! The brake: a defect, a wrong selector or a lost cache must not take a fleet down at the speed of a computer.
//!
//! It is judged from what is recorded, so a restart does not release it: more than max(5, 2 %) servers with a destructive start within ten
//! minutes since the last acknowledgement pause destructive work until somebody acknowledges. A cache that lost over 10 % of its servers at
//! once pauses it too.

use std::collections::{BTreeMap, VecDeque};

use corten_api::names;
use jiff::{SignedDuration, Timestamp};

/// The window in which destructive starts are counted.
pub const WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// A pause is remembered by its starts for this long; older runs may have been pruned.
pub const MEMORY: SignedDuration = SignedDuration::from_hours(24 * 7);

/// A destructive start: which server, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// UID of the server.
    pub server: String,
    /// When its run was recorded.
    pub at: Timestamp,
}

/// How many servers may see a destructive start in the window before work pauses.
pub fn limit(fleet: usize, policy: Option<usize>) -> usize {
    policy.unwrap_or_else(|| 5.max(fleet / 50))
}

/// Why destructive work is paused, if it is. `acknowledged` is the time of the last acknowledgement.
pub fn judge(starts: &[Start], limit: usize, acknowledged: Option<Timestamp>) -> Option<String> {
    let mut starts: Vec<&Start> = starts
        .iter()
        .filter(|start| acknowledged.is_none_or(|at| start.at > at))
        .collect();
    starts.sort_by_key(|start| start.at);
    let mut window: VecDeque<&Start> = VecDeque::new();
    let mut servers: BTreeMap<&str, usize> = BTreeMap::new();
    for start in starts {
        window.push_back(start);
        *servers.entry(&start.server).or_default() += 1;
        while let Some(first) = window
            .front()
            .filter(|first| crate::server::after(first.at, WINDOW) < start.at)
        {
            if let Some(count) = servers.get_mut(first.server.as_str()) {
                *count -= 1;
                if *count == 0 {
                    servers.remove(first.server.as_str());
                }
            }
            window.pop_front();
        }
        if servers.len() > limit {
            return Some(format!(
                "{} servers saw a destructive start within ten minutes (until {}), more than {limit}: releases, erasures and forced power actions pause until somebody acknowledges it",
                servers.len(),
                start.at
            ));
        }
    }
    None
}

/// Why destructive work is paused after a list that no longer had `lost` of `before` servers, none of which ended by our own hand.
pub fn lost_cache(before: usize, lost: usize) -> Option<String> {
    (lost > 1 && lost * 10 > before).then(|| {
        format!("{lost} of {before} servers vanished from the API server's list at once: releases, erasures and forced power actions pause until somebody acknowledges it")
    })
}

/// Why destructive work is paused after `back` lists that showed servers as they had been before.
pub fn went_back(back: usize) -> Option<String> {
    (back > 0).then(|| {
        "the API server went back: its list shows servers as they were before, as after a restored snapshot. What was recorded since is lost, so a machine may be another's by now: releases, erasures and forced power actions pause until somebody has looked and acknowledges it".to_owned()
    })
}

/// The command that acknowledges a pause of the shard whose engine holds this Lease.
pub fn remedy(namespace: &str, lease: &str) -> String {
    format!(
        "kubectl annotate lease -n {namespace} {lease} --overwrite {}=$(date -u +%Y-%m-%dT%H:%M:%SZ)",
        names::BRAKE_ACKNOWLEDGED
    )
}

/// A rate: so many a minute, with a burst of as many seconds' worth.
#[derive(Clone, Debug)]
pub struct Rate {
    every: SignedDuration,
    burst: SignedDuration,
    next: Timestamp,
}

impl Rate {
    /// `per_minute` actions a minute, up to `burst` at once.
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let every = SignedDuration::from_millis(60_000 / i64::from(per_minute.max(1)));
        Self {
            every,
            burst: every.saturating_mul(i32::try_from(burst.saturating_sub(1)).unwrap_or(i32::MAX)),
            next: Timestamp::MIN,
        }
    }

    /// When the next action may be sent; none means now.
    pub fn peek(&self, now: Timestamp) -> Option<Timestamp> {
        let at = self.next.checked_sub(self.burst).unwrap_or(Timestamp::MIN);
        (at > now).then_some(at)
    }

    /// Counts an action that was sent.
    pub fn take(&mut self, now: Timestamp) {
        self.next = crate::server::after(self.next.max(now), self.every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn starts(n: i64, apart: i64) -> Vec<Start> {
        (0..n)
            .map(|i| Start {
                server: format!("s{i}"),
                at: at(1000 + i * apart),
            })
            .collect()
    }

    #[test]
    fn six_destructive_starts_in_ten_minutes_pause_a_small_fleet() {
        assert_eq!(judge(&starts(5, 60), limit(12, None), None), None);
        assert!(judge(&starts(6, 60), limit(12, None), None).is_some());
    }

    #[test]
    fn two_per_cent_of_a_large_fleet_may_start() {
        assert_eq!(limit(1000, None), 20);
        assert_eq!(judge(&starts(20, 1), limit(1000, None), None), None);
        assert!(judge(&starts(21, 1), limit(1000, None), None).is_some());
    }

    #[test]
    fn slow_work_never_pauses() {
        assert_eq!(judge(&starts(100, 150), limit(12, None), None), None);
    }

    #[test]
    fn a_server_that_is_released_and_cleaned_counts_once() {
        let mut twice = starts(5, 10);
        twice.extend(starts(5, 10));
        assert_eq!(judge(&twice, limit(12, None), None), None);
    }

    #[test]
    fn a_pause_ends_by_acknowledgement_and_not_by_waiting() {
        let all = starts(6, 60);
        assert!(judge(&all, 5, Some(at(900))).is_some());
        assert_eq!(judge(&all, 5, Some(at(1300))), None);
    }

    #[test]
    fn a_list_that_lost_a_tenth_pauses() {
        assert_eq!(lost_cache(100, 10), None);
        assert!(lost_cache(100, 11).is_some());
        assert_eq!(lost_cache(5, 1), None);
    }

    #[test]
    fn a_rate_lets_a_burst_through_and_then_spaces() {
        let mut rate = Rate::new(60, 3);
        for _ in 0..3 {
            assert_eq!(rate.peek(at(0)), None);
            rate.take(at(0));
        }
        assert_eq!(rate.peek(at(0)), Some(at(1)));
        assert_eq!(rate.peek(at(1)), None);
    }

    #[test]
    fn a_list_that_shows_servers_as_they_were_before_pauses_what_destroys() {
        assert_eq!(went_back(0), None);
        assert!(went_back(1).unwrap().contains("restored snapshot"));
    }
}
