//! Which devices are BMCs, by their MAC address, and which credentials they ship with.
//!
//! [`MacDatabase::find`] is the entry point. The format of the file is the original's (`macPrefixes:` with `macPrefix`,
//! `manufacturer`, `protocol`, `protocolScheme`, `port`, `type`, `defaultCredentials`, `console`); prefixes may be written
//! in any case, with or without separators, in any order: the longest that matches wins. A file replaces nothing of the
//! built-in database; of two equally long prefixes the file's wins.

mod builtin;

use std::collections::HashMap;
use std::fmt;

use corten_lifecycle::endpoint::mac::{MacAddress, MacError, MacPrefix};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// Prefixes of MAC addresses and what is known of the devices behind them.
#[derive(Clone, Default)]
pub struct MacDatabase {
    by_prefix: HashMap<MacPrefix, DeviceKind>,
}

/// What the database says of a device.
#[derive(Clone, Debug)]
pub struct DeviceKind {
    /// The maker, as a person would write it.
    pub manufacturer: String,
    /// Protocol's name for `BMC.spec.protocol`; `Redfish` unless the file says otherwise.
    pub protocol: String,
    /// `http` or `https`; none leaves the choice to the trust rules.
    pub scheme: Option<String>,
    /// TCP port; none means the scheme's own.
    pub port: Option<i32>,
    /// Whether the device is a BMC: the only type there is in the original's files.
    pub is_bmc: bool,
    /// Every factory credential, the likeliest first.
    pub credentials: Vec<FactoryCredential>,
    /// Console protocol and port.
    pub console: Option<(String, i32)>,
}

/// A user name and a password that a device ships with. The password is not printed.
#[derive(Clone, Debug)]
pub struct FactoryCredential {
    /// Account's name.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// Why a file could not be read. Trying again does not help; the file has to be mended. Never shows a password.
#[derive(Debug, thiserror::Error)]
pub enum MacDatabaseError {
    /// The text is not YAML or not of the format.
    #[error("{file}: line {line}, column {column}: {cause}")]
    Format {
        /// The file's name.
        file: String,
        /// Line, counted from 1; 0 if unknown.
        line: u64,
        /// Column, counted from 1; 0 if unknown.
        column: u64,
        /// What is wrong, without any of the file's values that could be a password.
        cause: String,
    },
    /// A prefix is none.
    #[error("{file}: line {line}: entry {entry}: macPrefix: {source}")]
    Prefix {
        /// The file's name.
        file: String,
        /// Line of the prefix.
        line: u64,
        /// Number of the entry, counted from 1.
        entry: usize,
        /// What is wrong with it.
        source: MacError,
    },
    /// An entry's field has a value that is not allowed.
    #[error("{file}: line {line}: entry {entry}: {cause}")]
    Entry {
        /// The file's name.
        file: String,
        /// Line of the entry's prefix.
        line: u64,
        /// Number of the entry, counted from 1.
        entry: usize,
        /// What is wrong.
        cause: String,
    },
}

// === impl MacDatabase ===

impl MacDatabase {
    /// The built-in database alone.
    pub fn builtin() -> Self {
        let mut by_prefix = HashMap::new();
        for maker in builtin::MAKERS {
            let kind = DeviceKind {
                manufacturer: maker.manufacturer.to_owned(),
                protocol: "Redfish".to_owned(),
                scheme: None,
                port: None,
                is_bmc: true,
                credentials: maker
                    .credentials
                    .iter()
                    .map(|(user, password)| FactoryCredential::new(user, password))
                    .collect(),
                console: maker.console.map(|name| (name.to_owned(), 22)),
            };
            for prefix in maker
                .prefixes
                .split_whitespace()
                .filter_map(|text| text.parse().ok())
            {
                by_prefix.insert(prefix, kind.clone());
            }
        }
        Self { by_prefix }
    }

