use std::collections::BTreeSet;

use kube::CustomResourceExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{cases, manifests, merge};
use crate::{corten::*, metal::*};

/// What a type makes of `value`, and what it makes of that again.
fn through<K: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(value: &Value) -> Value {
    let object: K =
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
    let written = serde_json::to_value(&object).unwrap();
    assert_eq!(
        serde_json::from_value::<K>(written.clone()).unwrap(),
        object
    );
    written
}

fn round_trip(value: &Value) -> Value {
    macro_rules! by_kind {
        ($($kind:ty),+ $(,)?) => {
            match value["kind"].as_str().unwrap() {
                $(kind if kind == <$kind>::api_resource().kind => through::<$kind>(value),)+
                kind => panic!("no type for {kind}"),
            }
        };
    }
    by_kind!(
        Endpoint,
        Bmc,
        BmcSecret,
        BmcUser,
        Server,
        ServerClaim,
        ServerBootConfiguration,
        ServerMaintenance,
        ServerReadinessRule,
        BiosSettings,
        BiosSettingsSet,
        BiosVersion,
        BiosVersionSet,
        BmcSettings,
        BmcSettingsSet,
        BmcVersion,
        BmcVersionSet,
        ServerRun,
        ServerInventory,
        ServerPolicy,
    )
}

/// Whether `part` is in `whole`; numbers of bytes may come back as text, and what is empty may be gone.
fn is_within(part: &Value, whole: Option<&Value>) -> bool {
    match (part, whole) {
        (Value::Object(part), Some(Value::Object(whole))) => part
            .iter()
            .all(|(name, value)| is_within(value, whole.get(name))),
        (Value::Array(part), Some(Value::Array(whole))) => {
            part.len() == whole.len()
                && part
                    .iter()
                    .zip(whole)
                    .all(|(part, whole)| is_within(part, Some(whole)))
        }
        (Value::Array(part), None) => part.is_empty(),
        (Value::Bool(false), None) => true,
        (Value::Number(number), Some(Value::String(text))) => number.to_string() == *text,
        (part, whole) => Some(part) == whole,
    }
}

#[test]
fn each_sample_decodes_and_comes_back_as_it_was() {
    for manifest in manifests().unwrap() {
        // The API server accepts it, as the original's does; no type of ours can hold it, and the store reports it.
        if manifest.get("spec").is_none() && manifest["kind"] != "BMCSecret" {
            continue;
        }
        let written = round_trip(&manifest);
        assert!(
            is_within(&manifest, Some(&written)),
            "{manifest}\n{written}"
        );
    }
}

#[test]
fn each_accepted_change_decodes_and_comes_back_as_it_was() {
    let manifests = manifests().unwrap();
    for case in cases().unwrap() {
        let mut object = manifests
            .iter()
            .find(|manifest| manifest["metadata"]["name"] == *case.of)
            .expect(&case.of)
            .clone();
        merge(&mut object, &case.merge);
        if case.refused.is_none() {
            let written = round_trip(&object);
            assert!(
                is_within(&object, Some(&written)),
                "{}: {object}\n{written}",
                case.case
            );
        }
    }
}

#[test]
fn unknown_fields_do_not_keep_an_object_from_being_read() {
    for mut manifest in manifests().unwrap() {
        if manifest.get("spec").is_none() && manifest["kind"] != "BMCSecret" {
            continue;
        }
        merge(
            &mut manifest,
            &json!({ "spec": { "fromTheFuture": { "a": [1] } }, "status": { "fromTheFuture": true }, "fromTheFuture": 1 }),
        );
        round_trip(&manifest);
    }
}

/// Every path of leaf fields in a schema.
fn leaves(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            leaves(&format!("{path}.{name}"), property, found);
        }
    } else if schema["items"]["properties"].is_object() {
        leaves(path, &schema["items"], found);
    } else {
        found.insert(path.to_owned());
    }
}

/// Every path at which `value` has something.
fn paths(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| paths(&format!("{path}.{name}"), value, found)),
        Value::Array(items) => items.iter().for_each(|item| paths(path, item, found)),
        _ => {}
    }
}

#[test]
fn the_samples_use_every_field_of_every_kind() {
    let manifests = manifests().unwrap();
    for crd in crate::crds() {
        let mut used = BTreeSet::new();
        for manifest in manifests
            .iter()
            .filter(|manifest| manifest["kind"] == *crd.spec.names.kind)
        {
            paths("", manifest, &mut used);
        }
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let mut known = BTreeSet::new();
        leaves("", &schema["openAPIV3Schema"], &mut known);
        let unused: Vec<_> = known
            .difference(&used)
            // Shared by all kinds, and optional.
            .filter(|path| !path.ends_with(".conditions.observedGeneration"))
            .collect();
        assert!(unused.is_empty(), "{}: {unused:?}", crd.spec.names.kind);
    }
}
