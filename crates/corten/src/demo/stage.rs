//! What runs while a play goes on, and has to be ended again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use corten_api::corten::{ServerRun, StepOutcome};
use corten_controlplane::{Process, ProcessSpec};
use corten_sim::Fleet;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::Args;
use super::cluster::{Cluster, NAMESPACE, selector};
use super::folder::Folder;
use super::story::{Story, table};
use super::view::{self, View};

pub const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Many times what it takes on two cores; beyond it something is wrong.
const SERVES_WITHIN: Duration = Duration::from_secs(60);

/// Everything that runs, and has to be ended again.
pub struct Stage {
    pub args: Args,
    pub cluster: Cluster,
    pub folder: Folder,
    pub story: Story,
    pub begun: Instant,
    serve: Option<Process>,
    pub fleet: Option<Fleet>,
}

// === impl Stage ===

impl Stage {
    pub fn new(args: Args, cluster: Cluster, folder: Folder, story: Story) -> Self {
        Self {
            args,
            cluster,
            folder,
            story,
            begun: Instant::now(),
            serve: None,
            fleet: None,
        }
    }

    /// Starts `corten serve` with the cluster, the MAC database and `more`, and waits until it acts.
    pub async fn start_serve(&mut self, more: Vec<String>) -> anyhow::Result<()> {
        let begun = Instant::now();
        let macs = self
            .fleet
            .as_ref()
            .map(Fleet::mac_database)
            .unwrap_or_default();
        let macs = self.folder.write("mac-prefixes.yaml", &macs)?;
        if self.cluster.is_own() {
            let text = std::fs::read_to_string(&self.cluster.kubeconfig)
                .context("the control plane's kubeconfig")?;
            self.cluster.kubeconfig = self.folder.write("kubeconfig", &text)?;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .context("no free port")?
            .port();
        let admin = format!("127.0.0.1:{port}");
        let path = |path: &Path| path.display().to_string();
        let spec = ProcessSpec {
            name: "corten serve",
            program: std::env::current_exe().context("cannot tell where corten is")?,
            arguments: [
                "serve",
                "--log-format=text",
                &format!("--kubeconfig={}", path(&self.cluster.kubeconfig)),
                &format!("--namespace={NAMESPACE}"),
                &format!("--label-selector={}", selector()),
                &format!("--claim-selector={}", selector()),
                &format!("--mac-prefixes={}", path(&macs)),
                &format!("--admin-address={admin}"),
            ]
            .map(str::to_owned)
            .into_iter()
            .chain(more)
            .collect(),
            environment: Vec::new(),
            // Only the flags above say what it does, whatever the user's shell has set.
            without: std::env::vars_os()
                .filter_map(|(name, _)| name.into_string().ok())
                .filter(|name| name.starts_with("CORTEN_") || name.starts_with("KUBE"))
                .collect(),
            log: self.folder.log("corten-serve.log"),
        };
        self.story
            .say(format!("starting corten serve, log in {}", path(&spec.log)));
        self.serve = Some(Process::start(&spec)?);
        let deadline = Instant::now() + SERVES_WITHIN;
        while !is_ready(&admin).await {
            self.serves()?;
            if Instant::now() > deadline {
                bail!(
                    "corten serve was not ready in {} s; its log ends:\n{}",
                    SERVES_WITHIN.as_secs(),
                    self.serve_log()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.story.reached("corten serves", begun);
        Ok(())
    }

    /// Waits until `holds`, with a line whenever the counts change.
    pub async fn until(
        &mut self,
        what: &str,
        within: Duration,
        holds: impl Fn(&View) -> bool,
    ) -> anyhow::Result<View> {
        let deadline = Instant::now() + within;
        let mut said = String::new();
        loop {
            self.serves()?;
            let view = View::read(&self.cluster.client)
                .await
                .context("the API server")?;
            if holds(&view) {
                return Ok(view);
            }
            let line = format!(
                "  servers: {}; claims: {} of {} bound",
                view.states(),
                view.bound(),
                view.claims.len()
            );
            if line != said {
                self.story.say(&line);
                said = line;
            }
            if Instant::now() > deadline {
                bail!(
                    "no {what} within {} s:{}\nThe log of corten serve ends:\n{}",
                    within.as_secs(),
                    view.complaints(),
                    self.serve_log()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Every server with its runs, what was reached when, and what it took of Redfish.
    pub async fn summary(&self) -> anyhow::Result<()> {
        let client = &self.cluster.client;
        let view = View::read(client).await?;
        let runs = Api::<ServerRun>::all(client.clone())
            .list(&ListParams::default().labels(&selector()))
            .await?;
        let mut servers = table([
            "server",
            "manufacturer",
            "model",
            "serial number",
            "state",
            "runs",
            "drives erased",
        ]);
        for server in &view.servers {
            let status = server.status.as_ref();
            let text = |value: Option<&String>| value.cloned().unwrap_or_default();
            let own: Vec<&ServerRun> = runs
                .iter()
                .filter(|run| run.spec.server_ref.name == server.name_any())
                .collect();
            let kinds: Vec<&str> = own.iter().map(|run| run.spec.kind.as_str()).collect();
            let erased = own
                .iter()
                .flat_map(|run| run.status.iter().flat_map(|status| &status.drives))
                .filter(|drive| drive.outcome == StepOutcome::Succeeded)
                .count();
            servers.add_row([
                server.name_any(),
                text(status.and_then(|status| status.manufacturer.as_ref())),
                text(status.and_then(|status| status.model.as_ref())),
                text(status.and_then(|status| status.serial_number.as_ref())),
                view::state(server)
                    .map(|state| state.as_str().to_owned())
                    .unwrap_or_default(),
                kinds.join(", "),
                erased.to_string(),
            ]);
        }
        self.story
            .plain(format!("\n{servers}\n\n{}", self.story.table()));
        if let Some(fleet) = &self.fleet {
            let counts = fleet.counts();
            self.story.plain(format!(
                "Redfish: {} requests on {} connections with {} logins, to {} machines",
                counts.requests,
                counts.connections,
                counts.logins,
                fleet.len()
            ));
        }
        self.story.say(format!(
            "done in {:.1} s",
            self.begun.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Stays up; ends only with an error: Ctrl-C drops it.
    pub async fn stay(&mut self) -> anyhow::Result<()> {
        loop {
            self.serves()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// An error if `corten serve` has ended.
    pub fn serves(&mut self) -> anyhow::Result<()> {
        match self.serve.as_mut().and_then(Process::exited) {
            Some(status) => Err(anyhow!(
                "corten serve ended ({status}); its log ends:\n{}",
                self.serve_log()
            )),
            None => Ok(()),
        }
    }

    pub fn serve_log(&self) -> String {
        self.serve
            .as_ref()
            .map(Process::log_tail)
            .unwrap_or_default()
    }

    /// Ends everything. On somebody's cluster, everything of the demo's is deleted first.
    pub async fn end(mut self, failed: bool) -> anyhow::Result<()> {
        self.keep_consoles();
        if failed {
            self.show_consoles(15);
        }
        if !self.cluster.is_own() {
            self.story
                .say("deleting what the demo made in this cluster");
            if !failed && let Err(error) = self.cluster.release(Duration::from_secs(60)).await {
                self.story.say(format!("releasing the claims: {error:#}"));
            }
        }
        let mut log: Option<PathBuf> = None;
        if let Some(mut serve) = self.serve.take() {
            log = Some(serve.log().to_path_buf());
            if !serve.stop(Duration::from_secs(25)).await {
                self.story
                    .say("corten serve did not end by itself in 25 s and was killed");
            }
        }
        let wiped = if self.cluster.is_own() {
            Ok(0)
        } else {
            self.cluster
                .wipe(&self.story, Duration::from_secs(30))
                .await
        };
        drop(self.fleet.take());
        self.cluster.shutdown().await;
        self.folder.clean();
        wiped.context("deleting what the demo made in this cluster")?;
        match log {
            Some(log) => self.story.say(format!(
                "all ended; the log of corten serve stays in {}",
                log.display()
            )),
            None => self.story.say("all ended"),
        }
        Ok(())
    }
}

/// Whether `/readyz` says that the controllers act.
async fn is_ready(address: &str) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.contains("ready: acting"))
    };
    tokio::time::timeout(Duration::from_secs(2), ask)
        .await
        .is_ok_and(|answer| answer.unwrap_or(false))
}
