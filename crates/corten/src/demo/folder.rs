//! The demo's folder: everything that it writes is in there, and one demo at a time uses it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    written: Vec<PathBuf>,
    _lock: File,
}

// === impl Folder ===

impl Folder {
    /// Makes the folder if need be. Only its owner may look into it: there are keys in it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("cannot use the folder {}", path.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(failed)?;
        let path = path.canonicalize().with_context(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(".lock"))
            .with_context(failed)?;
        if lock.try_lock().is_err() {
            bail!(
                "another demo is running in {}; end it, or choose another folder with --folder",
                path.display()
            );
        }
        Ok(Self {
            path,
            written: Vec::new(),
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only its owner may read and that goes at the end.
    pub fn write(&mut self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        let failed = || format!("cannot write {}", path.display());
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(failed)?;
        file.write_all(content.as_bytes()).with_context(failed)?;
        self.written.push(path.clone());
        Ok(path)
    }

    /// A fresh log file's path; logs stay, for whoever wants to know what went on.
    pub fn log(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        let _ = std::fs::remove_file(&path);
        path
    }

    /// Removes what was written.
    pub fn clean(&mut self) {
        for path in self.written.drain(..) {
            let _ = std::fs::remove_file(path);
        }
    }
}
