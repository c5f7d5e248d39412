//! Machines with a real firmware: a BMC of the fleet with a QEMU process behind it.
//!
//! [`Qemu`] says what they are like. Each machine is one `qemu-system-x86_64` without KVM, with OVMF and a variable store of
//! its own; its power is that process's life. The task in [`chassis`] owns it. Every reset is a new process, because the
//! variable store, into which boot overrides are written, can only be changed while nobody has it open.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

pub(crate) mod boot;
pub(crate) mod chassis;
mod command;
pub(crate) mod console;
mod device_path;
mod directory;
mod hardware;
mod medium;
mod process;
mod qmp;
mod store;

pub(crate) use command::tap;

pub use chassis::QemuHandle;
pub use store::StoreError;

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bus {
    /// An NVMe controller with one namespace.
    Nvme,
    /// A SATA drive on AHCI; five at most.
    Sata,
    /// A virtio block device.
    Virtio,
    /// A SCSI drive on virtio; can be pulled out of a running machine.
    Scsi,
}

impl Bus {
    /// In the order in which Redfish lists the drives.
    pub(crate) const ALL: [Self; 4] = [Self::Nvme, Self::Sata, Self::Virtio, Self::Scsi];
}

/// What ails a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// It takes no writes, and says so.
    ReadOnly,
    /// The block at this byte cannot be written, discarded or zeroed: the drive reports an error. It can be read.
    BadBlock(u64),
}

/// A disk that a machine is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// How it is attached.
    pub bus: Bus,
    /// Its size; the file is sparse.
    pub bytes: u64,
}

impl Disk {
    /// A disk of `mib` MiB.
    pub fn new(bus: Bus, mib: u64) -> Self {
        Self {
            bus,
            bytes: mib << 20,
        }
    }
}

/// The text describes no disk.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no disk; expected nvme, sata, virtio or scsi with a size from 1M to 64G: nvme:1G"
)]
pub struct UnknownDisk(String);

impl FromStr for Disk {
    type Err = UnknownDisk;

    fn from_str(text: &str) -> Result<Self, UnknownDisk> {
        let unknown = || UnknownDisk(text.to_owned());
        let (bus, size) = text.split_once(':').ok_or_else(unknown)?;
        let bus = match bus {
            "nvme" => Bus::Nvme,
            "sata" => Bus::Sata,
            "virtio" => Bus::Virtio,
            "scsi" => Bus::Scsi,
            _ => return Err(unknown()),
        };
        let (number, shift) = match size.strip_suffix(['G', 'g']) {
            Some(number) => (number, 10),
            None => (size.strip_suffix(['M', 'm']).ok_or_else(unknown)?, 0),
        };
        let mib = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_shl(shift))
            .filter(|mib| (1..=64 << 10).contains(mib))
            .ok_or_else(unknown)?;
        Ok(Self::new(bus, mib))
    }
}

/// What the network cards of a machine are connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// QEMU's own network, one for each card: DHCP gives 10.0.2.15, and 10.0.2.2 is this host's loopback.
    User,
    /// A tap device for each card, on a bridge that is there.
    Bridge {
        /// Its name.
        bridge: String,
        /// The network namespace that it is in, by name; none: the one that this process is in.
        namespace: Option<String>,
    },
}

/// What machines with a real firmware are like. See [`crate::Builder::qemu`].
#[derive(Clone, Debug)]
pub struct Qemu {
    /// How many.
    pub machines: usize,
    /// Memory of each, in MiB.
    pub memory_mib: u64,
    /// Disks of each.
    pub disks: Vec<Disk>,
    /// Network cards of each, 1 to 4.
    pub cards: usize,
    /// What the cards are connected to.
    pub network: Network,
    /// Where disks, variables and consoles are kept; none: a folder that goes with the fleet.
    pub directory: Option<PathBuf>,
    /// Secure Boot with Microsoft's keys enrolled.
    pub secure_boot: bool,
    /// A TPM 2.0 each, by `swtpm`; its state is in the machine's folder `tpm`.
    pub tpm: bool,
    /// UEFI tries PXE too, which it does before HTTP; without it, HTTP alone.
    pub pxe: bool,
    /// A process lives no longer than that.
    pub longest_life: Duration,
    /// Largest image that is fetched into the virtual CD drive, in bytes.
    pub largest_image: u64,
}

