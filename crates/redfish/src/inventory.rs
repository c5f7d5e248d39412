//! What a machine is made of, read in one pass over its BMC.
//!
//! [`Inventory`] is the result of [`Service::inventory`](crate::model::Service::inventory). It holds facts and nothing
//! else: what could not be read is absent, and [`Sections`] says for each part whether it was read, is not offered by
//! this BMC, or failed. Parsing (this folder) is pure; reading is `read.rs`.

mod firmware;
mod health;
mod mac;
mod memory;
mod network;
mod pcie;
mod processor;
pub(crate) mod read;
mod section;
mod storage;
mod system;

pub use firmware::Firmware;
pub use health::Health;
pub use mac::MacAddress;
pub use memory::MemoryModule;
pub use network::{NetworkAdapter, NetworkInterface};
pub use pcie::PcieDevice;
pub use processor::{Processor, ProcessorKind};
pub use section::{Section, SectionState, Sections, Unread};
pub use storage::{Drive, StorageController, Volume};
pub(crate) use system::id_of;
pub use system::{LedState, ManagerFacts, PowerState, SystemFacts, SystemUuid};

use network::Port;

use crate::document::Anomaly;

/// Everything that was learnt about one system.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// Identity, health, power and totals of the system itself.
    pub system: SystemFacts,
    /// CPUs, and the accelerators that the BMC counts as processors; empty sockets left out.
    pub processors: Vec<Processor>,
    /// Memory modules of the host; empty slots left out.
    pub memory: Vec<MemoryModule>,
    /// Storage controllers.
    pub controllers: Vec<StorageController>,
    /// Drives, each once, however many controllers reach it; empty bays left out.
    pub drives: Vec<Drive>,
    /// Volumes (RAID sets, namespaces).
    pub volumes: Vec<Volume>,
    /// The host's network interfaces, each MAC once; the BMC's own are left out.
    pub interfaces: Vec<NetworkInterface>,
    /// Network adapters (cards), for model, serial number and firmware.
    pub adapters: Vec<NetworkAdapter>,
    /// PCIe devices.
    pub pcie_devices: Vec<PcieDevice>,
    /// Firmware and software versions.
    pub firmware: Vec<Firmware>,
    /// The managers of this system, the BMC first.
    pub managers: Vec<ManagerFacts>,
    /// Which parts were read, which this BMC does not offer, which failed.
    pub sections: Sections,
    /// Requests that the pass took, those before it (service root and collections) not counted twice.
    pub requests: u32,
    /// What was wrong in the documents, by path; bounded.
    pub anomalies: Vec<(String, Anomaly)>,
}

// === impl Inventory ===

impl Inventory {
    /// Central processors, accelerators left out.
    pub fn cpus(&self) -> impl Iterator<Item = &Processor> {
        self.processors
            .iter()
            .filter(|p| p.kind == ProcessorKind::Cpu)
    }

    /// Graphics processors.
    pub fn gpus(&self) -> impl Iterator<Item = &Processor> {
        self.processors
            .iter()
            .filter(|p| p.kind == ProcessorKind::Gpu)
    }

    /// Graphics processors, FPGAs and other accelerators.
    pub fn accelerators(&self) -> impl Iterator<Item = &Processor> {
        self.processors.iter().filter(|p| p.kind.is_accelerator())
    }

    /// Memory of the host in MiB: the sum of the modules where they were read, else the summary.
    ///
    /// The sum is exact. Summaries are not: AMI's counts a 16 GiB module as 15,625 MiB, and rounds.
    #[must_use]
    pub fn memory_mib(&self) -> Option<u64> {
        let sum = self
            .memory
            .iter()
            .filter_map(|module| module.capacity_mib)
            .fold(0_u64, u64::saturating_add);
        if self.sections.memory.is_read() && sum > 0 {
            Some(sum)
        } else {
            self.system.memory_summary_mib
        }
    }

    /// MAC addresses of the host, in the order of the interfaces.
    pub fn macs(&self) -> impl Iterator<Item = MacAddress> {
        self.interfaces.iter().map(|interface| interface.mac)
    }
}
