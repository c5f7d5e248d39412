//! Credentials of a BMC, in the original's own kind.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::Condition};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Credentials of a BMC: keys `username` and `password`, optionally `ca.crt`. Shaped like a core Secret: there is no `spec` on the wire.
///
/// `Debug` shows the keys and never a value. A core Secret (`BMC.spec.secretRef`) is the better place: it can be encrypted at rest and has
/// RBAC of its own.
#[derive(CustomResource, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metal.ironcore.dev",
    version = "v1alpha1",
    kind = "BMCSecret",
    root = "BmcSecret",
    no_spec,
    plural = "bmcsecrets",
    shortname = "bmcsec",
    status = "BmcSecretStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Credentials of a BMC: keys username and password.",
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BmcSecretContent {
    /// Values by key, in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::bytes_by_key")]
    pub data: BTreeMap<String, ByteString>,
    /// Values by key, as text. They go before `data`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub string_data: BTreeMap<String, String>,
    /// Whether the content is to stay as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Type, as of a core Secret.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}

/// What is known of a BMCSecret. Corten's: the original's is empty.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct BmcSecretStatus {
    /// Conditions: `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

// === impl BmcSecretContent ===

impl BmcSecretContent {
    /// The value under `key`, from `stringData` or else `data`; absent also when it is not UTF-8.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        let text = self.string_data.get(key).map(String::as_str);
        text.or_else(|| std::str::from_utf8(&self.data.get(key)?.0).ok())
    }
}

impl fmt::Debug for BmcSecretContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().chain(self.string_data.keys()).collect();
        f.debug_struct("BmcSecretContent")
            .field("keys", &keys)
            .field("immutable", &self.immutable)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> BmcSecret {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "metal.ironcore.dev/v1alpha1",
            "kind": "BMCSecret",
            "metadata": { "name": "bmc-1" },
            "data": { "username": "cm9vdA==" },
            "stringData": { "password": "calvin" },
        }))
        .unwrap()
    }

    #[test]
    fn a_secrets_values_are_read_from_both_of_its_maps() {
        assert_eq!(secret().spec.value("username"), Some("root"));
        assert_eq!(secret().spec.value("password"), Some("calvin"));
        assert_eq!(secret().spec.value("token"), None);
    }

    #[test]
    fn debug_never_shows_a_password() {
        let shown = format!("{:?}", secret());
        assert!(
            shown.contains("password") && !shown.contains("calvin"),
            "{shown}"
        );
    }
}
