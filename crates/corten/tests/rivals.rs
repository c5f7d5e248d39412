//! Several `corten` in one cluster, as real processes against a real API server: serves that start together, and an operator with agents.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of a test"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use corten_controlplane::{ControlPlane, Options};
use corten_sim::{Fleet, MachineHandle, Shape};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use common::{free_port, get, kubectl, signal};

mod common;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_serves_with_overlapping_selectors_started_together_exactly_one_acts() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let kubeconfig = plane.kubeconfig();
    corten_kit::definitions::install(
        &plane.client().unwrap(),
        corten_api::crds(),
        &BTreeMap::new(),
    )
    .await
    .unwrap();
    // In the last rounds Leases are there, let go, from the rounds before.
    for (one, other) in [("", "rack=7"), ("site=a", "rack=7"), ("rack=7", "site=a")] {
        let folder = tempfile::tempdir().unwrap();
        let mut two = [
            Serve::start(kubeconfig, &of_selector(one), &folder.path().join("one")),
            Serve::start(
                kubeconfig,
                &of_selector(other),
                &folder.path().join("other"),
            ),
        ];
        let mut acted = [false; 2];
        let mut ended: Option<(usize, ExitStatus)> = None;
        for _ in 0..600 {
            for (index, serve) in two.iter_mut().enumerate() {
                acted[index] |= serve.acts().await;
                if ended.is_none() {
                    ended = serve
                        .child
                        .try_wait()
                        .unwrap()
                        .map(|status| (index, status));
                }
            }
            if ended.is_some_and(|(index, _)| acted[1 - index]) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (loser, status) = ended
            .unwrap_or_else(|| panic!("{one:?} and {other:?}: nobody stepped back, {acted:?}"));
        let said = two[loser].said();
        assert!(!status.success(), "{said}");
        assert!(
            said.contains("another Corten") && said.contains("--despite-other-operators"),
            "{said}"
        );
        println!("{one:?} beside {other:?}: {loser} stepped back, {acted:?}\n{said}");
        assert!(!acted[loser], "both acted for a while");
        let winner = &mut two[1 - loser];
        assert!(acted[1 - loser], "nobody acts: {}", winner.said());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(winner.acts().await, "{}", winner.said());
        winner.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_and_an_agent_of_each_site_share_the_work_and_no_machine() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = plane.client().unwrap();
    corten_kit::definitions::install(&client, corten_api::crds(), &BTreeMap::new())
        .await
        .unwrap();
    let fleet = Fleet::builder()
        .machines(2)
        .shape(Shape::Dell)
        .start()
        .await
        .unwrap();
    for (site, machine) in ["a", "b"].into_iter().zip(fleet.machines()) {
        apply(&plane, &bmc(site, &machine)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let start = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Serve::start(
            plane.kubeconfig(),
            &words,
            &folder.path().join(words.join("-")),
        )
    };
    let mut operator = start(&["operator"]);
    let mut agent_a = start(&["agent", "--site=a"]);
    until(&plane, &agent_a, "server a is Available", |servers| {
        states(servers, "Available") == 1
    })
    .await;
    // Nobody looks after site b yet.
    assert_eq!(fleet.machine(1).counts().requests, 0);
    let labels = servers(&plane).await[0]["metadata"]["labels"].clone();
    assert_eq!(labels["corten.dev/agent"], "a", "{labels}");

    let mut agent_b = start(&["agent", "--site=b"]);
    for name in ["one", "two"] {
        apply(&plane, &claim(name)).await;
    }
    until(
        &plane,
        &operator,
        "both claims have a server that is on",
        |servers| {
            let is_on = |server: &&Value| server["status"]["powerState"] == "On";
            states(servers, "Reserved") == 2 && servers.iter().filter(is_on).count() == 2
        },
    )
    .await;
    for agent in [&operator, &agent_a, &agent_b] {
        let said = get(agent.port, "/readyz").await;
        assert!(said.contains("ready: acting"), "{said}");
    }
    // A second one for a site stands by, and takes over.
    let mut standby = start(&["agent", "--site=a", "--lease-duration=10s"]);
    standby.says("standing by").await;
    agent_a.end().await;
    standby.says("ready: acting").await;
    let held: Vec<String> = servers(&plane).await.iter().map(holder).collect();
    assert!(held.iter().all(|claim| !claim.is_empty()), "{held:?}");
    for name in ["one", "two"] {
        let words = [
            "delete",
            "serverclaim",
            name,
            "-n",
            "default",
            "--wait=false",
        ];
        kubectl(&plane, &words, "").await;
    }
    until(&plane, &standby, "both servers are off", |servers| {
        let is_off = |server: &&Value| server["status"]["powerState"] == "Off";
        servers.iter().filter(is_off).count() == 2
    })
    .await;
    // `serve` for all would switch the same machines, and says so; another operator stands by.
    let mut rival = start(&["serve"]);
    assert!(!rival.child.wait().await.unwrap().success());
    assert!(rival.said().contains("another Corten"), "{}", rival.said());
    let mut second = start(&["operator", "--lease-duration=10s"]);
    second.says("standing by").await;
    for process in [&mut operator, &mut standby, &mut agent_b, &mut second] {
        process.end().await;
    }
}

fn bmc(site: &str, machine: &MachineHandle) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": site, "namespace": "default"},
            "stringData": {"username": machine.user(), "password": machine.password()},
        },
        {
            "apiVersion": "metal.ironcore.dev/v1alpha1", "kind": "BMC",
            "metadata": {"name": site, "labels": {"corten.dev/agent": site}},
            "spec": {
                "access": {"ip": machine.ip().to_string(), "macAddress": machine.mac().to_string()},
                "protocol": {"name": "Redfish", "port": machine.port(), "scheme": machine.scheme()},
                "secretRef": {"name": site, "namespace": "default"},
            },
        },
    ]})
}

