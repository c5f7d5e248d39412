//! The discovery ramdisk: a distribution's kernel, the modules that a profile names, and the probe as `/init`. No shell, no package manager.
//!
//! [`build`] makes it in all its forms. The same input makes the same bytes: nothing of the host, no time but [`Options::time`], no order but the lists'.

pub mod index;
pub mod kernel;
pub mod modules;
pub mod profile;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
pub use index::{File, Index, Slot};
pub use kernel::{Kernel, KernelSource};
pub use profile::Profile;

use crate::cpio::{Archive, CpioError};
use crate::iso::{self, IsoError};
use crate::piece::{self, Piece};
use crate::uki::{self, UkiError};

/// The usual command line: console on screen and on the first serial port (which becomes `/dev/console`), reboot some time after a panic.
pub const COMMAND_LINE: &str = "console=tty0 console=ttyS0,115200n8 panic=60 quiet loglevel=5";
/// Where Debian's `systemd-boot-efi` has the EFI stub.
pub const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// Why a ramdisk is not made. Trying again helps only after a failure of the file system or of the package archive.
#[derive(Debug, thiserror::Error)]
pub enum RamdiskError {
    /// A file or folder.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is longer than any kernel.
    #[error("{} is too long to be read", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// No kernel with its modules.
    #[error("there is no boot/vmlinuz-* with its lib/modules in {}", place.display())]
    NoKernel {
        /// Where it was looked for.
        place: PathBuf,
    },
    /// What is given as a package's name is none.
    #[error("{0:?} is no package name")]
    PackageName(String),
    /// A tool cannot be started.
    #[error("cannot run {tool}")]
    Tool {
        /// Which.
        tool: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A tool failed.
    #[error("{tool} failed: {said}")]
    ToolFailed {
        /// Which.
        tool: String,
        /// What it printed.
        said: String,
    },
    /// The probe is not a static program for the kernel's processor.
    #[error("{} cannot be /init: {why}", path.display())]
    Probe {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The kernel has none of the profile's modules.
    #[error("kernel {release} has none of the modules of profile {profile}; has depmod run?")]
    NoModules {
        /// The kernel.
        release: String,
        /// The profile.
        profile: &'static str,
    },
    /// The archive.
    #[error("the archive cannot be written")]
    Archive(#[from] CpioError),
    /// The unified kernel image.
    #[error("the unified kernel image cannot be made")]
    Uki(#[from] UkiError),
    /// The ISO image.
    #[error("the ISO image cannot be made")]
    Iso(#[from] IsoError),
    /// The index of an existing ramdisk.
    #[error("{} is no ramdisk's index", path.display())]
    Index {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// A file is not what the index says.
    #[error("{} is not the file that was built: its digest is another", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
}

impl RamdiskError {
    fn io(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// What to build from.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the kernel comes from.
    pub kernel: KernelSource,
    /// Which kernel, where there are several.
    pub release: Option<String>,
    /// Which modules.
    pub profile: Profile,
    /// The static probe.
    pub probe: PathBuf,
    /// systemd's EFI stub; [`STUB`].
    pub stub: PathBuf,
    /// Command line without what belongs to one boot; [`COMMAND_LINE`].
    pub command_line: String,
    /// Time of all files, seconds since 1970: SOURCE_DATE_EPOCH, or 0.
    pub time: u32,
    /// The folder that the files go to.
    pub out: PathBuf,
}

/// Builds a ramdisk into the folder `out`: `kernel`, `initrd`, `boot.efi`, `boot.iso` and the index `ramdisk.json`, which is written last.
///
/// # Errors
/// See [`RamdiskError`]. What stood in the folder before is replaced only file by file, each whole; without an index it is no ramdisk.
pub fn build(options: &Options) -> Result<Index, RamdiskError> {
    let out = &options.out;
    fs::create_dir_all(out).map_err(|error| RamdiskError::io("make", out, error))?;
    let work = tempdir(out)?;
    let kernel = options.kernel.find(options.release.as_deref(), &work.0)?;
    let image = Bytes::from(kernel::read(&kernel.image)?);
    let (initrd, selection) = initrd(options, &kernel)?;
    let initrd = Bytes::from(initrd);
    let uki = uki::build(uki::Parts {
        stub: &kernel::read(&options.stub)?,
        os_release: &format!(
            "NAME=\"Corten\"\nID=corten\nPRETTY_NAME=\"Corten discovery ramdisk\"\nVERSION_ID=\"{}\"\n",
            env!("CARGO_PKG_VERSION")
        ),
        release: &kernel.release,
        command_line: &options.command_line,
        head: &image,
        kernel: vec![Piece::Bytes(image.clone())],
        initrd: vec![Piece::Bytes(initrd.clone())],
    })?;
    let iso = iso::bootable(uki.pieces.clone(), options.time)?;
    let whole = |pieces: &[Piece]| {
        piece::whole(pieces).map_err(|error| RamdiskError::io("put together files of", out, error))
    };

    let stale = out.join(index::FILE);
    if let Err(error) = fs::remove_file(&stale)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(RamdiskError::io("remove", &stale, error));
    }
    let slot = |offset| Slot {
        offset,
        length: uki::SLOT as u64,
    };
    let iso_slot = slot(iso.offset + uki.slot);
    let index = Index {
        version: 1,
        architecture: "amd64".into(),
        profile: options.profile.name().into(),
        release: kernel.release,
        command_line: options.command_line.clone(),
        kernel: write(out, "kernel", &image, None)?,
        initrd: write(out, "initrd", &initrd, None)?,
        efi: write(
            out,
            crate::links::name::EFI,
            &whole(&uki.pieces)?,
            Some(slot(uki.slot)),
        )?,
        iso: write(
            out,
            crate::links::name::ISO,
            &whole(&iso.pieces)?,
            Some(iso_slot),
        )?,
        modules: selection
            .paths
            .iter()
            .map(|path| modules::name_of(path))
            .collect(),
        missing: selection.missing,
    };
    index.write(out)?;
    Ok(index)
}

/// The initial ramdisk, packed.
fn initrd(
    options: &Options,
    kernel: &Kernel,
) -> Result<(Vec<u8>, modules::Selection), RamdiskError> {
    let text = |name: &str| {
        kernel::read(&kernel.modules.join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    // Only modules.dep is needed; old kernels have no modules.softdep.
    let optional = |name: &str| text(name).unwrap_or_default();
    let index = modules::Index::read(
        &text("modules.dep")?,
        &optional("modules.softdep"),
        &optional("modules.alias"),
        &optional("modules.builtin"),
    );
    let selection = index.select(options.profile.modules());
    if selection.paths.is_empty() && selection.builtin.is_empty() {
        return Err(RamdiskError::NoModules {
            release: kernel.release.clone(),
            profile: options.profile.name(),
        });
    }
    let probe = kernel::read(&options.probe)?;
    check_probe(&options.probe, &probe)?;

    let mut archive = Archive::new(options.time);
    for directory in ["proc", "sys", "dev", "run", "tmp", "etc/corten"] {
        archive.directory(directory)?;
    }
    // Without it the kernel gives PID 1 no standard output.
    archive.character_device("dev/console", 0o600, 5, 1)?;
    archive.file("init", 0o755, &probe)?;
    let mut order = String::new();
    for path in &selection.paths {
        let unpacked = path.split(".ko").next().unwrap_or(path);
        let place = format!("lib/modules/{}/{unpacked}.ko", kernel.release);
        archive.file(
            &place,
            0o644,
            &kernel::read_module(&kernel.modules.join(path))?,
        )?;
        order.push_str(&format!("/{place}\n"));
    }
    archive.file("etc/corten/modules", 0o644, order.as_bytes())?;
    Ok((gzip(&archive.finish()?, &options.out)?, selection))
}

/// gzip, which every distribution's kernel unpacks (`CONFIG_RD_GZIP`); without name and time.
fn gzip(bytes: &[u8], place: &Path) -> Result<Vec<u8>, RamdiskError> {
    let mut encoder = flate2::GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), flate2::Compression::best());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|error| RamdiskError::io("pack the ramdisk for", place, error))
}

/// `/init` has no loader and no libraries beside it: it must be a static ELF program for x86-64.
fn check_probe(path: &Path, probe: &[u8]) -> Result<(), RamdiskError> {
    let refuse = |why| RamdiskError::Probe {
        path: path.to_owned(),
        why,
    };
    let number = |at: usize| {
        probe
            .get(at..at + 2)
            .and_then(|raw| raw.first_chunk::<2>())
            .map(|raw| usize::from(u16::from_le_bytes(*raw)))
    };
    if !probe.starts_with(b"\x7fELF\x02\x01") {
        return Err(refuse("it is no 64-bit ELF program"));
    }
    if number(18) != Some(62) {
        return Err(refuse("it is for another processor than x86-64"));
    }
    let headers = probe
        .get(32..40)
        .and_then(|raw| raw.first_chunk::<8>())
        .map(|raw| u64::from_le_bytes(*raw))
        .and_then(|at| usize::try_from(at).ok());
    let (Some(start), Some(size), Some(count)) = (headers, number(54), number(56)) else {
        return Err(refuse("it is truncated"));
    };
    /// A program header of this type names the dynamic loader.
    const PT_INTERP: [u8; 4] = [3, 0, 0, 0];
    let dynamic = (0..count).any(|header| {
        let at = start.saturating_add(header.saturating_mul(size));
        probe.get(at..at.saturating_add(4)) == Some(&PT_INTERP)
    });
    if dynamic {
        Err(refuse(
            "it is linked dynamically; build it with RUSTFLAGS='-C target-feature=+crt-static'",
        ))
    } else {
        Ok(())
    }
}

/// Writes a file whole or not at all.
fn write(
    folder: &Path,
    name: &str,
    bytes: &[u8],
    slot: Option<Slot>,
) -> Result<File, RamdiskError> {
    let path = folder.join(name);
    let temporary = folder.join(format!(".{name}.part"));
    let failed = |error| RamdiskError::io("write", &path, error);
    let mut file = fs::File::create(&temporary).map_err(failed)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&temporary, &path).map_err(failed)?;
    Ok(File {
        name: name.to_owned(),
        length: bytes.len() as u64,
        sha256: index::sha256(bytes),
        slot,
    })
}

/// A work folder that goes when it is no longer needed.
struct Work(PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tempdir(out: &Path) -> Result<Work, RamdiskError> {
    let path = out.join(format!(".work-{}", std::process::id()));
    fs::create_dir_all(&path).map_err(|error| RamdiskError::io("make", &path, error))?;
    Ok(Work(path))
}

#[cfg(test)]
pub(crate) mod tests;
