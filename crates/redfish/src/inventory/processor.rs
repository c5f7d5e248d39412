//! Processors: CPUs, and the accelerators that BMCs list beside them.

use super::health::{Health, is_present};
use crate::document::Document;

/// What a processor is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProcessorKind {
    /// A central processor. Also what a resource without `ProcessorType` counts as.
    #[default]
    Cpu,
    /// A graphics processor.
    Gpu,
    /// An FPGA.
    Fpga,
    /// A signal, neural or other accelerator.
    Accelerator,
    /// Another kind (`Core`, `Thread`, OEM…).
    Other(String),
}

/// One processor package.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Processor {
    /// `Id` of the resource.
    pub id: String,
    /// What it is for.
    pub kind: ProcessorKind,
    /// Socket or slot.
    pub socket: Option<String>,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// `x86`, `ARM`…
    pub architecture: Option<String>,
    /// `x86-64`, `ARM-A64`…
    pub instruction_set: Option<String>,
    /// Cores.
    pub cores: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Highest clock in MHz.
    pub max_speed_mhz: Option<u64>,
    /// Memory of its own in MiB, for accelerators.
    pub memory_mib: Option<u64>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Part number.
    pub part_number: Option<String>,
    /// UUID, for accelerators that have one.
    pub uuid: Option<String>,
    /// Firmware version.
    pub firmware_version: Option<String>,
    /// Health.
    pub health: Option<Health>,
}

// === impl ProcessorKind ===

impl ProcessorKind {
    /// Whether it computes beside the CPUs.
    #[must_use]
    pub fn is_accelerator(&self) -> bool {
        matches!(self, Self::Gpu | Self::Fpga | Self::Accelerator)
    }

    fn from_wire(text: Option<String>) -> Self {
        let Some(text) = text else { return Self::Cpu };
        match text.to_ascii_uppercase().as_str() {
            "CPU" => Self::Cpu,
            "GPU" => Self::Gpu,
            "FPGA" => Self::Fpga,
            "DSP" | "ACCELERATOR" => Self::Accelerator,
            _ => Self::Other(text),
        }
    }

    /// As Redfish spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Fpga => "FPGA",
            Self::Accelerator => "Accelerator",
            Self::Other(text) => text,
        }
    }
}

// === impl Processor ===

impl Processor {
    /// Reads a `Processor` resource; `None` for an empty socket.
    #[must_use]
    pub fn read(document: &Document) -> Option<Self> {
        let root = document.root();
        if !is_present(root) {
            return None;
        }
        let kind = ProcessorKind::from_wire(root.text("ProcessorType"));
        // Cores and threads of a package, listed as processors of their own (DMTF hierarchical processors).
        if matches!(&kind, ProcessorKind::Other(other) if other.eq_ignore_ascii_case("core") || other.eq_ignore_ascii_case("thread"))
        {
            return None;
        }
        let memory = root
            .object("MemorySummary")
            .whole("TotalMemorySizeMiB")
            .or_else(|| {
                root.objects("ProcessorMemory")
                    .iter()
                    .filter_map(|part| part.whole("CapacityMiB"))
                    .reduce(u64::saturating_add)
            });
        Some(Self {
            id: super::system::id_of(document),
            kind,
            socket: root
                .text("Socket")
                .or_else(|| {
                    root.object("Location")
                        .object("PartLocation")
                        .text("ServiceLabel")
                })
                .or_else(|| root.text("Name")),
            manufacturer: root.text("Manufacturer"),
            model: root.first_text(&["Model", "Version"]),
            architecture: root.text("ProcessorArchitecture"),
            instruction_set: root.text("InstructionSet"),
            cores: root.whole("TotalCores").filter(|cores| *cores > 0),
            threads: root.whole("TotalThreads").filter(|threads| *threads > 0),
            max_speed_mhz: root.whole("MaxSpeedMHz").filter(|mhz| *mhz > 0),
            memory_mib: memory.filter(|mib| *mib > 0),
            serial_number: root.text("SerialNumber"),
            part_number: root.text("PartNumber"),
            uuid: root
                .text("UUID")
                .and_then(|uuid| super::SystemUuid::parse(&uuid))
                .filter(|uuid| uuid.is_distinctive())
                .map(|uuid| uuid.to_string()),
            firmware_version: root.text("FirmwareVersion"),
            health: Health::of(root),
        })
    }

    /// Reads a graphics processor from its `PCIeDevice`, on services that list it nowhere else.
    #[must_use]
    pub fn read_gpu(document: &Document) -> Option<Self> {
        let device = super::PcieDevice::read(document)?;
        Some(Self {
            id: device.id,
            kind: ProcessorKind::Gpu,
            socket: device.slot,
            manufacturer: device.manufacturer,
            model: device.model,
            serial_number: device.serial_number,
            part_number: device.part_number,
            firmware_version: device.firmware_version,
            health: device.health,
            ..Self::default()
        })
    }
}
