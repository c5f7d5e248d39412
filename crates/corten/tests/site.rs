//! `corten serve` as a site runs it: under its own service account, with exactly the rights of `deploy/rbac.yaml`. What it
//! says, writes and shows on the way is searched for the passwords that it was given.

// Helpers of a test fail as the test does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use corten_controlplane::{ControlPlane, Options};
use corten_sim::{Fleet, Shape, Timing};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::process::Command;

mod common;

/// The right password, by a MAC database and by a Secret, and one that the BMC refuses.
const CANARY: &str = "canary-Gelb5-right";
const WRONG: &str = "canary-Rost7-wrong";
const TLS_CANARY: &str = "canary-Blau9-pinned";

/// What may hold passwords; everything else of ours may not.
const SECRETS: [&str; 1] = ["bmcsecrets"];

#[tokio::test(flavor = "multi_thread")]
async fn serve_needs_only_the_rights_in_deploy_and_no_password_leaves_a_secret() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = plane.client().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let quick = Timing {
        post: Duration::from_millis(300),
        shutdown: Duration::from_millis(200),
        erase: Duration::from_millis(300),
        ..Timing::default()
    };
    let plain = Fleet::builder()
        .machines(3)
        .shape(Shape::Dell)
        .credentials("root", CANARY)
        .timing(quick)
        .start()
        .await
        .unwrap();
    let secured = Fleet::builder()
        .tls(true)
        .shape(Shape::Hpe)
        .credentials("Administrator", TLS_CANARY)
        .timing(quick)
        .start()
        .await
        .unwrap();

    let definitions = corten_api::crds();
    corten_kit::definitions::install(&client, definitions, &BTreeMap::new())
        .await
        .unwrap();
    let kubectl = Kubectl(&plane);
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/rbac.yaml");
    kubectl
        .apply(&std::fs::read_to_string(deploy).unwrap())
        .await;

    let account = folder.path().join("account.kubeconfig");
    let text = plane
        .kubeconfig_for(
            "system:serviceaccount:corten-system:corten",
            Some("system:serviceaccounts"),
        )
        .unwrap();
    std::fs::write(&account, text).unwrap();
    let macs = folder.path().join("macs.json");
    std::fs::write(&macs, plain.mac_database()).unwrap();
    let log = folder.path().join("serve.log");
    let port = common::free_port();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_corten"))
        .args(["serve", "--log=trace", "--log-format=json", "--kubeconfig"])
        .arg(&account)
        .arg("--mac-prefixes")
        .arg(&macs)
        .arg(format!("--admin-address=127.0.0.1:{port}"))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    for (name, user, password) in [
        ("own", "root", CANARY),
        ("refused", "root", WRONG),
        ("pinned", "Administrator", TLS_CANARY),
    ] {
        kubectl
            .apply(&yaml(json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": name, "namespace": "corten-system"},
                "stringData": {"username": user, "password": password},
            })))
            .await;
    }
    let pin = pin_by_inspect(&secured.machine(0).url(), folder.path()).await;
    let metal = "metal.ironcore.dev/v1alpha1";
    let bmc = |name: &str, machine: &corten_sim::MachineHandle, notes: Value| {
        yaml(json!({
            "apiVersion": metal, "kind": "BMC",
            "metadata": {"name": name, "annotations": notes},
            "spec": {
                "access": {"ip": machine.ip().to_string(), "macAddress": machine.mac().to_string()},
                "protocol": {"name": "Redfish", "port": machine.port(), "scheme": machine.scheme()},
                "secretRef": {"name": name, "namespace": "corten-system"},
            },
        }))
    };
    let found = plain.machine(0);
    for manifest in [
        yaml(json!({
            "apiVersion": "corten.dev/v1alpha1", "kind": "ServerPolicy", "metadata": {"name": "site"},
            "spec": {"selector": {}, "cleaning": {"acceptReported": true}},
        })),
        yaml(json!({
            "apiVersion": metal, "kind": "Endpoint", "metadata": {"name": "found"},
            "spec": {"macAddress": found.mac().to_string(), "ip": found.ip().to_string()},
        })),
        bmc("own", &plain.machine(1), json!({})),
        bmc("refused", &plain.machine(2), json!({})),
        bmc(
            "pinned",
            &secured.machine(0),
            json!({"corten.dev/tls-pin": pin}),
        ),
    ] {
        kubectl.apply(&manifest).await;
    }

    let states = |all: &[Value], state: &str| {
        let is = |server: &&Value| server["status"]["state"] == state;
        all.iter().filter(is).count()
    };
    until(&client, &log, "servers", "three Available", |all| {
        states(all, "Available") == 3
    })
    .await;
    until(&client, &log, "bmcs", "the refused one says so", |all| {
        let said = |bmc: &&Value| {
            bmc["metadata"]["name"] == "refused"
                && bmc["status"]["conditions"]
                    .to_string()
                    .contains("AuthFailed")
        };
        all.iter().any(|bmc| said(&bmc))
    })
    .await;
    kubectl
        .apply(&yaml(json!({
            "apiVersion": metal, "kind": "ServerClaim", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"power": "On", "image": "registry.example.com/images/debian:12"},
        })))
        .await;
    until(&client, &log, "servers", "one Reserved and on", |all| {
        let on =
            |s: &&Value| s["status"]["state"] == "Reserved" && s["status"]["powerState"] == "On";
        all.iter().any(|server| on(&server))
    })
    .await;
    kubectl
        .run(&["delete", "serverclaim", "web", "--wait=false"])
        .await;
    until(&client, &log, "servers", "three Available again", |all| {
        states(all, "Available") == 3
    })
    .await;

    let said = std::fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("\"level\":\"TRACE\""),
        "the log is a full one"
    );
    let refused: Vec<&str> = said
        .lines()
        .filter(|line| {
            line.contains("forbidden")
                || line.contains("Forbidden")
                || line.contains("not permitted")
        })
        .collect();
    assert!(refused.is_empty(), "rights are missing: {refused:#?}");

    let metrics = metrics(port).await;
    for series in [
        "corten_servers{state=\"",
        "corten_bmc_last_seen_timestamp_seconds{bmc=\"",
    ] {
        assert!(metrics.contains(series), "{series} is not in\n{metrics}");
    }
    assert!(
        !metrics.contains("corten_bmc_requests_total 0\n"),
        "{metrics}"
    );
    let mut places = vec![
        ("the log".to_owned(), said),
        ("/metrics".to_owned(), metrics),
        ("the command lines".to_owned(), command_lines()),
    ];
    for crd in corten_api::crds() {
        let plural = crd.spec.names.plural.clone();
        if !SECRETS.contains(&plural.as_str()) {
            let all = list(&client, &plural).await;
            places.push((plural, Value::from(all).to_string()));
        }
    }
    for (group, version, kind) in [
        ("", "v1", "Event"),
        ("", "v1", "ConfigMap"),
        ("coordination.k8s.io", "v1", "Lease"),
    ] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        places.push((
            kind.to_owned(),
            Value::from(read(&client, &resource).await).to_string(),
        ));
    }
    let events = &places.iter().find(|(place, _)| place == "Event").unwrap().1;
    assert!(
        events.contains("corten.dev/"),
        "Events of ours are searched"
    );
    for password in [CANARY, WRONG, TLS_CANARY] {
        let mut needles = vec![password.to_owned(), base64(password)];
        needles.extend(["root", "Administrator"].map(|user| base64(&format!("{user}:{password}"))));
        for (place, text) in &places {
            for needle in &needles {
                let at = text.find(needle.as_str());
                let around = at.map(|at| text.get(at.saturating_sub(300)..at).unwrap_or_default());
                assert!(at.is_none(), "a password is in {place}, after: {around:?}");
            }
        }
    }
    serve.start_kill().unwrap();
    let _ = serve.wait().await;
    boot_services_make_their_key(&client, &account, folder.path()).await;
}

