//! Firmware, TPM, kernel and clock: ours, the original has none of it.

use super::lenient::{list, value};
use serde::{Deserialize, Serialize};

/// How the machine boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Firmware {
    /// `UEFI` or `Legacy`.
    pub boot_mode: String,
    /// Whether Secure Boot is on; none where the firmware does not say.
    #[serde(deserialize_with = "value")]
    pub secure_boot: Option<bool>,
    /// Entry that this boot came by, such as `Boot0003`.
    #[serde(deserialize_with = "value")]
    pub boot_current: String,
    /// Entry for the next boot only.
    #[serde(deserialize_with = "value")]
    pub boot_next: String,
    /// Entries in order.
    #[serde(deserialize_with = "list")]
    pub boot_order: Vec<String>,
    /// All entries.
    #[serde(deserialize_with = "list")]
    pub boot_entries: Vec<BootEntry>,
    /// Names of the firmware's variables, as `name-guid`. Never their contents.
    #[serde(deserialize_with = "list")]
    pub variables: Vec<String>,
}

/// A boot entry (UEFI section 3.1.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BootEntry {
    /// Such as `Boot0003`.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether it is tried.
    pub active: bool,
    /// Device path as text, as far as it was understood.
    pub path: String,
}

/// A TPM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tpm {
    /// 1 or 2.
    #[serde(deserialize_with = "value")]
    pub version: String,
    /// Platform configuration registers.
    #[serde(deserialize_with = "list")]
    pub pcrs: Vec<Pcr>,
}

/// A platform configuration register.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pcr {
    /// `sha1`, `sha256`, …
    pub algorithm: String,
    /// Number.
    pub index: u32,
    /// Value, hexadecimal.
    pub value: String,
}

/// The kernel that the probe runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kernel {
    /// Release, such as `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// Version.
    pub version: String,
    /// Architecture.
    pub machine: String,
}

/// The machine's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Clock {
    /// System time by RFC 3339.
    pub system: String,
    /// Hardware clock by RFC 3339; empty without one.
    #[serde(deserialize_with = "value")]
    pub hardware: String,
    /// Seconds since the kernel started.
    #[serde(deserialize_with = "value")]
    pub uptime_seconds: u64,
}
