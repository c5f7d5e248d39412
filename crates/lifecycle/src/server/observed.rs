//! All that a decision on a server rests on, in plain values. The engine builds it from objects ([`super::Record`] by `of`), tests by hand.

use jiff::Timestamp;

use corten_api::metal::{Power, PowerState, ServerState};

use crate::{
    identity::Identity,
    policy::Policy,
    run::{Closed, Run},
};

/// One look at everything.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The time.
    pub now: Timestamp,
    /// What the Server object says.
    pub record: Record,
    /// The claim that the server refers to; read live before it is called missing.
    pub claim: Option<Claim>,
    /// Its boot configuration.
    pub boot: Boot,
    /// The machine.
    pub reach: Reach,
    /// The inventory, where this process has read it.
    pub inventory: Option<Inventory>,
    /// Serial numbers of the drives that the last recorded inventory had; none where there is no such record.
    pub known_drives: Option<Vec<String>>,
    /// The open run. Of several the oldest.
    pub run: Option<Run>,
    /// Runs that ended, the latest first.
    pub closed: Vec<Closed>,
    /// The policy that applies.
    pub policy: Policy,
    /// The shard's brake and rates.
    pub guard: Guard,
    /// Why it is not clear which machine this is, if it is not.
    pub dispute: Option<String>,
    /// What a forced deletion of the same machine left.
    pub tombstone: Option<Tombstone>,
    /// A tombstone for this very object is there already.
    pub buried: bool,
    /// Boot services that this engine runs; none where another controller boots, or none are set up.
    pub services: Option<Services>,
    /// When the probe was last heard of, or this process began to listen; none where nobody listens.
    pub heard: Option<Timestamp>,
    /// The probe's first call since it was started, as far as this process heard it.
    pub call: Option<Call>,
    /// When the machine came last for what it boots and was not sent it, and why.
    pub unserved: Option<(Timestamp, String)>,
    /// When the machine was last being sent something of its claim's image. What could not be recorded at once counts too.
    pub served_at: Option<Timestamp>,
    /// Since when the BMC answers, by its condition; a fresh answer gives a failed discovery fresh tries.
    pub answering_since: Option<Timestamp>,
}

/// A probe called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When this start of it called first.
    pub at: Timestamp,
    /// Why it was given nothing, when it called last.
    pub refused: Option<String>,
}

/// What is declared about how this server boots from Corten's boot services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Services {
    /// Annotation `corten.dev/boot-method` of the boot configuration, else of the server.
    pub declared: Option<String>,
}

/// The Server object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// It has a deletion time.
    pub deleting: bool,
    /// It carries our finalizer.
    pub finalized: bool,
    /// `status.state`; lost after a restore.
    pub state: Option<ServerState>,
    /// The condition `Discovered` is true.
    pub discovered: bool,
    /// Since when `Discovered` is false.
    pub discovery_since: Option<Timestamp>,
    /// Reason of the condition `Erased`.
    pub erased: Option<String>,
    /// `spec.serverClaimRef`.
    pub claim: Option<ClaimKey>,
    /// `spec.power`; counts only while nobody has claimed the server.
    pub power: Option<Power>,
    /// `metadata.generation`: which version of the spec it is.
    pub generation: i64,
    /// `spec.indicatorLED`.
    pub led: Option<String>,
    /// Devices of `spec.bootOrder` by priority.
    pub boot_order: Vec<String>,
    /// `spec.reclaimPolicy`.
    pub reclaim: Reclaim,
    /// Annotations.
    pub notes: Notes,
}

/// Namespace and name of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for ClaimKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What becomes of a server after a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reclaim {
    /// Cleaned at once.
    #[default]
    Recycle,
    /// Kept in Released until a person clears the reference.
    Retain,
}

/// What the annotations say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// UID of the bound claim.
    pub claim_uid: Option<String>,
    /// UID of the claim since which the disks hold somebody's data.
    pub dirty: Option<String>,
    /// UID of the claim whose release has begun.
    pub release: Option<String>,
    /// UID of the claim whose image was booted.
    pub provisioned: Option<String>,
    /// The cleaning that is due.
    pub cleaning: Option<CleaningDue>,
    /// UID of the Server object for which the notes were written: after a restore or a move it is another.
    pub server_uid: Option<String>,
    /// The machine as seen at onboarding.
    pub identity: Option<Identity>,
    /// Whether a machine that was found running may be taken.
    pub handover: Handover,
    /// A person's answer to a hold.
    pub hold: Option<HoldAnswer>,
    /// Who vouches that the disks are clean.
    pub cleaned_by: Option<String>,
    /// The object goes, whatever it holds.
    pub force_delete: bool,
    /// Parked.
    pub parked: bool,
    /// `metal.ironcore.dev/operation`, as written.
    pub operation: Option<String>,
    /// Who overrides the owner's consent.
    pub operation_actor: Option<String>,
}

