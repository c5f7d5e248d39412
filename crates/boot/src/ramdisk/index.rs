//! What a built ramdisk consists of: the file `ramdisk.json` beside it.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::RamdiskError;

/// Name of the index in a ramdisk's folder.
pub const FILE: &str = "ramdisk.json";

/// Where the command line is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// One of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Name in the folder.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Where each boot's command line is laid over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
}

/// A ramdisk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Version of this format: 1.
    pub version: u32,
    /// As Go and OCI name it.
    pub architecture: String,
    /// Which modules are in it.
    pub profile: String,
    /// `uname -r`.
    pub release: String,
    /// Command line without what belongs to one boot.
    pub command_line: String,
    /// The kernel.
    pub kernel: File,
    /// The initial ramdisk.
    pub initrd: File,
    /// Both as one EFI file.
    pub efi: File,
    /// The EFI file as an ISO image.
    pub iso: File,
    /// Names of the modules in it, in the order of loading.
    pub modules: Vec<String>,
    /// Names of the profile that this kernel does not have.
    pub missing: Vec<String>,
}

impl Index {
    /// Reads the index of the ramdisk in `folder`, and checks each file against it.
    ///
    /// # Errors
    /// It is not there, is none, or a file is another than was built.
    pub fn open(folder: &Path) -> Result<Self, RamdiskError> {
        let path = folder.join(FILE);
        let bytes = super::kernel::read(&path)?;
        let index: Self = serde_json::from_slice(&bytes)
            .map_err(|source| RamdiskError::Index { path, source })?;
        for file in [&index.kernel, &index.initrd, &index.efi, &index.iso] {
            let path = folder.join(&file.name);
            let plain = Path::new(&file.name)
                .file_name()
                .is_some_and(|name| name == file.name.as_str());
            let fits = file.slot.is_none_or(|slot| {
                slot.offset
                    .checked_add(slot.length)
                    .is_some_and(|end| end <= file.length)
            });
            if !plain || !fits || digest_of(&path)? != (file.sha256.clone(), file.length) {
                return Err(RamdiskError::Changed { path });
            }
        }
        Ok(index)
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), RamdiskError> {
        let path = folder.join(FILE);
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|source| RamdiskError::Index { path, source })?;
        bytes.push(b'\n');
        super::write(folder, FILE, &bytes, None).map(|_| ())
    }
}

/// SHA-256 of bytes, hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest_of(path: &Path) -> Result<(String, u64), RamdiskError> {
    let failed = |error| RamdiskError::io("read", path, error);
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0u8; 1 << 16];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok((hexadecimal(context.finish().as_ref()), length));
        }
        context.update(buffer.get(..count).unwrap_or_default());
        length += count as u64;
    }
}
