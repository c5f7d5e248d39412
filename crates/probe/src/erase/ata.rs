//! ATA SECURITY ERASE UNIT (ACS-4, 7.37 to 7.42).

use super::EraseError;
use crate::device::Ata;
use crate::device::ata::Identity;
use crate::say;
use corten_probe_ioctl::Transfer;
use std::io;
use std::time::Duration;

const SET_PASSWORD: u8 = 0xf1;
const UNLOCK: u8 = 0xf2;
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
    ata.command(SET_PASSWORD, Transfer::ToDevice(&block(0)), SHORT)?;
    let erased = erase_unit(ata, &identity, enhanced);
    if erased.is_err() {
        // The password must not outlive the attempt. A successful erase took it away itself.
        if let Err(error) = ata.command(DISABLE_PASSWORD, Transfer::ToDevice(&block(0)), SHORT) {
            say!("the drive keeps the password `corten`: {error}");
        }
    }
    Ok(erased?)
}

fn erase_unit(ata: &dyn Ata, identity: &Identity, enhanced: bool) -> io::Result<()> {
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
    ata.command(ERASE_PREPARE, Transfer::None, SHORT)?;
    ata.command(
        ERASE_UNIT,
        Transfer::ToDevice(&block(if enhanced { 2 } else { 0 })),
        Duration::from_secs(minutes * 60),
    )
}

/// Opens a drive that a cleaning which was cut short left with our password; says what became of it. Another's password is not guessed at: a drive
/// takes five tries between two power cycles (ACS-4, 4.18.9), and this is two of them at most.
pub(super) fn regain(ata: &dyn Ata) -> Option<String> {
    let identity = Identity::read(ata).ok()?;
    if !identity.enabled || identity.frozen {
        return None;
    }
    let with_ours = |command: u8| ata.command(command, Transfer::ToDevice(&block(0)), SHORT);
    let opened = if identity.locked {
        with_ours(UNLOCK)
    } else {
        Ok(())
    }
    .and_then(|()| with_ours(DISABLE_PASSWORD));
    // Some take nothing but the rest of the erasure.
    let opened = opened.or_else(|_| erase_unit(ata, &identity, false));
    opened.is_ok().then(|| {
        "it had the password of a cleaning that was cut short, and is open again".to_owned()
    })
}
