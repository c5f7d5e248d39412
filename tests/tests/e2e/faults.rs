//! What goes wrong with drives and with booting: noticed, named, and never taken for clean.

use std::fs;
use std::path::Path;
use std::time::Duration;

use corten_sim::{Ailment, Bus, Disk, DiskFile, Qemu};
use corten_site::{Images, guest};
use corten_tests::netns::{self, Dhcp};
use corten_tests::skip;
use serde_json::{Value, json};

use super::life::{until_drive, user_data};
use super::site::{self, Running};

const METAL: &str = "metal.ironcore.dev/v1alpha1";
const MIB: u64 = 1 << 20;

/// A tenant's system that starts again in the probe's place, then a drive that takes no writes, one with a bad block and one that is pulled out while it
/// is erased.
#[test]
fn a_server_that_starts_its_tenants_system_or_whose_drives_fail_is_never_called_clean() {
    let qemu = Qemu {
        disks: vec![
            Disk::new(Bus::Nvme, 128),
            Disk::new(Bus::Virtio, 64),
            Disk::new(Bus::Scsi, 64),
            Disk::new(Bus::Scsi, 64),
        ],
        ..site::qemu(1)
    };
    if let Some(reason) = site::missing(&qemu) {
        skip!("{reason}");
    }
    let name = "e2e::faults::a_server_that_starts_its_tenants_system_or_whose_drives_fail_is_never_called_clean";
    let Some(mut site) = netns::enter(name, Duration::from_secs(1500)) else {
        return;
    };
    let files = vec![("disk.raw.gz", guest::disk(site.folder()).unwrap())];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let dhcp = Dhcp::pxe(site::BOOT_PORT);
        let run = Running::start(&mut site, dhcp, qemu, files, &[None]).await;
        let server = "m0-system-0";
        let machine = run.fleet.machine(0).qemu().unwrap();
        let disks = machine.disks();
        let installed = installed(&run, &disks).await;

        // Its firmware passes over what it is told to boot, and its first drive holds a system.
        machine.ignore_overrides(true);
        patience(&run, 90).await;
        run.delete(METAL, "ServerClaim", "team", "web").await;
        let failed = cleaning_failed(&run, server).await;
        let said = failed["status"]["conditions"].to_string();
        assert!(said.contains("no probe called"), "{failed:#}");
        let uuid = run.fleet.machine(0).systems()[0].uuid.to_string();
        assert!(
            run.images.starts("/called/", &uuid) > installed,
            "the tenant's system was to start"
        );
        still_dirty(&run).await;
        for disk in &disks {
            assert!(is_marked(disk), "{} was touched", disk.serial);
        }
        run.say("m0: it started its tenant's system, which was noticed, and nothing was wiped");

        machine.ignore_overrides(false);
        run.forget_failures(server).await;
        machine.ail(1, Some(Ailment::ReadOnly));
        machine.ail(2, Some(Ailment::BadBlock(40 * MIB)));
        patience(&run, 600).await;
        run.granted(server, "ProbeErase", Duration::from_secs(600))
            .await;
        until_drive(&disks[3].path, 0, |bytes| bytes.iter().all(|b| *b == 0)).await;
        machine.unplug(3);
        run.say("m0: a drive is pulled out while it is erased");
        let failed = run
            .ended(server, "ProbeErase", Duration::from_secs(300))
            .await;
        assert_eq!(failed["status"]["phase"], "Failed", "{failed:#}");
        let drive = |serial: &str| entry(&failed, serial);
        let erased = drive(&disks[0].serial);
        assert_eq!(erased["verified"], true, "{failed:#}");
        let words = [
            (1, "read-only"),
            (2, "Input/output error"),
            (3, "0 drives have the serial number"),
        ];
        for (number, word) in words {
            let entry = drive(&disks[number].serial);
            assert_eq!(entry["verified"], false, "{entry:#}");
            let message = entry["message"].as_str().unwrap();
            assert!(message.contains(word), "{entry:#}");
        }
        still_dirty(&run).await;
        let seen = run.server(0).await["status"]["conditions"].to_string();
        for disk in &disks[1..] {
            assert!(seen.contains(&disk.serial), "{} is not named", disk.serial);
        }
        assert!(!is_marked(&disks[0]) && is_marked(&disks[1]));
        run.say("m0: each of its three drives is named, and it is not clean");

        machine.ail(1, None);
        machine.ail(2, None);
        run.forget_failures(server).await;
        run.until(
            "clean, with its drives in order",
            0,
            Duration::from_secs(900),
            |s| {
                s["status"]["state"] == "Available"
                    && s["metadata"]["annotations"]["corten.dev/dirty"].is_null()
            },
        )
        .await;
        for disk in &disks {
            assert!(!is_marked(disk), "{} is not clean", disk.serial);
        }
        run.no_secret_in_the_log(&super::life::USER_DATA).await;
    });
}

/// Claims the server, has its first drive installed and the others marked all over; how often the system has started when that is done.
async fn installed(run: &Running, disks: &[DiskFile]) -> usize {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    run.until("Available, seen from inside", 0, minutes(10), |s| {
        s["status"]["state"] == "Available"
    })
    .await;
    for disk in &disks[1..] {
        fs::write(&disk.path, guest::marked(64 << 20)).unwrap();
    }
    user_data(run, "web").await;
    run.apply(json!({
        "apiVersion": METAL, "kind": "ServerClaim",
        "metadata": {"name": "web", "namespace": "team", "annotations": {
            "corten.dev/root-device-hints": json!({"serialNumber": disks[0].serial}).to_string(),
        }},
        "spec": {
            "serverRef": {"name": "m0-system-0"}, "power": "On",
            "image": Images::url("image/disk.raw.gz"),
            "userDataRef": {"name": "web"},
        },
    }))
    .await;
    run.until("installed", 0, minutes(12), |s| {
        s["metadata"]["annotations"]["corten.dev/provisioned"].is_string()
    })
    .await;
    run.called_back(0, "/called/").await;
    let uuid = run.fleet.machine(0).systems()[0].uuid.to_string();
    run.images.starts("/called/", &uuid)
}

/// How long a probe may take to call.
async fn patience(run: &Running, seconds: u64) {
    let mut policy = site::policy();
    policy["spec"]["timeouts"]["probeSeconds"] = seconds.into();
    // The guest does not hear that it is to shut down.
    policy["spec"]["timeouts"]["shutdownGraceSeconds"] = 5.into();
    run.apply(policy).await;
}

/// The first cleaning of the server that has failed.
async fn cleaning_failed(run: &Running, server: &str) -> Value {
    let limit = Duration::from_secs(600);
    run.run_with(server, "a cleaning that fails", limit, |run| {
        run["spec"]["kind"] == "Cleaning" && run["status"]["phase"] == "Failed"
    })
    .await
}

async fn still_dirty(run: &Running) {
    let seen = run.server(0).await;
    assert!(
        seen["metadata"]["annotations"]["corten.dev/dirty"].is_string()
            && seen["status"]["state"] == "Cleanup",
        "it was taken for clean: {seen:#}"
    );
}

fn entry(run: &Value, serial: &str) -> Value {
    let drives = run["status"]["drives"].as_array().into_iter().flatten();
    let mut found = drives.filter(|drive| drive["serialNumber"] == serial);
    found
        .next_back()
        .cloned()
        .unwrap_or_else(|| panic!("{serial} is not in {run:#}"))
}

fn is_marked(disk: &DiskFile) -> bool {
    guest::is_marked(Path::new(&disk.path)).unwrap()
}
