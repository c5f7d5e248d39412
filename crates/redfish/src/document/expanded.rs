//! Taking apart what `$expand` put together (DSP0266 7.3).

use super::Document;
use serde_json::{Map, Value, json};

/// Deeper than any service expands; a bound for recursion on hostile input (serde_json stops at 128 itself).
const DEEPEST: usize = 32;

/// Moves every resource inside `body` into `inner`, each without those inside itself. Links stay in their places.
pub(super) fn take(body: &mut Value, inner: &mut Vec<Document>) {
    descend(body, inner, 0, true);
}

fn descend(value: &mut Value, inner: &mut Vec<Document>, depth: usize, outermost: bool) {
    if depth > DEEPEST {
        return;
    }
    match value {
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| descend(item, inner, depth + 1, false)),
        Value::Object(map) => {
            map.values_mut()
                .for_each(|item| descend(item, inner, depth + 1, false));
            if !outermost && is_resource(map) {
                let link = map.get("@odata.id").cloned().unwrap_or(Value::Null);
                let resource = std::mem::replace(value, json!({ "@odata.id": link }));
                inner.extend(Document::expanded(resource));
            }
        }
        _ => {}
    }
}

/// Whether the object is a whole resource, and not a link with a name, nor a part that is addressed by a fragment.
fn is_resource(map: &Map<String, Value>) -> bool {
    let Some(id) = map.get("@odata.id").and_then(Value::as_str) else {
        return false;
    };
    if id.contains('#') || id.len() < 2 {
        return false;
    }
    let Some(kind) = map.get("@odata.type").and_then(Value::as_str) else {
        return false;
    };
    if kind.ends_with("Collection") {
        return map.get("Members").is_some_and(Value::is_array);
    }
    map.keys()
        .filter(|key| !key.starts_with('@') && !key.contains("@odata"))
        .count()
        >= 2
}
