//! One answer for each question of the boot services, without a rule.

use corten_api::corten::{DriveErasure, EraseClass, StepOutcome};
use corten_boot::{Refusal, Target, Ticket};
use corten_kit::{ObjectKey, Subject, conditions};
use corten_lifecycle::{
    identity::Identity,
    inband::{self, Grant, LeftOut, SeenDrive},
    policy::Cleaning,
    run::{Outcome, Step},
    server::Attachment,
};
use corten_wire::{
    BurnIn, EraseGrant, EraseMethod, Hello, Outcome as Told, Progress, Registration, Report,
    RootDeviceHints, Task, Verdict, Welcome, WriteGrant,
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::boots::image;
use crate::server::{Controller, Seen};

/// How the drives of a grant to write stand in the record of the step.
const MAY_WRITE: &str = "it may be written to one of: ";
const BETWEEN: &str = ", ";

/// A probe with nothing to do asks again after so many seconds.
const AGAIN: u32 = 5;
/// Drives that one report may name.
const DRIVES: usize = 512;

impl Controller {
    pub(crate) async fn hello(&self, ticket: &Ticket, hello: &Hello) -> Result<Welcome, Refusal> {
        if hello.machine.drives.len() + hello.machine.unseen.len() > DRIVES {
            return Err(Refusal::Conflict(format!(
                "it lists more than {DRIVES} drives and controllers"
            )));
        }
        let mut seen = self.look_at(ticket).await?;
        seen.observed.call = Some(self.called(&ticket.server, &hello.boot_id));
        let caller = caller(ticket, hello);
        let grant = inband::grant(&seen.observed, &caller);
        // What it waits for may be that the BMC's list is read anew.
        if grant == Grant::Wait {
            self.ctx.fleet.wake(&ticket.server);
        }
        tracing::info!(server = %seen.key, boot = %hello.boot_id, version = %hello.version, drives = hello.machine.drives.len(), granted = grant.word(), "the probe called");
        let waits_for = match grant {
            Grant::Wait => inband::waits_for(&seen.observed),
            _ => None,
        };
        let task = self.task_of(ticket, hello, &seen, grant).await;
        let refused = task.as_ref().err().map(ToString::to_string);
        if let Some(why) = &refused {
            tracing::warn!(server = %seen.key, %why, "nothing is granted");
        }
        self.answered(&ticket.server, refused.or(waits_for));
        Ok(Welcome {
            task: task?,
            again_seconds: AGAIN,
        })
    }

    /// A grant, recorded and put into the probe's words.
    async fn task_of(
        &self,
        ticket: &Ticket,
        hello: &Hello,
        seen: &Seen,
        grant: Grant,
    ) -> Result<Task, Refusal> {
        Ok(match grant {
            Grant::Wait => Task::Wait,
            Grant::PowerOff => Task::PowerOff,
            Grant::Refuse(why) => return Err(Refusal::NotDue(why)),
            Grant::Restarted(step) => {
                self.restarted(seen, &step).await?;
                return Err(Refusal::Conflict(format!(
                    "{step} was granted to an earlier start of the probe"
                )));
            }
            Grant::Inventory => {
                self.give(
                    seen,
                    &Step::ProbeInventory,
                    hello,
                    Vec::new(),
                    String::new(),
                )
                .await?;
                Task::Inventory
            }
            Grant::BurnIn(seconds) => {
                let step = Step::ProbeBurnIn(seconds);
                let id = self
                    .give(seen, &step, hello, Vec::new(), String::new())
                    .await?;
                Task::BurnIn(BurnIn { id, seconds })
            }
            Grant::Erase {
                drives,
                method,
                left_out,
            } => {
                let entries = drives.iter().map(|serial| leave_given(serial));
                let entries = entries.chain(left_out.iter().map(left)).collect();
                let id = self
                    .give(seen, &Step::ProbeErase, hello, entries, String::new())
                    .await?;
                Task::Erase(EraseGrant {
                    id,
                    drives,
                    method: match method {
                        Cleaning::Clear => EraseMethod::Clear,
                        Cleaning::Metadata => EraseMethod::Metadata,
                        _ => EraseMethod::Purge,
                    },
                    clear_tpm: seen.observed.policy.clear_tpm,
                    remove_boot_entries: !seen.observed.policy.keep_boot_entries,
                })
            }
            Grant::Write { drives } => {
                let write = self.write_grant(seen, ticket, drives).await?;
                let may = format!("{MAY_WRITE}{}", write.drives.join(BETWEEN));
                let id = self
                    .give(seen, &Step::ProbeWrite, hello, Vec::new(), may)
                    .await?;
                Task::Write(WriteGrant { id, ..write })
            }
        })
    }

    pub(crate) async fn progress(
        &self,
        ticket: &Ticket,
        progress: &Progress,
    ) -> Result<Verdict, Refusal> {
        self.hear(&ticket.server);
        let seen = self.look_at(ticket).await?;
        let is_its_run = |seen: &Seen| {
            let run = seen.observed.run.as_ref();
            run.is_some_and(|run| run.name == ticket.nonce)
        };
        let under_way = granted(&seen).filter(|(_, id)| *id == progress.id && is_its_run(&seen));
        let Some((step, _)) = under_way else {
            return Ok(Verdict::Stop);
        };
        // Its owner may have gone meanwhile; a claim's disk is not written on for nobody.
        let claim = seen.observed.claim.as_ref();
        let orphaned = step == Step::ProbeWrite && claim.is_none_or(|claim| claim.deleting);
        tracing::debug!(server = %seen.key, %step, percent = progress.percent, "the probe is at work");
        if let Some(run) = &seen.run {
            let shown = self
                .executor
                .progressed(run, &short(&progress.what), progress.percent.min(100))
                .await;
            // Shown late, or with the next tenth: the work does not wait for it.
            if let Err(error) = shown {
                tracing::debug!(server = %seen.key, %error, "progress not shown");
            }
        }
        Ok(if orphaned {
            Verdict::Stop
        } else {
            Verdict::Continue
        })
    }

    pub(crate) async fn report(&self, ticket: &Ticket, report: &Report) -> Result<(), Refusal> {
        let seen = self.look_at(ticket).await?;
        let Some((step, id)) = granted(&seen) else {
            return self.was_told(ticket, report).await;
        };
        let Some(run) = seen
            .run
            .as_ref()
            .filter(|run| id == report.id && run.name_any() == ticket.nonce)
        else {
            return Err(Refusal::Conflict("the report is of another grant".into()));
        };
        let evidence = run
            .status
            .iter()
            .flat_map(|status| &status.results)
            .rfind(|result| result.step == step.to_string())
            .map(|result| result.evidence.as_str())
            .unwrap_or_default();
        if evidence != given_to(&report.boot_id) {
            return Err(Refusal::Conflict(
                "the report is of another start of the probe".into(),
            ));
        }
        let named: Vec<&str> = run
            .status
            .iter()
            .flat_map(|status| &status.drives)
            .filter(|drive| drive.outcome == StepOutcome::Accepted)
            .map(|drive| drive.serial_number.as_str())
            .collect();
        if report.drives.len() > DRIVES
            || step == Step::ProbeErase
                && report
                    .drives
                    .iter()
                    .any(|told| !named.contains(&told.drive.serial_number.as_str()))
        {
            return Err(Refusal::Conflict(
                "the report names drives that the grant does not".into(),
            ));
        }
        let done = report.outcome == Told::Succeeded;
        if done && step == Step::ProbeWrite {
            self.is_written(&seen, report)?;
        }
        if done && step == Step::ProbeInventory {
            return Err(Refusal::Conflict(
                "an inventory has ended when it is registered, and none was".into(),
            ));
        }
        if done && matches!(step, Step::ProbeBurnIn(_)) && !is_sound(report) {
            return Err(Refusal::Conflict(
                "it reports a success of a test that tested nothing, or found something wrong"
                    .into(),
            ));
        }
        let evidence = said(report, done);
        let drives = if step == Step::ProbeErase {
            report.drives.iter().map(erasure).collect()
        } else {
            Vec::new()
        };
        let outcome = if done {
            StepOutcome::Succeeded
        } else {
            StepOutcome::Failed
        };
        tracing::info!(server = %seen.key, %step, outcome = outcome.as_str(), %evidence, "the probe reported");
        self.executor
            .reported(run, &step, outcome, evidence, drives)
            .await
            .map_err(recording)?;
        Ok(())
    }

    /// A report that is recorded already: its answer was lost on the way, and a probe that hears that nobody wants it any more ends its machine's
    /// boot, though all is well.
    async fn was_told(&self, ticket: &Ticket, report: &Report) -> Result<(), Refusal> {
        let key = ObjectKey::cluster(&ticket.nonce);
        let run = match self.ctx.runs.objects.live(&key).await {
            Ok(run) if run.spec.server_ref.uid == ticket.server_uid => Some(run),
            Ok(_) => None,
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(unread(error)),
        };
        let is_known = run.iter().any(|run| {
            let mut results = run.status.iter().flat_map(|status| &status.results);
            let last =
                results.rfind(|result| report.id == format!("{}/{}", ticket.nonce, result.step));
            last.is_some_and(|result| {
                let done = result.outcome == StepOutcome::Succeeded;
                let is_over = done || result.outcome == StepOutcome::Failed;
                is_over
                    && done == (report.outcome == Told::Succeeded)
                    && result.evidence == said(report, done)
            })
        });
        if is_known {
            Ok(())
        } else {
            Err(Refusal::Conflict("no work of a probe is under way".into()))
        }
    }

    pub(crate) async fn register(
        &self,
        ticket: &Ticket,
        registration: &Registration,
    ) -> Result<(), Refusal> {
        let seen = self.look_at(ticket).await?;
        let open = seen.observed.run.as_ref();
        let open = open.filter(|run| run.name == ticket.nonce);
        let told = open.and_then(|run| run.last(&Step::ProbeInventory));
        // Told again, because the answer was lost or by habit: what cleaning is judged by was recorded before, and stays.
        if told.is_some_and(|told| told.outcome == Outcome::Succeeded) {
            return Ok(());
        }
        inband::boots(&seen.observed, &ticket.nonce).map_err(Refusal::NotDue)?;
        let who = registers(&expected(&seen), registration)?;
        // What is told in another run's time is no inventory.
        if open.is_none_or(|run| !run.plan.contains(&Step::ProbeInventory)) {
            return Err(not_asked());
        }
        let seen = Box::pin(self.given_unasked(ticket, seen, who)).await?;
        self.record_registration(&seen, registration).await?;
        if let (Some((Step::ProbeInventory, _)), Some(run)) = (granted(&seen), &seen.run) {
            self.executor
                .reported(
                    run,
                    &Step::ProbeInventory,
                    StepOutcome::Succeeded,
                    "the probe registered what it saw".into(),
                    Vec::new(),
                )
                .await
                .map_err(recording)?;
        }
        Ok(())
    }

    /// The original's probe does not say hello: an inventory that is due is granted when it registers, and nothing else ever is.
    async fn given_unasked(
        &self,
        ticket: &Ticket,
        seen: Seen,
        identity: Identity,
    ) -> Result<Seen, Refusal> {
        let silent = Hello::default();
        let caller = inband::Caller {
            identity,
            ..caller(ticket, &silent)
        };
        match inband::grant(&seen.observed, &caller) {
            Grant::Inventory if granted(&seen).is_some() => return Ok(seen),
            Grant::Inventory => {}
            Grant::Refuse(why) => return Err(Refusal::NotDue(why)),
            _ => return Err(not_asked()),
        }
        let step = Step::ProbeInventory;
        self.give(&seen, &step, &silent, Vec::new(), String::new())
            .await?;
        self.look_at(ticket).await
    }

    pub(crate) async fn booted(
        &self,
        ticket: &Ticket,
        system_uuid: Option<&str>,
    ) -> Result<(), Refusal> {
        let seen = self.look_at(ticket).await?;
        self.is_of_the_claim(&seen, ticket).await?;
        let told = Identity::new(system_uuid.unwrap_or_default(), "");
        if !told.is_empty() && expected(&seen).is_denied_from_inside(&told) {
            return Err(Refusal::Conflict(
                "another machine says that it was booted".into(),
            ));
        }
        let Some(boot) = self.ctx.boot_of(&seen.server) else {
            return Err(Refusal::Nothing(
                "the server has no boot configuration".into(),
            ));
        };
        let shown = boot.status.as_ref().is_some_and(|status| {
            conditions::get(&status.conditions, BOOT_STATE_RECEIVED)
                .is_some_and(|shown| shown.status == "True")
        });
        if !shown {
            self.ctx.events.normal(
                &Subject::of(&*boot),
                "Booted",
                "the booted system says that it runs",
            );
            let mut condition = Vec::new();
            conditions::set(
                &mut condition,
                conditions::yes(
                    BOOT_STATE_RECEIVED,
                    "Booted",
                    "the booted system says that it runs",
                ),
                boot.metadata.generation,
                Timestamp::now(),
            );
            // A writer of its own: what the boot controller says of the image stays its own.
            self.ctx
                .booted
                .apply_status(&*boot, &json!({ "conditions": condition }))
                .await
                .map_err(unread)?;
        }
        Ok(())
    }

    /// The boot of the ticket was for the claim that has the server now, not for a former one.
    async fn is_of_the_claim(&self, seen: &Seen, ticket: &Ticket) -> Result<(), Refusal> {
        let claim = seen.observed.claim.as_ref().filter(|claim| {
            !claim.deleting && seen.observed.record.notes.claim_uid.as_ref() == Some(&claim.uid)
        });
        let Some(claim) = claim else {
            return Err(Refusal::NotDue("no claim has this server".into()));
        };
        if ticket.nonce == claim.uid {
            return Ok(());
        }
        let key = ObjectKey::cluster(&ticket.nonce);
        let run = self.ctx.runs.objects.live(&key).await.map_err(unread)?;
        let is_its = run.spec.claim_uid.as_deref() == Some(claim.uid.as_str())
            && run.spec.server_ref.uid == ticket.server_uid;
        if is_its {
            Ok(())
        } else {
            Err(Refusal::NotDue(
                "the boot was for another claim than the present one".into(),
            ))
        }
    }

    /// Records that leave is given. What it is called, for the reports.
    async fn give(
        &self,
        seen: &Seen,
        step: &Step,
        hello: &Hello,
        drives: Vec<DriveErasure>,
        message: String,
    ) -> Result<String, Refusal> {
        let Some(run) = &seen.run else {
            return Err(Refusal::NotDue("its run has ended".into()));
        };
        let again = granted(seen).is_some_and(|(known, _)| known == *step);
        if !again {
            self.executor
                .granted(run, step, given_to(&hello.boot_id), drives, message)
                .await
                .map_err(recording)?;
        }
        Ok(grant_id(&run.name_any(), step))
    }

    /// A success is one of the image that was granted, read back, on a drive that has a name.
    fn is_written(&self, seen: &Seen, report: &Report) -> Result<(), Refusal> {
        let Target::Image { digest, .. } = image(self, seen)? else {
            return Err(Refusal::Conflict("no image is to be written".into()));
        };
        let wanted = self.disk(&digest)?.sha256;
        let results = seen.run.iter().flat_map(|run| &run.status);
        let may: Vec<&str> = results
            .flat_map(|status| &status.results)
            .filter(|result| result.step == Step::ProbeWrite.to_string())
            .filter_map(|result| result.message.strip_prefix(MAY_WRITE))
            .flat_map(|serials| serials.split(BETWEEN))
            .collect();
        let is_good = report.write.as_ref().is_some_and(|write| {
            let serial = write.drive.serial_number.as_str();
            write.verified
                && write.sha256.eq_ignore_ascii_case(&wanted)
                && !serial.is_empty()
                && may.contains(&serial)
        });
        if is_good {
            Ok(())
        } else {
            Err(Refusal::Conflict(
                "it reports a success without the granted image, read back from a drive of the grant".into(),
            ))
        }
    }

    fn disk(&self, digest: &str) -> Result<crate::config::DiskImage, Refusal> {
        let images = self.ctx.config.services.as_ref();
        images
            .and_then(|services| services.images.as_ref())
            .and_then(|images| images.disk(digest))
            .ok_or_else(|| Refusal::NotNow("its image is being fetched again".into()))
    }

    /// What an earlier start of the probe was at has ended, and nothing shows that it was done.
    async fn restarted(&self, seen: &Seen, step: &Step) -> Result<(), Refusal> {
        let Some(run) = &seen.run else { return Ok(()) };
        let why = format!("the machine was started again while the probe was at {step}");
        tracing::warn!(server = %seen.key, %step, "{why}");
        self.executor
            .reported(run, step, StepOutcome::Failed, why, Vec::new())
            .await
            .map_err(recording)?;
        Ok(())
    }

    async fn write_grant(
        &self,
        seen: &Seen,
        ticket: &Ticket,
        drives: Vec<String>,
    ) -> Result<WriteGrant, Refusal> {
        let links = self
            .ctx
            .links(&seen.server, &ticket.nonce)
            .ok_or_else(|| Refusal::NotNow("no boot services".into()))?;
        let hints = self.hints(seen).map_err(Refusal::Conflict)?;
        let Target::Image { digest, .. } = image(self, seen)? else {
            return Err(Refusal::Nothing("no image is to be written".into()));
        };
        let disk = self.disk(&digest)?;
        let data = self.user_data(ticket).await?;
        let has_data = [&data.user_data, &data.ignition, &data.network_config]
            .iter()
            .any(|told| told.is_some());
        Ok(WriteGrant {
            url: links.image(),
            sha256: Some(disk.sha256),
            compression: disk.packing.to_owned(),
            hints,
            drives,
            config_drive: has_data.then(|| links.config_drive()),
            then: "reboot".into(),
            ..WriteGrant::default()
        })
    }

    fn hints(&self, seen: &Seen) -> Result<RootDeviceHints, String> {
        self.ctx.root_device_hints(&seen.server)
    }
}

/// Condition type of the original: the booted system has called.
const BOOT_STATE_RECEIVED: &str = "BootStateReceived";

fn not_asked() -> Refusal {
    Refusal::NotDue("nobody asks this machine for an inventory now".into())
}

/// Who registers. The original's probe is given its UUID by whoever starts it, so what SMBIOS says counts too, where it is told.
fn registers(expected: &Identity, registration: &Registration) -> Result<Identity, Refusal> {
    let inside = &registration.data.system_info.system_information;
    let who = Identity::new(&registration.system_uuid, &inside.serial_number);
    let smbios = Identity::new(&inside.uuid, &inside.serial_number);
    let is_other = |told: &Identity| expected.is_denied_from_inside(told);
    let other = if is_other(&who) {
        &who
    } else if !smbios.uuid.is_empty() && is_other(&smbios) {
        &smbios
    } else {
        return Ok(who);
    };
    Err(Refusal::Conflict(format!(
        "it registers {other}, and its token is for {expected}"
    )))
}

/// The work that was granted and has not ended, and what its grant is called.
fn granted(seen: &Seen) -> Option<(Step, String)> {
    let run = seen.observed.run.as_ref()?;
    let step = inband::work(run)?;
    let is_open = run
        .last(&step)
        .is_some_and(|done| done.outcome == Outcome::Accepted);
    is_open.then(|| {
        let id = grant_id(&run.name, &step);
        (step, id)
    })
}

fn grant_id(run: &str, step: &Step) -> String {
    format!("{run}/{step}")
}

fn given_to(boot_id: &str) -> String {
    let id: String = boot_id.chars().take(64).collect();
    format!("given to the probe's start {id}")
}

fn expected(seen: &Seen) -> Identity {
    let noted = seen.observed.record.notes.identity.clone();
    noted.unwrap_or_else(|| crate::run::identity(&seen.server))
}

fn caller(ticket: &Ticket, hello: &Hello) -> inband::Caller {
    let machine = &hello.machine;
    inband::Caller {
        run: ticket.nonce.clone(),
        identity: Identity::new(&machine.system_uuid, &machine.serial_number),
        start: given_to(&hello.boot_id),
        drives: machine
            .drives
            .iter()
            .map(|drive| SeenDrive {
                serial: short(&drive.serial_number),
                model: short(&drive.model),
                attachment: Attachment::parse(&drive.attachment),
                untouchable: drive.untouchable.as_deref().map(short),
            })
            .collect(),
        unseen: machine.unseen.iter().map(|text| short(text)).collect(),
    }
}

fn short(text: &str) -> String {
    text.chars().take(256).collect()
}

fn leave_given(serial: &str) -> DriveErasure {
    DriveErasure {
        outcome: StepOutcome::Accepted,
        message: "the probe was given leave to erase it, and has not reported it yet".into(),
        ..entry(serial)
    }
}

/// A drive that the grant does not name. A local one keeps the server in Cleanup.
fn left(left: &LeftOut) -> DriveErasure {
    DriveErasure {
        model: left.drive.model.clone(),
        attachment: left.drive.attachment.as_str().to_owned(),
        outcome: StepOutcome::NotSent,
        message: left.why.clone(),
        ..entry(&left.drive.serial)
    }
}

fn entry(serial: &str) -> DriveErasure {
    DriveErasure {
        serial_number: serial.to_owned(),
        model: String::new(),
        attachment: String::new(),
        method: String::new(),
        class: EraseClass::None,
        verified: false,
        outcome: StepOutcome::NotSent,
        message: String::new(),
        task: None,
        started_at: Some(Timestamp::now()),
        finished_at: None,
    }
}

/// A test that tested memory, and found nothing wrong. A machine may have no drive.
fn is_sound(report: &Report) -> bool {
    let result = report.burn_in.as_ref();
    result.is_some_and(|result| result.errors.is_empty() && result.memory_bytes > 0)
}

fn said(report: &Report, done: bool) -> String {
    let mib = |bytes: u64| bytes >> 20;
    let text = match (&report.write, done) {
        (None, true) if report.burn_in.is_some() => {
            let result = report.burn_in.clone().unwrap_or_default();
            format!(
                "{} MiB of memory were written and read back and {} MiB of drives read, and nothing was wrong",
                mib(result.memory_bytes),
                mib(result.drive_bytes)
            )
        }
        (Some(write), true) => format!(
            "{} bytes written to {} in {} s, sha256 {}{}{}",
            write.bytes,
            write.drive.serial_number,
            write.seconds,
            write.sha256,
            if write.verified { ", read back" } else { "" },
            // Such as that firmware took no boot entry: it is said where somebody looks why another system was started.
            match report.message.as_str() {
                "" => String::new(),
                more => format!("; {more}"),
            }
        ),
        (None, true) => format!("{} drive(s) reported", report.drives.len()),
        (_, false) => format!("the probe could not do it: {}", report.message),
    };
    text.chars().take(1024).collect()
}

fn erasure(told: &corten_wire::DriveResult) -> DriveErasure {
    let done = told.outcome == Told::Succeeded;
    DriveErasure {
        serial_number: told.drive.serial_number.clone(),
        model: told.drive.model.chars().take(256).collect(),
        attachment: String::new(),
        method: told.method.chars().take(256).collect(),
        class: match told.class {
            corten_wire::EraseClass::Purge => EraseClass::Purge,
            corten_wire::EraseClass::Clear => EraseClass::Clear,
            corten_wire::EraseClass::Metadata => EraseClass::Metadata,
            corten_wire::EraseClass::None => EraseClass::None,
        },
        verified: told.verified,
        outcome: if done {
            StepOutcome::Succeeded
        } else {
            StepOutcome::Failed
        },
        message: told.message.chars().take(1024).collect(),
        task: None,
        started_at: None,
        finished_at: Some(Timestamp::now()),
    }
}

/// An answer that could not be looked up, or recorded, is none.
pub(super) fn unread(error: corten_kit::Error) -> Refusal {
    if error.is_not_found() {
        Refusal::NotDue("its objects are gone".into())
    } else {
        Refusal::NotNow(error.to_string())
    }
}

pub(super) fn recording(error: crate::executor::ExecutorError) -> Refusal {
    match error {
        crate::executor::ExecutorError::Record(error) if error.is_conflict() => {
            Refusal::NotNow("its run has changed meanwhile".into())
        }
        error => Refusal::NotNow(error.to_string()),
    }
}
