//! The circuit breaker of one BMC: silent often enough, it is left alone for a while and then probed once.
//!
//! Pure: the time and the jitter are inputs. Only silence counts (no connection, no answer, cut answers); an error
//! that the BMC itself sends proves that it is there.

use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// When to stop asking, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerConfig {
    /// Failures in a row before the BMC is left alone.
    pub threshold: u32,
    /// The first pause; each failed probe doubles it.
    pub first_pause: Duration,
    /// The longest pause. It bounds how late a BMC that came back is noticed.
    pub longest_pause: Duration,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    failures: u32,
    last: Option<Arc<str>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Closed,
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One probe is out.
    HalfOpen {
        pause: Duration,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Admission {
    Go,
    /// Go, and whatever comes of it must be told: nobody else is let through meanwhile.
    Probe,
    No {
        wait: Duration,
        failures: u32,
        last: Arc<str>,
    },
}

// === impl BreakerConfig ===

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            threshold: 3,
            first_pause: Duration::from_secs(5),
            longest_pause: Duration::from_secs(60),
        }
    }
}

// === impl Breaker ===

impl Breaker {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            failures: 0,
            last: None,
            state: State::Closed,
        }
    }

    pub(crate) fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed => Admission::Go,
            State::Open { until, pause } if until <= now => {
                self.state = State::HalfOpen { pause };
                Admission::Probe
            }
            State::Open { until, .. } => self.no(until - now),
            // How long the probe takes is not known; a second is a fair guess to come back after.
            State::HalfOpen { .. } => self.no(Duration::from_secs(1)),
        }
    }

    /// What [`Self::admit`] would say, without taking the probe: asked before queueing.
    pub(crate) fn refuses(&self, now: Instant) -> Option<Admission> {
        match self.state {
            State::Open { until, .. } if until > now => Some(self.no(until - now)),
            _ => None,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    pub(crate) fn answered(&mut self) {
        self.failures = 0;
        self.last = None;
        self.state = State::Closed;
    }

    /// `jitter` in 0..1 spreads the probes of BMCs that fell silent together.
    pub(crate) fn silent(&mut self, now: Instant, why: &str, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        self.last = Some(Arc::from(why));
        let pause = match self.state {
            State::Closed if self.failures < self.config.threshold => return,
            State::Closed => self.config.first_pause,
            // A request that was out when the breaker opened: the pause is already running.
            State::Open { .. } => return,
            State::HalfOpen { pause } => pause.saturating_mul(2).min(self.config.longest_pause),
        };
        let jittered = pause.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0));
        self.state = State::Open {
            until: now + jittered,
            pause,
        };
    }

    /// The probe was given up before it had an outcome: the next caller probes.
    pub(crate) fn probe_abandoned(&mut self, now: Instant) {
        if let State::HalfOpen { pause } = self.state {
            self.state = State::Open { until: now, pause };
        }
    }

    pub(crate) fn reset(&mut self) {
        self.answered();
    }

    fn no(&self, wait: Duration) -> Admission {
        Admission::No {
            wait,
            failures: self.failures,
            last: self.last.clone().unwrap_or_else(|| Arc::from("no answer")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(BreakerConfig::default()), Instant::now())
    }

    fn open(breaker: &mut Breaker, now: Instant) {
        for _ in 0..3 {
            breaker.silent(now, "hung", 1.0);
        }
    }

    #[test]
    fn a_bmc_is_left_alone_after_three_silences_in_a_row() {
        let (mut breaker, now) = breaker();
        breaker.silent(now, "hung", 1.0);
        breaker.silent(now, "hung", 1.0);
        breaker.answered();
        breaker.silent(now, "hung", 1.0);
        breaker.silent(now, "hung", 1.0);
        assert_eq!(breaker.admit(now), Admission::Go);
        breaker.silent(now, "hung", 1.0);
        assert!(matches!(
            breaker.admit(now),
            Admission::No { failures: 3, .. }
        ));
    }

    #[test]
    fn one_probe_goes_out_and_an_answer_closes() {
        let (mut breaker, now) = breaker();
        open(&mut breaker, now);
        let later = now + Duration::from_secs(5);
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert!(matches!(breaker.admit(later), Admission::No { .. }));
        breaker.answered();
        assert_eq!(breaker.admit(later), Admission::Go);
    }

    #[test]
    fn each_failed_probe_doubles_the_pause_up_to_the_longest() {
        let (mut breaker, mut now) = breaker();
        open(&mut breaker, now);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let Admission::No { wait, .. } = breaker.admit(now) else {
                panic!("open")
            };
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(breaker.admit(now), Admission::Probe);
            breaker.silent(now, "hung", 1.0);
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn an_abandoned_probe_leaves_the_door_to_the_next_caller() {
        let (mut breaker, now) = breaker();
        open(&mut breaker, now);
        let later = now + Duration::from_secs(5);
        assert_eq!(breaker.admit(later), Admission::Probe);
        breaker.probe_abandoned(later);
        assert_eq!(breaker.admit(later), Admission::Probe);
    }

    #[test]
    fn jitter_shortens_the_pause_by_at_most_a_quarter() {
        for jitter in [-1.0, 0.0, 0.5, 1.0, 7.0] {
            let (mut breaker, now) = breaker();
            for _ in 0..3 {
                breaker.silent(now, "hung", jitter);
            }
            let Admission::No { wait, .. } = breaker.admit(now) else {
                panic!("open")
            };
            assert!(
                wait >= Duration::from_millis(3750) && wait <= Duration::from_secs(5),
                "{wait:?}"
            );
        }
    }
}
