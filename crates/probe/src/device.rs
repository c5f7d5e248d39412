//! What is asked of a drive: blocks, and the command sets behind them. One seam, so that what QEMU cannot emulate is tried on scripted devices.

pub mod ata;
pub mod file;
pub mod linux;
pub mod world;

use corten_probe_ioctl::{NvmeCommand, NvmeCompletion, SgReply, Transfer};
use std::io;
use std::time::Duration;

/// A drive's blocks.
pub trait BlockDevice: Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;
    /// Bytes of the blocks that it counts in.
    fn block_size(&self) -> u64 {
        512
    }
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// The drive's.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The drive's.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written is on the drive, and forgets what is cached, so that the next read comes from it.
    ///
    /// # Errors
    /// The drive's.
    fn settle(&self) -> io::Result<()>;
    /// Has zeros written over a range by the drive itself where it can.
    ///
    /// # Errors
    /// Where it cannot.
    fn zero_out(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Discards a range with all copies of it.
    ///
    /// # Errors
    /// Where it cannot.
    fn secure_discard(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Lets the kernel read the partition table again.
    ///
    /// # Errors
    /// The kernel's.
    fn reread_partitions(&self) -> io::Result<()>;
}

/// An NVMe controller's admin commands.
pub trait NvmeAdmin: Send + Sync {
    /// Sends one and waits for its end.
    ///
    /// # Errors
    /// The kernel's; the drive's own refusal is in the completion.
    fn admin(&self, command: &NvmeCommand, data: Transfer<'_>) -> io::Result<NvmeCompletion>;
}

/// A SCSI logical unit's commands.
pub trait Scsi: Send + Sync {
    /// Sends one and waits for its end.
    ///
    /// # Errors
    /// The kernel's; the drive's own refusal is in the reply.
    fn command(&self, cdb: &[u8], data: Transfer<'_>, timeout: Duration) -> io::Result<SgReply>;
}

/// An ATA drive's commands.
pub trait Ata: Send + Sync {
    /// Sends a command without data, or with one block to or from the drive.
    ///
    /// # Errors
    /// The kernel's, and the drive's own refusal.
    fn command(&self, command: u8, data: Transfer<'_>, timeout: Duration) -> io::Result<()>;
}

/// Which commands a drive takes besides reads and writes.
pub enum CommandSet {
    /// NVMe, with the namespace's number.
    Nvme(Box<dyn NvmeAdmin>, u32),
    /// ATA.
    Ata(Box<dyn Ata>),
    /// SCSI.
    Scsi(Box<dyn Scsi>),
    /// None that erase.
    None,
}

/// A drive, open and claimed.
pub struct Device {
    /// Its blocks.
    pub block: Box<dyn BlockDevice>,
    /// Its commands.
    pub commands: CommandSet,
}

impl Device {
    /// The serial number as the drive itself says through this very descriptor; none where it has no such command.
    ///
    /// # Errors
    /// Where the drive does not answer.
    pub fn serial_number(&self) -> io::Result<Option<String>> {
        match &self.commands {
            CommandSet::Nvme(admin, _) => crate::erase::nvme::Controller::identify(&**admin)
                .map(|controller| Some(controller.serial_number)),
            CommandSet::Ata(ata) => {
                ata::Identity::read(&**ata).map(|identity| Some(identity.serial_number))
            }
            CommandSet::Scsi(scsi) => crate::erase::scsi::serial_number(&**scsi).map(Some),
            CommandSet::None => Ok(None),
        }
    }
}
