//! BIOSSettings for many servers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bios_settings::BiosSettingsTemplate;
use crate::schema;

/// Makes BIOSSettings for each server that it selects.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BIOSSettingsSet",
    root = "BiosSettingsSet",
    plural = "biossettingssets",
    shortname = "biosss",
    status = "BiosSettingsSetStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Makes BIOSSettings for each server that it selects.",
    printcolumn(
        name = "BIOSVersion",
        type_ = "string",
        json_path = ".spec.biosSettingsTemplate.version"
    ),
    printcolumn(
        name = "TotalServers",
        type_ = "string",
        json_path = ".status.fullyLabeledServers"
    ),
    printcolumn(
        name = "AvailableBIOSSettings",
        type_ = "string",
        json_path = ".status.availableBIOSSettings"
    ),
    printcolumn(
        name = "Pending",
        type_ = "string",
        json_path = ".status.pendingBIOSSettings"
    ),
    printcolumn(
        name = "InProgress",
        type_ = "string",
        json_path = ".status.inProgressBIOSSettings"
    ),
    printcolumn(
        name = "Completed",
        type_ = "string",
        json_path = ".status.completedBIOSSettings"
    ),
    printcolumn(
        name = "Failed",
        type_ = "string",
        json_path = ".status.failedBIOSSettings"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BiosSettingsSetSpec {
    /// Labels of the servers.
    #[schemars(schema_with = "schema::label_selector")]
    pub server_selector: LabelSelector,
    /// What each of them gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios_settings_template: Option<BiosSettingsTemplate>,
}

/// How many of a set's BIOSSettings stand where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BiosSettingsSetStatus {
    /// Servers that are selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fully_labeled_servers: Option<i32>,
    /// BIOSSettings that were made.
    #[serde(
        default,
        rename = "availableBIOSSettings",
        skip_serializing_if = "Option::is_none"
    )]
    pub available_bios_settings: Option<i32>,
    /// Those that wait.
    #[serde(
        default,
        rename = "pendingBIOSSettings",
        skip_serializing_if = "Option::is_none"
    )]
    pub pending_bios_settings: Option<i32>,
    /// Those under way.
    #[serde(
        default,
        rename = "inProgressBIOSSettings",
        skip_serializing_if = "Option::is_none"
    )]
    pub in_progress_bios_settings: Option<i32>,
    /// Those that are applied.
    #[serde(
        default,
        rename = "completedBIOSSettings",
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_bios_settings: Option<i32>,
    /// Those that failed.
    #[serde(
        default,
        rename = "failedBIOSSettings",
        skip_serializing_if = "Option::is_none"
    )]
    pub failed_bios_settings: Option<i32>,
}
