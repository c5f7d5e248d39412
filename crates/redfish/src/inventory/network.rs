//! Network interfaces of the host, and the adapters that they sit on.

use super::MacAddress;
use super::health::{Health, is_present};
use crate::document::{Document, Object};

/// One network interface of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkInterface {
    /// `Id` of the resource that named it.
    pub id: String,
    /// Name or description.
    pub name: Option<String>,
    /// The address in use: what DHCP sees.
    pub mac: MacAddress,
    /// The address burnt in, where it differs.
    pub permanent_mac: Option<MacAddress>,
    /// Speed in Mbit/s, where the link is up.
    pub speed_mbps: Option<u64>,
    /// Whether the link is up, where the BMC knows.
    pub link_up: Option<bool>,
    /// `Id` of the adapter it sits on.
    pub adapter: Option<String>,
    /// `Ethernet`, `InfiniBand`…
    pub technology: Option<String>,
}

/// One network card.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkAdapter {
    /// `Id` of the resource.
    pub id: String,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Part number.
    pub part_number: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Firmware package version.
    pub firmware_version: Option<String>,
    /// Slot.
    pub location: Option<String>,
    /// Health.
    pub health: Option<Health>,
}

/// What a port or a network device function of an adapter says about addresses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    pub(crate) id: String,
    pub(crate) macs: Vec<MacAddress>,
    pub(crate) link_up: Option<bool>,
    pub(crate) speed_mbps: Option<u64>,
    pub(crate) technology: Option<String>,
}

// === impl NetworkInterface ===

impl NetworkInterface {
    /// Reads an `EthernetInterface` of a system; `None` for anything that is no interface of the host to the outside:
    /// the host's end of the link to its own BMC, VLANs, and entries without an address.
    #[must_use]
    pub fn read(document: &Document) -> Option<Self> {
        let root = document.root();
        if !is_present(root) || leads_to_manager(document) || is_virtual(root) {
            return None;
        }
        let permanent = mac(root, "PermanentMACAddress");
        let current = mac(root, "MACAddress");
        let address = current.or(permanent)?;
        Some(Self {
            id: super::system::id_of(document),
            name: root.first_text(&["Description", "Name"]),
            mac: address,
            permanent_mac: permanent.filter(|permanent| *permanent != address),
            speed_mbps: root.whole("SpeedMbps").filter(|mbps| *mbps > 0),
            link_up: link_up(root),
            adapter: None,
            technology: None,
        })
    }

    /// Whether `address` is one of this interface's.
    #[must_use]
    pub fn has(&self, address: MacAddress) -> bool {
        self.mac == address || self.permanent_mac == Some(address)
    }
}

impl NetworkAdapter {
    /// Reads a `NetworkAdapter` resource.
    #[must_use]
    pub fn read(document: &Document) -> Option<Self> {
        let root = document.root();
        if !is_present(root) {
            return None;
        }
        let controllers = root.objects("Controllers");
        let location = controllers
            .iter()
            .map(|controller| controller.object("Location"))
            .chain([root.object("Location")])
            .find_map(|place| {
                place
                    .object("PartLocation")
                    .text("ServiceLabel")
                    .or_else(|| place.text("Info"))
            });
        Some(Self {
            id: super::system::id_of(document),
            manufacturer: root.text("Manufacturer"),
            model: root.first_text(&["Model", "Name"]),
            part_number: root.text("PartNumber"),
            serial_number: root.text("SerialNumber"),
            firmware_version: controllers
                .iter()
                .find_map(|controller| controller.text("FirmwarePackageVersion"))
                .filter(|version| version != "nil"),
            location,
            health: Health::of(root),
        })
    }
}

impl Port {
    /// Reads a `Port`, a `NetworkPort` (deprecated) or a `NetworkDeviceFunction`.
    pub(crate) fn read(document: &Document) -> Self {
        let root = document.root();
        let ethernet = root.object("Ethernet");
        let mut macs: Vec<MacAddress> = Vec::new();
        let listed = ethernet
            .texts("AssociatedMACAddresses")
            .into_iter()
            .chain(root.texts("AssociatedNetworkAddresses"));
        let own = ["MACAddress", "PermanentMACAddress"]
            .into_iter()
            .filter_map(|name| ethernet.text(name));
        for text in listed.chain(own) {
            if let Ok(address) = text.parse()
                && !macs.contains(&address)
            {
                macs.push(address);
            }
        }
        let gigabits = root
            .number("CurrentSpeedGbps")
            .map(|gbps| gbps * 1000.0)
            .filter(|mbps| (1.0..1e9).contains(mbps));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in range, just above
        let from_gigabits = gigabits.map(|mbps| mbps as u64);
        Self {
            id: super::system::id_of(document),
            macs,
            link_up: link_up(root),
            speed_mbps: root
                .whole("CurrentLinkSpeedMbps")
                .filter(|mbps| *mbps > 0)
                .or(from_gigabits),
            technology: root.first_text(&[
                "NetDevFuncType",
                "ActiveLinkTechnology",
                "LinkNetworkTechnology",
            ]),
        }
    }
}

/// The host's end of the USB or PCIe network to its BMC (`ToManager` on Lenovo, Supermicro and DMTF's services).
fn leads_to_manager(document: &Document) -> bool {
    let root = document.root();
    let words = [root.text("Name"), root.text("Description")];
    super::system::id_of(document).eq_ignore_ascii_case("ToManager")
        || root.object("Links").link("HostInterface").is_some()
        || words.iter().flatten().any(|text| {
            text.eq_ignore_ascii_case("Host Network Interface")
                || text.eq_ignore_ascii_case("Manager Ethernet Interface")
        })
}

fn is_virtual(root: Object<'_>) -> bool {
    root.text("EthernetInterfaceType")
        .is_some_and(|kind| kind.eq_ignore_ascii_case("virtual"))
}

fn link_up(root: Object<'_>) -> Option<bool> {
    match root.text("LinkStatus")?.to_ascii_lowercase().as_str() {
        "linkup" | "up" => Some(true),
        "linkdown" | "down" | "nolink" => Some(false),
        _ => None,
    }
}

pub(super) fn mac(object: Object<'_>, name: &str) -> Option<MacAddress> {
    object.text(name)?.parse().ok()
}
