//! The arguments for machines with a real firmware.

use std::path::PathBuf;
use std::time::Duration;

use crate::qemu::{Disk, Network, Qemu};

/// Machines with a real firmware: each is a QEMU process behind its BMC.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Machines with a real firmware")]
pub struct QemuArgs {
    /// How many; they come before the machines with clockwork
    #[arg(
        long = "qemu",
        env = "CORTEN_SIM_QEMU",
        value_name = "N",
        default_value_t = 0
    )]
    pub count: usize,
    /// Memory of each, in MiB
    #[arg(
        long = "qemu-memory",
        env = "CORTEN_SIM_QEMU_MEMORY",
        value_name = "MIB",
        default_value_t = 1024
    )]
    pub memory: u64,
    /// Disks of each, on nvme, sata, virtio or scsi; all on one bus have one size
    #[arg(
        long = "qemu-disks",
        env = "CORTEN_SIM_QEMU_DISKS",
        value_name = "BUS:SIZE",
        value_delimiter = ',',
        default_value = "nvme:1G,sata:1G"
    )]
    pub disks: Vec<Disk>,
    /// Network cards of each
    #[arg(
        long = "qemu-cards",
        env = "CORTEN_SIM_QEMU_CARDS",
        value_name = "N",
        default_value_t = 1
    )]
    pub cards: usize,
    /// Bridge for the cards' tap devices; without it QEMU's own network, where 10.0.2.2 is this host's loopback
    #[arg(
        long = "qemu-bridge",
        env = "CORTEN_SIM_QEMU_BRIDGE",
        value_name = "NAME"
    )]
    pub bridge: Option<String>,
    /// Network namespace of the bridge, by name
    #[arg(
        long = "qemu-netns",
        env = "CORTEN_SIM_QEMU_NETNS",
        value_name = "NAME",
        requires = "bridge"
    )]
    pub namespace: Option<String>,
    /// Folder for disks, variables and consoles, which stays; without it one that goes with the fleet
    #[arg(long = "qemu-dir", env = "CORTEN_SIM_QEMU_DIR", value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Secure Boot, with Microsoft's keys enrolled
    #[arg(long = "qemu-secure-boot", env = "CORTEN_SIM_QEMU_SECURE_BOOT")]
    pub secure_boot: bool,
    /// A TPM 2.0 each, by swtpm
    #[arg(long = "qemu-tpm", env = "CORTEN_SIM_QEMU_TPM")]
    pub tpm: bool,
    /// The firmware tries PXE too, before HTTP
    #[arg(long = "qemu-pxe", env = "CORTEN_SIM_QEMU_PXE")]
    pub pxe: bool,
    /// Seconds after which a QEMU process is ended, whatever it does
    #[arg(
        long = "qemu-life-seconds",
        env = "CORTEN_SIM_QEMU_LIFE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 3600
    )]
    pub life: u64,
}

impl QemuArgs {
    /// What they describe, if any machine.
    pub(super) fn machines(&self) -> Option<Qemu> {
        let network = match &self.bridge {
            Some(bridge) => Network::Bridge {
                bridge: bridge.clone(),
                namespace: self.namespace.clone(),
            },
            None => Network::User,
        };
        (self.count > 0).then(|| Qemu {
            machines: self.count,
            memory_mib: self.memory,
            disks: self.disks.clone(),
            cards: self.cards,
            network,
            directory: self.directory.clone(),
            secure_boot: self.secure_boot,
            tpm: self.tpm,
            pxe: self.pxe,
            longest_life: Duration::from_secs(self.life),
            ..Qemu::default()
        })
    }
}
