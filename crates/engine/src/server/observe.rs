//! One look at everything that a decision on a server rests on.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Deserialize as _;

use corten_api::{
    corten::{SectionState, ServerInventory, ServerRun},
    metal::{PowerState, Server, ServerStatus},
    names,
};
use corten_kit::ObjectKey;
use corten_lifecycle::{
    identity::{Identity, is_placeholder_uuid},
    policy::Policy,
    refresh,
    server::{
        Abilities, Attachment, BMC_MISSING, Boot, Call, Claim, Drive, Inventory, Machine, Media,
        Observed, Reach, Record, Services, drives,
    },
};
use corten_redfish::{
    Document,
    inventory::{Drive as FoundDrive, Inventory as Found, SystemFacts, Volume},
    operations::{action, boot, drive},
};
use corten_wire::registration::Drive as SeenDrive;

use super::{Controller, ServerError};
use crate::{
    config::BootProvider,
    fleet::{self, Access, Link},
    inventory::power_state,
    run::RunsOf,
};

/// What this process has read of a machine itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The last reading of the ComputerSystem.
    pub reading: Option<Reading>,
    /// The last inventory, as far as rules look at it.
    pub inventory: Option<Inventory>,
    /// What it says for the status; taken when it is recorded.
    pub status: Option<Arc<ServerStatus>>,
    /// Where drives are, by serial number: for their erasure.
    pub drives: Arc<Vec<FoundDrive>>,
    /// When its probe was last at work.
    pub heard: Option<Timestamp>,
    /// The start of the probe that called last, and since when it does.
    pub call: Option<(String, Call)>,
    /// When it came last for what it boots and was not sent it, and why.
    pub unserved: Option<(Timestamp, String)>,
    /// When it was last being sent something of its claim's image.
    pub served_at: Option<Timestamp>,
    /// Since when there is nobody who could speak of its BMC.
    pub missing_since: Option<Timestamp>,
    /// Drives of the recorded inventory, which does not change while the disks are dirty.
    pub known_drives: Option<Arc<Vec<String>>>,
}

/// A machine's objects get other labels, or are restored, one after the other: for so long a server without its BMC is not remarkable.
const RELABELLED: SignedDuration = SignedDuration::from_secs(30);

/// One reading of the ComputerSystem.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub at: Timestamp,
    pub facts: SystemFacts,
    pub boot_override: Option<bool>,
    pub boot_lasts: bool,
    pub boot_order: Vec<String>,
    pub media: Media,
    pub can: Abilities,
}

/// The objects, and what rules make of them.
pub(crate) struct Seen {
    pub key: ObjectKey,
    pub server: Arc<Server>,
    pub machine: fleet::Machine,
    pub run: Option<Arc<ServerRun>>,
    pub observed: Observed,
}

impl Controller {
    pub(crate) async fn observe(&self, key: &ObjectKey) -> Result<Option<Seen>, ServerError> {
        let Some(server) = self.ctx.servers.store.get(key) else {
            return Ok(None);
        };
        let now = Timestamp::now();
        let record = Record::of(&server);
        let machine = self.ctx.fleet.server(&server);
        let memory = self
            .memory
            .get(key)
            .map(|m| m.value().clone())
            .unwrap_or_default();
        let RunsOf {
            open,
            closed,
            buried,
        } = self.runs.of(&record.uid);
        let (claim, boot) = self.claim(&server, &record).await?;
        let policy = self.ctx.connector.policies.of(server.labels());
        let policy = policy.as_deref().map(Policy::of).unwrap_or_default();
        let due_to_clean = record.notes.cleaning.is_some();
        let known_drives = match (due_to_clean, memory.known_drives) {
            (true, Some(known)) => Some(known.to_vec()),
            (true, None) => {
                let known = self.known_drives(&server).await?;
                let shared = known.clone().map(Arc::new);
                self.memory.entry(key.clone()).or_default().known_drives = shared;
                known
            }
            (false, known) => {
                if known.is_some()
                    && let Some(mut memory) = self.memory.get_mut(key)
                {
                    memory.known_drives = None;
                }
                None
            }
        };
        let reach = match reach(&machine, memory.reading.as_ref()) {
            Reach::Unknown => self.without_bmc(key, &server, now),
            reach => {
                if memory.missing_since.is_some() {
                    self.has_bmc(key);
                }
                reach
            }
        };
        let tombstone = match &reach {
            Reach::Reached(machine) => self.runs.tombstone(&machine.identity, &record.uid),
            _ => None,
        };
        let (run, open) = match open {
            Some((object, run)) => (Some(object), Some(run)),
            None => (None, None),
        };
        let observed = Observed {
            now,
            claim,
            boot,
            dispute: machine.dispute.clone().or_else(|| nameless(&reach)),
            reach,
            inventory: memory.inventory,
            known_drives,
            run: open,
            closed,
            policy,
            guard: self.guards.look(now),
            tombstone,
            buried,
            services: self.services(&server),
            heard: Some(memory.heard.unwrap_or(self.began)),
            call: memory.call.map(|(_, call)| call),
            unserved: memory.unserved,
            served_at: memory.served_at,
            answering_since: match &machine.link {
                Link::Up { since } => Some(*since),
                _ => None,
            },
            record,
        };
        Ok(Some(Seen {
            key: key.clone(),
            server,
            machine,
            run,
            observed,
        }))
    }

