//! The firmware's next start goes to the disk.

use crate::efi::load_option::{HardDrive, LoadOption, Node};
use crate::efi::variables::{List, Variables};
use crate::inventory::root::Root;
use std::io;

/// The path that firmware starts from a disk without an entry of its own.
#[cfg(target_arch = "aarch64")]
const LOADER: &str = "\\EFI\\BOOT\\BOOTAA64.EFI";
#[cfg(not(target_arch = "aarch64"))]
const LOADER: &str = "\\EFI\\BOOT\\BOOTX64.EFI";
const DESCRIPTION: &str = "Corten disk";

/// Adds an entry for the system partition (an old one of ours is replaced), first in the order and for the next start.
///
/// # Errors
/// The firmware's. A machine without UEFI has nothing to set: no error.
pub fn from_disk(root: &Root, partition: &HardDrive) -> io::Result<()> {
    let Some(variables) = Variables::at(root) else {
        return Ok(());
    };
    let option = LoadOption {
        active: true,
        description: DESCRIPTION.to_owned(),
        path: vec![
            Node::HardDrive(partition.clone()),
            Node::File(LOADER.to_owned()),
        ],
    };
    let entries = variables.entries();
    let number = entries
        .iter()
        .find(|(_, old)| old.description == DESCRIPTION)
        .map(|(number, _)| *number)
        .or_else(|| {
            (0..=0xffff_u16).find(|number| entries.iter().all(|(taken, _)| taken != number))
        })
        .ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
    let bytes = option
        .to_bytes()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    variables.set(&crate::efi::variables::entry_name(number), &bytes)?;
    let order: Vec<u16> = [number]
        .into_iter()
        .chain(
            variables
                .order(List::Boot)
                .into_iter()
                .filter(|other| *other != number),
        )
        .collect();
    variables.set_order(List::Boot, &order)?;
    variables.set("BootNext", &number.to_le_bytes())
}
