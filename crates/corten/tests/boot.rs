//! The boot services of `corten serve`, as a process of its own, asked by curl: HTTP, HTTPS and TFTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of a test")]

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use corten_controlplane::{ControlPlane, Options};
use tokio::process::Command;

use common::{free_port, signal};

mod common;

/// What curl says, and whether it was content.
async fn curl(words: &[&str]) -> (bool, Vec<u8>) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "20",
        ])
        .args(words)
        .output()
        .await
        .unwrap();
    (output.status.success(), output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_boots_by_http_https_and_tftp() {
    let Ok(version) = std::process::Command::new("curl").arg("--version").output() else {
        println!("skipped: serve_boots_by_http_https_and_tftp: curl is missing");
        return;
    };
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(at("tls.pem"), identity.cert.pem()).unwrap();
    std::fs::write(at("tls.key"), identity.signing_key.serialize_pem()).unwrap();
    let first_stage: Vec<u8> = (0..70_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::create_dir(at("tftp")).unwrap();
    std::fs::write(at("tftp").join("first.efi"), &first_stage).unwrap();
    std::fs::write(at("tftp").join("not-listed"), "x").unwrap();
    let (http, https, admin) = (free_port(), free_port(), free_port());
    let udp = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let log = at("serve.log");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_corten"))
        .args([
            "serve",
            "--log=debug",
            "--install-crds",
            "--namespace=default",
            "--kubeconfig",
        ])
        .arg(plane.kubeconfig())
        .args([
            format!("--admin-address=127.0.0.1:{admin}"),
            format!("--boot-address=127.0.0.1:{http}"),
            format!("--boot-tls-address=127.0.0.1:{https}"),
            format!("--boot-tls-cert={}", at("tls.pem").display()),
            format!("--boot-tls-key={}", at("tls.key").display()),
            format!("--boot-tftp-address=127.0.0.1:{udp}"),
            format!("--boot-tftp-folder={}", at("tftp").display()),
            "--boot-tftp-file=first.efi".to_owned(),
            format!("--boot-cache={}", at("cache").display()),
        ])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();

    let plain = format!("http://127.0.0.1:{http}/boot/no-token/kernel");
    let mut answered = false;
    for _ in 0..300 {
        let (ok, status) = curl(&["-o", "/dev/null", "-w", "%{http_code}", &plain]).await;
        answered = ok && status == b"403";
        if answered || serve.try_wait().unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(answered, "{}", said());

    let secure = format!("https://127.0.0.1:{https}/boot/no-token/kernel");
    let ca = at("tls.pem").display().to_string();
    let answer = curl(&["--cacert", &ca, "-w", "%{http_code}", &secure]).await;
    assert!(
        answer.0 && answer.1.ends_with(b"403"),
        "{answer:?} {}",
        said()
    );
    // Nobody is served who does not check: the certificate is the one that was given.
    assert!(!curl(&[&secure]).await.0);

    if !String::from_utf8_lossy(&version.stdout).contains("tftp") {
        println!("skipped: serve_boots_by_http_https_and_tftp: this curl has no TFTP");
    } else {
        let tftp = |path: &str| format!("tftp://127.0.0.1:{udp}/{path}");
        let (ok, bytes) = curl(&["--tftp-blksize", "1400", &tftp("first.efi")]).await;
        assert!(
            ok && bytes == first_stage,
            "{} bytes, {}",
            bytes.len(),
            said()
        );
        for refused in [
            "not-listed",
            "../tls.key",
            "%2e%2e/tls.key",
            "boot/no-token/kernel",
        ] {
            let (ok, bytes) = curl(&["--path-as-is", &tftp(refused)]).await;
            assert!(!ok && bytes.is_empty(), "{refused}");
        }
    }

    let key = identity.signing_key.serialize_pem();
    let line = key.lines().nth(1).unwrap();
    assert!(!said().contains(line), "the key is in the log");
    signal(serve.id().unwrap(), "TERM").await;
    assert!(serve.wait().await.unwrap().success(), "{}", said());
}
