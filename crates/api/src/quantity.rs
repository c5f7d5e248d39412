//! Amounts as Kubernetes writes them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// An amount of bytes in Kubernetes' notation (`64Gi`, `960G`, `1024`), as found on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

/// `resource.Quantity`'s own pattern.
const PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

const BINARY: [(&str, u64); 6] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];

const DECIMAL: [(&str, u64); 6] = [
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

// === impl Quantity ===

impl Quantity {
    /// `bytes` with the greatest binary unit that divides them, as `resource.Quantity` in `BinarySI` writes them.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Self {
        let unit = BINARY
            .iter()
            .find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor));
        Self(unit.map_or_else(
            || bytes.to_string(),
            |(unit, factor)| format!("{}{unit}", bytes / factor),
        ))
    }

    /// The amount in bytes, if it is a whole number with a unit of bytes; `1.5Gi` and `1e9` are none.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let (number, factor) = BINARY
            .iter()
            .chain(&DECIMAL)
            .find_map(|(unit, factor)| Some((self.0.strip_suffix(unit)?, *factor)))
            .unwrap_or((&self.0, 1));
        number.parse::<u64>().ok()?.checked_mul(factor)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum IntOrString {
            Int(i64),
            String(String),
        }
        Ok(Self(match IntOrString::deserialize(deserializer)? {
            IntOrString::Int(bytes) => bytes.to_string(),
            IntOrString::String(text) => text,
        }))
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // int-or-string alone says that both are taken.
        json_schema!({
            "pattern": PATTERN,
            "x-kubernetes-int-or-string": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn bytes_are_written_with_the_greatest_binary_unit_that_divides_them() {
        for (bytes, text) in [
            (0, "0"),
            (1000, "1000"),
            (64 << 30, "64Gi"),
            (1536 << 30, "1536Gi"),
            (1 << 40, "1Ti"),
        ] {
            assert_eq!(Quantity::from_bytes(bytes).0, text);
            assert_eq!(Quantity::from_bytes(bytes).bytes(), Some(bytes));
        }
    }

    #[test]
    fn a_quantity_may_be_a_number_on_the_wire() {
        assert_eq!(
            serde_json::from_str::<Quantity>("960").unwrap().bytes(),
            Some(960)
        );
        assert_eq!(
            serde_json::from_str::<Quantity>("\"960G\"")
                .unwrap()
                .bytes(),
            Some(960_000_000_000)
        );
        assert_eq!(
            serde_json::from_str::<Quantity>("\"1.5Gi\"")
                .unwrap()
                .bytes(),
            None
        );
    }
}
