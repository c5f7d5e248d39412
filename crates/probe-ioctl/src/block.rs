//! A block device's own requests (`linux/fs.h`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const BLKROGET: libc::c_ulong = 0x125e;
const BLKRRPART: libc::c_ulong = 0x125f;
const BLKFLSBUF: libc::c_ulong = 0x1261;
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;
const BLKDISCARD: libc::c_ulong = 0x1277;
const BLKSECDISCARD: libc::c_ulong = 0x127d;
const BLKZEROOUT: libc::c_ulong = 0x127f;

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn without_argument(device: BorrowedFd<'_>, request: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the request takes no argument; the descriptor is open as long as it is borrowed.
    check(unsafe { libc::ioctl(device.as_raw_fd(), request as _, 0) })
}

fn on_range(
    device: BorrowedFd<'_>,
    request: libc::c_ulong,
    offset: u64,
    length: u64,
) -> io::Result<()> {
    let range = [offset, length];
    // SAFETY: the kernel reads two 64-bit numbers from `range`, which lives across the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), request as _, range.as_ptr()) })
}

/// Whether the kernel holds the device for read-only.
///
/// # Errors
/// The kernel's, such as `ENOTTY` where it is no block device.
pub fn is_read_only(device: BorrowedFd<'_>) -> io::Result<bool> {
    let mut flag: libc::c_int = 0;
    // SAFETY: the kernel writes one `int` to `flag`, which lives across the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKROGET as _, &raw mut flag) })?;
    Ok(flag != 0)
}

/// Size of the device in bytes.
///
/// # Errors
/// The kernel's, such as `ENOTTY` where it is no block device.
pub fn size_bytes(device: BorrowedFd<'_>) -> io::Result<u64> {
    let mut size: u64 = 0;
    // SAFETY: the kernel writes one 64-bit number to `size`, which lives across the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKGETSIZE64 as _, &raw mut size) })?;
    Ok(size)
}

/// Lets the kernel read the partition table again.
///
/// # Errors
/// The kernel's; `EBUSY` while a partition is in use.
pub fn reread_partitions(device: BorrowedFd<'_>) -> io::Result<()> {
    without_argument(device, BLKRRPART)
}

/// Writes back and forgets what the kernel holds of the device, so that the next read comes from it.
///
/// # Errors
/// The kernel's.
pub fn flush_buffers(device: BorrowedFd<'_>) -> io::Result<()> {
    without_argument(device, BLKFLSBUF)
}

/// Discards a range, in bytes. What is read afterwards is the device's choice.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` where the device cannot.
pub fn discard(device: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    on_range(device, BLKDISCARD, offset, length)
}

/// Discards a range, in bytes, with every copy that the device keeps of it.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` where the device cannot (most).
pub fn secure_discard(device: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    on_range(device, BLKSECDISCARD, offset, length)
}

/// Has zeros written over a range, in bytes, by the device itself where it can, else by the kernel.
///
/// # Errors
/// The kernel's.
pub fn zero_out(device: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    on_range(device, BLKZEROOUT, offset, length)
}
