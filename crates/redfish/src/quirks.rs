//! Where BMCs differ from what they advertise, or from the specification: one table.
//!
//! Capability comes first: what a resource shows is believed, and most rows are told by it ([`ToldBy::Capability`]).
//! Only where nothing shows the deviation is it told by vendor and product. Each row says what shows it.

use crate::document::Document;
use crate::gateway::Manners;

/// A deviation, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quirk {
    /// The boot override is not changed on the ComputerSystem but on its settings resource (`@Redfish.Settings`).
    BootThroughSettings,
    /// The boot override must name `BootSourceOverrideMode` together with the target, or it falls back to Legacy.
    BootModeRequired,
    /// Its own ETags are refused: `If-Match: *` is sent.
    RejectsOwnEtag,
    /// `If-Match: *` is refused: the ETag read is sent.
    RejectsWildcardEtag,
    /// `TransferProtocolType` must be given with an image.
    MediaNeedsProtocol,
    /// Virtual media are inserted by PATCH of `Image`, no action being offered.
    MediaByPatch,
    /// Virtual media have no `MediaTypes`; the name says what they are.
    MediaWithoutTypes,
    /// A change is answered 202 without a task to follow.
    AcceptedWithoutTask,
    /// The work's address is in `Location`, as a job, whatever the status.
    JobInLocation,
    /// Media that the BMC itself plugs in are listed among the drives.
    MediaAmongDrives,
    /// Sizes of memory modules are counted in decimal megabytes.
    DecimalMemory,
    /// Graphics processors are listed as PCIe devices only.
    GpusAsPcieDevices,
    /// A part of the machine is a ComputerSystem of its own.
    BaseboardAsSystem,
}

/// How code tells that a row applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// By what the documents show, whoever made them: [`Product::has`] is not asked.
    Capability,
    /// By the row's vendor and product, nothing in the documents showing it.
    Vendor,
}

/// Who made a service, as far as its root says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// `Vendor`, or the vendor that the OEM parts name.
    pub vendor: Vendor,
    /// `Product`.
    pub name: Option<String>,
    /// `RedfishVersion`.
    pub redfish_version: Option<String>,
}

/// The makers of BMC firmware that the table knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// Dell iDRAC.
    Dell,
    /// HPE iLO.
    Hpe,
    /// Lenovo XClarity Controller.
    Lenovo,
    /// Supermicro.
    Supermicro,
    /// AMI MegaRAC, under many names (GIGABYTE, NVIDIA DGX, ASRock Rack…).
    Ami,
    /// OpenBMC, stock or NVIDIA's.
    OpenBmc,
    /// Anyone else.
    #[default]
    Other,
}

/// One row: for whom, what, how it is told, and what shows it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Whose firmware.
    pub vendor: Vendor,
    /// What the product's name in the service root contains; empty for all of the vendor's.
    pub product: &'static str,
    /// What is different.
    pub quirk: Quirk,
    /// How code tells.
    pub told_by: ToldBy,
    /// The recording, or the public source, that shows it.
    pub shown_by: &'static str,
}

const fn row(
    vendor: Vendor,
    product: &'static str,
    quirk: Quirk,
    told_by: ToldBy,
    shown_by: &'static str,
) -> Row {
    Row {
        vendor,
        product,
        quirk,
        told_by,
        shown_by,
    }
}

