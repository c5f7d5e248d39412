//! What SMBIOS and the kernel say of system, processors and memory.

use super::lenient::{list, value};
use serde::{Deserialize, Serialize};

/// SMBIOS: firmware, system, board, chassis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SystemInfo {
    /// Type 0.
    #[serde(deserialize_with = "value")]
    pub bios_information: BiosInformation,
    /// Type 1.
    #[serde(deserialize_with = "value")]
    pub system_information: SystemInformation,
    /// Type 2.
    #[serde(deserialize_with = "value")]
    pub board_information: BoardInformation,
    /// Type 3. Ours.
    #[serde(deserialize_with = "value")]
    pub chassis_information: ChassisInformation,
}

/// SMBIOS type 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BiosInformation {
    /// Vendor.
    pub vendor: String,
    /// Version.
    pub version: String,
    /// Release date, as it stands there.
    pub date: String,
}

/// SMBIOS type 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SystemInformation {
    /// Manufacturer.
    pub manufacturer: String,
    /// Product.
    pub product_name: String,
    /// Version.
    pub version: String,
    /// Serial number.
    pub serial_number: String,
    /// UUID, lower case.
    pub uuid: String,
    /// SKU.
    #[serde(rename = "skuNumber")]
    pub sku_number: String,
    /// Family.
    pub family: String,
}

/// SMBIOS type 2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BoardInformation {
    /// Manufacturer.
    pub manufacturer: String,
    /// Product.
    pub product: String,
    /// Version.
    pub version: String,
    /// Serial number.
    pub serial_number: String,
    /// Asset tag.
    pub asset_tag: String,
}

/// SMBIOS type 3.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChassisInformation {
    /// Manufacturer.
    pub manufacturer: String,
    /// Version.
    pub version: String,
    /// Serial number.
    pub serial_number: String,
    /// Asset tag.
    pub asset_tag: String,
    /// Type by number, such as 23 for a rack-mount chassis.
    pub chassis_type: u8,
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Number of its socket.
    #[serde(deserialize_with = "value")]
    pub id: i64,
    /// Cores.
    #[serde(deserialize_with = "value")]
    pub total_cores: u32,
    /// Threads.
    #[serde(deserialize_with = "value")]
    pub total_hardware_threads: u32,
    /// Vendor.
    #[serde(deserialize_with = "value")]
    pub vendor: String,
    /// Model.
    #[serde(deserialize_with = "value")]
    pub model: String,
    /// Flags, such as `avx2`.
    #[serde(deserialize_with = "list")]
    pub capabilities: Vec<String>,
    /// Highest speed in MHz by SMBIOS; 0 for unknown. Ours.
    #[serde(deserialize_with = "value")]
    pub max_speed_mhz: u32,
    /// Socket by SMBIOS. Ours.
    #[serde(deserialize_with = "value")]
    pub socket: String,
}

/// A memory module (SMBIOS type 17).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryModule {
    /// Size.
    #[serde(rename = "size", deserialize_with = "value")]
    pub size_bytes: u64,
    /// Set of modules that it belongs to, by number; empty for none.
    #[serde(deserialize_with = "value")]
    pub device_set: String,
    /// Slot.
    #[serde(deserialize_with = "value")]
    pub device_locator: String,
    /// Bank.
    #[serde(deserialize_with = "value")]
    pub bank_locator: String,
    /// Type, such as `DDR5`.
    #[serde(deserialize_with = "value")]
    pub memory_type: String,
    /// Speed, such as `4800 MT/s`.
    #[serde(deserialize_with = "value")]
    pub speed: String,
    /// Vendor.
    #[serde(deserialize_with = "value")]
    pub vendor: String,
    /// Serial number.
    #[serde(deserialize_with = "value")]
    pub serial_number: String,
    /// Asset tag.
    #[serde(deserialize_with = "value")]
    pub asset_tag: String,
    /// Part number.
    #[serde(deserialize_with = "value")]
    pub part_number: String,
    /// Speed that it runs at.
    #[serde(deserialize_with = "value")]
    pub configured_memory_speed: String,
    /// Lowest voltage, such as `1.20 V`.
    #[serde(deserialize_with = "value")]
    pub minimum_voltage: String,
    /// Highest voltage.
    #[serde(deserialize_with = "value")]
    pub maximum_voltage: String,
    /// Voltage that it runs at.
    #[serde(deserialize_with = "value")]
    pub configured_voltage: String,
}
