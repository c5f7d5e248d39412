//! Erasing the drives that a grant names, and proving it. `docs/cleaning.md` says which method when.
//!
//! The entry is [`drives`]. Each drive has a thread: guard, samples, then the methods from the strongest on until one succeeds **and** its samples
//! show nothing of what was there. [`guard::check`] runs before each step that destroys.

pub mod ata;
pub mod guard;
pub mod method;
pub mod nvme;
pub mod plain;
pub mod scsi;
pub mod verify;

use crate::device::world::World;
use crate::device::{CommandSet, Device};
use crate::inventory::drives::Found;
use crate::say;
use crate::stop::Stop;
use corten_wire::{DriveName, DriveResult, EraseClass, EraseGrant, EraseMethod, Outcome};
use method::Method;
use std::io;
use std::sync::Mutex;
use std::time::Instant;

/// Why a method did not end well.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// Work is to end. Nothing more is begun.
    #[error("stopped: {0}")]
    Stopped(String),
    /// The drive is not, or not any more, one that may be erased. Nothing more is begun.
    #[error("refused: {0}")]
    Refused(String),
    /// The drive cannot, or failed. Another method may help.
    #[error(transparent)]
    Drive(#[from] io::Error),
}

/// What a method is given.
pub struct Job<'a> {
    /// The drive.
    pub device: &'a Device,
    /// First bytes of the partitions that were there.
    pub partitions: &'a [u64],
    /// The word that ends the work.
    pub stop: &'a Stop,
    /// Told how far the drive is, in percent.
    pub progress: &'a (dyn Fn(u8) + Sync),
}

impl Job<'_> {
    /// Fails where work is to end.
    ///
    /// # Errors
    /// [`EraseError::Stopped`].
    pub fn go_on(&self) -> Result<(), EraseError> {
        self.stop
            .reason()
            .map_or(Ok(()), |reason| Err(EraseError::Stopped(reason)))
    }
}

/// Erases all drives of the grant, at the same time; one result each, in the grant's order. `progress` gets the mean in percent.
pub fn drives(
    world: &dyn World,
    grant: &EraseGrant,
    stop: &Stop,
    progress: &(dyn Fn(u8) + Sync),
) -> Vec<DriveResult> {
    let mut serials: Vec<&String> = Vec::new();
    for serial in &grant.drives {
        if !serials.contains(&serial) {
            serials.push(serial);
        }
    }
    let shares = Mutex::new(vec![0_u8; serials.len()]);
    let shares = &shares;
    std::thread::scope(|scope| {
        let threads: Vec<_> = serials
            .iter()
            .enumerate()
            .map(|(index, serial)| {
                scope.spawn(move || {
                    one(world, serial, grant.method, stop, &|percent| {
                        let mut shares = shares
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner);
                        if let Some(share) = shares.get_mut(index) {
                            *share = percent.min(100);
                        }
                        let sum: usize = shares.iter().map(|share| usize::from(*share)).sum();
                        progress(u8::try_from(sum / shares.len().max(1)).unwrap_or(100));
                    })
                })
            })
            .collect();
        threads
            .into_iter()
            .zip(&serials)
            .map(|(thread, serial)| {
                thread
                    .join()
                    .unwrap_or_else(|_| failure(serial, "the probe broke off"))
            })
            .collect()
    })
}

fn failure(serial: &str, message: impl Into<String>) -> DriveResult {
    DriveResult {
        drive: DriveName {
            serial_number: serial.to_owned(),
            ..DriveName::default()
        },
        message: message.into(),
        ..DriveResult::default()
    }
}

fn one(
    world: &dyn World,
    serial: &str,
    wanted: EraseMethod,
    stop: &Stop,
    progress: &(dyn Fn(u8) + Sync),
) -> DriveResult {
    let begun = Instant::now();
    let mut result = match guard::find(world, serial) {
        Ok(found) => erase(world, &found, wanted, stop, progress),
        Err(reason) => failure(serial, reason),
    };
    result.seconds = u32::try_from(begun.elapsed().as_secs()).unwrap_or(u32::MAX);
    progress(100);
    say!(
        "drive {serial}: {:?} {} {:?} verified {} {}",
        result.outcome,
        result.method,
        result.class,
        result.verified,
        result.message
    );
    result
}

