//! Compares two CustomResourceDefinitions: what the second lacks, and what it refuses that the first accepts.

use std::fmt;

use serde_json::Value;

/// A difference that costs a user of the original something.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Path of the field, such as `spec.taints[].key`; empty for the definition itself.
    pub path: String,
    /// What is wrong: `missing field`, `tighter maxLength`, `extra rule`…
    pub what: String,
    /// Theirs and ours.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.path, self.what, self.detail)
    }
}

/// What `ours` lacks or refuses of `theirs`; both are whole definitions.
pub fn compare(theirs: &Value, ours: &Value) -> Vec<Finding> {
    let mut found = Findings(Vec::new());
    definition(&mut found, theirs, ours);
    let schema = |crd: &Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    field(&mut found, "", &schema(theirs), &schema(ours));
    found.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, path: &str, what: impl Into<String>, detail: impl fmt::Display) {
        self.0.push(Finding {
            path: path.to_owned(),
            what: what.into(),
            detail: detail.to_string(),
        });
    }
}

fn definition(found: &mut Findings, theirs: &Value, ours: &Value) {
    let (spec, own) = (&theirs["spec"], &ours["spec"]);
    for (what, pointer) in [
        ("group", "/group"),
        ("scope", "/scope"),
        ("plural", "/names/plural"),
        ("singular", "/names/singular"),
        ("kind", "/names/kind"),
    ] {
        if spec.pointer(pointer) != own.pointer(pointer) {
            found.add(
                "",
                what,
                format_args!("{:?}, {:?}", spec.pointer(pointer), own.pointer(pointer)),
            );
        }
    }
    for name in missing(&spec["names"]["shortNames"], &own["names"]["shortNames"]) {
        found.add("", "missing short name", name);
    }
    let (version, own) = (&spec["versions"][0], &own["versions"][0]);
    if version["name"] != own["name"] {
        found.add(
            "",
            "version",
            format_args!("{}, {}", version["name"], own["name"]),
        );
    }
    for subresource in
        keys(&version["subresources"]).filter(|name| own["subresources"].get(*name).is_none())
    {
        found.add("", "missing subresource", subresource);
    }
    // Also in the same order: people read columns by place.
    let mut columns = list(&own["additionalPrinterColumns"]).iter();
    for column in list(&version["additionalPrinterColumns"]) {
        let same = |other: &&Value| {
            ["name", "type", "jsonPath", "priority"]
                .iter()
                .all(|key| column[*key] == other[*key])
        };
        if columns.find(same).is_none() {
            found.add("", "missing column", column);
        }
    }
}

fn field(found: &mut Findings, path: &str, theirs: &Value, ours: &Value) {
    if theirs["type"] != ours["type"]
        || theirs["x-kubernetes-int-or-string"] != ours["x-kubernetes-int-or-string"]
    {
        found.add(
            path,
            "type",
            format_args!("{}, {}", theirs["type"], ours["type"]),
        );
    }
    let kept = "x-kubernetes-preserve-unknown-fields";
    if theirs[kept] == true && ours[kept] != true {
        found.add(path, kept, "unknown fields would be dropped");
    }
    if theirs["x-kubernetes-map-type"] != ours["x-kubernetes-map-type"] {
        found.add(
            path,
            "x-kubernetes-map-type",
            format_args!(
                "{}, {}",
                theirs["x-kubernetes-map-type"], ours["x-kubernetes-map-type"]
            ),
        );
    }
    if theirs.get("default") != ours.get("default") {
        found.add(
            path,
            "default",
            format_args!("{:?}, {:?}", theirs.get("default"), ours.get("default")),
        );
    }
    values(found, path, theirs, ours);
    bounds(found, path, theirs, ours);
    rules(found, path, theirs, ours);
    children(found, path, theirs, ours);
}