    /// The claim that the server refers to. One that is not in the cache, or is another there, is read from the API server itself: a cache
    /// that lags behind must not look like a claim that is gone.
    async fn claim(
        &self,
        server: &Server,
        record: &Record,
    ) -> Result<(Option<Claim>, Boot), ServerError> {
        let Some(at) = &record.claim else {
            return Ok((None, Boot::Missing));
        };
        let key = ObjectKey::namespaced(&at.namespace, &at.name);
        let cached = self.ctx.claims.store.get(&key);
        let expected = record.notes.claim_uid.as_deref();
        let claim = if cached
            .as_ref()
            .is_some_and(|claim| claim.uid().as_deref() == expected)
        {
            cached
        } else {
            match self.ctx.claims.objects.live(&key).await {
                Ok(claim) => Some(claim),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(ServerError::Observe(error)),
            }
        };
        let boot = self.ctx.boot_of(server);
        let claim = claim.map(|claim| Claim::of(&claim, boot.as_deref()));
        Ok((claim, Boot::of(boot.as_deref(), &server.name_any())))
    }

    /// Boot services, where this engine runs them, and how this server is declared to use them.
    fn services(&self, server: &Server) -> Option<Services> {
        self.ctx.config.services.as_ref()?;
        if self.ctx.config.boot != BootProvider::Builtin {
            return None;
        }
        let boot = self.ctx.boot_of(server);
        let claim = self.ctx.claim_of(server);
        let declared = boot
            .as_ref()
            .and_then(|boot| boot.annotations().get(names::BOOT_METHOD))
            .or_else(|| {
                claim
                    .as_ref()
                    .and_then(|claim| claim.annotations().get(names::BOOT_METHOD))
            })
            .or_else(|| server.annotations().get(names::BOOT_METHOD));
        Some(Services {
            declared: declared.cloned().filter(|method| !method.trim().is_empty()),
        })
    }

    /// Nothing was heard of the server's BMC yet; or lost, where nobody will ever hear of it and waiting would be for ever.
    fn without_bmc(&self, key: &ObjectKey, server: &Server, now: Timestamp) -> Reach {
        let Some(message) = self.missing(server) else {
            self.has_bmc(key);
            return Reach::Unknown;
        };
        let mut memory = self.memory.entry(key.clone()).or_default();
        let since = *memory.missing_since.get_or_insert(now);
        if now < since + RELABELLED {
            return Reach::Unknown;
        }
        Reach::Lost {
            reason: BMC_MISSING.into(),
            message,
        }
    }

    fn has_bmc(&self, key: &ObjectKey) {
        if let Some(mut memory) = self.memory.get_mut(key) {
            memory.missing_since = None;
        }
    }

    fn missing(&self, server: &Server) -> Option<String> {
        Some(match Access::of(server) {
            Some(Access::Inline(_)) => return None,
            None => "neither spec.bmcRef nor spec.bmc says how its BMC is reached".to_owned(),
            Some(Access::Bmc(name)) => match self.ctx.bmcs.store.get(&ObjectKey::cluster(&name)) {
                None => format!(
                    "there is no BMC {name:?}, which spec.bmcRef names, among those that this engine looks after: create it, or give it the labels of --label-selector"
                ),
                Some(_) => return None,
            },
        })
    }

