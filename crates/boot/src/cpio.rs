//! Writes cpio archives in the format that Linux unpacks as initial ramdisk ("newc", Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The same entries in the same order make the same bytes: inode numbers count up, owners are root, and the time is given.

use std::collections::BTreeSet;

/// Kind bits of `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;

/// Why an archive cannot be written. Trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpioError {
    /// The format has 32 bits for it.
    #[error("{path} has {length} bytes, too many for a cpio archive")]
    TooLong {
        /// Path in the archive.
        path: String,
        /// Its length.
        length: u64,
    },
    /// A path is empty, has a NUL or leads upwards.
    #[error("{0:?} is no path for an archive")]
    Path(String),
}

/// An archive under way.
#[derive(Debug)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    time: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// An empty one, whose entries were all changed at `time` (seconds since 1970).
    #[must_use]
    pub fn new(time: u32) -> Self {
        Self {
            bytes: Vec::new(),
            inode: 0,
            time,
            directories: BTreeSet::new(),
        }
    }

    /// A directory, with those above it; nothing where it is there already.
    ///
    /// # Errors
    /// The path is none.
    pub fn directory(&mut self, path: &str) -> Result<(), CpioError> {
        let path = checked(path)?;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let (directory, _) = path.split_at(end);
            if self.directories.insert(directory.to_owned()) {
                self.entry(directory, DIRECTORY | 0o755, 2, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    /// A file, with the directories above it.
    ///
    /// # Errors
    /// The path is none, or the file too long.
    pub fn file(&mut self, path: &str, permissions: u32, contents: &[u8]) -> Result<(), CpioError> {
        let path = checked(path)?;
        self.parents(path)?;
        self.entry(path, REGULAR | (permissions & 0o7777), 1, (0, 0), contents)
    }

    /// A character device, with the directories above it.
    ///
    /// # Errors
    /// The path is none.
    pub fn character_device(
        &mut self,
        path: &str,
        permissions: u32,
        major: u32,
        minor: u32,
    ) -> Result<(), CpioError> {
        let path = checked(path)?;
        self.parents(path)?;
        self.entry(
            path,
            CHARACTER_DEVICE | (permissions & 0o7777),
            1,
            (major, minor),
            &[],
        )
    }

    /// The archive's bytes, padded to 512 as other tools do (so that another archive can follow).
    ///
    /// # Errors
    /// None in practice; the trailer is an entry as any other.
    pub fn finish(mut self) -> Result<Vec<u8>, CpioError> {
        self.time = 0;
        self.inode = u32::MAX;
        self.entry("TRAILER!!!", 0, 1, (0, 0), &[])?;
        let padded = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(padded, 0);
        Ok(self.bytes)
    }

    fn parents(&mut self, path: &str) -> Result<(), CpioError> {
        path.rsplit_once('/')
            .map_or(Ok(()), |(parent, _)| self.directory(parent))
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        links: u32,
        device: (u32, u32),
        contents: &[u8],
    ) -> Result<(), CpioError> {
        let too_long = || CpioError::TooLong {
            path: path.to_owned(),
            length: contents.len() as u64,
        };
        let size = u32::try_from(contents.len()).map_err(|_| too_long())?;
        let name = u32::try_from(path.len() + 1).map_err(|_| too_long())?;
        self.inode = self.inode.wrapping_add(1);
        self.bytes.extend_from_slice(b"070701");
        for field in [
            self.inode, mode, 0, 0, links, self.time, size, 0, 0, device.0, device.1, name, 0,
        ] {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        let aligned = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(aligned, 0);
    }
}

/// A path without slashes at its ends.
fn checked(path: &str) -> Result<&str, CpioError> {
    let trimmed = path.trim_matches('/');
    let bad = trimmed.contains('\0')
        || trimmed
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..");
    if bad {
        Err(CpioError::Path(path.to_owned()))
    } else {
        Ok(trimmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listed(bytes: &[u8]) -> Vec<(String, u32, usize)> {
        let mut rest = bytes;
        let mut entries = Vec::new();
        loop {
            assert_eq!(&rest[..6], b"070701");
            let field = |n: usize| {
                u32::from_str_radix(
                    std::str::from_utf8(&rest[6 + n * 8..14 + n * 8]).unwrap(),
                    16,
                )
                .unwrap()
            };
            let (mode, size, name) = (field(1), field(6) as usize, field(11) as usize);
            let path = String::from_utf8(rest[110..110 + name - 1].to_vec()).unwrap();
            if path == "TRAILER!!!" {
                return entries;
            }
            entries.push((path, mode, size));
            rest = &rest[(110 + name).next_multiple_of(4) + size.next_multiple_of(4)..];
        }
    }

    #[test]
    fn directories_come_once_and_before_what_is_in_them() {
        let mut archive = Archive::new(7);
        archive.file("/etc/corten/modules", 0o644, b"abc").unwrap();
        archive.file("etc/corten/boot", 0o600, b"").unwrap();
        archive
            .character_device("/dev/console", 0o600, 5, 1)
            .unwrap();
        let entries = listed(&archive.finish().unwrap());
        let paths: Vec<_> = entries.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "etc",
                "etc/corten",
                "etc/corten/modules",
                "etc/corten/boot",
                "dev",
                "dev/console"
            ]
        );
        assert_eq!(entries[2].2, 3);
    }

    #[test]
    fn a_path_that_leads_upwards_is_refused() {
        let mut archive = Archive::new(0);
        for path in ["", "/", "../x", "a/../b", "a//b", "a\0b"] {
            assert!(
                matches!(archive.file(path, 0o644, b""), Err(CpioError::Path(_))),
                "{path:?}"
            );
        }
    }

    /// The reader that everybody has must agree.
    #[test]
    fn cpio_of_the_distribution_lists_it() {
        let mut archive = Archive::new(1);
        archive.file("init", 0o755, &[1; 4097]).unwrap();
        archive.file("lib/a", 0o644, b"x").unwrap();
        let bytes = archive.finish().unwrap();
        let Ok(mut child) = std::process::Command::new("cpio")
            .args(["-t", "--quiet"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
        else {
            return; // Not installed here; `listed` is what remains.
        };
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "init\nlib\nlib/a\n"
        );
    }

    proptest! {
        #[test]
        fn whatever_goes_in_is_listed(files in proptest::collection::btree_map("[a-z]{1,8}", proptest::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let mut archive = Archive::new(0);
            for (path, contents) in &files {
                archive.file(path, 0o644, contents).unwrap();
            }
            let entries = listed(&archive.finish().unwrap());
            let sizes: Vec<_> = entries.into_iter().map(|(path, _, size)| (path, size)).collect();
            prop_assert_eq!(sizes, files.into_iter().map(|(path, contents)| (path, contents.len())).collect::<Vec<_>>());
        }

        #[test]
        fn no_path_panics(path in ".{0,40}") {
            let _ = Archive::new(0).file(&path, 0o644, b"");
        }
    }
}
