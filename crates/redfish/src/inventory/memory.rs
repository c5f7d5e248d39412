//! Memory modules.

use super::health::{Health, is_present};
use crate::document::Document;
use crate::quirks;

/// One module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryModule {
    /// `Id` of the resource.
    pub id: String,
    /// Where it sits, as printed on the board (`DIMM A1`).
    pub location: Option<String>,
    /// Size in MiB.
    pub capacity_mib: Option<u64>,
    /// `DDR4`, `DDR5`, `HBM3`…
    pub device_type: Option<String>,
    /// Clock in MHz.
    pub speed_mhz: Option<u64>,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Part number.
    pub part_number: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Health.
    pub health: Option<Health>,
}

// === impl MemoryModule ===

impl MemoryModule {
    /// Reads a `Memory` resource; `None` for an empty slot.
    #[must_use]
    pub fn read(document: &Document) -> Option<Self> {
        let root = document.root();
        // Empty slots: `Absent`, or (Supermicro, HPE) a size of zero.
        let capacity_mib = root
            .whole("CapacityMiB")
            .or_else(|| root.whole("SizeMB"))
            .map(quirks::binary_mib);
        if !is_present(root) || capacity_mib == Some(0) {
            return None;
        }
        let part_location = root
            .object("Location")
            .object("PartLocation")
            .text("ServiceLabel");
        Some(Self {
            id: super::system::id_of(document),
            location: root
                .first_text(&["DeviceLocator"])
                .or(part_location)
                .or_else(|| root.text("Name")),
            capacity_mib,
            device_type: root.first_text(&["MemoryDeviceType", "MemoryType"]),
            speed_mhz: root.whole("OperatingSpeedMhz").filter(|mhz| *mhz > 0),
            manufacturer: root.first_text(&["Manufacturer", "VendorID"]),
            part_number: root.text("PartNumber"),
            serial_number: root.text("SerialNumber"),
            health: Health::of(root),
        })
    }
}
