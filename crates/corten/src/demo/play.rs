//! The play itself: what is started, applied, waited for and taken back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use corten_api::corten::{ServerPolicy, ServerRun, StepOutcome};
use corten_api::metal::{Endpoint, ServerClaim};
use corten_controlplane::{Process, ProcessSpec};
use corten_sim::{Fleet, Shape, Timing};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};

use super::Args;
use super::cluster::{Cluster, NAMESPACE, labels, selector};
use super::folder::Folder;
use super::story::{Story, table};
use super::view::{self, View};

const SHAPES: [Shape; 4] = [Shape::Dell, Shape::Hpe, Shape::Lenovo, Shape::Supermicro];
const BY_NAME: &str = "by-name";
const CLAIMS: [&str; 3] = [BY_NAME, "by-label", "any-server"];
/// A reference that a registry could have; until the boot services land, its text is checked and nothing is fetched.
const IMAGE: &str = "ghcr.io/gardenlinux/gardenlinux:1877";
const AT_ONCE: usize = 8;
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Each is many times what it takes on two cores; beyond it something is wrong.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
const AVAILABLE_WITHIN: Duration = Duration::from_secs(180);
const BOUND_WITHIN: Duration = Duration::from_secs(120);
const CLEAN_WITHIN: Duration = Duration::from_secs(240);

/// Everything that runs, and has to be ended again.
pub struct Stage {
    args: Args,
    cluster: Cluster,
    folder: Folder,
    story: Story,
    begun: Instant,
    serve: Option<Process>,
    fleet: Option<Fleet>,
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

