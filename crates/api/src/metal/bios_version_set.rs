//! BIOSVersions for many servers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bios_version::BiosVersionTemplate;
use crate::schema;

/// Makes a BIOSVersion for each server that it selects.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BIOSVersionSet",
    root = "BiosVersionSet",
    plural = "biosversionsets",
    shortname = "biosvs",
    status = "BiosVersionSetStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Makes a BIOSVersion for each server that it selects.",
    printcolumn(
        name = "BIOSVersion",
        type_ = "string",
        json_path = ".spec.biosVersionTemplate.version"
    ),
    printcolumn(
        name = "selectedServers",
        type_ = "integer",
        json_path = ".status.fullyLabeledServers"
    ),
    printcolumn(
        name = "AvailableBIOSVersion",
        type_ = "integer",
        json_path = ".status.availableBIOSVersion"
    ),
    printcolumn(
        name = "Pending",
        type_ = "integer",
        json_path = ".status.pendingBIOSVersion"
    ),
    printcolumn(
        name = "InProgress",
        type_ = "integer",
        json_path = ".status.inProgressBIOSVersion"
    ),
    printcolumn(
        name = "Completed",
        type_ = "integer",
        json_path = ".status.completedBIOSVersion"
    ),
    printcolumn(
        name = "Failed",
        type_ = "integer",
        json_path = ".status.failedBIOSVersion"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BiosVersionSetSpec {
    /// Labels of the servers.
    #[schemars(schema_with = "schema::label_selector")]
    pub server_selector: LabelSelector,
    /// What each of them gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios_version_template: Option<BiosVersionTemplate>,
}

/// How many of a set's BIOSVersions stand where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BiosVersionSetStatus {
    /// Servers that are selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fully_labeled_servers: Option<i32>,
    /// BIOSVersions that were made.
    #[serde(
        default,
        rename = "availableBIOSVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub available_bios_version: Option<i32>,
    /// Those that wait.
    #[serde(
        default,
        rename = "pendingBIOSVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub pending_bios_version: Option<i32>,
    /// Those under way.
    #[serde(
        default,
        rename = "inProgressBIOSVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub in_progress_bios_version: Option<i32>,
    /// Those that are completed.
    #[serde(
        default,
        rename = "completedBIOSVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_bios_version: Option<i32>,
    /// Those that failed.
    #[serde(
        default,
        rename = "failedBIOSVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub failed_bios_version: Option<i32>,
}
