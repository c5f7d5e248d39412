//! What a machine is, as seen from inside. A superset of the original metalprobe's `POST /register`.
//!
//! Either probe may call either operator, so reading is lenient: a property that is missing, null or of another shape costs that property (an
//! entry of a list: that entry), never the registration. Sizes are in bytes, MAC addresses in lower case with colons.

mod firmware;
mod lenient;
mod system;

pub use firmware::{BootEntry, Clock, Firmware, Kernel, Pcr, Tpm};
pub use system::{
    BiosInformation, BoardInformation, ChassisInformation, Cpu, MemoryModule, SystemInfo,
    SystemInformation,
};

use lenient::{known, list, value};
use serde::{Deserialize, Serialize};

/// One machine's report.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// SMBIOS system UUID.
    #[serde(rename = "systemUUID")]
    pub system_uuid: String,
    /// What was seen.
    #[serde(default, deserialize_with = "known")]
    pub data: Data,
}

/// What was seen of a machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Data {
    /// When, by RFC 3339.
    #[serde(deserialize_with = "value")]
    pub timestamp: String,
    /// SMBIOS: firmware, system, board, chassis.
    #[serde(deserialize_with = "value")]
    pub system_info: SystemInfo,
    /// Processors.
    #[serde(deserialize_with = "list")]
    pub cpu: Vec<Cpu>,
    /// Network links with their addresses.
    #[serde(deserialize_with = "list")]
    pub network_interfaces: Vec<NetworkInterface>,
    /// What was heard by LLDP.
    #[serde(deserialize_with = "list")]
    pub lldp: Vec<LldpInterface>,
    /// Block devices.
    #[serde(deserialize_with = "list")]
    pub storage: Vec<Drive>,
    /// Memory modules.
    #[serde(deserialize_with = "list")]
    pub memory: Vec<MemoryModule>,
    /// Network controllers.
    #[serde(deserialize_with = "list")]
    pub nics: Vec<Nic>,
    /// PCI devices; a GPU has a class of `0x03….`
    #[serde(deserialize_with = "list")]
    pub pci_devices: Vec<PciDevice>,
    /// TPM; none without one. Ours.
    #[serde(deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    pub tpm: Option<Tpm>,
    /// Boot mode, boot order and firmware variables. Ours.
    #[serde(deserialize_with = "value")]
    pub firmware: Firmware,
    /// The kernel that the probe runs on. Ours.
    #[serde(deserialize_with = "value")]
    pub kernel: Kernel,
    /// The machine's clock. Ours.
    #[serde(deserialize_with = "value")]
    pub clock: Clock,
    /// The probe's version. Ours; empty from the original.
    #[serde(deserialize_with = "value")]
    pub probe_version: String,
    /// The probe's boot, as in its hello. Ours.
    #[serde(deserialize_with = "value")]
    pub boot_id: String,
}

/// A network link with its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkInterface {
    /// Name.
    pub name: String,
    /// First address; of old.
    #[serde(deserialize_with = "value")]
    pub ip_address: String,
    /// Addresses, without prefix.
    #[serde(deserialize_with = "list")]
    pub ip_addresses: Vec<String>,
    /// MAC address.
    pub mac_address: String,
    /// `up` or `down`.
    #[serde(deserialize_with = "value")]
    pub carrier_status: String,
}

/// What a link heard by LLDP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LldpInterface {
    /// The link's name.
    pub name: String,
    /// Who is at its other end.
    #[serde(deserialize_with = "list")]
    pub neighbors: Vec<LldpNeighbor>,
}

/// Who is at the other end of a link (IEEE 802.1AB).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LldpNeighbor {
    /// Chassis.
    pub chassis_id: String,
    /// Port.
    pub port_id: String,
    /// Port, for people.
    #[serde(deserialize_with = "value")]
    pub port_description: String,
    /// System.
    #[serde(deserialize_with = "value")]
    pub system_name: String,
    /// System, for people.
    #[serde(deserialize_with = "value")]
    pub system_description: String,
    /// Its management address.
    #[serde(deserialize_with = "value")]
    pub mgmt_ip: String,
    /// What it is, such as `Bridge`.
    #[serde(deserialize_with = "list")]
    pub capabilities: Vec<String>,
    /// The port's VLAN (IEEE 802.1).
    #[serde(deserialize_with = "value")]
    pub vlan_id: String,
}

