//! Samples before and after: what proves that a drive was erased.
//!
//! Where zeros must be left, each sample must be zeros. Where it is the drive's choice (crypto and block erase), each sample must differ from what
//! stood there, or be of one byte's value throughout, as most must not have been before. A drive that held nothing but zeros in all samples and holds something else afterwards cannot be judged.

use super::method::Method;
use super::plain::END;
use crate::device::BlockDevice;
use corten_wire::EraseMethod;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::io;

const SAMPLE: u64 = 4096;
const RANDOM: u32 = 512;
/// Whole ends are read up to here: partition tables, superblocks, RAID labels.
const EDGE: u64 = 1 << 20;

/// What stood where, before.
pub struct Samples {
    spots: Vec<(u64, Vec<u8>)>,
}

impl Samples {
    /// Reads samples: both ends, the beginnings of partitions, random places.
    ///
    /// # Errors
    /// The drive's.
    pub fn take(
        block: &dyn BlockDevice,
        partitions: &[u64],
        wanted: EraseMethod,
    ) -> io::Result<Self> {
        let mut random = SmallRng::from_os_rng();
        let size = block.size();
        let mut places: Vec<u64> = (0..EDGE / SAMPLE).map(|step| step * SAMPLE).collect();
        let tail = size.saturating_sub(EDGE) / SAMPLE * SAMPLE;
        places.extend((0..=EDGE / SAMPLE).map(|step| tail + step * SAMPLE));
        for start in partitions {
            places.extend((0..16).map(|step| start + step * SAMPLE));
        }
        for _ in 0..RANDOM {
            // Of a drive whose middle is left alone, only the ends are judged.
            let place = match wanted {
                EraseMethod::Metadata if random.random_bool(0.5) => {
                    size.saturating_sub(random.random_range(SAMPLE..=END))
                }
                EraseMethod::Metadata => random.random_range(0..END - SAMPLE),
                _ => random.random_range(0..size.max(1)),
            };
            places.push(place / 512 * 512);
        }
        places.sort_unstable();
        places.dedup();
        let mut spots = Vec::new();
        for place in places {
            let length = SAMPLE.min(size.saturating_sub(place));
            if length == 0 {
                continue;
            }
            let mut bytes = vec![0_u8; usize::try_from(length).unwrap_or_default()];
            block.read_at(place, &mut bytes)?;
            spots.push((place, bytes));
        }
        Ok(Self { spots })
    }

    /// Reads the same places again and judges.
    ///
    /// # Errors
    /// For people: what was seen that should not have been.
    pub fn compare(&self, block: &dyn BlockDevice, method: Method) -> Result<(), String> {
        block
            .settle()
            .map_err(|error| format!("caches could not be dropped: {error}"))?;
        if self.spots.is_empty() {
            return Err("there was nothing to sample".to_owned());
        }
        let is_blank = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let was_blank = self.spots.iter().all(|(_, bytes)| is_blank(bytes));
        let mut same = 0;
        for (place, before) in &self.spots {
            let mut now = vec![0_u8; before.len()];
            block
                .read_at(*place, &mut now)
                .map_err(|error| format!("byte {place} cannot be read: {error}"))?;
            if is_blank(&now) {
                continue;
            }
            if method.leaves_zeros() {
                return Err(format!("byte {place} is not zero"));
            }
            if was_blank {
                return Err("all samples were zeros before, and are not now".to_owned());
            }
            if now != *before {
                continue;
            }
            // A drive that leaves one value everywhere may have left it before, too. Of one that held little else nothing is proved.
            let first = now.first().copied().unwrap_or_default();
            if now.iter().any(|byte| *byte != first) {
                return Err(format!("byte {place} holds what it held before"));
            }
            same += 1;
        }
        if same * 2 > self.spots.len() {
            return Err(
                "most samples hold the one value that they held before: nothing shows that anything was erased"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
