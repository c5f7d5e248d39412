//! Drives of the machine: the node is opened with a claim, so that the kernel refuses it where anybody else uses the drive.

use super::ata::{Identity, Translated};
use super::file::FileDevice;
use super::{CommandSet, Device, NvmeAdmin, Scsi};
use crate::inventory::drives::Found;
use crate::inventory::root::Root;
use corten_probe_ioctl::{NvmeCommand, NvmeCompletion, SgReply, Transfer, nvme_admin, sg_io};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

struct Passthrough(File);

impl NvmeAdmin for Passthrough {
    fn admin(&self, command: &NvmeCommand, data: Transfer<'_>) -> io::Result<NvmeCompletion> {
        nvme_admin(self.0.as_fd(), command, data)
    }
}

impl Scsi for Passthrough {
    fn command(&self, cdb: &[u8], data: Transfer<'_>, timeout: Duration) -> io::Result<SgReply> {
        sg_io(self.0.as_fd(), cdb, data, timeout)
    }
}

/// Opens a drive for writing and claims it.
///
/// # Errors
/// The kernel's: `EBUSY` where it, or a partition of it, is mounted or part of something else.
pub fn open(root: &Root, found: &Found) -> io::Result<Device> {
    let exclusive = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(exclusive)
        .open(found.path(root))?;
    let commands = commands(root, found, file.try_clone()?);
    Ok(Device {
        block: Box::new(FileDevice::new(file)?),
        commands,
    })
}

/// Opens a drive for reading only, without a claim: for questions.
///
/// # Errors
/// The kernel's.
pub fn open_to_ask(root: &Root, found: &Found) -> io::Result<Device> {
    let file = File::open(found.path(root))?;
    let commands = commands(root, found, file.try_clone()?);
    Ok(Device {
        block: Box::new(FileDevice::new(file)?),
        commands,
    })
}

fn commands(root: &Root, found: &Found, file: File) -> CommandSet {
    match found.transport.as_str() {
        "nvme" => {
            let namespace = root
                .number(format!("sys/block/{}/nsid", found.kernel_name))
                .unwrap_or(1);
            CommandSet::Nvme(Box::new(Passthrough(file)), namespace)
        }
        "sata" => CommandSet::Ata(Box::new(Translated(Passthrough(file)))),
        "sas" => behind_adapter(Passthrough(file), &found.vendor, &found.serial_number),
        _ => CommandSet::None,
    }
}

/// A drive behind a SAS adapter. A SATA drive there has the vendor `ATA` (SAT-4, 8.1.2); the adapter passes its commands on, or it does not.
fn behind_adapter<S: Scsi + 'static>(scsi: S, vendor: &str, serial_number: &str) -> CommandSet {
    if vendor == "ATA" {
        let ata = Translated(scsi);
        let said = Identity::read(&ata).map(|identity| identity.serial_number);
        if said.is_ok_and(|said| said == serial_number) {
            return CommandSet::Ata(Box::new(ata));
        }
        return CommandSet::Scsi(Box::new(ata.0));
    }
    CommandSet::Scsi(Box::new(scsi))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An adapter with one SATA drive, that passes ATA commands on or refuses them.
    struct Adapter(bool);

    impl Scsi for Adapter {
        fn command(&self, cdb: &[u8], data: Transfer<'_>, _: Duration) -> io::Result<SgReply> {
            let mut reply = SgReply::default();
            match data {
                Transfer::FromDevice(block) if cdb[0] == 0x85 && self.0 => {
                    for (at, byte) in b"1S".iter().enumerate() {
                        block[20 + at] = *byte;
                    }
                }
                _ => reply.status = 2,
            }
            Ok(reply)
        }
    }

    #[test]
    fn a_sata_drive_behind_a_sas_adapter_takes_ata_commands_where_the_adapter_passes_them_on() {
        let is_ata = |passes, vendor, serial| {
            matches!(
                behind_adapter(Adapter(passes), vendor, serial),
                CommandSet::Ata(_)
            )
        };
        assert!(is_ata(true, "ATA", "S1"));
        assert!(!is_ata(false, "ATA", "S1"));
        assert!(!is_ata(true, "ATA", "S2"), "another drive answers");
        assert!(!is_ata(true, "SEAGATE", "S1"));
    }
}
