//! The partition table's last touch: the backup goes to the drive's end, and the config drive behind the image.

use super::gpt::Table;
use crate::device::BlockDevice;
use crate::efi::load_option::HardDrive;

/// What of an image firmware can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Its EFI system partition.
    Partition(HardDrive),
    /// A GPT without an EFI system partition: nothing for UEFI.
    Nothing,
    /// A table of old, or none: left to the firmware.
    Unknown,
}

/// Moves the backup table, appends the config drive where there is one, and returns what can be started.
///
/// # Errors
/// For people.
pub fn finish(block: &dyn BlockDevice, config: Option<&[u8]>) -> Result<Start, String> {
    let text = |error: std::io::Error| error.to_string();
    if let Some(mut table) = Table::read(block).map_err(text)? {
        table.stretch(block.size())?;
        if let Some(config) = config {
            let at = table.append(config.len() as u64, "config-2", rand::random())?;
            put_and_check(block, at, config)?;
        }
        table.write(block).map_err(text)?;
        return Ok(table
            .system_partition()
            .map_or(Start::Nothing, Start::Partition));
    }
    if let Some(config) = config {
        master_boot_record(block, config)?;
    }
    Ok(Start::Unknown)
}

/// An image with a table of old: a free primary entry takes the config drive.
fn master_boot_record(block: &dyn BlockDevice, config: &[u8]) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut sector = [0_u8; 512];
    block.read_at(0, &mut sector).map_err(text)?;
    if sector.last_chunk::<2>() != Some(&[0x55, 0xaa]) {
        return Err("the image has no partition table for the config drive".to_owned());
    }
    let mut end = 0_u64;
    let mut free = None;
    for index in 0..4 {
        let at = 446 + index * 16;
        let entry = sector.get(at..at + 16).unwrap_or_default();
        let number = |at: usize| {
            entry
                .get(at..)
                .and_then(|rest| rest.first_chunk::<4>())
                .map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
        };
        if entry.get(4) == Some(&0) {
            free = free.or(Some(at));
        } else {
            end = end.max((number(8) + number(12)) * 512);
        }
    }
    let free = free.ok_or("the image's partition table is full")?;
    let at = block.size().saturating_sub(config.len() as u64) >> 20 << 20;
    let (first, count) = (at / 512, (block.size() - at) / 512);
    let (Ok(first), Ok(count)) = (u32::try_from(first), u32::try_from(count)) else {
        return Err("the drive is too large for the image's partition table".to_owned());
    };
    if at < end || at == 0 {
        return Err("there is no room behind the image for the config drive".to_owned());
    }
    put_and_check(block, at, config)?;
    // Not bootable, type Linux, no cylinders.
    let mut entry = vec![0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff];
    entry.extend(first.to_le_bytes());
    entry.extend(count.to_le_bytes());
    for (to, from) in sector.iter_mut().skip(free).zip(entry) {
        *to = from;
    }
    block.write_at(0, &sector).map_err(text)
}

fn put_and_check(block: &dyn BlockDevice, at: u64, config: &[u8]) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    block.write_at(at, config).map_err(text)?;
    block.settle().map_err(text)?;
    let mut seen = vec![0_u8; config.len()];
    block.read_at(at, &mut seen).map_err(text)?;
    if seen != config {
        return Err("the config drive reads back otherwise than it was written".to_owned());
    }
    Ok(())
}
