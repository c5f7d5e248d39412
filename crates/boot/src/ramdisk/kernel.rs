//! Where a kernel and its modules come from: a folder laid out as a system's root, or a Debian package that is unpacked for it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::RamdiskError;

/// Largest module or kernel that is read, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Where to take a kernel from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSource {
    /// A folder with `boot/vmlinuz-*` and `lib/modules/*`; `/` for the system's own.
    Root(PathBuf),
    /// A `.deb`, unpacked into the work folder with `dpkg-deb`.
    Deb(PathBuf),
    /// The name of a package (or of one that depends on it), downloaded with `apt-get download` into the work folder. Nothing is installed.
    Package(String),
}

/// A kernel and its modules on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// The image.
    pub image: PathBuf,
    /// The folder `lib/modules/<release>`.
    pub modules: PathBuf,
}

impl KernelSource {
    /// Finds the kernel; `release` says which where there are several, else the newest is taken. `work` holds what is unpacked, and must outlive the use.
    ///
    /// # Errors
    /// There is none, or a tool of the distribution failed.
    pub fn find(&self, release: Option<&str>, work: &Path) -> Result<Kernel, RamdiskError> {
        match self {
            KernelSource::Root(root) => in_root(root, release),
            KernelSource::Deb(package) => in_package(package, release, work),
            KernelSource::Package(name) => in_package(&download(name, work)?, release, work),
        }
    }
}

fn in_root(root: &Path, release: Option<&str>) -> Result<Kernel, RamdiskError> {
    let nothing = || RamdiskError::NoKernel {
        place: root.to_owned(),
    };
    let boot = root.join("boot");
    let mut found: Vec<(Vec<Natural>, String)> = fs::read_dir(&boot)
        .map_err(|error| RamdiskError::io("read", &boot, error))?
        .filter_map(|entry| {
            entry
                .ok()?
                .file_name()
                .to_str()?
                .strip_prefix("vmlinuz-")
                .map(str::to_owned)
        })
        .filter(|name| {
            release.is_none_or(|release| release == name) && modules_folder(root, name).is_some()
        })
        .map(|name| (natural(&name), name))
        .collect();
    found.sort();
    let (_, release) = found.pop().ok_or_else(nothing)?;
    let modules = modules_folder(root, &release).ok_or_else(nothing)?;
    Ok(Kernel {
        image: boot.join(format!("vmlinuz-{release}")),
        modules,
        release,
    })
}

/// Merged `/usr` or not: packages for either are about.
fn modules_folder(root: &Path, release: &str) -> Option<PathBuf> {
    ["lib/modules", "usr/lib/modules"]
        .iter()
        .map(|folder| root.join(folder).join(release))
        .find(|folder| folder.is_dir())
}

/// Parts of a release in the order in which people count: 6.1.0-56 after 6.1.0-9.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Natural {
    Text(String),
    Number(u64),
}

fn natural(text: &str) -> Vec<Natural> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest
            .find(|letter: char| letter.is_ascii_digit() != digits)
            .unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        parts.push(
            part.parse()
                .ok()
                .filter(|_| digits)
                .map_or_else(|| Natural::Text(part.to_owned()), Natural::Number),
        );
        rest = after;
    }
    parts
}

fn in_package(package: &Path, release: Option<&str>, work: &Path) -> Result<Kernel, RamdiskError> {
    let root = work.join("root");
    fs::create_dir_all(&root).map_err(|error| RamdiskError::io("make", &root, error))?;
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(package)
        .arg(&root))?;
    let modules = [root.join("lib/modules"), root.join("usr/lib/modules")];
    // The package has no index: depmod makes it when the package is configured. It only reads and writes below the folder.
    for release in modules
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
    {
        run(Command::new("depmod")
            .arg("--basedir")
            .arg(&root)
            .arg(release.file_name()))?;
    }
    in_root(&root, release)
}

fn download(name: &str, work: &Path) -> Result<PathBuf, RamdiskError> {
    fs::create_dir_all(work).map_err(|error| RamdiskError::io("make", work, error))?;
    let package = real_package(name)?;
    run(Command::new("apt-get")
        .args(["--quiet=2", "download", &package])
        .current_dir(work))?;
    fs::read_dir(work)
        .map_err(|error| RamdiskError::io("read", work, error))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| RamdiskError::NoKernel {
            place: work.to_owned(),
        })
}

/// `linux-image-amd64` is empty and depends on the package of the current version.
fn real_package(name: &str) -> Result<String, RamdiskError> {
    let valid = name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "+-.:~=".contains(letter));
    if !valid {
        return Err(RamdiskError::PackageName(name.to_owned()));
    }
    let output =
        run(Command::new("apt-cache").args(["depends", "--important", "--no-recommends", name]))?;
    let real = output
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"));
    Ok(real.unwrap_or(name).to_owned())
}

/// Runs a tool of the distribution, without a shell; what it printed.
fn run(command: &mut Command) -> Result<String, RamdiskError> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|source| RamdiskError::Tool {
        tool: tool.clone(),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr)
        .trim()
        .chars()
        .take(400)
        .collect();
    Err(RamdiskError::ToolFailed { tool, said })
}

/// Reads a file of bounded size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, RamdiskError> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| RamdiskError::io("open", path, error))?;
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| RamdiskError::io("read", path, error))?;
    if bytes.len() as u64 > MAX_FILE {
        Err(RamdiskError::TooLong {
            path: path.to_owned(),
        })
    } else {
        Ok(bytes)
    }
}

/// Reads a module, unpacked.
pub fn read_module(path: &Path) -> Result<Vec<u8>, RamdiskError> {
    let packed = read(path)?;
    let unpack = |reader: Box<dyn Read + '_>| {
        let mut bytes = Vec::new();
        reader
            .take(MAX_FILE)
            .read_to_end(&mut bytes)
            .map_err(|error| RamdiskError::io("unpack", path, error))?;
        Ok(bytes)
    };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => unpack(Box::new(flate2::read::GzDecoder::new(packed.as_slice()))),
        Some("xz") => unpack(Box::new(lzma_rust2::XzReader::new(packed.as_slice(), true))),
        Some("zst") => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed.as_slice());
            unpack(Box::new(decoder.map_err(|error| {
                RamdiskError::io("unpack", path, std::io::Error::other(error.to_string()))
            })?))
        }
        _ => Ok(packed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_with_modules_is_taken() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("boot")).unwrap();
        for release in ["6.1.0-9-amd64", "6.1.0-56-amd64", "6.9.0-1-amd64"] {
            fs::write(
                root.path().join("boot").join(format!("vmlinuz-{release}")),
                b"MZ",
            )
            .unwrap();
            if release != "6.9.0-1-amd64" {
                fs::create_dir_all(root.path().join("lib/modules").join(release)).unwrap();
            }
        }
        let find = |release| {
            KernelSource::Root(root.path().to_owned())
                .find(release, root.path())
                .map(|kernel| kernel.release)
        };
        assert_eq!(find(None).unwrap(), "6.1.0-56-amd64");
        assert_eq!(find(Some("6.1.0-9-amd64")).unwrap(), "6.1.0-9-amd64");
        assert!(matches!(
            find(Some("5")),
            Err(RamdiskError::NoKernel { .. })
        ));
    }

    #[test]
    fn a_name_that_is_an_option_is_no_package() {
        assert!(matches!(
            real_package("--help"),
            Err(RamdiskError::PackageName(_))
        ));
    }
}
