//! The boot server against nginx: throughput of one large artefact, small answers a second, memory.
//!
//! Each server is a process of its own on loopback and serves the same file from the page cache; the clients are in this process. Rounds are taken in
//! turn, and the median of each is shown, so that what else the machine does hits both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use corten_boot::links::{PublicAddress, name};
use corten_boot::piece::Piece;
use corten_boot::server::{Artefact, Artefacts, Boot, Bootable, Limits};
use corten_boot::token::{KeyRing, Keys, Purpose};
use corten_boot::{Caller, Config, Desk, Refusal, Target, Ticket, UserData};
use corten_wire::{Hello, Progress, Registration, Report, Verdict, Welcome};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::process::Usage;

/// The artefact, in bytes.
const SIZE: u64 = 64 << 20;
/// How often one client fetches it.
const ALONE: usize = 24;
/// Clients at once.
const MANY: usize = 200;
/// Small answers that are asked for, over so many connections.
const SMALL: usize = 40_000;
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 3;

/// What one server did, the median of the rounds.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// MiB a second to one client.
    pub alone: f64,
    /// MiB a second to all of [`MANY`].
    pub many: f64,
    /// Small answers a second (an iPXE script; a small file).
    pub script: f64,
    /// Ignition a second.
    pub ignition: f64,
    /// Resident memory before, at most, and after, in MiB.
    pub rss: (f64, f64, f64),
}

/// Both, in one run. None for nginx where it is not installed.
pub struct Outcome {
    pub corten: Figures,
    pub nginx: Option<Figures>,
}

/// Measures.
pub async fn run() -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("artefact");
    let mut bytes = vec![0_u8; usize::try_from(SIZE)?];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (at % 251) as u8;
    }
    std::fs::write(&file, bytes)?;
    let mut corten = Server::corten(&file).await?;
    let mut nginx = Server::nginx(folder.path()).await?;
    let mut rounds: [Vec<Figures>; 2] = Default::default();
    for round in 0..ROUNDS {
        for (server, rounds) in [Some(&mut corten), nginx.as_mut()]
            .into_iter()
            .zip(&mut rounds)
        {
            let Some(server) = server else { continue };
            let figures = server.round().await?;
            eprintln!("   {} round {round}: {figures:?}", server.name);
            rounds.push(figures);
        }
    }
    let [ours, theirs] = rounds.map(|rounds| median(&rounds));
    Ok(Outcome {
        corten: ours,
        nginx: nginx.is_some().then_some(theirs),
    })
}

fn median(rounds: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    Figures {
        alone: of(|f| f.alone),
        many: of(|f| f.many),
        script: of(|f| f.script),
        ignition: of(|f| f.ignition),
        rss: (
            rounds.first().map_or(0.0, |first| first.rss.0),
            rounds.iter().map(|round| round.rss.1).fold(0.0, f64::max),
            rounds.last().map_or(0.0, |last| last.rss.2),
        ),
    }
}

/// A server under test.
struct Server {
    name: &'static str,
    _child: Child,
    /// Processes that serve.
    pids: Vec<u32>,
    address: SocketAddr,
    artefact: String,
    script: String,
    ignition: String,
}

impl Drop for Server {
    /// Asked to end, nginx takes its workers with it.
    fn drop(&mut self) {
        if let Some(pid) = self.pids.first() {
            let pid = pid.to_string();
            let _ = std::process::Command::new("kill").arg(&pid).status();
            // It is killed when its handle goes, by when it must have told its workers.
            let _ = std::process::Command::new("timeout")
                .args(["2", "tail", "--pid", &pid, "-f", "/dev/null"])
                .status();
        }
    }
}

impl Server {
    async fn corten(file: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve-file")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("its output")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let address: SocketAddr = line.context("the boot server says nothing")?.parse()?;
        let token = |purpose| -> Result<String> {
            Ok(keys()?.sign(&ticket(), purpose, None)?.expose().to_owned())
        };
        let boot = token(Purpose::Boot)?;
        Ok(Self {
            name: "corten",
            pids: child.id().into_iter().collect(),
            _child: child,
            address,
            artefact: format!("/boot/{boot}/{}", name::EFI),
            script: format!("/boot/{boot}/{}", name::SCRIPT),
            ignition: format!("/boot/{}/{}", token(Purpose::UserData)?, name::IGNITION),
        })
    }

