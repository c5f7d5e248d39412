//! A drive whose first bytes are still in memory: whoever writes a table there writes it to memory, until all else is on the drive.

use crate::device::BlockDevice;
use std::io;
use std::sync::{Mutex, PoisonError};

/// The drive, and what is to stand at its start.
pub struct Held<'a> {
    block: &'a dyn BlockDevice,
    head: Mutex<Vec<u8>>,
}

impl<'a> Held<'a> {
    /// Holds `head` back from `block`.
    #[must_use]
    pub fn new(block: &'a dyn BlockDevice, head: Vec<u8>) -> Self {
        let head = Mutex::new(head);
        Self { block, head }
    }

    /// Puts the head on the drive, as it is by now, and reads it back.
    ///
    /// # Errors
    /// The drive's, or that it reads otherwise.
    pub fn put_down(self) -> io::Result<()> {
        let head = self
            .head
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        // All else is there before the table is: power may be lost at any time.
        self.block.settle()?;
        self.block.write_at(0, &head)?;
        self.block.settle()?;
        let mut seen = vec![0_u8; head.len()];
        self.block.read_at(0, &mut seen)?;
        if seen != head {
            return Err(io::Error::other(
                "the partition table reads back otherwise than it was written",
            ));
        }
        Ok(())
    }

    /// How many of `length` bytes from `offset` on lie in the head of `held` bytes, and where.
    fn split(offset: u64, length: usize, held: usize) -> (usize, usize) {
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(held);
        (at, length.min(held - at))
    }
}

impl BlockDevice for Held<'_> {
    fn size(&self) -> u64 {
        self.block.size()
    }

    fn block_size(&self) -> u64 {
        self.block.block_size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, inside) = Self::split(offset, buffer.len(), head.len());
        let (first, rest) = buffer.split_at_mut(inside);
        first.copy_from_slice(head.get(at..at + inside).unwrap_or_default());
        if rest.is_empty() {
            return Ok(());
        }
        self.block.read_at(offset + inside as u64, rest)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, inside) = Self::split(offset, bytes.len(), head.len());
        let (first, rest) = bytes.split_at(inside);
        if let Some(place) = head.get_mut(at..at + inside) {
            place.copy_from_slice(first);
        }
        if rest.is_empty() {
            return Ok(());
        }
        self.block.write_at(offset + inside as u64, rest)
    }

    fn settle(&self) -> io::Result<()> {
        self.block.settle()
    }

    fn zero_out(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn secure_discard(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn reread_partitions(&self) -> io::Result<()> {
        Ok(())
    }
}