    /// Forgets which drives the machine has while no rule can ask: whoever cleans reads them anew anyway. A fleet's worth of them is most of
    /// what a server at rest would take.
    pub(super) fn forget_drives(&self, seen: &Seen) {
        if refresh::is_settled(&seen.observed)
            && let Some(mut memory) = self.memory.get_mut(&seen.key)
        {
            memory.inventory = None;
            memory.drives = Arc::default();
        }
    }

    /// A start of this server's probe called: its first call.
    pub(crate) fn called(&self, server: &str, start: &str) -> Call {
        let mut memory = self.memory.entry(ObjectKey::cluster(server)).or_default();
        match &memory.call {
            Some((known, call)) if known == start => call.clone(),
            _ => {
                let call = Call {
                    at: Timestamp::now(),
                    refused: None,
                };
                memory.call = Some((start.to_owned(), call.clone()));
                call
            }
        }
    }

    /// Why a probe that called was given nothing, or that it was given something.
    pub(crate) fn answered(&self, server: &str, refused: Option<String>) {
        if let Some(mut memory) = self.memory.get_mut(&ObjectKey::cluster(server))
            && let Some((_, call)) = &mut memory.call
        {
            call.refused = refused;
        }
    }

    /// A machine that came for what it boots is being sent it, or why it is not.
    pub(crate) fn served(&self, server: &str, served: &Result<(), String>) {
        let mut memory = self.memory.entry(ObjectKey::cluster(server)).or_default();
        let now = Timestamp::now();
        match served {
            Ok(()) => (memory.served_at, memory.unserved) = (Some(now), None),
            Err(why) => memory.unserved = Some((now, why.clone())),
        }
    }

    /// A probe of this server is at work.
    pub(crate) fn hear(&self, server: &str) {
        let mut memory = self.memory.entry(ObjectKey::cluster(server)).or_default();
        memory.heard = Some(Timestamp::now());
    }

    /// Serial numbers of the drives in the recorded inventory, which is not written while the disks are dirty, and in the server's own note. An
    /// inventory that is gone, or says nothing, is not one without drives.
    pub(super) async fn known_drives(
        &self,
        server: &Server,
    ) -> Result<Option<Vec<String>>, ServerError> {
        let recorded = match self.ctx.inventories.live(&ObjectKey::of(server)).await {
            Ok(inventory) => inventory.status.is_some().then(|| serials(&inventory)),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(ServerError::Observe(error)),
        };
        Ok(drives::either(recorded, drives::of(server.annotations())))
    }
}

