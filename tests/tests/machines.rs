//! Machines with a real firmware on a site's network: a namespace with a bridge and dnsmasq.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corten_sim::{Bus, Disk, Fleet, MachineHandle, Network, Qemu};
use corten_tests::netns::{self, BRIDGE, Dhcp, SERVER};
use corten_tests::skip;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Request lines with who sent them.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// Gives iPXE, a real UEFI program, to everybody.
async fn web(program: Vec<u8>) -> (u16, Seen) {
    let listener = tokio::net::TcpListener::bind((SERVER, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Seen::default();
    let remembered = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let (program, seen) = (program.clone(), Arc::clone(&remembered));
            tokio::spawn(async move {
                let mut piece = [0; 4096];
                // The firmware keeps its connection: HEAD, then GET.
                while let Ok(length @ 1..) = stream.read(&mut piece).await {
                    let request = String::from_utf8_lossy(&piece[..length]).into_owned();
                    let line = request.lines().next().unwrap_or_default().to_owned();
                    let head = line.starts_with("HEAD");
                    seen.lock().unwrap().push((peer.ip().to_string(), line));
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/efi\r\nContent-Length: {}\r\n\r\n",
                        program.len()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                    if !head {
                        let _ = stream.write_all(&program).await;
                    }
                }
            });
        }
    });
    (port, seen)
}

async fn until(what: &str, fleet: &Fleet, wanted: impl Fn() -> bool) {
    let begun = Instant::now();
    while !wanted() {
        if begun.elapsed() > Duration::from_secs(150) {
            for machine in fleet.machines() {
                println!("{}", machine.qemu().unwrap().console());
            }
            panic!("{what} did not come");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
}

fn runs_ipxe(machine: &MachineHandle) -> bool {
    machine.qemu().unwrap().console().contains("iPXE")
}

#[test]
fn a_site_boots_one_machine_by_dhcp_options_and_one_by_its_bmcs_word_alone() {
    let qemu = Qemu {
        machines: 2,
        memory_mib: 512,
        disks: vec![Disk::new(Bus::Nvme, 64), Disk::new(Bus::Virtio, 64)],
        network: Network::Bridge {
            bridge: BRIDGE.to_owned(),
            namespace: None,
        },
        longest_life: Duration::from_secs(300),
        ..Qemu::default()
    };
    if let Some(reason) = netns::missing().or_else(|| qemu.missing()) {
        skip!("{reason}");
    }
    let Ok(program) = std::fs::read("/boot/ipxe.efi") else {
        skip!("there is no /boot/ipxe.efi; scripts/e2e-setup installs it");
    };
    let name = "a_site_boots_one_machine_by_dhcp_options_and_one_by_its_bmcs_word_alone";
    let Some(mut site) = netns::enter(name, Duration::from_secs(240)) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (port, seen) = web(program).await;
        let fleet = Fleet::builder().qemu(qemu).start().await.unwrap();
        let (one, two) = (fleet.machine(0), fleet.machine(1));
        let mac = |machine: &MachineHandle| machine.systems()[0].macs[0].clone();
        site.dhcp(&Dhcp {
            http_boot: vec![(mac(&one), format!("http://{SERVER}:{port}/dhcp.efi"))],
            options: Vec::new(),
        });
        one.set_power(0, true);
        two.set_power(0, true);
        until("HTTP boot by DHCP", &fleet, || runs_ipxe(&one)).await;
        // The other one has an address, no word of booting, and so nothing to boot.
        assert!(!runs_ipxe(&two));
        let asked = |path: &str| {
            seen.lock()
                .unwrap()
                .iter()
                .filter(|(_, line)| line.starts_with(&format!("GET {path} ")))
                .map(|(peer, _)| peer.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(asked("/dhcp.efi").len(), 1);
        one.qemu().unwrap().cut_power();
        two.set_power(0, false);
        until("off", &fleet, || {
            fleet.machines().all(|m| m.power_state() == "Off")
        })
        .await;
        two.set_boot_override("UefiHttp", Some(&format!("http://{SERVER}:{port}/uri.efi")));
        two.set_power(0, true);
        until("HTTP boot by HttpBootUri", &fleet, || runs_ipxe(&two)).await;
        assert_eq!(asked("/uri.efi").len(), 1);
        assert_eq!(asked("/dhcp.efi").len(), 1);
        assert_ne!(asked("/uri.efi"), asked("/dhcp.efi"));
        assert!(site.dhcp_said().contains("DHCPACK"));
    });
}
