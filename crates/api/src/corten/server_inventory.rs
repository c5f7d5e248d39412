//! The long inventory of a server.
//!
//! All that a machine is made of, in an object of its own, so that Server stays small and cheap to watch. The same name as the Server, which
//! owns it. The annotation `corten.dev/content-hash` tells whether it changed, so a watch of metadata is enough.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::server_run::ServerReference;
use crate::{open_enum::open_enum, schema};

mod parts;

pub use parts::{
    Drive, Firmware, Gpu, MemoryModule, NetworkAdapter, NetworkPort, PcieDevice, Processor,
    StorageController, Volume,
};

open_enum! {
    /// How a part of the inventory came out.
    pub enum SectionState {
        /// It was read.
        Read = "Read",
        /// The BMC does not offer it.
        Unsupported = "Unsupported",
        /// It is offered and could not be read.
        Failed = "Failed",
    }
}

/// The long inventory of the Server of the same name.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema,
)]
#[kube(
    group = "corten.dev",
    version = "v1alpha1",
    kind = "ServerInventory",
    plural = "serverinventories",
    shortname = "sinv",
    status = "ServerInventoryStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The long inventory of the Server of the same name.",
    printcolumn(name = "Health", type_ = "string", json_path = ".status.health"),
    printcolumn(
        name = "Hash",
        type_ = "string",
        json_path = ".status.contentHash",
        priority = "1"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ServerInventorySpec {
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_ref: Option<ServerReference>,
}

/// What was found in a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerInventoryStatus {
    /// Redfish `Health` of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Central processors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processors: Vec<Processor>,
    /// Graphics processors and other accelerators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
    /// Memory modules of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory_modules: Vec<MemoryModule>,
    /// Storage controllers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage_controllers: Vec<StorageController>,
    /// Drives, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drives: Vec<Drive>,
    /// Volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Network interfaces of the host, each MAC once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_ports: Vec<NetworkPort>,
    /// Network cards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_adapters: Vec<NetworkAdapter>,
    /// PCIe devices.
    #[serde(default, rename = "pcieDevices", skip_serializing_if = "Vec::is_empty")]
    pub pcie_devices: Vec<PcieDevice>,
    /// Firmware versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<Firmware>,
    /// What the probe saw from inside, as it registered it: the original's registration and more. Not part of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::anything")]
    pub in_band: Option<serde_json::Value>,
    /// How each part of the inventory came out; a part that is missing was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
    /// Digest of all the rest; also the annotation `corten.dev/content-hash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
}

/// How one part of the inventory came out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Section {
    /// Name of the part, such as `drives`.
    pub name: String,
    /// How it came out.
    pub state: SectionState,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