/// The table.
pub const TABLE: &[Row] = &[
    row(
        Vendor::Ami,
        "AMI Redfish Server",
        Quirk::BootThroughSettings,
        ToldBy::Vendor,
        "recording nvidia-dgxh100-ami-23.11: Systems/DGX names Systems/DGX/SD in @Redfish.Settings; lenovo-sr670v2-xcc-2.83 names Pending and does not want it",
    ),
    row(
        Vendor::Supermicro,
        "",
        Quirk::BootModeRequired,
        ToldBy::Vendor,
        "recording supermicro-sys821ge-tnhr-11.01.01 (mode without AllowableValues); sushy's Supermicro driver sends the mode with each target",
    ),
    row(
        Vendor::Ami,
        "AMI Redfish Server",
        Quirk::RejectsOwnEtag,
        ToldBy::Vendor,
        "nv-redfish-quirks 0.22: AMI answers 412 to the ETag that it gave",
    ),
    row(
        Vendor::Hpe,
        "",
        Quirk::RejectsWildcardEtag,
        ToldBy::Vendor,
        "nv-redfish-quirks 0.22: iLO answers 412 to If-Match: *",
    ),
    row(
        Vendor::OpenBmc,
        "",
        Quirk::MediaNeedsProtocol,
        ToldBy::Vendor,
        "bmcweb redfish-core/lib/virtual_media.hpp: the scheme comes from Image or TransferProtocolType, and one of them must have it",
    ),
    row(
        Vendor::Lenovo,
        "",
        Quirk::MediaByPatch,
        ToldBy::Capability,
        "recording lenovo-sr670v2-xcc-2.83: VirtualMedia/EXT1 has Image and no Actions",
    ),
    row(
        Vendor::Ami,
        "AMI Redfish Server",
        Quirk::MediaWithoutTypes,
        ToldBy::Capability,
        "recording gigabyte-h262z63-ami-12.84: Managers/Self/VirtualMedia/CD1 has no MediaTypes",
    ),
    row(
        Vendor::Supermicro,
        "",
        Quirk::AcceptedWithoutTask,
        ToldBy::Capability,
        "nv-redfish-quirks 0.22: 202 without Location",
    ),
    row(
        Vendor::Dell,
        "",
        Quirk::JobInLocation,
        ToldBy::Capability,
        "nv-redfish-quirks 0.22: iDRAC gives the job's address in Location",
    ),
    row(
        Vendor::Ami,
        "AMI Redfish Server",
        Quirk::MediaAmongDrives,
        ToldBy::Capability,
        "recording nvidia-dgxh100-ami-23.11: SimpleStorage/2 lists five virtual USB devices",
    ),
    row(
        Vendor::Ami,
        "AMI Redfish Server",
        Quirk::DecimalMemory,
        ToldBy::Capability,
        "recording gigabyte-h262z63-ami-12.84: 16 GB modules have CapacityMiB 15625",
    ),
    row(
        Vendor::Supermicro,
        "",
        Quirk::GpusAsPcieDevices,
        ToldBy::Capability,
        "recording supermicro-sys821ge-tnhr-11.01.01: Chassis/1/PCIeDevices/GPU1 to GPU8",
    ),
    row(
        Vendor::Ami,
        "AMI Redfish Server",
        Quirk::BaseboardAsSystem,
        ToldBy::Capability,
        "recording nvidia-dgxh100-ami-23.11: Systems/HGX_Baseboard_0 has no Reset action",
    ),
];

// === impl Product ===

impl Product {
    /// Reads the service root.
    #[must_use]
    pub fn of_root(root: &Document) -> Self {
        let object = root.root();
        let name = object.text("Product");
        let oem: Vec<&str> = object
            .object("Oem")
            .entries()
            .map(|(key, _)| key.as_str())
            .collect();
        Self {
            vendor: Vendor::guess(object.text("Vendor").as_deref(), name.as_deref(), &oem),
            name,
            redfish_version: object.text("RedfishVersion"),
        }
    }

    /// Whether the table has `quirk` for this product.
    #[must_use]
    pub fn has(&self, quirk: Quirk) -> bool {
        TABLE
            .iter()
            .any(|row| row.quirk == quirk && row.told_by == ToldBy::Vendor && self.is_meant_by(row))
    }

    /// The rows of the table for this vendor and product: those told by vendor hold, those told by capability hold where the
    /// documents show them.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> + '_ {
        TABLE.iter().filter(|row| self.is_meant_by(row))
    }

    fn is_meant_by(&self, row: &Row) -> bool {
        row.vendor == self.vendor
            && (row.product.is_empty()
                || self
                    .name
                    .as_deref()
                    .is_some_and(|name| name.contains(row.product)))
    }

    /// What the gateway has to mind for this product.
    #[must_use]
    pub fn manners(&self) -> Manners {
        Manners {
            rejects_own_etags: self.has(Quirk::RejectsOwnEtag),
            rejects_any_etag: self.has(Quirk::RejectsWildcardEtag),
            ..Manners::default()
        }
    }

    /// The vendor's name in `Oem` parts, where the table knows the vendor.
    #[must_use]
    pub fn oem_name(&self) -> Option<&'static str> {
        match self.vendor {
            Vendor::Dell => Some("Dell"),
            Vendor::Hpe => Some("Hpe"),
            Vendor::Lenovo => Some("Lenovo"),
            Vendor::Supermicro => Some("Supermicro"),
            Vendor::Ami => Some("Ami"),
            Vendor::OpenBmc => Some("OpenBmc"),
            Vendor::Other => None,
        }
    }
}

// === impl Vendor ===

impl Vendor {
    fn guess(vendor: Option<&str>, product: Option<&str>, oem: &[&str]) -> Self {
        let named = [vendor, product]
            .into_iter()
            .flatten()
            .chain(oem.iter().copied())
            .map(str::to_ascii_lowercase);
        for name in named {
            let found = [
                ("dell", Self::Dell),
                ("integrated dell", Self::Dell),
                ("hpe", Self::Hpe),
                ("hewlett", Self::Hpe),
                ("lenovo", Self::Lenovo),
                ("supermicro", Self::Supermicro),
                ("smci", Self::Supermicro),
                ("ami", Self::Ami),
                ("american megatrends", Self::Ami),
                ("openbmc", Self::OpenBmc),
                ("nvidia", Self::OpenBmc),
            ]
            .into_iter()
            .find(|(word, _)| {
                name == *word
                    || name.starts_with(&format!("{word} "))
                    || (word.len() > 3 && name.contains(word))
            });
            if let Some((_, vendor)) = found {
                return vendor;
            }
        }
        Self::Other
    }
}

