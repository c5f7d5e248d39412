//! PCI devices, GPUs among them.

use super::root::Root;
use corten_wire::registration::PciDevice;

/// All that the bus shows.
#[must_use]
pub fn devices(root: &Root) -> Vec<PciDevice> {
    const FOLDER: &str = "sys/bus/pci/devices";
    root.names(FOLDER)
        .into_iter()
        .map(|address| {
            let of = |file: &str| root.text(format!("{FOLDER}/{address}/{file}"));
            let hexadecimal = |file: &str| {
                of(file)
                    .map(|text| text.trim_start_matches("0x").to_owned())
                    .unwrap_or_default()
            };
            PciDevice {
                vendor_id: hexadecimal("vendor"),
                product_id: hexadecimal("device"),
                class: of("class").unwrap_or_default(),
                numa_node: of("numa_node")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(-1),
                driver: root
                    .link_name(format!("{FOLDER}/{address}/driver"))
                    .unwrap_or_default(),
                address,
                ..PciDevice::default()
            }
        })
        .collect()
}