impl Default for Qemu {
    fn default() -> Self {
        Self {
            machines: 1,
            memory_mib: 1024,
            disks: vec![Disk::new(Bus::Nvme, 1024), Disk::new(Bus::Sata, 1024)],
            cards: 1,
            network: Network::User,
            directory: None,
            secure_boot: false,
            tpm: false,
            pxe: false,
            longest_life: Duration::from_secs(3600),
            largest_image: 4 << 30,
        }
    }
}

/// Why machines with a real firmware cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// A program or file is missing. Installing it helps.
    #[error("{0} is missing; scripts/e2e-setup installs it")]
    Missing(String),
    /// The description makes no machine.
    #[error("impossible machine: {0}")]
    Impossible(&'static str),
    /// A file or folder cannot be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The variable store makes no sense.
    #[error("cannot use the variables of {path}")]
    Variables {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// A command of iproute2 failed.
    #[error("cannot make the tap device {name}: {reason}")]
    Tap {
        /// Which.
        name: String,
        /// What `ip` said.
        reason: String,
    },
    /// The process did not start.
    #[error("cannot start QEMU")]
    Start(#[source] std::io::Error),
    /// QEMU ended before it answered.
    #[error("QEMU ended at once: {0}")]
    Ended(String),
}

impl QemuError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}

/// The firmware's files, as Debian's `ovmf` and Fedora's `edk2-ovmf` have them.
#[derive(Clone, Debug)]
pub(crate) struct Firmware {
    pub code: PathBuf,
    pub variables: PathBuf,
}

impl Qemu {
    /// What is missing here to run such machines, if anything is: QEMU, OVMF, util-linux or iproute2.
    pub fn missing(&self) -> Option<String> {
        self.programs().err().map(|error| error.to_string())
    }

    pub(crate) fn programs(&self) -> Result<Firmware, QemuError> {
        let mut programs = vec!["qemu-system-x86_64", "setpriv"];
        if let Network::Bridge { namespace, .. } = &self.network {
            programs.push("ip");
            if namespace.is_some() {
                programs.push("nsenter");
            }
        }
        if self.tpm {
            programs.push("swtpm");
        }
        for program in programs {
            if !on_path(program) {
                return Err(QemuError::Missing(program.to_owned()));
            }
        }
        let names: &[(&str, &str)] = if self.secure_boot {
            &[
                (
                    "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
                    "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
                ),
                (
                    "/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd",
                    "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd",
                ),
            ]
        } else {
            &[
                (
                    "/usr/share/OVMF/OVMF_CODE_4M.fd",
                    "/usr/share/OVMF/OVMF_VARS_4M.fd",
                ),
                (
                    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
                    "/usr/share/edk2/ovmf/OVMF_VARS.fd",
                ),
            ]
        };
        names
            .iter()
            .find(|(code, variables)| Path::new(code).exists() && Path::new(variables).exists())
            .map(|(code, variables)| Firmware {
                code: code.into(),
                variables: variables.into(),
            })
            .ok_or_else(|| QemuError::Missing("OVMF".to_owned()))
    }

    pub(crate) fn check(&self) -> Result<(), QemuError> {
        let count = |bus| self.disks.iter().filter(|disk| disk.bus == bus).count();
        if count(Bus::Sata) > 5
            || [Bus::Nvme, Bus::Virtio, Bus::Scsi]
                .into_iter()
                .any(|bus| count(bus) > 8)
        {
            return Err(QemuError::Impossible(
                "at most five SATA disks, and eight on each other bus",
            ));
        }
        for bus in Bus::ALL {
            let mut sizes = self.disks.iter().filter(|disk| disk.bus == bus);
            let first = sizes.next().map(|disk| disk.bytes);
            if sizes.any(|disk| Some(disk.bytes) != first) {
                return Err(QemuError::Impossible("disks on one bus have one size"));
            }
        }
        if !(1..=4).contains(&self.cards) {
            return Err(QemuError::Impossible("one to four network cards"));
        }
        if !(256..=16 << 10).contains(&self.memory_mib) {
            return Err(QemuError::Impossible("256 to 16384 MiB of memory"));
        }
        Ok(())
    }
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_read_from_its_text() {
        assert_eq!(
            "nvme:1G".parse::<Disk>().unwrap(),
            Disk::new(Bus::Nvme, 1024)
        );
        assert_eq!(
            "virtio:64M".parse::<Disk>().unwrap(),
            Disk::new(Bus::Virtio, 64)
        );
        for wrong in [
            "nvme",
            "nvme:",
            "ide:1G",
            "sata:0M",
            "sata:1T",
            "sata:99999G",
        ] {
            assert!(wrong.parse::<Disk>().is_err(), "{wrong}");
        }
    }
}