/// A block device. Older metalprobes begin the properties' names with capitals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Drive {
    /// `/dev/…`.
    #[serde(alias = "Path")]
    pub path: String,
    /// The kernel's name.
    #[serde(alias = "Name")]
    pub name: String,
    /// Whether it turns.
    #[serde(alias = "Rotational", deserialize_with = "value")]
    pub rotational: bool,
    /// Whether its medium can be taken out.
    #[serde(alias = "Removable", deserialize_with = "value")]
    pub removable: bool,
    /// Whether it cannot be written.
    #[serde(alias = "ReadOnly", deserialize_with = "value")]
    pub read_only: bool,
    /// Vendor.
    #[serde(alias = "Vendor", deserialize_with = "value")]
    pub vendor: String,
    /// Model.
    #[serde(alias = "Model", deserialize_with = "value")]
    pub model: String,
    /// Serial number.
    #[serde(rename = "serial", alias = "Serial", deserialize_with = "value")]
    pub serial_number: String,
    /// World-wide name, such as `naa.5000c500…` or `eui.…`.
    #[serde(alias = "WWID", deserialize_with = "value")]
    pub wwid: String,
    /// Physical block.
    #[serde(alias = "PhysicalBlockSize", deserialize_with = "value")]
    pub physical_block_size: u64,
    /// Logical block.
    #[serde(alias = "LogicalBlockSize", deserialize_with = "value")]
    pub logical_block_size: u64,
    /// Hardware sector.
    #[serde(
        rename = "hWSectorSize",
        alias = "HWSectorSize",
        deserialize_with = "value"
    )]
    pub sector_size: u64,
    /// Size.
    #[serde(alias = "Size", deserialize_with = "value")]
    pub size_bytes: u64,
    /// NUMA node.
    #[serde(
        rename = "numaNodeID",
        alias = "NUMANodeID",
        deserialize_with = "value"
    )]
    pub numa_node: i64,
    /// `nvme`, `sata`, `sas`, `virtio`, `usb`, `mmc`, … Ours.
    #[serde(deserialize_with = "value")]
    pub transport: String,
    /// `local`, `fabric`, `multipath`, `removable`, `virtual`. Ours.
    #[serde(deserialize_with = "value")]
    pub attachment: String,
    /// Version of its firmware. Ours.
    #[serde(deserialize_with = "value")]
    pub firmware_version: String,
    /// How it can be erased, strongest first, as in [`crate::DriveResult::method`]. Ours.
    #[serde(deserialize_with = "list")]
    pub erase_methods: Vec<String>,
    /// What stands in the way of erasing, such as `frozen` or `locked`. Ours.
    #[serde(deserialize_with = "list")]
    pub erase_obstacles: Vec<String>,
}

/// A network controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nic {
    /// The link's name.
    pub name: String,
    /// MAC address.
    pub mac: String,
    /// Where it sits.
    #[serde(deserialize_with = "value")]
    pub pci_address: String,
    /// Speed, such as `25000Mb/s`.
    #[serde(deserialize_with = "value")]
    pub speed: String,
    /// What it can, such as `25000baseCR/Full`, by the kernel's names (`linux/ethtool.h`).
    #[serde(deserialize_with = "list")]
    pub link_modes: Vec<String>,
    /// What can be plugged in, such as `FIBRE`.
    #[serde(deserialize_with = "list")]
    pub supported_ports: Vec<String>,
    /// Version of its firmware.
    #[serde(deserialize_with = "value")]
    pub firmware_version: String,
    /// NUMA node, -1 for none.
    #[serde(deserialize_with = "value")]
    pub numa_node: i64,
    /// PCI vendor, hexadecimal.
    #[serde(deserialize_with = "value")]
    pub vendor: String,
    /// PCI device, hexadecimal.
    #[serde(deserialize_with = "value")]
    pub device: String,
    /// Its driver. Ours.
    #[serde(deserialize_with = "value")]
    pub driver: String,
    /// Whether there is a signal; none where the link is down by choice. Ours.
    #[serde(deserialize_with = "value")]
    pub carrier: Option<bool>,
}

