//! What tests of the binary share: the binary apart from the developer's shell, a free port, signals, a request, kubectl, and what a demo says and
//! leaves.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "helpers of tests, of which each takes what it needs"
)]

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use corten_controlplane::ControlPlane;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{ChildStdout, Command};

pub fn corten() -> Command {
    without_ours(Command::new(env!("CARGO_BIN_EXE_corten")))
}

/// What the developer's shell has set is not part of the test.
pub fn without_ours(mut command: Command) -> Command {
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("CORTEN_") || name == "KUBECONFIG")
    {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn free_port() -> u16 {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    taken.local_addr().unwrap().port()
}

pub async fn signal(pid: u32, name: &str) {
    let pid = pid.to_string();
    let told = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(told.await.unwrap().success());
}

/// The whole answer to one HTTP request, head and body.
pub async fn answer(address: &str, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The whole answer at a port of this host; nothing where nobody answers.
pub async fn get(port: u16, path: &str) -> String {
    let address = format!("127.0.0.1:{port}");
    answer(&address, "GET", path, "").await.unwrap_or_default()
}

/// kubectl, as a cluster's administrator; gives what it prints.
pub async fn kubectl(plane: &ControlPlane, words: &[&str], input: &str) -> String {
    let mut child = Command::new(&plane.binaries().kubectl)
        .arg("--kubeconfig")
        .arg(plane.kubeconfig())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that wants no input may have ended.
    if !input.is_empty() {
        stdin.write_all(input.as_bytes()).await.unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a demo says until it has said `word`.
pub async fn said_until(stdout: &mut ChildStdout, word: &str) -> String {
    let mut said = String::new();
    while !said.contains(word) {
        let mut buffer = [0; 4096];
        let read = stdout.read(&mut buffer).await.unwrap();
        assert!(read > 0, "it ended early:\n{said}");
        said.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    said
}

/// A demo that has ended leaves its log, and what keeps two from one folder.
pub fn only_its_log_is_left(folder: &Path) {
    let left: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        left.iter()
            .all(|name| name == ".lock" || name == "corten-serve.log"),
        "{left:?}"
    );
}
