//! Firmware and software versions.

use crate::document::{Document, Link};

/// One entry of the firmware inventory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Firmware {
    /// `Id` of the resource.
    pub id: String,
    /// Name.
    pub name: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Whether it can be updated through the BMC.
    pub updateable: Option<bool>,
    /// What an update image must match.
    pub software_id: Option<String>,
    /// Its path: a target for updates.
    pub path: Option<Link>,
}

// === impl Firmware ===

impl Firmware {
    /// Reads a `SoftwareInventory` resource; `None` for entries that are no installed version.
    #[must_use]
    pub fn read(document: &Document) -> Option<Self> {
        let root = document.root();
        let id = super::system::id_of(document);
        // iDRAC lists the version it could roll back to, and every available one, beside the installed one.
        if id.starts_with("Previous-") || id.starts_with("Available-") {
            return None;
        }
        // XCC lists pending slots with the version `-*`.
        let version = root
            .text("Version")
            .filter(|version| !version.starts_with("-*") && !version.eq_ignore_ascii_case("none"));
        Some(Self {
            name: root.text("Name"),
            updateable: root.flag("Updateable"),
            software_id: root.text("SoftwareId"),
            path: Link::parse(document.path()).ok(),
            version,
            id,
        })
    }
}
