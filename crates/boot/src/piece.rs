//! Pieces of what is served: what is a boot's own, and what a format puts around a large file, is laid over the file while it is sent. Nothing large is in
//! memory or copied on disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bytes::Bytes;

/// A part of an artefact's bytes.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// A part of a file in the cache. The file must not change in place (replace it by rename).
    File {
        /// Where it is.
        path: PathBuf,
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Bytes in memory.
    Bytes(Bytes),
    /// Zeros, for padding.
    Zeros(u64),
}

impl std::fmt::Debug for Piece {
    /// Without the bytes: a command line among them carries tokens, user data is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Piece::File {
                path,
                offset,
                length,
            } => write!(f, "File({}, {length} bytes at {offset})", path.display()),
            Piece::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Piece::Zeros(length) => write!(f, "Zeros({length})"),
        }
    }
}

// === impl Piece ===

impl Piece {
    /// How many bytes it has.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Piece::File { length, .. } | Piece::Zeros(length) => *length,
            Piece::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

impl<T: Into<Bytes>> From<T> for Piece {
    fn from(bytes: T) -> Self {
        Piece::Bytes(bytes.into())
    }
}

/// How many bytes all of them have.
#[must_use]
pub fn length(pieces: &[Piece]) -> u64 {
    pieces.iter().map(Piece::length).sum()
}

/// Zeros from `at` to `end`, where there are any.
pub(crate) fn pad(pieces: &mut Vec<Piece>, at: u64, end: u64) {
    if end > at {
        pieces.push(Piece::Zeros(end - at));
    }
}

/// All of them in memory.
///
/// # Errors
/// A file cannot be read, or is shorter than its piece.
pub fn whole(pieces: &[Piece]) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::from(io::ErrorKind::OutOfMemory);
    let mut all = Vec::with_capacity(usize::try_from(length(pieces)).map_err(too_long)?);
    for piece in pieces {
        let begin = all.len();
        let end = begin + usize::try_from(piece.length()).map_err(too_long)?;
        match piece {
            Piece::Bytes(bytes) => all.extend_from_slice(bytes),
            Piece::Zeros(_) => all.resize(end, 0),
            Piece::File { path, offset, .. } => {
                all.resize(end, 0);
                let place = all.get_mut(begin..).unwrap_or_default();
                File::open(path)?.read_exact_at(place, *offset)?;
            }
        }
    }
    Ok(all)
}