fn erase(
    world: &dyn World,
    found: &Found,
    wanted: EraseMethod,
    stop: &Stop,
    progress: &(dyn Fn(u8) + Sync),
) -> DriveResult {
    let mut result = DriveResult {
        drive: found.name(),
        ..DriveResult::default()
    };
    let device = match world.open(found) {
        Ok(device) => device,
        Err(error) => {
            result.message = format!("cannot be claimed: {error}");
            return result;
        }
    };
    let mut told = Vec::new();
    if let CommandSet::Ata(ata) = &device.commands
        && wanted != EraseMethod::Metadata
        && guard::check(world, found, &device).is_ok()
    {
        told.extend(ata::regain(&**ata));
    }
    let partitions = world.partitions(found);
    let plan = method::plan(&device, wanted, &mut told);
    // A drive that cannot be read is erased all the same, but never called verified.
    let mut before = device
        .block
        .settle()
        .and_then(|()| verify::Samples::take(&*device.block, &partitions, wanted));
    let job = Job {
        device: &device,
        partitions: &partitions,
        stop,
        progress,
    };
    let is_still_it = || guard::check(world, found, &device).map_err(EraseError::Refused);
    for method in plan {
        let done = job.go_on().and_then(|()| is_still_it()).and_then(|()| {
            if let Ok(before) = &mut before
                && !method.leaves_zeros()
            {
                // A drive that takes no writes may erase itself all the same; it is not called verified.
                if let Err(error) = before.stamp(&*device.block) {
                    told.push(format!("{}: cannot be stamped: {error}", method.name()));
                }
                is_still_it()?;
            }
            method.run(&job)
        });
        match done {
            Ok(()) => {
                result.method = method.name().to_owned();
                let verdict = before
                    .as_ref()
                    .map_err(|error| format!("it could not be read before: {error}"))
                    .and_then(|before| before.compare(&*device.block, method));
                match verdict {
                    Ok(()) => {
                        result.class = method.class();
                        result.verified = true;
                        result.outcome = Outcome::Succeeded;
                        break;
                    }
                    Err(why) => told.push(format!("{}: not verified: {why}", method.name())),
                }
            }
            Err(EraseError::Drive(error)) => told.push(format!("{}: {error}", method.name())),
            Err(error) => {
                told.push(error.to_string());
                break;
            }
        }
    }
    if result.outcome == Outcome::Failed {
        result.class = EraseClass::None;
        if told.is_empty() {
            told.push("no method is left".to_owned());
        }
    }
    let _ = device.block.reread_partitions();
    result.message = told.join("; ");
    result
}

/// What a drive can, strongest first, and what stands in the way: for the inventory.
#[must_use]
pub fn abilities(device: &Device) -> (Vec<String>, Vec<String>) {
    let mut obstacles = Vec::new();
    let methods = method::plan(device, EraseMethod::Purge, &mut obstacles)
        .into_iter()
        .map(|method| method.name().to_owned())
        .collect();
    (methods, obstacles)
}

impl Method {
    fn run(self, job: &Job<'_>) -> Result<(), EraseError> {
        match (self, &job.device.commands) {
            (
                Self::NvmeSanitizeCrypto
                | Self::NvmeSanitizeBlock
                | Self::NvmeFormatCrypto
                | Self::NvmeFormatUser,
                CommandSet::Nvme(admin, namespace),
            ) => nvme::run(&**admin, *namespace, self, job),
            (Self::AtaEnhanced | Self::AtaNormal, CommandSet::Ata(ata)) => {
                ata::run(&**ata, self == Self::AtaEnhanced)
            }
            (
                Self::ScsiSanitizeCrypto | Self::ScsiSanitizeBlock | Self::ScsiSanitizeOverwrite,
                CommandSet::Scsi(scsi),
            ) => scsi::run(&**scsi, self, job),
            (Self::SecureDiscard | Self::ZeroOut | Self::Overwrite, _) => plain::whole(self, job),
            (Self::Metadata, _) => plain::metadata(job),
            _ => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    }
}

#[cfg(test)]
mod tests;
