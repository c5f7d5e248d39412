//! User data: reading the Secrets that claims refer to, and cloud-init's meta-data, which is all that Corten adds. Nothing of it is ever logged; errors name keys, not values.

mod butane;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

/// Largest user data that is read. A Secret has at most 1 MiB.
pub const LARGEST: usize = 1024 * 1024;

/// Why user data is not usable. Trying again helps after the Secret was changed. Says where, never what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserDataError {
    /// The Secret has no such key.
    #[error("the Secret has no key {0}")]
    NoKey(&'static str),
    /// There is nothing in it.
    #[error("the key {0} is empty")]
    Empty(&'static str),
    /// It is for another provisioner than Ignition.
    #[error("it is no Ignition")]
    Foreign,
    /// It is too large.
    #[error("the user data is larger than {LARGEST} bytes")]
    TooLarge,
    /// It cannot be parsed.
    #[error("the ignition is no JSON object")]
    NotJson,
    /// It cannot be parsed.
    #[error("the Butane document is no YAML mapping")]
    NotYaml,
    /// A version that is not known.
    #[error("the version of the {0} document is not supported")]
    Version(&'static str),
    /// Something that cannot be translated.
    #[error("{0} of the Butane document cannot be translated; give ignition JSON instead")]
    Untranslatable(String),
    /// Something of the wrong kind.
    #[error("{0} of the document is not of the kind that belongs there")]
    Kind(String),
}

/// What a machine is served of such a Secret: Butane translated, Ignition of whatever version and what is for another provisioner as it is.
///
/// # Errors
/// As [`ignition`]; none of them for what is passed on.
pub fn served(secret: &BTreeMap<String, Vec<u8>>) -> Result<Bytes, UserDataError> {
    match ignition(secret) {
        Ok(document) => Ok(document.to_string().into()),
        // Who asks for an older Ignition has a system that reads it.
        Err(UserDataError::Foreign | UserDataError::Version(IGNITION)) => {
            Ok(secret.get(IGNITION).cloned().unwrap_or_default().into())
        }
        Err(error) => Err(error),
    }
}

const IGNITION: &str = "ignition";

/// The ignition of a Secret in the original's form: key `ignition`, and `format`, which is `fcos` (or `butane`) for a Butane document. Without a format
/// it is told by what it looks like.
///
/// # Errors
/// It is none, or uses what cannot be translated.
pub fn ignition(secret: &BTreeMap<String, Vec<u8>>) -> Result<Value, UserDataError> {
    let text = secret.get(IGNITION).ok_or(UserDataError::NoKey(IGNITION))?;
    if text.len() > LARGEST {
        return Err(UserDataError::TooLarge);
    }
    if text.trim_ascii().is_empty() {
        return Err(UserDataError::Empty(IGNITION));
    }
    let is_butane = || {
        text.split(|byte| *byte == b'\n')
            .any(|line| line.starts_with(b"variant:"))
    };
    let json = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let format = secret
        .get("format")
        .map(|format| String::from_utf8_lossy(format).trim().to_ascii_lowercase());
    match format.as_deref() {
        Some("fcos" | "butane") => butane::translate(text),
        None | Some("") if !json && is_butane() => butane::translate(text),
        None | Some("") if !json => Err(UserDataError::Foreign),
        None | Some("" | "ignition" | "json") => {
            check(serde_json::from_slice(text).map_err(|_| UserDataError::NotJson)?)
        }
        Some(_) => Err(UserDataError::Foreign),
    }
}

/// An ignition document of a specification that installers of today read.
fn check(document: Value) -> Result<Value, UserDataError> {
    let version = document
        .as_object()
        .ok_or(UserDataError::NotJson)?
        .get("ignition")
        .and_then(|ignition| ignition.get("version"));
    match version.and_then(Value::as_str) {
        Some("3.0.0" | "3.1.0" | "3.2.0" | "3.3.0" | "3.4.0" | "3.5.0" | "3.6.0") => Ok(document),
        Some(_) => Err(UserDataError::Version(IGNITION)),
        None => Err(UserDataError::Kind("ignition.version".to_owned())),
    }
}

/// cloud-init's meta-data. Instance ids tell cloud-init whether it has run already: one a claim.
#[must_use]
pub fn meta_data(instance_id: &str, hostname: &str) -> Bytes {
    let text = |value: &str| Value::String(value.to_owned()).to_string();
    // JSON's strings are YAML's.
    Bytes::from(format!(
        "instance-id: {}\nlocal-hostname: {}\n",
        text(instance_id),
        text(hostname)
    ))
}

#[cfg(test)]
mod tests;
