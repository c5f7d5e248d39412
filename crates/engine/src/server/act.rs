//! One arm for each [`Act`].

use std::{sync::Arc, time::Duration};

use corten_api::{
    corten::{ServerInventory, ServerInventoryStatus, ServerReference},
    metal::{NetworkInterface, Server},
    names,
};
use corten_kit::{ObjectKey, gate};
use corten_lifecycle::{
    cleanup,
    plan::Plan,
    run::{Kind, Phase, Step},
    server::{Act, Amendment, Decision, Inventory, Media, drives},
};
use corten_redfish::{
    Bmc, Document, GatewayError, Priority,
    inventory::{Drive, Inventory as Found},
    model::{Service, System},
    operations::media,
};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::{
    Controller, ServerError,
    guard::PAUSED,
    hardware::Redfish,
    observe::{Memory, Reading, Seen, failed, for_rules, is_known, recorded_hash},
};
use crate::{
    executor::{Erasure, ExecutorError, Hardware},
    inventory::{contents, server_status},
    run,
};

/// A BMC that could not be asked is asked again after this long, or when it is heard of.
const SILENT: Duration = Duration::from_secs(10);
/// How long one reading of everything may take: the slowest BMC that was recorded needs two minutes.
const PASS: Duration = Duration::from_secs(15 * 60);
/// How often a drive's erasure is asked about.
const FOLLOW: Duration = Duration::from_secs(2);

impl Controller {
    /// Does the one thing. A time means that the reconcile ends here and goes on after it.
    pub(super) async fn act(
        &self,
        seen: &Seen,
        decision: &Decision,
    ) -> Result<Option<Duration>, ServerError> {
        match &decision.act {
            Act::Nothing | Act::Show => Ok(None),
            Act::ReadMachine => Ok(self.read_machine(seen).await),
            Act::ReadMedia => Ok(self.read_media(seen).await),
            Act::ReadInventory => self.read_inventory(seen).await,
            Act::Amend(amendment) => self.amend(seen, amendment).await,
            Act::StartRun(plan) => self.start_run(seen, plan).await,
            Act::Send(step) => self.send(seen, step).await,
            Act::Settle(settlement) => {
                let Some(run) = &seen.run else {
                    return Ok(None);
                };
                stepped(self.executor.settle(run, settlement).await.map(drop))
            }
            Act::FollowErasure { serial } => self.follow(seen, serial).await,
            Act::FinishRun { phase, message } => {
                let Some(run) = &seen.run else {
                    return Ok(None);
                };
                stepped(self.executor.finish(run, *phase, message).await.map(drop))
            }
            Act::SettleTombstone { run } => match self.runs.get(run) {
                Some(run) => stepped(
                    self.executor
                        .finish(
                            &run,
                            Phase::Succeeded,
                            &format!("found again as Server {}", seen.key),
                        )
                        .await
                        .map(drop),
                ),
                None => Ok(None),
            },
            Act::LeaveTombstone(plan) => {
                let mut tombstone = run::object(&seen.server, plan, Timestamp::now());
                // The inventory goes with its server.
                if let Some(known) = self.known_drives(&seen.server).await? {
                    tombstone
                        .annotations_mut()
                        .insert(names::DRIVES.to_owned(), drives::noted(&known));
                }
                self.executor
                    .records()
                    .create(&tombstone)
                    .await
                    .map_err(ServerError::Act)?;
                Ok(None)
            }
            Act::RecordFailedDiscovery { message } => self.discovery_failed(seen, message).await,
        }
    }

    async fn read_machine(&self, seen: &Seen) -> Option<Duration> {
        let (Some(bmc), Some(path)) = (&seen.machine.bmc, path(seen)) else {
            return Some(SILENT);
        };
        match read(bmc, &path, Priority::Control).await {
            Ok(document) => {
                self.saw(seen, &document);
                None
            }
            Err(error) => {
                tracing::debug!(server = %seen.key, error = %error.chain(), "system not read");
                Some(SILENT)
            }
        }
    }

