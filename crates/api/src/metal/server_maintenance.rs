//! A time in which a server is worked on.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    power::{IndicatorLed, Power},
    server_boot_configuration::ServerBootConfigurationSpec,
};
use crate::{open_enum::open_enum, reference::LocalObjectReference};

open_enum! {
    /// Whether the holder of a claimed server is asked.
    pub enum ServerMaintenancePolicy {
        /// The claim's owner has to approve.
        OwnerApproval = "OwnerApproval",
        /// Nobody is asked.
        Enforced = "Enforced",
    }
}

open_enum! {
    /// How far a maintenance is.
    pub enum ServerMaintenanceState {
        /// It waits for its turn or for approval.
        Pending = "Pending",
        /// The server is held for it.
        InMaintenance = "InMaintenance",
        /// It came to nothing.
        Failed = "Failed",
    }
}

/// Asks for a time in which the server is worked on and not used.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema,
)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "ServerMaintenance",
    plural = "servermaintenances",
    shortname = "sm",
    namespaced,
    status = "ServerMaintenanceStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Asks for a time in which the server is worked on and not used.",
    printcolumn(name = "Server", type_ = "string", json_path = ".spec.serverRef.name"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policy"),
    printcolumn(
        name = "BootConfiguration",
        type_ = "string",
        json_path = ".spec.serverBootConfigurationTemplate.name"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r".metadata.annotations.metal\.ironcore\.dev\/reason"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ServerMaintenanceSpec {
    /// The server.
    pub server_ref: LocalObjectReference,
    /// Whether the holder of a claimed server is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<ServerMaintenancePolicy>,
    /// Of several for one server the highest goes first, then the oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 0))]
    pub priority: Option<i32>,
    /// Power during the maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_power: Option<Power>,
    /// The locator light during the maintenance; off afterwards.
    #[serde(
        default,
        rename = "locatorLED",
        skip_serializing_if = "Option::is_none"
    )]
    pub locator_led: Option<IndicatorLed>,
    /// What the server boots during the maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_boot_configuration_template: Option<ServerBootConfigurationTemplate>,
}

/// The ServerBootConfiguration that is made for a maintenance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct ServerBootConfigurationTemplate {
    /// Its name.
    pub name: String,
    /// Its content.
    pub spec: ServerBootConfigurationSpec,
}

/// How a maintenance stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct ServerMaintenanceStatus {
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ServerMaintenanceState>,
}
