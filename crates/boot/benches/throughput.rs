//! Throughput of the boot server beside nginx's, on loopback, the same file and the same client in the same run; and small requests a second.
//!
//! `cargo bench -p corten-boot` (needs nginx on the PATH, else only ours is measured). `SECONDS` a measurement in the environment, 5 by default.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use corten_boot::links::{PublicAddress, name};
use corten_boot::server::{Artefact, Artefacts, Boot, Bootable, Limits, Piece};
use corten_boot::service::bind;
use corten_boot::token::{KeyRing, Keys, Purpose};
use corten_boot::{Caller, Config, Desk, Refusal, Target, Ticket, UserData};
use corten_wire::{Hello, Progress, Registration, Report, Verdict, Welcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SIZE: u64 = 256 * 1024 * 1024;

struct AlwaysDue;

fn never<T>() -> Result<T, Refusal> {
    Err(Refusal::NotDue("not measured".into()))
}

#[async_trait]
impl Desk for AlwaysDue {
    async fn admit(&self, _: &Caller) -> Result<Ticket, Refusal> {
        never()
    }
    async fn target(&self, _: &Ticket) -> Result<Target, Refusal> {
        Ok(Target::Probe)
    }
    async fn user_data(&self, _: &Ticket) -> Result<UserData, Refusal> {
        Ok(UserData {
            ignition: Some(vec![b' '; 4096].into()),
            ..UserData::default()
        })
    }
    async fn hello(&self, _: &Ticket, _: &Hello) -> Result<Welcome, Refusal> {
        never()
    }
    async fn progress(&self, _: &Ticket, _: &Progress) -> Result<Verdict, Refusal> {
        never()
    }
    async fn report(&self, _: &Ticket, _: &Report) -> Result<(), Refusal> {
        never()
    }
    async fn register(&self, _: &Ticket, _: &Registration) -> Result<(), Refusal> {
        never()
    }
    async fn booted(&self, _: &Ticket, _: Option<&str>) -> Result<(), Refusal> {
        never()
    }
}

struct OneFile(PathBuf);

#[async_trait]
impl Artefacts for OneFile {
    async fn bootable(&self, boot: Boot<'_>) -> Result<Bootable, Refusal> {
        Ok(Bootable::Linux {
            kernel: name::KERNEL.into(),
            initrds: vec![name::INITRD.into()],
            command_line: boot.links.probe_command_line(),
        })
    }
    async fn open(&self, _: Boot<'_>, _: &str, _: Option<&UserData>) -> Result<Artefact, Refusal> {
        let pieces = vec![Piece::File {
            path: self.0.clone(),
            offset: 0,
            length: SIZE,
        }];
        Ok(Artefact {
            pieces,
            etag: "bench".into(),
            media_type: "application/octet-stream",
            modified: None,
        })
    }
}

fn keys() -> Keys {
    Keys::new([[1u8; 32]]).unwrap()
}

fn ticket() -> Ticket {
    Ticket {
        server: "bench".into(),
        server_uid: "uid".into(),
        nonce: "run".into(),
    }
}

fn path(purpose: Purpose, artefact: &str) -> String {
    format!(
        "/boot/{}/{artefact}",
        keys().sign(&ticket(), purpose, None).unwrap().expose()
    )
}

async fn serve(file: &str) {
    let config = Config {
        http: "127.0.0.1:0".parse().unwrap(),
        https: None,
        public: PublicAddress {
            base: "http://127.0.0.1".parse().unwrap(),
            registry: None,
        },
        keys: KeyRing::new(keys()),
        forwarders: vec![],
        limits: Limits {
            per_address: 1024,
            ..Limits::default()
        },
    };
    let bound = bind(config, Arc::new(AlwaysDue), Arc::new(OneFile(file.into())))
        .await
        .unwrap();
    println!("{}", bound.http);
    bound.run(tokio_util::sync::CancellationToken::new()).await;
}

/// Bytes a second that `clients` get together.
async fn stream(address: SocketAddr, path: &str, clients: usize, span: Duration) -> f64 {
    let total = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let (total, request) = (
            total.clone(),
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        );
        tasks.push(tokio::spawn(async move {
            let mut buffer = vec![0; 256 * 1024];
            while start.elapsed() < span {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut first = true;
                while start.elapsed() < span {
                    let read = stream.read(&mut buffer).await.unwrap();
                    if std::mem::take(&mut first) {
                        assert!(
                            buffer.starts_with(b"HTTP/1.1 200"),
                            "{}",
                            String::from_utf8_lossy(&buffer[..read.min(200)])
                        );
                    }
                    if read == 0 {
                        break;
                    }
                    total.fetch_add(read as u64, Ordering::Relaxed);
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    total.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// Small requests a second over kept connections.
async fn requests(address: SocketAddr, path: &str, clients: usize, span: Duration) -> f64 {
    let total = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let (total, request) = (
            total.clone(),
            format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"),
        );
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut buffer = Vec::with_capacity(16 * 1024);
            while start.elapsed() < span {
                stream.write_all(request.as_bytes()).await.unwrap();
                buffer.clear();
                loop {
                    assert!(stream.read_buf(&mut buffer).await.unwrap() > 0);
                    let text = String::from_utf8_lossy(&buffer);
                    let Some(head) = text.find("\r\n\r\n") else {
                        continue;
                    };
                    assert!(text.starts_with("HTTP/1.1 200"));
                    let length: usize = text[..head]
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: "))
                        .unwrap()
                        .parse()
                        .unwrap();
                    if buffer.len() >= head + 4 + length {
                        break;
                    }
                }
                total.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    total.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

fn rss_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or("0 kB")
        .to_owned();
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap_or(0)
        / 1024
}

fn nginx(folder: &Path, port: u16) -> Option<Child> {
    let conf = folder.join("nginx.conf");
    let at = folder.display();
    let text = format!(
        "daemon off; worker_processes auto; pid {at}/pid; error_log {at}/error.log;\nevents {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;\n\
         server {{ listen 127.0.0.1:{port}; root {at}/root; }} }}\n"
    );
    std::fs::write(&conf, text).unwrap();
    Command::new("nginx")
        .arg("-c")
        .arg(&conf)
        .arg("-p")
        .arg(folder)
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if arguments.get(1).map(String::as_str) == Some("serve") {
        return runtime.block_on(serve(&arguments[2]));
    }
    let span = Duration::from_secs(
        std::env::var("SECONDS")
            .ok()
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(5),
    );
    let folder = tempfile::tempdir().unwrap();
    // The workers of a server that was started by root are somebody else.
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let file = root.join("artefact");
    let mut out = std::fs::File::create(&file).unwrap();
    for block in 0..SIZE / (1024 * 1024) {
        out.write_all(&vec![(block % 251) as u8; 1024 * 1024])
            .unwrap();
    }
    let mut ours = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(ours.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address: SocketAddr = line.trim().parse().unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let theirs = nginx(folder.path(), port);
    if theirs.is_some() {
        std::thread::park_timeout(Duration::from_secs(1));
    }
    runtime.block_on(async {
        let mut best: BTreeMap<(usize, &str), f64> = BTreeMap::new();
        for round in 0..3 {
            for clients in [1, 200] {
                let measured = stream(address, &path(Purpose::Boot, "kernel"), clients, span).await;
                println!(
                    "round {round} corten {clients} clients: {:.0} MiB/s",
                    measured / 1048576.0
                );
                let entry = best.entry((clients, "corten")).or_default();
                *entry = entry.max(measured);
                if theirs.is_some() {
                    let measured = stream(
                        SocketAddr::from(([127, 0, 0, 1], port)),
                        "/artefact",
                        clients,
                        span,
                    )
                    .await;
                    println!(
                        "round {round} nginx {clients} clients: {:.0} MiB/s",
                        measured / 1048576.0
                    );
                    let entry = best.entry((clients, "nginx")).or_default();
                    *entry = entry.max(measured);
                }
            }
            println!("round {round} corten peak RSS: {} MiB", rss_mib(ours.id()));
        }
        for clients in [1, 200] {
            if let (Some(corten), Some(nginx)) = (
                best.get(&(clients, "corten")),
                best.get(&(clients, "nginx")),
            ) {
                println!(
                    "{clients} clients: {:.2} of nginx (best of 3 rounds)",
                    corten / nginx
                );
            }
        }
        println!(
            "boot scripts: {:.0}/s",
            requests(address, &path(Purpose::Boot, "boot.ipxe"), 32, span).await
        );
        println!(
            "ignition (4 KiB): {:.0}/s",
            requests(address, &path(Purpose::UserData, "ignition"), 32, span).await
        );
    });
    let _ = ours.kill();
    let _ = ours.wait();
    if let Some(mut nginx) = theirs {
        // Its workers end with it.
        let _ = Command::new("kill")
            .arg("-QUIT")
            .arg(nginx.id().to_string())
            .status();
        std::thread::park_timeout(Duration::from_secs(1));
        let _ = Command::new("kill")
            .arg("-TERM")
            .arg(nginx.id().to_string())
            .status();
        let _ = nginx.wait();
    }
}
