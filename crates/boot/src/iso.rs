//! ISO 9660 images: one that UEFI boots (El Torito, UEFI 2.10 section 13.3.2), and cloud-init's NoCloud seed.
//!
//! Both hold few files in one folder, so the writer is small and its layout known: where the EFI file is in a bootable image is said, and each boot's
//! command line is laid over it there. The same input makes the same bytes.

pub mod esp;
mod volume;

use crate::UserData;

pub use volume::IsoError;

/// A bootable image, and where the EFI file is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Bootable {
    /// The image.
    pub bytes: Vec<u8>,
    /// Offset of the EFI file's first byte; it is in one piece.
    pub offset: u64,
}

impl std::fmt::Debug for Bootable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Bootable({} bytes, EFI file at {})",
            self.bytes.len(),
            self.offset
        )
    }
}

/// An image that boots `efi`, from a CD drive, as virtual media, or written to a USB stick (its first sector has a partition table).
///
/// # Errors
/// The EFI file is too long.
pub fn bootable(efi: &[u8], time: u32) -> Result<Bootable, IsoError> {
    let esp = esp::system_partition(efi)?;
    let files = [volume::Entry {
        name: "efi.img",
        contents: &esp.bytes,
    }];
    let (bytes, start) = volume::write("CORTEN", &files, Some(0), time)?;
    Ok(Bootable {
        bytes,
        offset: start + esp.offset,
    })
}

/// cloud-init's NoCloud seed (volume `cidata`) for a config drive.
///
/// # Errors
/// The data are too long for an image.
pub fn config_drive(data: &UserData) -> Result<Vec<u8>, IsoError> {
    let mut files = vec![volume::Entry {
        name: "meta-data",
        contents: &data.meta_data,
    }];
    // Without user-data, even an empty one, cloud-init does not take the drive for a seed. Ignition reads its own from there (its providers for KubeVirt
    // and Proxmox VE), so it stands there where nobody gave user data for cloud-init.
    let user_data = data.user_data.as_deref().or(data.ignition.as_deref());
    files.push(volume::Entry {
        name: "user-data",
        contents: user_data.unwrap_or_default(),
    });
    if let Some(vendor) = &data.vendor_data {
        files.push(volume::Entry {
            name: "vendor-data",
            contents: vendor,
        });
    }
    if let Some(network) = &data.network_config {
        files.push(volume::Entry {
            name: "network-config",
            contents: network,
        });
    }
    volume::write("cidata", &files, None, 0).map(|(bytes, _)| bytes)
}

#[cfg(test)]
mod tests;
