//! The place where `/sys`, `/proc` and `/dev` are found.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// No file of sysfs that we read is longer.
const LIMIT: u64 = 1 << 20;

/// The place where `/sys`, `/proc` and `/dev` are found: `/` in life, a folder in tests.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl Root {
    /// A tree below `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Whether this is the machine itself.
    #[must_use]
    pub fn is_machine(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// A path in it; `relative` begins without a slash.
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.0.join(relative)
    }

    /// Contents of a file.
    pub fn bytes(&self, relative: impl AsRef<Path>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(self.join(relative))
            .ok()?
            .take(LIMIT)
            .read_to_end(&mut bytes)
            .ok()?;
        Some(bytes)
    }

    /// Contents of a file as text, trimmed; none where it is empty.
    pub fn text(&self, relative: impl AsRef<Path>) -> Option<String> {
        let text = String::from_utf8_lossy(&self.bytes(relative)?)
            .trim_matches(|c: char| c.is_whitespace() || c == '\0')
            .to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A number in a file, decimal.
    pub fn number<T: std::str::FromStr>(&self, relative: impl AsRef<Path>) -> Option<T> {
        self.text(relative)?.parse().ok()
    }

    /// Whether a file holds `1`.
    pub fn flag(&self, relative: impl AsRef<Path>) -> bool {
        self.text(relative).as_deref() == Some("1")
    }

    /// Names in a folder, sorted; none where there is no such folder.
    pub fn names(&self, relative: impl AsRef<Path>) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.join(relative))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Last part of what a link points to.
    pub fn link_name(&self, relative: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.join(relative)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// The path with all links followed.
    pub fn canonical(&self, relative: impl AsRef<Path>) -> Option<PathBuf> {
        fs::canonicalize(self.join(relative)).ok()
    }
}
