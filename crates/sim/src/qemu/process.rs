//! A child process that cannot outlive this one, nor its time.
//!
//! Linux sends the parent-death signal when the *thread* that started the child ends, so each child has a thread that starts
//! it and waits for it. The kernel kills the child when this process is killed; the thread does when its owner lets go.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// How often the thread looks whether the child has ended. Its standard output ending is seen at once elsewhere.
const LOOK: Duration = Duration::from_millis(10);
/// How much of a child's complaints is kept.
const LARGEST_COMPLAINT: u64 = 16 << 10;

/// What ends a child, and tells that it has ended.
#[derive(Clone, Debug)]
pub(crate) struct Grip {
    pid: u32,
    kill: mpsc::Sender<()>,
    gone: Arc<(Mutex<bool>, Condvar)>,
}

impl Grip {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it. Does not wait.
    pub fn kill(&self) {
        let _ = self.kill.send(());
    }

    /// Blocks until it is gone, but not longer than `patience`.
    pub fn gone(&self, patience: Duration) {
        let mut gone = self.gone.0.lock();
        if !*gone {
            self.gone.1.wait_for(&mut gone, patience);
        }
    }
}

/// A running child. Dropped, it is killed.
pub(crate) struct Process {
    grip: Grip,
    ended: oneshot::Receiver<String>,
}

impl Process {
    /// Starts `program` with its standard input and output as pipes.
    pub fn start(
        program: &[String],
        folder: &Path,
        longest_life: Duration,
    ) -> std::io::Result<(Self, pipe::Receiver, pipe::Sender)> {
        let mut words = program.iter();
        let name = words.next().cloned().unwrap_or_default();
        let mut command = Command::new(name);
        command
            .args(words)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (kill, killed) = mpsc::channel::<()>();
        let (end, ended) = oneshot::channel();
        let (started, start) = mpsc::sync_channel(1);
        let gone = Arc::new((Mutex::new(false), Condvar::new()));
        let gone_there = Arc::clone(&gone);
        std::thread::Builder::new()
            .name("machine".to_owned())
            .spawn(move || {
                let mut child = match command.spawn() {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let pipes = (child.stdout.take(), child.stdin.take());
                let _ = started.send(Ok((child.id(), pipes)));
                let _ = end.send(wait(child, &killed, longest_life));
                *gone_there.0.lock() = true;
                gone_there.1.notify_all();
            })?;
        let (pid, pipes) = start.recv().map_err(std::io::Error::other)??;
        let (Some(output), Some(input)) = pipes else {
            return Err(std::io::Error::other("no pipes"));
        };
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
        let input = pipe::Sender::from_owned_fd(OwnedFd::from(input))?;
        let grip = Grip { pid, kill, gone };
        Ok((Self { grip, ended }, output, input))
    }

    pub fn kill(&self) {
        self.grip.kill();
    }

    pub fn grip(&self) -> Grip {
        self.grip.clone()
    }

    /// Waits until it has ended and gives what it complained of.
    pub async fn ended(&mut self) -> String {
        (&mut self.ended).await.unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.grip.kill();
    }
}

fn wait(mut child: Child, killed: &mpsc::Receiver<()>, longest_life: Duration) -> String {
    let begun = Instant::now();
    while let Ok(None) = child.try_wait() {
        match killed.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) if begun.elapsed() < longest_life => {}
            // Told to, let go of, or too old.
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                break;
            }
        }
    }
    let mut complaint = Vec::new();
    if let Some(errors) = child.stderr.take() {
        let _ = errors.take(LARGEST_COMPLAINT).read_to_end(&mut complaint);
    }
    String::from_utf8_lossy(&complaint).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(program: &str) -> Vec<String> {
        program.split(' ').map(str::to_owned).collect()
    }

    fn alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn a_child_ends_when_it_is_let_go_and_when_its_time_is_over() {
        let folder = std::env::temp_dir();
        let long = Duration::from_secs(600);
        let (process, ..) = Process::start(&words("sleep 60"), &folder, long).unwrap();
        let pid = process.grip.pid();
        assert!(alive(pid));
        drop(process);
        let gone = async {
            while alive(pid) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone)
            .await
            .unwrap();
        let short = Duration::from_millis(50);
        let (mut process, ..) = Process::start(&words("sleep 60"), &folder, short).unwrap();
        tokio::time::timeout(Duration::from_secs(5), process.ended())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_childs_complaint_is_kept() {
        let folder = std::env::temp_dir();
        let long = Duration::from_secs(60);
        let (mut process, ..) =
            Process::start(&words("ls /there/is/nothing"), &folder, long).unwrap();
        assert!(process.ended().await.contains("/there/is/nothing"));
        assert!(Process::start(&words("/no/such/program"), &folder, long).is_err());
    }
}
