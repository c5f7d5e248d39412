//! Conditions that a server must meet before claims may have it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::taint::{Taint, TaintEffect};
use crate::{open_enum::open_enum, schema};

open_enum! {
    /// For how long a readiness rule holds.
    pub enum EnforcementMode schema closed {
        /// Until the server has met it once.
        BootstrapOnly = "BootstrapOnly",
        /// Always.
        Continuous = "Continuous",
    }
}

open_enum! {
    /// What a condition can say.
    pub enum ConditionStatus schema closed {
        /// It holds.
        True = "True",
        /// It does not.
        False = "False",
        /// Nobody knows.
        Unknown = "Unknown",
    }
}

/// Puts a taint on servers that do not meet conditions, and takes it off when they do. Nothing of it changes once it is made.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "ServerReadinessRule",
    plural = "serverreadinessrules",
    status = "ServerReadinessRuleStatus",
    derive = "PartialEq",
    doc = "Puts a taint on servers that do not meet conditions, and takes it off when they do."
)]
#[serde(rename_all = "camelCase")]
pub struct ServerReadinessRuleSpec {
    /// The conditions, all of which must be met; each type once.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("conditions is immutable"))]
    pub conditions: Vec<ConditionRequirement>,
    /// For how long the rule holds.
    #[x_kube(validation = Rule::new("self == oldSelf").message("enforcementMode is immutable"))]
    pub enforcement_mode: EnforcementMode,
    /// Labels of the servers that it is for.
    #[schemars(schema_with = "schema::label_selector")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("serverSelector is immutable"))]
    pub server_selector: LabelSelector,
    /// The taint.
    pub taint: ReadinessTaint,
}

/// A condition of a Server, and what it has to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConditionRequirement {
    /// Type of the condition.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// What it has to say.
    pub required_status: ConditionStatus,
}

/// The taint of a readiness rule, which cannot change.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[x_kube(
    validation = Rule::new("self.key.size() <= 253").message("taint key length must be at most 253 characters"),
    validation = Rule::new("!has(oldSelf.key) || self.key == oldSelf.key").message("taint key is immutable"),
    validation = Rule::new("!has(oldSelf.effect) || self.effect == oldSelf.effect").message("taint effect is immutable"),
    validation = Rule::new("!has(oldSelf.value) || self.value == oldSelf.value").message("taint value is immutable")
)]
pub struct ReadinessTaint {
    /// Key.
    #[schemars(length(min = 1))]
    pub key: String,
    /// Value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What it does to claims that do not tolerate it.
    #[serde(default)]
    pub effect: TaintEffect,
}

/// How a rule stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct ServerReadinessRuleStatus {
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

// === impl ReadinessTaint ===

impl From<ReadinessTaint> for Taint {
    fn from(ReadinessTaint { key, value, effect }: ReadinessTaint) -> Self {
        Self { key, value, effect }
    }
}
