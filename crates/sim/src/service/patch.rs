//! Changes of properties.

use http::StatusCode;
use serde_json::{Map, Value};

use super::{Context, Request, object};
use crate::blueprint::{Check, Document, Kind, Store, Writable};
use crate::message::{Failure, message_about};
use crate::render::{Expansion, Renderer};
use crate::reply::Answer;

impl Context<'_> {
    pub(super) fn change(&mut self, request: &Request) -> Result<Answer, Failure> {
        let blueprint = self.machine.blueprint.clone();
        let Some((index, document)) = blueprint.find(self.path) else {
            return self.change_member(request);
        };
        if request.parts.method == "PUT" || !super::allow(self.machine, document).contains("PATCH")
        {
            return Err(self.not_allowed());
        }
        if !self.caller.is_operator() {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "InsufficientPrivilege",
                &[],
            ));
        }
        let body = object(&request.body)?;
        self.check_etag(request)?;
        if let Kind::BiosSettings(node) = document.kind {
            return self.change_bios(node, body);
        }
        self.change_document(index, document, &body)
    }

    fn change_document(
        &mut self,
        index: usize,
        document: &Document,
        body: &Map<String, Value>,
    ) -> Result<Answer, Failure> {
        let mut leaves = Vec::new();
        let present = self.current();
        flatten("", body, &document.writable, &mut leaves);
        if leaves.is_empty() {
            return Err(nothing(body));
        }
        let mut problems = Vec::new();
        let mut written = 0;
        for (pointer, value) in leaves {
            let name = pointer.rsplit('/').next().unwrap_or_default().to_owned();
            let property = document
                .writable
                .iter()
                .enumerate()
                .find(|(_, property)| property.pointer == pointer);
            let value = merged(value, present.pointer(&pointer));
            let problem = match property {
                Some((i, property)) => match check(&property.check, &value) {
                    Ok(()) => {
                        self.store(index, i, property, value);
                        written += 1;
                        continue;
                    }
                    Err(key) => message_about(key, &[&plain(&value), &name], Some(&pointer)),
                },
                None if present.pointer(&pointer).is_some() => {
                    message_about("PropertyNotWritable", &[&name], Some(&pointer))
                }
                None => message_about("PropertyUnknown", &[&name], Some(&pointer)),
            };
            problems.push((pointer, problem));
        }
        if written == 0 {
            return Err(Failure::of(
                problems.into_iter().map(|(_, problem)| problem).collect(),
            ));
        }
        if problems.is_empty() {
            return self.present();
        }
        // Some were written and some not: the resource, annotated (Redfish specification, 7.9).
        let mut body = self.current();
        if let Some(map) = body.as_object_mut() {
            let messages: Vec<Value> = problems.into_iter().map(|(_, problem)| problem).collect();
            map.insert("@Message.ExtendedInfo".into(), messages.into());
        }
        Ok(Answer::value(StatusCode::OK, &body))
    }

    /// The resource as it is, as a tree.
    fn current(&self) -> Value {
        let mut renderer = Renderer::new(self.machine, self.state, self.now);
        renderer.resource(self.path, Expansion::NONE);
        serde_json::from_slice(&renderer.out).unwrap_or_default()
    }

    fn store(&mut self, document: usize, index: usize, property: &Writable, value: Value) {
        let text = || value.as_str().unwrap_or_default().to_owned();
        let optional = || value.as_str().map(str::to_owned);

        match property.store {
            Store::Setting => {
                self.state.settings.insert((document, index), value);
            }
            Store::Led(i) => {
                let led = match value.as_str() {
                    Some("Lit") => "Lit",
                    Some("Blinking") => "Blinking",
                    _ => "Off",
                };
                self.node(i, |node| node.led = led);
            }
            Store::Location(i) => {
                let led = if value == Value::Bool(true) {
                    "Blinking"
                } else {
                    "Off"
                };
                self.node(i, |node| node.led = led);
            }
            Store::BootEnabled(i) => self.node(i, |node| {
                node.boot.enabled = text();
                if node.boot.enabled == "Disabled" {
                    node.boot.target = "None".into();
                }
            }),
            Store::BootTarget(i) => self.node(i, |node| {
                node.boot.target = text();
                if node.boot.target == "None" {
                    node.boot.enabled = "Disabled".into();
                }
            }),
            Store::BootMode(i) => self.node(i, |node| node.boot.mode = text()),
            Store::BootUefiTarget(i) => self.node(i, |node| node.boot.uefi_target = optional()),
            Store::BootUri(i) => self.node(i, |node| node.boot.uri = optional()),
            Store::BootOrder(i) => {
                let order = value.as_array().map(|names| {
                    names
                        .iter()
                        .filter_map(|name| name.as_str().map(str::to_owned))
                        .collect()
                });
                self.node(i, |node| node.boot_order = order);
            }
        }
    }

    fn node(&mut self, index: usize, change: impl FnOnce(&mut crate::machine::node::Node)) {
        if let Some(node) = self.state.nodes.get_mut(index) {
            change(node);
        }
    }

    fn change_bios(&mut self, node: usize, body: Map<String, Value>) -> Result<Answer, Failure> {
        let now = self.now;
        let Some(Value::Object(attributes)) = body.get("Attributes") else {
            return Err(Failure::bad("PropertyMissing", &["Attributes"]));
        };
        let known = self.machine.bios(self.state, node);
        let unknown: Vec<Value> = attributes
            .keys()
            .filter(|name| !known.contains_key(*name))
            .map(|name| {
                message_about(
                    "PropertyUnknown",
                    &[name],
                    Some(&format!("/Attributes/{name}")),
                )
            })
            .collect();
        if !unknown.is_empty() {
            return Err(Failure::of(unknown));
        }
        let immediate = body
            .get("@Redfish.SettingsApplyTime")
            .and_then(|time| time.get("ApplyTime"))
            .is_some_and(|time| time == "Immediate");
        let attributes = attributes.clone();
        let machine = self.machine;
        if let Some(target) = self.state.nodes.get_mut(node) {
            target.bios_pending.extend(attributes);
            // Immediate means that the machine restarts itself for it.
            if immediate && target.is_on() {
                self.state.reset(node, "ForceRestart", now, machine);
            }
        }
        self.present()
    }
}