fn serials(inventory: &ServerInventory) -> Vec<String> {
    let status = inventory.status.iter();
    let by_bmc = status
        .clone()
        .flat_map(|status| &status.drives)
        .filter_map(|drive| drive.serial_number.clone());
    // What a probe saw, too: many BMCs list no drives. The original's probe does not say how they are attached.
    let by_probe = status
        .filter_map(|status| status.in_band.as_ref()?.get("storage")?.as_array())
        .flatten()
        .filter_map(|drive| SeenDrive::deserialize(drive).ok())
        .filter(|drive| match drive.attachment.as_str() {
            "" => looks_local(drive),
            told => told == "local",
        })
        .map(|drive| drive.serial_number)
        .filter(|serial| !serial.is_empty());
    let mut all: Vec<String> = by_bmc.chain(by_probe).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What the original's probe tells of a drive: the kernel's name, and udev's path, from which others' drives are told.
fn looks_local(drive: &SeenDrive) -> bool {
    const OWN: [&str; 5] = ["nvme", "sd", "vd", "hd", "mmcblk"];
    const ELSEWHERE: [&str; 3] = ["-fc-", "-iscsi-", "-usb-"];
    !drive.removable
        && OWN.iter().any(|name| drive.name.starts_with(name))
        && !drive.path.starts_with("ip-")
        && !ELSEWHERE.iter().any(|word| drive.path.contains(word))
}

/// A machine that has neither UUID nor serial number of its own cannot be told from another.
fn nameless(reach: &Reach) -> Option<String> {
    match reach {
        Reach::Reached(machine) if machine.identity.is_empty() => Some(
            "the machine has neither a UUID nor a serial number of its own: set them in its firmware".to_owned(),
        ),
        _ => None,
    }
}

fn reach(machine: &fleet::Machine, reading: Option<&Reading>) -> Reach {
    match (&machine.link, &machine.system) {
        (Link::Unknown, _) => Reach::Unknown,
        (
            Link::Down {
                reason, message, ..
            },
            _,
        ) => Reach::Lost {
            reason: reason.to_string(),
            message: message.to_string(),
        },
        (Link::Up { .. }, None) => Reach::Lost {
            reason: "SystemMissing".into(),
            message: "the BMC answers and does not show this system".into(),
        },
        (Link::Up { .. }, Some(view)) => {
            // The poll may be newer than what was read here; what only the document tells is as old as the reading.
            let facts = match reading {
                Some(reading) if reading.at >= view.read_at => &reading.facts,
                _ => &view.facts,
            };
            Reach::Reached(Machine {
                read_at: reading.map_or(Timestamp::UNIX_EPOCH, |reading| reading.at),
                power: facts
                    .power_state
                    .as_ref()
                    .map_or_else(|| PowerState::from("Unknown"), power_state),
                identity: identity(facts),
                last_reset: facts.last_reset.map(|at| at.to_string()),
                boot_override: reading.and_then(|reading| reading.boot_override),
                boot_lasts: reading.is_some_and(|reading| reading.boot_lasts),
                led: facts.led.as_ref().map(|led| led.as_str().to_owned()),
                boot_order: reading
                    .map(|reading| reading.boot_order.clone())
                    .unwrap_or_default(),
                media: reading
                    .map(|reading| reading.media.clone())
                    .unwrap_or_default(),
                can: reading.map(|reading| reading.can).unwrap_or_default(),
            })
        }
    }
}

/// UUID and serial number, parts that tell nothing emptied.
pub(super) fn identity(facts: &SystemFacts) -> Identity {
    let uuid = facts
        .uuid
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let uuid = if is_placeholder_uuid(&uuid) {
        String::new()
    } else {
        uuid
    };
    Identity::new(&uuid, facts.serial_number.as_deref().unwrap_or_default())
}

impl Reading {
    /// Reads a ComputerSystem document.
    pub(crate) fn of(document: &Document, facts: SystemFacts, at: Timestamp) -> Self {
        let root = document.root();
        let boot = root.object("Boot");
        let resets = action::inline_values(root, "#ComputerSystem.Reset", "ResetType");
        // A BMC that does not say inline says it in an ActionInfo, which the operation itself looks up: nothing is ruled out here.
        let allows = |kind: &str| resets.is_empty() || resets.iter().any(|reset| reset == kind);
        let targets = boot::BootState::read(document);
        Self {
            at,
            facts,
            boot_override: boot
                .text("BootSourceOverrideEnabled")
                .map(|enabled| !enabled.eq_ignore_ascii_case("Disabled")),
            boot_lasts: boot
                .text("BootSourceOverrideEnabled")
                .is_some_and(|enabled| enabled.eq_ignore_ascii_case("Continuous")),
            boot_order: boot.texts("BootOrder"),
            media: Media::Unread,
            can: Abilities {
                graceful_shutdown: allows("GracefulShutdown") || allows("PushPowerButton"),
                graceful_restart: allows("GracefulRestart"),
                force_restart: allows("ForceRestart") || allows("PowerCycle"),
                boot_override: boot.has("BootSourceOverrideEnabled")
                    || boot.has("BootSourceOverrideTarget"),
                http_boot_uri: targets.allows(&boot::BootTarget::HttpBootUri(String::new())),
                uefi_http: targets.allows(&boot::BootTarget::UefiHttp),
                virtual_media: has_virtual_media(document),
                power_cycle: allows("PowerCycle")
                    || (allows("ForceOff") && allows("On") && resets.is_empty()),
            },
        }
    }
}

/// Virtual media of the system, or of a manager that it names. Whether a drive is free is looked up when it is used.
fn has_virtual_media(document: &Document) -> bool {
    let root = document.root();
    root.has("VirtualMedia") || !root.object("Links").links("ManagedBy").is_empty()
}

/// An inventory as far as rules look at it.
pub(super) fn for_rules(found: &Found, at: Timestamp) -> Inventory {
    let unread = found
        .sections
        .named()
        .iter()
        .filter(|(_, section)| !section.is_settled())
        .map(|(name, _)| (*name).to_owned())
        .collect();
    Inventory {
        read_at: at,
        unread,
        lists_drives: found.sections.storage.is_read(),
        drives: found
            .drives
            .iter()
            .map(|drive| for_cleaning(drive, &found.volumes))
            .collect(),
    }
}

fn for_cleaning(found: &FoundDrive, volumes: &[Volume]) -> Drive {
    let media = found.media_type.as_deref().unwrap_or_default();
    let place = found
        .location
        .as_deref()
        .or(found.name.as_deref())
        .unwrap_or(&found.id);
    Drive {
        serial: found.serial_number.clone().unwrap_or_default(),
        label: match &found.model {
            Some(model) => format!("{model}, {place}"),
            None => place.to_owned(),
        },
        volumes: volumes
            .iter()
            .filter(|volume| volume.is_raid() && volume.holds(found))
            .map(|volume| format!("{}/{}", volume.storage, volume.id))
            .collect(),
        can_erase: found.secure_erase.is_some(),
        lists_operations: found.lists_operations,
        attachment: if drive::is_on_fabric(found) {
            Attachment::Fabric
        } else if found.multipath {
            Attachment::Multipath
        } else if found.shared {
            Attachment::Shared
        } else if found
            .protocol
            .as_deref()
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("USB"))
            || media.eq_ignore_ascii_case("USB")
        {
            Attachment::Removable
        } else {
            Attachment::Local
        },
    }
}

