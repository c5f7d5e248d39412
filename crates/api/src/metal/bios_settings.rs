//! Settings of a server's BIOS.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    server_maintenance::ServerMaintenancePolicy,
    update::{RetryPolicy, SettingsState},
};
use crate::{
    reference::{LocalObjectReference, ObjectReference},
    schema,
};

/// Settings that a server's BIOS is to have.
#[derive(
    CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize,
)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BIOSSettings",
    root = "BiosSettings",
    plural = "biossettings",
    shortname = "bioss",
    status = "BiosSettingsStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Settings that a server's BIOS is to have.",
    printcolumn(name = "BIOSVersion", type_ = "string", json_path = ".spec.version"),
    printcolumn(
        name = "ServerRef",
        type_ = "string",
        json_path = ".spec.serverRef.name"
    ),
    printcolumn(
        name = "ServerMaintenanceRef",
        type_ = "string",
        json_path = ".spec.serverMaintenanceRef.name"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "AppliedOn",
        type_ = "date",
        json_path = ".status.lastAppliedTime"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BiosSettingsSpec {
    /// The settings.
    #[serde(flatten)]
    pub template: BiosSettingsTemplate,
    /// The ServerMaintenance that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_maintenance_ref: Option<ObjectReference>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("serverRef is immutable"))]
    pub server_ref: Option<LocalObjectReference>,
}

/// Settings, whosever they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BiosSettingsTemplate {
    /// The BIOS version that the settings are for.
    pub version: String,
    /// Groups of settings, in order of their priority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings_flow: Vec<SettingsFlowItem>,
    /// Whether the holder of a claimed server is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_maintenance_policy: Option<ServerMaintenancePolicy>,
    /// How often a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
}

/// A group of settings that are applied together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct SettingsFlowItem {
    /// Its name.
    #[schemars(length(min = 1, max = 1000))]
    pub name: String,
    /// Its place: the smaller comes first.
    #[schemars(range(min = 1, max = 2_147_483_645))]
    pub priority: i32,
    /// Values by attribute.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// How settings stand.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BiosSettingsStatus {
    /// How far they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SettingsState>,
    /// How far each group is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flow_state: Vec<BiosSettingsFlowStatus>,
    /// When the last one was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_applied_time: Option<Timestamp>,
    /// Attempts that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_attempts: Option<i32>,
    /// `metadata.generation` that this was judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How a group of settings stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BiosSettingsFlowStatus {
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_state: Option<SettingsState>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// When the last setting of it was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_applied_time: Option<Timestamp>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
