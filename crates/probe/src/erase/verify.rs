//! Samples before and after: what proves that a drive was erased.
//!
//! Where zeros must be left, each sample must be zeros. Where it is the drive's choice (crypto and block erase), random bytes are written in some places
//! first, so that something is there to be gone: then each sample must differ from what stood there, or be of one byte's value throughout.

use super::method::Method;
use super::plain::END;
use crate::device::BlockDevice;
use corten_wire::EraseMethod;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use std::io;

const SAMPLE: u64 = 4096;
const RANDOM: u32 = 512;
/// So many places are written before the drive erases in its own way.
const STAMPS: usize = 16;
/// Whole ends are read up to here: partition tables, superblocks, RAID labels.
const EDGE: u64 = 1 << 20;

/// What stood where, before.
pub struct Samples {
    spots: Vec<(u64, Vec<u8>)>,
    /// Random bytes that the drive held when it was last looked at, because they had been written for it.
    is_stamped: bool,
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
        Ok(Self {
            spots,
            is_stamped: false,
        })
    }

    /// Writes random bytes in some of the places, and looks at all of them again: whatever the drive held, a method that does nothing is seen.
    ///
    /// # Errors
    /// The drive's; or it takes writes and does not keep them.
    pub fn stamp(&mut self, block: &dyn BlockDevice) -> io::Result<()> {
        self.is_stamped = false;
        let mut random = SmallRng::from_os_rng();
        let mut stamps: Vec<(u64, Vec<u8>)> = Vec::new();
        for _ in 0..STAMPS * 4 {
            let at = random.random_range(0..self.spots.len().max(1));
            let Some((place, bytes)) = self.spots.get(at) else {
                break;
            };
            let length = bytes.len() as u64;
            let overlaps = |(other, of): &(u64, Vec<u8>)| {
                *other < place + length && *place < other + of.len() as u64
            };
            if stamps.len() < STAMPS && !stamps.iter().any(overlaps) {
                let mut stamp = vec![0_u8; bytes.len()];
                random.fill_bytes(&mut stamp);
                block.write_at(*place, &stamp)?;
                stamps.push((*place, stamp));
            }
        }
        block.settle()?;
        for (place, bytes) in &mut self.spots {
            block.read_at(*place, bytes)?;
        }
        if stamps.is_empty() || !stamps.iter().all(|stamp| self.spots.contains(stamp)) {
            return Err(io::Error::other("it does not keep what is written"));
        }
        self.is_stamped = true;
        Ok(())
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
        if !method.leaves_zeros() && !self.is_stamped {
            return Err(
                "nothing could be written before, so nothing shows that it is gone".to_owned(),
            );
        }
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
            // A drive that leaves one value everywhere may have left it before, too. The stamps are of many values.
            let first = now.first().copied().unwrap_or_default();
            if now == *before && now.iter().any(|byte| *byte != first) {
                return Err(format!("byte {place} holds what it held before"));
            }
        }
        Ok(())
    }
}
