//! The binary against a real API server: `serve` and `demo` as a user starts them. One test, because what it installs and
//! removes is the cluster's: definitions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of a test"
)]

use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use corten_api::metal::Server;
use corten_controlplane::{ControlPlane, Options};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use common::{corten, free_port, get, only_its_log_is_left, said_until, signal};

mod common;

#[tokio::test(flavor = "multi_thread")]
async fn serve_and_demo_act_only_where_they_may_and_leave_a_cluster_as_it_was() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = plane.client().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = plane.kubeconfig();

    serve_names_what_is_missing(kubeconfig).await;
    demo_leaves_a_cluster_as_it_was(&client, kubeconfig, folder.path()).await;
    demo_cleans_up_when_interrupted(&client, kubeconfig, folder.path()).await;
    demo_leaves_what_others_put_there(&client, kubeconfig, folder.path()).await;
    demo_refuses_kinds_of_others(&client, kubeconfig, folder.path()).await;
    serve_refuses_beside_another_operator(&client, kubeconfig).await;
    a_standby_takes_over_when_the_first_ends(&client, kubeconfig).await;
}

async fn serve_names_what_is_missing(kubeconfig: &Path) {
    let output = serve(kubeconfig, free_port()).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        said.contains("servers.metal.ironcore.dev is not installed")
            && said.contains("--install-crds"),
        "{said}"
    );
}

async fn demo_leaves_a_cluster_as_it_was(client: &Client, kubeconfig: &Path, folder: &Path) {
    let output = demo(kubeconfig, folder)
        .arg("--once")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    for milestone in [
        "3 servers discovered and Available",
        "3 claims Bound",
        "Available again",
        "what happened",
    ] {
        assert!(said.contains(milestone), "{milestone}:\n{said}");
    }
    nothing_of_the_demo_is_left(client).await;
}

/// A demo that stays up, `meanwhile`, and Ctrl-C. What it said.
async fn played_until_interrupted(
    kubeconfig: &Path,
    folder: &Path,
    meanwhile: impl Future<Output = ()>,
) -> String {
    let mut child = demo(kubeconfig, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut said = said_until(&mut stdout, "Ctrl-C ends everything").await;
    meanwhile.await;
    signal(child.id().unwrap(), "INT").await;
    stdout.read_to_string(&mut said).await.unwrap();
    assert!(
        child.wait().await.unwrap().success(),
        "Ctrl-C is how it ends:\n{said}"
    );
    said
}

async fn demo_leaves_what_others_put_there(client: &Client, kubeconfig: &Path, folder: &Path) {
    const KIND: &str = "servers.metal.ironcore.dev";
    let theirs: Server = serde_json::from_value(json!({
        "metadata": {"name": "theirs"},
        "spec": {"systemUUID": "38947555-7742-3448-3784-823347823834"},
    }))
    .unwrap();
    let servers: Api<Server> = Api::all(client.clone());
    let created = OnceLock::new();
    let said = played_until_interrupted(kubeconfig, folder, async {
        let theirs = servers.create(&PostParams::default(), &theirs).await;
        created.set(theirs.unwrap().resource_version()).unwrap();
        // Long enough for whoever would take it for its own.
        tokio::time::sleep(Duration::from_secs(3)).await;
    })
    .await;
    assert!(said.contains(KIND), "it says what stays, and why:\n{said}");
    let left = servers.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].name_any(), "theirs");
    assert_eq!(
        Some(&left[0].resource_version()),
        created.get(),
        "untouched"
    );
    assert_eq!(installed(client).await, [KIND]);
    servers
        .delete("theirs", &DeleteParams::default())
        .await
        .unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .delete(KIND, &DeleteParams::default())
        .await
        .unwrap();
    nothing_of_the_demo_is_left(client).await;
}

async fn demo_cleans_up_when_interrupted(client: &Client, kubeconfig: &Path, folder: &Path) {
    let said = played_until_interrupted(kubeconfig, folder, async {}).await;
    assert!(
        said.contains("export KUBECONFIG=") && said.contains("kubectl get servers"),
        "{said}"
    );
    nothing_of_the_demo_is_left(client).await;
    only_its_log_is_left(folder);
}

async fn demo_refuses_kinds_of_others(client: &Client, kubeconfig: &Path, folder: &Path) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut foreign = corten_api::crds()
        .into_iter()
        .find(|crd| crd.name_any() == "endpoints.metal.ironcore.dev")
        .unwrap();
    foreign.metadata.managed_fields = None;
    api.create(&PostParams::default(), &foreign).await.unwrap();
    let output = demo(kubeconfig, folder)
        .arg("--once")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("endpoints.metal.ironcore.dev"),
        "{said}"
    );
    assert!(
        api.get_opt("endpoints.metal.ironcore.dev")
            .await
            .unwrap()
            .is_some(),
        "it is somebody's, and stays"
    );
    assert_eq!(installed(client).await, ["endpoints.metal.ironcore.dev"]);
}

