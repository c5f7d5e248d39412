//! GUID partition tables (UEFI 2.10, section 5.3), as much as it takes to move the backup to a drive's end and to add one partition.
//!
//! Sizes in the table are bounded before anything is allocated: an image is outside input.

use crate::device::BlockDevice;
use crate::efi::load_option::HardDrive;
use std::io;

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// EFI system partition.
const SYSTEM: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];
/// Basic data, for the config drive.
const DATA: [u8; 16] = [
    0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7,
];
const ENTRIES: u32 = 1024;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    sector: u64,
    header: Vec<u8>,
    entries: Vec<u8>,
    entry_size: usize,
}

fn four(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<4>())
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn eight(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<8>())
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

fn sum(header: &[u8]) -> u32 {
    let mut header = header.to_vec();
    put(&mut header, 16, &[0; 4]);
    crc32fast::hash(&header)
}

impl Table {
    /// Reads the primary table, with blocks of 512 or 4096 bytes; none where there is none that is whole.
    ///
    /// # Errors
    /// The drive's.
    pub fn read(block: &dyn BlockDevice) -> io::Result<Option<Self>> {
        for sector in [512_u64, 4096] {
            if block.size() < sector * 68 {
                continue;
            }
            let mut header = vec![0_u8; usize::try_from(sector).unwrap_or_default()];
            block.read_at(sector, &mut header)?;
            let Some((at, length)) = Self::place(&header, sector) else {
                continue;
            };
            if at.checked_add(length).is_none_or(|end| end > block.size()) {
                continue;
            }
            let mut entries = vec![0_u8; usize::try_from(length).unwrap_or_default()];
            block.read_at(at, &mut entries)?;
            if let Some(table) = Self::parse(sector, &header, entries) {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    /// Where the entries stand, in bytes, and how long they are.
    fn place(header: &[u8], sector: u64) -> Option<(u64, u64)> {
        let length = usize::try_from(four(header, 12)).ok()?;
        let is_ours = header.get(..8)? == SIGNATURE && (92..=512).contains(&length);
        if !is_ours || sum(header.get(..length)?) != four(header, 16) {
            return None;
        }
        let (count, size) = (four(header, 80), four(header, 84));
        let is_sane =
            count > 0 && count <= ENTRIES && (128..=1024).contains(&size) && size % 8 == 0;
        let at = eight(header, 72).checked_mul(sector)?;
        (is_sane && at >= 2 * sector).then_some((at, u64::from(count) * u64::from(size)))
    }

    fn parse(sector: u64, header: &[u8], entries: Vec<u8>) -> Option<Self> {
        let length = usize::try_from(four(header, 12)).ok()?;
        if crc32fast::hash(&entries) != four(header, 88) {
            return None;
        }
        Some(Self {
            sector,
            entry_size: usize::try_from(four(header, 84)).ok()?,
            header: header.get(..length)?.to_vec(),
            entries,
        })
    }

    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.chunks_exact(self.entry_size)
    }

    /// The EFI system partition; none without one.
    #[must_use]
    pub fn system_partition(&self) -> Option<HardDrive> {
        self.rows().zip(1_u32..).find_map(|(row, number)| {
            let (first, last) = (eight(row, 32), eight(row, 40));
            if row.get(..16)? != SYSTEM || last < first {
                return None;
            }
            Some(HardDrive {
                number,
                start: first,
                blocks: (last - first).checked_add(1)?,
                signature: *row.get(16..)?.first_chunk::<16>()?,
                is_gpt: true,
            })
        })
    }

    /// Last block that a partition takes.
    fn last_used(&self) -> u64 {
        self.rows()
            .filter(|row| row.iter().take(16).any(|byte| *byte != 0))
            .map(|row| eight(row, 40))
            .max()
            .unwrap_or_default()
    }

    /// Makes the table reach to the end of a drive of `size` bytes.
    ///
    /// # Errors
    /// For people, where a partition lies beyond.
    pub fn stretch(&mut self, size: u64) -> Result<(), String> {
        let last = (size / self.sector).saturating_sub(1);
        let rows = (self.entries.len() as u64).div_ceil(self.sector);
        let usable = last.saturating_sub(rows + 1);
        if self.last_used() > usable {
            return Err("the image's partitions reach beyond the drive".to_owned());
        }
        put(&mut self.header, 32, &last.to_le_bytes());
        put(&mut self.header, 48, &usable.to_le_bytes());
        Ok(())
    }

    /// Adds a partition for `length` bytes at the end; returns its first byte.
    ///
    /// # Errors
    /// For people, where there is no room.
    pub fn append(&mut self, length: u64, name: &str, guid: [u8; 16]) -> Result<u64, String> {
        let align = (1 << 20) / self.sector;
        let end = eight(&self.header, 48).saturating_add(1);
        let start = end.saturating_sub(length.div_ceil(self.sector)) / align * align;
        if start <= self.last_used() || start == 0 {
            return Err("there is no room behind the image for the config drive".to_owned());
        }
        let size = self.entry_size;
        let row = self
            .entries
            .chunks_exact_mut(size)
            .find(|row| row.iter().take(16).all(|byte| *byte == 0))
            .ok_or("the image's partition table is full")?;
        row.fill(0);
        put(row, 0, &DATA);
        put(row, 16, &guid);
        put(row, 32, &start.to_le_bytes());
        put(row, 40, &(end - 1).to_le_bytes());
        let units: Vec<u8> = name
            .encode_utf16()
            .take(35)
            .flat_map(u16::to_le_bytes)
            .collect();
        put(row, 56, &units);
        Ok(start * self.sector)
    }

    /// Writes both copies, the backup first.
    ///
    /// # Errors
    /// The drive's.
    pub fn write(&self, block: &dyn BlockDevice) -> io::Result<()> {
        let last = eight(&self.header, 32);
        let rows = (self.entries.len() as u64).div_ceil(self.sector);
        let backup_entries = last.saturating_sub(rows);
        block.write_at(backup_entries * self.sector, &self.entries)?;
        block.write_at(last * self.sector, &self.copy(last, 1, backup_entries))?;
        let at = eight(&self.header, 72);
        block.write_at(at * self.sector, &self.entries)?;
        block.write_at(self.sector, &self.copy(1, last, at))
    }

    /// A header block that stands at `own`.
    fn copy(&self, own: u64, other: u64, entries: u64) -> Vec<u8> {
        let mut header = self.header.clone();
        put(&mut header, 24, &own.to_le_bytes());
        put(&mut header, 32, &other.to_le_bytes());
        put(&mut header, 72, &entries.to_le_bytes());
        put(
            &mut header,
            88,
            &crc32fast::hash(&self.entries).to_le_bytes(),
        );
        let crc = sum(&header);
        put(&mut header, 16, &crc.to_le_bytes());
        header.resize(usize::try_from(self.sector).unwrap_or_default(), 0);
        header
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A disk image of `size` bytes with a system partition at its second MiB.
    pub(crate) fn disk(size: usize) -> Vec<u8> {
        let mut bytes = vec![0_u8; size];
        let mut header = vec![0_u8; 92];
        put(&mut header, 0, SIGNATURE);
        put(&mut header, 8, &[0, 0, 1, 0, 92]);
        put(&mut header, 40, &34_u64.to_le_bytes());
        put(&mut header, 72, &2_u64.to_le_bytes());
        put(&mut header, 80, &128_u32.to_le_bytes());
        put(&mut header, 84, &128_u32.to_le_bytes());
        let mut entries = vec![0_u8; 128 * 128];
        put(&mut entries, 0, &SYSTEM);
        put(&mut entries, 16, &[9; 16]);
        put(&mut entries, 32, &2048_u64.to_le_bytes());
        put(&mut entries, 40, &4095_u64.to_le_bytes());
        let mut table = Table {
            sector: 512,
            header,
            entries,
            entry_size: 128,
        };
        table.stretch(size as u64).unwrap();
        let last = size / 512 - 1;
        let header = table.copy(1, last as u64, 2);
        put(&mut bytes, 512, &header);
        put(&mut bytes, 1024, &table.entries);
        bytes
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..2000) {
            let mut disk = disk(64 << 10 << 6);
            put(&mut disk, at, &bytes);
            for sector in [512_usize, 4096] {
                let header = &disk[sector..sector * 2];
                if let Some((at, length)) = Table::place(header, sector as u64) {
                    let at = usize::try_from(at).unwrap();
                    let entries = disk.get(at..at + usize::try_from(length).unwrap());
                    let table = entries
                        .and_then(|entries| Table::parse(sector as u64, header, entries.to_vec()));
                    if let Some(mut table) = table {
                        let _ = table.system_partition();
                        let _ = table.stretch(1 << 20);
                        let _ = table.append(1 << 16, "x", [1; 16]);
                    }
                }
            }
        }
    }
}
