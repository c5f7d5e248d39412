//! Reading that loses what it cannot read, and no more.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A value, or its default.
pub(super) fn value<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// A value, or its default; what the original calls `unknown` is not told.
pub(super) fn known<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let mut value = Value::deserialize(deserializer)?;
    forget_unknown(&mut value);
    Ok(serde_json::from_value(value).unwrap_or_default())
}

fn forget_unknown(value: &mut Value) {
    match value {
        Value::String(text) if text == "unknown" => text.clear(),
        Value::Array(values) => {
            values.retain(|value| value != "unknown");
            values.iter_mut().for_each(forget_unknown);
        }
        Value::Object(fields) => fields.values_mut().for_each(forget_unknown),
        _ => {}
    }
}

/// The entries of a list that can be read.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let Value::Array(values) = Value::deserialize(deserializer)? else {
        return Ok(Vec::new());
    };
    Ok(values
        .into_iter()
        .filter_map(|value| serde_json::from_value(value).ok())
        .collect())
}
