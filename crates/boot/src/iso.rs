//! ISO 9660 images: one that UEFI boots (El Torito, UEFI 2.10 section 13.3.2), and cloud-init's NoCloud seed.
//!
//! Both hold few files in one folder, so the writer is small and its layout known: where the EFI file is in a bootable image is said, and each boot's
//! command line is laid over it there. The same input makes the same bytes.

pub mod esp;
mod volume;

use crate::UserData;
use crate::piece::Piece;

pub use volume::IsoError;

/// A bootable image, and where the EFI file is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootable {
    /// The image.
    pub pieces: Vec<Piece>,
    /// Offset of the EFI file's first byte; it is in one piece.
    pub offset: u64,
}

/// An image that boots `efi`, from a CD drive, as virtual media, or written to a USB stick (its first sector has a partition table).
///
/// # Errors
/// The EFI file is too long, or too short to be one.
pub fn bootable(efi: Vec<Piece>, time: u32) -> Result<Bootable, IsoError> {
    let esp = esp::system_partition(efi)?;
    let files = vec![volume::Entry {
        name: "efi.img",
        contents: esp.pieces,
    }];
    let (pieces, start) = volume::write("CORTEN", files, Some(0), time)?;
    Ok(Bootable {
        pieces,
        offset: start + esp.offset,
    })
}

/// cloud-init's NoCloud seed (volume `cidata`) for a config drive.
///
/// # Errors
/// The data are too long for an image.
pub fn config_drive(data: &UserData) -> Result<Vec<Piece>, IsoError> {
    // Without user-data, even an empty one, cloud-init does not take the drive for a seed. Ignition reads its own from there (its providers for KubeVirt
    // and Proxmox VE), so it stands there where nobody gave user data for cloud-init.
    let user_data = data.user_data.as_ref().or(data.ignition.as_ref());
    let empty = bytes::Bytes::new();
    let files = [
        ("meta-data", Some(&data.meta_data)),
        ("user-data", Some(user_data.unwrap_or(&empty))),
        ("network-config", data.network_config.as_ref()),
    ];
    let entry = |(name, contents): (_, Option<&bytes::Bytes>)| {
        let contents = vec![Piece::Bytes(contents?.clone())];
        Some(volume::Entry { name, contents })
    };
    let files = files.into_iter().filter_map(entry).collect();
    volume::write("cidata", files, None, 0).map(|(pieces, _)| pieces)
}

#[cfg(test)]
pub(crate) mod tests;