/// A cleaning that is due: for which object, and which occasion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CleaningDue {
    /// UID of the Server object.
    pub server_uid: String,
    /// Tells one cleaning from the next.
    pub occasion: String,
}

/// Whether a machine that was found running may be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Handover {
    /// It was not found running, or that is settled.
    #[default]
    Unset,
    /// It was found running; a person has to say so.
    Awaited,
    /// It may be taken.
    Accepted,
}

/// A person's answer to a hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HoldAnswer {
    /// Take the server back: power off, clean.
    Release,
    /// The claim with this UID owns the machine as it runs.
    Adopt(String),
    /// Something that is no answer.
    Other(String),
}

/// The bound claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// UID.
    pub uid: String,
    /// It has a deletion time.
    pub deleting: bool,
    /// `spec.power`.
    pub power: Power,
    /// Its image runs without a disk, so that each start needs the network.
    pub diskless: bool,
    /// Its owner says so (`corten.dev/boot-mode`). Where only the image's form says it, it may install itself to a disk all the same.
    pub diskless_stated: bool,
    /// Its image is one of a disk, which the probe writes.
    pub written: bool,
    /// Its owner lets operations through.
    pub allow_operations: bool,
}

/// The boot configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Boot {
    /// There is none.
    #[default]
    Missing,
    /// Not ready yet.
    Pending,
    /// Ready.
    Ready,
    /// It cannot become ready.
    Error(String),
}

/// Whether the machine could be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not tried yet.
    Unknown,
    /// It answered.
    Reached(Machine),
    /// It did not.
    Lost {
        /// CamelCase.
        reason: String,
        /// The cause.
        message: String,
    },
}

/// What the machine shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// When it was read.
    pub read_at: Timestamp,
    /// Power.
    pub power: PowerState,
    /// UUID and serial number.
    pub identity: Identity,
    /// `LastResetTime`, as the BMC writes it.
    pub last_reset: Option<String>,
    /// A boot override is set; none where the BMC does not say.
    pub boot_override: Option<bool>,
    /// It is set for each start.
    pub boot_lasts: bool,
    /// Locator light.
    pub led: Option<String>,
    /// Boot order; empty where the BMC has none.
    pub boot_order: Vec<String>,
    /// What is in its virtual drives.
    pub media: Media,
    /// What it can do.
    pub can: Abilities,
}

/// What a machine's virtual drives hold. Read only where a rule asks for it: it costs requests of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Media {
    /// Not read since the machine was last changed.
    #[default]
    Unread,
    /// They could not be read.
    Unreadable(String),
    /// Paths of the slots that hold a medium; none where the machine has no virtual drives.
    Inserted(Vec<String>),
}

/// Reset types that the BMC allows, and whether it has a boot override. One that says nothing of resets is taken to allow all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// `GracefulShutdown`.
    pub graceful_shutdown: bool,
    /// `GracefulRestart`.
    pub graceful_restart: bool,
    /// `ForceRestart`.
    pub force_restart: bool,
    /// `PowerCycle`.
    pub power_cycle: bool,
    /// `Boot.HttpBootUri` can be set.
    pub http_boot_uri: bool,
    /// It can be told to boot by UEFI HTTP, from the address that DHCP gives.
    pub uefi_http: bool,
    /// It has a virtual drive that takes an image by its address.
    pub virtual_media: bool,
    /// `Boot.BootSourceOverrideTarget`. Nodes of HPE Cray EX have none: their boot order decides.
    pub boot_override: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self {
            graceful_shutdown: true,
            graceful_restart: true,
            force_restart: true,
            power_cycle: true,
            boot_override: true,
            http_boot_uri: false,
            uefi_http: false,
            virtual_media: false,
        }
    }
}

/// What an inventory pass found, as far as rules look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// When it was read.
    pub read_at: Timestamp,
    /// Sections that exist and could not be read; sections that the BMC does not have are not among them.
    pub unread: Vec<String>,
    /// The list of drives was read.
    pub lists_drives: bool,
    /// The drives.
    pub drives: Vec<Drive>,
}

/// One drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Serial number; empty when the BMC does not tell.
    pub serial: String,
    /// Model and place, for messages.
    pub label: String,
    /// The BMC offers `Drive.SecureErase`.
    pub can_erase: bool,
    /// It lists its operations, and is looked at before each erasure: one that is under way is seen.
    pub lists_operations: bool,
    /// How it is attached.
    pub attachment: Attachment,
    /// RAID volumes that it belongs to, by name: an operating system may see these in its place.
    pub volumes: Vec<String>,
}

