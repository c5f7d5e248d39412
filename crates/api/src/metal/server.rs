//! A server: what is wanted of it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    access::Protocol,
    power::{IndicatorLed, Power},
    server_status::ServerStatus,
    taint::Taint,
};
use crate::{
    open_enum::open_enum,
    reference::{LocalObjectReference, ObjectReference, SecretReference},
    schema,
};

open_enum! {
    /// What happens to a server after its claim.
    pub enum ReclaimPolicy default Recycle schema closed {
        /// It is cleaned and becomes available again.
        Recycle = "Recycle",
        /// It stays Released, with its data, until `spec.serverClaimRef` is cleared; then it is cleaned.
        Retain = "Retain",
    }
}

/// A bare-metal server, one for each ComputerSystem.
#[derive(
    CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize,
)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "Server",
    plural = "servers",
    shortname = "srv",
    status = "ServerStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A bare-metal server, one for each ComputerSystem.",
    selectable = ".spec.bmcRef.name",
    printcolumn(name = "SystemUUID", type_ = "string", json_path = ".spec.systemUUID"),
    printcolumn(
        name = "Manufacturer",
        type_ = "string",
        json_path = ".status.manufacturer"
    ),
    printcolumn(name = "Model", type_ = "string", json_path = ".status.model"),
    printcolumn(
        name = "Memory",
        type_ = "string",
        json_path = ".status.totalSystemMemory"
    ),
    printcolumn(
        name = "SKU",
        type_ = "string",
        json_path = ".status.sku",
        priority = "100"
    ),
    printcolumn(
        name = "SerialNumber",
        type_ = "string",
        json_path = ".status.serialNumber",
        priority = "100"
    ),
    printcolumn(
        name = "PowerState",
        type_ = "string",
        json_path = ".status.powerState"
    ),
    printcolumn(
        name = "IndicatorLED",
        type_ = "string",
        json_path = ".status.indicatorLED",
        priority = "100"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "Unclaimable",
        type_ = "boolean",
        json_path = ".spec.unclaimable",
        priority = "100"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ServerSpec {
    /// UUID of the system. Nil, default and duplicate ones are told apart by serial number and MAC.
    #[serde(rename = "systemUUID")]
    pub system_uuid: String,
    /// Path of the ComputerSystem on its BMC.
    #[serde(default, rename = "systemURI", skip_serializing_if = "Option::is_none")]
    pub system_uri: Option<String>,
    /// Power as wanted; ignored while the server is Reserved. Deprecated by the original.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// The locator light as wanted.
    #[serde(
        default,
        rename = "indicatorLED",
        skip_serializing_if = "Option::is_none"
    )]
    pub indicator_led: Option<IndicatorLed>,
    /// What happens to the server after its claim.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
    /// The claim that holds the server. Its UID stands in the annotation `corten.dev/claim-uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::claim_reference")]
    pub server_claim_ref: Option<ObjectReference>,
    /// The ServerMaintenance that holds the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_maintenance_ref: Option<ObjectReference>,
    /// The BMC of the server. This or `bmc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc_ref: Option<LocalObjectReference>,
    /// Access to the BMC, where there is no BMC object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc: Option<InlineBmc>,
    /// The boot configuration in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_configuration_ref: Option<ObjectReference>,
    /// The boot configuration during maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_boot_configuration_ref: Option<ObjectReference>,
    /// Boot order as wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_order: Vec<BootOrder>,
    /// The BIOSSettings of this server. Deprecated by the original.
    #[serde(
        default,
        rename = "biosSettingsRef",
        skip_serializing_if = "Option::is_none"
    )]
    pub bios_settings_ref: Option<LocalObjectReference>,
    /// What keeps claims away that do not tolerate it; each key and effect once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key", "effect"]))]
    pub taints: Vec<Taint>,
    /// True keeps every new claim away; a bound one stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub unclaimable: Option<bool>,
}

/// Access to a BMC that has no object of its own.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.bmcSecretRef) != has(self.secretRef)").message("exactly one of bmcSecretRef or secretRef needs to be set"))]
pub struct InlineBmc {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// IP address or host name.
    pub address: String,
    /// The BMCSecret with user name and password. This or `secretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc_secret_ref: Option<LocalObjectReference>,
    /// Corten's: the core Secret with `username`, `password` and optionally `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
}

/// One entry of the boot order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub struct BootOrder {
    /// Name of the entry.
    pub name: String,
    /// Its place: the smaller comes first.
    pub priority: i64,
    /// Device to boot from.
    pub device: String,
}