fn values(found: &mut Findings, path: &str, theirs: &Value, ours: &Value) {
    match (theirs.get("enum"), ours.get("enum")) {
        (Some(theirs), Some(ours)) => {
            for value in missing(theirs, ours) {
                found.add(path, "missing enum value", value);
            }
        }
        (None, Some(ours)) => found.add(path, "tighter enum", ours),
        (_, None) => {}
    }
    // A whole number is an int64 for the API server anyway.
    if let Some(format) = ours
        .get("format")
        .filter(|format| theirs.get("format") != Some(format) && *format != "int64")
    {
        found.add(
            path,
            "tighter format",
            format_args!("{:?}, {format}", theirs.get("format")),
        );
    }
    for required in missing(&ours["required"], &theirs["required"]) {
        found.add(path, "tighter required", required);
    }
}

fn bounds(found: &mut Findings, path: &str, theirs: &Value, ours: &Value) {
    let mut tighter = |keyword: &str, is_tighter: &dyn Fn(&Value) -> bool| {
        if ours.get(keyword).is_some() && theirs.get(keyword).is_none_or(is_tighter) {
            found.add(
                path,
                format!("tighter {keyword}"),
                format_args!("{:?}, {}", theirs.get(keyword), ours[keyword]),
            );
        }
    };
    let number = |value: &Value| value.as_f64().unwrap();
    for keyword in ["minimum", "minLength", "minItems", "minProperties"] {
        tighter(keyword, &|limit| number(&ours[keyword]) > number(limit));
    }
    for keyword in ["maximum", "maxLength", "maxItems", "maxProperties"] {
        tighter(keyword, &|limit| number(&ours[keyword]) < number(limit));
    }
    for keyword in [
        "pattern",
        "multipleOf",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "not",
        "oneOf",
        "allOf",
        "anyOf",
    ] {
        tighter(keyword, &|same| *same != ours[keyword]);
    }
    tighter("uniqueItems", &|same| *same != ours["uniqueItems"]);
    if theirs["x-kubernetes-list-type"] == "map" {
        tighter("x-kubernetes-list-map-keys", &|same| {
            *same != ours["x-kubernetes-list-map-keys"]
        });
    }
    // Atomic lists and maps refuse nothing; sets and list-maps refuse duplicates.
    if ours["x-kubernetes-list-type"] != "atomic" {
        tighter("x-kubernetes-list-type", &|same| {
            *same != ours["x-kubernetes-list-type"]
        });
    }
}

fn rules(found: &mut Findings, path: &str, theirs: &Value, ours: &Value) {
    let texts = |schema: &Value| -> Vec<Value> {
        list(&schema["x-kubernetes-validations"])
            .iter()
            .map(|rule| rule["rule"].clone())
            .collect()
    };
    let (theirs, ours) = (texts(theirs), texts(ours));
    for rule in theirs.iter().filter(|rule| !ours.contains(rule)) {
        found.add(path, "missing rule", rule);
    }
    for rule in ours.iter().filter(|rule| !theirs.contains(rule)) {
        found.add(path, "extra rule", rule);
    }
}

fn children(found: &mut Findings, path: &str, theirs: &Value, ours: &Value) {
    for name in keys(&theirs["properties"]) {
        let below = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        // The API server knows the type and object metadata itself.
        if ["apiVersion", "kind", "metadata"].contains(&below.as_str()) {
            continue;
        }
        match ours["properties"].get(name) {
            Some(own) => field(found, &below, &theirs["properties"][name], own),
            None => found.add(&below, "missing field", &theirs["properties"][name]["type"]),
        }
    }
    if let Some(items) = theirs.get("items") {
        field(found, &format!("{path}[]"), items, &ours["items"]);
    }
    match (
        theirs.get("additionalProperties"),
        ours.get("additionalProperties"),
    ) {
        (Some(Value::Object(_)), Some(Value::Object(_))) => {
            field(
                found,
                &format!("{path}{{}}"),
                &theirs["additionalProperties"],
                &ours["additionalProperties"],
            );
        }
        (Some(theirs), ours) if Some(theirs) != ours => found.add(
            path,
            "additional properties",
            format_args!("{theirs}, {ours:?}"),
        ),
        _ => {}
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn keys(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_object()
        .into_iter()
        .flat_map(|object| object.keys().map(String::as_str))
}

/// The members of `these` that are not in `those`.
fn missing<'a>(these: &'a Value, those: &'a Value) -> impl Iterator<Item = &'a Value> {
    list(these)
        .iter()
        .filter(|value| !list(those).contains(value))
}
