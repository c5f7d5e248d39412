//! What somebody meets who has never run Corten: its definitions, the simulator as a process, which cluster is taken, what logs look
//! like, and how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of a test"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use corten_api::metal::{Endpoint, Server};
use corten_api::names;
use corten_controlplane::{ControlPlane, Options};
use corten_sim::Fleet;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::OnceCell;

use common::{
    answer, corten, free_port, kubectl, only_its_log_is_left, said_until, signal, without_ours,
};

mod common;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_takes_what_crds_prints_as_yaml_and_as_json() {
    let plane = plane().await;
    let printed: Value = serde_json::from_str(&printed_by(&["crds", "-o", "json"]).await).unwrap();
    let definitions = printed["items"].as_array().unwrap();
    assert_eq!(definitions.len(), corten_api::crds().len());
    let api: Api<CustomResourceDefinition> = Api::all(plane.client().unwrap());
    let only_to_see = PatchParams::apply("newcomer").dry_run();
    for definition in definitions {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let taken = api
            .patch(name, &only_to_see, &Patch::Apply(definition))
            .await;
        assert!(taken.is_ok(), "{name}: {taken:?}");
    }
}

#[tokio::test]
async fn version_prints_the_package_version_and_the_apis() {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("corten {version} (metal.ironcore.dev/v1alpha1, corten.dev/v1alpha1)\n");
    assert_eq!(printed_by(&["version"]).await, text);
    let printed: Value =
        serde_json::from_str(&printed_by(&["version", "-o", "json"]).await).unwrap();
    assert_eq!(printed["version"], version);
    assert_eq!(
        printed_by(&["--version"]).await,
        format!("corten {version}\n")
    );
}

#[tokio::test]
async fn simulated_machines_answer_at_the_printed_addresses_with_the_faults_of_a_file() {
    let sim = Sim::start("- {path: /redfish/v1/odata, effect: {status: 503}}\n").await;
    let machines = sim.get("/machines").await;
    assert_eq!(machines.as_array().unwrap().len(), 3);
    for machine in machines.as_array().unwrap() {
        let address = address(machine);
        let (status, root) = ask(address, "GET", "/redfish/v1", "").await.unwrap();
        assert_eq!(status, 200, "{root}");
        let root: Value = serde_json::from_str(&root).unwrap();
        assert!(root["RedfishVersion"].is_string(), "{root:#}");
        let (status, said) = ask(address, "GET", "/redfish/v1/odata", "").await.unwrap();
        assert_eq!(status, 503, "{said}");
    }
    sim.end().await;
}

