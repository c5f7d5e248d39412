//! Settings of a BMC.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    bmc_settings_variable::Variable,
    server_maintenance::ServerMaintenancePolicy,
    update::{RetryPolicy, SettingsState},
};
use crate::{
    reference::{LocalObjectReference, ObjectReference},
    schema,
};

/// Settings that a BMC is to have.
#[derive(
    CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize,
)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BMCSettings",
    root = "BmcSettings",
    plural = "bmcsettings",
    status = "BmcSettingsStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Settings that a BMC is to have.",
    printcolumn(name = "BMCVersion", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "BMCRef", type_ = "string", json_path = ".spec.BMCRef.name")
)]
#[serde(rename_all = "camelCase")]
pub struct BmcSettingsSpec {
    /// The settings, and the rule on their variables.
    #[serde(flatten)]
    pub template: BmcSettingsTemplate,
    /// The ServerMaintenances that were asked for, one a server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_maintenance_refs: Vec<ServerMaintenanceRefItem>,
    /// The BMC.
    #[serde(rename = "BMCRef")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("BMCRef is immutable"))]
    pub bmc_ref: LocalObjectReference,
}

/// Settings, whosever they are.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.variables) || self.variables.all(v, self.variables.filter(w, w.key == v.key).size() == 1)").message("variable keys must be unique"))]
pub struct BmcSettingsTemplate {
    /// The BMC's firmware version that the settings are for.
    pub version: String,
    /// Values by attribute; `$(KEY)` stands for a variable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Variables; each key once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub variables: Vec<Variable>,
    /// Whether the holder of a claimed server is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_maintenance_policy: Option<ServerMaintenancePolicy>,
    /// How often a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
}

/// One entry of a BMCSettings' maintenances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerMaintenanceRefItem {
    /// The ServerMaintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_maintenance_ref: Option<ObjectReference>,
}

/// How settings stand.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BmcSettingsStatus {
    /// How far they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SettingsState>,
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