    async fn nginx(folder: &Path) -> Result<Option<Self>> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        std::fs::write(folder.join("script"), "x".repeat(600))?;
        std::fs::write(folder.join("ignition"), ignition())?;
        let at = folder.display();
        let config = folder.join("nginx.conf");
        std::fs::write(
            &config,
            format!(
                "daemon off; pid {at}/pid; error_log {at}/error.log; worker_processes 2;\n\
                 events {{ worker_connections 1024; }}\n\
                 http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
                 client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;\n\
                 server {{ listen 127.0.0.1:{port}; root {at}; }} }}\n"
            ),
        )?;
        // The workers must read a temporary folder of ours.
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        let spawned = Command::new("nginx")
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(folder.join("start.log"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let Ok(child) = spawned else {
            eprintln!("nginx is not installed: the boot server is measured alone");
            return Ok(None);
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "nginx does not start"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let master = child.id().context("nginx has ended")?;
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        let workers = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        Ok(Some(Self {
            name: "nginx",
            pids: std::iter::once(master).chain(workers).collect(),
            _child: child,
            address,
            artefact: "/artefact".into(),
            script: "/script".into(),
            ignition: "/ignition".into(),
        }))
    }

    fn rss(&self) -> f64 {
        let all = self.pids.iter().filter_map(|pid| Usage::of(*pid).ok());
        all.map(|usage| usage.rss_mib).sum()
    }

    async fn round(&mut self) -> Result<Figures> {
        let before = self.rss();
        let alone = self.fetch(1, ALONE).await?;
        let fetching = self.fetch(MANY, 1);
        tokio::pin!(fetching);
        let mut most = 0.0_f64;
        let many = loop {
            tokio::select! {
                done = &mut fetching => break done?,
                () = tokio::time::sleep(Duration::from_millis(100)) => most = most.max(self.rss()),
            }
        };
        let script = self.small(&self.script).await?;
        let ignition = self.small(&self.ignition).await?;
        Ok(Figures {
            alone,
            many,
            script,
            ignition,
            rss: (before, most.max(self.rss()), self.rss()),
        })
    }

    /// MiB a second when `clients` fetch the artefact `times` each.
    async fn fetch(&self, clients: usize, times: usize) -> Result<f64> {
        let begun = Instant::now();
        let all = (0..clients).map(|_| {
            let (address, path) = (self.address, self.artefact.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await?;
                for _ in 0..times {
                    let length = client.get(&path).await?;
                    ensure!(length == SIZE, "{length} bytes of {SIZE}");
                }
                Ok(())
            })
        });
        for done in futures::future::join_all(all).await {
            done??;
        }
        let mib = (clients * times) as f64 * SIZE as f64 / f64::from(1 << 20);
        Ok(mib / begun.elapsed().as_secs_f64())
    }

    /// Answers a second for a small thing.
    async fn small(&self, path: &str) -> Result<f64> {
        let begun = Instant::now();
        let all = (0..CONNECTIONS).map(|_| {
            let (address, path) = (self.address, path.to_owned());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await?;
                for _ in 0..SMALL / CONNECTIONS {
                    client.get(&path).await?;
                }
                Ok::<_, anyhow::Error>(())
            })
        });
        for done in futures::future::join_all(all).await {
            done??;
        }
        Ok(SMALL as f64 / begun.elapsed().as_secs_f64())
    }
}

/// A client that does nothing with what it gets, so that it costs little beside the server.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 256 << 10],
        })
    }

    /// Bytes of the body.
    async fn get(&mut self, path: &str) -> Result<u64> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let mut have = 0;
        let (head, length) = loop {
            let free = self
                .buffer
                .get_mut(have..)
                .context("the head is too long")?;
            let read = self.stream.read(free).await?;
            ensure!(read > 0, "the server hung up");
            have += read;
            let so_far = self.buffer.get(..have).unwrap_or_default();
            if let Some(end) = so_far.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(so_far.get(..end).unwrap_or_default());
                let mut lines = head.lines();
                let status = lines.next().unwrap_or_default();
                if !status.contains(" 200 ") {
                    bail!("{path}: {status}");
                }
                let length = lines
                    .filter_map(|line| line.split_once(':'))
                    .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                    .and_then(|(_, value)| value.trim().parse::<u64>().ok());
                break (end + 4, length.context("no Content-Length")?);
            }
        };
        let mut got = (have - head) as u64;
        while got < length {
            let read = self.stream.read(&mut self.buffer).await?;
            ensure!(read > 0, "the server hung up after {got} bytes");
            got += read as u64;
        }
        Ok(got)
    }
}