/// True when the annotation by which a watch of metadata recognises the inventory says the same.
pub(super) fn is_known(
    contents: &corten_api::corten::ServerInventoryStatus,
    recorded: Option<&str>,
) -> bool {
    recorded.is_some() && contents.content_hash.as_deref() == recorded
}

/// The recorded hash of an inventory.
pub(super) fn recorded_hash(
    annotations: &std::collections::BTreeMap<String, String>,
) -> Option<&str> {
    annotations.get(names::CONTENT_HASH).map(String::as_str)
}

/// Names of the sections that failed, for logs.
pub(super) fn failed(contents: &corten_api::corten::ServerInventoryStatus) -> BTreeSet<&str> {
    contents
        .sections
        .iter()
        .filter(|section| section.state == SectionState::Failed)
        .map(|section| section.name.as_str())
        .collect()
}

/// What the rules remember a machine by.
pub(super) fn before(observed: &Observed) -> corten_lifecycle::run::Before {
    let machine = observed.machine();
    corten_lifecycle::run::Before {
        power: machine.map(|m| m.power.clone()),
        last_reset: machine.and_then(|m| m.last_reset.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_drive_that_a_probe_saw_is_known_by_whichever_name_it_was_written() {
        let seen = |storage: serde_json::Value| {
            let inventory = ServerInventory::new("rack1", Default::default());
            let status = corten_api::corten::ServerInventoryStatus {
                in_band: Some(json!({"storage": storage})),
                ..Default::default()
            };
            serials(&ServerInventory {
                status: Some(status),
                ..inventory
            })
        };
        let written = json!([
            {"serial": "NEW", "attachment": "local"},
            {"Serial": "OLD", "attachment": "local"},
            {"serial": "ORIGINALS", "name": "sda", "path": "pci-0000:00:1f.2-ata-1"},
            {"serial": "STICK", "name": "sdb", "removable": true},
            {"serial": "USB", "name": "sdc", "path": "pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:0"},
            {"serial": "LUN", "name": "sdd", "path": "pci-0000:05:00.0-fc-0x5006-lun-1"},
            {"serial": "MAPPED", "name": "dm-0"},
            {"serial": "SAN", "attachment": "fabric"},
            {"serial": "", "attachment": "local"},
        ]);
        assert_eq!(seen(written), ["NEW", "OLD", "ORIGINALS"]);
    }
}
