//! A machine with what only the distribution's kernel for servers has drivers for.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use corten_boot::ramdisk::{KernelSource, Profile};
use corten_sim::{Bus, Disk, Qemu};
use corten_site::{Images, guest};
use corten_tests::netns::{self, Dhcp};
use corten_tests::skip;
use serde_json::json;

use super::life::{USER_DATA, life};
use super::site::{self, Running};

/// A TPM of `swtpm`, whose machine is off.
struct Tpm {
    _process: Ends,
    stream: UnixStream,
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// === impl Tpm ===

impl Tpm {
    fn open(state: &Path) -> Self {
        let socket = state.join("judge.sock");
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", state.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .spawn();
        let process = Ends(process.unwrap());
        for _ in 0..200 {
            if let Ok(stream) = UnixStream::connect(&socket) {
                let patience = Some(Duration::from_secs(10));
                stream.set_read_timeout(patience).unwrap();
                return Self {
                    _process: process,
                    stream,
                };
            }
            let _ = Command::new("sleep").arg("0.05").status();
        }
        panic!("swtpm does not listen");
    }

    fn ask(&mut self, command: &[u8]) -> Vec<u8> {
        self.stream.write_all(command).unwrap();
        let mut answer = vec![0; 4096];
        let length = self.stream.read(&mut answer).unwrap();
        answer.truncate(length);
        answer
    }

    /// TPM2_HierarchyChangeAuth: the owner's password, which was empty.
    fn own(&mut self) {
        let mut command = vec![0x80, 0x02, 0, 0, 0, 33, 0, 0, 0x01, 0x29];
        command.extend([0x40, 0, 0, 1]);
        command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        command.extend([0, 4, b'e', b'v', b'i', b'l']);
        assert_eq!(self.ask(&command)[6..10], [0; 4]);
    }

    /// TPM_PT_PERMANENT: whether the owner has a password.
    fn is_owned(&mut self) -> bool {
        let mut command = vec![0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a];
        command.extend([0, 0, 0, 6, 0, 0, 2, 0, 0, 0, 0, 1]);
        let answer = self.ask(&command);
        assert_eq!(answer[6..10], [0; 4]);
        answer[answer.len() - 1] & 1 != 0
    }
}

/// The whole life of a machine with a SATA drive and a TPM that its tenant took, seen and cleaned by the probe on the kernel for servers.
#[test]
fn on_the_kernel_for_servers_a_sata_drive_and_a_tpm_are_seen_and_handed_on_clean() {
    let qemu = Qemu {
        tpm: true,
        disks: vec![Disk::new(Bus::Nvme, 128), Disk::new(Bus::Sata, 64)],
        ..site::qemu(1)
    };
    if let Some(reason) = site::missing(&qemu) {
        skip!("{reason}");
    }
    // Its package is downloaded, which only works outside of the site.
    let ramdisk = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-hardware");
    if !netns::is_inside() {
        let kernel = KernelSource::Package(Profile::Hardware.package().into());
        if let Err(error) = site::ramdisk(Profile::Hardware, kernel, &ramdisk) {
            skip!("no ramdisk on the kernel for servers: {error}");
        }
    }
    let name = "e2e::hardware::on_the_kernel_for_servers_a_sata_drive_and_a_tpm_are_seen_and_handed_on_clean";
    let Some(mut site) = netns::enter(name, Duration::from_secs(1500)) else {
        return;
    };
    let mut files = guest::diskless(&Images::url("diskless")).unwrap();
    files.push(("disk.raw.gz", guest::disk(site.folder()).unwrap()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let dhcp = Dhcp::pxe(site::BOOT_PORT);
        let run = Running::start_with(&mut site, dhcp, qemu, files, &[None], &ramdisk).await;
        let mut policy = site::policy();
        policy["spec"]["cleaning"] = json!({"clearTPM": true});
        run.apply(policy).await;
        run.until(
            "Available, seen from inside",
            0,
            Duration::from_secs(600),
            |s| s["status"]["state"] == "Available",
        )
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
        assert_eq!(inside["tpm"]["version"], "2", "{inside:#}");
        assert_ne!(inside["tpm"]["pcrs"], json!([]), "{inside:#}");
        let transports: Vec<_> = inside["storage"]
            .as_array()
            .unwrap()
            .iter()
            .map(|drive| &drive["transport"])
            .collect();
        assert!(transports.contains(&&json!("sata")), "{inside:#}");

        let machine = run.fleet.machine(0);
        let state = machine.qemu().unwrap().tpm();
        Tpm::open(&state).own();
        assert!(Tpm::open(&state).is_owned(), "it is remembered");
        run.say("m0: a tenant has taken its TPM");
        life(&run, 0).await;
        assert!(
            !Tpm::open(&state).is_owned(),
            "the TPM still has the tenant's password"
        );
        run.say("m0: its TPM is nobody's");
        run.no_secret_in_the_log(&USER_DATA).await;
    });
}
