//! What settings and versions have in common.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{open_enum::open_enum, reference::SecretReference};

open_enum! {
    /// How far settings are.
    pub enum SettingsState {
        /// Not begun.
        Pending = "Pending",
        /// Under way.
        InProgress = "InProgress",
        /// The machine has them.
        Applied = "Applied",
        /// They could not be applied.
        Failed = "Failed",
    }
}

open_enum! {
    /// How far a version is.
    pub enum VersionState {
        /// Not begun.
        Pending = "Pending",
        /// Under way.
        InProgress = "InProgress",
        /// The machine runs it.
        Completed = "Completed",
        /// It could not be installed.
        Failed = "Failed",
    }
}

open_enum! {
    /// How an update treats the vendor's own rules.
    pub enum UpdatePolicy {
        /// They are passed over, such as the one against an older version.
        Force = "Force",
    }
}

/// How often a failed attempt is repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Attempts after the first; 0 means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub max_attempts: Option<i32>,
}

/// A firmware image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareImage {
    /// Where it is.
    #[serde(rename = "URI")]
    pub uri: String,
    /// How the BMC fetches it, as Redfish `TransferProtocol` has it: `HTTP`, `HTTPS`, `NFS`…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_protocol: Option<String>,
    /// The Secret with user name and password for the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
}

/// The task by which a BMC installs an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeTask {
    /// Its path on the BMC.
    #[serde(default, rename = "URI", skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Redfish `TaskState`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Redfish `TaskStatus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Progress, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage_complete: Option<i32>,
}
