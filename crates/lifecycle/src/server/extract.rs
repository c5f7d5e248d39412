//! From objects to the plain values that rules look at.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use corten_api::{
    corten::{DriveErasure, EraseClass, RunKind, RunPhase, ServerRun, StepOutcome},
    metal::{
        ReclaimPolicy, Server, ServerBootConfiguration, ServerBootConfigurationState, ServerClaim,
    },
    names,
};

use crate::{
    annotation,
    identity::Identity,
    image::{BootMode, ImageReference},
    run::{Before, Closed, Done, Erased, Intent, Kind, Outcome, Phase, Run, Step, Worth},
};

use super::{
    Boot, Claim, ClaimKey, CleaningDue, Handover, HoldAnswer, Notes, Reclaim, Record, condition,
};

impl Record {
    /// Reads a Server.
    pub fn of(server: &Server) -> Self {
        let status = server.status.as_ref();
        let discovered = status.and_then(|s| find(&s.conditions, condition::DISCOVERED));
        let mut boot_order: Vec<_> = server.spec.boot_order.iter().collect();
        boot_order.sort_by_key(|entry| entry.priority);
        Self {
            name: server.name_any(),
            uid: server.uid().unwrap_or_default(),
            deleting: server.metadata.deletion_timestamp.is_some(),
            finalized: server
                .finalizers()
                .iter()
                .any(|f| f == names::FINALIZER_SERVER),
            state: status.and_then(|s| s.state.clone()),
            discovered: discovered.is_some_and(|c| c.status == "True"),
            discovery_since: discovered
                .filter(|c| c.status != "True")
                .map(|c| c.last_transition_time.0),
            erased: status
                .and_then(|s| {
                    let mut all = s.conditions.iter();
                    all.find(|c| c.type_ == names::CONDITION_ERASED)
                })
                .map(|c| c.reason.clone()),
            claim: server.spec.server_claim_ref.as_ref().map(|claim| ClaimKey {
                namespace: claim.namespace.clone(),
                name: claim.name.clone(),
            }),
            power: server.spec.power.clone(),
            generation: server.metadata.generation.unwrap_or_default(),
            led: server.spec.indicator_led.as_ref().map(ToString::to_string),
            boot_order: boot_order
                .iter()
                .map(|entry| entry.device.clone())
                .collect(),
            reclaim: match server.spec.reclaim_policy {
                ReclaimPolicy::Retain => Reclaim::Retain,
                _ => Reclaim::Recycle,
            },
            notes: Notes::of(server.annotations()),
        }
    }
}

fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

impl Notes {
    /// Reads annotations. An empty value is none.
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        let text = |key: &str| annotation::text(annotations, key).map(str::to_owned);
        let is = |key: &str| annotation::is_set(annotations, key);
        Self {
            claim_uid: text(names::CLAIM_UID),
            dirty: text(names::DIRTY),
            release: text(names::RELEASE),
            provisioned: text(names::PROVISIONED),
            cleaning: text(names::CLEANING).map(|value| CleaningDue::parse(&value)),
            server_uid: text(names::SERVER_UID),
            identity: text(names::IDENTITY)
                .map(|value| Identity::parse(&value))
                .filter(|identity| !identity.is_empty()),
            handover: match text(names::HANDOVER).as_deref() {
                None => Handover::Unset,
                Some(names::HANDOVER_ACCEPTED) => Handover::Accepted,
                // What is not understood is no consent.
                Some(_) => Handover::Awaited,
            },
            hold: text(names::HOLD).map(|value| HoldAnswer::parse(&value)),
            cleaned_by: text(names::CLEANED_BY),
            force_delete: is(names::FORCE_DELETE),
            parked: is(names::PARKED),
            operation: text(names::OPERATION),
            operation_actor: text(names::OPERATION_ACTOR),
        }
    }
}

impl Claim {
    /// Reads a claim and, for how its image boots, its boot configuration.
    pub fn of(claim: &ServerClaim, boot: Option<&ServerBootConfiguration>) -> Self {
        let stated = boot
            .and_then(|boot| boot.annotations().get(names::BOOT_MODE))
            .or_else(|| claim.annotations().get(names::BOOT_MODE));
        let image = boot
            .and_then(|boot| boot.spec.image.as_deref())
            .unwrap_or(&claim.spec.image);
        // The same rule as for the boot configuration. What it calls an error is never booted; a server that runs already keeps to its image.
        let mode = ImageReference::parse(image).ok().map(|image| {
            image
                .later_starts(stated.map(String::as_str))
                .or_else(|_| image.later_starts(None))
                .unwrap_or(BootMode::Disk)
        });
        Self {
            uid: claim.uid().unwrap_or_default(),
            deleting: claim.metadata.deletion_timestamp.is_some(),
            power: claim.spec.power.clone(),
            diskless: mode == Some(BootMode::Diskless),
            diskless_stated: mode == Some(BootMode::Diskless) && stated.is_some(),
            written: boot
                .and_then(|boot| boot.annotations().get(names::IMAGE_KIND))
                .is_some_and(|kind| kind == names::IMAGE_KIND_DISK),
            allow_operations: annotation::is_set(claim.annotations(), names::ALLOW_OPERATIONS),
        }
    }
}

