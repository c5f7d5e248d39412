//! What goes with the drives: boot entries that the last tenant may have left, and the TPM's owner and keys.
//!
//! Entries go before the drives do: a cleaning that is cut short leaves none that a later one could not tell from the site's.

pub mod tpm;

use crate::efi::load_option::{HardDrive, LoadOption, Node};
use crate::efi::variables::{List, Variables, is_uefi};
use crate::inventory::drives;
use crate::inventory::root::Root;
use crate::say;
use corten_wire::EraseGrant;
use std::io;

const NO_VARIABLES: &str = "the boot entries may stay: the machine came up by UEFI and its variables (efivarfs) cannot be read. Build the ramdisk with a kernel that has efivarfs, as both profiles' have, and without efi=noruntime on its command line; or say cleaning.bootEntries: Keep";

/// First and length of a partition, in 512 bytes.
type Extent = (u64, u64);

/// Removes what the firmware starts of the last tenant's (boot entries, and the drivers and programs that run before them) where the grant says so, and
/// BootNext; returns what could not be done.
#[must_use]
pub fn boot_entries(root: &Root, grant: &EraseGrant) -> Vec<String> {
    if !grant.remove_boot_entries {
        return Vec::new();
    }
    let Some(variables) = Variables::at(root) else {
        return if is_uefi(root) {
            vec![NO_VARIABLES.to_owned()]
        } else {
            Vec::new()
        };
    };
    let others = others(root, grant);
    let mut told = Vec::new();
    // Whatever the next start was to be, it is nobody's now.
    if let Err(error) = variables.remove("BootNext")
        && error.kind() != io::ErrorKind::NotFound
    {
        told.push(format!("BootNext stays: {error}"));
    }
    for list in List::ALL {
        remove_from(&variables, list, &others, &mut told);
    }
    told
}

fn remove_from(variables: &Variables, list: List, others: &[Extent], told: &mut Vec<String>) {
    let mut gone = Vec::new();
    match variables.numbers(list) {
        Ok(numbers) => {
            for number in numbers {
                match variables.option(list, number) {
                    Ok(Some(option)) if is_tenants(&option, others) => gone.push(number),
                    // What is no option starts nothing.
                    Ok(_) => {}
                    Err(error) => told.push(format!(
                        "{} stays: it cannot be read: {error}",
                        list.option(number)
                    )),
                }
            }
        }
        Err(error) => told.push(format!("efivarfs cannot be read: {error}")),
    }
    if gone.is_empty() {
        return;
    }
    let mut order = variables.order(list);
    order.retain(|number| !gone.contains(number));
    if let Err(error) = variables.set_order(list, &order) {
        told.push(format!("{} could not be set: {error}", list.order()));
    }
    for number in gone {
        let name = list.option(number);
        match variables.remove(&name) {
            Ok(()) => say!("{name} removed"),
            Err(error) => told.push(format!("{name} stays: {error}")),
        }
    }
}

/// Clears the TPM where the grant says so; returns what could not be done.
#[must_use]
pub fn clear_tpm(root: &Root, grant: &EraseGrant) -> Option<String> {
    if grant.clear_tpm {
        tpm::clear(root).err()
    } else {
        None
    }
}

/// Partitions of the drives that the grant does not name.
fn others(root: &Root, grant: &EraseGrant) -> Vec<Extent> {
    let mut others = Vec::new();
    let is_other = |found: &drives::Found| !grant.drives.contains(&found.serial_number);
    for found in drives::scan(root).into_iter().filter(is_other) {
        let name = &found.kernel_name;
        for part in root.names(format!("sys/block/{name}")) {
            let number = |file: &str| root.number::<u64>(format!("sys/block/{name}/{part}/{file}"));
            if let (Some(start), Some(size)) = (number("start"), number("size")) {
                others.push((start, size));
            }
        }
    }
    others
}

/// An entry that the last tenant may have made: for a partition of a cleaned drive or one that is not there (of a cleaning that was cut short, say), or
/// for a network address. What the firmware makes itself names a device alone; an address that the firmware's settings name comes back by itself.
fn is_tenants(option: &LoadOption, others: &[Extent]) -> bool {
    let has_address = option.path.iter().any(names_a_server);
    let is_in = |partition: &HardDrive, known: &[Extent]| {
        known.iter().any(|(start, size)| {
            // sysfs counts in 512 bytes, the firmware in the drive's own blocks: 512 or 4096.
            [1, 8].into_iter().any(|factor| {
                partition.start.checked_mul(factor) == Some(*start)
                    && partition.blocks.checked_mul(factor) == Some(*size)
            })
        })
    };
    // Two drives that are divided alike cannot be told apart: an entry that may be another drive's stays.
    let is_anothers = |partition: &HardDrive| is_in(partition, others);
    has_address
        || option
            .partition()
            .is_some_and(|partition| !is_anothers(partition))
}

/// Whether a node of a device path names something out there (UEFI 2.10, 10.3.4): a URI, the remote end of an IP connection, an iSCSI target, an NVMe over
/// Fabrics subsystem. The firmware's own network entries leave the address to DHCP.
fn names_a_server(node: &Node) -> bool {
    let is_set = |data: &[u8], from: usize, to: usize| {
        data.get(from..to)
            .is_some_and(|address| address.iter().any(|byte| *byte != 0))
    };
    match node {
        Node::Uri(uri) => !uri.trim().is_empty(),
        // IPv4: local, then remote address; IPv6 likewise.
        Node::Other(3, 12, data) => is_set(data, 4, 8),
        Node::Other(3, 13, data) => is_set(data, 16, 32),
        Node::Other(3, 19 | 34, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
