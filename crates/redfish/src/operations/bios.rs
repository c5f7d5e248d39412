//! BIOS attributes: in force, pending, and what the registry says about them.

use super::{Call, OperationError, action, read};
use crate::document::{Document, Link, Object};
use crate::model::{Service, System};
use crate::{GatewayError, Priority};
use serde_json::{Map, Value, json};

/// The `Bios` resource of a system.
#[derive(Clone, Debug)]
pub struct Bios {
    document: Document,
}

/// What a registry says about one attribute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttributeRule {
    /// Name of the attribute.
    pub name: String,
    /// `Enumeration`, `String`, `Integer`, `Boolean`, `Password`.
    pub kind: Option<String>,
    /// For people.
    pub display_name: Option<String>,
    /// Values of an enumeration.
    pub values: Vec<String>,
    /// Least value of an integer.
    pub lower_bound: Option<f64>,
    /// Greatest value of an integer.
    pub upper_bound: Option<f64>,
    /// Longest string.
    pub max_length: Option<u64>,
    /// Cannot be written.
    pub read_only: bool,
    /// A change needs a reset.
    pub reset_required: Option<bool>,
}

/// Why a value will not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadValue {
    /// The registry does not know the attribute.
    Unknown,
    /// The attribute is read-only.
    ReadOnly,
    /// The value is not one of those allowed, out of bounds, or of another type.
    NotAllowed,
}

// === impl Bios ===

