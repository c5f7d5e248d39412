//! One run: from Endpoints to Available servers, then at rest.

use std::{
    collections::HashSet,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use corten_api::metal::{Endpoint, Server, ServerState};
use corten_controlplane::{ControlPlane, Options, Progress};
use corten_sim::{Fleet, Inventory, Shape};
use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};

use crate::{
    apiserver::Writes,
    floor,
    process::{Usage, available_mib, machine, others},
};

const CREATORS: usize = 32;
/// etcd, the API server and its caches, whatever the size.
const BASE_MIB: u64 = 2_000;
/// A simulated machine, its objects in etcd and the API server's caches, and what Corten keeps of it. A guess with margin, not measured.
const MACHINE_KIB: u64 = 1_024;

/// What to measure.
pub struct Setup {
    pub corten: PathBuf,
    pub machines: usize,
    pub large: bool,
    pub tls: bool,
    pub rest: Duration,
    pub limit: Duration,
}

/// What came out.
pub struct Run {
    pub machines: usize,
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub peak_mib: f64,
    pub writes: Writes,
    pub requests: u64,
    pub connections: u64,
    pub logins: u64,
    pub floor: f64,
    /// CPU seconds of everybody else during the onboarding.
    pub others: Vec<(String, f64)>,
    /// CPU seconds that the whole machine was busy and idle meanwhile.
    pub machine: (f64, f64),
    /// Most memory of the fleet and this measurement.
    pub fleet_mib: f64,
    pub rest: Option<Rest>,
}

/// What it costs to have nothing to do.
pub struct Rest {
    pub seconds: f64,
    pub writes: Writes,
    pub requests: u64,
    pub cpu_seconds: f64,
    pub rss_mib: f64,
}

/// `corten serve`, ended when dropped.
struct Serve(Child);

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn run(setup: &Setup) -> Result<Run> {
    let needed = BASE_MIB + setup.machines as u64 * MACHINE_KIB / 1024;
    if let Some(available) = available_mib() {
        anyhow::ensure!(
            available > needed,
            "{} machines take some {needed} MiB with their control plane, and {available} MiB are available: take fewer (--sizes)",
            setup.machines
        );
    }
    let plane = ControlPlane::start(Options {
        progress: Progress::silent(),
        ..Options::default()
    })
    .await?;
    let client = plane.client()?;
    corten_kit::definitions::install(&client, corten_api::crds(), &Default::default()).await?;
    let floor = floor::writes_per_second(&client).await?;
    let fleet = fleet(setup).await?;
    let folder = tempfile::tempdir()?;
    let serve = serve(setup, &plane, &fleet, folder.path()).await?;
    let pid = serve.0.id();
    // Caches fill and the lease is taken before the clock starts.
    tokio::time::sleep(Duration::from_secs(2)).await;

    fleet.reset_counts();
    let before = Writes::read(&client).await?;
    let usage = Usage::of(pid)?;
    let elsewhere = others(plane.folder());
    let whole = machine();
    let began = Instant::now();
    let (created, counted) = tokio::join!(create(&client, &fleet), available(&client, setup));
    created?;
    counted?;
    let seconds = began.elapsed().as_secs_f64();
    let whole = {
        let (busy, idle) = machine();
        (busy - whole.0, idle - whole.1)
    };
    let elsewhere = others(plane.folder())
        .into_iter()
        .zip(elsewhere)
        .map(|((name, after), (_, before))| (name, after - before))
        .collect();
    // Events trail behind what they tell of.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = Usage::of(pid)?;
    let mut writes = Writes::read(&client).await?.since(&before);
    if let Some(ours) = writes.by_resource.get_mut("endpoints") {
        *ours = ours.saturating_sub(setup.machines as u64);
    }
    let counts = fleet.counts();
    let run = Run {
        machines: setup.machines,
        seconds,
        cpu_seconds: after.cpu_seconds - usage.cpu_seconds,
        peak_mib: after.peak_mib,
        writes,
        requests: counts.requests,
        connections: counts.connections,
        logins: counts.logins,
        floor,
        others: elsewhere,
        machine: whole,
        fleet_mib: Usage::of(std::process::id())?.peak_mib,
        rest: rest(setup, &client, &fleet, pid).await?,
    };
    drop(serve);
    drop(fleet);
    plane.shutdown().await;
    Ok(run)
}

async fn fleet(setup: &Setup) -> Result<Fleet> {
    let shapes = if setup.large {
        vec![Shape::Dell, Shape::Dgx]
    } else {
        Shape::MIXED.to_vec()
    };
    let inventory = if setup.large {
        Inventory::Realistic
    } else {
        Inventory::Small
    };
    Fleet::builder()
        .machines(setup.machines)
        .shapes(shapes)
        .inventory(inventory)
        .tls(setup.tls)
        .start()
        .await
        .context("the fleet does not start")
}

