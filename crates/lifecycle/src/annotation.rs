//! What annotations say.

use std::collections::BTreeMap;

use corten_api::names;

/// The value. An empty one is none.
pub fn text<'a>(annotations: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    annotations
        .get(key)
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
}

/// True for any value but `false`, which takes it back.
pub fn is_set(annotations: &BTreeMap<String, String>, key: &str) -> bool {
    text(annotations, key).is_some_and(|value| value != "false")
}

/// Nothing is to be done to the object.
pub fn is_ignored(annotations: &BTreeMap<String, String>) -> bool {
    annotations
        .get(names::OPERATION)
        .is_some_and(|word| word == names::OPERATION_IGNORE)
}
