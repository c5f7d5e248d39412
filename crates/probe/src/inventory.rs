//! What the machine is, read from sysfs, SMBIOS, netlink and the firmware's variables.
//!
//! The entry is [`take`]. A file that is missing or makes no sense costs that property and nothing else. All paths start at a [`Root`], so that tests
//! use trees of their own.

pub mod cpu;
pub mod drives;
mod modes;
pub mod nics;
pub mod pci;
pub mod root;
pub mod smbios;
pub mod tpm;

use corten_wire::registration::{Clock, Data, Kernel, LldpInterface, Registration};
use corten_wire::{DriveName, Hello, Machine};
use root::Root;

/// Who the machine is: enough for a hello, and quick.
#[must_use]
pub fn machine(root: &Root) -> Machine {
    let tables = smbios::read(root);
    let mut macs: Vec<String> = nics::links(root)
        .into_iter()
        .map(|link| link.mac)
        .filter(|mac| !mac.is_empty())
        .collect();
    macs.sort();
    macs.dedup();
    Machine {
        system_uuid: tables.system.uuid,
        serial_number: tables.system.serial_number,
        macs,
        drives: drives::scan(root)
            .iter()
            .filter(|drive| !drive.is_optical() && !drive.is_empty_slot())
            .map(drives::Found::name)
            .collect::<Vec<DriveName>>(),
        unseen: pci::unseen_storage(&pci::devices(root)),
    }
}

/// A hello of this boot.
#[must_use]
pub fn hello(root: &Root, boot_id: &str) -> Hello {
    Hello {
        machine: machine(root),
        boot_id: boot_id.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
    }
}

/// Takes inventory. `lldp` is what was heard until now.
#[must_use]
pub fn take(root: &Root, boot_id: &str, lldp: Vec<LldpInterface>) -> Registration {
    let tables = smbios::read(root);
    let found = drives::scan(root);
    let storage = std::thread::scope(|scope| {
        let asked: Vec<_> = found
            .iter()
            .map(|drive| scope.spawn(move || drive.entry(root)))
            .collect();
        asked
            .into_iter()
            .filter_map(|entry| entry.join().ok())
            .collect()
    });
    let now = jiff::Timestamp::now();
    Registration {
        system_uuid: tables.system.uuid.clone(),
        data: Data {
            timestamp: now.to_string(),
            cpu: cpu::processors(root, &tables),
            network_interfaces: nics::interfaces(root),
            nics: nics::controllers(root),
            lldp,
            storage,
            memory: tables.memory.clone(),
            pci_devices: pci::devices(root),
            tpm: tpm::read(root),
            firmware: crate::efi::variables::firmware(root),
            kernel: kernel(),
            clock: clock(root, now),
            probe_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: boot_id.to_owned(),
            system_info: tables.into_info(),
        },
    }
}

fn kernel() -> Kernel {
    let name = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Kernel {
        release: text(name.release()),
        version: text(name.version()),
        machine: text(name.machine()),
    }
}

fn clock(root: &Root, now: jiff::Timestamp) -> Clock {
    let hardware = root
        .text("sys/class/rtc/rtc0/since_epoch")
        .and_then(|text| text.parse().ok())
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map(|time| time.to_string())
        .unwrap_or_default();
    let uptime_seconds = root
        .text("proc/uptime")
        .and_then(|text| text.split('.').next()?.parse().ok())
        .unwrap_or_default();
    Clock {
        system: now.to_string(),
        hardware,
        uptime_seconds,
    }
}
