//! What a server is to boot.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{open_enum::open_enum, reference::LocalObjectReference, schema};

open_enum! {
    /// Whether a server may be switched on for a boot configuration.
    pub enum ServerBootConfigurationState {
        /// Not yet.
        Pending = "Pending",
        /// It may.
        Ready = "Ready",
        /// It cannot boot this; the conditions say why.
        Error = "Error",
    }
}

/// What a server is to boot. Answered by Corten's boot services, or by any other controller (`--boot=external`).
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema,
)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "ServerBootConfiguration",
    plural = "serverbootconfigurations",
    shortname = "sbc",
    namespaced,
    status = "ServerBootConfigurationStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "What a server is to boot.",
    printcolumn(
        name = "ServerRef",
        type_ = "string",
        json_path = ".spec.serverRef.name"
    ),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"),
    printcolumn(
        name = "IgnitionRef",
        type_ = "string",
        json_path = ".spec.ignitionSecretRef.name"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ServerBootConfigurationSpec {
    /// The server.
    pub server_ref: LocalObjectReference,
    /// Boot image: an OCI reference or an HTTP(S) URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The Secret with the Ignition configuration, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignition_secret_ref: Option<LocalObjectReference>,
}

/// Whether the boot configuration can be booted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct ServerBootConfigurationStatus {
    /// Whether the server may be switched on for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ServerBootConfigurationState>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
