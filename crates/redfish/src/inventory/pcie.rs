//! PCIe devices.

use super::health::{Health, is_present};
use crate::document::Document;

/// One device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PcieDevice {
    /// `Id` of the resource.
    pub id: String,
    /// Name.
    pub name: Option<String>,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Part number.
    pub part_number: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Firmware version.
    pub firmware_version: Option<String>,
    /// Slot label.
    pub slot: Option<String>,
    /// `Gen4`, `Gen5`…
    pub pcie_type: Option<String>,
    /// Lanes in use.
    pub lanes: Option<u64>,
    /// Health.
    pub health: Option<Health>,
}

// === impl PcieDevice ===

impl PcieDevice {
    /// Reads a `PCIeDevice` resource; `None` for an empty slot.
    #[must_use]
    pub fn read(document: &Document) -> Option<Self> {
        let root = document.root();
        if !is_present(root) {
            return None;
        }
        let slot = root
            .object("Slot")
            .object("Location")
            .object("PartLocation");
        Some(Self {
            id: super::system::id_of(document),
            name: root.text("Name"),
            manufacturer: root.text("Manufacturer"),
            model: root.text("Model"),
            part_number: root.text("PartNumber"),
            serial_number: root.text("SerialNumber"),
            firmware_version: root.text("FirmwareVersion"),
            slot: slot.text("ServiceLabel").or_else(|| {
                slot.whole("LocationOrdinalValue")
                    .map(|slot| slot.to_string())
            }),
            pcie_type: root.object("PCIeInterface").text("PCIeType"),
            lanes: root
                .object("PCIeInterface")
                .whole("LanesInUse")
                .filter(|lanes| *lanes > 0),
            health: Health::of(root),
        })
    }
}