/// The changed properties by pointer: an object is taken apart unless it is itself writable.
fn flatten(
    prefix: &str,
    body: &Map<String, Value>,
    writable: &[Writable],
    leaves: &mut Vec<(String, Value)>,
) {
    for (name, value) in body {
        if name.contains('@') {
            continue;
        }
        let pointer = format!("{prefix}/{name}");
        match value {
            Value::Object(inner)
                if !inner.is_empty()
                    && writable
                        .iter()
                        .any(|property| property.pointer.starts_with(&format!("{pointer}/"))) =>
            {
                flatten(&pointer, inner, writable, leaves);
            }
            other => leaves.push((pointer, other.clone())),
        }
    }
}

/// An array as it is to become: `{}` keeps an element, `null` takes it away (Redfish specification, 7.9.3).
fn merged(value: Value, present: Option<&Value>) -> Value {
    let Value::Array(items) = value else {
        return value;
    };
    let old = present
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    items
        .into_iter()
        .enumerate()
        .filter_map(|(i, item)| match item {
            Value::Null => None,
            Value::Object(map) if map.is_empty() => old.get(i).cloned(),
            other => Some(other),
        })
        .collect()
}

/// Why a body without a property does nothing: it is empty, or there are only annotations in it.
pub(super) fn nothing(body: &Map<String, Value>) -> Failure {
    let key = if body.is_empty() {
        "EmptyJSON"
    } else {
        "NoOperation"
    };
    Failure::bad(key, &[])
}

/// Whether `value` may be written; if not, the message that says why.
fn check(check: &Check, value: &Value) -> Result<(), &'static str> {
    match (check, value) {
        (Check::Nullable(_), Value::Null) => Ok(()),
        (Check::Nullable(inner), value) => self::check(inner, value),
        (Check::Text(longest), Value::String(text)) if text.chars().count() <= *longest => Ok(()),
        (Check::Text(_), Value::String(_)) => Err("PropertyValueFormatError"),
        (Check::Bool, Value::Bool(_)) => Ok(()),
        (Check::Whole(least, most), Value::Number(number)) => match number.as_u64() {
            Some(number) if (*least..=*most).contains(&number) => Ok(()),
            Some(_) => Err("PropertyValueOutOfRange"),
            None => Err("PropertyValueTypeError"),
        },
        (Check::OneOf(names), Value::String(name)) if names.contains(name) => Ok(()),
        (Check::OneOf(_), Value::String(_)) => Err("PropertyValueNotInList"),
        (Check::Strings, Value::Array(items)) if items.iter().all(Value::is_string) => Ok(()),
        _ => Err("PropertyValueTypeError"),
    }
}

/// A value as a message argument.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
