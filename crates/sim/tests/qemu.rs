//! Machines with a real firmware, on QEMU's own network: needs QEMU and OVMF, not root.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    reason = "a test"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_sim::{Bus, Disk, Fleet, MachineHandle, Qemu};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A real firmware takes its time where two cores are shared.
const LONG: Duration = Duration::from_secs(120);

macro_rules! need_qemu {
    ($qemu:expr) => {
        if let Some(reason) = $qemu.missing() {
            println!(
                "skipped: {}: {reason}",
                std::thread::current().name().unwrap_or("a test")
            );
            return;
        }
    };
}

fn small() -> Qemu {
    Qemu {
        memory_mib: 512,
        disks: vec![Disk::new(Bus::Nvme, 64), Disk::new(Bus::Sata, 64)],
        longest_life: Duration::from_secs(300),
        ..Qemu::default()
    }
}

struct Bmc {
    client: reqwest::Client,
    machine: MachineHandle,
    system: String,
}

impl Bmc {
    fn of(fleet: &Fleet) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let machine = fleet.machine(0);
        let system = format!("{}{}", machine.url(), machine.systems()[0].path);
        Self {
            client: reqwest::Client::new(),
            machine,
            system,
        }
    }

    async fn send(&self, method: &str, url: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self
            .client
            .request(method.parse().unwrap(), url)
            .basic_auth(self.machine.user(), Some(self.machine.password()));
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn system(&self) -> Value {
        self.send("GET", &self.system, None).await.1
    }

    async fn reset(&self, kind: &str) {
        let url = format!("{}/Actions/ComputerSystem.Reset", self.system);
        let (status, body) = self
            .send("POST", &url, Some(json!({"ResetType": kind})))
            .await;
        assert_eq!(status, 204, "{kind}: {body}");
    }

    async fn boot(&self, boot: Value) {
        let (status, body) = self
            .send("PATCH", &self.system, Some(json!({"Boot": boot})))
            .await;
        assert!((200..300).contains(&status), "{body}");
    }

    /// Waits until the system's document is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            let system = self.system().await;
            if wanted(&system) {
                println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
                return begun.elapsed();
            }
            assert!(
                begun.elapsed() < LONG,
                "{what} did not come: {}, {}\n{}",
                system["PowerState"],
                system["BootProgress"],
                self.machine.qemu().unwrap().console()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_power(&self, state: &str) -> Duration {
        self.until(state, |system| system["PowerState"] == state)
            .await
    }

    async fn until_firmware_speaks(&self) -> Duration {
        self.until("firmware", |system| {
            system["BootProgress"]["LastState"] == "SystemHardwareInitializationComplete"
        })
        .await
    }
}

/// A tiny web server: gives the same bytes to everybody and remembers the request lines.
async fn web(bytes: Vec<u8>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let remembered = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (bytes, seen) = (bytes.clone(), Arc::clone(&remembered));
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut piece = [0; 1024];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < 16384 {
                    match stream.read(&mut piece).await {
                        Ok(length @ 1..) => request.extend(&piece[..length]),
                        _ => return,
                    }
                }
                let line = String::from_utf8_lossy(&request)
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                let head = line.starts_with("HEAD");
                seen.lock().push(line);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    bytes.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                if !head {
                    let _ = stream.write_all(&bytes).await;
                }
                let _ = stream.shutdown().await;
            });
        }
    });
    (port, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn power_is_a_process_and_its_disks_console_and_identity_are_the_machines() {
    let qemu = small();
    need_qemu!(qemu);
    let fleet = Fleet::builder().qemu(qemu).start().await.unwrap();
    assert_eq!(fleet.len(), 1);
    let bmc = Bmc::of(&fleet);
    let handle = bmc.machine.qemu().unwrap();
    assert_eq!(bmc.system().await["PowerState"], "Off");
    assert_eq!(handle.pid(), None);

    bmc.reset("On").await;
    bmc.until_power("On").await;
    let first = handle.pid().unwrap();
    let before = bmc.system().await["LastResetTime"].clone();
    bmc.until_firmware_speaks().await;

    // Without a system nobody listens to the button.
    bmc.reset("GracefulShutdown").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bmc.system().await["PowerState"], "On");

    bmc.reset("ForceRestart").await;
    bmc.until("restart", |system| {
        system["LastResetTime"] != before && handle.pid().is_some_and(|pid| pid != first)
    })
    .await;
    bmc.until_firmware_speaks().await;

    bmc.reset("ForceOff").await;
    assert!(bmc.until_power("Off").await < Duration::from_secs(5));
    assert_eq!(handle.pid(), None);
    assert!(handle.console().contains("BdsDxe"), "{}", handle.console());

    // Disks keep what is on them, and the firmware sees their serial numbers.
    let disks = handle.disks();
    assert_eq!(disks.len(), 2);
    std::fs::write(&disks[0].path, vec![7; 64 << 20]).unwrap();
    bmc.reset("On").await;
    bmc.until_firmware_speaks().await;
    bmc.until("serials", |_| {
        let console = handle.console();
        disks.iter().all(|disk| console.contains(&disk.serial))
    })
    .await;
    assert_eq!(std::fs::read(&disks[0].path).unwrap()[12345], 7);

    // The process's death is a loss of power, seen at once.
    handle.cut_power();
    assert!(bmc.until_power("Off").await < Duration::from_secs(2));
    let folder = handle.directory();
    assert!(folder.exists());
    drop((bmc, fleet));
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_boot_uri_is_fetched_by_the_firmware_with_plain_dhcp_and_only_once() {
    let qemu = small();
    need_qemu!(qemu);
    let (port, seen) = web(vec![0; 4096]).await;
    let fleet = Fleet::builder().qemu(qemu).start().await.unwrap();
    let bmc = Bmc::of(&fleet);
    let uri = format!("http://10.0.2.2:{port}/boot/token/probe.efi");
    bmc.boot(json!({
        "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "UefiHttp", "HttpBootUri": uri,
    }))
    .await;
    bmc.reset("On").await;
    bmc.until("GET", |_| {
        seen.lock()
            .iter()
            .any(|line| line.starts_with("GET /boot/token/probe.efi"))
    })
    .await;
    let system = bmc.system().await;
    assert_eq!(system["Boot"]["BootSourceOverrideEnabled"], "Disabled");
    assert_eq!(bmc.machine.booted().unwrap().uri, Some(uri));
    // What was for once is not asked for again.
    seen.lock().clear();
    bmc.reset("ForceRestart").await;
    bmc.until("the boot order", |_| {
        bmc.machine
            .qemu()
            .unwrap()
            .console()
            .rsplit_once("HTTP Boot over IPv4")
            .is_some()
            && bmc.machine.booted().is_some_and(|boot| boot.count == 2)
    })
    .await;
    assert_eq!(bmc.machine.booted().unwrap().target, "None");
    assert!(seen.lock().is_empty());
}
