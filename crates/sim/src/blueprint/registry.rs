//! Message registries, schema files and `$metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Draft;
use crate::message::{BASE_VERSION, base_registry};

pub(super) fn write(draft: &mut Draft) {
    let registries = "/redfish/v1/Registries";
    let file = "/redfish/v1/Registries/Base.json";
    draft.put(
        file,
        "MessageRegistry.v1_4_2.MessageRegistry",
        base_registry(),
    );
    draft.put(&format!("{registries}/Base"), "MessageRegistryFile.v1_1_3.MessageRegistryFile", json!({
        "Name": "Base Message Registry File", "Languages": ["en"], "Registry": format!("Base.{}", short(BASE_VERSION)),
        "Location": [{"Language": "en", "Uri": file, "PublicationUri": format!("https://redfish.dmtf.org/registries/Base.{BASE_VERSION}.json")}],
    }));
    let attributes = "/redfish/v1/Registries/BiosAttributeRegistry.json";
    let spec = draft.spec.clone();
    let rows: Vec<Value> = spec.bios_attributes.iter().map(|(name, value)| json!({
        "AttributeName": name, "DisplayName": name, "Type": "Enumeration", "ReadOnly": false, "ResetRequired": true, "DefaultValue": value,
        "Value": [{"ValueName": value, "ValueDisplayName": value}, {"ValueName": "Disabled", "ValueDisplayName": "Disabled"}, {"ValueName": "Enabled", "ValueDisplayName": "Enabled"}],
    })).collect();
    draft.put(attributes, "AttributeRegistry.v1_3_6.AttributeRegistry", json!({
        "Id": "BiosAttributeRegistry.v1_0_3", "Name": "BIOS Attribute Registry", "Language": "en", "OwningEntity": spec.manufacturer, "RegistryVersion": "1.0.3",
        "RegistryEntries": {"Attributes": rows},
    }));
    draft.put(&format!("{registries}/BiosAttributeRegistry.v1_0_3"), "MessageRegistryFile.v1_1_3.MessageRegistryFile", json!({
        "Name": "BIOS Attribute Registry File", "Languages": ["en"], "Registry": "BiosAttributeRegistry.v1_0_3",
        "Location": [{"Language": "en", "Uri": attributes}],
    }));
    draft.collection(
        registries,
        "MessageRegistryFile",
        "Registry File Collection",
        &["Base".into(), "BiosAttributeRegistry.v1_0_3".into()],
    );

    let schemas = "/redfish/v1/JsonSchemas";
    let types: BTreeSet<String> = draft
        .documents
        .values()
        .filter_map(|(body, ..)| type_of(body))
        .filter(|name| name.contains(".v"))
        .collect();
    let mut names = Vec::new();
    for versioned in types {
        let mut parts = versioned.split('.');
        let (Some(schema), Some(version)) = (parts.next(), parts.next()) else {
            continue;
        };
        let name = format!("{schema}.{version}");
        draft.put(&format!("{schemas}/{name}"), "JsonSchemaFile.v1_1_4.JsonSchemaFile", json!({
            "Name": format!("{schema} Schema File"), "Languages": ["en"], "Schema": format!("#{versioned}"),
            "Location": [{"Language": "en", "PublicationUri": format!("http://redfish.dmtf.org/schemas/v1/{name}.json")}],
        }));
        names.push(name);
    }
    draft.collection(schemas, "JsonSchemaFile", "JSON Schema Collection", &names);
}

/// `1.18.1` as `1.18`.
fn short(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(short, _)| short)
}

fn type_of(body: &Value) -> Option<String> {
    let name = body.get("@odata.type")?.as_str()?.strip_prefix('#')?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The OData metadata document: which schema defines each type in use.
pub(super) fn metadata<'a>(documents: impl Iterator<Item = &'a Value>) -> String {
    let mut references: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let always = [
        "#Session.v1_4_0.Session",
        "#ManagerAccount.v1_8_0.ManagerAccount",
        "#Task.v1_4_3.Task",
        "#Event.v1_7_0.Event",
        "#EventDestination.v1_10_0.EventDestination",
        "#Job.v1_0_6.Job",
        "#Message.v1_1_2.Message",
        "#Settings.v1_3_3.Settings",
        "#Resource.v1_9_0.Resource",
        "#RedfishError.v1_0_1.RedfishError",
    ];
    let used = documents.filter_map(type_of).map(|name| format!("#{name}"));
    for name in used.chain(always.map(str::to_owned)) {
        let name = name.trim_start_matches('#');
        let mut parts = name.split('.');
        let schema = parts.next().unwrap_or_default().to_owned();
        let namespaces = references.entry(schema.clone()).or_default();
        namespaces.insert(schema.clone());
        if let Some(version) = parts.next().filter(|part| part.starts_with("v1_")) {
            namespaces.insert(format!("{schema}.{version}"));
        }
    }
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<edmx:Edmx xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\" Version=\"4.0\">\n",
    );
    for (schema, namespaces) in references {
        let place = if schema.starts_with("Volume") {
            "http://redfish.dmtf.org/schemas/swordfish/v1"
        } else {
            "http://redfish.dmtf.org/schemas/v1"
        };
        let _ = writeln!(xml, "  <edmx:Reference Uri=\"{place}/{schema}_v1.xml\">");
        for namespace in namespaces {
            let _ = writeln!(xml, "    <edmx:Include Namespace=\"{namespace}\"/>");
        }
        xml.push_str("  </edmx:Reference>\n");
    }
    xml.push_str(
        "  <edmx:Reference Uri=\"http://redfish.dmtf.org/schemas/v1/RedfishExtensions_v1.xml\">\n    <edmx:Include Namespace=\"RedfishExtensions.v1_0_0\" Alias=\"Redfish\"/>\n  </edmx:Reference>\n  <edmx:DataServices>\n    <Schema xmlns=\"http://docs.oasis-open.org/odata/ns/edm\" Namespace=\"Service\">\n      <EntityContainer Name=\"Service\" Extends=\"ServiceRoot.v1_0_0.ServiceContainer\"/>\n    </Schema>\n  </edmx:DataServices>\n</edmx:Edmx>\n",
    );
    xml
}
