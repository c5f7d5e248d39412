//! A machine's folder: its disks, its variable store, its console and its sockets.

use std::fs;
use std::path::{Path, PathBuf};

use super::store::VariableStore;
use super::{Disk, Firmware, Qemu, QemuError};

/// `machine-N` below the fleet's folder.
#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Makes the folder with its disks and variables, or takes those that are there.
    pub fn open(
        parent: &Path,
        index: usize,
        qemu: &Qemu,
        firmware: &Firmware,
    ) -> Result<Self, QemuError> {
        let path = parent.join(format!("machine-{index}"));
        fs::create_dir_all(&path).map_err(QemuError::file(&path))?;
        let directory = Self(path.canonicalize().map_err(QemuError::file(&path))?);
        for (number, disk) in qemu.disks_in_order().iter().enumerate() {
            directory.disk(number, *disk)?;
        }
        if qemu.tpm {
            let tpm = directory.tpm();
            fs::create_dir_all(&tpm).map_err(QemuError::file(&tpm))?;
        }
        let variables = directory.variables();
        if !variables.exists() {
            fs::copy(&firmware.variables, &variables)
                .map_err(QemuError::file(&firmware.variables))?;
        }
        Ok(directory)
    }

    fn disk(&self, number: usize, disk: Disk) -> Result<(), QemuError> {
        let path = self.disk_path(number);
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(QemuError::file(&path))?;
        let length = file.metadata().map_err(QemuError::file(&path))?.len();
        if length == 0 {
            file.set_len(disk.bytes).map_err(QemuError::file(&path))?;
        } else if length != disk.bytes {
            return Err(QemuError::Impossible(
                "a disk of another size is in the folder",
            ));
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn disk_path(&self, number: usize) -> PathBuf {
        self.0.join(format!("disk{number}.raw"))
    }

    pub fn variables(&self) -> PathBuf {
        self.0.join("variables.fd")
    }

    pub fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// What the TPM remembers.
    pub fn tpm(&self) -> PathBuf {
        self.0.join("tpm")
    }

    /// The image in the virtual CD drive.
    pub fn image(&self) -> PathBuf {
        self.0.join("cd.iso")
    }

    /// A file in the folder, as a path from here if that is shorter: a socket's name has 107 bytes at most.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn read_variables(&self) -> Result<VariableStore, QemuError> {
        let path = self.variables();
        let image = fs::read(&path).map_err(QemuError::file(&path))?;
        VariableStore::parse(image).map_err(|source| QemuError::Variables { path, source })
    }

    /// Replaces the variables; a crash in between leaves the old ones.
    pub fn write_variables(&self, store: &VariableStore) -> Result<(), QemuError> {
        let path = self.variables();
        let image = store.write().map_err(|source| QemuError::Variables {
            path: path.clone(),
            source,
        })?;
        let new = self.0.join("variables.new");
        fs::write(&new, image).map_err(QemuError::file(&new))?;
        fs::rename(&new, &path).map_err(QemuError::file(&path))
    }

    /// Whether a disk begins with a partition table, the sign of something to boot.
    pub fn is_partitioned(&self, number: usize) -> bool {
        use std::io::Read as _;
        let mut start = [0; 1024];
        fs::File::open(self.disk_path(number))
            .and_then(|mut file| file.read_exact(&mut start))
            .is_ok_and(|()| {
                start.get(512..520) == Some(b"EFI PART")
                    || start.get(510..512) == Some(&[0x55, 0xAA])
            })
    }
}
