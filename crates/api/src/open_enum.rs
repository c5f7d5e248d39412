//! Enums that are strings on the wire and keep what they do not know.

/// Defines an enum that is a plain string on the wire; any other string becomes `Other`.
///
/// `pub enum Name default Variant` also implements `Default`. `schema closed` puts the known values into the schema as an
/// `enum`, which only stands where the original has one: the API server then refuses others, and we still read them.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident $(default $default:ident)? $(schema $closed:ident)? {
            $($(#[$doc:meta])* $variant:ident = $wire:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
            /// Any other value, as found on the wire.
            Other(String),
        }

        impl $name {
            /// The values that are known, as on the wire.
            pub const KNOWN: &'static [&'static str] = &[$($wire),+];

            /// The value as on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $wire,)+
                    Self::Other(value) => value,
                }
            }

            fn known(value: &str) -> Option<Self> {
                match value {
                    $($wire => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        $(impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        })?

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                Self::known(value).unwrap_or_else(|| Self::Other(value.to_owned()))
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self::known(&value).unwrap_or(Self::Other(value))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::open_enum::Text).map(Self::from)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                #[allow(unused_mut)]
                let mut schema = schemars::json_schema!({ "type": "string" });
                $(open_enum!(@$closed schema);)?
                schema
            }
        }
    };
    (@closed $schema:ident) => {
        $schema.insert("enum".into(), Self::KNOWN.into());
    };
}

pub(crate) use open_enum;

/// Reads a string without allocating when the input can be borrowed or is short-lived.
pub(crate) struct Text;

impl<'de> serde::de::Visitor<'de> for Text {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<String, E> {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use crate::metal::ServerState;

    #[test]
    fn a_value_that_nobody_knows_is_kept_as_it_is() {
        let state: ServerState = serde_json::from_str("\"Meditating\"").unwrap();
        assert_eq!(state, ServerState::Other("Meditating".into()));
        assert_eq!(serde_json::to_string(&state).unwrap(), "\"Meditating\"");
    }

    #[test]
    fn a_known_value_is_its_variant_on_every_way_in() {
        assert_eq!(ServerState::from("Reserved"), ServerState::Reserved);
        assert_eq!(
            ServerState::from("Reserved".to_owned()),
            ServerState::Reserved
        );
        assert_eq!(
            serde_json::from_str::<ServerState>("\"Reserved\"").unwrap(),
            ServerState::Reserved
        );
        assert_eq!(format!("{:>9}", ServerState::Reserved), " Reserved");
    }
}
