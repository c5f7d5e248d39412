//! When a login to a BMC may be tried: at most one that can fail in ten minutes, whoever asks.
//!
//! BMCs lock accounts after a few wrong passwords, so the budget is counted for the BMC over all credentials and
//! features together, and survives a restart: the time of the next attempt is written before the attempt is made.
//! [`decide`] is the entry point. Promise held here: no account is locked out by Corten (`docs/promises.md`).

use jiff::{SignedDuration, Timestamp};

/// The least time between two logins that can fail.
pub const BUDGET: SignedDuration = SignedDuration::from_mins(10);

/// The longest time between two attempts with credentials that were refused before.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// What is known when a login is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The time now.
    pub now: Timestamp,
    /// The persisted time before which no attempt may be made.
    pub next_attempt: Option<Timestamp>,
    /// Which Secret, in which version, the last attempt was made with, as persisted.
    pub last_secret: Option<&'a str>,
    /// Which Secret, in which version, this attempt would be made with.
    pub secret: &'a str,
    /// The persisted time before which a changed Secret is no reason for a further attempt.
    pub next_exception: Option<Timestamp>,
    /// How often in a row these credentials were refused, as far as this process knows.
    pub refusals: u32,
}

/// Whether the login may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Make it, after `next_attempt` has been persisted together with the Secret's version.
    Grant {
        /// The next attempt's time, to be written first.
        next_attempt: Timestamp,
        /// The present time was not one for an attempt, but the Secret is another: to be written too, as it buys no second one.
        next_exception: Option<Timestamp>,
    },
    /// Wait.
    Hold {
        /// From then on asking again helps.
        until: Timestamp,
    },
}

/// Decides on one login. A changed Secret is given one attempt at once, but only once in a window: however often it
/// changes, two logins that can fail are made in ten minutes at most.
pub fn decide(observed: &Observed<'_>) -> Verdict {
    let grant = |next_exception| Verdict::Grant {
        next_attempt: observed.now + interval(observed.refusals),
        next_exception,
    };
    let is_ahead = |at: &Timestamp| *at > observed.now;
    let Some(until) = observed.next_attempt.filter(is_ahead) else {
        return grant(None);
    };
    let changed = observed
        .last_secret
        .is_some_and(|last| last != observed.secret);
    match observed.next_exception.filter(is_ahead) {
        _ if !changed => Verdict::Hold { until },
        None => grant(Some(observed.now + BUDGET)),
        Some(at) => Verdict::Hold {
            until: until.min(at),
        },
    }
}

/// The time to the next attempt after `refusals` refusals in a row: ten minutes, doubled up to an hour.
pub fn interval(refusals: u32) -> SignedDuration {
    let doubled = BUDGET
        .checked_mul(1 << refusals.saturating_sub(1).min(8))
        .unwrap_or(LONGEST);
    doubled.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn observed() -> Observed<'static> {
        Observed {
            now: now(),
            next_attempt: None,
            last_secret: None,
            secret: "uid/7",
            next_exception: None,
            refusals: 0,
        }
    }

    #[test]
    fn the_first_login_is_granted_and_the_next_is_ten_minutes_away() {
        assert_eq!(
            decide(&observed()),
            Verdict::Grant {
                next_attempt: now() + BUDGET,
                next_exception: None,
            }
        );
    }

    #[test]
    fn a_second_login_within_ten_minutes_is_held() {
        let until = now() + SignedDuration::from_mins(4);
        let o = Observed {
            next_attempt: Some(until),
            last_secret: Some("uid/7"),
            ..observed()
        };
        assert_eq!(decide(&o), Verdict::Hold { until });
        let later = Observed { now: until, ..o };
        assert!(matches!(decide(&later), Verdict::Grant { .. }));
    }

    #[test]
    fn a_changed_secret_resets_the_budget_once() {
        let until = now() + SignedDuration::from_mins(4);
        let o = Observed {
            next_attempt: Some(until),
            last_secret: Some("uid/6"),
            ..observed()
        };
        assert!(matches!(decide(&o), Verdict::Grant { .. }));
        let again = Observed {
            last_secret: Some("uid/7"),
            ..o
        };
        assert!(matches!(decide(&again), Verdict::Hold { .. }));
    }

    #[test]
    fn a_time_that_a_human_set_further_away_is_honoured() {
        let until = now() + SignedDuration::from_hours(9);
        let o = Observed {
            next_attempt: Some(until),
            last_secret: Some("uid/7"),
            ..observed()
        };
        assert_eq!(decide(&o), Verdict::Hold { until });
    }

    #[test]
    fn repeated_refusals_are_tried_less_often_but_never_more_often_than_the_budget() {
        let all: Vec<_> = (0..40).map(interval).collect();
        assert_eq!(all[0], BUDGET);
        assert_eq!(all[1], BUDGET);
        assert_eq!(all[2], BUDGET * 2);
        assert_eq!(all[39], LONGEST);
        assert!(all.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(all.iter().all(|interval| *interval >= BUDGET));
    }

    #[test]
    fn a_secret_that_changes_every_second_buys_one_more_login_in_ten_minutes_and_no_other() {
        let mut next = None;
        let mut exception = None;
        let mut granted = Vec::new();
        for second in 0..3600 {
            let secret = format!("uid/{second}");
            let o = Observed {
                now: now() + SignedDuration::from_secs(second),
                next_attempt: next,
                last_secret: Some("uid/before"),
                next_exception: exception,
                secret: &secret,
                refusals: 0,
            };
            if let Verdict::Grant {
                next_attempt,
                next_exception,
            } = decide(&o)
            {
                granted.push(second);
                next = Some(next_attempt);
                exception = next_exception.or(exception);
            }
        }
        for from in 0..3000 {
            let within = granted
                .iter()
                .filter(|at| (from..from + 600).contains(*at))
                .count();
            assert!(within <= 2, "{within} logins from second {from}");
        }
    }

    #[test]
    fn in_any_hour_no_more_than_six_logins_with_one_secret_are_granted() {
        let mut next = None;
        let mut last = None;
        let mut granted = 0;
        for second in 0..3600 {
            let o = Observed {
                now: now() + SignedDuration::from_secs(second),
                next_attempt: next,
                last_secret: last,
                ..observed()
            };
            if let Verdict::Grant { next_attempt, .. } = decide(&o) {
                granted += 1;
                next = Some(next_attempt);
                last = Some("uid/7");
            }
        }
        assert_eq!(granted, 6);
    }
}
