//! How fast one BMC may be asked: two at a time while it keeps up, one at a time with a pause when it does not.
//!
//! BMCs are small computers: past their capacity every request only makes the others slower, and some hang. So the
//! pace follows the latency that the BMC shows, up in steps and down at once (additive increase, multiplicative
//! decrease, as in TCP). Pure.

use std::time::Duration;

/// The longest pause between two requests.
const LONGEST_GAP: Duration = Duration::from_secs(1);
/// Slower than this many times its usual self, a BMC is overloaded.
const OVERLOAD: u32 = 4;
/// Answers below this are never a sign of overload: jitter of a fast BMC is not.
const UNREMARKABLE: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    most: usize,
    places: usize,
    gap: Duration,
    /// Slow-moving floor of the latency: what the BMC needs when it is not busy.
    usual: Option<Duration>,
    good_in_a_row: u32,
}

// === impl Pace ===

impl Pace {
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            places: most,
            gap: Duration::ZERO,
            usual: None,
            good_in_a_row: 0,
        }
    }

    /// How many requests may be in flight.
    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// How long to wait before a request goes out; not for [`Priority::Power`](crate::Priority::Power).
    pub(crate) fn gap(&self) -> Duration {
        self.gap
    }

    /// A request was answered after `latency`; `busy` if the BMC said so itself (429, 503).
    pub(crate) fn answered(&mut self, latency: Duration, busy: bool) {
        let usual = self.usual.unwrap_or(latency);
        // Falls at once, rises by a 32nd, so that a BMC that became slower for good is judged anew in time.
        self.usual = Some(if latency < usual {
            latency
        } else {
            usual + (latency - usual) / 32
        });
        if busy || (latency > UNREMARKABLE && latency > usual.saturating_mul(OVERLOAD)) {
            self.slow_down(latency);
            return;
        }
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        self.gap /= 2;
        if self.gap < Duration::from_millis(5) {
            self.gap = Duration::ZERO;
        }
        if self.gap.is_zero() && self.good_in_a_row >= 4 {
            self.places = (self.places + 1).min(self.most);
        }
    }

    /// A request was not answered in time.
    pub(crate) fn silent(&mut self) {
        self.slow_down(LONGEST_GAP);
    }

    pub(crate) fn limit(&mut self, most: usize) {
        self.most = most.max(1);
        self.places = self.places.min(self.most);
    }

    fn slow_down(&mut self, latency: Duration) {
        self.good_in_a_row = 0;
        self.places = (self.places / 2).max(1);
        self.gap = self.gap.saturating_mul(2).max(latency / 8).min(LONGEST_GAP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_bmc_that_keeps_up_is_asked_two_at_a_time_without_pause() {
        let mut pace = Pace::new(2);
        for latency in [500, 520, 480, 900, 510] {
            pace.answered(ms(latency), false);
        }
        assert_eq!((pace.places(), pace.gap()), (2, Duration::ZERO));
    }

    #[test]
    fn one_that_slows_down_is_asked_one_at_a_time_and_recovers() {
        let mut pace = Pace::new(2);
        pace.answered(ms(100), false);
        pace.answered(ms(2000), false);
        assert_eq!((pace.places(), pace.gap()), (1, ms(250)));
        for _ in 0..12 {
            pace.answered(ms(100), false);
        }
        assert_eq!((pace.places(), pace.gap()), (2, Duration::ZERO));
    }

    #[test]
    fn one_that_says_it_is_busy_is_believed() {
        let mut pace = Pace::new(2);
        pace.answered(ms(10), true);
        assert_eq!(pace.places(), 1);
        assert!(pace.gap() > Duration::ZERO);
    }

    #[test]
    fn the_pause_never_exceeds_a_second() {
        let mut pace = Pace::new(2);
        for _ in 0..20 {
            pace.silent();
        }
        assert_eq!((pace.places(), pace.gap()), (1, LONGEST_GAP));
    }

    #[test]
    fn a_fast_bmcs_jitter_is_not_overload() {
        let mut pace = Pace::new(2);
        for latency in [1, 200, 1, 150, 2, 249] {
            pace.answered(ms(latency), false);
        }
        assert_eq!((pace.places(), pace.gap()), (2, Duration::ZERO));
    }
}