    /// The built-in database with the entries of a file (`file` is its name, for messages) before it.
    ///
    /// # Errors
    /// The first thing that is wrong in the file, with its line.
    pub fn with_file(file: &str, text: &str) -> Result<Self, MacDatabaseError> {
        let mut database = Self::builtin();
        database.add(file, text)?;
        Ok(database)
    }

    /// Only the entries of a file.
    ///
    /// # Errors
    /// As [`MacDatabase::with_file`].
    pub fn only_file(file: &str, text: &str) -> Result<Self, MacDatabaseError> {
        let mut database = Self::default();
        database.add(file, text)?;
        Ok(database)
    }

    /// What the longest matching prefix says of `mac`.
    pub fn find(&self, mac: MacAddress) -> Option<&DeviceKind> {
        (1..=12)
            .rev()
            .find_map(|length| self.by_prefix.get(&MacPrefix::of(mac, length)))
    }

    /// The place of these credentials among the factory credentials of `mac`, if they are such.
    pub fn factory_credential(
        &self,
        mac: MacAddress,
        username: &str,
        password: &SecretString,
    ) -> Option<usize> {
        self.find(mac)?
            .credentials
            .iter()
            .position(|credential| credential.is(username, password))
    }

    /// Number of prefixes.
    pub fn len(&self) -> usize {
        self.by_prefix.len()
    }

    /// Whether there is no prefix.
    pub fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    fn add(&mut self, file: &str, text: &str) -> Result<(), MacDatabaseError> {
        let document: Document = serde_saphyr::from_str(text).map_err(|error| {
            let location = error.location();
            MacDatabaseError::Format {
                file: file.to_owned(),
                line: location.map_or(0, |at| at.line()),
                column: location.map_or(0, |at| at.column()),
                cause: first_line(&error.without_snippet().to_string()),
            }
        })?;
        for (index, entry) in document.mac_prefixes.into_iter().enumerate() {
            let line = entry.mac_prefix.referenced.line();
            let number = index + 1;
            let prefix: MacPrefix =
                entry
                    .mac_prefix
                    .value
                    .parse()
                    .map_err(|source| MacDatabaseError::Prefix {
                        file: file.to_owned(),
                        line,
                        entry: number,
                        source,
                    })?;
            let kind = entry.check().map_err(|cause| MacDatabaseError::Entry {
                file: file.to_owned(),
                line,
                entry: number,
                cause,
            })?;
            self.by_prefix.insert(prefix, kind);
        }
        Ok(())
    }
}

impl fmt::Debug for MacDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MacDatabase")
            .field("prefixes", &self.by_prefix.len())
            .finish()
    }
}

// === impl FactoryCredential ===

impl FactoryCredential {
    fn new(username: &str, password: &str) -> Self {
        Self {
            username: username.to_owned(),
            password: SecretString::from(password),
        }
    }

    /// Whether these are the same user name and password.
    pub fn is(&self, username: &str, password: &SecretString) -> bool {
        self.username == username && self.password.expose_secret() == password.expose_secret()
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "macPrefixes")]
    mac_prefixes: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    mac_prefix: serde_saphyr::Spanned<String>,
    #[serde(default)]
    manufacturer: String,
    #[serde(default)]
    protocol: String,
    protocol_scheme: Option<String>,
    port: Option<i32>,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    default_credentials: Vec<CredentialEntry>,
    console: Option<ConsoleEntry>,
}

#[derive(Deserialize)]
struct CredentialEntry {
    username: Text,
    password: Text,
}

#[derive(Deserialize)]
struct ConsoleEntry {
    #[serde(default, rename = "type")]
    kind: String,
    port: Option<i32>,
}

