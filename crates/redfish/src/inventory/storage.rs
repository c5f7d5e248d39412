//! Storage controllers, drives and volumes.

use super::health::{Health, is_present};
use crate::document::{Document, Link, Object};
use crate::quirks;

/// One storage controller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StorageController {
    /// `Id` of the Storage resource it belongs to.
    pub storage: String,
    /// `Id` or `MemberId` of the controller, if it has one.
    pub id: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Firmware version.
    pub firmware_version: Option<String>,
    /// Protocols towards the drives (`SAS`, `SATA`, `NVMe`).
    pub device_protocols: Vec<String>,
    /// RAID types that it can build; empty for a plain host adapter.
    pub raid_types: Vec<String>,
    /// Health.
    pub health: Option<Health>,
}

/// One drive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drive {
    /// `Id` of the resource.
    pub id: String,
    /// Its path, for operations; absent for drives known from SimpleStorage only.
    pub path: Option<Link>,
    /// `Id` of the Storage resource that it was found under.
    pub storage: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Revision (firmware of the drive).
    pub revision: Option<String>,
    /// Size in bytes.
    pub capacity_bytes: Option<u64>,
    /// `SAS`, `SATA`, `NVMe`, `PCIe`, `NVMeOverFabrics`, `FC`…
    pub protocol: Option<String>,
    /// `SSD`, `HDD`, `SMR`…
    pub media_type: Option<String>,
    /// Bay or slot.
    pub location: Option<String>,
    /// Globally unique names (NAA, EUI, NGUID), without format.
    pub durable_names: Vec<String>,
    /// `None`, `Dedicated`, `Global`, `Chassis`.
    pub hotspare: Option<String>,
    /// `SelfEncryptingDrive`, `None`…
    pub encryption_ability: Option<String>,
    /// The drive can be reached over more than one path: it may be shared with another host.
    pub multipath: bool,
    /// Another machine of the same BMC reaches it: a shared enclosure, or a storage unit of several systems.
    pub shared: bool,
    /// It lists what it is busy with (`Operations`): whether an erasure is under way can be read.
    pub lists_operations: bool,
    /// Target of `#Drive.SecureErase`, where the BMC offers it.
    pub secure_erase: Option<Link>,
    /// Health.
    pub health: Option<Health>,
}

/// One volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    /// `Id` of the resource.
    pub id: String,
    /// Its path.
    pub path: Option<Link>,
    /// `Id` of the Storage resource it belongs to.
    pub storage: String,
    /// Name.
    pub name: Option<String>,
    /// Size in bytes.
    pub capacity_bytes: Option<u64>,
    /// `RAID1`… or the older `VolumeType` (`RawDevice`, `Mirrored`…).
    pub raid_type: Option<String>,
    /// Paths of the drives that it lies on.
    pub drives: Vec<Link>,
    /// Health.
    pub health: Option<Health>,
}

// === impl StorageController ===

impl StorageController {
    /// Reads one controller: an item of `StorageControllers`, or a `StorageController` resource.
    #[must_use]
    pub fn read(storage: &str, controller: Object<'_>) -> Option<Self> {
        if !is_present(controller) {
            return None;
        }
        let protocols = controller.texts("SupportedDeviceProtocols");
        Some(Self {
            storage: storage.to_owned(),
            id: controller.first_text(&["Id", "MemberId"]),
            name: controller.text("Name"),
            manufacturer: controller.text("Manufacturer"),
            model: controller.text("Model"),
            serial_number: controller.text("SerialNumber"),
            firmware_version: controller.text("FirmwareVersion"),
            device_protocols: protocols,
            raid_types: controller
                .texts("SupportedRAIDTypes")
                .into_iter()
                .filter(|raid| raid != "None")
                .collect(),
            health: Health::of(controller),
        })
    }
}

// === impl Drive ===