impl Boot {
    /// Reads a boot configuration, if it is for `server`.
    pub fn of(boot: Option<&ServerBootConfiguration>, server: &str) -> Self {
        let Some(boot) = boot.filter(|boot| boot.spec.server_ref.name == server) else {
            return Self::Missing;
        };
        let status = boot.status.as_ref();
        // What was said of an earlier spec says nothing of this one. A provider that keeps no generation is believed.
        let is_stale = status
            .into_iter()
            .flat_map(|s| &s.conditions)
            .filter(|c| c.type_ == names::CONDITION_IMAGE_VALIDATION)
            .any(|c| {
                c.observed_generation.is_some() && c.observed_generation != boot.metadata.generation
            });
        if is_stale {
            return Self::Pending;
        }
        match status.and_then(|s| s.state.as_ref()) {
            Some(ServerBootConfigurationState::Ready) => Self::Ready,
            Some(ServerBootConfigurationState::Error) => Self::Error(
                status
                    .into_iter()
                    .flat_map(|s| &s.conditions)
                    .find(|c| c.status == "False")
                    .map_or_else(|| "no reason given".to_owned(), |c| c.message.clone()),
            ),
            _ => Self::Pending,
        }
    }
}

impl Run {
    /// Reads a ServerRun; none when it holds a step or kind that this version does not know, and so must not touch.
    pub fn of(run: &ServerRun) -> Option<Self> {
        let status = run.status.clone().unwrap_or_default();
        let plan = run
            .spec
            .plan
            .iter()
            .map(|planned| planned.step.parse::<Step>())
            .collect::<Result<_, _>>()
            .ok()?;
        let intent = match &status.intent {
            None => None,
            Some(intent) => Some(Intent {
                id: intent.id.clone(),
                step: intent.step.parse().ok()?,
                before: Before {
                    power: intent.observed.power_state.clone(),
                    last_reset: intent.observed.last_reset_time.clone(),
                },
                written_at: intent.written_at,
                deadline: intent.deadline,
                holder: intent.holder.clone(),
            }),
        };
        let results = status
            .results
            .iter()
            .filter_map(|result| {
                Some(Done {
                    step: result.step.parse().ok()?,
                    outcome: outcome(&result.outcome),
                    started_at: result.started_at,
                    finished_at: result.finished_at.unwrap_or(result.started_at),
                    evidence: result.evidence.clone(),
                })
            })
            .collect();
        Some(Self {
            name: run.name_any(),
            kind: kind(&run.spec.kind)?,
            occasion: run.spec.occasion.clone(),
            claim_uid: run.spec.claim_uid.clone().unwrap_or_default(),
            created_at: created(run),
            phase: phase(status.phase.as_ref()),
            plan,
            intent,
            results,
            drives: status.drives.iter().map(erased).collect(),
            progressed_at: status.progress.as_ref().and_then(|shown| shown.at),
        })
    }
}

impl Closed {
    /// Reads a ServerRun that ended; none while it is open.
    pub fn of(run: &ServerRun) -> Option<Self> {
        let status = run.status.as_ref()?;
        let phase = phase(status.phase.as_ref());
        if matches!(phase, Phase::Pending | Phase::Running) {
            return None;
        }
        Some(Self {
            kind: kind(&run.spec.kind)?,
            occasion: run.spec.occasion.clone(),
            phase,
            finished_at: status.finished_at.unwrap_or_else(|| created(run)),
            message: status
                .conditions
                .iter()
                .find(|condition| condition.type_ == names::CONDITION_SUCCEEDED)
                .map(|condition| condition.message.clone())
                .unwrap_or_default(),
        })
    }
}

fn erased(drive: &DriveErasure) -> Erased {
    Erased {
        serial: drive.serial_number.clone(),
        class: match drive.class {
            EraseClass::Purge => Worth::Purge,
            EraseClass::Clear => Worth::Clear,
            EraseClass::Metadata => Worth::Metadata,
            EraseClass::Reported => Worth::Reported,
            EraseClass::None | EraseClass::Other(_) => Worth::None,
        },
        verified: drive.verified,
        done: drive.outcome == StepOutcome::Succeeded,
        foreign: super::Attachment::parse(&drive.attachment) != super::Attachment::Local,
        message: drive.message.clone(),
    }
}

