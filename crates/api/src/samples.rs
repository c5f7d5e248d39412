//! Sample manifests of every kind, and changes to them that the API server has to accept or refuse.
//!
//! [`manifests`] are what `samples/<plural>.yaml` holds: a minimal object of each kind, one that uses every field, and
//! odd ones that the originals accept. [`cases`] are what `samples/changes/<plural>.yaml` holds. For tests: the feature
//! `samples` brings this module.

use serde::Deserialize;
use serde_json::Value;

/// A sample cannot be read, which is a mistake in the sample.
pub type Error = serde_saphyr::Error;

/// One plural's files: manifests and changes.
struct File {
    manifests: &'static str,
    changes: &'static str,
}

macro_rules! file {
    ($plural:literal) => {
        File {
            manifests: include_str!(concat!("../samples/", $plural, ".yaml")),
            changes: include_str!(concat!("../samples/changes/", $plural, ".yaml")),
        }
    };
}

const FILES: &[File] = &[
    file!("biossettings"),
    file!("biossettingssets"),
    file!("biosversions"),
    file!("biosversionsets"),
    file!("bmcs"),
    file!("bmcsecrets"),
    file!("bmcsettings"),
    file!("bmcsettingssets"),
    file!("bmcusers"),
    file!("bmcversions"),
    file!("bmcversionsets"),
    file!("endpoints"),
    file!("serverbootconfigurations"),
    file!("serverclaims"),
    file!("serverinventories"),
    file!("servermaintenances"),
    file!("serverpolicies"),
    file!("serverreadinessrules"),
    file!("serverruns"),
    file!("servers"),
];

/// How a case is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    /// As a new object.
    Create,
    /// As an update of the manifest that it is `of`.
    #[default]
    Update,
    /// As an update of that manifest's `status` subresource.
    Status,
}

/// A change to a manifest, and what the API server has to say to it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is shown, as a sentence.
    pub case: String,
    /// Name of the manifest.
    pub of: String,
    /// How it is sent.
    #[serde(default, rename = "as")]
    pub write: Write,
    /// What changes: a JSON merge patch (RFC 7386).
    pub merge: Value,
    /// A part of the message by which it is refused; none if it is accepted.
    #[serde(default)]
    pub refused: Option<String>,
}

/// Every sample manifest, status included. The API server takes a status only through the subresource.
///
/// # Errors
/// If a sample is no YAML.
pub fn manifests() -> Result<Vec<Value>, Error> {
    let mut all = Vec::new();
    for file in FILES {
        all.extend(serde_saphyr::from_multiple::<Value>(file.manifests)?);
    }
    Ok(all)
}

/// Every case.
///
/// # Errors
/// If a file of changes is no list of cases.
pub fn cases() -> Result<Vec<Case>, Error> {
    let mut all = Vec::new();
    for file in FILES {
        all.extend(serde_saphyr::from_str::<Vec<Case>>(file.changes)?);
    }
    Ok(all)
}

/// `target` after the JSON merge patch `patch` (RFC 7386).
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(fields) = target {
        for (name, change) in changes {
            if change.is_null() {
                fields.remove(name);
            } else {
                merge(fields.entry(name.as_str()).or_insert(Value::Null), change);
            }
        }
    }
}

#[cfg(test)]
mod tests;