/// With the same rights. Not part of the life above: its claim's image is in no registry, and boot services would look for it.
async fn boot_services_make_their_key(client: &Client, account: &Path, folder: &Path) {
    let log = folder.join("boot.log");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_corten"))
        .args(["serve", "--log=trace", "--log-format=json", "--kubeconfig"])
        .arg(account)
        .args(["--admin-address=127.0.0.1:0", "--boot-address=127.0.0.1:0"])
        .arg("--boot-cache")
        .arg(folder.join("images"))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "corten-system");
    let mut made = None;
    for _ in 0..300 {
        made = secrets.get_opt("corten-boot-key").await.unwrap();
        if made.is_some() || serve.try_wait().unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    serve.start_kill().unwrap();
    let _ = serve.wait().await;
    let said = std::fs::read_to_string(&log).unwrap();
    let end: Vec<&str> = said.lines().rev().take(5).collect();
    let made = made.unwrap_or_else(|| panic!("no key was made: {end:#?}"));
    let key = serde_json::to_value(made.data.unwrap()).unwrap()["key"].clone();
    assert!(
        !said.contains(key.as_str().unwrap()),
        "the key is in the log"
    );
}

/// kubectl, as a cluster's administrator.
struct Kubectl<'a>(&'a ControlPlane);

impl Kubectl<'_> {
    async fn run(&self, arguments: &[&str]) {
        common::kubectl(self.0, arguments, "").await;
    }

    async fn apply(&self, manifest: &str) {
        let words = ["apply", "--server-side", "-f", "-"];
        common::kubectl(self.0, &words, manifest).await;
    }
}