#[tokio::test]
async fn a_fleet_is_steered_by_the_admin_api_of_its_process() {
    let sim = Sim::start("[]").await;
    assert_eq!(sim.ask("GET", "/healthz", "").await, (200, "ok".to_owned()));
    assert_eq!(sim.status("GET", "/machines/3", "").await, 404);

    let change = r#"{"power": true, "record": true}"#;
    assert_eq!(sim.status("PATCH", "/machines/1", change).await, 204);
    let machine = sim.get("/machines/1").await;
    assert_eq!(machine["powerState"], json!(["On"]));
    ask(address(&machine), "GET", "/redfish/v1", "")
        .await
        .unwrap();
    let journal = sim.get("/machines/1/journal").await;
    assert_eq!(journal, json!(["GET /redfish/v1"]));

    let rule = json!({"path": "/redfish/v1", "effect": {"status": 418}});
    let (one, all) = ("/machines/1/faults", "/faults");
    assert_eq!(sim.status("POST", one, &rule.to_string()).await, 201);
    assert_eq!(sim.get(one).await, json!([rule]));
    assert_eq!(sim.get("/machines/0/faults").await, json!([]));
    assert_eq!(sim.status("DELETE", one, "").await, 204);
    assert_eq!(sim.get(one).await, json!([]));
    let senseless = r#"{"share": 2.0, "effect": "cut"}"#;
    assert_eq!(sim.status("POST", one, senseless).await, 422);
    assert_eq!(sim.status("POST", all, &rule.to_string()).await, 201);
    assert_eq!(sim.get("/machines/0/faults").await, json!([rule]));
    assert_eq!(sim.status("DELETE", all, "").await, 204);
    assert_eq!(sim.get("/machines/0/faults").await, json!([]));

    for method in ["GET", "POST"] {
        let (status, said) = sim.ask(method, "/machines/1/console", "").await;
        assert_eq!(status, 404, "{method}: {said}");
        assert!(said.contains("no real firmware"), "{method}: {said}");
    }
    let replaced = sim.status("POST", "/machines/1/replace-identity", "").await;
    assert_eq!(replaced, 204);
    assert_ne!(
        sim.get("/machines/1").await["systems"],
        machine["systems"],
        "another machine stands there"
    );

    assert_ne!(sim.get("/counters").await["requests"], 0);
    assert_eq!(sim.status("DELETE", "/counters", "").await, 204);
    assert_eq!(sim.get("/counters").await["requests"], 0);
    let endpoints = sim.get("/endpoints").await;
    assert_eq!(endpoints["items"].as_array().unwrap().len(), 3);
    let macs = sim.get("/mac-database").await;
    assert_eq!(macs["macPrefixes"].as_array().unwrap().len(), 3);
    sim.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_takes_the_cluster_of_the_environments_kubeconfig() {
    let plane = plane().await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = corten();
    command.arg("serve").env("KUBECONFIG", plane.kubeconfig());
    let mut serve = Serve::start(command, "follower", folder.path());
    serve.acts().await;
    serve.end().await;
}

/// The paths of a pod's token are fixed, so they are mounted where only this process sees them.
#[tokio::test(flavor = "multi_thread")]
async fn serve_in_a_pod_takes_the_cluster_that_the_pod_runs_in() {
    let mount = r#"mount -t tmpfs none "$(readlink -f /var/run)""#;
    let tried = unshare().args(["sh", "-c", mount]).output().await;
    if !tried.is_ok_and(|tried| tried.status.success()) {
        println!(
            "skipped: serve_in_a_pod_takes_the_cluster_that_the_pod_runs_in: no mount namespace can be had here"
        );
        return;
    }
    let plane = plane().await;
    let folder = tempfile::tempdir().unwrap();
    let account = folder.path().join("account");
    std::fs::create_dir(&account).unwrap();
    let create = ["create", "token", "corten", "--namespace=corten-system"];
    let token = kubectl(plane, &create, "").await;
    std::fs::write(account.join("token"), token.trim()).unwrap();
    std::fs::write(account.join("namespace"), "corten-system").unwrap();
    std::fs::copy(plane.folder().join("ca.crt"), account.join("ca.crt")).unwrap();
    let script = format!(
        r#"set -e; {mount}; place=/var/run/secrets/kubernetes.io/serviceaccount; mkdir -p "$place"; cp "$1"/* "$place"; shift; exec "$@""#
    );
    let port = plane.config().cluster_url.port_u16().unwrap();
    let mut command = unshare();
    command
        .args(["sh", "-c", &script, "pod"])
        .arg(&account)
        .args([env!("CARGO_BIN_EXE_corten"), "serve"])
        .env("HOME", folder.path())
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", port.to_string());
    let mut serve = Serve::start(command, "pod", folder.path());
    serve.acts().await;
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_ignores_the_environments_kubeconfig() {
    let plane = plane().await;
    let folder = tempfile::tempdir().unwrap();
    let bystander = Bystander::listen().await;
    let output = corten()
        .args(["demo", "--once", "--machines=3", "--cluster-kubeconfig"])
        .arg(plane.kubeconfig())
        .arg("--folder")
        .arg(folder.path())
        .env("KUBECONFIG", bystander.kubeconfig())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("servers.metal.ironcore.dev"),
        "it looked at the cluster that it was given: {said}"
    );
    assert_eq!(bystander.connections(), 0);

    // The same file is good enough for who follows it.
    let mut command = corten();
    command
        .arg("serve")
        .env("KUBECONFIG", bystander.kubeconfig());
    let mut serve = Serve::start(command, "misled", folder.path());
    while bystander.connections() == 0 && serve.child.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_ne!(bystander.connections(), 0, "{}", serve.said());
}

#[tokio::test]
async fn logs_are_json_in_a_pipe_and_text_on_a_terminal() {
    // It logs where it listens, and ends for want of a cluster.
    let words = [
        "serve",
        "--admin-address=127.0.0.1:0",
        "--kubeconfig=/nonexistent/kubeconfig",
    ];
    let piped = corten().args(words).output().await.unwrap();
    let piped = String::from_utf8(piped.stderr).unwrap();
    let (events, reason) = piped.trim_end().rsplit_once('\n').unwrap();
    assert!(
        reason.starts_with("corten: cannot read /nonexistent"),
        "{piped}"
    );
    for event in events.lines() {
        let event: Value =
            serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {event}"));
        assert!(
            event["level"].is_string() && event["message"].is_string(),
            "{event:#}"
        );
    }

    let line = format!("'{}' {}", env!("CARGO_BIN_EXE_corten"), words.join(" "));
    let terminal = without_ours(Command::new("script"))
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .output()
        .await;
    let Ok(terminal) = terminal else {
        println!("skipped: logs_are_json_in_a_pipe_and_text_on_a_terminal: script is missing");
        return;
    };
    let shown = String::from_utf8_lossy(&terminal.stdout).into_owned();
    assert!(
        shown.contains("INFO") && shown.contains("/healthz, /readyz and /metrics"),
        "{shown}"
    );
    assert!(!shown.lines().any(|line| line.starts_with('{')), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_that_is_asked_to_end_logs_its_sessions_out_of_every_machine() {
    let plane = plane().await;
    let client = plane.client().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::builder()
        .machines(2)
        .credentials("root", "calvin")
        .start()
        .await
        .unwrap();
    let macs = folder.path().join("macs.json");
    std::fs::write(&macs, fleet.mac_database()).unwrap();
    let mut command = corten();
    command
        .arg("serve")
        .arg("--kubeconfig")
        .arg(plane.kubeconfig())
        .arg("--mac-prefixes")
        .arg(&macs);
    let mut serve = Serve::start(command, "leaver", folder.path());
    let endpoints: Api<Endpoint> = Api::all(client.clone());
    for machine in fleet.machines() {
        let endpoint: Endpoint = serde_json::from_value(json!({
            "metadata": {"name": format!("leaver-{}", machine.index()), "labels": {(names::AGENT): "leaver"}},
            "spec": {"macAddress": machine.mac().to_string(), "ip": machine.ip().to_string()},
        }))
        .unwrap();
        endpoints
            .create(&PostParams::default(), &endpoint)
            .await
            .unwrap();
    }
    let servers: Api<Server> = Api::all(client);
    let ours = ListParams::default().labels(&format!("{}=leaver", names::AGENT));
    let mut available = 0;
    for _ in 0..600 {
        let all = serde_json::to_value(servers.list(&ours).await.unwrap().items).unwrap();
        let is_available = |server: &&Value| server["status"]["state"] == "Available";
        available = all.as_array().unwrap().iter().filter(is_available).count();
        if available == fleet.len() || serve.child.try_wait().unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(available, fleet.len(), "{}", serve.said());
    assert!(fleet.machines().all(|machine| machine.sessions() > 0));
    serve.end().await;
    for machine in fleet.machines() {
        assert_eq!(machine.sessions(), 0, "machine {}", machine.index());
    }
}

#[tokio::test]
async fn demo_whose_serve_dies_ends_with_the_reason_and_leaves_nothing_but_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let bystander = Bystander::listen().await;
    let mut demo = corten()
        .args(["demo", "--once", "--machines=3", "--folder"])
        .arg(folder.path())
        .env("KUBECONFIG", bystander.kubeconfig())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdout = demo.stdout.take().unwrap();
    let mut said = said_until(&mut stdout, "corten serves (").await;
    signal(serve_of(demo.id().unwrap()).unwrap(), "KILL").await;
    stdout.read_to_string(&mut said).await.unwrap();
    assert_eq!(demo.wait().await.unwrap().code(), Some(1), "{said}");
    assert!(said.contains("FAILED: corten serve ended"), "{said}");
    only_its_log_is_left(folder.path());
    assert_eq!(bystander.connections(), 0);
}

/// One control plane for all of these, prepared as the README says.
async fn plane() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED.get_or_init(prepared).await
}

async fn prepared() -> ControlPlane {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let apply = ["apply", "--server-side", "-f", "-"];
    kubectl(&plane, &apply, &printed_by(&["crds"]).await).await;
    let rights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/rbac.yaml");
    kubectl(&plane, &apply, &std::fs::read_to_string(rights).unwrap()).await;
    let api: Api<CustomResourceDefinition> = Api::all(plane.client().unwrap());
    for _ in 0..300 {
        let all = api.list(&ListParams::default()).await.unwrap();
        if all.iter().filter(|crd| is_established(crd)).count() == corten_api::crds().len() {
            return plane;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the definitions are not established after 30 s");
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.iter().flat_map(|status| &status.conditions);
    conditions
        .flatten()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Runs a program where it may mount without being root.
fn unshare() -> Command {
    let mut command = without_ours(Command::new("unshare"));
    command.args(["--map-root-user", "--mount"]);
    command
}

async fn printed_by(words: &[&str]) -> String {
    let output = corten().args(words).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A running `corten serve` for the servers of one site.
struct Serve {
    child: Child,
    admin: String,
    log: PathBuf,
}

impl Serve {
    fn start(mut command: Command, site: &str, folder: &Path) -> Self {
        let admin = format!("127.0.0.1:{}", free_port());
        let log = folder.join("serve.log");
        let child = command
            .arg(format!("--admin-address={admin}"))
            .arg(format!("--label-selector={}={site}", names::AGENT))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, admin, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    async fn acts(&mut self) {
        for _ in 0..600 {
            let answer = ask(&self.admin, "GET", "/readyz", "").await;
            if answer.is_ok_and(|(_, role)| role.contains("ready: acting")) {
                return;
            }
            if self.child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it does not act: {}", self.said());
    }

    async fn end(mut self) {
        signal(self.child.id().unwrap(), "TERM").await;
        let status = self.child.wait().await.unwrap();
        assert!(status.success(), "{status}: {}", self.said());
    }
}

/// A running `corten sim` with three machines.
struct Sim {
    child: Child,
    admin: String,
    /// Its log, held open: nobody who logs likes a closed pipe.
    log: Lines<BufReader<ChildStderr>>,
    _folder: TempDir,
}

impl Sim {
    async fn start(faults: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.yaml");
        std::fs::write(&file, faults).unwrap();
        let mut child = corten()
            .args(["sim", "--machines=3", "--small", "--port=0"])
            .args(["--admin=127.0.0.1:0", "--faults"])
            .arg(&file)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        while let Some(line) = log.next_line().await.unwrap() {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "admin API listens" {
                return Self {
                    child,
                    admin: event["address"].as_str().unwrap().to_owned(),
                    log,
                    _folder: folder,
                };
            }
            said.push(line);
        }
        panic!("it ended early: {said:#?}");
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        ask(&self.admin, method, path, body).await.unwrap()
    }

    async fn status(&self, method: &str, path: &str, body: &str) -> u16 {
        self.ask(method, path, body).await.0
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn end(mut self) {
        signal(self.child.id().unwrap(), "TERM").await;
        assert_eq!(self.child.wait().await.unwrap().code(), Some(0));
        drop(self.log);
    }
}

/// A cluster that must not be touched, and notices if it is.
struct Bystander {
    folder: TempDir,
    connections: Arc<AtomicU32>,
}

impl Bystander {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let name = "bystander";
        // JSON is YAML.
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": format!("http://{}", listener.local_addr().unwrap())}}],
            "users": [{"name": name, "user": {}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        });
        let connections = Arc::new(AtomicU32::new(0));
        let bystander = Self {
            folder,
            connections: Arc::clone(&connections),
        };
        std::fs::write(bystander.kubeconfig(), kubeconfig.to_string()).unwrap();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                connections.fetch_add(1, Ordering::Relaxed);
            }
        });
        bystander
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// The `corten serve` of a demo: a shell stands between, which outlives neither.
fn serve_of(demo: u32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|&pid| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(b"serve".as_slice())
                && parent(pid).and_then(parent) == Some(demo)
        })
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Where a machine of the admin API's listens.
fn address(machine: &Value) -> &str {
    let url = machine["url"].as_str().unwrap();
    url.strip_prefix("http://").unwrap()
}

async fn ask(
    address: &str,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let answer = answer(address, method, path, body).await?;
    let malformed = || std::io::Error::other(answer.clone());
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(malformed)?, body.to_owned()))
}
