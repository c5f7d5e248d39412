//! Which of the servers that fit a claim gets.
//!
//! The best [`Rank`](super::offer::Rank) wins. Among equals the servers stand on a ring, in the order of a hash of their names under the
//! allocator's seed; a claim enters the ring at the hash of its UID and takes the first server that fits. So claims spread over
//! racks and power feeds rather than filling the fleet in the order of names, a test with a given seed is repeatable, and nothing
//! depends on the order in which objects arrived.

use super::{demand::Demand, nofit::NoFit, offer::Offer};

/// Where `text` stands on the ring under `seed`: FNV-1a, then a finalizer that spreads similar names.
pub fn position(seed: u64, text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// The best of `offers` for a claim, or why none fits. The allocator's index answers the same question without looking at each server.
pub fn choose<'a>(
    demand: &Demand,
    claim_uid: &str,
    offers: impl IntoIterator<Item = &'a Offer>,
    seed: u64,
) -> Result<&'a Offer, NoFit> {
    let start = position(seed, claim_uid);
    let mut report = NoFit::new(demand);
    let mut fitting = Vec::new();
    for offer in offers {
        match demand.check(offer) {
            Ok(()) => fitting.push(offer),
            Err(misfit) => report.count(misfit, 1),
        }
    }
    fitting
        .into_iter()
        .min_by_key(|offer| {
            (
                offer.rank(),
                position(seed, offer.name()).wrapping_sub(start),
                offer.name(),
            )
        })
        .ok_or(report)
}
