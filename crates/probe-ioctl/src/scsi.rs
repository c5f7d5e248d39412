//! SCSI commands, and ATA commands wrapped in them, by `SG_IO` (`scsi/sg.h`).

use crate::Transfer;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

const SG_IO: libc::c_ulong = 0x2285;
const SG_DXFER_NONE: libc::c_int = -1;
const SG_DXFER_TO_DEV: libc::c_int = -2;
const SG_DXFER_FROM_DEV: libc::c_int = -3;

/// `struct sg_io_hdr`.
#[repr(C)]
struct Header {
    interface_id: libc::c_int,
    direction: libc::c_int,
    command_length: u8,
    sense_capacity: u8,
    iovec_count: u16,
    data_length: u32,
    data: *mut libc::c_void,
    command: *const u8,
    sense: *mut u8,
    timeout_milliseconds: u32,
    flags: u32,
    pack_id: libc::c_int,
    user: *mut libc::c_void,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_written: u8,
    host_status: u16,
    driver_status: u16,
    residual: libc::c_int,
    duration: u32,
    info: u32,
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SgReply {
    /// SCSI status; 0 is good, 2 is check condition.
    pub status: u8,
    /// The host adapter's status; 0 is good.
    pub host_status: u16,
    /// Sense data, as much as came.
    pub sense: Vec<u8>,
}

/// Sends a command descriptor block to `device` and waits for its end.
///
/// # Errors
/// The kernel's; a command that the drive refused is a reply with a status, not an error.
pub fn sg_io(
    device: BorrowedFd<'_>,
    command: &[u8],
    transfer: Transfer<'_>,
    timeout: Duration,
) -> io::Result<SgReply> {
    let mut sense = [0_u8; 64];
    let (direction, data, data_length) = match transfer {
        Transfer::None => (SG_DXFER_NONE, std::ptr::null_mut(), 0),
        Transfer::FromDevice(buffer) => (
            SG_DXFER_FROM_DEV,
            buffer.as_mut_ptr().cast(),
            crate::length(buffer)?,
        ),
        // The kernel only reads it; the structure has no pointer to constant data.
        Transfer::ToDevice(buffer) => (
            SG_DXFER_TO_DEV,
            buffer.as_ptr().cast_mut().cast(),
            crate::length(buffer)?,
        ),
    };
    let mut header = Header {
        interface_id: libc::c_int::from(b'S'),
        direction,
        command_length: u8::try_from(command.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        sense_capacity: 64,
        iovec_count: 0,
        data_length,
        data,
        command: command.as_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_milliseconds: crate::milliseconds(timeout),
        flags: 0,
        pack_id: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_written: 0,
        host_status: 0,
        driver_status: 0,
        residual: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the structure is the kernel's; command, data and sense are slices that live across the call, each with its own length.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SG_IO as _, &raw mut header) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(SgReply {
        status: header.status,
        host_status: header.host_status,
        sense: sense
            .get(..usize::from(header.sense_written))
            .unwrap_or_default()
            .to_vec(),
    })
}
