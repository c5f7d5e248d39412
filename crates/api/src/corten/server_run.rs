//! One piece of work on a server.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{metal::PowerState, open_enum::open_enum, schema};

open_enum! {
    /// What a run is for.
    pub enum RunKind {
        /// Learning what the machine is.
        Discovery = "Discovery",
        /// The first boot for a claim.
        Provisioning = "Provisioning",
        /// Erasing drives.
        Cleaning = "Cleaning",
        /// Something that a person asked for.
        Operation = "Operation",
        /// Bringing power to where it is wanted.
        Power = "Power",
        /// Taking a server back from a claim.
        Release = "Release",
        /// What a forced deletion leaves behind, so that the machine is known when it is found again.
        Tombstone = "Tombstone",
        /// Locator light and boot order.
        Settings = "Settings",
    }
}

open_enum! {
    /// How far a run is.
    pub enum RunPhase default Pending {
        /// Recorded; nothing was sent.
        Pending = "Pending",
        /// At least one intent was written.
        Running = "Running",
        /// Every step is done.
        Succeeded = "Succeeded",
        /// A step could not be done, or the run was overtaken.
        Failed = "Failed",
        /// A step may or may not have happened, and nothing can tell.
        OutcomeUnknown = "OutcomeUnknown",
    }
}

open_enum! {
    /// What became of a step or of a drive's erasure.
    pub enum StepOutcome {
        /// Done, or evidence shows that it happened.
        Succeeded = "Succeeded",
        /// Taken on as a task that has to be followed.
        Accepted = "Accepted",
        /// Refused, or the task failed.
        Failed = "Failed",
        /// Evidence shows that it did not happen.
        NotSent = "NotSent",
        /// Nothing can tell.
        Unknown = "Unknown",
    }
}

open_enum! {
    /// What an erasure is worth, in the terms of NIST SP 800-88; `Reported` is a BMC's word and nothing more.
    pub enum EraseClass {
        /// Purge.
        Purge = "Purge",
        /// Clear.
        Clear = "Clear",
        /// Partition tables, signatures and both ends only; no class of NIST's.
        Metadata = "Metadata",
        /// The BMC says that it erased the drive.
        Reported = "Reported",
        /// Not erased.
        None = "None",
    }
}

/// One piece of work on a server: its plan, where it stands, intents, results, evidence. Not owned by the Server: it outlives it.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "corten.dev",
    version = "v1alpha1",
    kind = "ServerRun",
    plural = "serverruns",
    shortname = "srun",
    status = "ServerRunStatus",
    derive = "PartialEq",
    doc = "One piece of work on a server: plan, progress, intents, results and evidence.",
    selectable = ".spec.serverRef.name",
    printcolumn(name = "Server", type_ = "string", json_path = ".spec.serverRef.name"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.currentStep"),
    printcolumn(
        name = "Percent",
        type_ = "integer",
        json_path = ".status.progress.percent"
    ),
    printcolumn(
        name = "Actor",
        type_ = "string",
        json_path = ".spec.actor",
        priority = "1"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ServerRunSpec {
    /// The server.
    pub server_ref: ServerReference,
    /// What the run is for.
    pub kind: RunKind,
    /// What made it due, such as a claim's UID: a run serves one occasion and no later one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub occasion: String,
    /// UID of the claim that it is done for.
    #[serde(default, rename = "claimUID", skip_serializing_if = "Option::is_none")]
    pub claim_uid: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The steps, as they were planned, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlannedStep>,
    /// UUID of the system, by which a machine is known again.
    #[serde(
        default,
        rename = "systemUUID",
        skip_serializing_if = "Option::is_none"
    )]
    pub system_uuid: Option<String>,
    /// Serial number, by which a machine is known again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
}

/// Refers to one Server, and to no later one of the same name.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub struct ServerReference {
    /// Name of the Server.
    pub name: String,
    /// UID of the Server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// A step of the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub struct PlannedStep {
    /// The step, such as `ForceOff` or `EraseDrive/S4EVNX0R`.
    pub step: String,
    /// Why it is due.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerRunStatus {
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RunPhase>,
    /// The step that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_step: Option<String>,
    /// How far the probe is with the step that is under way, written at each tenth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<StepProgress>,
    /// A call that may have been sent and is not settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// Steps that ended, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<StepResult>,
    /// What was done to each drive: the erasure report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drives: Vec<DriveErasure>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub finished_at: Option<Timestamp>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How far long work is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepProgress {
    /// What is being done.
    #[serde(default)]
    pub what: String,
    /// How much of it, 0 to 100.
    #[serde(default)]
    pub percent: u8,
    /// When this was so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub at: Option<Timestamp>,
}

/// One mutating call, written before it is sent. Sent at most once, and not after its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// Unique in the run.
    pub id: String,
    /// What is to be sent.
    pub step: String,
    /// What was observed before; evidence is judged against it.
    #[serde(default)]
    pub observed: Observation,
    /// When it was written.
    #[schemars(schema_with = "schema::time")]
    pub written_at: Timestamp,
    /// Not sent after this time; whoever takes over waits it out.
    #[schemars(schema_with = "schema::time")]
    pub deadline: Timestamp,
    /// The replica that wrote it.
    pub holder: String,
}

/// What was observed before a call was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_state: Option<PowerState>,
    /// Redfish `LastResetTime`, as the BMC writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reset_time: Option<String>,
    /// Address of the task that follows an earlier call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// A step's end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepResult {
    /// The step.
    pub step: String,
    /// When its intent was written.
    #[schemars(schema_with = "schema::time")]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub finished_at: Option<Timestamp>,
    /// What became of it.
    pub outcome: StepOutcome,
    /// What shows it: the BMC's answer, a task's address, the observed change.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What was done to one drive.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriveErasure {
    /// Serial number of the drive.
    pub serial_number: String,
    /// Model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// How it is attached: empty or `local` for a drive of this machine, whose erasure is asked for; `fabric`, `multipath`, `shared`, `expander`, `unseen`
    /// and `removable` for one that is never written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attachment: String,
    /// How it was erased, such as `Drive.SecureErase` or `NVMe Sanitize Block Erase`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// What that is worth.
    pub class: EraseClass,
    /// Whether reading back has shown it.
    #[serde(default)]
    pub verified: bool,
    /// What became of it; `Accepted` while its task runs.
    pub outcome: StepOutcome,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Address of the task that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub finished_at: Option<Timestamp>,
}
