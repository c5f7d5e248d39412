//! Several `corten serve` that start together, as real processes against a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of a test"
)]

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use corten_controlplane::{ControlPlane, Options};
use tokio::process::{Child, Command};

use common::{free_port, get, signal};

mod common;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_serves_with_overlapping_selectors_started_together_exactly_one_acts() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let kubeconfig = plane.kubeconfig();
    corten_kit::definitions::install(
        &plane.client().unwrap(),
        corten_api::crds(),
        &std::collections::BTreeMap::new(),
    )
    .await
    .unwrap();
    // In the last rounds Leases are there, let go, from the rounds before.
    for (one, other) in [("", "rack=7"), ("site=a", "rack=7"), ("rack=7", "site=a")] {
        let folder = tempfile::tempdir().unwrap();
        let mut two = [
            Serve::start(kubeconfig, one, &folder.path().join("one")),
            Serve::start(kubeconfig, other, &folder.path().join("other")),
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

struct Serve {
    child: Child,
    port: u16,
    log: std::path::PathBuf,
}

impl Serve {
    fn start(kubeconfig: &Path, selector: &str, log: &Path) -> Self {
        let port = free_port();
        let child = Command::new(env!("CARGO_BIN_EXE_corten"))
            .args(["serve", "--log=warn", "--namespace=default", "--kubeconfig"])
            .arg(kubeconfig)
            .arg(format!("--admin-address=127.0.0.1:{port}"))
            .arg(format!("--label-selector={selector}"))
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

    async fn end(&mut self) {
        signal(self.child.id().unwrap(), "TERM").await;
        let _ = self.child.wait().await;
    }
}
