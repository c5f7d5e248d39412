//! The CustomResourceDefinitions of all kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, Resource};

use crate::{corten, metal};

/// The definitions to install, in no particular order.
///
/// Take these rather than a kind's own `crd()`: what a derive cannot say is put right here, see [`relax`].
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    [
        metal::Endpoint::crd(),
        metal::Bmc::crd(),
        metal::BmcSecret::crd(),
        metal::Server::crd(),
        metal::ServerClaim::crd(),
        metal::ServerBootConfiguration::crd(),
        metal::ServerMaintenance::crd(),
        metal::ServerReadinessRule::crd(),
        metal::BmcUser::crd(),
        metal::BiosSettings::crd(),
        metal::BiosSettingsSet::crd(),
        metal::BiosVersion::crd(),
        metal::BiosVersionSet::crd(),
        metal::BmcSettings::crd(),
        metal::BmcSettingsSet::crd(),
        metal::BmcVersion::crd(),
        metal::BmcVersionSet::crd(),
        corten::ServerRun::crd(),
        corten::ServerInventory::crd(),
        corten::ServerPolicy::crd(),
    ]
    .into_iter()
    .map(relax)
    .map(whole)
    .collect()
}

/// A ServerInventory is written whole: behind a `status` subresource, what is applied to the object itself would be dropped silently.
fn whole(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    if crd.spec.names.kind == corten::ServerInventory::kind(&()) {
        for version in &mut crd.spec.versions {
            version.subresources = None;
        }
    }
    crd
}

/// An object of the originals may lack its `spec`, and a null is dropped as if the field were not there.
fn relax(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut());
    for root in schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()) {
        root.required = None;
        drop_nullable(root);
    }
    crd
}

/// A stored null would count as present for `has()` in CEL rules; without `nullable` the API server removes it instead.
fn drop_nullable(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        drop_nullable(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = schema.items.as_mut() {
        drop_nullable(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = schema.additional_properties.as_mut() {
        drop_nullable(values);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::crds;

    #[test]
    fn no_kind_is_defined_twice_and_each_but_the_inventory_has_a_status_of_its_own() {
        let crds = crds();
        let names: std::collections::BTreeSet<_> =
            crds.iter().map(|crd| crd.metadata.name.clone()).collect();
        assert_eq!(names.len(), crds.len());
        for crd in &crds {
            let version = &crd.spec.versions[0];
            let has = version
                .subresources
                .as_ref()
                .is_some_and(|sub| sub.status.is_some());
            let whole = crd.spec.names.kind == "ServerInventory";
            assert_eq!(has, !whole, "{:?}", crd.metadata.name);
        }
    }

    /// Each rule stands once at its place: they are a list-map by rule, and server-side apply refuses the definition otherwise.
    #[test]
    fn no_rule_stands_twice_in_one_place() {
        fn walk(path: &str, schema: &Value) {
            if let Some(rules) = schema["x-kubernetes-validations"].as_array() {
                let texts: std::collections::BTreeSet<_> =
                    rules.iter().map(|rule| rule["rule"].as_str()).collect();
                assert_eq!(texts.len(), rules.len(), "{path}");
            }
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                walk(&format!("{path}.{name}"), property);
            }
            if schema["items"].is_object() {
                walk(&format!("{path}[]"), &schema["items"]);
            }
        }
        for crd in crds() {
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            walk(&crd.spec.names.kind, &schema["openAPIV3Schema"]);
        }
    }
}
