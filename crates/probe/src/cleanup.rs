//! What goes with the drives: boot entries that point to them, and the TPM's owner and keys.

use crate::efi::variables::{Variables, entry_name};
use crate::inventory::drives;
use crate::inventory::root::Root;
use crate::say;
use corten_wire::EraseGrant;
use std::fs;

/// Physical presence requests (TCG PPI 1.3, table 3): clear; enable, activate and clear.
const REQUESTS: [&str; 2] = ["14", "5"];

/// Boot entries that start from a partition of a drive that the grant names. Asked before the partitions are gone.
#[must_use]
pub fn before(root: &Root, grant: &EraseGrant) -> Vec<u16> {
    if !grant.remove_boot_entries {
        return Vec::new();
    }
    let Some(variables) = Variables::at(root) else {
        return Vec::new();
    };
    let (mut partitions, mut others) = (Vec::new(), Vec::new());
    for found in drives::scan(root) {
        let is_named = grant.drives.contains(&found.serial_number);
        let name = &found.kernel_name;
        for part in root.names(format!("sys/block/{name}")) {
            let number = |file: &str| root.number::<u64>(format!("sys/block/{name}/{part}/{file}"));
            if let (Some(start), Some(size)) = (number("start"), number("size")) {
                if is_named {
                    &mut partitions
                } else {
                    &mut others
                }
                .push((start, size));
            }
        }
    }
    variables
        .entries()
        .into_iter()
        .filter(|(_, option)| {
            option.partition().is_some_and(|partition| {
                // sysfs counts in 512 bytes, the firmware in the drive's own blocks: 512 or 4096.
                let is_in = |known: &[(u64, u64)]| {
                    known.iter().any(|(start, size)| {
                        [1, 8].into_iter().any(|factor| {
                            partition.start.checked_mul(factor) == Some(*start)
                                && partition.blocks.checked_mul(factor) == Some(*size)
                        })
                    })
                };
                // Two drives that are divided alike cannot be told apart: an entry that may be another drive's stays.
                is_in(&partitions) && !is_in(&others)
            })
        })
        .map(|(number, _)| number)
        .collect()
}

/// Removes those entries and asks for the TPM to be cleared; returns what could not be done.
#[must_use]
pub fn after(root: &Root, grant: &EraseGrant, entries: &[u16]) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(variables) = Variables::at(root).filter(|_| !entries.is_empty()) {
        let order: Vec<u16> = variables
            .boot_order()
            .into_iter()
            .filter(|number| !entries.contains(number))
            .collect();
        if let Err(error) = variables.set_boot_order(&order) {
            told.push(format!("BootOrder could not be set: {error}"));
        }
        let next = variables.get("BootNext");
        let is_gone = |bytes: &Vec<u8>| {
            bytes
                .first_chunk::<2>()
                .is_some_and(|two| entries.contains(&u16::from_le_bytes(*two)))
        };
        if next.as_ref().is_some_and(is_gone)
            && let Err(error) = variables.remove("BootNext")
        {
            told.push(format!("BootNext stays: {error}"));
        }
        for number in entries {
            match variables.remove(&entry_name(*number)) {
                Ok(()) => say!("{} removed", entry_name(*number)),
                Err(error) => told.push(format!("{} stays: {error}", entry_name(*number))),
            }
        }
    }
    if grant.clear_tpm {
        told.extend(clear_tpm(root).err());
    }
    told
}

/// Asks the firmware to clear the TPM at the next start, which is the only way that needs no authorization.
fn clear_tpm(root: &Root) -> Result<(), String> {
    const FOLDER: &str = "sys/class/tpm/tpm0";
    if !root.join(FOLDER).exists() {
        return Ok(());
    }
    let file = root.join(format!("{FOLDER}/ppi/request"));
    let mut last = String::new();
    for request in REQUESTS {
        match fs::write(&file, request) {
            Ok(()) => {
                say!("the firmware clears the TPM at the next start (request {request})");
                return Ok(());
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("the TPM cannot be cleared: {last}"))
}
