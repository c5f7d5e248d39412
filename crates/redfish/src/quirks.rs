//! Where BMCs differ from what they advertise, or from the specification: one table.
//!
//! Capability comes first: what a resource advertises is believed, and a row is only here because some product
//! advertises wrongly, or not at all. Each row says what shows it.

use crate::document::Document;
use crate::gateway::Manners;

/// A deviation that code asks about by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quirk {
    /// `$expand` is advertised and must not be used.
    ExpandUnusable,
    /// The boot override is not changed on the ComputerSystem but on its settings resource (`@Redfish.Settings`).
    BootThroughSettings,
    /// The boot override must name `BootSourceOverrideMode` together with the target, or it is refused or falls back to Legacy.
    BootModeRequired,
    /// A changed boot override needs target and `Enabled` in one request, and `Enabled` alone to disable.
    BootDisableAlone,
    /// Its own ETags are refused: `If-Match: *` is sent.
    RejectsOwnEtag,
    /// `If-Match: *` is refused: the ETag read is sent.
    RejectsWildcardEtag,
    /// Virtual media are inserted by PATCH of `Image`, no action being offered.
    MediaByPatch,
    /// `TransferProtocolType` must be given with the image.
    MediaNeedsProtocol,
    /// A change is answered 202 without a task to follow.
    AcceptedWithoutTask,
    /// A successful change is answered with the body of an error.
    SuccessAsError,
    /// The task's address is in `Location` of a 201 or 202, as a job.
    JobInLocation,
    /// Sessions are offered and do not work; Basic is used.
    BasicOnly,
    /// Two requests at a time are too many.
    OneRequestAtATime,
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

/// One row: for whom, what, and what shows it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Whose firmware.
    pub vendor: Vendor,
    /// What the product's name contains; empty for all of the vendor's.
    pub product: &'static str,
    /// What is different.
    pub quirk: Quirk,
    /// The recording, or the public source, that shows it.
    pub shown_by: &'static str,
}

/// The table.
pub const TABLE: &[Row] = &[
    Row {
        vendor: Vendor::Ami,
        product: "AMI Redfish Server",
        quirk: Quirk::BootThroughSettings,
        shown_by: "recording nvidia-dgxh100-ami-23.11: Systems/DGX @Redfish.Settings -> Systems/DGX/SD; nv-redfish-quirks",
    },
    Row {
        vendor: Vendor::Ami,
        product: "AMI Redfish Server",
        quirk: Quirk::RejectsOwnEtag,
        shown_by: "nv-redfish-quirks: AMI answers 412 to the ETag that it gave; If-Match: * is accepted",
    },
    Row {
        vendor: Vendor::Hpe,
        product: "",
        quirk: Quirk::RejectsWildcardEtag,
        shown_by: "nv-redfish-quirks: iLO answers 412 to If-Match: *",
    },
    Row {
        vendor: Vendor::Hpe,
        product: "",
        quirk: Quirk::SuccessAsError,
        shown_by: "nv-redfish-quirks: iLO answers 200 with error.@Message.ExtendedInfo naming Base.Success or iLO.SystemResetRequired",
    },
    Row {
        vendor: Vendor::Supermicro,
        product: "",
        quirk: Quirk::BootModeRequired,
        shown_by: "recording supermicro-sys821ge-tnhr-11.01.01: BootSourceOverrideMode without AllowableValues; sushy's Supermicro driver sends the mode with each target",
    },
    Row {
        vendor: Vendor::Supermicro,
        product: "",
        quirk: Quirk::AcceptedWithoutTask,
        shown_by: "nv-redfish-quirks: 202 without Location",
    },
    Row {
        vendor: Vendor::Lenovo,
        product: "",
        quirk: Quirk::MediaByPatch,
        shown_by: "recording lenovo-sr670v2-xcc-2.83: VirtualMedia/EXT1 has Image and no Actions",
    },
    Row {
        vendor: Vendor::Dell,
        product: "",
        quirk: Quirk::JobInLocation,
        shown_by: "nv-redfish-quirks: iDRAC gives the job's address in Location",
    },
    Row {
        vendor: Vendor::OpenBmc,
        product: "",
        quirk: Quirk::MediaNeedsProtocol,
        shown_by: "bmcweb virtual_media.hpp: InsertMedia derives the scheme from Image or TransferProtocolType and refuses without either",
    },
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
        TABLE.iter().any(|row| {
            row.quirk == quirk
                && row.vendor == self.vendor
                && (row.product.is_empty()
                    || self
                        .name
                        .as_deref()
                        .is_some_and(|name| name.contains(row.product)))
        })
    }

    /// What the gateway has to mind for this product.
    #[must_use]
    pub fn manners(&self) -> Manners {
        Manners {
            basic_only: self.has(Quirk::BasicOnly),
            in_flight: self.has(Quirk::OneRequestAtATime).then_some(1),
            rejects_own_etags: self.has(Quirk::RejectsOwnEtag),
            rejects_any_etag: self.has(Quirk::RejectsWildcardEtag),
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
        assert!(TABLE.iter().all(|row| row.shown_by.len() > 20));
    }
}