/// How a drive is attached. Only local ones are ever written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Attachment {
    /// In this machine and reachable by it alone.
    #[default]
    Local,
    /// Over a fabric (Fibre Channel, iSCSI, NVMe-oF).
    Fabric,
    /// Over more than one path.
    Multipath,
    /// In an enclosure that other machines reach too.
    Shared,
    /// Behind a SAS expander: by what a probe sees, another machine may be cabled to its shelf's other module. The BMC may list it as the machine's own.
    Expander,
    /// Removable.
    Removable,
    /// No drive but a controller that nothing here has a driver for: what is behind it is seen by nobody.
    Unseen,
}

// === impl Attachment ===

impl Attachment {
    /// Why a drive that is attached so is never written; none for a local one.
    pub fn never_written(self) -> Option<&'static str> {
        match self {
            Self::Local => None,
            Self::Fabric => Some("reached over a fabric"),
            Self::Multipath => Some("reached over several paths"),
            Self::Shared => Some("in an enclosure that other machines reach"),
            Self::Expander => Some(
                "behind a SAS expander that another machine may be cabled to, and the BMC does not list it as this machine's own",
            ),
            Self::Removable => Some("removable"),
            Self::Unseen => Some("behind a storage controller without a driver"),
        }
    }

    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Fabric => "fabric",
            Self::Multipath => "multipath",
            Self::Shared => "shared",
            Self::Expander => "expander",
            Self::Removable => "removable",
            Self::Unseen => "unseen",
        }
    }

    /// Reads the word; what is unknown counts as local, so that it blocks.
    pub fn parse(text: &str) -> Self {
        [
            Self::Fabric,
            Self::Multipath,
            Self::Shared,
            Self::Expander,
            Self::Removable,
            Self::Unseen,
        ]
        .into_iter()
        .find(|attachment| attachment.as_str() == text)
        .unwrap_or_default()
    }
}

/// The shard's limits, as they stand now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Why destructive work is paused, if it is.
    pub brake: Option<String>,
    /// The next power action may be sent at this time.
    pub power_at: Option<Timestamp>,
    /// The next erasure may be sent at this time.
    pub erase_at: Option<Timestamp>,
}

/// What a forced deletion of this machine left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Name of the run.
    pub run: String,
    /// Claim whose data may still be on the disks; empty when none was known.
    pub claim_uid: String,
    /// Serial numbers of the drives from before that claim, where they were on record.
    pub drives: Option<Vec<String>>,
}

// === impl Observed ===

impl Observed {
    /// What the status says, or what must be true of a server whose status was lost.
    pub fn shown_state(&self) -> ServerState {
        match &self.record.state {
            Some(state) => state.clone(),
            None if self.record.claim.is_some() || self.record.notes.claim_uid.is_some() => {
                ServerState::Reserved
            }
            None if self.record.notes.dirty.is_some() => ServerState::Cleanup,
            None => ServerState::Initial,
        }
    }

    /// The machine, where it answered.
    pub fn machine(&self) -> Option<&Machine> {
        match &self.reach {
            Reach::Reached(machine) => Some(machine),
            _ => None,
        }
    }

    /// True when the machine answered and is off.
    pub fn is_off(&self) -> bool {
        self.machine().is_some_and(|m| m.power == PowerState::Off)
    }

    /// Ended runs of one kind and occasion, the latest first.
    pub fn closed_for<'a>(
        &'a self,
        kind: crate::run::Kind,
        occasion: &'a str,
    ) -> impl Iterator<Item = &'a Closed> {
        self.closed
            .iter()
            .filter(move |run| run.kind == kind && run.occasion == occasion)
    }
}

// === impl Notes ===

impl Notes {
    /// True when the object is to be left alone.
    pub fn ignores(&self) -> bool {
        self.operation.as_deref() == Some("ignore")
    }

    /// True when the release of the bound claim was recorded.
    pub fn is_releasing(&self) -> bool {
        self.release.is_some() && self.release == self.claim_uid
    }
}

// === impl HoldAnswer ===

impl HoldAnswer {
    /// Reads the annotation's value.
    pub fn parse(text: &str) -> Self {
        match (text.trim(), text.trim().strip_prefix("adopt:")) {
            ("release", _) => Self::Release,
            (_, Some(uid)) if !uid.trim().is_empty() => Self::Adopt(uid.trim().to_owned()),
            (other, _) => Self::Other(other.to_owned()),
        }
    }
}

// === impl CleaningDue ===

impl CleaningDue {
    /// Reads the annotation's value, `<server uid>/<occasion>`.
    pub fn parse(text: &str) -> Self {
        let (server_uid, occasion) = text.split_once('/').unwrap_or((text, ""));
        Self {
            server_uid: server_uid.to_owned(),
            occasion: occasion.to_owned(),
        }
    }
}

impl std::fmt::Display for CleaningDue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.server_uid, self.occasion)
    }
}
