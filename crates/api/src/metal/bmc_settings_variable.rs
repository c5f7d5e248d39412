//! Variables in settings of a BMC.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name, as in `$(KEY)`.
    #[schemars(length(min = 1, max = 63))]
    pub key: String,
    /// Where its value comes from.
    pub value_from: VariableSource,
}

/// Where a variable's value comes from: exactly one of these.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.fieldRef) ? 1 : 0) + (has(self.objectFieldRef) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0) + (has(self.secretKeyRef) ? 1 : 0) == 1").message("exactly one of fieldRef, objectFieldRef, configMapKeyRef, or secretKeyRef must be provided"),
    validation = Rule::new("!has(self.objectFieldRef) || self.objectFieldRef.kind == 'BMC'").message("objectFieldRef.kind must be 'BMC'")
)]
pub struct VariableSource {
    /// A text field of the BMCSettings itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldReference>,
    /// A text field of a BMC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_field_ref: Option<ObjectFieldReference>,
    /// A key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<NamespacedKey>,
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<NamespacedKey>,
}

/// A field of the object itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldReference {
    /// Its path, such as `spec.BMCRef.name`.
    #[schemars(length(min = 1, max = 256))]
    pub field_path: String,
}

/// A field of another object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectFieldReference {
    /// Kind of the object: `BMC`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object; earlier variables may stand in it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Path of the field; keys with dots or slashes stand in brackets.
    #[schemars(length(min = 1, max = 256))]
    pub field_path: String,
}

/// A key of a namespaced object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub struct NamespacedKey {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the object.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}
