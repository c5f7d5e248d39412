//! One JSON object of a document, read leniently.

use super::{Anomalies, Fault, Link, scalar};
use jiff::Timestamp;
use serde_json::{Map, Value};

/// A JSON object inside a document. Every accessor answers `None` (or nothing) where the property cannot be used, and notes why.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    value: &'a Value,
    anomalies: &'a Anomalies,
}

// === impl Object ===

impl<'a> Object<'a> {
    /// Reads `value`, noting what is wrong in `anomalies`. A value that is no object has no properties.
    #[must_use]
    pub fn new(value: &'a Value, anomalies: &'a Anomalies) -> Self {
        Self { value, anomalies }
    }

    /// The raw JSON.
    #[must_use]
    pub fn raw(&self) -> &'a Value {
        self.value
    }

    /// The raw JSON map, empty for anything that is no object.
    pub fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.value.as_object().into_iter().flat_map(Map::iter)
    }

    /// The raw property, null counting as absent.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        let map = self.value.as_object()?;
        let found = match map.get(name) {
            Some(value) => value,
            None => {
                let (_, value) = map.iter().find(|(key, _)| same_name(key, name))?;
                self.anomalies.note(name, Fault::Misspelt);
                value
            }
        };
        (!found.is_null()).then_some(found)
    }

    /// Whether the property is there at all, null included: how capability is told.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.value
            .as_object()
            .is_some_and(|map| map.contains_key(name) || map.keys().any(|key| same_name(key, name)))
    }

    fn read<T>(&self, name: &str, how: fn(&Value) -> scalar::Read<T>) -> Option<T> {
        match how(self.value(name)?) {
            Ok((value, fault)) => {
                if let Some(fault) = fault {
                    self.anomalies.note(name, fault);
                }
                Some(value)
            }
            Err(fault) => {
                self.anomalies.note(name, fault);
                None
            }
        }
    }

    /// A string, trimmed; empty and placeholder strings (`N/A`, `Unknown`, rows of dots) count as absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.read(name, scalar::text)
            .filter(|text| !is_placeholder(text))
    }

    /// The first of `names` that holds a string.
    #[must_use]
    pub fn first_text(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    /// A number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        self.read(name, scalar::number)
    }

    /// A count or size: never negative, never a fraction.
    #[must_use]
    pub fn whole(&self, name: &str) -> Option<u64> {
        self.read(name, scalar::whole)
    }

    /// A truth value.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.read(name, scalar::flag)
    }

    /// A date and time. `0000-00-00T00:00:00Z` (iLO) and dates before 1980 (clocks never set) count as absent.
    #[must_use]
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        const YEAR_1980: i64 = 315_532_800;
        let text = self.text(name)?;
        match text.parse::<Timestamp>() {
            Ok(time) => Some(time).filter(|time| time.as_second() >= YEAR_1980),
            Err(_) => {
                self.anomalies.note(name, Fault::Malformed);
                None
            }
        }
    }

    /// A part of the object. Absent parts read as empty, so that chains need no test: `root.object("Status").text("State")`.
    #[must_use]
    pub fn object(&self, name: &str) -> Self {
        let value = match self.value(name) {
            Some(value @ Value::Object(_)) => value,
            // A list of one where the schema has an object.
            Some(Value::Array(items)) if matches!(items.as_slice(), [Value::Object(_)]) => {
                self.anomalies.note(name, Fault::Coerced);
                items.first().unwrap_or(&Value::Null)
            }
            Some(Value::Array(items)) if items.is_empty() => &Value::Null,
            Some(_) => {
                self.anomalies.note(name, Fault::Mistyped);
                &Value::Null
            }
            None => &Value::Null,
        };
        Self {
            value,
            anomalies: self.anomalies,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.value.as_object().is_none_or(Map::is_empty)
    }

    /// The objects of a list; other items are left out. An object where the schema has a list reads as a list of one.
    #[must_use]
    pub fn objects(&self, name: &str) -> Vec<Self> {
        let each = |value| Self {
            value,
            anomalies: self.anomalies,
        };
        match self.value(name) {
            Some(Value::Array(items)) => {
                if items
                    .iter()
                    .any(|item| !item.is_object() && !item.is_null())
                {
                    self.anomalies.note(name, Fault::Mistyped);
                }
                items
                    .iter()
                    .filter(|item| item.is_object())
                    .map(each)
                    .collect()
            }
            Some(value @ Value::Object(_)) => {
                self.anomalies.note(name, Fault::Coerced);
                vec![each(value)]
            }
            Some(_) => {
                self.anomalies.note(name, Fault::Mistyped);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// The strings of a list; a lone string reads as a list of one.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<String> {
        let Some(value) = self.value(name) else {
            return Vec::new();
        };
        let items = match value {
            Value::Array(items) => items.as_slice(),
            lone => {
                self.anomalies.note(name, Fault::Coerced);
                std::slice::from_ref(lone)
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter().filter(|item| !item.is_null()) {
            match scalar::text(item) {
                Ok((text, None)) => texts.push(text),
                _ => self.anomalies.note(name, Fault::Mistyped),
            }
        }
        texts
    }

    /// The link of a property: `{"@odata.id": …}`, or the bare string that some firmware gives.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<Link> {
        let value = self.value(name)?;
        let value = match value {
            Value::Array(items) => items.first()?,
            other => other,
        };
        self.link_of(name, value)
    }

    /// The link of a property whose schema type is a URI string (`@Redfish.ActionInfo`, `target`, `…@odata.nextLink`); an object with `@odata.id` is read too.
    #[must_use]
    pub fn uri(&self, name: &str) -> Option<Link> {
        match self.value(name)? {
            Value::String(text) => match Link::parse(text) {
                Ok(link) => Some(link),
                Err(_) => {
                    self.anomalies.note(name, Fault::Malformed);
                    None
                }
            },
            other => {
                self.anomalies.note(name, Fault::Coerced);
                self.link_of(name, other)
            }
        }
    }

    /// The links of a list property, in order, each once.
    #[must_use]
    pub fn links(&self, name: &str) -> Vec<Link> {
        let items = match self.value(name) {
            Some(Value::Array(items)) => items.as_slice(),
            Some(lone) => std::slice::from_ref(lone),
            None => return Vec::new(),
        };
        let mut links = Vec::with_capacity(items.len());
        for item in items {
            if let Some(link) = self.link_of(name, item)
                && !links.contains(&link)
            {
                links.push(link);
            }
        }
        links
    }

    fn link_of(&self, name: &str, value: &Value) -> Option<Link> {
        let text = match value {
            Value::Object(map) => match map.get("@odata.id").or_else(|| map.get("href")) {
                Some(Value::String(text)) => text,
                Some(Value::Null) | None => return None,
                Some(_) => {
                    self.anomalies.note(name, Fault::Mistyped);
                    return None;
                }
            },
            Value::String(text) => {
                self.anomalies.note(name, Fault::Coerced);
                text
            }
            Value::Null => return None,
            _ => {
                self.anomalies.note(name, Fault::Mistyped);
                return None;
            }
        };
        match Link::parse(text) {
            Ok(link) => Some(link),
            Err(_) => {
                self.anomalies.note(name, Fault::Malformed);
                None
            }
        }
    }

    /// The object's own `@odata.id`.
    #[must_use]
    pub fn own_link(&self) -> Option<Link> {
        self.link_of("@odata.id", self.value)
    }
}

/// Same property in another spelling: case, `_`, `-` and blanks do not count. Annotations keep their `@` and `.`.
fn same_name(key: &str, name: &str) -> bool {
    let letters = |text: &str| -> Vec<u8> {
        text.bytes()
            .filter(|b| !matches!(b, b'_' | b'-' | b' '))
            .map(|b| b.to_ascii_lowercase())
            .collect()
    };
    key.len().abs_diff(name.len()) <= 3 && letters(key) == letters(name)
}

/// What firmware writes when it has nothing to say.
fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    text.is_empty()
        || text
            .chars()
            .all(|c| matches!(c, '.' | '-' | ' ' | '?' | '*' | '\u{FF}'))
        || [
            "n/a",
            "na",
            "null",
            "none given",
            "unknown",
            "not available",
            "not specified",
            "not present",
            "to be filled by o.e.m.",
            "default string",
            "no dimm",
            "empty",
        ]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}