/// JSON is YAML.
fn yaml(manifest: Value) -> String {
    manifest.to_string()
}

/// As the README says: `corten inspect` prints what the annotation holds.
async fn pin_by_inspect(url: &str, folder: &Path) -> String {
    let file = folder.join("password");
    std::fs::write(&file, TLS_CANARY).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_corten"))
        .args([
            "inspect",
            url,
            "--username=Administrator",
            "--password-file",
        ])
        .arg(&file)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains(TLS_CANARY), "{said}");
    let from = said.find("sha256:").unwrap_or_else(|| panic!("{said}"));
    said[from..]
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == ':')
        .collect()
}

async fn list(client: &Client, plural: &str) -> Vec<Value> {
    let crd = corten_api::crds()
        .into_iter()
        .find(|crd| crd.spec.names.plural == plural)
        .unwrap();
    let kind = GroupVersionKind::gvk(&crd.spec.group, "v1alpha1", &crd.spec.names.kind);
    read(client, &ApiResource::from_gvk_with_plural(&kind, plural)).await
}

async fn read(client: &Client, resource: &ApiResource) -> Vec<Value> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let all = api.list(&ListParams::default()).await.unwrap();
    all.items
        .iter()
        .map(|object| serde_json::to_value(object).unwrap())
        .collect()
}

async fn until(
    client: &Client,
    log: &Path,
    plural: &str,
    what: &str,
    holds: impl Fn(&[Value]) -> bool,
) {
    let mut last = Vec::new();
    for _ in 0..600 {
        last = list(client, plural).await;
        if holds(&last) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let said = std::fs::read_to_string(log).unwrap();
    let loud = |line: &&str| {
        line.contains("\"WARN\"") || line.contains("\"ERROR\"") || line.contains("forbidden")
    };
    let loud: Vec<&str> = said.lines().filter(loud).take(40).collect();
    let statuses: Vec<String> = last
        .iter()
        .map(|object| format!("{} {}", object["metadata"]["name"], object["status"]))
        .collect();
    panic!("{what}: not in two minutes\n{statuses:#?}\n{loud:#?}");
}

async fn metrics(port: u16) -> String {
    let answer = common::get(port, "/metrics").await;
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    answer
}

/// Arguments of every process.
fn command_lines() -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(bytes) = std::fs::read(entry.path().join("cmdline")) {
            all.push_str(&String::from_utf8_lossy(&bytes));
            all.push('\n');
        }
    }
    all
}

fn base64(text: &str) -> String {
    let encoded = serde_json::to_value(ByteString(text.as_bytes().to_vec())).unwrap();
    encoded.as_str().unwrap().to_owned()
}
