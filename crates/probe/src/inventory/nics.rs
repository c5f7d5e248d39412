//! Network links and their controllers.

use super::root::Root;
use corten_wire::registration::{NetworkInterface, Nic};
use std::net::IpAddr;

const FOLDER: &str = "sys/class/net";
/// `ARPHRD_ETHER`.
const ETHERNET: &str = "1";

/// An Ethernet link with a device behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name.
    pub name: String,
    /// The kernel's number.
    pub index: u32,
    /// Permanent or current MAC address, lower case.
    pub mac: String,
    /// Whether there is a signal; none where the link is down by choice.
    pub carrier: Option<bool>,
}

/// Ethernet links with a device behind them: no loopback, no bridge, no VLAN.
#[must_use]
pub fn links(root: &Root) -> Vec<Link> {
    root.names(FOLDER)
        .into_iter()
        .filter_map(|name| {
            let of = |file: &str| root.text(format!("{FOLDER}/{name}/{file}"));
            if of("type").as_deref() != Some(ETHERNET)
                || !root.join(format!("{FOLDER}/{name}/device")).exists()
            {
                return None;
            }
            Some(Link {
                index: of("ifindex")?.parse().ok()?,
                mac: of("address").unwrap_or_default().to_ascii_lowercase(),
                carrier: of("carrier").map(|text| text == "1"),
                name,
            })
        })
        .collect()
}

/// The links with their addresses.
#[must_use]
pub fn interfaces(root: &Root) -> Vec<NetworkInterface> {
    let addresses = if root.is_machine() {
        crate::net::link::addresses().unwrap_or_default()
    } else {
        Vec::new()
    };
    links(root)
        .into_iter()
        .map(|link| {
            let mut ips: Vec<IpAddr> = addresses
                .iter()
                .filter(|(index, _)| *index == link.index)
                .map(|(_, ip)| *ip)
                .collect();
            // IPv4 first, link-local last: the first is what the original calls *the* address.
            ips.sort_by_key(|ip| match ip {
                IpAddr::V4(_) => (0, *ip),
                IpAddr::V6(six) if six.is_unicast_link_local() => (2, *ip),
                IpAddr::V6(_) => (1, *ip),
            });
            let ip_addresses: Vec<String> = ips.iter().map(ToString::to_string).collect();
            NetworkInterface {
                name: link.name,
                ip_address: ip_addresses.first().cloned().unwrap_or_default(),
                ip_addresses,
                mac_address: link.mac,
                carrier_status: if link.carrier == Some(true) {
                    "up"
                } else {
                    "down"
                }
                .to_owned(),
            }
        })
        .collect()
}

/// The controllers behind the links.
#[must_use]
pub fn controllers(root: &Root) -> Vec<Nic> {
    links(root)
        .into_iter()
        .map(|link| {
            let of = |file: &str| root.text(format!("{FOLDER}/{}/{file}", link.name));
            let device = format!("{FOLDER}/{}/device", link.name);
            let info = if root.is_machine() {
                corten_probe_ioctl::driver_info(&link.name).unwrap_or_default()
            } else {
                corten_probe_ioctl::DriverInfo::default()
            };
            let (link_modes, supported_ports) = if root.is_machine() {
                super::modes::named(&corten_probe_ioctl::link_modes(&link.name).unwrap_or_default())
            } else {
                Default::default()
            };
            let pci_address = root
                .link_name(&device)
                .filter(|name| name.contains(':'))
                .unwrap_or(info.bus);
            Nic {
                pci_address,
                link_modes,
                supported_ports,
                // The kernel says -1 where it does not know.
                speed: of("speed")
                    .and_then(|text| text.parse::<u32>().ok())
                    .map(|speed| format!("{speed}Mb/s"))
                    .unwrap_or_default(),
                firmware_version: Some(info.firmware)
                    .filter(|text| text != "N/A")
                    .unwrap_or_default(),
                numa_node: root.number(format!("{device}/numa_node")).unwrap_or(-1),
                vendor: root.text(format!("{device}/vendor")).unwrap_or_default(),
                device: root.text(format!("{device}/device")).unwrap_or_default(),
                driver: root
                    .link_name(format!("{device}/driver"))
                    .unwrap_or(info.driver),
                carrier: link.carrier,
                name: link.name,
                mac: link.mac,
            }
        })
        .collect()
}
