//! Blocks of an open file: a block device in life, an ordinary file in tests.

use super::BlockDevice;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// An open file as a drive.
pub struct FileDevice {
    file: File,
    size: u64,
    block_size: u64,
    is_block: bool,
}

impl FileDevice {
    /// Takes an open file, whose size is asked now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(file: File) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt;
        let metadata = file.metadata()?;
        let is_block = metadata.file_type().is_block_device();
        let size = if is_block {
            corten_probe_ioctl::size_bytes(file.as_fd())?
        } else {
            metadata.len()
        };
        let block_size = if is_block {
            rustix::fs::ioctl_blksszget(&file)?.into()
        } else {
            512
        };
        Ok(Self {
            file,
            size,
            block_size,
            is_block,
        })
    }

    fn only_block<T>(&self, result: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.is_block {
            return result();
        }
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl BlockDevice for FileDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn block_size(&self) -> u64 {
        self.block_size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, offset)
    }

    fn settle(&self) -> io::Result<()> {
        self.file.sync_data()?;
        if self.is_block {
            corten_probe_ioctl::flush_buffers(self.file.as_fd())?;
        }
        Ok(())
    }

    fn zero_out(&self, offset: u64, length: u64) -> io::Result<()> {
        self.only_block(|| corten_probe_ioctl::zero_out(self.file.as_fd(), offset, length))
    }

    fn secure_discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.only_block(|| corten_probe_ioctl::secure_discard(self.file.as_fd(), offset, length))
    }

    fn reread_partitions(&self) -> io::Result<()> {
        if self.is_block {
            return corten_probe_ioctl::reread_partitions(self.file.as_fd());
        }
        Ok(())
    }
}
