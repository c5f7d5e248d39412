//! What an image turned out to be.

use crate::links::name;

/// How it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One EFI file.
    Efi,
    /// An ISO image.
    Iso,
    /// Kernel and initial ramdisk.
    Linux,
    /// A disk image, which is written and not booted over the network.
    Disk,
}

/// A file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name among the artefacts ([`crate::links::name`]).
    pub name: &'static str,
    /// SHA-256 of the bytes as they are served.
    pub sha256: String,
    /// Bytes.
    pub length: u64,
}

/// How a disk image is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// xz.
    Xz,
}

/// An image whose files are in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// SHA-256 of its manifest, or of the one file that it is.
    pub digest: String,
    /// How it is started.
    pub kind: Kind,
    /// Its files.
    pub parts: Vec<Part>,
    /// Command line that its manifest gives.
    pub command_line: Option<String>,
    /// How a disk image is packed.
    pub packing: Packing,
}

impl Resolved {
    /// The file of that name.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Whether what it boots is told where its ignition configuration is. A disk image gets it on its config drive.
    #[must_use]
    pub fn tells_ignition(&self) -> bool {
        self.tells(IGNITION_URL, true)
    }

    /// Whether what it boots is told where its cloud-init data is.
    #[must_use]
    pub fn tells_cloud_init(&self) -> bool {
        self.tells(CLOUD_INIT_URL, false)
    }

    fn tells(&self, placeholder: &str, by_default: bool) -> bool {
        match (self.kind, &self.command_line) {
            (Kind::Disk, _) => true,
            (Kind::Linux, Some(line)) => line.contains(placeholder),
            (Kind::Linux, None) => by_default,
            // Their command line is inside, where only their maker writes.
            (Kind::Efi | Kind::Iso, _) => false,
        }
    }
}

/// In a manifest's `commandLine`: URL of the ignition configuration.
pub const IGNITION_URL: &str = "${ignition-url}";
/// In a manifest's `commandLine`: URL of the NoCloud seed, which ends in a slash.
pub const CLOUD_INIT_URL: &str = "${cloud-init-url}";

/// What a single file is, by its first bytes; a disk image has to look like one.
#[must_use]
pub fn recognise(start: &[u8]) -> Option<(Kind, Packing, &'static str)> {
    let at = |offset: usize, magic: &[u8]| start.get(offset..offset + magic.len()) == Some(magic);
    let disk = |packing| Some((Kind::Disk, packing, name::IMAGE));
    if at(0, b"MZ") && crate::uki::pe::machine(start).is_ok() {
        Some((Kind::Efi, Packing::None, name::EFI))
    } else if at(0x8001, b"CD001") {
        Some((Kind::Iso, Packing::None, name::ISO))
    } else if at(0, &[0x1f, 0x8b]) {
        disk(Packing::Gzip)
    } else if at(0, &[0x28, 0xb5, 0x2f, 0xfd]) {
        disk(Packing::Zstd)
    } else if at(0, b"\xfd7zXZ\0") {
        disk(Packing::Xz)
    } else if at(510, &[0x55, 0xaa]) || at(512, b"EFI PART") {
        disk(Packing::None)
    } else {
        None
    }
}
