//! `kill -9` of a real `corten serve`, each time at another moment of a life, and another one started after it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_api::names;
use corten_controlplane::{Process, ProcessSpec};
use corten_sim::{Effect, MachineHandle, Rule};
use corten_tests::control_plane;
use corten_tests::lab::{Lab, note, readable_drives, resets};
use futures::future::join_all;
use serde_json::json;

/// When the process is killed.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// At the machine's n-th changing request since it was Available.
    request: usize,
    /// While the BMC thinks about it, so that it has had no effect yet; or when it had.
    before_its_effect: bool,
}

/// Beside this test, as cargo builds it.
fn corten() -> PathBuf {
    let mut path = std::env::current_exe().expect("this test's own path");
    path.pop();
    path.pop();
    path.join("corten")
}

/// `corten serve` for one laboratory.
fn serve(lab: &Lab, kubeconfig: &Path, folder: &Path) -> Process {
    let macs = folder.join("mac-prefixes.json");
    std::fs::write(&macs, lab.fleet().mac_database()).expect("the MAC database");
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let spec = ProcessSpec {
        name: "corten serve",
        program: corten(),
        arguments: vec![
            "serve".to_owned(),
            "--log-format=text".to_owned(),
            "--despite-other-operators".to_owned(),
            // Its successor waits this long. A call to a BMC has to fit into it: shorter, and nothing would ever be sent.
            "--lease-duration=12s".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--namespace={}", lab.namespace()),
            format!("--label-selector={}", lab.selector()),
            format!("--claim-selector={}", lab.selector()),
            format!("--mac-prefixes={}", macs.display()),
            format!("--admin-address=127.0.0.1:{port}"),
        ],
        environment: Vec::new(),
        without: std::env::vars()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("CORTEN_") || name.starts_with("KUBE"))
            .collect(),
        log: folder.join("corten-serve.log"),
    };
    Process::start(&spec).expect("corten serve")
}

/// Requests that change a machine: all but looking and logging in.
fn changes(machine: &MachineHandle) -> usize {
    let journal = machine.journal();
    journal
        .iter()
        .filter(|line| !line.starts_with("GET ") && !line.contains("SessionService"))
        .count()
}

/// From Available to a claim and back to Available.
async fn life(lab: &Lab) {
    let machine = lab.fleet().machine(0);
    lab.claim("tenant").await;
    lab.eventually(|world| world.bound() == 1 && machine.booted().is_some())
        .await;
    machine.write_drives("a tenant's secret");
    lab.release("tenant").await;
    lab.eventually(|world| world.claims.is_empty() && world.available() == 1)
        .await;
}

async fn killed_at(moment: Moment) {
    let mut lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(1))
        .idle()
        .await;
    lab.stop_engine().await;
    lab.stop_claims().await;
    lab.policy(json!({
        "cleaning": {"acceptReported": true},
        "timeouts": {"shutdownGraceSeconds": 8, "powerConfirmSeconds": 10},
    }))
    .await;
    let plane = control_plane::shared().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = serve(&lab, plane.kubeconfig(), folder.path());
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    let machine = lab.fleet().machine(0);
    machine.record(true);
    if moment.before_its_effect {
        for method in ["POST", "PATCH"] {
            let slow = Rule::new(Effect::LatencyMs(600)).method(method);
            machine.add_fault(slow).expect("a rule");
        }
    }
    let kill = async {
        while changes(&machine) < moment.request {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        process.kill().await;
        machine.clear_faults();
        println!("{moment:?}: killed after {:?}", machine.journal().last());
        process = serve(&lab, plane.kubeconfig(), folder.path());
    };
    tokio::join!(life(&lab), kill);

    let mut kinds = resets(&machine);
    let sent = kinds.len();
    kinds.sort();
    kinds.dedup();
    assert_eq!(
        kinds.len(),
        sent,
        "{moment:?}: a power action was sent twice: {:?}\n{}",
        resets(&machine),
        process.log_tail()
    );
    assert_eq!(machine.power_state(), "Off", "{moment:?}");
    assert_eq!(readable_drives(&machine), [""; 0], "{moment:?}");
    let server = lab.server_of(0).await;
    assert_eq!(note(&server, names::DIRTY), None, "{moment:?}");
    assert_eq!(note(&server, names::CLAIM_UID), None, "{moment:?}");
    process.stop(Duration::from_secs(15)).await;
    let log = std::fs::read_to_string(process.log()).expect("its log");
    assert!(log.contains("step sent"), "the log tells what was done");
    assert!(!log.contains(&machine.password()), "and no password");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corten_killed_at_any_moment_of_a_life_is_followed_by_one_that_does_nothing_twice() {
    if !corten().exists() {
        corten_tests::skip!("{} is not built: cargo build -p corten", corten().display());
    }
    let full = std::env::var_os("CORTEN_TEST_FULL").is_some();
    // Boot override, power on, shutdown, boot override, a drive's erasure: each is one changing request.
    let moments: Vec<Moment> = (1..=5)
        .flat_map(|request| {
            [true, false].map(|before_its_effect| Moment {
                request,
                before_its_effect,
            })
        })
        .filter(|moment| full || moment.before_its_effect == (moment.request % 2 == 0))
        .collect();
    join_all(moments.into_iter().map(killed_at)).await;
}