/// A PCI device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PciDevice {
    /// Where it sits.
    #[serde(deserialize_with = "value")]
    pub address: String,
    /// Vendor by name; the original's.
    #[serde(deserialize_with = "value", skip_serializing_if = "String::is_empty")]
    pub vendor: String,
    /// Vendor, hexadecimal.
    #[serde(rename = "vendorID", deserialize_with = "value")]
    pub vendor_id: String,
    /// Product by name; the original's.
    #[serde(deserialize_with = "value", skip_serializing_if = "String::is_empty")]
    pub product: String,
    /// Product, hexadecimal.
    #[serde(rename = "productID", deserialize_with = "value")]
    pub product_id: String,
    /// NUMA node.
    #[serde(rename = "numaNodeID", deserialize_with = "value")]
    pub numa_node: i64,
    /// Class, hexadecimal, such as `0x030200` for a 3D controller. Ours.
    #[serde(deserialize_with = "value")]
    pub class: String,
    /// Its driver. Ours.
    #[serde(deserialize_with = "value")]
    pub driver: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// What of `theirs` is not in `ours`. Their `unknown` is our empty string, their null our empty list.
    fn lost(theirs: &Value, ours: Option<&Value>, at: &str) -> Vec<String> {
        match (theirs, ours) {
            (Value::Object(theirs), Some(Value::Object(ours))) => theirs
                .iter()
                .flat_map(|(key, value)| lost(value, ours.get(key), &format!("{at}.{key}")))
                .collect(),
            (Value::Array(theirs), Some(Value::Array(ours))) => theirs
                .iter()
                .enumerate()
                .flat_map(|(n, value)| lost(value, ours.get(n), &format!("{at}[{n}]")))
                .collect(),
            (Value::Null, Some(Value::Array(ours))) if ours.is_empty() => Vec::new(),
            (Value::String(theirs), None) if theirs == "unknown" => Vec::new(),
            (Value::String(theirs), Some(Value::String(ours)))
                if theirs == "unknown" && ours.is_empty() =>
            {
                Vec::new()
            }
            (theirs, Some(ours)) if theirs == ours => Vec::new(),
            (theirs, ours) => vec![format!("{at}: {theirs} became {ours:?}")],
        }
    }

    /// Recorded: metal-operator v0.7.0's metalprobe on a virtual machine without SMBIOS. `scripts/interop-metal` runs it anew.
    #[test]
    fn nothing_that_the_originals_metalprobe_sends_is_lost() {
        let sent: Value =
            serde_json::from_str(include_str!("../tests/data/metalprobe-0.7.0.json")).unwrap();
        let read: Registration = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(read.data.storage[0].size_bytes, 256 << 30);
        assert_eq!(
            read.data.storage[0].serial_number, "",
            "unknown is no serial number"
        );
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(lost(&sent, Some(&written), ""), [""; 0]);
    }

    #[test]
    fn what_an_older_metalprobe_sends_is_read() {
        let sent = json!({"systemUUID": "38947555-7742-3448-3784-823347823834", "data": {
            "timestamp": "2026-01-02T03:04:05.6Z",
            "systemInfo": {"biosInformation": {"vendor": "SeaBIOS", "version": "1", "date": "2014"},
                "systemInformation": {"manufacturer": "QEMU", "productName": "pc", "serialNumber": "x", "uuid": "38947555", "skuNumber": "s"},
                "boardInformation": {}},
            "cpu": [{"id": 0, "totalCores": 2, "totalHardwareThreads": 4, "vendor": "GenuineIntel", "model": "m", "capabilities": ["fpu"]}],
            "networkInterfaces": [{"name": "eth0", "ipAddress": "10.0.0.2", "ipAddresses": ["10.0.0.2"], "macAddress": "aa:bb", "carrierStatus": "up"}],
            "lldp": [{"name": "eth0", "neighbors": [{"chassisId": "c", "portId": "p", "mgmtIp": "1.2.3.4", "capabilities": ["Bridge"], "vlanId": "1"}]}],
            "storage": [{"Path": "/dev/sda", "Name": "sda", "Size": 5, "NUMANodeID": 0}],
            "memory": null,
            "nics": [{"name": "eth0", "mac": "aa:bb", "linkModes": ["1000baseT/Full"], "maxRx": 1}],
            "pciDevices": [{"address": "0000:00:00.0", "vendorID": "8086"}]}});
        let read: Registration = serde_json::from_value(sent).unwrap();
        assert_eq!(read.data.system_info.system_information.product_name, "pc");
        assert_eq!(read.data.cpu[0].total_hardware_threads, 4);
        assert_eq!(read.data.lldp[0].neighbors[0].mgmt_ip, "1.2.3.4");
        assert_eq!(read.data.storage[0].size_bytes, 5);
        assert!(read.data.memory.is_empty());
    }

    #[test]
    fn a_property_of_another_shape_costs_that_property_only() {
        let read: Registration = serde_json::from_value(json!({"systemUUID": "u", "data": {
            "timestamp": 5, "storage": [7, {"Name": "sda", "Size": "big"}], "tpm": "yes", "nics": {"a": 1}}}))
        .unwrap();
        assert_eq!(read.data.storage.len(), 1);
        assert_eq!(read.data.storage[0].name, "sda");
        assert!(read.data.tpm.is_none());
    }

    #[test]
    fn the_originals_names_are_written() {
        let data = Data {
            storage: vec![Drive::default()],
            pci_devices: vec![PciDevice::default()],
            ..Data::default()
        };
        let written = serde_json::to_value(Registration {
            system_uuid: "u".into(),
            data,
        })
        .unwrap();
        for name in [
            "timestamp",
            "systemInfo",
            "cpu",
            "networkInterfaces",
            "lldp",
            "storage",
            "memory",
            "nics",
            "pciDevices",
        ] {
            assert!(written["data"].get(name).is_some(), "{name}");
        }
        for name in [
            "path",
            "wwid",
            "serial",
            "sizeBytes",
            "hWSectorSize",
            "numaNodeID",
        ] {
            assert!(written["data"]["storage"][0].get(name).is_some(), "{name}");
        }
        assert!(written["data"]["pciDevices"][0].get("productID").is_some());
    }
}