fn keys() -> Result<Keys> {
    Ok(Keys::new([[7_u8; 32]])?)
}

fn ticket() -> Ticket {
    Ticket {
        server: "rack1-node7".into(),
        server_uid: "5f0f43d5-2d6d-4a7c-9d1c-0d6f2f0c7d11".into(),
        nonce: "rack1-node7-provisioning-1a2157d".into(),
    }
}

fn ignition() -> String {
    format!(
        "{{\"ignition\":{{\"version\":\"3.4.0\"}},\"storage\":{{\"files\":[{{\"path\":\"/etc/x\",\"contents\":{{\"source\":\"data:,{}\"}}}}]}}}}",
        "x".repeat(4000)
    )
}

/// The boot server that is measured: the real one, over a desk and artefacts that answer at once. Says its address and serves until its parent goes.
pub async fn serve(file: PathBuf) -> Result<()> {
    let config = Config {
        http: SocketAddr::from(([127, 0, 0, 1], 0)),
        https: None,
        public: PublicAddress {
            base: "http://boot.example".parse()?,
            registry: None,
        },
        keys: KeyRing::new(keys()?),
        forwarders: Vec::new(),
        limits: Limits::default(),
    };
    let bound = corten_boot::service::bind(config, Arc::new(Prompt), Arc::new(One(file))).await?;
    println!("{}", bound.http);
    bound.run(CancellationToken::new()).await;
    Ok(())
}

struct Prompt;

#[async_trait]
impl Desk for Prompt {
    async fn admit(&self, _: &Caller) -> Result<Ticket, Refusal> {
        Ok(ticket())
    }
    async fn target(&self, _: &Ticket) -> Result<Target, Refusal> {
        Ok(Target::Probe)
    }
    async fn fetched(&self, _: &Ticket, _: Result<(), String>) -> Result<(), Refusal> {
        Ok(())
    }
    async fn user_data(&self, _: &Ticket) -> Result<UserData, Refusal> {
        Ok(UserData {
            ignition: Some(Bytes::from(ignition())),
            ..UserData::default()
        })
    }
    async fn hello(&self, _: &Ticket, _: &Hello) -> Result<Welcome, Refusal> {
        Err(Refusal::NotDue("a benchmark".into()))
    }
    async fn progress(&self, _: &Ticket, _: &Progress) -> Result<Verdict, Refusal> {
        Err(Refusal::NotDue("a benchmark".into()))
    }
    async fn report(&self, _: &Ticket, _: &Report) -> Result<(), Refusal> {
        Err(Refusal::NotDue("a benchmark".into()))
    }
    async fn register(&self, _: &Ticket, _: &Registration) -> Result<(), Refusal> {
        Err(Refusal::NotDue("a benchmark".into()))
    }
    async fn booted(&self, _: &Ticket, _: Option<&str>) -> Result<(), Refusal> {
        Err(Refusal::NotDue("a benchmark".into()))
    }
}

struct One(PathBuf);

#[async_trait]
impl Artefacts for One {
    async fn bootable(&self, boot: Boot<'_>) -> Result<Bootable, Refusal> {
        Ok(Bootable::Linux {
            kernel: name::KERNEL.into(),
            initrds: vec![name::INITRD.into()],
            command_line: boot.links.probe_command_line(),
        })
    }
    async fn open(&self, _: Boot<'_>, _: &str, _: Option<&UserData>) -> Result<Artefact, Refusal> {
        Ok(Artefact {
            pieces: vec![Piece::File {
                path: self.0.clone(),
                offset: 0,
                length: SIZE,
            }],
            etag: "artefact".into(),
            media_type: "application/efi",
            modified: None,
        })
    }
}
