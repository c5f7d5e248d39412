//! The site's wishes that apply to one server, with their defaults.

use jiff::SignedDuration;
use kube::ResourceExt;

use corten_api::corten::{self as api, ServerPolicy};

/// How a server is learnt about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Discovery {
    /// By its BMC alone.
    #[default]
    OutOfBand,
    /// By the probe alone.
    InBand,
    /// By both.
    Both,
}

/// How drives are cleaned between claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cleaning {
    /// NIST 800-88 Purge where the drive can, else Clear.
    #[default]
    Purge,
    /// NIST 800-88 Clear.
    Clear,
    /// Partition tables only; needs the probe.
    Metadata,
    /// Not at all.
    Disabled,
}

/// The policy that applies to one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name of the ServerPolicy, for messages; `default` when none applies.
    pub name: String,
    /// How the server is learnt about.
    pub discovery: Discovery,
    /// A new machine is tested by the probe for so many seconds; 0 is not at all.
    pub burn_in_seconds: u32,
    /// After this long a discovery has failed.
    pub discovery_timeout: SignedDuration,
    /// So many discoveries may fail before a person is needed.
    pub discovery_attempts: usize,
    /// An operating system gets this long to shut down before power is cut.
    pub shutdown_grace: SignedDuration,
    /// Power must have followed a call after this long, or it is tried again.
    pub power_confirm: SignedDuration,
    /// How drives are cleaned.
    pub cleaning: Cleaning,
    /// A BMC's word that it erased a drive is enough. Default false: what nobody verified is not clean.
    pub accept_reported: bool,
    /// Drives that are never written (fabric, multipath, shared, removable) do not block.
    pub ignore_unreachable_drives: bool,
    /// Boot entries of the tenant stay in the firmware.
    pub keep_boot_entries: bool,
    /// The TPM is cleared with the drives.
    pub clear_tpm: bool,
    /// Machines that are found running may be taken at once.
    pub handover: bool,
    /// A probe must have called, and ended an inventory, this long after power on.
    pub probe_timeout: SignedDuration,
    /// An erasure by the probe must have ended after this long.
    pub erase_timeout: SignedDuration,
    /// An image must have been written after this long.
    pub write_timeout: SignedDuration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            name: "default".into(),
            discovery: Discovery::OutOfBand,
            burn_in_seconds: 0,
            discovery_timeout: SignedDuration::from_mins(30),
            discovery_attempts: 3,
            shutdown_grace: SignedDuration::from_mins(3),
            power_confirm: SignedDuration::from_secs(60),
            cleaning: Cleaning::Purge,
            accept_reported: false,
            ignore_unreachable_drives: false,
            keep_boot_entries: false,
            clear_tpm: false,
            handover: false,
            probe_timeout: SignedDuration::from_mins(15),
            erase_timeout: SignedDuration::from_hours(72),
            write_timeout: SignedDuration::from_hours(2),
        }
    }
}

impl Policy {
    /// What `policy` says, with the defaults for what it leaves out.
    pub fn of(policy: &ServerPolicy) -> Self {
        let default = Self::default();
        let spec = &policy.spec;
        let timeouts = spec.timeouts.clone().unwrap_or_default();
        let cleaning = spec.cleaning.clone().unwrap_or_default();
        let seconds = |value: Option<i32>, default| {
            value.map_or(default, |s| SignedDuration::from_secs(i64::from(s.max(0))))
        };
        Self {
            name: policy.name_any(),
            discovery: match spec.discovery {
                Some(api::Discovery::InBand) => Discovery::InBand,
                Some(api::Discovery::Both) => Discovery::Both,
                _ => Discovery::OutOfBand,
            },
            burn_in_seconds: spec
                .burn_in
                .as_ref()
                .and_then(|wanted| u32::try_from(wanted.seconds).ok())
                .unwrap_or(default.burn_in_seconds),
            discovery_timeout: seconds(timeouts.discovery_seconds, default.discovery_timeout),
            discovery_attempts: spec
                .discovery_attempts
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(default.discovery_attempts),
            shutdown_grace: seconds(timeouts.shutdown_grace_seconds, default.shutdown_grace),
            power_confirm: seconds(timeouts.power_confirm_seconds, default.power_confirm),
            cleaning: match cleaning.method {
                Some(api::CleaningMethod::Clear) => Cleaning::Clear,
                Some(api::CleaningMethod::Metadata) => Cleaning::Metadata,
                Some(api::CleaningMethod::Disabled) => Cleaning::Disabled,
                // A method that this version does not know is no leave to do less.
                _ => Cleaning::Purge,
            },
            accept_reported: cleaning.accept_reported.unwrap_or(false),
            ignore_unreachable_drives: matches!(
                cleaning.unreachable_drives,
                Some(api::UnreachableDrives::Ignore)
            ),
            keep_boot_entries: matches!(cleaning.boot_entries, Some(api::BootEntries::Keep)),
            clear_tpm: cleaning.clear_tpm.unwrap_or(false),
            probe_timeout: seconds(timeouts.probe_seconds, default.probe_timeout),
            erase_timeout: seconds(timeouts.erase_seconds, default.erase_timeout),
            write_timeout: seconds(timeouts.write_seconds, default.write_timeout),
            handover: spec.handover.unwrap_or(false),
        }
    }
}
