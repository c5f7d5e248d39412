//! Erasing by what every block device takes, in steps that are short enough to stop between them.

use super::method::Method;
use super::{EraseError, Job};

/// A drive writes so much in well under a second.
const STEP: u64 = 32 << 20;
/// Both ends, so much.
pub(super) const END: u64 = 16 << 20;
/// The beginning of each partition, so much: superblocks.
const HEAD: u64 = 1 << 20;

/// Takes the whole drive.
pub(super) fn whole(method: Method, job: &Job<'_>) -> Result<(), EraseError> {
    let size = job.device.block.size();
    range(method, job, 0, size, size)?;
    job.device.block.settle()?;
    Ok(())
}

/// Takes both ends and the beginnings of partitions.
pub(super) fn metadata(job: &Job<'_>) -> Result<(), EraseError> {
    let size = job.device.block.size();
    let tail = size.saturating_sub(END);
    let heads = job
        .partitions
        .iter()
        .map(|start| (*start, start.saturating_add(HEAD)));
    for (from, to) in heads.chain([(0, END), (tail, size)]) {
        range(Method::Overwrite, job, from, to.min(size), size)?;
    }
    job.device.block.settle()?;
    Ok(())
}

fn range(method: Method, job: &Job<'_>, from: u64, to: u64, size: u64) -> Result<(), EraseError> {
    let block = &job.device.block;
    let step = if method == Method::Overwrite {
        4 << 20
    } else {
        STEP
    };
    let zeros = if method == Method::Overwrite {
        vec![0_u8; usize::try_from(step).unwrap_or_default()]
    } else {
        Vec::new()
    };
    let mut at = from;
    let mut unsettled = 0;
    while at < to {
        job.go_on()?;
        let length = step.min(to - at);
        match method {
            Method::SecureDiscard => block.secure_discard(at, length)?,
            Method::ZeroOut => block.zero_out(at, length)?,
            _ => {
                let bytes = usize::try_from(length)
                    .ok()
                    .and_then(|length| zeros.get(..length));
                block.write_at(at, bytes.unwrap_or_default())?;
                unsettled += length;
                // Else the kernel collects gigabytes, and a stop would wait for them.
                if unsettled >= STEP {
                    block.settle()?;
                    unsettled = 0;
                }
            }
        }
        at += length;
        (job.progress)(u8::try_from(at.saturating_mul(99) / size.max(1)).unwrap_or(99));
    }
    Ok(())
}
