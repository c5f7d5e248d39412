//! Writing an image to the one drive that the grant's hints choose, and proving it.
//!
//! The entry is [`image`]. The first MiB — boot sector and partition table — is held back and written last, after everything else has arrived, the
//! digest fits, it was read back and the config drive is there: a drive whose writing was cut short has no partition table, and nothing boots from it
//! by mistake, neither half an image nor a whole one without its user data.

pub mod boot;
pub mod config_drive;
pub mod decompress;
pub mod gpt;
pub mod held;
pub mod hints;
pub mod source;

use crate::device::world::World;
use crate::device::{BlockDevice, Device};
use crate::erase::guard;
use crate::inventory::drives::Found;
use crate::registry::{CallError, Transfer, chain};
use crate::stop::Stop;
use corten_wire::{WriteGrant, WriteResult};
use decompress::decoder;
use held::Held;
use sha2::{Digest, Sha256};
use source::Source;
use std::io::{self, Read};
use std::time::Instant;

/// Held back until the end.
const HEAD: usize = 1 << 20;
const STEP: usize = 4 << 20;
/// Written before the kernel is made to write back, so that a stop does not wait for gigabytes.
const UNSETTLED: u64 = 64 << 20;
/// A config drive may be so large.
const CONFIG_LIMIT: u64 = 64 << 20;

/// Opens a URL from a byte on.
pub type Fetch<'a> = dyn Fn(&str, u64) -> Result<Transfer, CallError> + Sync + 'a;

/// What writing needs besides the grant.
pub struct Work<'a> {
    /// The drives.
    pub world: &'a dyn World,
    /// Where bytes come from.
    pub fetch: &'a Fetch<'a>,
    /// The word that ends the work.
    pub stop: &'a Stop,
    /// Told what is done and how far it is, in percent.
    pub progress: &'a (dyn Fn(&str, u8) + Sync),
}

/// A drive with an image on it.
#[derive(Clone, Debug)]
pub struct Written {
    /// For the report.
    pub result: WriteResult,
    /// What of it firmware can start.
    pub start: config_drive::Start,
}

/// Writes the image.
///
/// # Errors
/// For people. Nothing was written where the hints or the guard refused; else the drive is left without a partition table.
pub fn image(work: &Work<'_>, grant: &WriteGrant) -> Result<Written, String> {
    let begun = Instant::now();
    let found = hints::choose(&work.world.scan(), &grant.hints, &grant.drives)?;
    let found = guard::find(work.world, &found.serial_number)?;
    let config = grant
        .config_drive
        .as_deref()
        .map(|url| small(work, url))
        .transpose()?;
    let mut source = Source::open(work.fetch, &grant.url, work.stop)
        .map_err(|error| format!("the image cannot be had: {}", chain(&error)))?;
    let device = work
        .world
        .open(&found)
        .map_err(|error| format!("{} cannot be claimed: {error}", found.kernel_name))?;
    let name = decompress::name(&grant.compression, source.peek().map_err(text)?)?;
    if name == "none"
        && source
            .total()
            .is_some_and(|total| total > device.block.size())
    {
        return Err(format!(
            "the image has {} bytes, the drive {}",
            source.total().unwrap_or_default(),
            device.block.size()
        ));
    }
    guard::check(work.world, &found, &device).map_err(|reason| format!("refused: {reason}"))?;
    let done = write(
        work,
        grant,
        &found,
        &device,
        source,
        name,
        config.as_deref(),
    );
    if matches!(done, Err(Unwritten::Failed(_))) {
        let _ = wipe_ends(&*device.block);
    }
    let _ = device.block.reread_partitions();
    let (bytes, sha256, start) = done.map_err(|error| match error {
        Unwritten::Failed(reason) | Unwritten::Stopped(reason) => reason,
    })?;
    Ok(Written {
        result: WriteResult {
            drive: found.name(),
            bytes,
            sha256,
            verified: true,
            seconds: u32::try_from(begun.elapsed().as_secs()).unwrap_or(u32::MAX),
        },
        start,
    })
}

fn text(error: io::Error) -> String {
    error.to_string()
}

/// Why an image is not on the drive.
enum Unwritten {
    /// What was written so far must not be started.
    Failed(String),
    /// Leave to write does not hold any more, or the drive is another one: nothing more is written, whatever is on it.
    Stopped(String),
}

