//! A baseboard management controller.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    access::{ConsoleProtocol, Protocol},
    power::PowerState,
};
use crate::{
    open_enum::open_enum,
    reference::{LocalObjectReference, SecretReference},
    schema,
};

open_enum! {
    /// How a BMC does.
    pub enum BmcState default Pending {
        /// Not reached yet.
        Pending = "Pending",
        /// It works.
        Enabled = "Enabled",
        /// It does not; the condition `Ready` says why.
        Error = "Error",
    }
}

/// A baseboard management controller: where it is, how to log in. One Server is made of each ComputerSystem behind it.
#[derive(
    CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize,
)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BMC",
    root = "Bmc",
    plural = "bmcs",
    status = "BmcStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A baseboard management controller: where it is and how to log in.",
    printcolumn(
        name = "MACAddress",
        type_ = "string",
        json_path = ".status.macAddress"
    ),
    printcolumn(name = "IP", type_ = "string", json_path = ".status.ip"),
    printcolumn(name = "Model", type_ = "string", json_path = ".status.model"),
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
        name = "FirmwareVersion",
        type_ = "string",
        json_path = ".status.firmwareVersion",
        priority = "100"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "PowerState",
        type_ = "string",
        json_path = ".status.powerState"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.access) != has(self.endpointRef)").message("exactly one of access or endpointRef needs to be set"),
    validation = Rule::new("has(self.bmcSecretRef) != has(self.secretRef)").message("exactly one of bmcSecretRef or secretRef needs to be set")
)]
pub struct BmcSpec {
    /// UUID of the BMC as Redfish gives it.
    #[serde(default, rename = "bmcUUID", skip_serializing_if = "Option::is_none")]
    pub bmc_uuid: Option<String>,
    /// The Endpoint that says where the BMC is. Deprecated by the original in favour of `access`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("endpointRef is immutable"))]
    pub endpoint_ref: Option<LocalObjectReference>,
    /// Where the BMC is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<InlineEndpoint>,
    /// The BMCSecret with user name and password. This or `secretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc_secret_ref: Option<LocalObjectReference>,
    /// Corten's, preferred: the core Secret with `username`, `password` and optionally `ca.crt`. This or `bmcSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// How the BMC is spoken to.
    pub protocol: Protocol,
    /// How the machine's console is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_protocol: Option<ConsoleProtocol>,
    /// Host name of the BMC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The BMCSettings for this BMC. Deprecated by the original.
    #[serde(
        default,
        rename = "bmcSettingsRef",
        skip_serializing_if = "Option::is_none"
    )]
    pub bmc_settings_ref: Option<LocalObjectReference>,
}

/// Where a BMC is. The MAC stands; IP and host may change, and the machine found there must show the same identity.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.macAddress) || oldSelf.macAddress == '' || (has(self.macAddress) && self.macAddress == oldSelf.macAddress)").message("access.macAddress is immutable; make another BMC for another device"))]
pub struct InlineEndpoint {
    /// MAC address, six octets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "schema::mac")]
    pub mac_address: String,
    /// IP address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "schema::ip")]
    pub ip: String,
    /// Corten's: host name, for BMCs that are known by name; goes before `ip`, and is the name that the certificate is checked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
}

/// What a BMC said when it was last read; kept while it does not answer.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BmcStatus {
    /// MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9A-Fa-f]{2}[:-]){5}([0-9A-Fa-f]{2})$"))]
    pub mac_address: Option<String>,
    /// IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
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
    /// Firmware version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware_version: Option<String>,
    /// How the BMC does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Pending"))]
    pub state: Option<BmcState>,
    /// Power of the BMC itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_state: Option<PowerState>,
    /// When the BMC was last restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_reset_time: Option<Timestamp>,
    /// Link to the subscription for metric reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_report_subscription_link: Option<String>,
    /// Link to the subscription for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_subscription_link: Option<String>,
    /// Corten's: when the BMC last answered. Written when it is lost, removed when it is back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_seen: Option<Timestamp>,
    /// Conditions: `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
