//! One server's whole life.

use std::fs;
use std::time::{Duration, Instant};

use corten_tests::{netns, skip};
use serde_json::json;

use super::guest::{self, MARKER};
use super::site::{self, Running};

const METAL: &str = "metal.ironcore.dev/v1alpha1";

/// What is missing here for such a run.
fn missing() -> Option<String> {
    netns::missing()
        .or_else(|| site::qemu(1).missing())
        .or_else(guest::missing)
        .or_else(|| {
            site::probe()
                .is_none()
                .then(|| "the probe is not built; scripts/ramdisk builds it".to_owned())
        })
        .or_else(|| {
            (!site::corten().exists()).then(|| "corten is not built beside the tests".to_owned())
        })
}

fn holds_marker(disk: &std::path::Path) -> bool {
    let bytes = fs::read(disk).unwrap();
    bytes.windows(MARKER.len()).any(|window| window == MARKER)
}

#[test]
fn a_server_is_seen_from_inside_installed_given_back_and_proved_clean() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let name = "e2e::life::a_server_is_seen_from_inside_installed_given_back_and_proved_clean";
    let Some(mut site) = netns::enter(name, Duration::from_secs(1200)) else {
        return;
    };
    let image = guest::disk(site.folder());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let run = Running::start(&mut site, site::qemu(1), image).await;
        life(&run).await;
    });
}

async fn life(run: &Running) {
    run.apply(json!({
        "apiVersion": "corten.dev/v1alpha1", "kind": "ServerPolicy", "metadata": {"name": "site"},
        "spec": {
            "selector": {}, "discovery": "Both",
            "timeouts": {"shutdownGraceSeconds": 30, "probeSeconds": 300, "eraseSeconds": 600, "writeSeconds": 600},
        },
    }))
    .await;
    let minutes = |n: u64| Duration::from_secs(60 * n);
    run.until("Available, seen from inside", 0, minutes(6), |s| {
        s["status"]["state"] == "Available"
    })
    .await;
    let inventory = run
        .get(
            "corten.dev/v1alpha1",
            "ServerInventory",
            None,
            "m0-system-0",
        )
        .await
        .unwrap();
    let inside = &inventory["status"]["inBand"];
    let machine = run.fleet.machine(0);
    let disks = machine.qemu().unwrap().disks();
    if inside.is_null() {
        run.show(0).await;
    }
    let seen: Vec<_> = inside["storage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|drive| drive["Serial"].as_str().unwrap_or_default().to_owned())
        .collect();
    for disk in &disks {
        assert!(
            seen.contains(&disk.serial),
            "{} is not among {seen:?}",
            disk.serial
        );
    }
    let nics = run.server(0).await["status"]["networkInterfaces"].clone();
    assert!(
        nics.to_string().contains("10.77.0."),
        "the address that the probe had is shown: {nics}"
    );

    // What a tenant leaves on the disk that is not installed to.
    let spare: Vec<u8> = MARKER.iter().copied().cycle().take(64 << 20).collect();
    fs::write(&disks[1].path, spare).unwrap();
    let callback = format!("http://{}:{}/called", netns::SERVER, run.images);
    run.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "metal.ironcore.dev/user-data",
        "metadata": {"name": "web", "namespace": "team"},
        "stringData": {"user-data": format!("#cloud-config\nphone_home: {callback} \n")},
    }))
    .await;
    run.apply(json!({
        "apiVersion": METAL, "kind": "ServerClaim",
        "metadata": {"name": "web", "namespace": "team", "annotations": {
            "corten.dev/root-device-hints": json!({"serialNumber": disks[0].serial}).to_string(),
        }},
        "spec": {
            "power": "On", "image": format!("http://{}:{}/image/disk.raw.gz", netns::SERVER, run.images),
            "userDataRef": {"name": "web"},
        },
    }))
    .await;
    run.until("installed", 0, minutes(8), |s| {
        s["metadata"]["annotations"]["corten.dev/provisioned"].is_string()
    })
    .await;
    let begun = Instant::now();
    let uuid = machine.systems()[0].uuid.to_string();
    loop {
        let called = run.heard.lock().unwrap().iter().any(|path| {
            path.starts_with("/called/")
                && path
                    .to_ascii_lowercase()
                    .contains(&uuid.to_ascii_lowercase())
        });
        if called {
            break;
        }
        if begun.elapsed() > minutes(4) {
            run.show(0).await;
            panic!("the installed system did not call back");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    run.say("the installed system runs from its disk and has applied its user data");
    assert!(holds_marker(&disks[0].path) && holds_marker(&disks[1].path));

    run.delete(METAL, "ServerClaim", "team", "web").await;
    run.until("clean and Available again", 0, minutes(12), |s| {
        s["status"]["state"] == "Available"
            && s["metadata"]["annotations"]["corten.dev/dirty"].is_null()
    })
    .await;
    for disk in &disks {
        assert!(
            !holds_marker(&disk.path),
            "{} still holds what the tenant wrote",
            disk.serial
        );
    }
    run.say("no byte of the tenant's is on either disk");
}