async fn serve(
    setup: &Setup,
    plane: &ControlPlane,
    fleet: &Fleet,
    folder: &std::path::Path,
) -> Result<Serve> {
    let database = folder.join("mac-prefixes.yaml");
    std::fs::write(&database, fleet.mac_database())?;
    let log = std::fs::File::create(folder.join("serve.log"))?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let child = Command::new(&setup.corten)
        .arg("--log=warn")
        .arg("serve")
        .arg("--install-crds")
        .arg("--kubeconfig")
        .arg(plane.kubeconfig())
        .arg("--mac-prefixes")
        .arg(&database)
        .arg(format!("--admin-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let mut serve = Serve(child);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = serve.0.try_wait()? {
            bail!(
                "corten serve ended ({status}): {}",
                std::fs::read_to_string(folder.join("serve.log"))?
            );
        }
        if is_ready(port).await {
            return Ok(serve);
        }
        if Instant::now() > until {
            bail!(
                "corten serve is not ready: {}",
                std::fs::read_to_string(folder.join("serve.log"))?
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn is_ready(port: u16) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    let asked = stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    let mut answer = String::new();
    asked.is_ok()
        && stream.read_to_string(&mut answer).await.is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

async fn create(client: &Client, fleet: &Fleet) -> Result<()> {
    let api: Api<Endpoint> = Api::all(client.clone());
    let list = fleet.endpoints();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    futures::stream::iter(items)
        .map(|item| {
            let api = api.clone();
            async move {
                anyhow::Ok(
                    api.create(&PostParams::default(), &serde_json::from_value(item)?)
                        .await?,
                )
            }
        })
        .buffer_unordered(CREATORS)
        .try_for_each(|_| async { Ok(()) })
        .await
}

/// Ends when as many servers as machines are Available; says how far it is.
async fn available(client: &Client, setup: &Setup) -> Result<()> {
    let api: Api<Server> = Api::all(client.clone());
    let mut events = std::pin::pin!(
        watcher(api, watcher::Config::default())
            .default_backoff()
            .applied_objects()
    );
    let mut done: HashSet<String> = HashSet::new();
    let mut seen: HashSet<String> = HashSet::new();
    let until = tokio::time::Instant::now() + setup.limit;
    let mut said = Instant::now();
    while done.len() < setup.machines {
        let event = tokio::time::timeout_at(until, events.next()).await;
        let Ok(Some(server)) = event else {
            bail!(
                "after {:?} {} of {} servers are Available ({} exist)",
                setup.limit,
                done.len(),
                setup.machines,
                seen.len()
            );
        };
        let Ok(server) = server else { continue };
        let name = server.metadata.name.unwrap_or_default();
        seen.insert(name.clone());
        if server.status.and_then(|s| s.state) == Some(ServerState::Available) {
            done.insert(name);
        }
        if said.elapsed() > Duration::from_secs(5) {
            eprintln!("   {} of {} available", done.len(), setup.machines);
            said = Instant::now();
        }
    }
    Ok(())
}

/// Says what happened in the last `seconds`, where nothing should have: some of the Events.
async fn tell_events(client: &Client, seconds: f64) -> Result<()> {
    let api: Api<k8s_openapi::api::events::v1::Event> = Api::all(client.clone());
    let since = jiff::Timestamp::now() - Duration::from_secs_f64(seconds);
    let events = api.list(&Default::default()).await?;
    let recent = events.items.iter().filter(|event| {
        let at = event
            .series
            .as_ref()
            .map(|series| &series.last_observed_time);
        at.or(event.event_time.as_ref())
            .is_some_and(|at| at.0 > since)
    });
    for event in recent.take(10) {
        eprintln!(
            "   not at rest: {} {}: {}",
            event
                .regarding
                .as_ref()
                .and_then(|about| about.name.as_deref())
                .unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
            event.note.as_deref().unwrap_or_default()
        );
    }
    Ok(())
}

async fn rest(setup: &Setup, client: &Client, fleet: &Fleet, pid: u32) -> Result<Option<Rest>> {
    if setup.rest.is_zero() {
        return Ok(None);
    }
    // What onboarding left to do ends first: it is not rest.
    tokio::time::sleep(Duration::from_secs(10)).await;
    fleet.reset_counts();
    let (before, usage, began) = (Writes::read(client).await?, Usage::of(pid)?, Instant::now());
    tokio::time::sleep(setup.rest).await;
    let after = Usage::of(pid)?;
    let seconds = began.elapsed().as_secs_f64();
    let writes = Writes::read(client).await?.since(&before);
    if writes.by_resource.values().sum::<u64>() > 0 {
        tell_events(client, seconds).await?;
    }
    Ok(Some(Rest {
        seconds,
        writes,
        requests: fleet.counts().requests,
        cpu_seconds: after.cpu_seconds - usage.cpu_seconds,
        rss_mib: after.rss_mib,
    }))
}
