//! A site's wishes for its servers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{open_enum::open_enum, schema};

open_enum! {
    /// How a server is learnt about.
    pub enum Discovery default OutOfBand schema closed {
        /// By its BMC alone.
        OutOfBand = "OutOfBand",
        /// By the probe alone.
        InBand = "InBand",
        /// By both.
        Both = "Both",
    }
}

open_enum! {
    /// How drives are cleaned between claims.
    pub enum CleaningMethod default Purge schema closed {
        /// NIST SP 800-88 Purge where the drive can, else Clear.
        Purge = "Purge",
        /// NIST SP 800-88 Clear.
        Clear = "Clear",
        /// Partition tables and signatures only.
        Metadata = "Metadata",
        /// Not at all: the next tenant can read what the last one left.
        Disabled = "Disabled",
    }
}

open_enum! {
    /// What drives mean that are never written: fabric, multipath, shared enclosures.
    pub enum UnreachableDrives default Block schema closed {
        /// They keep the server in Cleanup.
        Block = "Block",
        /// They are listed and passed over.
        Ignore = "Ignore",
    }
}

open_enum! {
    /// What cleaning does with boot entries of the firmware.
    pub enum BootEntries default Remove schema closed {
        /// Those that start from a cleaned drive, from a partition that is gone, or from a network address are removed, and BootNext.
        Remove = "Remove",
        /// They stay.
        Keep = "Keep",
    }
}

/// A site's wishes for the servers and BMCs that it selects. Of several the one with the highest `priority` holds, then the first by name.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "corten.dev",
    version = "v1alpha1",
    kind = "ServerPolicy",
    plural = "serverpolicies",
    shortname = "spol",
    status = "ServerPolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A site's wishes for the servers and BMCs that it selects.",
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "Discovery", type_ = "string", json_path = ".spec.discovery"),
    printcolumn(
        name = "Cleaning",
        type_ = "string",
        json_path = ".spec.cleaning.method"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ServerPolicySpec {
    /// Labels of the Servers and BMCs that it is for; none means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
    /// The highest holds; 0 if absent.
    #[serde(default)]
    pub priority: i32,
    /// How servers are learnt about; `OutOfBand` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// So many discoveries may fail before a person is needed; 3 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub discovery_attempts: Option<i32>,
    /// The probe tests the memory and reads the drives of each new machine before it is Available; not done if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn_in: Option<BurnIn>,
    /// Time limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// How drives are cleaned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleaning: Option<Cleaning>,
    /// Machines that are found running may be taken over at once; false if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<bool>,
    /// A site's own credentials may go to the certificate that is seen first, which is then pinned; false if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_on_first_use: Option<bool>,
    /// CA certificates (PEM) that BMCs' certificates may chain to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
    /// How fast work may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
}

/// A test of new machines, by the probe: patterns through the free memory, and reads over the drives. Nothing is written to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BurnIn {
    /// How long it goes on.
    #[schemars(range(min = 1, max = 604_800))]
    pub seconds: i32,
}

/// Time limits, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// After this long a discovery has failed; 1800 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub discovery_seconds: Option<i32>,
    /// An operating system gets this long to shut down before power is cut; 180 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub shutdown_grace_seconds: Option<i32>,
    /// Power must have followed a call after this long; 60 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub power_confirm_seconds: Option<i32>,
    /// The probe must have called, and ended an inventory, this long after power on; 900 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub probe_seconds: Option<i32>,
    /// The probe's erasing must have ended, or got on by a tenth, after this long, and a BMC's erasing of a drive must have ended; 259200 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub erase_seconds: Option<i32>,
    /// An image must have been written after this long; 7200 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub write_seconds: Option<i32>,
}

/// How drives are cleaned between claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cleaning {
    /// How; `Purge` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<CleaningMethod>,
    /// A BMC's word that it erased a drive is enough; false if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_reported: Option<bool>,
    /// What drives mean that are never written; `Block` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_drives: Option<UnreachableDrives>,
    /// What the probe does with boot entries; `Remove` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_entries: Option<BootEntries>,
    /// The probe clears the TPM, or has the firmware clear it at the next start, which some firmware asks a person to confirm; false if absent.
    #[serde(default, rename = "clearTPM", skip_serializing_if = "Option::is_none")]
    pub clear_tpm: Option<bool>,
}

/// How fast work may start, in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Machines that are switched on in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub power_ons_per_minute: Option<i32>,
    /// Machines that are switched off in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub power_offs_per_minute: Option<i32>,
    /// Erasures that begin in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub erasures_per_minute: Option<i32>,
}

/// How a policy is taken.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct ServerPolicyStatus {
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