    /// From nothing to bound claims, and with --once back again. Without, it ends only with an error: Ctrl-C drops it.
    pub async fn play(&mut self) -> anyhow::Result<()> {
        self.start_fleet().await?;
        self.cluster.install().await?;
        self.apply_policy().await?;
        self.start_serve().await?;
        self.onboard().await?;
        self.claim().await?;
        if self.args.once {
            self.give_back().await?;
            self.summary().await?;
            return Ok(());
        }
        self.how_to_look();
        loop {
            self.serves()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn start_fleet(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let timing = Timing {
            post: Duration::from_secs(3),
            shutdown: Duration::from_secs(2),
            cycle: Duration::from_secs(1),
            erase: Duration::from_millis(500),
            ..Timing::default()
        };
        let builder = Fleet::builder()
            .machines(self.args.machines.into())
            .shapes(SHAPES.to_vec())
            .tls(true)
            .timing(timing);
        let fleet = builder.start().await.context("the simulated fleet")?;
        let vendors: Vec<&str> = SHAPES
            .iter()
            .zip(fleet.machines())
            .map(|(_, machine)| machine.manufacturer())
            .collect();
        self.story.reached(
            format!(
                "{} simulated machines listen (HTTPS, each with its own certificate): {}",
                fleet.len(),
                vendors.join(", ")
            ),
            begun,
        );
        self.fleet = Some(fleet);
        Ok(())
    }

    async fn start_serve(&mut self) -> anyhow::Result<()> {
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
            .to_vec(),
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

    /// Out of band, all evidence of an erasure is the BMC's own word, which counts only where somebody says so.
    async fn apply_policy(&self) -> anyhow::Result<()> {
        let policy: ServerPolicy = serde_json::from_value(json!({
            "metadata": {"name": NAMESPACE, "labels": labels()},
            "spec": {"selector": {"matchLabels": labels()}, "cleaning": {"acceptReported": true}},
        }))?;
        let api: Api<ServerPolicy> = Api::all(self.cluster.client.clone());
        api.create(&PostParams::default(), &policy)
            .await
            .context("the ServerPolicy")?;
        self.story.say("applied a ServerPolicy: a BMC's word that it erased a drive is enough (cleaning.acceptReported)");
        Ok(())
    }

    async fn onboard(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let api: Api<Endpoint> = Api::all(self.cluster.client.clone());
        let mut endpoints = Vec::new();
        for (number, machine) in (1..).zip(self.fleet.iter().flat_map(Fleet::machines)) {
            endpoints.push(serde_json::from_value::<Endpoint>(json!({
                "metadata": {"name": format!("{}-{number:02}", machine.shape()), "labels": labels()},
                "spec": {"macAddress": machine.mac().to_string(), "ip": machine.ip().to_string()},
            }))?);
        }
        let count = endpoints.len();
        let create = async |endpoint: Endpoint| {
            let created = api.create(&PostParams::default(), &endpoint).await;
            created
                .map(drop)
                .with_context(|| format!("Endpoint {}", endpoint.name_any()))
        };
        stream::iter(endpoints)
            .map(create)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.story.say(format!(
            "applied {count} Endpoints: a MAC and an IP address each"
        ));
        self.until(
            &format!("{count} servers Available"),
            AVAILABLE_WITHIN,
            |view| view.free() == count,
        )
        .await?;
        self.story
            .reached(format!("{count} servers discovered and Available"), begun);
        Ok(())
    }

    async fn claim(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let view = View::read(&self.cluster.client).await?;
        let favourite = view
            .servers
            .last()
            .map(kube::ResourceExt::name_any)
            .unwrap_or_default();
        // The choosiest first: a claim for any server could take the very one that another asks for by name, and it
        // would then wait, as it should.
        let demands = [
            json!({"serverRef": {"name": favourite}}),
            json!({"serverSelector": {"matchLabels": labels()}}),
            json!({}),
        ];
        let api: Api<ServerClaim> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        for (name, demand) in CLAIMS.into_iter().zip(demands) {
            api.create(&PostParams::default(), &claim(name, demand)?)
                .await
                .with_context(|| format!("ServerClaim {name}"))?;
            if name == BY_NAME {
                let bound = |view: &View| view.bound() == 1;
                self.until("claim by name Bound", BOUND_WITHIN, bound)
                    .await?;
            }
        }
        self.story.say(format!(
            "applied {} ServerClaims: {}",
            CLAIMS.len(),
            CLAIMS.join(", ")
        ));
        self.until("all claims Bound", BOUND_WITHIN, |view| {
            view.bound() == CLAIMS.len()
        })
        .await?;
        self.story
            .reached(format!("{} claims Bound", CLAIMS.len()), begun);
        let on = |view: &View| {
            view.claimed().filter(|server| view::is_on(server)).count() == CLAIMS.len()
        };
        let view = self.until("their servers on", BOUND_WITHIN, on).await?;
        self.story.reached(
            format!("{} claimed servers powered on", CLAIMS.len()),
            begun,
        );
        for claim in &view.claims {
            let server = claim
                .spec
                .server_ref
                .as_ref()
                .map_or("?", |server| &server.name);
            self.story
                .say(format!("  claim {} has server {server}", claim.name_any()));
        }
        Ok(())
    }

    async fn give_back(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let api: Api<ServerClaim> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        for name in CLAIMS {
            api.delete(name, &kube::api::DeleteParams::default())
                .await
                .with_context(|| format!("deleting claim {name}"))?;
        }
        self.story
            .say("deleted the claims: each stays until its server is confirmed off");
        self.until("the claims gone", CLEAN_WITHIN, |view| {
            view.claims.is_empty()
        })
        .await?;
        self.story
            .reached("claims gone, their servers confirmed off", begun);
        let all: usize = self.args.machines.into();
        self.until("all servers clean and Available", CLEAN_WITHIN, |view| {
            view.free() == all
        })
        .await?;
        self.story.reached(
            format!("every drive erased, all {all} servers Available again"),
            begun,
        );
        Ok(())
    }

    async fn summary(&self) -> anyhow::Result<()> {
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

    fn how_to_look(&self) {
        let kubectl = match &self.cluster.kubectl {
            Some(path) if !on_path("kubectl") => path.display().to_string(),
            _ => "kubectl".to_owned(),
        };
        self.story.plain(format!(
            "\nLook at it from another terminal:\n
  export KUBECONFIG={}
  {kubectl} get servers
  {kubectl} get serverclaims -n {NAMESPACE}
  {kubectl} get bmcs,endpoints,serverruns
  {kubectl} describe server {}
  {kubectl} delete serverclaim {} -n {NAMESPACE}    # and watch its server being cleaned
\nCtrl-C ends everything and leaves nothing but {} behind.\n",
            self.cluster.kubeconfig.display(),
            self.fleet
                .as_ref()
                .and_then(|fleet| fleet.machines().next())
                .map(|machine| format!("{}-01-system-0", machine.shape()))
                .unwrap_or_default(),
            CLAIMS[0],
            self.folder.path().display(),
        ));
    }

    /// Waits until `holds`, with a line whenever the counts change.
    async fn until(
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

    /// An error if `corten serve` has ended.
    fn serves(&mut self) -> anyhow::Result<()> {
        match self.serve.as_mut().and_then(Process::exited) {
            Some(status) => Err(anyhow!(
                "corten serve ended ({status}); its log ends:\n{}",
                self.serve_log()
            )),
            None => Ok(()),
        }
    }

    fn serve_log(&self) -> String {
        self.serve
            .as_ref()
            .map(Process::log_tail)
            .unwrap_or_default()
    }

    /// Ends everything. On somebody's cluster, everything of the demo's is deleted first.
    pub async fn end(mut self, failed: bool) -> anyhow::Result<()> {
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

fn claim(name: &str, demand: Value) -> anyhow::Result<ServerClaim> {
    let mut spec = json!({"power": "On", "image": IMAGE});
    if let (Some(spec), Value::Object(demand)) = (spec.as_object_mut(), demand) {
        spec.extend(demand);
    }
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels()},
        "spec": spec,
    }))?)
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

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}
