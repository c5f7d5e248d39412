//! Child processes that cannot outlive us, even when we are killed with SIGKILL.
//!
//! Each child runs under a few lines of `sh` that read orders from a pipe whose only other end is ours. An order is a
//! signal's name; the end of the pipe means that we let go or died, and the child is killed. The kernel closes the pipe
//! however we end, so no `PR_SET_PDEATHSIG` (unsafe code, and bound to a thread rather than a process) is needed. The
//! child has a process group of its own, so that Ctrl-C reaches us alone and we end things in order.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::Error;

/// `$@` is the child. Fd 3 is our pipe; the child itself must not hold it.
const KEEPER: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
( while read -r signal; do kill -s "$signal" "$child"; done <&3; kill -s KILL "$child" ) >/dev/null 2>&1 &
keeper=$!
exec 3<&-
wait "$child"
status=$?
kill -s KILL "$keeper" 2>/dev/null
exit "$status"
"#;

/// `$1` is a folder that goes when our pipe ends; children that are being killed at that moment get time to let go of it.
const JANITOR: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" 2>/dev/null; sleep 0.2; [ -e "$1" ] || exit 0; done
"#;

/// What to start.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Name for messages, as in "kube-apiserver".
    pub name: &'static str,
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Environment variables set beside the inherited ones.
    pub environment: Vec<(String, String)>,
    /// Inherited variables that the child must not see.
    pub without: Vec<String>,
    /// The file to which its standard output and standard error are appended.
    pub log: PathBuf,
}

/// A running child that ends at the latest when this process does. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    log: PathBuf,
    shell: Child,
    orders: Option<ChildStdin>,
}

// === impl Process ===

impl Process {
    /// Starts `spec`. Returns once the child is forked; it may still fail to run: see [`Process::exited`].
    pub fn start(spec: &ProcessSpec) -> Result<Self, Error> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .map_err(Error::file("cannot open", &spec.log))?;
        let errors = log
            .try_clone()
            .map_err(Error::file("cannot open", &spec.log))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER, spec.name])
            .arg(&spec.program)
            .args(&spec.arguments);
        command.envs(spec.environment.iter().map(|(name, value)| (name, value)));
        for name in &spec.without {
            command.env_remove(name);
        }
        let mut shell = command
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn {
                program: spec.name.to_owned(),
                source,
            })?;
        let orders = shell.stdin.take();
        Ok(Self {
            name: spec.name,
            log: spec.log.clone(),
            shell,
            orders,
        })
    }

    /// The name it was started under.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The exit status if the child has ended; 128 + n after signal n.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.shell.try_wait().ok().flatten()
    }

    /// Sends a signal by name without the prefix: `TERM`, `KILL`, `STOP`, `CONT`. A child that has ended is left alone.
    pub fn signal(&mut self, name: &str) {
        if let Some(orders) = self.orders.as_mut() {
            // A broken pipe means that the child is gone, which is what most callers want.
            let _ = writeln!(orders, "{name}").and_then(|()| orders.flush());
        }
    }

    /// Asks the child to end and waits up to `grace`, then kills it. True if it ended by itself.
    pub async fn stop(&mut self, grace: Duration) -> bool {
        self.signal("CONT");
        self.signal("TERM");
        if self.ended_within(grace).await {
            return true;
        }
        self.kill().await;
        false
    }

    /// Kills the child and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal("KILL");
        self.orders = None;
        self.ended_within(Duration::from_secs(5)).await;
    }

    /// Waits until the child has ended, up to `bound`.
    pub async fn ended_within(&mut self, bound: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + bound;
        loop {
            if self.exited().is_some() {
                return true;
            }
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The last lines of its log, for a message.
    pub fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.orders = None;
        // Bounded: the end of the pipe is a SIGKILL for the child, and the shell does nothing but wait for it.
        let _ = self.shell.wait();
    }
}

