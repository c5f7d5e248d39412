//! Unified kernel images: a PE file that holds a kernel, its initial ramdisk and its command line (UAPI Group, "Unified Kernel Image").
//!
//! [`build`] appends the sections to systemd's EFI stub. The command line's section is a slot of fixed size, so that each boot's own command line can be
//! laid over it while the file is served: same length, same offsets, no copy. (An image patched so is unsigned; Secure Boot takes the signed chain.)

pub mod pe;

use pe::{Image, PeError};

/// Size of the command line's slot, in bytes: x86's COMMAND_LINE_SIZE.
pub const SLOT: usize = 2048;

/// What goes into an image.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// systemd's `linuxx64.efi.stub` (or that of another architecture).
    pub stub: &'a [u8],
    /// Text of os-release.
    pub os_release: &'a str,
    /// Release of the kernel, `uname -r`.
    pub release: &'a str,
    /// Command line without what belongs to one boot.
    pub command_line: &'a str,
    /// The kernel.
    pub kernel: &'a [u8],
    /// The initial ramdisk.
    pub initrd: &'a [u8],
}

/// Why an image cannot be made. Trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// The stub, or the kernel in it, is not what it should be.
    #[error("the EFI stub is not usable")]
    Stub(#[source] PeError),
    /// The kernel is not an EFI executable.
    #[error("the kernel is no EFI executable")]
    Kernel(#[source] PeError),
    /// Kernel and stub are for different processors.
    #[error("the kernel is for machine type {kernel:#06x}, the EFI stub for {stub:#06x}")]
    Machine {
        /// The kernel's.
        kernel: u16,
        /// The stub's.
        stub: u16,
    },
    /// The command line does not fit.
    #[error("the command line has {0} bytes, the slot {SLOT}")]
    CommandLine(usize),
}

/// An image, and where its command line is.
#[derive(Clone, PartialEq, Eq)]
pub struct Uki {
    /// The PE file.
    pub bytes: Vec<u8>,
    /// Offset of the slot in the file; it is [`SLOT`] bytes long.
    pub slot: u64,
}

impl std::fmt::Debug for Uki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Uki({} bytes, slot at {})", self.bytes.len(), self.slot)
    }
}

/// Makes an image.
///
/// # Errors
/// The stub or the kernel is none, or they do not fit together, or the command line is too long.
pub fn build(parts: &Parts<'_>) -> Result<Uki, UkiError> {
    let kernel = Image::read(parts.kernel).map_err(UkiError::Kernel)?;
    let mut image = Image::read(parts.stub).map_err(UkiError::Stub)?;
    if kernel.machine() != image.machine() {
        return Err(UkiError::Machine {
            kernel: kernel.machine(),
            stub: image.machine(),
        });
    }
    let mut append = |name, bytes: &[u8]| image.append(name, bytes).map_err(UkiError::Stub);
    append(".osrel", parts.os_release.as_bytes())?;
    append(".uname", parts.release.as_bytes())?;
    let slot = append(".cmdline", &slot(parts.command_line)?)?;
    // The initial ramdisk before the kernel: with an old stub the kernel is run in place and needs room behind its section.
    append(".initrd", parts.initrd)?;
    append(".linux", parts.kernel)?;
    Ok(Uki {
        bytes: image.finish(),
        slot,
    })
}

/// The slot's bytes for a command line: filled up with spaces, which the kernel skips. A NUL would end it in some stubs and be printed by others.
///
/// # Errors
/// It is too long. One byte stays free: the kernel ends the line with a NUL within the same size.
pub fn slot(command_line: &str) -> Result<Vec<u8>, UkiError> {
    if command_line.len() >= SLOT {
        return Err(UkiError::CommandLine(command_line.len()));
    }
    let mut bytes = command_line.as_bytes().to_vec();
    bytes.resize(SLOT, b' ');
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests;