impl Bios {
    /// Reads a system's `Bios`: one request, or `None` where it has none.
    ///
    /// # Errors
    /// Whatever the gateway says, apart from "not found".
    pub async fn read(service: &Service, system: &System) -> Result<Option<Self>, GatewayError> {
        let Some(link) = system.document().root().link("Bios") else {
            return Ok(None);
        };
        match read(service, &link, Priority::Inventory).await {
            Ok(document) => Ok(Some(Self { document })),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// From a document.
    #[must_use]
    pub fn new(document: Document) -> Self {
        Self { document }
    }

    /// Attributes in force. Values that are objects or lists (HPE Cray) are left out.
    #[must_use]
    pub fn attributes(&self) -> Map<String, Value> {
        attributes_of(&self.document)
    }

    /// Name of the registry that describes the attributes.
    #[must_use]
    pub fn registry(&self) -> Option<String> {
        self.document.root().text("AttributeRegistry")
    }

    /// Where changes are written: the settings resource, or the Bios itself where it has none.
    #[must_use]
    pub fn settings(&self) -> Option<Link> {
        self.annotation()
            .link("SettingsObject")
            .or_else(|| Link::parse(self.document.path()).ok())
    }

    /// When changes can be applied (`OnReset`, `Immediate`…); empty if the BMC does not say.
    #[must_use]
    pub fn apply_times(&self) -> Vec<String> {
        self.annotation().texts("SupportedApplyTimes")
    }

    /// What the last attempt to apply settings said, for people.
    #[must_use]
    pub fn last_messages(&self) -> Vec<String> {
        self.annotation()
            .objects("Messages")
            .into_iter()
            .filter_map(|message| message.first_text(&["Message", "MessageId"]))
            .collect()
    }

    fn annotation(&self) -> Object<'_> {
        self.document.root().object("@Redfish.Settings")
    }

    /// Attributes that are waiting for a reset: one request. Only those that differ from what is in force; firmware
    /// lists all of them (Supermicro, AMI) or the changed ones (Dell).
    ///
    /// # Errors
    /// Whatever the gateway says.
    pub async fn pending(&self, service: &Service) -> Result<Map<String, Value>, GatewayError> {
        let Some(link) = self.annotation().link("SettingsObject") else {
            return Ok(Map::new());
        };
        let pending = read(service, &link, Priority::Inventory).await?;
        let current = self.attributes();
        Ok(attributes_of(&pending)
            .into_iter()
            .filter(|(name, value)| !value.is_null() && current.get(name) != Some(value))
            .collect())
    }

    /// Plans a change of attributes, to be applied at the next reset where the BMC lets that be said.
    ///
    /// # Errors
    /// [`OperationError::NotOffered`] if there is nowhere to write.
    pub fn set(
        &self,
        attributes: &Map<String, Value>,
        settings: Option<&Document>,
    ) -> Result<Call, OperationError> {
        let link = self
            .settings()
            .ok_or_else(|| OperationError::not_offered("BIOS settings", Vec::new()))?;
        let mut body = Map::new();
        body.insert("Attributes".into(), Value::Object(attributes.clone()));
        if self.apply_times().iter().any(|time| time == "OnReset") {
            body.insert(
                "@Redfish.SettingsApplyTime".into(),
                json!({ "ApplyTime": "OnReset" }),
            );
        }
        let read =
            settings.or_else(|| (link.path() == self.document.path()).then_some(&self.document));
        Ok(Call::patch(link, read, Value::Object(body)))
    }

    /// Plans `Bios.ResetBios`: factory defaults at the next reset.
    ///
    /// # Errors
    /// [`OperationError::NotOffered`] if there is no such action.
    pub fn reset(&self) -> Result<Call, OperationError> {
        let target = action::target(self.document.root(), "#Bios.ResetBios")
            .ok_or_else(|| OperationError::not_offered("Bios.ResetBios", Vec::new()))?;
        Ok(Call::post(target, json!({})))
    }
}

fn attributes_of(document: &Document) -> Map<String, Value> {
    let attributes = document.root().object("Attributes");
    attributes
        .entries()
        .filter(|(name, value)| !name.contains('@') && !value.is_object() && !value.is_array())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Reads the registry that describes a BIOS's attributes: 3 requests, one of them large. Empty if it is not there.
///
/// # Errors
/// Whatever the gateway says, apart from "not found".
pub async fn registry(service: &Service, bios: &Bios) -> Result<Vec<AttributeRule>, GatewayError> {
    let (Some(name), Some(registries)) =
        (bios.registry(), service.root().root().link("Registries"))
    else {
        return Ok(Vec::new());
    };
    // Every service has dozens of registries; only the one is read, found by the last segment of its link.
    let collection = read(service, &registries, Priority::Inventory).await?;
    let wanted = plain(&name);
    let links = collection.root().links("Members");
    let close = |link: &&Link| plain(link.last_segment()) == wanted;
    let family = |link: &&Link| plain(link.last_segment()).starts_with("biosattributeregistry");
    let Some(link) = links
        .iter()
        .find(close)
        .or_else(|| links.iter().find(family))
    else {
        return Ok(Vec::new());
    };
    let file = read(service, link, Priority::Inventory).await?;
    let locations = file.root().objects("Location");
    let english = locations.iter().find(|place| {
        place
            .text("Language")
            .is_none_or(|language| language.starts_with("en"))
    });
    let Some(uri) = english.or(locations.first()).and_then(|place| {
        place
            .uri("Uri")
            .or_else(|| Link::parse(&place.object("Uri").text("extref")?).ok())
    }) else {
        return Ok(Vec::new());
    };
    match read(service, &uri, Priority::Inventory).await {
        Ok(registry) => Ok(rules(&registry)),
        Err(error) if error.status() == Some(404) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Letters and digits only, so that `BiosAttributeRegistry.v1_0_3` and `BiosAttributeRegistry.1.0.3` are one name.
fn plain(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect::<String>()
        .replace("registryv", "registry")
}

/// The rules of an attribute registry.
#[must_use]
pub fn rules(registry: &Document) -> Vec<AttributeRule> {
    let entries = registry
        .root()
        .object("RegistryEntries")
        .objects("Attributes");
    let rule = |entry: Object<'_>| {
        Some(AttributeRule {
            name: entry.text("AttributeName")?,
            kind: entry.text("Type"),
            display_name: entry.text("DisplayName"),
            values: entry
                .objects("Value")
                .into_iter()
                .filter_map(|value| value.text("ValueName"))
                .collect(),
            lower_bound: entry.number("LowerBound"),
            upper_bound: entry.number("UpperBound"),
            max_length: entry.whole("MaxLength").filter(|length| *length > 0),
            read_only: entry.flag("ReadOnly").unwrap_or(false),
            reset_required: entry.flag("ResetRequired"),
        })
    };
    entries.into_iter().filter_map(rule).collect()
}

/// Checks a value against the rules, before a machine is rebooted for nothing.
///
/// # Errors
/// [`BadValue`].
pub fn check(rules: &[AttributeRule], name: &str, value: &Value) -> Result<(), BadValue> {
    let rule = rules
        .iter()
        .find(|rule| rule.name == name)
        .ok_or(BadValue::Unknown)?;
    if rule.read_only {
        return Err(BadValue::ReadOnly);
    }
    let fine = match rule.kind.as_deref() {
        Some("Enumeration") => value.as_str().is_some_and(|value| {
            rule.values.is_empty() || rule.values.iter().any(|allowed| allowed == value)
        }),
        Some("Integer") => value.as_f64().is_some_and(|number| {
            rule.lower_bound.is_none_or(|bound| number >= bound)
                && rule.upper_bound.is_none_or(|bound| number <= bound)
        }),
        Some("Boolean") => value.is_boolean(),
        Some("String" | "Password") => value.as_str().is_some_and(|text| {
            rule.max_length
                .is_none_or(|most| text.chars().count() as u64 <= most)
        }),
        _ => true,
    };
    if fine {
        Ok(())
    } else {
        Err(BadValue::NotAllowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bios() -> Bios {
        Bios::new(Document::new(
            "/s/Bios",
            None,
            json!({"AttributeRegistry": "R.v1", "Attributes": {"BootMode": "Uefi", "Odd": {"x": 1}}, "@Redfish.Settings": {
                "SettingsObject": {"@odata.id": "/s/Bios/Settings"}, "SupportedApplyTimes": ["OnReset", "AtMaintenanceWindowStart"]}}),
        ))
    }

    #[test]
    fn a_change_is_one_patch_of_the_settings_for_the_next_reset() {
        let wanted = Map::from_iter([("BootMode".to_owned(), json!("Bios"))]);
        let call = bios().set(&wanted, None).unwrap();
        assert_eq!(call.link.path(), "/s/Bios/Settings");
        assert_eq!(
            call.body,
            json!({"Attributes": {"BootMode": "Bios"}, "@Redfish.SettingsApplyTime": {"ApplyTime": "OnReset"}})
        );
    }

    #[test]
    fn attributes_that_are_objects_are_left_out() {
        assert_eq!(bios().attributes().len(), 1);
    }

    #[test]
    fn values_are_checked_against_the_registry() {
        let registry = Document::new(
            "/r",
            None,
            json!({"RegistryEntries": {"Attributes": [
                {"AttributeName": "BootMode", "Type": "Enumeration", "Value": [{"ValueName": "Uefi"}, {"ValueName": "Bios"}]},
                {"AttributeName": "Delay", "Type": "Integer", "LowerBound": 1, "UpperBound": 9},
                {"AttributeName": "Vendor", "Type": "String", "ReadOnly": true}, {"Type": "String"},
            ]}}),
        );
        let rules = rules(&registry);
        assert_eq!(rules.len(), 3);
        assert_eq!(check(&rules, "BootMode", &json!("Uefi")), Ok(()));
        assert_eq!(
            check(&rules, "BootMode", &json!("Net")),
            Err(BadValue::NotAllowed)
        );
        assert_eq!(
            check(&rules, "Delay", &json!(10)),
            Err(BadValue::NotAllowed)
        );
        assert_eq!(
            check(&rules, "Vendor", &json!("x")),
            Err(BadValue::ReadOnly)
        );
        assert_eq!(check(&rules, "Nope", &json!("x")), Err(BadValue::Unknown));
    }
}
