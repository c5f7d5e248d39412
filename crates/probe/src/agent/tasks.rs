//! Granted tasks: what is told while they run, and what is reported of each.

use super::{Agent, Pace};
use crate::efi::variables::is_uefi;
use crate::inventory::drives::{Attachment, Found};
use crate::inventory::root::Root;
use crate::registry::{CallError, Registry, chain};
use crate::say;
use crate::stop::Stop;
use crate::write::config_drive::Start;
use corten_wire::{
    BurnIn, DriveName, EraseGrant, Outcome, Progress, Report, Verdict, WriteGrant, path,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Tells the registry how far a task is, and hears when it must stop.
pub struct Watch {
    progress: Arc<Mutex<Progress>>,
    stop: Stop,
    ended: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn begin(id: &str, registry: &Registry, pace: &Pace, outer: &Stop) -> Self {
        let progress = Arc::new(Mutex::new(Progress {
            id: id.to_owned(),
            ..Progress::default()
        }));
        let (stop, ended) = (Stop::default(), Stop::default());
        let thread = std::thread::spawn({
            let teller = Teller {
                progress: Arc::clone(&progress),
                registry: registry.clone(),
                pace: pace.clone(),
                outer: outer.clone(),
                stop: stop.clone(),
                ended: ended.clone(),
            };
            move || teller.run()
        });
        Self {
            progress,
            stop,
            ended,
            thread: Some(thread),
        }
    }

    /// The word that ends the task.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Says how far the task is.
    pub fn say(&self, what: impl Into<String>, percent: u8) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.what = what.into();
        progress.percent = percent.min(100);
    }

    pub(super) fn end(mut self) {
        self.ended.stop("done");
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Teller {
    progress: Arc<Mutex<Progress>>,
    registry: Registry,
    pace: Pace,
    outer: Stop,
    stop: Stop,
    ended: Stop,
}

impl Teller {
    fn run(self) {
        let mut heard = Instant::now();
        loop {
            let progress = self
                .progress
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            match self.registry.post::<Verdict>(path::PROGRESS, &progress) {
                Ok(Verdict::Continue) => heard = Instant::now(),
                Ok(Verdict::Stop) => self.stop.stop("the registry takes the grant back"),
                // Whoever does not know the grant any more has taken it back too.
                Err(CallError::Refused {
                    status: status @ (401 | 403 | 404 | 409 | 410),
                    ..
                }) => self
                    .stop
                    .stop(format!("the registry does not know the grant ({status})")),
                Err(error) => {
                    if heard.elapsed() > self.pace.patience {
                        self.stop
                            .stop(format!("the registry is gone: {}", chain(&error)));
                    }
                }
            }
            if let Some(reason) = self.stop.reason() {
                say!("stop: {reason}");
                return;
            }
            if self.ended.wait(self.pace.progress) {
                return;
            }
            if let Some(reason) = self.outer.reason() {
                self.stop.stop(reason);
            }
        }
    }
}

fn failed(message: impl Into<String>) -> Report {
    Report {
        outcome: Outcome::Failed,
        message: message.into(),
        ..Report::default()
    }
}

/// Drives of this machine that were not there when leave was asked for: nobody has judged them, and nothing was erased on them.
fn newcomers(shown: &[DriveName], now: &[Found]) -> Vec<String> {
    now.iter()
        .filter(|found| matches!(found.attachment, Attachment::Local | Attachment::Ambiguous))
        .map(|found| (found.name(), &found.kernel_name))
        .filter(|(name, _)| {
            let is_it = |known: &&DriveName| {
                known.serial_number == name.serial_number && known.model == name.model
            };
            let before = shown.iter().filter(is_it).count();
            let same = now
                .iter()
                .map(Found::name)
                .filter(|name| is_it(&name))
                .count();
            before < same
        })
        .map(|(name, kernel)| {
            format!(
                "{kernel} ({} {}): it appeared after leave was given and was not erased",
                name.model, name.serial_number
            )
        })
        .collect()
}

impl Agent {
    pub(super) fn burn_in(&self, limits: &BurnIn, watch: &Watch) -> Report {
        let result = crate::burnin::run(&self.root, limits, watch.stop(), &|percent| {
            watch.say("burn-in", percent);
        });
        let stopped = watch.stop().reason();
        let is_good = result.errors.is_empty() && stopped.is_none();
        Report {
            outcome: if is_good {
                Outcome::Succeeded
            } else {
                Outcome::Failed
            },
            message: stopped.unwrap_or_else(|| result.errors.join("; ")),
            burn_in: Some(result),
            ..Report::default()
        }
    }

    pub(super) fn erase(&self, grant: &EraseGrant, watch: &Watch) -> Report {
        // A machine without drives has a firmware and a TPM nevertheless; whether it has none is not this side's to judge. What the last tenant left in the firmware goes first, so that a cleaning which is cut short leaves none of it.
        let left = crate::cleanup::boot_entries(&self.root, grant);
        let drives = crate::erase::drives(&self.root, grant, watch.stop(), &|percent| {
            watch.say("erasing", percent);
        });
        let mut told: Vec<String> = drives
            .iter()
            .filter(|result| result.outcome == Outcome::Failed)
            .map(|result| format!("{}: {}", result.drive.serial_number, result.message))
            .collect();
        told.extend(newcomers(
            &self.shown,
            &crate::inventory::drives::scan(&self.root),
        ));
        told.extend(left);
        told.extend(crate::cleanup::clear_tpm(&self.root, grant));
        let is_good = told.is_empty();
        if is_good && grant.drives.is_empty() {
            told.push("the grant names no drive".to_owned());
        }
        Report {
            outcome: if is_good {
                Outcome::Succeeded
            } else {
                Outcome::Failed
            },
            message: told.join("; "),
            drives,
            ..Report::default()
        }
    }

    pub(super) fn write(&self, grant: &WriteGrant, watch: &Watch) -> Report {
        let work = crate::write::Work {
            world: &self.root,
            fetch: &|url, offset| self.registry.open(url, offset),
            stop: watch.stop(),
            progress: &|what, percent| watch.say(what, percent),
        };
        match crate::write::image(&work, grant) {
            Ok(written) => match aim(&self.root, &written.start) {
                Ok(message) => Report {
                    outcome: Outcome::Succeeded,
                    message,
                    write: Some(written.result),
                    ..Report::default()
                },
                Err(message) => failed(message),
            },
            Err(message) => failed(message),
        }
    }
}

/// Has the firmware start the system partition that was written; gives what could not be done.
///
/// # Errors
/// Nothing that was written can be started.
fn aim(root: &Root, start: &Start) -> Result<String, String> {
    let is_uefi = is_uefi(root);
    let partition = match start {
        Start::Partition(partition) => partition,
        Start::Nothing if is_uefi => {
            return Err("the image is written, and nothing in it can be started: the machine starts by UEFI, and the image has no EFI system partition. Take one for UEFI".to_owned());
        }
        Start::Unknown if is_uefi => {
            return Ok(
                "the image has no GPT, so the boot order was left to the firmware".to_owned(),
            );
        }
        Start::Nothing | Start::Unknown => return Ok(String::new()),
    };
    // The image is there: a firmware that takes no entry may still start the disk by itself or by the BMC's word.
    Ok(crate::write::boot::from_disk(root, partition)
        .err()
        .map(|error| format!("the boot order could not be set: {error}"))
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::drives::{scan, tests::lay};

    #[test]
    fn an_image_that_uefi_cannot_start_is_not_called_installed() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        assert_eq!(aim(&root, &Start::Nothing), Ok(String::new()), "a BIOS");
        std::fs::create_dir_all(folder.path().join("sys/firmware/efi")).unwrap();
        let said = aim(&root, &Start::Nothing).unwrap_err();
        assert!(said.contains("no EFI system partition"), "{said}");
        let said = aim(&root, &Start::Unknown).unwrap();
        assert!(said.contains("left to the firmware"), "{said}");
    }

    #[test]
    fn a_drive_that_appears_while_others_are_erased_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        let files = |serial: &'static str| [("size", "2048"), ("serial", serial)];
        lay(folder.path(), "pci0/virtio1/block/vda", &files("A"));
        let shown: Vec<DriveName> = scan(&root).iter().map(Found::name).collect();
        assert!(newcomers(&shown, &scan(&root)).is_empty());
        lay(folder.path(), "pci0/virtio2/block/vdb", &files("B"));
        let told = newcomers(&shown, &scan(&root));
        assert!(told.len() == 1 && told[0].contains("vdb"), "{told:?}");
    }
}
