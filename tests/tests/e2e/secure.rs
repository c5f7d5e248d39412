//! A machine whose firmware starts nothing that is unsigned.

use std::path::Path;
use std::time::Duration;

use corten_sim::{Bus, Disk, Qemu};
use corten_site::{Images, guest};
use corten_tests::netns::{self, Dhcp};
use corten_tests::skip;
use serde_json::json;

use super::site::{self, Running};

const METAL: &str = "metal.ironcore.dev/v1alpha1";

/// What the distribution signed: over TFTP, from `corten serve`.
const SIGNED: [(&str, &str); 2] = [
    ("/usr/lib/shim/shimx64.efi.signed", "shim-signed"),
    (
        "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
        "grub-efi-amd64-signed",
    ),
];

/// Shim, GRUB and the kernel of the distribution, for the probe and for a tenant's kernel; iPXE and our own EFI file would be refused.
#[test]
fn with_secure_boot_a_server_is_seen_from_inside_lent_and_proved_clean_by_signed_programs_alone() {
    let qemu = Qemu {
        secure_boot: true,
        disks: vec![Disk::new(Bus::Nvme, 64)],
        ..site::qemu(1)
    };
    if let Some(reason) = site::missing(&qemu) {
        skip!("{reason}");
    }
    for (file, package) in SIGNED {
        if !Path::new(file).exists() {
            skip!("there is no {file} (package {package}); scripts/e2e-setup installs it");
        }
    }
    let name = "e2e::secure::with_secure_boot_a_server_is_seen_from_inside_lent_and_proved_clean_by_signed_programs_alone";
    let Some(mut site) = netns::enter(name, Duration::from_secs(1500)) else {
        return;
    };
    let files = guest::diskless(&Images::url("diskless")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let methods = [Some("Network")];
        let run = Running::start(&mut site, Dhcp::shim(), qemu, files, &methods).await;
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let mut policy = site::policy();
        policy["spec"]["burnIn"] = json!({"seconds": 90});
        run.apply(policy).await;
        run.until("Available, seen from inside", 0, minutes(10), |s| {
            s["status"]["state"] == "Available"
        })
        .await;
        let server = "m0-system-0";
        let inventory = run
            .get("corten.dev/v1alpha1", "ServerInventory", None, server)
            .await
            .unwrap();
        let tested = run.ended(server, "ProbeBurnIn/90", minutes(1)).await;
        let said = tested["status"]["results"].to_string();
        assert!(said.contains("nothing was wrong"), "{tested:#}");
        assert!(!said.contains(" 0 MiB"), "{tested:#}");
        run.say("the machine was tested");
        let inside = &inventory["status"]["inBand"];
        assert_eq!(inside["firmware"]["secureBoot"], true, "{inside:#}");
        let machine = run.fleet.machine(0);
        let disk = machine.qemu().unwrap().disks().remove(0);
        assert_eq!(inside["storage"][0]["serial"], disk.serial, "{inside:#}");

        std::fs::write(&disk.path, guest::marked(64 << 20)).unwrap();
        run.apply(json!({
            "apiVersion": METAL, "kind": "ServerClaim",
            "metadata": {"name": "live", "namespace": "team"},
            "spec": {
                "serverRef": {"name": server}, "power": "On",
                "image": Images::url("image/manifest.json"),
            },
        }))
        .await;
        run.called_back(0, "/diskless/").await;
        run.say("the tenant's signed kernel runs");
        run.delete(METAL, "ServerClaim", "team", "live").await;
        run.until("clean and Available again", 0, minutes(15), |s| {
            s["status"]["state"] == "Available"
                && s["metadata"]["annotations"]["corten.dev/dirty"].is_null()
        })
        .await;
        assert!(
            !guest::is_marked(&disk.path).unwrap(),
            "the drive is not clean"
        );
        let console = machine.qemu().unwrap().console();
        assert!(!console.contains("iPXE"), "only what is signed was started");
        run.no_secret_in_the_log(&[]).await;
    });
}
