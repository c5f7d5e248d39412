//! What Corten adds to user data.

use bytes::Bytes;
use serde_json::{Value, json};

use super::butane::data_url;

/// A file on the booted system.
#[derive(Clone)]
pub struct File {
    /// Where.
    pub path: String,
    /// Permissions, such as `0o600`.
    pub mode: u32,
    /// What is in it.
    pub contents: Vec<u8>,
}

/// A systemd unit that is enabled.
#[derive(Clone)]
pub struct Unit {
    /// Name.
    pub name: String,
    /// What is in it.
    pub contents: String,
}

/// What Corten adds. Its `Debug` shows nothing: tokens are in it.
#[derive(Clone, Default)]
pub struct Additions {
    /// Files.
    pub files: Vec<File>,
    /// Units.
    pub units: Vec<Unit>,
}

impl std::fmt::Debug for Additions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Additions({} files, {} units, redacted)",
            self.files.len(),
            self.units.len()
        )
    }
}

impl Additions {
    /// An ignition document with these and, merged over them, the user's: where both name a file or a unit, the user's wins.
    #[must_use]
    pub fn ignition(&self, user: Option<&Value>) -> Bytes {
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|file| json!({"path": file.path, "mode": file.mode, "overwrite": true, "contents": {"source": data_url(&file.contents)}}))
            .collect();
        let units: Vec<Value> = self
            .units
            .iter()
            .map(|unit| json!({"name": unit.name, "enabled": true, "contents": unit.contents}))
            .collect();
        // The oldest that merges; the user's own says its version itself.
        let mut document = json!({"ignition": {"version": "3.0.0"}});
        if let Some(user) = user {
            document = json!({"ignition": {"version": "3.0.0", "config": {"merge": [{"source": data_url(user.to_string().as_bytes())}]}}});
        }
        if let Some(object) = document.as_object_mut() {
            if !files.is_empty() {
                object.insert("storage".to_owned(), json!({"files": files}));
            }
            if !units.is_empty() {
                object.insert("systemd".to_owned(), json!({"units": units}));
            }
        }
        Bytes::from(document.to_string())
    }

    /// cloud-init's vendor-data with these: user-data stays as it is, and wins where both say something. None if there is nothing to add.
    #[must_use]
    pub fn vendor_data(&self) -> Option<Bytes> {
        if self.files.is_empty() && self.units.is_empty() {
            return None;
        }
        let unit_files = self.units.iter().map(|unit| {
            (
                format!("/etc/systemd/system/{}", unit.name),
                0o644,
                unit.contents.as_bytes(),
            )
        });
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|file| (file.path.clone(), file.mode, file.contents.as_slice()))
            .chain(unit_files)
            .map(|(path, mode, contents)| {
                use base64::Engine as _;
                let contents = base64::engine::general_purpose::STANDARD.encode(contents);
                json!({"path": path, "permissions": format!("{mode:04o}"), "encoding": "b64", "content": contents})
            })
            .collect();
        let mut config = json!({"write_files": files});
        if let (Some(object), false) = (config.as_object_mut(), self.units.is_empty()) {
            let mut commands = vec![json!(["systemctl", "daemon-reload"])];
            commands.extend(
                self.units
                    .iter()
                    .map(|unit| json!(["systemctl", "enable", "--now", unit.name])),
            );
            object.insert("runcmd".to_owned(), Value::Array(commands));
        }
        // JSON is YAML.
        Some(Bytes::from(format!("#cloud-config\n{config}\n")))
    }
}
