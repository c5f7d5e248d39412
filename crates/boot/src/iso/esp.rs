//! A FAT file system with one EFI file at the path that firmware starts of itself.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::IsoError;
use crate::piece::{self, Piece};

/// A file system, and where the EFI file is in it.
#[derive(Debug)]
pub struct SystemPartition {
    /// The file system.
    pub pieces: Vec<Piece>,
    /// Offset of the EFI file's first byte.
    pub offset: u64,
}

/// Room for FATs and folders beside the file, in bytes; and no smaller than makes FAT16, as firmware likes it.
const OVERHEAD: u64 = 1 << 20;
const SMALLEST: u64 = 8 << 20;
/// Largest EFI file, in bytes: with its FATs it fits into an image of 2 GiB.
const LARGEST: u64 = 1984 << 20;
const SECTOR: usize = 512;
/// What the file's sectors are told by while it is laid out; their number follows.
const MARK: [u8; 8] = *b"corten\xff\xff";

/// Lays out the file system with `EFI/BOOT/BOOTX64.EFI`.
///
/// # Errors
/// The file is too long, or too short to be an EFI file.
pub fn system_partition(efi: Vec<Piece>) -> Result<SystemPartition, IsoError> {
    let length = piece::length(&efi);
    if length > LARGEST {
        return Err(IsoError::TooLong(length));
    }
    if length < SECTOR as u64 {
        return Err(IsoError::TooShort(length));
    }
    let size = (length + length / 64 + OVERHEAD)
        .max(SMALLEST)
        .next_multiple_of(1 << 16);
    let mut sheet = Sheet::new(size);
    // The label is what a person sees who looks at the drive; the id is fixed, so that the bytes are.
    let options = fatfs::FormatVolumeOptions::new()
        .volume_id(0x434f_5254)
        .volume_label(*b"CORTEN     ");
    fatfs::format_volume(&mut sheet, options).map_err(IsoError::FileSystem)?;
    {
        let system = fatfs::FileSystem::new(&mut sheet, fatfs::FsOptions::new())
            .map_err(IsoError::FileSystem)?;
        let folder = system
            .root_dir()
            .create_dir("EFI")
            .and_then(|folder| folder.create_dir("BOOT"))
            .map_err(IsoError::FileSystem)?;
        let mut file = folder
            .create_file("BOOTX64.EFI")
            .map_err(IsoError::FileSystem)?;
        write_marks(&mut file, length).map_err(IsoError::FileSystem)?;
    }
    let offset = sheet.take_file(length).ok_or(IsoError::Fragmented)?;
    Ok(SystemPartition {
        pieces: sheet.around(offset, efi),
        offset,
    })
}

/// A file of `length` bytes whose sectors have their numbers.
fn write_marks(file: &mut impl Write, length: u64) -> io::Result<()> {
    const MANY: u64 = 128;
    let mut sectors = vec![0u8; MANY as usize * SECTOR];
    let mut number = 0;
    let mut left = length;
    while left > 0 {
        for (sector, number) in sectors.chunks_mut(SECTOR).zip(number..) {
            stamp(sector, number);
        }
        let some = left.min(sectors.len() as u64);
        file.write_all(sectors.get(..some as usize).unwrap_or_default())?;
        (number, left) = (number + MANY, left - some);
    }
    file.flush()
}

/// How a sector of the file begins.
fn mark(number: u64) -> [u8; 16] {
    let mut mark = [0; 16];
    let (magic, place) = mark.split_at_mut(MARK.len());
    magic.copy_from_slice(&MARK);
    place.copy_from_slice(&number.to_le_bytes());
    mark
}

/// Lets a sector of the file, or as much of one as there is, begin so.
fn stamp(sector: &mut [u8], number: u64) {
    for (to, from) in sector.iter_mut().zip(mark(number)) {
        *to = from;
    }
}