impl Drive {
    /// Reads a `Drive` resource; `None` for an empty bay.
    #[must_use]
    pub fn read(document: &Document, storage: Option<&str>) -> Option<Self> {
        let root = document.root();
        if !is_present(root) {
            return None;
        }
        let capacity_bytes = root.whole("CapacityBytes").filter(|bytes| *bytes > 0);
        let (model, serial_number) = (root.text("Model"), root.text("SerialNumber"));
        // A bay that says nothing but its name (Intel's HDD0 to HDD7) holds no drive.
        if capacity_bytes.is_none() && model.is_none() && serial_number.is_none() {
            return None;
        }
        if quirks::is_media_of_bmc(model.as_deref(), root.text("Manufacturer").as_deref()) {
            return None;
        }
        let part = root.object("PhysicalLocation").object("PartLocation");
        let old = root
            .objects("Location")
            .into_iter()
            .find_map(|place| place.text("Info"));
        Some(Self {
            id: super::system::id_of(document),
            path: Link::parse(document.path()).ok(),
            storage: storage.map(str::to_owned),
            name: root.text("Name"),
            manufacturer: root.text("Manufacturer"),
            model,
            serial_number,
            revision: root.first_text(&["Revision", "FirmwareVersion"]),
            capacity_bytes,
            protocol: root.text("Protocol"),
            media_type: root.text("MediaType"),
            location: part.text("ServiceLabel").or(old).or_else(|| {
                part.whole("LocationOrdinalValue")
                    .map(|bay| bay.to_string())
            }),
            durable_names: root
                .objects("Identifiers")
                .into_iter()
                .filter_map(|name| name.text("DurableName"))
                .collect(),
            hotspare: root.text("HotspareType"),
            encryption_ability: root.text("EncryptionAbility"),
            multipath: root.flag("Multipath").unwrap_or(false)
                || root.flag("MultipathEnabled").unwrap_or(false),
            shared: false,
            lists_operations: root
                .value("Operations")
                .is_some_and(serde_json::Value::is_array),
            secure_erase: crate::operations::action::target(root, "#Drive.SecureErase"),
            health: Health::of(root),
        })
    }

    /// Reads a device of SimpleStorage, which knows neither serial numbers nor actions.
    #[must_use]
    pub fn read_simple(device: Object<'_>, storage: &str, index: usize) -> Option<Self> {
        if !is_present(device) {
            return None;
        }
        let capacity_bytes = device.whole("CapacityBytes").filter(|bytes| *bytes > 0);
        let (name, model) = (device.text("Name"), device.text("Model"));
        let manufacturer = device.text("Manufacturer");
        if (capacity_bytes.is_none() && model.is_none())
            || quirks::is_media_of_bmc(model.as_deref(), manufacturer.as_deref())
        {
            return None;
        }
        Some(Self {
            id: format!("{storage}.{index}"),
            storage: Some(storage.to_owned()),
            name,
            manufacturer,
            model,
            capacity_bytes,
            health: Health::of(device),
            ..Self::default()
        })
    }

    /// Whether two entries are one drive: by path, else by serial number and model.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (&self.path, &other.path)
            && a == b
        {
            return true;
        }
        self.serial_number.is_some()
            && self.serial_number == other.serial_number
            && self.model == other.model
    }
}

// === impl Volume ===

impl Volume {
    /// Reads a `Volume` resource.
    #[must_use]
    pub fn read(document: &Document, storage: &str) -> Option<Self> {
        let root = document.root();
        if !is_present(root) {
            return None;
        }
        Some(Self {
            id: super::system::id_of(document),
            path: Link::parse(document.path()).ok(),
            storage: storage.to_owned(),
            name: root.text("Name"),
            capacity_bytes: root.whole("CapacityBytes").or_else(|| {
                root.object("Capacity")
                    .object("Data")
                    .whole("AllocatedBytes")
            }),
            raid_type: root.first_text(&["RAIDType", "VolumeType"]),
            drives: root.object("Links").links("Drives"),
            health: Health::of(root),
        })
    }

    /// Whether a controller makes it of its drives, so that they are not seen themselves (`RAIDType`, or the older `VolumeType`).
    #[must_use]
    pub fn is_raid(&self) -> bool {
        self.raid_type.as_deref().is_some_and(|kind| {
            kind.starts_with("RAID")
                || matches!(
                    kind,
                    "NonRedundant"
                        | "Mirrored"
                        | "StripedWithParity"
                        | "SpannedMirrors"
                        | "SpannedStripesWithParity"
                )
        })
    }

    /// Whether it lies on this drive.
    #[must_use]
    pub fn holds(&self, drive: &Drive) -> bool {
        drive
            .path
            .as_ref()
            .is_some_and(|path| self.drives.iter().any(|held| held.path() == path.path()))
    }
}
