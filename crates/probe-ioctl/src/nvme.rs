//! NVMe admin commands (`linux/nvme_ioctl.h`).

use crate::Transfer;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// `_IOWR('N', 0x41, struct nvme_admin_cmd)`.
const NVME_IOCTL_ADMIN_CMD: libc::c_ulong = 0xc048_4e41;

/// `struct nvme_passthru_cmd`.
#[repr(C)]
#[derive(Default)]
struct PassthroughCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_length: u32,
    data_length: u32,
    cdw: [u32; 6],
    timeout_milliseconds: u32,
    result: u32,
}

const _: () = assert!(size_of::<PassthroughCommand>() == 72);

/// An admin command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvmeCommand {
    /// Opcode.
    pub opcode: u8,
    /// Namespace; `0xffff_ffff` for all.
    pub nsid: u32,
    /// Command double words 10 to 15.
    pub cdw: [u32; 6],
    /// How long the kernel waits for it.
    pub timeout: Duration,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NvmeCompletion {
    /// Status field without its phase bit; 0 is success.
    pub status: u16,
    /// Completion double word 0.
    pub result: u32,
}

/// Sends an admin command to the controller of `device` (`/dev/nvme0` or `/dev/nvme0n1`) and waits for its end.
///
/// # Errors
/// The kernel's; a command that the drive itself refused is a completion with a status, not an error.
pub fn nvme_admin(
    device: BorrowedFd<'_>,
    command: &NvmeCommand,
    transfer: Transfer<'_>,
) -> io::Result<NvmeCompletion> {
    let (address, data_length) = match transfer {
        Transfer::None => (0, 0),
        Transfer::FromDevice(buffer) => (buffer.as_mut_ptr() as u64, crate::length(buffer)?),
        Transfer::ToDevice(buffer) => (buffer.as_ptr() as u64, crate::length(buffer)?),
    };
    let mut passthrough = PassthroughCommand {
        opcode: command.opcode,
        nsid: command.nsid,
        address,
        data_length,
        cdw: command.cdw,
        timeout_milliseconds: crate::milliseconds(command.timeout),
        ..PassthroughCommand::default()
    };
    // SAFETY: the structure is the kernel's, and `address` with `data_length` is a slice that the caller lends across the call; bit 0 and 1 of
    // the opcode say the direction, which the probe's commands keep to.
    let status = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            NVME_IOCTL_ADMIN_CMD as _,
            &raw mut passthrough,
        )
    };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(NvmeCompletion {
        status: u16::try_from(status).unwrap_or(u16::MAX),
        result: passthrough.result,
    })
}
