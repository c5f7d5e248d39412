//! ATA commands in SCSI's clothes (SAT-4, ATA PASS-THROUGH (16)), and what IDENTIFY DEVICE says (ACS-4, 7.13).

use super::{Ata, Scsi};
use corten_probe_ioctl::Transfer;
use std::io;
use std::time::Duration;

const IDENTIFY: u8 = 0xec;

/// An ATA drive behind a SCSI/ATA translation, which is how Linux shows them all.
pub struct Translated<S>(pub S);

impl<S: Scsi> Ata for Translated<S> {
    fn command(&self, command: u8, data: Transfer<'_>, timeout: Duration) -> io::Result<()> {
        // Protocol (non-data, PIO in, PIO out), and for data: length in the count, in blocks, with the direction.
        let (protocol, flags, count) = match &data {
            Transfer::None => (3, 0, 0),
            Transfer::FromDevice(_) => (4, 0x0e, 1),
            Transfer::ToDevice(_) => (5, 0x06, 1),
        };
        let (first, device) = (protocol << 1, 0x40);
        let cdb = [
            0x85, first, flags, 0, 0, 0, count, 0, 0, 0, 0, 0, 0, device, command, 0,
        ];
        let reply = self.0.command(&cdb, data, timeout)?;
        if reply.status == 0 && reply.host_status == 0 {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the drive refused ATA command {command:#04x} (status {:#04x}, sense {:02x?})",
            reply.status,
            reply.sense.get(..4).unwrap_or_default()
        )))
    }
}

/// What an ATA drive says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Serial number.
    pub serial_number: String,
    /// It has the security feature set.
    pub security: bool,
    /// A password is set.
    pub enabled: bool,
    /// It is locked by a password.
    pub locked: bool,
    /// The firmware froze the security feature set until the next power cycle.
    pub frozen: bool,
    /// It can erase the enhanced way.
    pub enhanced: bool,
    /// Minutes that a normal erase takes at most; 0 for unknown.
    pub minutes: u32,
    /// Minutes that an enhanced erase takes at most; 0 for unknown.
    pub enhanced_minutes: u32,
}

impl Identity {
    /// Asks the drive.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn read(ata: &dyn Ata) -> io::Result<Self> {
        let mut block = [0_u8; 512];
        ata.command(
            IDENTIFY,
            Transfer::FromDevice(&mut block),
            Duration::from_secs(15),
        )?;
        Ok(Self::parse(&block))
    }

    /// Reads the block.
    #[must_use]
    pub fn parse(block: &[u8]) -> Self {
        let (words, _) = block.as_chunks::<2>();
        let word = |index: usize| words.get(index).copied().map_or(0, u16::from_le_bytes);
        let status = word(128);
        // Bits 7:0, or 14:0 where bit 15 is set, in steps of two minutes; the highest value means "more", which is nothing to go by.
        let minutes = |word: u16| {
            let (steps, most) = if word & 0x8000 != 0 {
                (word & 0x7fff, 0x7fff)
            } else {
                (word & 0xff, 0xff)
            };
            if steps == most {
                0
            } else {
                u32::from(steps) * 2
            }
        };
        let serial: Vec<u8> = words
            .get(10..20)
            .unwrap_or_default()
            .iter()
            .flat_map(|[low, high]| [*high, *low])
            .collect();
        Self {
            serial_number: String::from_utf8_lossy(&serial)
                .trim_matches(|c: char| c.is_whitespace() || c == '\0')
                .to_owned(),
            security: status & 1 != 0,
            enabled: status & 2 != 0,
            locked: status & 4 != 0,
            frozen: status & 8 != 0,
            enhanced: status & 0x20 != 0,
            minutes: minutes(word(89)),
            enhanced_minutes: minutes(word(90)),
        }
    }

    /// What stands in the way of a secure erase.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        [
            (self.frozen, "frozen"),
            (self.locked, "locked"),
            (self.enabled, "password"),
        ]
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, word)| word.to_owned())
        .collect()
    }
}