/// Whether a drive is one of the media that a BMC itself plugs in over USB, and no part of the machine.
///
/// Shown by the recording nvidia-dgxh100-ami-23.11: SimpleStorage/2 lists AMI's `Virtual Cdrom Device`, `Virtual HDisk Device`, `Virtual Floppy Device`.
/// A cleaning that waited for these to be erased would never end.
#[must_use]
pub fn is_media_of_bmc(model: Option<&str>, manufacturer: Option<&str>) -> bool {
    let model = model.unwrap_or_default().to_ascii_lowercase();
    let maker = manufacturer.unwrap_or_default().to_ascii_lowercase();
    let named = model.starts_with("virtual ")
        && ["cdrom", "hdisk", "floppy", "dvd", "media", "disk"]
            .iter()
            .any(|word| model.contains(word));
    // Spelt "Megatreds" in the recording.
    named
        && (maker.is_empty()
            || maker.starts_with("american mega")
            || maker.starts_with("ami")
            || maker == "n/a")
}

/// A module's size in MiB, where firmware counted in decimal megabytes.
///
/// Shown by the recording gigabyte-h262z63-ami-12.84: 16 GB modules (M393A2K43DB2) have `CapacityMiB` 15625, which is
/// 16384 x 10^6 / 2^20. No module has a size that is no multiple of 1 GiB but becomes one that way.
#[must_use]
pub fn binary_mib(mib: u64) -> u64 {
    const BINARY: u64 = 1 << 20;
    const DECIMAL: u64 = 1_000_000;
    if mib.is_multiple_of(1024) {
        return mib;
    }
    match mib.checked_mul(BINARY) {
        Some(product)
            if product.is_multiple_of(DECIMAL) && (product / DECIMAL).is_multiple_of(1024) =>
        {
            product / DECIMAL
        }
        _ => mib,
    }
}

/// Whether a `PCIeDevice` says that it is a graphics processor.
///
/// Shown by the recording supermicro-sys821ge-tnhr-11.01.01: eight H100 are in Chassis/1/PCIeDevices with the OEM type
/// `#SmcGPUExtensions`, and not among the processors.
#[must_use]
pub fn is_gpu(device: &Document) -> bool {
    let oem = device.root().object("Oem");
    let by_type = oem.entries().any(|(_, part)| {
        part.get("@odata.type")
            .and_then(|kind| kind.as_str())
            .is_some_and(|kind| kind.contains("GPUExtensions"))
    });
    by_type
        || device
            .root()
            .text("DeviceType")
            .is_some_and(|kind| kind.eq_ignore_ascii_case("gpu"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn product(root: serde_json::Value) -> Product {
        Product::of_root(&Document::new("/redfish/v1/", None, root))
    }

    #[test]
    fn the_vendor_is_told_from_what_the_root_has() {
        assert_eq!(product(json!({"Vendor": "Dell"})).vendor, Vendor::Dell);
        assert_eq!(
            product(json!({"Vendor": "AMI", "Product": "AMI Redfish Server"})).vendor,
            Vendor::Ami
        );
        assert_eq!(
            product(json!({"Oem": {"Supermicro": {}}})).vendor,
            Vendor::Supermicro
        );
        assert_eq!(
            product(json!({"Vendor": "HPE", "Oem": {"Hpe": {}}})).vendor,
            Vendor::Hpe
        );
        assert_eq!(
            product(json!({"RedfishVersion": "1.2.0"})).vendor,
            Vendor::Other
        );
        assert_eq!(product(json!({"Vendor": "Amiga"})).vendor, Vendor::Other);
    }

    #[test]
    fn a_module_counted_in_decimal_megabytes_gets_its_true_size() {
        assert_eq!(binary_mib(15_625), 16_384);
        assert_eq!(binary_mib(31_250), 32_768);
        for exact in [8192, 16_384, 32_768, 65_536, 81_559, 98_304] {
            assert_eq!(binary_mib(exact), exact);
        }
    }

    #[test]
    fn media_of_the_bmc_are_no_drives_of_the_machine() {
        assert!(is_media_of_bmc(
            Some("Virtual Cdrom Device"),
            Some("American Megatreds Inc.")
        ));
        assert!(!is_media_of_bmc(
            Some("SAMSUNG MZ1L21T9HCLS-00A07"),
            Some("N/A")
        ));
        assert!(!is_media_of_bmc(None, None));
    }

    #[test]
    fn every_row_says_what_shows_it() {
        let sources = ["recording ", "nv-redfish-quirks ", "bmcweb "];
        assert!(TABLE.iter().all(|row| {
            sources
                .iter()
                .any(|source| row.shown_by.starts_with(source))
        }));
    }
}