    async fn read_media(&self, seen: &Seen) -> Option<Duration> {
        let (Some(bmc), Some(path)) = (&seen.machine.bmc, path(seen)) else {
            return Some(SILENT);
        };
        gate::pass().await;
        let read = async {
            let service = Service::open(bmc).await?;
            let system = service.system_at(&path, Priority::Control).await?;
            let slots = media::list_all(&service, &system).await;
            Ok::<_, GatewayError>((system.document().clone(), slots))
        };
        let read = read.await;
        gate::pass().await;
        let (document, slots) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(server = %seen.key, error = %error.chain(), "virtual media not read");
                return Some(SILENT);
            }
        };
        let media = match slots {
            Ok(slots) => Media::Inserted(
                slots
                    .iter()
                    .filter(|slot| slot.is_inserted())
                    .map(|slot| slot.path().to_owned())
                    .collect(),
            ),
            Err(error) => Media::Unreadable(error.chain()),
        };
        self.saw(seen, &document);
        if let Some(reading) = &mut self.memory.entry(seen.key.clone()).or_default().reading {
            reading.media = media;
        }
        None
    }

    fn saw(&self, seen: &Seen, document: &Document) {
        let now = Timestamp::now();
        let facts = System::new(document.clone()).facts();
        self.ctx.fleet.saw(&seen.server, facts.clone(), now);
        self.memory.entry(seen.key.clone()).or_default().reading =
            Some(Reading::of(document, facts, now));
    }

    async fn read_inventory(&self, seen: &Seen) -> Result<Option<Duration>, ServerError> {
        let name = seen.server.name_any();
        let (found, reading) = match self.ctx.fleet.take_first_read(&name) {
            Some(first) => (Ok(first.inventory), Some(first.reading)),
            None => {
                let (Some(bmc), Some(path)) = (&seen.machine.bmc, path(seen)) else {
                    return Ok(Some(SILENT));
                };
                let (found, document) = self.read_all(bmc, &path).await;
                let now = Timestamp::now();
                let reading = document.map(|document| {
                    Reading::of(&document, System::new(document.clone()).facts(), now)
                });
                (found, reading)
            }
        };
        let at = reading
            .as_ref()
            .map_or_else(Timestamp::now, |reading| reading.at);
        if let Some(reading) = reading {
            self.memory.entry(seen.key.clone()).or_default().reading = Some(reading);
        }
        match found {
            Ok(found) => self.take_in(seen, &found, at).await?,
            Err(error) => {
                tracing::debug!(server = %seen.key, error = %error.chain(), "inventory not read");
                let mut memory = self.memory.entry(seen.key.clone()).or_default();
                memory.inventory = Some(Inventory {
                    read_at: Timestamp::now(),
                    unread: vec![format!("all ({})", error.reason())],
                    ..Inventory::default()
                });
            }
        }
        Ok(None)
    }

    pub(super) async fn read_all(
        &self,
        bmc: &Bmc,
        path: &str,
    ) -> (Result<Found, GatewayError>, Option<Document>) {
        gate::pass().await;
        let read = async {
            let service = Service::open(bmc).await?;
            let system = service.whole_system(path).await?;
            // Not before the BMC has answered, so that a hung one never holds a place.
            let _place = self.readings.acquire().await;
            let found = tokio::time::timeout(PASS, service.inventory(&system)).await;
            let found = found.map_err(|_| GatewayError::Timeout {
                authority: bmc.url().authority().into(),
                phase: corten_redfish::error::Phase::Body,
                after: PASS,
            })??;
            Ok((found, system.document().clone()))
        };
        let read = read.await;
        gate::pass().await;
        match read {
            Ok((found, document)) => (Ok(found), Some(document)),
            Err(error) => (Err(error), None),
        }
    }

    async fn take_in(&self, seen: &Seen, found: &Found, at: Timestamp) -> Result<(), ServerError> {
        let facts = for_rules(found, at);
        // While the disks are dirty the recorded inventory says which drives there were: a cleaning is judged against it.
        let dirty = seen.observed.record.notes.dirty.is_some()
            || seen.observed.record.notes.cleaning.is_some();
        if !dirty && facts.unread.is_empty() {
            self.record_inventory(&seen.server, found).await?;
        }
        let mut status = server_status(found);
        let old = seen.server.status.clone().unwrap_or_default();
        status.state = old.state;
        status.conditions = old.conditions;
        status.network_interfaces = with_links(status.network_interfaces, &old.network_interfaces);
        let Memory {
            inventory,
            status: known,
            drives,
            ..
        } = &mut *self.memory.entry(seen.key.clone()).or_default();
        *inventory = Some(facts);
        *known = Some(Arc::new(status));
        *drives = Arc::new(found.drives.clone());
        Ok(())
    }

    /// What the probe saw of the network joins what is known, and is written with the next status.
    pub(crate) fn saw_inside(
        &self,
        key: &ObjectKey,
        server: &Server,
        links: Vec<NetworkInterface>,
    ) {
        let mut status = server.status.clone().unwrap_or_default();
        let known = std::mem::take(&mut status.network_interfaces);
        let mut merged = with_links(known, &links);
        for link in links {
            let is_known =
                |nic: &NetworkInterface| nic.mac_address.eq_ignore_ascii_case(&link.mac_address);
            if !merged.iter().any(is_known) {
                merged.push(link);
            }
        }
        status.network_interfaces = merged;
        self.memory.entry(key.clone()).or_default().status = Some(Arc::new(status));
    }

    async fn record_inventory(&self, server: &Server, found: &Found) -> Result<(), ServerError> {
        self.record_contents(server, &contents(found)).await
    }

    /// Writes the ServerInventory, unless it says the same.
    pub(super) async fn record_contents(
        &self,
        server: &Server,
        contents: &ServerInventoryStatus,
    ) -> Result<(), ServerError> {
        let key = corten_kit::ObjectKey::of(server);
        let recorded = self.ctx.inventory_metadata.get(&key);
        let annotations = recorded
            .as_ref()
            .map(|meta| meta.annotations().clone())
            .unwrap_or_default();
        if is_known(contents, recorded_hash(&annotations)) {
            return Ok(());
        }
        tracing::debug!(server = %key, unread = ?failed(contents), "inventory changed");
        let mut labels = std::collections::BTreeMap::new();
        for label in [names::AGENT, names::MANAGED_BY] {
            if let Some(value) = server.labels().get(label) {
                labels.insert(label, value.clone());
            }
        }
        let fields = json!({
            "apiVersion": ServerInventory::api_version(&()),
            "kind": ServerInventory::kind(&()),
            "metadata": {
                "name": key.name(),
                "labels": labels,
                "annotations": { names::CONTENT_HASH: contents.content_hash },
                "ownerReferences": [{
                    "apiVersion": Server::api_version(&()),
                    "kind": Server::kind(&()),
                    "name": key.name(),
                    "uid": server.uid(),
                }],
            },
            "spec": { "serverRef": ServerReference { name: key.name().to_owned(), uid: server.uid().unwrap_or_default() } },
            "status": contents,
        });
        self.ctx
            .inventories
            .apply(&key, &fields)
            .await
            .map_err(ServerError::Act)?;
        Ok(())
    }

    async fn amend(
        &self,
        seen: &Seen,
        amendment: &Amendment,
    ) -> Result<Option<Duration>, ServerError> {
        let mut amended = amended(&seen.server, amendment);
        if amendment.drives
            && let Some(known) = self.known_drives(&seen.server).await?
        {
            amended
                .annotations_mut()
                .insert(names::DRIVES.to_owned(), drives::noted(&known));
        }
        tracing::info!(server = %seen.key, why = amendment.why, "server amended");
        self.ctx
            .servers
            .objects
            .replace(&amended)
            .await
            .map_err(ServerError::Act)?;
        Ok(None)
    }

    async fn start_run(&self, seen: &Seen, plan: &Plan) -> Result<Option<Duration>, ServerError> {
        // A cache may be minutes old without knowing it, where a watch was cut off in silence and the Lease has just been taken: what is
        // planned for another tenant's time is not begun. A newer server is in the cache by this, and is decided upon at once.
        let live = self.ctx.servers.objects.live(&seen.key).await;
        let live = live.map_err(ServerError::Observe)?;
        if live.resource_version() != seen.server.resource_version() {
            return Ok(Some(Duration::from_millis(50)));
        }
        let now = Timestamp::now();
        if let Err(why) = self.guards.admit(&seen.observed.record.uid, plan, now) {
            tracing::warn!(server = %seen.key, why, "brake engaged");
            return Ok(Some(PAUSED));
        }
        let closed = &seen.observed.closed;
        let object = self.runs.begin(&seen.server, plan, closed, now);
        match self.executor.records().create(&object).await {
            Ok(_) => {}
            Err(error) if error.is_conflict() => {
                // Made before, and the answer was lost: the watch will bring it.
                tracing::info!(server = %seen.key, run = %object.name_any(), "run recorded already");
                return Ok(Some(Duration::from_secs(1)));
            }
            Err(error) => return Err(ServerError::Act(error)),
        }
        tracing::info!(server = %seen.key, run = %object.name_any(), kind = plan.kind.as_str(), steps = ?plan.steps.iter().map(|p| p.step.to_string()).collect::<Vec<_>>(), "run recorded");
        // Who stands there, and whether it runs, is read again before a run first changes anything.
        if let Some(mut memory) = self.memory.get_mut(&seen.key) {
            memory.reading = None;
        }
        Ok(None)
    }

    /// Where the machine finds what the open run boots.
    fn links_of(&self, seen: &Seen) -> Option<corten_boot::links::Links> {
        let claim = seen.observed.claim.as_ref().map(|claim| claim.uid.as_str());
        let run = seen.observed.run.as_ref()?;
        self.ctx
            .links(&seen.server, corten_lifecycle::inband::nonce(run, claim))
    }

    async fn send(&self, seen: &Seen, step: &Step) -> Result<Option<Duration>, ServerError> {
        let (Some(run), Some(bmc), Some(path)) = (&seen.run, &seen.machine.bmc, path(seen)) else {
            return Ok(Some(SILENT));
        };
        let now = Timestamp::now();
        if let Err(at) = self.guards.take(step, now) {
            let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            return Ok(Some(wait.max(Duration::from_millis(50))));
        }
        let machine = Redfish::new(
            bmc.clone(),
            path,
            self.drives_of(seen),
            seen.observed.record.boot_order.clone(),
            seen.observed.record.notes.identity.clone(),
        )
        .booting(self.links_of(seen), at_each_start(&seen.observed));
        let sent = self
            .executor
            .send(run, step, super::observe::before(&seen.observed), &machine)
            .await;
        // What was read before the call says nothing about what is true after it.
        if let Some(mut memory) = self.memory.get_mut(&seen.key) {
            memory.reading = None;
        }
        let run = match sent {
            Ok(run) => run,
            Err(ExecutorError::LeaseTooShort) => {
                tracing::warn!(server = %seen.key, %step, "not sent: this replica's lease ends before the step would; if this goes on, --lease-duration is too short or renewing it too slow");
                return Ok(Some(Duration::from_secs(1)));
            }
            Err(error) => return Err(ServerError::Step(error)),
        };
        let last = run.status.as_ref().and_then(|s| s.results.last());
        tracing::info!(server = %seen.key, run = %run.name_any(), %step, outcome = last.map(|r| r.outcome.as_str()), evidence = last.map(|r| r.evidence.as_str()), "step sent");
        Ok(None)
    }

    /// As the last inventory found them.
    fn drives_of(&self, seen: &Seen) -> Arc<Vec<Drive>> {
        let memory = self.memory.get(&seen.key);
        memory
            .map(|memory| memory.drives.clone())
            .unwrap_or_default()
    }

    async fn follow(&self, seen: &Seen, serial: &str) -> Result<Option<Duration>, ServerError> {
        let (Some(run), Some(bmc), Some(path)) = (&seen.run, &seen.machine.bmc, path(seen)) else {
            return Ok(Some(SILENT));
        };
        let drives = run.status.as_ref().map(|s| s.drives.as_slice());
        let drives = drives.unwrap_or_default();
        let drive = drives.iter().find(|d| d.serial_number == serial);
        let task = drive.and_then(|d| d.task.clone());
        let late = cleanup::overdue(
            drive.and_then(|d| d.started_at),
            Timestamp::now(),
            seen.observed.policy.erase_timeout,
        );
        let expected = seen.observed.record.notes.identity.clone();
        let machine = Redfish::new(
            bmc.clone(),
            path,
            self.drives_of(seen),
            Vec::new(),
            expected,
        );
        let ended = match task {
            Some(task) => machine.erasure(serial, &task).await,
            None => Ok(Erasure::Failed {
                why: "the BMC gave no task to follow, so nothing shows that it was done".into(),
            }),
        };
        // Where the drive is could not be read, so it was not asked.
        let is_unseen = !self
            .drives_of(seen)
            .iter()
            .any(|d| d.serial_number.as_deref() == Some(serial))
            && seen
                .observed
                .inventory
                .as_ref()
                .is_none_or(|read| !read.unread.is_empty());
        let ended = match ended {
            Ok(Erasure::Done { .. }) if is_unseen => Ok(Erasure::Running { percent: None }),
            ended => ended,
        };
        let ended = match (ended, late) {
            // A task that never ends, or is never told of, must not hold the server for ever, nor a person's sign-off.
            (Ok(Erasure::Running { .. }) | Err(_), Some(why)) => Ok(Erasure::Failed { why }),
            (ended, _) => ended,
        };
        match ended {
            Ok(Erasure::Running { percent }) => {
                tracing::debug!(server = %seen.key, serial, percent, "drive is being erased");
                Ok(Some(FOLLOW))
            }
            Ok(ended) => stepped(self.executor.erased(run, serial, &ended).await.map(drop)),
            Err(error) => {
                tracing::debug!(server = %seen.key, serial, %error, "erasure not followed");
                Ok(Some(SILENT))
            }
        }
    }

    async fn discovery_failed(
        &self,
        seen: &Seen,
        message: &str,
    ) -> Result<Option<Duration>, ServerError> {
        let plan = Plan {
            kind: Kind::Discovery,
            occasion: String::new(),
            claim_uid: String::new(),
            actor: "corten".into(),
            steps: Vec::new(),
        };
        let object = run::object(&seen.server, &plan, Timestamp::now());
        let run = self
            .executor
            .records()
            .create(&object)
            .await
            .map_err(ServerError::Act)?;
        if let Some(mut memory) = self.memory.get_mut(&seen.key) {
            // The next try reads anew.
            memory.inventory = None;
        }
        stepped(
            self.executor
                .finish(&run, Phase::Failed, message)
                .await
                .map(drop),
        )
    }
}

