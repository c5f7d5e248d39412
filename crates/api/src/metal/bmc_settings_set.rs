//! BMCSettings for many BMCs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bmc_settings::BmcSettingsTemplate;
use crate::schema;

/// Makes BMCSettings for each BMC that it selects.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BMCSettingsSet",
    root = "BmcSettingsSet",
    plural = "bmcsettingssets",
    status = "BmcSettingsSetStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Makes BMCSettings for each BMC that it selects.",
    printcolumn(
        name = "BMCVersion",
        type_ = "string",
        json_path = ".spec.bmcSettingsTemplate.version"
    ),
    printcolumn(
        name = "TotalBMCs",
        type_ = "integer",
        json_path = ".status.fullyLabeledBMCs"
    ),
    printcolumn(
        name = "AvailableBMCSettings",
        type_ = "integer",
        json_path = ".status.availableBMCSettings"
    ),
    printcolumn(
        name = "Pending",
        type_ = "integer",
        json_path = ".status.pendingBMCSettings"
    ),
    printcolumn(
        name = "InProgress",
        type_ = "integer",
        json_path = ".status.inProgressBMCSettings"
    ),
    printcolumn(
        name = "Completed",
        type_ = "integer",
        json_path = ".status.completedBMCSettings"
    ),
    printcolumn(
        name = "Failed",
        type_ = "integer",
        json_path = ".status.failedBMCSettings"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BmcSettingsSetSpec {
    /// Labels of the BMCs.
    #[schemars(schema_with = "schema::label_selector")]
    pub bmc_selector: LabelSelector,
    /// What each of them gets.
    pub bmc_settings_template: BmcSettingsTemplate,
}

/// How many of a set's BMCSettings stand where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BmcSettingsSetStatus {
    /// BMCs that are selected.
    #[serde(
        default,
        rename = "fullyLabeledBMCs",
        skip_serializing_if = "Option::is_none"
    )]
    pub fully_labeled_bmcs: Option<i32>,
    /// BMCSettings that were made.
    #[serde(
        default,
        rename = "availableBMCSettings",
        skip_serializing_if = "Option::is_none"
    )]
    pub available_bmc_settings: Option<i32>,
    /// Those that wait.
    #[serde(
        default,
        rename = "pendingBMCSettings",
        skip_serializing_if = "Option::is_none"
    )]
    pub pending_bmc_settings: Option<i32>,
    /// Those under way.
    #[serde(
        default,
        rename = "inProgressBMCSettings",
        skip_serializing_if = "Option::is_none"
    )]
    pub in_progress_bmc_settings: Option<i32>,
    /// Those that are applied.
    #[serde(
        default,
        rename = "completedBMCSettings",
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_bmc_settings: Option<i32>,
    /// Those that failed.
    #[serde(
        default,
        rename = "failedBMCSettings",
        skip_serializing_if = "Option::is_none"
    )]
    pub failed_bmc_settings: Option<i32>,
}
