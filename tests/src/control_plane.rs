//! One control plane for all tests of one test binary, so that it is started and paid for once.
//!
//! Tests keep apart by names, namespaces and the engine's label selector. A test that breaks the control plane starts
//! its own with `corten_controlplane::ControlPlane::start`, in a test binary of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use corten_controlplane::{ControlPlane, Options, Progress};
use kube::Client;
use tokio::sync::OnceCell;

/// The control plane of this test binary, with all definitions installed. It ends with the process, however that ends.
pub async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED.get_or_init(start).await
}

/// A control plane of the caller's own, with all definitions installed: for tests that stop, break or fill it.
pub async fn own() -> ControlPlane {
    start().await
}

/// An administrator's client; each test has its own, because connections belong to the runtime that opened them.
pub async fn client() -> Client {
    shared()
        .await
        .client()
        .expect("a client of the control plane")
}

/// A name that no other test of this binary has: `prefix` and a number.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn start() -> ControlPlane {
    let options = Options {
        progress: Progress::new(|line| eprintln!("{line}")),
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.expect("a control plane");
    let client = plane.client().expect("a client of the control plane");
    corten_kit::definitions::install(&client, corten_api::crds(), &BTreeMap::new())
        .await
        .expect("the definitions");
    plane
}