/// Removes a folder when dropped, or when this process ends in whatever way.
#[derive(Debug)]
pub struct Janitor {
    folder: PathBuf,
    shell: Child,
}

/// Arranges that `folder` is removed with everything in it once the returned value is dropped or this process is gone.
pub fn remove_when_gone(folder: impl Into<PathBuf>) -> Result<Janitor, Error> {
    let folder = folder.into();
    let shell = Command::new("sh")
        .args(["-c", JANITOR, "janitor"])
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
        .map_err(|source| Error::Spawn {
            program: "sh".to_owned(),
            source,
        })?;
    Ok(Janitor { folder, shell })
}

impl Drop for Janitor {
    fn drop(&mut self) {
        // Whatever this cannot remove, the shell tries again.
        let _ = std::fs::remove_dir_all(&self.folder);
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    const BYTES: u64 = 8 * 1024;
    const LINES: usize = 15;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines
        .iter()
        .skip(lines.len().saturating_sub(LINES))
        .copied()
        .collect::<Vec<_>>()
        .join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> ProcessSpec {
        ProcessSpec {
            name: "test",
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            without: Vec::new(),
            log: folder.join("log"),
        }
    }

    fn alive(pid: &str) -> bool {
        // A zombie counts as gone: its parent just has not asked yet.
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            !stat
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .trim_start()
                .starts_with('Z')
        })
    }

    async fn eventually(mut holds: impl FnMut() -> bool) -> bool {
        for _ in 0..250 {
            if holds() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    async fn first_line(path: &Path) -> String {
        let mut line = String::new();
        eventually(|| {
            line = std::fs::read_to_string(path).unwrap_or_default();
            line.ends_with('\n')
        })
        .await;
        line.trim().to_owned()
    }

    #[tokio::test]
    async fn a_child_ends_with_its_own_status() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Process::start(&shell(folder.path(), "echo said; exit 7")).unwrap();
        assert!(child.ended_within(Duration::from_secs(5)).await);
        assert_eq!(child.exited().and_then(|status| status.code()), Some(7));
        assert_eq!(child.log_tail(), "said");
    }

    #[tokio::test]
    async fn a_dropped_child_is_gone_even_if_it_ignores_being_asked() {
        let folder = tempfile::tempdir().unwrap();
        let child = Process::start(&shell(
            folder.path(),
            "trap '' TERM; echo $$; while :; do sleep 0.1; done",
        ))
        .unwrap();
        let pid = first_line(child.log()).await;
        assert!(alive(&pid));
        drop(child);
        assert!(eventually(|| !alive(&pid)).await);
    }

    #[tokio::test]
    async fn a_child_that_ends_when_asked_is_not_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Process::start(&shell(
            folder.path(),
            "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done",
        ))
        .unwrap();
        first_line(child.log()).await;
        assert!(child.stop(Duration::from_secs(5)).await);
        assert!(child.log_tail().ends_with("bye"));
    }

    /// The middle process stands for a test or a demo that is killed without a chance to clean up.
    #[tokio::test]
    async fn children_and_their_folder_go_when_the_parent_is_killed() {
        if let Ok(folder) = std::env::var("CORTEN_TEST_MIDDLE") {
            let folder = PathBuf::from(folder);
            let _child = Process::start(&shell(&folder, "echo $$; exec sleep 600")).unwrap();
            let _janitor = remove_when_gone(folder.join("state")).unwrap();
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let mut middle = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "process::tests::children_and_their_folder_go_when_the_parent_is_killed",
            ])
            .env("CORTEN_TEST_MIDDLE", folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = first_line(&folder.path().join("log")).await;
        assert!(alive(&pid));
        middle.kill().unwrap();
        middle.wait().unwrap();
        assert!(eventually(|| !alive(&pid)).await, "the grandchild lives on");
        assert!(
            eventually(|| !state.exists()).await,
            "the folder is still there"
        );
    }
}
