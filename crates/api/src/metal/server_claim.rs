//! A claim to a server.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{power::Power, taint::Toleration};
use crate::{open_enum::open_enum, reference::LocalObjectReference, schema};

open_enum! {
    /// Whether a claim has its server.
    pub enum ServerClaimPhase {
        /// It has.
        Bound = "Bound",
        /// It has not; the condition `Bound` says why.
        Unbound = "Unbound",
    }
}

/// Asks for one server, booted from `image`, for as long as the claim exists. By `serverRef`, by `serverSelector`, or any.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "ServerClaim",
    plural = "serverclaims",
    shortname = "scl",
    namespaced,
    status = "ServerClaimStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Asks for one server, booted from an image, for as long as the claim exists.",
    printcolumn(name = "Server", type_ = "string", json_path = ".spec.serverRef.name"),
    printcolumn(
        name = "Ignition",
        type_ = "string",
        json_path = ".spec.ignitionSecretRef.name"
    ),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.serverRef) || has(self.serverRef)").message("serverRef is required once set"),
    validation = Rule::new("!has(oldSelf.serverSelector) || has(self.serverSelector)").message("serverSelector is required once set")
)]
pub struct ServerClaimSpec {
    /// Power as wanted while the claim holds.
    pub power: Power,
    /// Boot image: an OCI reference or an HTTP(S) URL.
    pub image: String,
    /// The server that is wanted; written on binding where the claim named none. Cannot change once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("serverRef is immutable"))]
    pub server_ref: Option<LocalObjectReference>,
    /// Labels of the servers that will do. Cannot change once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("serverSelector is immutable"))]
    pub server_selector: Option<LabelSelector>,
    /// The Secret with the Ignition configuration, in the claim's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignition_secret_ref: Option<LocalObjectReference>,
    /// The Secret of type `metal.ironcore.dev/user-data`, in the claim's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data_ref: Option<LocalObjectReference>,
    /// Taints that the claim can live with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// How a claim stands.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ServerClaimStatus {
    /// Whether it has its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ServerClaimPhase>,
    /// Corten's: conditions `Bound`, `Ready`, `Released`, with reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
