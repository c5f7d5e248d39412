//! A FAT file system with one EFI file at the path that firmware starts of itself.

use std::io::{Cursor, Write};

use super::IsoError;

/// A file system, and where the EFI file is in it.
#[derive(Debug)]
pub struct SystemPartition {
    /// The file system.
    pub bytes: Vec<u8>,
    /// Offset of the EFI file's first byte.
    pub offset: u64,
}

/// Room for FATs and folders beside the file, in bytes; and no smaller than makes FAT16, as firmware likes it.
const OVERHEAD: usize = 1 << 20;
const SMALLEST: usize = 8 << 20;
/// Largest EFI file, in bytes.
const LARGEST: usize = 1 << 30;

/// Makes the file system with `EFI/BOOT/BOOTX64.EFI`.
///
/// # Errors
/// The file is too long.
pub fn system_partition(efi: &[u8]) -> Result<SystemPartition, IsoError> {
    if efi.len() > LARGEST {
        return Err(IsoError::TooLong(efi.len() as u64));
    }
    let size = (efi.len() + efi.len() / 64 + OVERHEAD)
        .max(SMALLEST)
        .next_multiple_of(1 << 16);
    let mut storage = Cursor::new(vec![0u8; size]);
    // The label is what a person sees who looks at the drive; the id is fixed, so that the bytes are.
    let options = fatfs::FormatVolumeOptions::new()
        .volume_id(0x434f_5254)
        .volume_label(*b"CORTEN     ");
    fatfs::format_volume(&mut storage, options).map_err(IsoError::FileSystem)?;
    {
        let system = fatfs::FileSystem::new(&mut storage, fatfs::FsOptions::new())
            .map_err(IsoError::FileSystem)?;
        let folder = system
            .root_dir()
            .create_dir("EFI")
            .and_then(|folder| folder.create_dir("BOOT"))
            .map_err(IsoError::FileSystem)?;
        let mut file = folder
            .create_file("BOOTX64.EFI")
            .map_err(IsoError::FileSystem)?;
        file.write_all(efi)
            .and_then(|()| file.flush())
            .map_err(IsoError::FileSystem)?;
    }
    let bytes = storage.into_inner();
    // On a fresh file system the file's clusters follow each other. That is looked up rather than believed.
    let sector = 512;
    let offset = (0..bytes.len() / sector)
        .map(|number| number * sector)
        .find(|at| bytes.get(*at..at + efi.len()) == Some(efi));
    let offset = offset.ok_or(IsoError::Fragmented)? as u64;
    Ok(SystemPartition { bytes, offset })
}
