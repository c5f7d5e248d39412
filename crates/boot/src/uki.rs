//! Unified kernel images: a PE file that holds a kernel, its initial ramdisk and its command line (UAPI Group, "Unified Kernel Image").
//!
//! [`build`] lays the sections out behind systemd's EFI stub. The command line's section is a slot of fixed size, so that each boot's own command line can be
//! laid over it while the file is served: same length, same offsets, no copy. (An image patched so is unsigned; Secure Boot takes the signed chain.)

pub mod pe;

use pe::{Image, PeError};

use crate::piece::{self, Piece};

/// Size of the command line's slot, in bytes: x86's COMMAND_LINE_SIZE.
pub const SLOT: usize = 2048;
const CMDLINE: &str = ".cmdline";

/// What goes into an image.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// systemd's `linuxx64.efi.stub` (or that of another architecture).
    pub stub: &'a [u8],
    /// Text of os-release.
    pub os_release: &'a str,
    /// Release of the kernel, `uname -r`.
    pub release: &'a str,
    /// Command line without what belongs to one boot.
    pub command_line: &'a str,
    /// The kernel's first bytes, its headers at least: they say for which processor it is.
    pub head: &'a [u8],
    /// The kernel.
    pub kernel: Vec<Piece>,
    /// The initial ramdisk.
    pub initrd: Vec<Piece>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uki {
    /// The PE file; the slot is a piece of its own.
    pub pieces: Vec<Piece>,
    /// Offset of the slot in the file; it is [`SLOT`] bytes long.
    pub slot: u64,
}

/// Lays an image out.
///
/// # Errors
/// The stub or the kernel is none, or they do not fit together, or the command line is too long.
pub fn build(parts: Parts<'_>) -> Result<Uki, UkiError> {
    let kernel = Image::read(parts.head).map_err(UkiError::Kernel)?;
    let mut image = Image::read(parts.stub).map_err(UkiError::Stub)?;
    if kernel.machine() != image.machine() {
        return Err(UkiError::Machine {
            kernel: kernel.machine(),
            stub: image.machine(),
        });
    }
    let text = |text: &str| vec![Piece::from(text.as_bytes().to_vec())];
    let sections = [
        (".osrel", text(parts.os_release)),
        (".uname", text(parts.release)),
        (CMDLINE, vec![Piece::from(slot(parts.command_line)?)]),
        // The initial ramdisk before the kernel: with an old stub the kernel is run in place and needs room behind its section.
        (".initrd", parts.initrd),
        (".linux", parts.kernel),
    ];
    let (mut slot, mut end) = (0, image.end());
    let mut appended = Vec::new();
    for (name, contents) in sections {
        let length = piece::length(&contents);
        let begin = image.append(name, length).map_err(UkiError::Stub)?;
        piece::pad(&mut appended, end, begin);
        appended.extend(contents);
        end = begin + length;
        if name == CMDLINE {
            slot = begin;
        }
    }
    piece::pad(&mut appended, end, image.end());
    appended.insert(0, Piece::from(image.finish()));
    Ok(Uki {
        pieces: appended,
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