impl From<String> for Unwritten {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

type Done = (u64, String, config_drive::Start);

fn write(
    work: &Work<'_>,
    grant: &WriteGrant,
    found: &Found,
    device: &Device,
    mut source: Source<'_>,
    name: &str,
    config: Option<&[u8]>,
) -> Result<Done, Unwritten> {
    let block = &*device.block;
    let total = source.total();
    let position = source.position();
    let mut hash = Sha256::new();
    let mut head = Vec::new();
    let mut at = 0_u64;
    {
        let mut image = decoder(name, &mut source).map_err(text)?;
        let mut buffer = vec![0_u8; STEP];
        let mut unsettled = 0;
        loop {
            if let Some(reason) = work.stop.reason() {
                return Err(Unwritten::Stopped(format!("stopped: {reason}")));
            }
            let want = if head.len() < HEAD { HEAD } else { STEP };
            let length = fill(&mut image, buffer.get_mut(..want).unwrap_or_default())
                .map_err(|error| format!("the image ends badly: {error}"))?;
            let bytes = buffer.get(..length).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if at.saturating_add(length as u64) > block.size() {
                return Err(Unwritten::Failed(format!(
                    "the image is larger than the drive of {} bytes",
                    block.size()
                )));
            }
            hash.update(bytes);
            if head.is_empty() {
                head = bytes.to_vec();
                if !is_disk(&head) {
                    return Err(Unwritten::Stopped(
                        "the image has neither a boot sector nor a partition table, so it is no disk image; nothing was written".to_owned(),
                    ));
                }
                if let Some(other) = other_blocks(&head, block.block_size()) {
                    return Err(Unwritten::Stopped(format!(
                        "the image's partition table is for blocks of {other} bytes, and the drive counts in {}: nothing would find it there; nothing was written. Take an image for such drives, or have the drive formatted with blocks of {other} bytes",
                        block.block_size()
                    )));
                }
                // What the old system left at both ends must not be found by the new one.
                wipe_ends(block).map_err(text)?;
            } else {
                block.write_at(at, bytes).map_err(text)?;
            }
            at += length as u64;
            unsettled += length as u64;
            if unsettled >= UNSETTLED {
                block.settle().map_err(text)?;
                unsettled = 0;
            }
            let percent = total.map_or(0, |total| {
                position.load(std::sync::atomic::Ordering::Relaxed) * 80 / total.max(1)
            });
            (work.progress)("writing the image", u8::try_from(percent).unwrap_or(80));
        }
    }
    if at == 0 {
        return Err("the image is empty".to_owned().into());
    }
    let sha256 = source.finish().map_err(text)?;
    if let Some(wanted) = &grant.sha256
        && !wanted.eq_ignore_ascii_case(&sha256)
    {
        return Err(format!("the image's SHA-256 is {sha256}, not {wanted}").into());
    }
    guard::check(work.world, found, device)
        .map_err(|reason| Unwritten::Stopped(format!("refused: {reason}")))?;
    block.settle().map_err(text)?;
    let held = Held::new(block, head);
    read_back(work, &held, at, &hash.finalize())?;
    (work.progress)("partition table", 97);
    let start = config_drive::finish(&held, config)?;
    held.put_down().map_err(text)?;
    Ok((at, sha256, start))
}

/// Whether firmware could start anything from what begins so: a boot sector's mark, or a GPT's for blocks of 512 or 4096 bytes.
fn is_disk(head: &[u8]) -> bool {
    let at = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
    at(510, &[0x55, 0xaa]) || at(512, b"EFI PART") || at(4096, b"EFI PART")
}

/// The blocks that a GPT is made for, where they are not the drive's: it stands in the second block.
fn other_blocks(head: &[u8], of_drive: u64) -> Option<u64> {
    let has = |size: u64| {
        let at = usize::try_from(size).unwrap_or(usize::MAX);
        head.get(at..)
            .is_some_and(|rest| rest.starts_with(b"EFI PART"))
    };
    if has(of_drive) {
        return None;
    }
    [512, 4096].into_iter().find(|size| has(*size))
}

fn read_back(
    work: &Work<'_>,
    block: &dyn BlockDevice,
    length: u64,
    wanted: &[u8],
) -> Result<(), Unwritten> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; STEP];
    let mut at = 0;
    while at < length {
        if let Some(reason) = work.stop.reason() {
            return Err(Unwritten::Stopped(format!("stopped: {reason}")));
        }
        let step = usize::try_from(length - at).unwrap_or(STEP).min(STEP);
        let bytes = buffer.get_mut(..step).unwrap_or_default();
        block
            .read_at(at, bytes)
            .map_err(|error| format!("byte {at} cannot be read back: {error}"))?;
        hash.update(bytes);
        at += step as u64;
        let percent = 80 + at * 16 / length.max(1);
        (work.progress)("reading back", u8::try_from(percent).unwrap_or(96));
    }
    if hash.finalize()[..] != *wanted {
        return Err("what was read back is not what was written"
            .to_owned()
            .into());
    }
    Ok(())
}

fn wipe_ends(block: &dyn BlockDevice) -> io::Result<()> {
    let size = block.size();
    let length = size.min(HEAD as u64);
    let zeros = vec![0_u8; usize::try_from(length).unwrap_or_default()];
    block.write_at(0, &zeros)?;
    block.write_at(size - length, &zeros)?;
    block.settle()
}

/// Reads until `buffer` is full or nothing comes any more.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// A small thing whole.
fn small(work: &Work<'_>, url: &str) -> Result<Vec<u8>, String> {
    let source = Source::open(work.fetch, url, work.stop)
        .map_err(|error| format!("the config drive cannot be had: {}", chain(&error)))?;
    let mut bytes = Vec::new();
    source
        .take(CONFIG_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(text)?;
    if bytes.is_empty() || bytes.len() as u64 > CONFIG_LIMIT {
        return Err(format!("a config drive of {} bytes", bytes.len()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
