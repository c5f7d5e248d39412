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

/// One Go module whose requirements hold the programs.
pub(crate) struct Module {
    what: &'static str,
    pub(crate) go_mod: &'static str,
    go_sum: &'static str,
    tools: &'static str,
    packages: &'static [&'static str],
    /// What Go names the result, and what we call it.
    rename: Option<(&'static str, &'static str)>,
}

pub(crate) const ETCD: Module = Module {
    what: "etcd",
    go_mod: include_str!("../../../tools/controlplane/etcd/go.mod"),
    go_sum: include_str!("../../../tools/controlplane/etcd/go.sum"),
    tools: include_str!("../../../tools/controlplane/etcd/tools.go"),
    packages: &["go.etcd.io/etcd/server/v3"],
    rename: Some(("server", "etcd")),
};

pub(crate) const KUBERNETES: Module = Module {
    what: "kube-apiserver, kube-controller-manager and kubectl",
    go_mod: include_str!("../../../tools/controlplane/kubernetes/go.mod"),
    go_sum: include_str!("../../../tools/controlplane/kubernetes/go.sum"),
    tools: include_str!("../../../tools/controlplane/kubernetes/tools.go"),
    packages: &[
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kubectl",
    ],
    rename: None,
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
        "building Kubernetes {KUBERNETES_VERSION} and etcd with Go into {} (once; about 6 minutes on 2 cores)",
        folder.display()
    ));
    let output = work.path().join("bin");
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
        let source = work.join(self.what.split(',').next().unwrap_or_default());
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
        let mut child = Command::new("go")
            .args([
                "build",
                "-v",
                "-buildvcs=false",
                "-ldflags",
                &linker_flags(),
                "-o",
            ])
            .arg(format!("{}/", output.display()))
            .args(self.packages)
            .current_dir(&source)
            // A workspace file or vendoring flags of the user's would change what is built.
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=readonly")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => Error::GoMissing,
                _ => Error::Spawn {
                    program: "go".to_owned(),
                    source,
                },
            })?;
        let watched = self.watch(child.stderr.take(), progress).await;
        let status = child.wait().await.map_err(|source| Error::Spawn {
            program: "go".to_owned(),
            source,
        })?;
        if !status.success() {
            return Err(Error::Build {
                what: self.what,
                status,
                output: watched,
            });
        }
        if let Some((from, to)) = self.rename {
            std::fs::rename(output.join(from), output.join(to))
                .map_err(Error::file("cannot rename", output.join(from)))?;
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

/// Without these, the API server calls itself v0.0.0-master and newer kinds of versions go wrong.
fn linker_flags() -> String {
    let mut numbers = KUBERNETES_VERSION.split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let at = "-X k8s.io/component-base/version";
    format!(
        "-s -w {at}.gitVersion=v{KUBERNETES_VERSION} {at}.gitMajor={major} {at}.gitMinor={minor}"
    )
}

fn pretty(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}