/// A scalar taken as text whatever its type, so that no error can quote a password that looks like a number.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl Entry {
    fn check(self) -> Result<DeviceKind, String> {
        let scheme = match self
            .protocol_scheme
            .as_deref()
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            None | Some("") => None,
            Some(scheme @ ("http" | "https")) => Some(scheme.to_owned()),
            Some(_) => return Err("protocolScheme must be http or https".to_owned()),
        };
        let port = match self.port {
            None | Some(0) => None,
            Some(port) if (1..=65535).contains(&port) => Some(port),
            Some(port) => return Err(format!("port {port} is not between 1 and 65535")),
        };
        let protocol = match self.protocol.as_str() {
            "" | "Redfish" => "Redfish".to_owned(),
            // The original's test doubles speak the same protocol.
            "RedfishLocal" | "RedfishWithRegistryPatch" => "Redfish".to_owned(),
            other => return Err(format!("protocol {other:?} is not known: Redfish is")),
        };
        let console = match self.console {
            None => None,
            Some(console) => match console.kind.to_ascii_uppercase().as_str() {
                "IPMI" => Some(("IPMI".to_owned(), console.port.unwrap_or(623))),
                "SSH" => Some(("SSH".to_owned(), console.port.unwrap_or(22))),
                "SSHLENOVO" => Some(("SSHLenovo".to_owned(), console.port.unwrap_or(22))),
                _ => {
                    return Err(format!(
                        "console.type {:?} is not known: IPMI, SSH and SSHLenovo are",
                        console.kind
                    ));
                }
            },
        };
        let credentials = self
            .default_credentials
            .into_iter()
            .map(|entry| FactoryCredential::new(&entry.username.0, &entry.password.0))
            .collect::<Vec<_>>();
        if credentials
            .iter()
            .any(|credential| credential.username.is_empty())
        {
            return Err("defaultCredentials: a username is empty".to_owned());
        }
        let is_bmc = self.kind.is_empty() || self.kind.eq_ignore_ascii_case("bmc");
        Ok(DeviceKind {
            manufacturer: self.manufacturer,
            protocol,
            scheme,
            port,
            is_bmc,
            credentials,
            console,
        })
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(text: &str) -> MacAddress {
        text.parse().unwrap()
    }

    const FILE: &str = r#"
macPrefixes:
- macPrefix: "23"
  manufacturer: Wide
  protocol: Redfish
  port: 8000
  type: bmc
  defaultCredentials:
  - username: foo
    password: bar
- macPrefix: 23-11-8a
  manufacturer: Contoso
  protocol: RedfishLocal
  protocolScheme: http
  port: 8001
  type: bmc
  defaultCredentials:
  - username: admin
    password: adminpass
  - username: root
    password: 1234
  console:
    type: ssh
    port: 22
- macPrefix: 23118A33
  manufacturer: Narrow
