//! Decoding that one bad object cannot break.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;

/// An object, or its metadata and the reason why it could not be read.
///
/// `kube::core::DeserializeGuard` does the same by buffering and cloning every object as a tree; this borrows the text and parses it once.
#[derive(Clone, Debug)]
pub(crate) enum Tolerant<K> {
    Read(Box<K>),
    Broken {
        meta: Box<ObjectMeta>,
        error: String,
    },
}

#[derive(Deserialize)]
struct OnlyMetadata {
    #[serde(default)]
    metadata: LooseMeta,
}

/// Enough to name an object whose metadata may itself be odd.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LooseMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

impl<'de, K: DeserializeOwned + Resource> Deserialize<'de> for Tolerant<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match serde_json::from_str::<K>(raw.get()) {
            Ok(object) => Ok(Self::Read(Box::new(lean(object)))),
            Err(error) => {
                let meta = serde_json::from_str::<OnlyMetadata>(raw.get())
                    .map(|o| o.metadata)
                    .unwrap_or_default();
                Ok(Self::Broken {
                    meta: Box::new(ObjectMeta {
                        name: meta.name,
                        namespace: meta.namespace,
                        uid: meta.uid,
                        resource_version: meta.resource_version,
                        ..ObjectMeta::default()
                    }),
                    error: error.to_string(),
                })
            }
        }
    }
}

impl<K: Resource> Resource for Tolerant<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Read(object) => object.meta(),
            Self::Broken { meta, .. } => meta,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Read(object) => object.meta_mut(),
            Self::Broken { meta, .. } => meta,
        }
    }
}

/// Without its ownership bookkeeping, which is half of many objects' size and which no reader of a store needs.
pub(crate) fn lean<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::WatchEvent;

    use super::*;

    #[test]
    fn a_watch_line_with_a_broken_object_still_names_it() {
        let line = r#"{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"a","namespace":"n","resourceVersion":"7"},"data":5}}"#;
        match serde_json::from_str::<WatchEvent<Tolerant<ConfigMap>>>(line).unwrap() {
            WatchEvent::Added(Tolerant::Broken { meta, error }) => {
                assert_eq!(meta.name.as_deref(), Some("a"));
                assert_eq!(meta.resource_version.as_deref(), Some("7"));
                assert!(error.contains("invalid type"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_good_object_loses_its_managed_fields_and_nothing_else() {
        let line = r#"{"type":"MODIFIED","object":{"metadata":{"name":"a","managedFields":[{"manager":"x"}]},"data":{"k":"v"}}}"#;
        match serde_json::from_str::<WatchEvent<Tolerant<ConfigMap>>>(line).unwrap() {
            WatchEvent::Modified(Tolerant::Read(map)) => {
                assert!(map.metadata.managed_fields.is_none());
                assert_eq!(map.data.unwrap()["k"], "v");
            }
            other => panic!("{other:?}"),
        }
    }
}
