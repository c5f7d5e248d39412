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

/// A CD image (ISO 9660 with El Torito for UEFI) that starts iPXE; none where the tools or iPXE are missing.
fn bootable_cd(folder: &std::path::Path) -> Option<Vec<u8>> {
    const SECTOR: usize = 2048;
    let run = |program: &str, arguments: &[&str]| {
        std::process::Command::new(program)
            .args(arguments)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let fat = folder.join("esp.img");
    std::fs::File::create(&fat).ok()?.set_len(4 << 20).ok()?;
    let fat = fat.to_str()?;
    let made = run("mkfs.vfat", &[fat])
        && run("mmd", &["-i", fat, "::/EFI", "::/EFI/BOOT"])
        && run(
            "mcopy",
            &["-i", fat, "/boot/ipxe.efi", "::/EFI/BOOT/BOOTX64.EFI"],
        );
    if !made {
        return None;
    }
    let partition = std::fs::read(fat).ok()?;
    let mut iso = vec![0; 20 * SECTOR];
    iso.extend(&partition);
    let sectors = u32::try_from(iso.len() / SECTOR).ok()?;
    let mut put = |sector: usize, at: usize, bytes: &[u8]| {
        let begin = sector * SECTOR + at;
        iso[begin..begin + bytes.len()].copy_from_slice(bytes);
    };
    // ECMA-119, 8.4: primary volume descriptor; El Torito: boot record, catalogue in sector 19, image from sector 20.
    put(16, 0, b"\x01CD001\x01");
    put(16, 80, &sectors.to_le_bytes());
    put(16, 84, &sectors.to_be_bytes());
    put(16, 128, &[0, 8, 8, 0]);
    put(17, 0, b"\x00CD001\x01EL TORITO SPECIFICATION");
    put(17, 71, &19_u32.to_le_bytes());
    put(18, 0, b"\xffCD001\x01");
    // Platform EFI; the words of the entry add up to zero.
    put(19, 0, &[1, 0xEF]);
    let sum = 0xEF01_u16.wrapping_add(0xAA55);
    put(19, 28, &sum.wrapping_neg().to_le_bytes());
    put(19, 30, &[0x55, 0xAA]);
    let blocks = u16::try_from(partition.len() / 512).ok()?;
    put(19, 32, &[0x88, 0, 0, 0, 0, 0]);
    put(19, 38, &blocks.to_le_bytes());
    put(19, 40, &20_u32.to_le_bytes());
    Some(iso)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inserted_image_is_fetched_and_booted_and_an_ejected_one_is_not() {
    let qemu = small();
    need_qemu!(qemu);
    let folder = tempfile::tempdir().unwrap();
    let Some(cd) = bootable_cd(folder.path()) else {
        println!(
            "skipped: an_inserted_image_is_fetched_and_booted_and_an_ejected_one_is_not: needs mkfs.vfat, mtools and /boot/ipxe.efi"
        );
        return;
    };
    let (port, seen) = web(cd).await;
    let fleet = Fleet::builder().qemu(qemu).start().await.unwrap();
    let bmc = Bmc::of(&fleet);
    let media = format!("{}/VirtualMedia/1", bmc.system);
    let (_, shown) = bmc.send("GET", &media, None).await;
    assert_eq!(shown["MediaTypes"], json!(["CD", "DVD"]), "{shown}");

    // An image that cannot be had is not in the drive.
    let insert = format!("{media}/Actions/VirtualMedia.InsertMedia");
    let gone = json!({"Image": "http://127.0.0.1:1/none.iso"});
    assert_eq!(bmc.send("POST", &insert, Some(gone)).await.0, 204);
    while bmc.send("GET", &media, None).await.1["Inserted"] != false {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let image = json!({"Image": format!("http://127.0.0.1:{port}/boot.iso")});
    assert_eq!(bmc.send("POST", &insert, Some(image)).await.0, 204);
    let override_ = json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Cd"});
    bmc.boot(override_.clone()).await;
    bmc.reset("On").await;
    let handle = bmc.machine.qemu().unwrap();
    bmc.until("the CD boots", |_| handle.console().contains("iPXE"))
        .await;
    assert_eq!(seen.lock().as_slice(), ["GET /boot.iso HTTP/1.1"]);
    assert!(bmc.machine.booted().unwrap().image.is_some());
    bmc.until("progress", |system| {
        system["BootProgress"]["LastState"] == "OSBootStarted"
    })
    .await;

    let eject = format!("{media}/Actions/VirtualMedia.EjectMedia");
    assert_eq!(bmc.send("POST", &eject, Some(json!({}))).await.0, 204);
    bmc.boot(override_).await;
    bmc.reset("ForceRestart").await;
    bmc.until("the empty drive", |_| {
        handle.console().contains("failed to load Boot00C0")
    })
    .await;
}