fn claim(name: &str) -> Value {
    json!({
        "apiVersion": "metal.ironcore.dev/v1alpha1", "kind": "ServerClaim", "metadata": {"name": name, "namespace": "default"},
        "spec": {"power": "On", "image": "registry.example.com/images/debian:12"},
    })
}

async fn apply(plane: &ControlPlane, object: &Value) {
    kubectl(
        plane,
        &["apply", "--server-side", "-f", "-"],
        &object.to_string(),
    )
    .await;
}

async fn servers(plane: &ControlPlane) -> Vec<Value> {
    let list = kubectl(plane, &["get", "servers", "-o", "json"], "").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn states(servers: &[Value], state: &str) -> usize {
    let is = |server: &&Value| server["status"]["state"] == state;
    servers.iter().filter(is).count()
}

fn holder(server: &Value) -> String {
    let name = &server["spec"]["serverClaimRef"]["name"];
    name.as_str().unwrap_or_default().to_owned()
}

async fn until(
    plane: &ControlPlane,
    process: &Serve,
    what: &str,
    wanted: impl Fn(&[Value]) -> bool,
) {
    for _ in 0..600 {
        if wanted(&servers(plane).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let servers = servers(plane).await;
    panic!("{what} did not come: {servers:#?}\n{}", process.said());
}

fn of_selector(selector: &str) -> [String; 2] {
    ["serve".into(), format!("--label-selector={selector}")]
}

struct Serve {
    child: Child,
    port: u16,
    log: std::path::PathBuf,
}

impl Serve {
    fn start(kubeconfig: &Path, words: &[String], log: &Path) -> Self {
        let port = free_port();
        let child = Command::new(env!("CARGO_BIN_EXE_corten"))
            .args(words)
            .args(["--log=warn", "--namespace=default", "--kubeconfig"])
            .arg(kubeconfig)
            .arg(format!("--admin-address=127.0.0.1:{port}"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            child,
            port,
            log: log.to_owned(),
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Whether it acts as an engine.
    async fn acts(&self) -> bool {
        let answer = get(self.port, "/readyz").await;
        answer.contains("acting") && !answer.contains("standing by as engine")
    }

    async fn says(&self, word: &str) {
        for _ in 0..600 {
            if get(self.port, "/readyz").await.contains(word) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let said = get(self.port, "/readyz").await;
        panic!("not {word}: {said}\n{}", self.said());
    }

    async fn end(&mut self) {
        signal(self.child.id().unwrap(), "TERM").await;
        let _ = self.child.wait().await;
    }
}
