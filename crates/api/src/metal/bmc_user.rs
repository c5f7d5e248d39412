//! An account on a BMC.

use jiff::Timestamp;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{reference::LocalObjectReference, schema};

/// An account on a BMC, and how often its password is changed.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema,
)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BMCUser",
    root = "BmcUser",
    plural = "bmcusers",
    shortname = "bmcu",
    status = "BmcUserStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "An account on a BMC, and how often its password is changed.",
    printcolumn(name = "ID", type_ = "string", json_path = ".status.id"),
    printcolumn(name = "UserName", type_ = "string", json_path = ".spec.userName"),
    printcolumn(name = "RoleID", type_ = "string", json_path = ".spec.roleID"),
    printcolumn(
        name = "LastRotation",
        type_ = "date",
        json_path = ".status.lastRotation"
    ),
    printcolumn(
        name = "PasswordExpiration",
        type_ = "date",
        json_path = ".status.passwordExpiration"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BmcUserSpec {
    /// User name.
    pub user_name: String,
    /// Redfish `RoleId`.
    #[serde(rename = "roleID")]
    pub role_id: String,
    /// What the account is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How often the password is changed, as a Go duration (`720h`); never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_period: Option<String>,
    /// The BMCSecret with the password; one is made if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc_secret_ref: Option<LocalObjectReference>,
    /// The BMC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc_ref: Option<LocalObjectReference>,
}

/// How an account stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BmcUserStatus {
    /// Redfish `Id` of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The BMCSecret in force.
    #[serde(
        default,
        rename = "effectiveBMCSecretRef",
        skip_serializing_if = "Option::is_none"
    )]
    pub effective_bmc_secret_ref: Option<LocalObjectReference>,
    /// When the password was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_rotation: Option<Timestamp>,
    /// When the password ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub password_expiration: Option<Timestamp>,
}