/// A disk that keeps what is written to it, but of the file only where it is: so a file of a gigabyte is laid out in the memory of its FATs.
struct Sheet {
    size: u64,
    at: u64,
    sectors: BTreeMap<u64, [u8; SECTOR]>,
    /// The file's first sector, and how many full ones of it stand where they should.
    first: Option<u64>,
    marked: u64,
}

// === impl Sheet ===

impl Sheet {
    fn new(size: u64) -> Self {
        Self {
            size,
            at: 0,
            sectors: BTreeMap::new(),
            first: None,
            marked: 0,
        }
    }

    /// Whether these are the file's next full sector, in its place behind the others.
    fn marks(&mut self, sector: u64, bytes: &[u8]) -> bool {
        let first = *self.first.as_ref().unwrap_or(&sector);
        let is_next = bytes.len() == SECTOR
            && sector == first + self.marked
            && bytes.starts_with(&mark(self.marked));
        if is_next {
            self.first = Some(first);
            self.marked += 1;
        }
        is_next
    }

    /// Where the file is, if all of it is in one piece. What of its last sector was kept goes.
    fn take_file(&mut self, length: u64) -> Option<u64> {
        let (full, rest) = (length / SECTOR as u64, (length % SECTOR as u64) as usize);
        let first = self.first.filter(|_| self.marked == full)?;
        if rest > 0 {
            let last = self.sectors.remove(&(first + full))?;
            let mut wanted = [0; SECTOR];
            stamp(wanted.get_mut(..rest).unwrap_or_default(), full);
            if last != wanted {
                return None;
            }
        }
        Some(first * SECTOR as u64)
    }

    /// The disk with `file` at `offset`.
    fn around(&self, offset: u64, file: Vec<Piece>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut end = 0;
        let mut runs = self.runs();
        runs.push((offset, file));
        runs.sort_by_key(|(at, _)| *at);
        for (at, run) in runs {
            piece::pad(&mut pieces, end, at);
            end = at + piece::length(&run);
            pieces.extend(run);
        }
        piece::pad(&mut pieces, end, self.size);
        pieces
    }

    /// What was written, each with its offset, as few pieces as may be. None spans the file, of which nothing is here.
    fn runs(&self) -> Vec<(u64, Vec<Piece>)> {
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for (number, sector) in &self.sectors {
            let at = number * SECTOR as u64;
            match runs.last_mut() {
                Some((begin, run)) if *begin + run.len() as u64 == at => run.extend(sector),
                _ => runs.push((at, sector.to_vec())),
            }
        }
        let piece = |(at, run)| (at, vec![Piece::from(run)]);
        runs.into_iter().map(piece).collect()
    }

    /// The sector under way, the place in it, and how much of `wanted` is within it.
    fn place(&self, wanted: usize) -> (u64, usize, usize) {
        let within = (self.at % SECTOR as u64) as usize;
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let some = wanted.min(SECTOR - within).min(left);
        (self.at / SECTOR as u64, within, some)
    }
}

impl Seek for Sheet {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Read for Sheet {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let (sector, within, some) = self.place(to.len());
        let to = to.get_mut(..some).unwrap_or_default();
        match self.sectors.get(&sector) {
            Some(found) => {
                to.copy_from_slice(found.get(within..within + some).unwrap_or_default());
            }
            None => to.fill(0),
        }
        self.at += some as u64;
        Ok(some)
    }
}

