//! The probe's few system calls that no well-kept crate offers behind a safe function: NVMe admin commands, SCSI and ATA by `SG_IO`, a block
//! device's own requests, packet sockets and a NIC's firmware version.
//!
//! `unsafe` stands here and nowhere else. What makes each call sound is the same throughout: every pointer that the kernel gets is made from a
//! slice that lives across the call, with that slice's own length beside it, and every structure is `repr(C)` as the kernel's header has it.
//! What a command *does* to a drive is the caller's to answer for; see the probe's `erase` module for what is checked before.

mod block;
mod nvme;
mod packet;
mod scsi;

pub use block::{
    discard, flush_buffers, is_read_only, reread_partitions, secure_discard, size_bytes, zero_out,
};
pub use nvme::{NvmeCommand, NvmeCompletion, nvme_admin};
pub use packet::{DriverInfo, driver_info, link_modes, packet_socket};
pub use scsi::{SgReply, sg_io};

/// The data that goes with a command.
#[derive(Debug)]
pub enum Transfer<'a> {
    /// None.
    None,
    /// The device fills it.
    FromDevice(&'a mut [u8]),
    /// The device gets it.
    ToDevice(&'a [u8]),
}

/// A wait in the milliseconds that the kernel takes; at least one, at most 49 days.
fn milliseconds(wait: std::time::Duration) -> u32 {
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Length of a buffer as the kernel takes it; an error where it does not fit.
fn length(buffer: &[u8]) -> std::io::Result<u32> {
    u32::try_from(buffer.len()).map_err(|_| std::io::ErrorKind::InvalidInput.into())
}
