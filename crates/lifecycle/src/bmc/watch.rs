//! When a BMC is looked at, and when it counts as lost.
//!
//! A dead BMC is said to be lost within a minute: the longest wait between two looks, a look that runs into its
//! deadline, a short wait and a second such look stay below it ([`WORST`]).

use std::time::Duration;

/// The middle of the wait between two looks at a BMC that answers.
pub const INTERVAL: Duration = Duration::from_secs(29);

/// How far a wait may lie from [`INTERVAL`], so that a fleet does not answer in step.
pub const JITTER: Duration = Duration::from_secs(4);

/// How long one look may take.
pub const DEADLINE: Duration = Duration::from_secs(8);

/// The wait before the look that confirms a loss.
pub const CONFIRM: Duration = Duration::from_secs(2);

/// From the death of a BMC to the condition, at the worst.
pub const WORST: Duration = Duration::from_secs(33 + 8 + 2 + 8);

/// The longest wait between two looks at a BMC that does not answer.
pub const LONGEST: Duration = Duration::from_secs(120);

/// The wait until the next look. `failures` is how many looks in a row had no answer; `chance` is between 0 and 1.
pub fn wait(failures: u32, chance: f64) -> Duration {
    let chance = chance.clamp(0.0, 1.0);
    match failures {
        0 => INTERVAL - JITTER + JITTER.mul_f64(2.0 * chance),
        1 => CONFIRM,
        more => {
            let doubled = Duration::from_secs(5).saturating_mul(1 << (more - 2).min(8));
            doubled.min(LONGEST).mul_f64(0.75 + 0.25 * chance)
        }
    }
}

/// Whether a BMC that answered before counts as lost.
pub fn is_lost(failures: u32) -> bool {
    failures >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_bmc_is_noticed_within_a_minute() {
        let worst = wait(0, 1.0) + DEADLINE + wait(1, 1.0) + DEADLINE;
        assert_eq!(worst, WORST);
        assert!(worst < Duration::from_secs(60));
        assert!(is_lost(2));
    }

    #[test]
    fn one_lost_packet_is_no_loss() {
        assert!(!is_lost(1));
    }

    #[test]
    fn a_lost_bmc_is_asked_less_and_less_but_never_forgotten() {
        let waits: Vec<_> = (2..60).map(|failures| wait(failures, 1.0)).collect();
        assert_eq!(waits[0], Duration::from_secs(5));
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(waits.last(), Some(&LONGEST));
        assert!(wait(40, 0.0) > Duration::from_secs(60));
    }
}
