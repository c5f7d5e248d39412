//! Builds the control plane's programs from pinned Go modules, once per user and version.
//!
//! The module files travel inside this crate, so that an installed `corten demo` needs no checkout. Go verifies every
//! download against the committed go.sum. One builder works at a time (a lock file); its result appears by one rename,
//! so nobody sees half a build.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::binaries::{Binaries, KUBERNETES_VERSION};
use crate::{Error, Progress};

/// What a shell ends with when it does not find a program.
const NOT_FOUND: i32 = 127;

/// How a module is built; scripts/demo runs the same file beside cargo.
const SCRIPT: &str = include_str!("../../../tools/controlplane/build");

/// One Go module whose requirements hold the programs.
pub(crate) struct Module {
    what: &'static str,
    /// What the script calls it.
    name: &'static str,
    pub(crate) go_mod: &'static str,
    go_sum: &'static str,
    tools: &'static str,
}

pub(crate) const ETCD: Module = Module {
    what: "etcd",
    name: "etcd",
    go_mod: include_str!("../../../tools/controlplane/etcd/go.mod"),
    go_sum: include_str!("../../../tools/controlplane/etcd/go.sum"),
    tools: include_str!("../../../tools/controlplane/etcd/tools.go"),
};

pub(crate) const KUBERNETES: Module = Module {
    what: "kube-apiserver, kube-controller-manager and kubectl",
    name: "kubernetes",
    go_mod: include_str!("../../../tools/controlplane/kubernetes/go.mod"),
    go_sum: include_str!("../../../tools/controlplane/kubernetes/go.sum"),
    tools: include_str!("../../../tools/controlplane/kubernetes/tools.go"),
};

/// Builds everything into `folder`, unless somebody else did while we waited for the lock.
pub(crate) async fn build(folder: &Path, progress: &Progress) -> Result<(), Error> {
    let parent = folder.parent().map(Path::to_path_buf).unwrap_or_default();
    std::fs::create_dir_all(&parent).map_err(Error::file("cannot create", &parent))?;
    let _lock = lock(parent.join(".lock"), progress).await?;
    if Binaries::in_folder(folder).is_ok() {
        return Ok(());
    }
    let work = tempfile::Builder::new()
        .prefix(".building-")
        .tempdir_in(&parent)
        .map_err(Error::file("cannot create a folder in", &parent))?;
    let begun = Instant::now();
    progress.say(format!(
        "building Kubernetes {KUBERNETES_VERSION} and etcd with Go into {} (once; about 7 minutes on 2 cores)",
        folder.display()
    ));
    let output = work.path().join("bin");
    let script = work.path().join("build");
    std::fs::create_dir_all(&output).map_err(Error::file("cannot create", &output))?;
    std::fs::write(&script, SCRIPT).map_err(Error::file("cannot write", &script))?;
    for module in [&ETCD, &KUBERNETES] {
        module.build(work.path(), &output, progress).await?;
    }
    // An incomplete folder of an older kind would be in the way of the rename.
    let _ = std::fs::remove_dir_all(folder);
    std::fs::rename(&output, folder).map_err(Error::file("cannot create", folder))?;
    progress.say(format!(
        "built the control plane's programs in {}",
        pretty(begun.elapsed())
    ));
    Ok(())
}

/// The lock is the kernel's, so a builder that died holds nobody up.
async fn lock(path: PathBuf, progress: &Progress) -> Result<File, Error> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::file("cannot open", &path))?;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                if !said {
                    progress.say(
                        "another process is building the control plane's programs; waiting for it",
                    );
                    said = true;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(std::fs::TryLockError::Error(source)) => {
                return Err(Error::File {
                    action: "cannot lock",
                    path,
                    source,
                });
            }
        }
    }
}

// === impl Module ===

impl Module {
    async fn build(&self, work: &Path, output: &Path, progress: &Progress) -> Result<(), Error> {
        let source = work.join(self.name);
        std::fs::create_dir_all(&source).map_err(Error::file("cannot create", &source))?;
        for (name, content) in [
            ("go.mod", self.go_mod),
            ("go.sum", self.go_sum),
            ("tools.go", self.tools),
        ] {
            let path = source.join(name);
            std::fs::write(&path, content).map_err(Error::file("cannot write", &path))?;
        }
        progress.say(format!("go build {}", self.what));
        let mut child = Command::new("sh")
            .arg(work.join("build"))
            .arg(self.name)
            .arg(output)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Spawn {
                program: "sh".to_owned(),
                source,
            })?;
        let watched = self.watch(child.stderr.take(), progress).await;
        let status = child.wait().await.map_err(|source| Error::Spawn {
            program: "sh".to_owned(),
            source,
        })?;
        if status.code() == Some(NOT_FOUND) {
            return Err(Error::GoMissing);
        }
        if !status.success() {
            return Err(Error::Build {
                what: self.what,
                status,
                output: watched,
            });
        }
        Ok(())
    }

    /// Turns Go's output into a line every few seconds; returns its end for an error message.
    async fn watch(
        &self,
        stderr: Option<tokio::process::ChildStderr>,
        progress: &Progress,
    ) -> String {
        const EVERY: Duration = Duration::from_secs(5);
        const KEPT: usize = 25;
        let Some(stderr) = stderr else {
            return String::new();
        };
        let mut lines = BufReader::new(stderr).lines();
        let (begun, mut downloaded, mut compiled) = (Instant::now(), 0_u32, 0_u32);
        let mut latest = String::new();
        let mut kept = std::collections::VecDeque::with_capacity(KEPT);
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
        loop {
            tokio::select! {
                line = lines.next_line() => {
                    let Ok(Some(line)) = line else { break };
                    if line.starts_with("go: downloading ") { downloaded += 1 } else { compiled += 1 }
                    line.clone_into(&mut latest);
                    if kept.len() == KEPT { kept.pop_front(); }
                    kept.push_back(line);
                }
                _ = tick.tick() => progress.say(format!(
                    "  {}: {downloaded} modules fetched, {compiled} packages compiled, now {latest}", pretty(begun.elapsed())
                )),
            }
        }
        Vec::from(kept).join("\n")
    }
}

fn pretty(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}
