//! Who the probe is, what it is to do, and what became of it.

use serde::{Deserialize, Serialize};

/// The probe's first call, repeated at the pace that [`Welcome::again_seconds`] says while there is nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hello {
    /// The machine it runs on.
    pub machine: Machine,
    /// Made anew at each start of the probe; tells one boot from the next.
    pub boot_id: String,
    /// Version of the probe.
    pub version: String,
    /// `x86_64` or `aarch64`.
    pub architecture: String,
}

/// A machine by all that identifies it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    /// SMBIOS system UUID, lower case.
    #[serde(rename = "systemUUID")]
    pub system_uuid: String,
    /// SMBIOS system serial number.
    pub serial_number: String,
    /// MAC addresses, lower case with colons.
    pub macs: Vec<String>,
    /// Drives.
    pub drives: Vec<DriveName>,
    /// Storage controllers that no driver has taken: what is behind them is not among the drives. For people.
    pub unseen: Vec<String>,
}

/// A drive by what does not change from boot to boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DriveName {
    /// Serial number.
    pub serial_number: String,
    /// World-wide name, where it has one.
    pub wwn: Option<String>,
    /// Model.
    pub model: String,
    /// Bytes.
    pub size_bytes: u64,
    /// `local`, `fabric`, `multipath` or `removable`.
    pub attachment: String,
    /// Why it may never be written (fabric, multipath, removable, …); none for a local, single-ported, fixed drive.
    pub untouchable: Option<String>,
}

/// The answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// What to do.
    pub task: Task,
    /// Say hello again after so many seconds, or after the task.
    pub again_seconds: u32,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
// One is made an answer; a box would only be in the way of whoever matches on it.
#[expect(clippy::large_enum_variant)]
pub enum Task {
    /// Nothing yet.
    Wait,
    /// Take inventory and register it.
    Inventory,
    /// Test memory and disks, without writing to disks.
    BurnIn(BurnIn),
    /// Erase drives.
    Erase(EraseGrant),
    /// Write an image.
    Write(WriteGrant),
    /// Shut the machine down.
    PowerOff,
    /// Restart it.
    Reboot,
}

/// A burn-in's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BurnIn {
    /// Unique; results carry it.
    pub id: String,
    /// It ends after so many seconds at the latest.
    pub seconds: u32,
}

/// Leave to erase the named drives, once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EraseGrant {
    /// Unique; results carry it.
    pub id: String,
    /// Serial numbers of the drives. No other is touched.
    pub drives: Vec<String>,
    /// How thorough.
    pub method: EraseMethod,
    /// The TPM is cleared too.
    pub clear_tpm: bool,
    /// Boot entries of the firmware that point to erased drives go too.
    pub remove_boot_entries: bool,
}

/// How thorough an erasure is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum EraseMethod {
    /// NIST SP 800-88 Purge where the drive can, else Clear.
    #[default]
    Purge,
    /// NIST SP 800-88 Clear.
    Clear,
    /// Partition tables, file-system signatures and the first and last 16 MiB only.
    Metadata,
}

/// What an erasure is worth, in the terms of NIST SP 800-88.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum EraseClass {
    /// Not erased.
    #[default]
    None,
    /// Metadata only.
    Metadata,
    /// Clear.
    Clear,
    /// Purge.
    Purge,
}

/// Leave to write one image to one drive, once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WriteGrant {
    /// Unique; results carry it.
    pub id: String,
    /// Where the image is, at the boot server; the boot token opens it. Ranges are served, so that a transfer can go on.
    pub url: String,
    /// SHA-256 of the bytes at `url`, hexadecimal; a mismatch is a failure, and the drive's partition table is wiped.
    pub sha256: Option<String>,
    /// `none`, `gzip`, `zstd`, `xz`; empty: told by the first bytes.
    pub compression: String,
    /// Which drive. All hints must match, and exactly one drive must match all.
    pub hints: RootDeviceHints,
    /// Serial numbers of the drives that may be written at all.
    pub drives: Vec<String>,
    /// URL of the config drive's contents (an ISO 9660 or FAT image labelled CIDATA or config-2), appended as a partition; none without one.
    pub config_drive: Option<String>,
    /// What comes after: `reboot` or `kexec`.
    pub then: String,
}

/// Which drive an image goes to (the field's usual root-device hints). Sizes are in GiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RootDeviceHints {
    /// `/dev/…` or a link below `/dev/disk`.
    pub device_name: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// World-wide name.
    pub wwn: Option<String>,
    /// A part of the model's name.
    pub model: Option<String>,
    /// At least so large.
    pub min_size_gigabytes: Option<u64>,
    /// At most so large.
    pub max_size_gigabytes: Option<u64>,
    /// Whether it turns.
    pub rotational: Option<bool>,
}

/// How far a task is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// The grant.
    pub id: String,
    /// For people: what is being done.
    pub what: String,
    /// 0 to 100.
    pub percent: u8,
}

/// The answer to [`Progress`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Go on.
    Continue,
    /// Stop at once, with nothing more written: the grant does not hold any more.
    Stop,
}

/// What became of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// The grant.
    pub id: String,
    /// The probe's boot.
    pub boot_id: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, where it failed.
    pub message: String,
    /// For [`Task::Erase`]: one entry a drive of the grant.
    pub drives: Vec<DriveResult>,
    /// For [`Task::Write`].
    pub write: Option<WriteResult>,
    /// For [`Task::BurnIn`].
    pub burn_in: Option<BurnInResult>,
}

/// Whether a task was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Outcome {
    /// It was not.
    #[default]
    Failed,
    /// It was.
    Succeeded,
}

/// One drive's erasure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DriveResult {
    /// The drive.
    pub drive: DriveName,
    /// How it was erased, such as `NVMe Sanitize Block Erase`.
    pub method: String,
    /// What that is worth.
    pub class: EraseClass,
    /// Samples were read back and showed nothing of what was there.
    pub verified: bool,
    /// Seconds that it took.
    pub seconds: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// Methods that were tried before and failed, and why it failed.
    pub message: String,
}

/// A written image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WriteResult {
    /// The drive.
    pub drive: DriveName,
    /// Bytes on the drive.
    pub bytes: u64,
    /// SHA-256 of the bytes that came.
    pub sha256: String,
    /// They were read back from the drive and were the same.
    pub verified: bool,
    /// Seconds that it took.
    pub seconds: u32,
}

/// What a burn-in found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BurnInResult {
    /// Bytes of memory that were tested.
    pub memory_bytes: u64,
    /// Bytes of drives that were read.
    pub drive_bytes: u64,
    /// What was wrong.
    pub errors: Vec<String>,
}