async fn serve_refuses_beside_another_operator(client: &Client, kubeconfig: &Path) {
    let now = jiff::Timestamp::now();
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": "f26702e4.ironcore.dev", "namespace": "default"},
        "spec": {"holderIdentity": "metal-operator-0", "leaseDurationSeconds": 15, "renewTime": format!("{now:.6}")},
    }))
    .unwrap();
    let leases: Api<Lease> = Api::namespaced(client.clone(), "default");
    leases.create(&PostParams::default(), &lease).await.unwrap();
    let output = serve(kubeconfig, free_port())
        .arg("--install-crds")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("metal-operator-0") && said.contains("--despite-other-operators"),
        "{said}"
    );
    leases
        .delete("f26702e4.ironcore.dev", &DeleteParams::default())
        .await
        .unwrap();
}

async fn a_standby_takes_over_when_the_first_ends(client: &Client, kubeconfig: &Path) {
    let (one, other) = (free_port(), free_port());
    let first = serve(kubeconfig, one).kill_on_drop(true).spawn().unwrap();
    assert!(becomes(one, "ready: acting").await);
    let second = serve(kubeconfig, other).kill_on_drop(true).spawn().unwrap();
    assert!(becomes(other, "ready: standing by").await);
    assert!(get(other, "/healthz").await.contains("ok"));
    let metrics = get(one, "/metrics").await;
    assert!(metrics.ends_with("# EOF\n"));
    for name in [
        "corten_bmc_requests_total 0",
        "# TYPE corten_servers gauge",
        "# TYPE corten_bmcs gauge",
        "corten_bmc_breakers_open 0",
        "# TYPE corten_queue_waiting gauge",
        "# TYPE corten_bmc_last_seen_timestamp_seconds gauge",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    signal(first.id().unwrap(), "TERM").await;
    ends_in_order(first).await;
    assert!(
        becomes(other, "ready: acting").await,
        "the Lease was let go, so the standby need not wait it out"
    );
    // A definition that would refuse what is written is noticed before anything acts.
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/state/enum";
    let patch = serde_json::from_value(
        json!([{"op": "add", "path": path, "value": ["Initial", "Available"]}]),
    )
    .unwrap();
    api.patch(
        "servers.metal.ironcore.dev",
        &PatchParams::default(),
        &Patch::<()>::Json(patch),
    )
    .await
    .unwrap();
    let output = serve(kubeconfig, one).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("servers.metal.ironcore.dev is narrower than ours at .status.state"),
        "{said}"
    );
    signal(second.id().unwrap(), "TERM").await;
    ends_in_order(second).await;
}

async fn ends_in_order(child: Child) {
    let output = child.wait_with_output().await.unwrap();
    assert!(
        output.status.success(),
        "SIGTERM: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn serve(kubeconfig: &Path, port: u16) -> Command {
    let mut command = corten();
    command
        .arg("serve")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg(format!("--admin-address=127.0.0.1:{port}"));
    // Nobody reads a long-running replica's log here, and a full pipe would stop it.
    command.arg("--log=error");
    command
}

fn demo(kubeconfig: &Path, folder: &Path) -> Command {
    let mut command = corten();
    command
        .arg("demo")
        .arg("--cluster-kubeconfig")
        .arg(kubeconfig)
        .arg("--folder")
        .arg(folder)
        .arg("--machines=3");
    command
}

async fn installed(client: &Client) -> Vec<String> {
    let all = Api::<CustomResourceDefinition>::all(client.clone())
        .list_metadata(&ListParams::default())
        .await
        .unwrap();
    all.iter()
        .filter(|crd| crd.metadata.deletion_timestamp.is_none())
        .map(kube::ResourceExt::name_any)
        .collect()
}

async fn nothing_of_the_demo_is_left(client: &Client) {
    assert_eq!(installed(client).await, [""; 0]);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for _ in 0..300 {
        if namespaces.get_opt("corten-demo").await.unwrap().is_none() && undefined(client).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("namespace corten-demo or a definition is still there after 30 s");
}

/// Definitions that are being deleted are still there for a moment.
async fn undefined(client: &Client) -> bool {
    let all = Api::<CustomResourceDefinition>::all(client.clone())
        .list_metadata(&ListParams::default())
        .await
        .unwrap();
    all.items.is_empty()
}

async fn becomes(port: u16, wanted: &str) -> bool {
    for _ in 0..300 {
        if get(port, "/readyz").await.contains(wanted) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}