/// Addresses, neighbours and carrier, which only the probe sees, stay with the interface of the same MAC address.
pub(super) fn with_links(
    mut found: Vec<NetworkInterface>,
    seen: &[NetworkInterface],
) -> Vec<NetworkInterface> {
    for nic in &mut found {
        let same = seen
            .iter()
            .find(|known| known.mac_address.eq_ignore_ascii_case(&nic.mac_address));
        let Some(known) = same else { continue };
        if nic.ips.is_empty() {
            nic.ips.clone_from(&known.ips);
        }
        if nic.neighbors.is_empty() {
            nic.neighbors.clone_from(&known.neighbors);
        }
        if nic.carrier_status.is_none() {
            nic.carrier_status.clone_from(&known.carrier_status);
        }
    }
    found
}

fn stepped(done: Result<(), ExecutorError>) -> Result<Option<Duration>, ServerError> {
    done.map(|()| None).map_err(ServerError::Step)
}

/// Whether what the open run boots is needed at each start: the image of a claim whose owner says that it lives in memory. Where only its form says
/// so it may be an installer, which would be started again by the restart with which it ends.
fn at_each_start(o: &corten_lifecycle::server::Observed) -> bool {
    let boots_image = o.run.as_ref().is_some_and(|run| {
        matches!(run.kind, Kind::Provisioning | Kind::Power)
            && corten_lifecycle::inband::work(run).is_none()
    });
    let claim = o.claim.as_ref().filter(|claim| !claim.deleting);
    boots_image && claim.is_some_and(|claim| claim.diskless_stated && !claim.written)
}

