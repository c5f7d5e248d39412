//! `corten inspect`, the real binary, on every recorded BMC.
//!
//! What it prints is held against the recorded documents; that those say what the table of facts in `recordings.rs` says, is shown there.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use corten_tests::replay::{Recording, ReplayServer, archives};
use corten_tests::skip;
use serde_json::Value;
use tokio::process::Command;

/// Beside this test, as cargo builds it.
fn corten() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("corten")
}

#[tokio::test]
async fn inspect_prints_of_every_recorded_machine_who_it_is() {
    let Some(recordings) = Recording::load_all().expect("the archives can be read") else {
        skip!("no recordings at {}", archives().display());
    };
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "replayed\n").unwrap();
    for recording in recordings.into_iter().map(Arc::new) {
        let name = &recording.name;
        let server = ReplayServer::start(Arc::clone(&recording), true)
            .await
            .unwrap();
        let output = Command::new(corten())
            .arg("inspect")
            .arg(server.url())
            .args(["--username=admin", "--output=json", "--password-file"])
            .arg(&password)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let servers = report["servers"].as_array().unwrap();
        let systems = recording
            .get("/redfish/v1/Systems")
            .and_then(|systems| systems["Members"].as_array())
            .map_or(0, Vec::len);
        assert_eq!(servers.is_empty(), systems == 0, "{name}");
        for server in servers {
            let path = server["systemURI"].as_str().unwrap();
            let system = recording.get(path).unwrap();
            for (field, property) in [
                ("manufacturer", "Manufacturer"),
                ("model", "Model"),
                ("serialNumber", "SerialNumber"),
            ] {
                assert_eq!(
                    server["status"][field], system[property],
                    "{name} {path}: {field}"
                );
            }
        }
    }
}
