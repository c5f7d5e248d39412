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

/// Storage controllers that no driver has taken, each as people look for it. Drives behind them are seen by nobody in here, and an operating system
/// that has the driver keeps its data on them.
#[must_use]
pub fn unseen_storage(devices: &[PciDevice]) -> Vec<String> {
    // Class codes of PCI: mass storage controllers (01h), and SD host controllers (08h, 05h).
    let is_storage = |class: &str| {
        let class = class.trim_start_matches("0x");
        class.starts_with("01") || class.starts_with("0805")
    };
    // Storage functions of network and fabric adapters: what they reach is no drive of this machine, and for some there is no driver at all.
    const FABRIC: [&str; 4] = ["1425", "19a2", "10df", "1077"];
    let alone = devices.iter().filter(|device| {
        is_storage(&device.class)
            && device.driver.is_empty()
            && !FABRIC.contains(&device.vendor_id.as_str())
    });
    alone
        .map(|device| {
            format!(
                "{} [{}:{}]",
                device.address, device.vendor_id, device.product_id
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_controller_without_a_driver_is_named() {
        let device = |class: &str, driver: &str| PciDevice {
            address: "0000:00:17.0".into(),
            vendor_id: "8086".into(),
            product_id: "a182".into(),
            class: class.into(),
            driver: driver.into(),
            ..PciDevice::default()
        };
        for class in ["0x010601", "0x010802", "0x010400", "0x080501"] {
            assert_eq!(
                unseen_storage(&[device(class, "")]),
                ["0000:00:17.0 [8086:a182]"],
                "{class}"
            );
            assert_eq!(unseen_storage(&[device(class, "ahci")]), [""; 0]);
        }
        // Chelsio's function for iSCSI, which no driver takes.
        let fabric = PciDevice {
            vendor_id: "1425".into(),
            ..device("0x010000", "")
        };
        assert_eq!(unseen_storage(&[fabric]), [""; 0]);
        // A network card, a bridge, a DMA engine.
        for class in ["0x020000", "0x060400", "0x088000"] {
            assert_eq!(unseen_storage(&[device(class, "")]), [""; 0], "{class}");
        }
    }
}
