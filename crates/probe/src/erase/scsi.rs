//! SCSI SANITIZE (SBC-4, 5.30), followed by REQUEST SENSE.

use super::method::Method;
use super::{EraseError, Job};
use crate::device::Scsi;
use crate::inventory::drives::unit_serial;
use corten_probe_ioctl::{SgReply, Transfer};
use std::io;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(30);
const SANITIZE: u8 = 0x48;
/// By service action.
const ACTIONS: [(u8, Method); 3] = [
    (3, Method::ScsiSanitizeCrypto),
    (2, Method::ScsiSanitizeBlock),
    (1, Method::ScsiSanitizeOverwrite),
];

/// The serial number by INQUIRY, page 80h.
///
/// # Errors
/// Where the drive does not answer.
pub fn serial_number(scsi: &dyn Scsi) -> io::Result<String> {
    let mut page = [0_u8; 255];
    good(scsi.command(
        &[0x12, 1, 0x80, 0, 255, 0],
        Transfer::FromDevice(&mut page),
        SHORT,
    )?)?;
    unit_serial(&page).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What the drive can, by REPORT SUPPORTED OPERATION CODES.
pub(super) fn methods(scsi: &dyn Scsi) -> Vec<Method> {
    ACTIONS
        .into_iter()
        .filter(|(action, _)| {
            let mut answer = [0_u8; 64];
            let cdb = [0xa3, 0x0c, 2, SANITIZE, 0, *action, 0, 0, 0, 64, 0, 0];
            let reply = scsi.command(&cdb, Transfer::FromDevice(&mut answer), SHORT);
            // Support: as the standard says (3), or the vendor's way (5).
            reply.is_ok_and(|reply| good(reply).is_ok())
                && matches!(answer.get(1).map(|byte| byte & 7), Some(3 | 5))
        })
        .map(|(_, method)| method)
        .collect()
}

fn good(reply: SgReply) -> io::Result<()> {
    if reply.status == 0 && reply.host_status == 0 {
        return Ok(());
    }
    let (key, code, qualifier) = sense(&reply.sense);
    Err(io::Error::other(format!(
        "the drive refused (sense {key:x}/{code:02x}/{qualifier:02x})"
    )))
}

/// Sense key, additional code and its qualifier, of either format (SPC-5, 4.4).
fn sense(bytes: &[u8]) -> (u8, u8, u8) {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    if byte(0) & 0x7f >= 0x72 {
        (byte(1) & 0xf, byte(2), byte(3))
    } else {
        (byte(2) & 0xf, byte(12), byte(13))
    }
}

pub(super) fn run(scsi: &dyn Scsi, method: Method, job: &Job<'_>) -> Result<(), EraseError> {
    let action = ACTIONS
        .iter()
        .find(|(_, of)| *of == method)
        .map(|(action, _)| *action)
        .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
    // Once over, with a pattern of four zeros.
    let pattern = [1_u8, 0, 0, 4, 0, 0, 0, 0];
    let (length, data) = if method == Method::ScsiSanitizeOverwrite {
        (8, Transfer::ToDevice(&pattern))
    } else {
        (0, Transfer::None)
    };
    // Bit 7: the command returns at once, the drive goes on.
    let cdb = [SANITIZE, 0x80 | action, 0, 0, 0, 0, 0, 0, length, 0];
    good(scsi.command(&cdb, data, SHORT)?)?;
    loop {
        if job.stop.wait(Duration::from_millis(500)) {
            job.go_on()?;
        }
        let mut bytes = [0_u8; 64];
        good(scsi.command(
            &[0x03, 0, 0, 0, 64, 0],
            Transfer::FromDevice(&mut bytes),
            SHORT,
        )?)?;
        match sense(&bytes) {
            // Sanitize in progress.
            (_, 0x04, 0x1b) => {
                let (high, low) = match bytes {
                    [first, _, _, _, _, _, _, _, _, _, high, low, ..] if first & 0x7f >= 0x72 => {
                        (high, low)
                    }
                    [
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        high,
                        low,
                        ..,
                    ] => (high, low),
                };
                let progress = u32::from(u16::from_be_bytes([high, low]));
                (job.progress)(u8::try_from(progress * 100 / 65536).unwrap_or(100));
            }
            (0, _, _) => return Ok(()),
            (key, code, qualifier) => {
                return Err(io::Error::other(format!(
                    "sanitize failed (sense {key:x}/{code:02x}/{qualifier:02x})"
                ))
                .into());
            }
        }
    }
}
