//! How objects refer to each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Refers to an object by name: a cluster-scoped one, or one in the namespace of the object that refers.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LocalObjectReference {
    /// Name of the object. Empty means that no object is meant.
    #[serde(default)]
    pub name: String,
}

/// Refers to a namespaced object.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub struct ObjectReference {
    /// Name of the object.
    pub name: String,
    /// Namespace of the object.
    pub namespace: String,
}

/// Refers to a core Secret.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretReference {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace of the Secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

// === impl LocalObjectReference ===

impl<T: Into<String>> From<T> for LocalObjectReference {
    fn from(name: T) -> Self {
        Self { name: name.into() }
    }
}

// === impl ObjectReference ===

impl ObjectReference {
    /// The object `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
        }
    }
}
