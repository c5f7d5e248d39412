//! A server: what was seen of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::power::{IndicatorLed, PowerState};
use crate::{open_enum::open_enum, quantity::Quantity, schema};

open_enum! {
    /// Where a server stands in its life.
    pub enum ServerState {
        /// Known by name.
        Initial = "Initial",
        /// Being learnt about.
        Discovery = "Discovery",
        /// Clean, off, and free to be claimed.
        Available = "Available",
        /// Held by a claim.
        Reserved = "Reserved",
        /// Given back with its data kept, until somebody clears the claim's reference.
        Released = "Released",
        /// Being erased. Not claimable before it is proved clean.
        Cleanup = "Cleanup",
        /// Held by a ServerMaintenance.
        Maintenance = "Maintenance",
        /// Off and left alone, because somebody asked for it.
        Parked = "Parked",
        /// Something is wrong; the conditions say what and what helps.
        Error = "Error",
        /// Out of service for good.
        Retired = "Retired",
    }
}

/// What was seen of a server. The long inventory is the ServerInventory of the same name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Stock keeping unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// BIOS version.
    #[serde(
        default,
        rename = "biosVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub bios_version: Option<String>,
    /// Power as seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_state: Option<PowerState>,
    /// The locator light as seen.
    #[serde(
        default,
        rename = "indicatorLED",
        skip_serializing_if = "Option::is_none"
    )]
    pub indicator_led: Option<IndicatorLed>,
    /// Where the server stands in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ServerState>,
    /// Memory of the host, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_system_memory: Option<Quantity>,
    /// Network interfaces of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_interfaces: Vec<NetworkInterface>,
    /// Processors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processors: Vec<Processor>,
    /// Storage controllers with their drives and volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storages: Vec<Storage>,
    /// Conditions: see [`names`](crate::names).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A network interface of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterface {
    /// Name.
    pub name: String,
    /// MAC address.
    pub mac_address: String,
    /// Deprecated by the original in favour of `ips`; never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// IP addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<String>,
    /// Whether there is a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier_status: Option<String>,
    /// Who is at the other end, by LLDP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbors: Vec<LldpNeighbor>,
}

/// Who is at the other end of a link, by LLDP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LldpNeighbor {
    /// MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Port identifier.
    #[serde(default, rename = "portID", skip_serializing_if = "Option::is_none")]
    pub port_id: Option<String>,
    /// Port description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_description: Option<String>,
    /// System name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_name: Option<String>,
    /// System description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_description: Option<String>,
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Processor {
    /// Redfish `Id`.
    pub id: String,
    /// Redfish `ProcessorType`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Architecture, such as `x86`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Instruction set, such as `x86-64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction_set: Option<String>,
    /// Maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Greatest speed, in MHz.
    #[serde(
        default,
        rename = "maxSpeedMHz",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_speed_mhz: Option<i32>,
    /// Cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_cores: Option<i32>,
    /// Threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_threads: Option<i32>,
}

/// A storage controller with its drives and volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Redfish `Status.State`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Drives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drives: Vec<StorageDrive>,
    /// Volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<StorageVolume>,
}

/// A drive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageDrive {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Redfish `MediaType`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Size, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
    /// Maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Redfish `Status.State`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageVolume {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Size, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
    /// Redfish `Status.State`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Redfish `RAIDType`.
    #[serde(default, rename = "raidType", skip_serializing_if = "Option::is_none")]
    pub raid_type: Option<String>,
    /// Redfish `VolumeUsage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<String>,
}
