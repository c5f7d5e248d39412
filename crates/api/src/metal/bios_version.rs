//! The version of a server's BIOS.

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

/// The version that a server's BIOS is to have.
#[derive(
    CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize,
)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BIOSVersion",
    root = "BiosVersion",
    plural = "biosversions",
    shortname = "biosv",
    status = "BiosVersionStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The version that a server's BIOS is to have.",
    printcolumn(name = "BIOSVersion", type_ = "string", json_path = ".spec.version"),
    printcolumn(
        name = "UpdatePolicy",
        type_ = "string",
        json_path = ".spec.updatePolicy"
    ),
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
    printcolumn(
        name = "TaskProgress",
        type_ = "integer",
        json_path = ".status.upgradeTask.percentageComplete"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BiosVersionSpec {
    /// The version.
    #[serde(flatten)]
    pub template: BiosVersionTemplate,
    /// The ServerMaintenance that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_maintenance_ref: Option<ObjectReference>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("serverRef is immutable"))]
    pub server_ref: Option<LocalObjectReference>,
}

/// A version, whosever it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BiosVersionTemplate {
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
pub struct BiosVersionStatus {
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
