//! Butane to ignition: the part of the `fcos` and `flatcar` variants that maps key by key, and inline contents. What needs a file beside the document or makes
//! up units and partitions of its own is refused by name; nothing is left out silently.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::UserDataError;

/// How a key is translated.
enum Rule {
    /// As it is, under ignition's name.
    Same(&'static str),
    /// A mapping.
    Map(&'static str, &'static [(&'static str, Rule)]),
    /// A list of mappings.
    List(&'static str, &'static [(&'static str, Rule)]),
    /// A resource: `inline` becomes a data URL.
    Resource(&'static str),
    /// A list of resources.
    Resources(&'static str),
}

use Rule::{List, Map as Mapping, Resource, Resources, Same};

const OWNER: &[(&str, Rule)] = &[("id", Same("id")), ("name", Same("name"))];

const ROOT: &[(&str, Rule)] = &[
    ("ignition", Mapping("ignition", IGNITION)),
    ("passwd", Mapping("passwd", PASSWD)),
    ("storage", Mapping("storage", STORAGE)),
    (
        "systemd",
        Mapping("systemd", &[("units", List("units", UNIT))]),
    ),
    (
        "kernel_arguments",
        Mapping(
            "kernelArguments",
            &[
                ("should_exist", Same("shouldExist")),
                ("should_not_exist", Same("shouldNotExist")),
            ],
        ),
    ),
];

const IGNITION: &[(&str, Rule)] = &[
    (
        "config",
        Mapping(
            "config",
            &[
                ("merge", Resources("merge")),
                ("replace", Resource("replace")),
            ],
        ),
    ),
    (
        "timeouts",
        Mapping(
            "timeouts",
            &[
                ("http_response_headers", Same("httpResponseHeaders")),
                ("http_total", Same("httpTotal")),
            ],
        ),
    ),
    (
        "security",
        Mapping(
            "security",
            &[(
                "tls",
                Mapping(
                    "tls",
                    &[(
                        "certificate_authorities",
                        Resources("certificateAuthorities"),
                    )],
                ),
            )],
        ),
    ),
    (
        "proxy",
        Mapping(
            "proxy",
            &[
                ("http_proxy", Same("httpProxy")),
                ("https_proxy", Same("httpsProxy")),
                ("no_proxy", Same("noProxy")),
            ],
        ),
    ),
];

const PASSWD: &[(&str, Rule)] = &[
    (
        "users",
        List(
            "users",
            &[
                ("name", Same("name")),
                ("password_hash", Same("passwordHash")),
                ("ssh_authorized_keys", Same("sshAuthorizedKeys")),
                ("uid", Same("uid")),
                ("gecos", Same("gecos")),
                ("home_dir", Same("homeDir")),
                ("no_create_home", Same("noCreateHome")),
                ("primary_group", Same("primaryGroup")),
                ("groups", Same("groups")),
                ("no_user_group", Same("noUserGroup")),
                ("no_log_init", Same("noLogInit")),
                ("shell", Same("shell")),
                ("should_exist", Same("shouldExist")),
                ("system", Same("system")),
            ],
        ),
    ),
    (
        "groups",
        List(
            "groups",
            &[
                ("name", Same("name")),
                ("gid", Same("gid")),
                ("password_hash", Same("passwordHash")),
                ("should_exist", Same("shouldExist")),
                ("system", Same("system")),
            ],
        ),
    ),
];

const STORAGE: &[(&str, Rule)] = &[
    (
        "disks",
        List(
            "disks",
            &[
                ("device", Same("device")),
                ("wipe_table", Same("wipeTable")),
                (
                    "partitions",
                    List(
                        "partitions",
                        &[
                            ("label", Same("label")),
                            ("number", Same("number")),
                            ("size_mib", Same("sizeMiB")),
                            ("start_mib", Same("startMiB")),
                            ("type_guid", Same("typeGuid")),
                            ("guid", Same("guid")),
                            ("wipe_partition_entry", Same("wipePartitionEntry")),
                            ("should_exist", Same("shouldExist")),
                            ("resize", Same("resize")),
                        ],
                    ),
                ),
            ],
        ),
    ),
    (
        "raid",
        List(
            "raid",
            &[
                ("name", Same("name")),
                ("level", Same("level")),
                ("devices", Same("devices")),
                ("spares", Same("spares")),
                ("options", Same("options")),
            ],
        ),
    ),
    (
        "filesystems",
        List(
            "filesystems",
            &[
                ("device", Same("device")),
                ("format", Same("format")),
                ("path", Same("path")),
                ("label", Same("label")),
                ("uuid", Same("uuid")),
                ("options", Same("options")),
                ("mount_options", Same("mountOptions")),
                ("wipe_filesystem", Same("wipeFilesystem")),
            ],
        ),
    ),
    (
        "files",
        List(
            "files",
            &[
                ("path", Same("path")),
                ("overwrite", Same("overwrite")),
                ("contents", Resource("contents")),
                ("append", Resources("append")),
                ("mode", Same("mode")),
                ("user", Mapping("user", OWNER)),
                ("group", Mapping("group", OWNER)),
            ],
        ),
    ),
    (
        "directories",
        List(
            "directories",
            &[
                ("path", Same("path")),
                ("overwrite", Same("overwrite")),
                ("mode", Same("mode")),
                ("user", Mapping("user", OWNER)),
                ("group", Mapping("group", OWNER)),
            ],
        ),
    ),
    (
        "links",
        List(
            "links",
            &[
                ("path", Same("path")),
                ("target", Same("target")),
                ("hard", Same("hard")),
                ("overwrite", Same("overwrite")),
                ("user", Mapping("user", OWNER)),
                ("group", Mapping("group", OWNER)),
            ],
        ),
    ),
];

const UNIT: &[(&str, Rule)] = &[
    ("name", Same("name")),
    ("enabled", Same("enabled")),
    ("mask", Same("mask")),
    ("contents", Same("contents")),
    (
        "dropins",
        List(
            "dropins",
            &[("name", Same("name")), ("contents", Same("contents"))],
        ),
    ),
];

/// Translates a Butane document.
pub(super) fn translate(text: &[u8]) -> Result<Value, UserDataError> {
    // Butane's parser is one for YAML 1.1: `mode: 0644` is octal.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let mut document: Map<String, Value> =
        serde_saphyr::from_slice_with_options(text, options).map_err(|_| UserDataError::NotYaml)?;
    let variant = document.remove("variant");
    let version = document.remove("version");
    let spec = match (
        variant.as_ref().and_then(Value::as_str),
        version.as_ref().and_then(Value::as_str),
    ) {
        (Some("fcos"), Some("1.0.0")) => "3.0.0",
        (Some("fcos"), Some("1.1.0")) => "3.1.0",
        (Some("fcos"), Some("1.2.0" | "1.3.0")) => "3.2.0",
        (Some("fcos"), Some("1.4.0")) | (Some("flatcar"), Some("1.0.0")) => "3.3.0",
        (Some("fcos"), Some("1.5.0")) | (Some("flatcar"), Some("1.1.0")) => "3.4.0",
        (Some("fcos"), Some("1.6.0")) => "3.5.0",
        _ => return Err(UserDataError::Version("Butane")),
    };
    let mut ignition = mapping(&document, ROOT, "")?;
    let head = ignition.entry("ignition").or_insert_with(|| json!({}));
    if let Some(head) = head.as_object_mut() {
        head.insert("version".to_owned(), json!(spec));
    }
    Ok(Value::Object(ignition))
}

fn mapping(
    from: &Map<String, Value>,
    rules: &[(&str, Rule)],
    at: &str,
) -> Result<Map<String, Value>, UserDataError> {
    let mut to = Map::new();
    for (key, value) in from {
        let at = if at.is_empty() {
            key.clone()
        } else {
            format!("{at}.{key}")
        };
        let (_, rule) = rules
            .iter()
            .find(|(name, _)| name == key)
            .ok_or_else(|| UserDataError::Untranslatable(at.clone()))?;
        let object = |value: &Value, at: &str| {
            value
                .as_object()
                .cloned()
                .ok_or_else(|| UserDataError::Kind(at.to_owned()))
        };
        let list = |value: &Value| {
            value
                .as_array()
                .cloned()
                .ok_or_else(|| UserDataError::Kind(at.clone()))
        };
        // An empty key is none.
        if value.is_null() {
            continue;
        }
        let (name, value) = match rule {
            Same(name) => (name, value.clone()),
            Mapping(name, rules) => (
                name,
                Value::Object(mapping(&object(value, &at)?, rules, &at)?),
            ),
            List(name, rules) => {
                let entries = list(value)?.into_iter().enumerate().map(|(index, entry)| {
                    let at = format!("{at}[{index}]");
                    Ok(Value::Object(mapping(&object(&entry, &at)?, rules, &at)?))
                });
                (
                    name,
                    Value::Array(entries.collect::<Result<_, UserDataError>>()?),
                )
            }
            Resource(name) => (name, resource(&object(value, &at)?, &at)?),
            Resources(name) => {
                let entries = list(value)?.into_iter().enumerate().map(|(index, entry)| {
                    let at = format!("{at}[{index}]");
                    resource(&object(&entry, &at)?, &at)
                });
                (
                    name,
                    Value::Array(entries.collect::<Result<_, UserDataError>>()?),
                )
            }
        };
        to.insert((*name).to_owned(), value);
    }
    Ok(to)
}

fn resource(from: &Map<String, Value>, at: &str) -> Result<Value, UserDataError> {
    let mut to = Map::new();
    for (key, value) in from {
        match (key.as_str(), value) {
            ("inline", Value::String(text)) => {
                to.insert(
                    "source".to_owned(),
                    Value::String(data_url(text.as_bytes())),
                );
            }
            ("source" | "compression" | "verification", value) => {
                to.insert(key.clone(), value.clone());
            }
            ("http_headers", value) => {
                to.insert("httpHeaders".to_owned(), value.clone());
            }
            _ => return Err(UserDataError::Untranslatable(format!("{at}.{key}"))),
        }
    }
    Ok(Value::Object(to))
}

/// Bytes in a URL.
fn data_url(bytes: &[u8]) -> String {
    format!("data:;base64,{}", STANDARD.encode(bytes))
}