fn created(run: &ServerRun) -> Timestamp {
    run.metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

fn kind(kind: &RunKind) -> Option<Kind> {
    Some(match kind {
        RunKind::Discovery => Kind::Discovery,
        RunKind::Provisioning => Kind::Provisioning,
        RunKind::Cleaning => Kind::Cleaning,
        RunKind::Operation => Kind::Operation,
        RunKind::Power => Kind::Power,
        RunKind::Release => Kind::Release,
        RunKind::Tombstone => Kind::Tombstone,
        RunKind::Settings => Kind::Settings,
        RunKind::Other(_) => return None,
    })
}

fn phase(phase: Option<&RunPhase>) -> Phase {
    match phase {
        None | Some(RunPhase::Pending) => Phase::Pending,
        Some(RunPhase::Running) => Phase::Running,
        Some(RunPhase::Succeeded) => Phase::Succeeded,
        Some(RunPhase::Failed) => Phase::Failed,
        Some(RunPhase::OutcomeUnknown | RunPhase::Other(_)) => Phase::OutcomeUnknown,
    }
}

fn outcome(outcome: &StepOutcome) -> Outcome {
    match outcome {
        StepOutcome::Succeeded => Outcome::Succeeded,
        StepOutcome::Accepted => Outcome::Accepted,
        StepOutcome::Failed => Outcome::Failed,
        StepOutcome::NotSent => Outcome::NotSent,
        StepOutcome::Unknown | StepOutcome::Other(_) => Outcome::Unknown,
    }
}

impl From<Outcome> for StepOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Accepted => Self::Accepted,
            Outcome::Failed => Self::Failed,
            Outcome::NotSent => Self::NotSent,
            Outcome::Unknown => Self::Unknown,
        }
    }
}

impl From<Phase> for RunPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Pending => Self::Pending,
            Phase::Running => Self::Running,
            Phase::Succeeded => Self::Succeeded,
            Phase::Failed => Self::Failed,
            Phase::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}

impl From<Kind> for RunKind {
    fn from(kind: Kind) -> Self {
        Self::from(kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(image: &str, claimed: Option<&str>, configured: Option<&str>) -> Claim {
        let annotated = |stated: Option<&str>| match stated {
            Some(mode) => json!({ "name": "c", "annotations": { names::BOOT_MODE: mode } }),
            None => json!({ "name": "c" }),
        };
        let claim: ServerClaim = serde_json::from_value(json!({
            "metadata": annotated(claimed), "spec": { "power": "On", "image": image },
        }))
        .unwrap();
        let boot: ServerBootConfiguration = serde_json::from_value(json!({
            "metadata": annotated(configured), "spec": { "serverRef": { "name": "s" }, "image": image },
        }))
        .unwrap();
        Claim::of(&claim, Some(&boot))
    }

    fn diskless(image: &str, claimed: Option<&str>, configured: Option<&str>) -> bool {
        claim(image, claimed, configured).diskless
    }

    #[test]
    fn what_may_install_itself_is_not_taken_for_what_is_needed_at_each_start() {
        let stated = |image, word| claim(image, word, None).diskless_stated;
        assert!(!stated("https://h/installer.iso", None));
        assert!(!stated("ghcr.io/a/b", None));
        assert!(!stated("https://h/installer.iso", Some("disk")));
        assert!(stated("https://h/live.iso", Some("diskless")));
    }

    #[test]
    fn an_image_without_a_stated_mode_boots_by_the_same_rule_as_its_boot_configuration() {
        assert!(diskless(
            "ghcr.io/ironcore-dev/os-images/gardenlinux:1443.3",
            None,
            None
        ));
        assert!(diskless("ghcr.io/a/b", Some("tape"), None));
        assert!(!diskless("https://h/ubuntu.raw.zst", None, None));
    }

    #[test]
    fn what_may_have_installed_itself_is_booted_once_unless_its_owner_says_otherwise() {
        for image in ["installer.iso", "installer.efi", "manifest.json", "x"] {
            let image = format!("https://h/{image}");
            assert!(!diskless(&image, None, None), "{image}");
            assert!(!diskless(&image, Some("tape"), None), "{image}");
            assert!(diskless(&image, Some("diskless"), None), "{image}");
        }
    }

    #[test]
    fn the_mode_that_is_stated_stands_before_the_images_form() {
        assert!(!diskless("ghcr.io/a/b", Some("disk"), None));
        assert!(diskless(
            "https://h/ubuntu.raw",
            Some("disk"),
            Some("diskless")
        ));
    }
}