impl Write for Sheet {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let (sector, within, some) = self.place(from.len());
        let from = from.get(..some).unwrap_or_default();
        let is_kept = self.sectors.contains_key(&sector);
        // Zeros where nothing was are nothing.
        let is_nothing = !is_kept && from.iter().all(|byte| *byte == 0);
        if !is_nothing && !self.marks(sector, from) {
            let kept = self.sectors.entry(sector).or_insert([0; SECTOR]);
            if let Some(to) = kept.get_mut(within..within + some) {
                to.copy_from_slice(from);
            }
        }
        self.at += some as u64;
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// The same file system, written by fatfs into memory.
    fn written(efi: &[u8]) -> Vec<u8> {
        let size = (efi.len() + efi.len() / 64 + OVERHEAD as usize)
            .max(SMALLEST as usize)
            .next_multiple_of(1 << 16);
        let mut storage = Cursor::new(vec![0u8; size]);
        let options = fatfs::FormatVolumeOptions::new()
            .volume_id(0x434f_5254)
            .volume_label(*b"CORTEN     ");
        fatfs::format_volume(&mut storage, options).unwrap();
        {
            let system = fatfs::FileSystem::new(&mut storage, fatfs::FsOptions::new()).unwrap();
            let folder = system.root_dir().create_dir("EFI").unwrap();
            let folder = folder.create_dir("BOOT").unwrap();
            let mut file = folder.create_file("BOOTX64.EFI").unwrap();
            file.write_all(efi).unwrap();
            file.flush().unwrap();
        }
        storage.into_inner()
    }

    fn laid_out(efi: &[u8]) -> Vec<u8> {
        let system = system_partition(vec![Piece::from(efi.to_vec())]).unwrap();
        let bytes = piece::whole(&system.pieces).unwrap();
        assert!(bytes[system.offset as usize..].starts_with(efi));
        bytes
    }

    fn noise(length: usize) -> Vec<u8> {
        (0..length as u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect()
    }

    #[test]
    fn what_is_laid_out_is_what_would_have_been_written() {
        // FAT16, and lengths around a sector and a cluster.
        for length in [512, 513, 1023, 1024, 4096, 4097, 9_000_001, 70_000_000] {
            let efi = noise(length);
            assert!(laid_out(&efi) == written(&efi), "{length} bytes");
        }
    }

    /// From half a GiB on.
    #[test]
    fn a_fat32_is_laid_out_as_it_would_be_written() {
        let mut efi = vec![0; 530 << 20];
        for (number, part) in (0_u64..).zip(efi.chunks_mut(4096)) {
            part[..8].copy_from_slice(&(number + 1).to_le_bytes());
        }
        let written = written(&efi);
        assert_eq!(&written[82..87], b"FAT32");
        // Piece by piece: these are large enough once.
        let mut rest = written.as_slice();
        for piece in system_partition(vec![Piece::from(efi)]).unwrap().pieces {
            let (part, behind) = rest.split_at(piece.length() as usize);
            match piece {
                Piece::Bytes(bytes) => assert!(bytes == part),
                _ => assert!(part.iter().all(|byte| *byte == 0)),
            }
            rest = behind;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_file_that_looks_like_our_marks_is_a_file_like_any() {
        let sector = |number| {
            let mut sector = mark(number).to_vec();
            sector.resize(SECTOR, 7);
            sector
        };
        let efi: Vec<u8> = (0..9).rev().flat_map(sector).collect();
        assert!(laid_out(&efi) == written(&efi));
    }

    #[test]
    fn a_gigabyte_is_laid_out_in_the_memory_of_its_fats() {
        let system = system_partition(vec![Piece::Zeros(1 << 30)]).unwrap();
        let in_memory: u64 = system
            .pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Bytes(_)))
            .map(Piece::length)
            .sum();
        assert!(in_memory < 5 << 20, "{in_memory} bytes");
        assert!(piece::length(&system.pieces) > 1 << 30);
    }

    #[test]
    fn what_is_no_efi_file_is_refused() {
        assert!(matches!(
            system_partition(vec![Piece::Zeros(511)]),
            Err(IsoError::TooShort(511))
        ));
        assert!(matches!(
            system_partition(vec![Piece::Zeros(LARGEST + 1)]),
            Err(IsoError::TooLong(_))
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn any_length_is_laid_out_as_it_would_be_written(length in 512usize..3_000_000) {
            let efi = noise(length);
            prop_assert!(laid_out(&efi) == written(&efi));
        }
    }
}
