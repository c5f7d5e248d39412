//! When a machine that rests is read whole again: parts are swapped and firmware is updated behind our back.
//!
//! Nothing of it is recorded or remembered: each server has a time of its own in every period, by its UID, so that a restart neither reads the
//! whole fleet at once nor forgets anybody.

use jiff::{SignedDuration, Timestamp};

use corten_api::metal::ServerState;

use crate::hash;
use crate::server::{Act, Decision, Handover, Observed, Reach};

/// Whether the server's time lies after `from` and not after `until`.
pub fn is_due(uid: &str, every: SignedDuration, from: Timestamp, until: Timestamp) -> bool {
    let Some(period) = u64::try_from(every.as_millis())
        .ok()
        .filter(|period| *period > 0)
    else {
        return false;
    };
    let phase = i128::from(hash::of(uid) % period);
    let periods =
        |at: Timestamp| (i128::from(at.as_millisecond()) - phase).div_euclid(i128::from(period));
    periods(from) < periods(until)
}

/// Discovered, in nobody's cleaning and in no run: nothing that reads an inventory for a decision is under way.
pub fn is_settled(o: &Observed) -> bool {
    let record = &o.record;
    let is_dirty = record.notes.dirty.is_some() || record.notes.cleaning.is_some();
    let stands = match record.state {
        Some(ServerState::Available) => !is_dirty,
        Some(ServerState::Reserved) => record.claim.is_some(),
        _ => false,
    };
    stands && record.notes.handover == Handover::Unset && record.discovered && o.run.is_none()
}

/// The server rests: nothing is to be done, and the machine answers and is who it should be.
pub fn rests(o: &Observed, decision: &Decision) -> bool {
    is_settled(o)
        && !o.record.deleting
        && o.dispute.is_none()
        && matches!(o.reach, Reach::Reached(_))
        && decision.act == Act::Nothing
        && decision.state == o.record.state
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn each_server_is_due_once_in_every_period_whatever_the_looks_and_not_all_at_once() {
        let every = SignedDuration::from_secs(1000);
        let mut first = std::collections::BTreeMap::new();
        for n in 0..200 {
            let uid = format!("6f1d-{n}");
            let looks: Vec<i64> = (0..300)
                .map(|look| 1_800_000_000 + look * 10)
                .filter(|from| is_due(&uid, every, at(*from), at(from + 10)))
                .collect();
            assert_eq!(looks.len(), 3, "{uid}");
            assert!(looks.windows(2).all(|two| two[1] - two[0] == 1000));
            *first.entry(looks[0] / 100).or_insert(0) += 1;
        }
        assert!(first.values().all(|count| *count < 50), "{first:?}");
    }

    #[test]
    fn without_a_period_nobody_is_ever_due() {
        assert!(!is_due("a", SignedDuration::ZERO, at(0), at(1_000_000)));
    }
}