"#;

    #[test]
    fn the_longest_prefix_wins_whatever_the_order_case_and_separators() {
        let database = MacDatabase::with_file("prefixes.yaml", FILE).unwrap();
        let name = |text: &str| {
            database
                .find(mac(text))
                .map(|kind| kind.manufacturer.clone())
        };
        assert_eq!(name("23:11:8A:33:CF:EA").as_deref(), Some("Narrow"));
        assert_eq!(name("23:11:8a:44:cf:ea").as_deref(), Some("Contoso"));
        assert_eq!(name("23-99-00-00-00-01").as_deref(), Some("Wide"));
        assert_eq!(name("ff:ff:ff:00:00:01"), None);
    }

    #[test]
    fn every_field_of_the_originals_format_is_read() {
        let database = MacDatabase::with_file("prefixes.yaml", FILE).unwrap();
        let kind = database.find(mac("23:11:8a:44:cf:ea")).unwrap();
        assert_eq!(kind.protocol, "Redfish");
        assert_eq!(kind.scheme.as_deref(), Some("http"));
        assert_eq!(kind.port, Some(8001));
        assert_eq!(kind.console, Some(("SSH".to_owned(), 22)));
        assert_eq!(kind.credentials.len(), 2);
        assert_eq!(
            database.factory_credential(mac("23118a44cfea"), "root", &SecretString::from("1234")),
            Some(1)
        );
        assert_eq!(
            database.factory_credential(mac("23118a44cfea"), "root", &SecretString::from("12345")),
            None
        );
    }

    #[test]
    fn the_files_entry_stands_before_a_built_in_one() {
        let text = "macPrefixes:\n- macPrefix: 7C:C2:55\n  manufacturer: Mine\n";
        assert_eq!(
            MacDatabase::builtin()
                .find(mac("7c:c2:55:50:a8:ff"))
                .unwrap()
                .manufacturer,
            "Supermicro"
        );
        let database = MacDatabase::with_file("f", text).unwrap();
        assert_eq!(
            database
                .find(mac("7c:c2:55:50:a8:ff"))
                .unwrap()
                .manufacturer,
            "Mine"
        );
        assert!(database.find(mac("b0:7b:25:d6:51:82")).is_some());
        assert_eq!(MacDatabase::only_file("f", text).unwrap().len(), 1);
    }

    #[test]
    fn the_built_in_database_knows_the_bmcs_that_were_recorded() {
        let database = MacDatabase::builtin();
        for (address, manufacturer) in [
            ("b0:7b:25:d6:51:82", "Dell Inc."),
            ("5C:ED:8C:34:C2:94", "HPE"),
            ("7C:A6:2A:40:C3:E4", "HPE"),
            ("08:8f:c3:a5:8a:6f", "Lenovo"),
            ("7C:C2:55:50:A8:FF", "Supermicro"),
            ("B4:2E:99:BA:DE:17", "GIGABYTE"),
            ("a4-bf-01-28-90-aa", "Intel Corporation"),
            ("5C:FF:35:FB:E6:E9", "NVIDIA"),
        ] {
            assert_eq!(
                database
                    .find(mac(address))
                    .map(|kind| kind.manufacturer.as_str()),
                Some(manufacturer)
            );
        }
        assert!(
            database
                .find(mac("5c:ed:8c:34:c2:94"))
                .unwrap()
                .credentials
                .is_empty()
        );
        let written: usize = builtin::MAKERS
            .iter()
            .map(|maker| maker.prefixes.split_whitespace().count())
            .sum();
        assert_eq!(
            database.len(),
            written,
            "every built-in prefix is well-formed and stands once"
        );
    }

    #[test]
    fn a_malformed_file_is_refused_with_line_and_entry_and_without_any_password() {
        let error = |text: &str| {
            MacDatabase::with_file("prefixes.yaml", text)
                .unwrap_err()
                .to_string()
        };
        let message = error("macPrefixes:\n- macPrefix: 00:11:2x\n");
        assert!(
            message.contains("line 2") && message.contains("entry 1") && message.contains("'x'"),
            "{message}"
        );
        let message =
            error("macPrefixes:\n- macPrefix: 00:11\n- macPrefix: 00:12\n  port: 99999\n");
        assert!(
            message.contains("line 3") && message.contains("entry 2") && message.contains("99999"),
            "{message}"
        );
        let message = error("macPrefixes: 7\n");
        assert!(message.contains("line 1"), "{message}");
        let message = error("macPrefixes:\n- macPrefix: 00:11\n  protocolScheme: ftp\n");
        assert!(message.contains("protocolScheme"), "{message}");
        let message = error(
            "macPrefixes:\n- macPrefix: 00:11\n  defaultCredentials:\n  - username: a\n    password: [hunter2]\n  port: x\n",
        );
        assert!(!message.contains("hunter2"), "{message}");
        let message = error(
            "macPrefixes:\n- macPrefix: 00:11\n  defaultCredentials:\n  - username: a\n    password: \"hunter2\n",
        );
        assert!(!message.contains("hunter2"), "{message}");
        assert!(
            !format!(
                "{:?}",
                MacDatabase::with_file("f", FILE)
                    .unwrap()
                    .find(mac("23118a44cfea"))
            )
            .contains("adminpass")
        );
    }
}
