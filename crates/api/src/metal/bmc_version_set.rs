//! BMCVersions for many BMCs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bmc_version::BmcVersionTemplate;
use crate::schema;

/// Makes a BMCVersion for each BMC that it selects.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BMCVersionSet",
    root = "BmcVersionSet",
    plural = "bmcversionsets",
    shortname = "bmcvs",
    status = "BmcVersionSetStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Makes a BMCVersion for each BMC that it selects.",
    printcolumn(
        name = "BMCVersion",
        type_ = "string",
        json_path = ".spec.bmcVersionTemplate.version"
    ),
    printcolumn(
        name = "selectedBMCs",
        type_ = "integer",
        json_path = ".status.fullyLabeledBMCs"
    ),
    printcolumn(
        name = "AvailableBMCVersion",
        type_ = "integer",
        json_path = ".status.availableBMCVersion"
    ),
    printcolumn(
        name = "Pending",
        type_ = "integer",
        json_path = ".status.pendingBMCVersion"
    ),
    printcolumn(
        name = "InProgress",
        type_ = "integer",
        json_path = ".status.inProgressBMCVersion"
    ),
    printcolumn(
        name = "Completed",
        type_ = "integer",
        json_path = ".status.completedBMCVersion"
    ),
    printcolumn(
        name = "Failed",
        type_ = "integer",
        json_path = ".status.failedBMCVersion"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BmcVersionSetSpec {
    /// Labels of the BMCs.
    #[schemars(schema_with = "schema::label_selector")]
    pub bmc_selector: LabelSelector,
    /// What each of them gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc_version_template: Option<BmcVersionTemplate>,
}

/// How many of a set's BMCVersions stand where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BmcVersionSetStatus {
    /// BMCs that are selected.
    #[serde(
        default,
        rename = "fullyLabeledBMCs",
        skip_serializing_if = "Option::is_none"
    )]
    pub fully_labeled_bmcs: Option<i32>,
    /// BMCVersions that were made.
    #[serde(
        default,
        rename = "availableBMCVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub available_bmc_version: Option<i32>,
    /// Those that wait.
    #[serde(
        default,
        rename = "pendingBMCVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub pending_bmc_version: Option<i32>,
    /// Those under way.
    #[serde(
        default,
        rename = "inProgressBMCVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub in_progress_bmc_version: Option<i32>,
    /// Those that are completed.
    #[serde(
        default,
        rename = "completedBMCVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_bmc_version: Option<i32>,
    /// Those that failed.
    #[serde(
        default,
        rename = "failedBMCVersion",
        skip_serializing_if = "Option::is_none"
    )]
    pub failed_bmc_version: Option<i32>,
}