/// Where the ComputerSystem is: as the BMC showed it last, else as the spec has it.
pub(super) fn path(seen: &Seen) -> Option<String> {
    seen.machine
        .system
        .as_ref()
        .map(|view| view.facts.path.clone())
        .or_else(|| seen.server.spec.system_uri.clone())
        .filter(|path| !path.is_empty())
}

async fn read(bmc: &Bmc, path: &str, priority: Priority) -> Result<Document, GatewayError> {
    gate::pass().await;
    let document = bmc.get(path, priority).await;
    gate::pass().await;
    document
}

/// The object with all that `amendment` says, at the version that was observed.
fn amended(server: &Server, amendment: &Amendment) -> Server {
    let mut amended = server.clone();
    for key in &amendment.remove {
        amended.annotations_mut().remove(*key);
    }
    for (key, value) in &amendment.set {
        amended
            .annotations_mut()
            .insert((*key).to_owned(), value.clone());
    }
    if amendment.unbind {
        amended.spec.server_claim_ref = None;
        amended.spec.boot_configuration_ref = None;
        amended.spec.power = None;
    }
    let ours = |f: &String| f == names::FINALIZER_SERVER;
    let has = amended.finalizers().iter().any(ours);
    match amendment.finalizer {
        Some(true) if !has => amended
            .finalizers_mut()
            .push(names::FINALIZER_SERVER.to_owned()),
        Some(false) => amended.finalizers_mut().retain(|f| !ours(f)),
        _ => {}
    }
    amended
}
