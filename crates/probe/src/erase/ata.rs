//! ATA SECURITY ERASE UNIT (ACS-4, 7.37 to 7.42).

use super::EraseError;
use crate::device::Ata;
use crate::device::ata::Identity;
use crate::say;
use corten_probe_ioctl::Transfer;
use std::io;
use std::time::Duration;

const SET_PASSWORD: u8 = 0xf1;
const ERASE_PREPARE: u8 = 0xf3;
const ERASE_UNIT: u8 = 0xf4;
const DISABLE_PASSWORD: u8 = 0xf6;
/// Minutes. The engine's patience (`eraseSeconds`) ends two hours later.
const UNKNOWN: u64 = 70 * 60;
const SHORT: Duration = Duration::from_secs(30);

/// No secret: a drive whose power goes while it erases stays locked with it, and people must be able to open it.
pub const PASSWORD: &[u8; 32] = b"corten\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn block(control: u8) -> [u8; 512] {
    let mut block = [0_u8; 512];
    let [first, _, rest @ ..] = &mut block;
    *first = control;
    for (to, from) in rest.iter_mut().zip(PASSWORD) {
        *to = *from;
    }
    block
}

pub(super) fn run(ata: &dyn Ata, enhanced: bool) -> Result<(), EraseError> {
    let identity = Identity::read(ata)?;
    if let Some(obstacle) = identity.obstacles().first() {
        return Err(io::Error::other(format!("the drive is {obstacle}")).into());
    }
    let minutes = if enhanced {
        identity.enhanced_minutes
    } else {
        identity.minutes
    };
    // The drive's own estimate with half of it to spare; without one, more than the largest slow drive takes: one that is cut short stays locked.
    let minutes = if minutes == 0 {
        UNKNOWN
    } else {
        u64::from(minutes) * 3 / 2 + 10
    };
    ata.command(SET_PASSWORD, Transfer::ToDevice(&block(0)), SHORT)?;
    let erased = ata
        .command(ERASE_PREPARE, Transfer::None, SHORT)
        .and_then(|()| {
            ata.command(
                ERASE_UNIT,
                Transfer::ToDevice(&block(if enhanced { 2 } else { 0 })),
                Duration::from_secs(minutes * 60),
            )
        });
    if erased.is_err() {
        // The password must not outlive the attempt. A successful erase took it away itself.
        if let Err(error) = ata.command(DISABLE_PASSWORD, Transfer::ToDevice(&block(0)), SHORT) {
            say!("the drive keeps the password `corten`: {error}");
        }
    }
    Ok(erased?)
}
