//! The version of a BMC's firmware.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    server_maintenance::ServerMaintenancePolicy,
    update::{RetryPolicy, SoftwareImage, UpdatePolicy, UpgradeTask, VersionState},
};
use crate::{
    reference::{LocalObjectReference, ObjectReference},
    schema,
};

/// The version that a BMC's firmware is to have.
#[derive(
    CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize,
)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BMCVersion",
    root = "BmcVersion",
    plural = "bmcversions",
    shortname = "bmcv",
    status = "BmcVersionStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The version that a BMC's firmware is to have.",
    printcolumn(name = "BMCVersion", type_ = "string", json_path = ".spec.version"),
    printcolumn(
        name = "UpdatePolicy",
        type_ = "string",
        json_path = ".spec.updatePolicy"
    ),
    printcolumn(name = "BMCRef", type_ = "string", json_path = ".spec.bmcRef.name"),
    printcolumn(
        name = "TaskProgress",
        type_ = "integer",
        json_path = ".status.upgradeTask.percentageComplete"
    ),
    printcolumn(
        name = "TaskState",
        type_ = "string",
        json_path = ".status.upgradeTask.state"
    ),
    printcolumn(
        name = "TaskStatus",
        type_ = "string",
        json_path = ".status.upgradeTask.status"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BmcVersionSpec {
    /// The version.
    #[serde(flatten)]
    pub template: BmcVersionTemplate,
    /// The ServerMaintenances that were asked for, one a server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_maintenance_refs: Vec<ObjectReference>,
    /// The BMC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("bmcRef is immutable"))]
    pub bmc_ref: Option<LocalObjectReference>,
}

/// A version, whosever it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BmcVersionTemplate {
    /// The version.
    pub version: String,
    /// The image that brings it.
    pub image: SoftwareImage,
    /// How the vendor's own rules are treated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_policy: Option<UpdatePolicy>,
    /// Whether the holder of a claimed server is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_maintenance_policy: Option<ServerMaintenancePolicy>,
    /// How often a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
}

/// How a version stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BmcVersionStatus {
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<VersionState>,
    /// The BMC's task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_task: Option<UpgradeTask>,
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
