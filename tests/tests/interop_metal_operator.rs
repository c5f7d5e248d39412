//! metal-operator's own registry judges what our probe sends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test says what is wrong by ending"
)]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use corten_tests::skip;
use corten_wire::Registration;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// As somebody's manager may spell it: its registry compares it letter by letter.
const UUID: &str = "4C4C4544-0042-3510-8053-b4c04f583132";

struct Registry {
    address: SocketAddr,
    _process: Child,
}

// === impl Registry ===

impl Registry {
    async fn start(programs: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let process = Command::new(programs.join("registry"))
            .arg(address.to_string())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        for _ in 0..100 {
            if TcpStream::connect(address).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self {
            address,
            _process: process,
        }
    }

    /// Status and body.
    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// What it keeps of a machine.
    async fn kept(&self) -> Value {
        let (status, body) = self.call("GET", &format!("/systems/{UUID}"), "").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// Everything that our probe can tell, where the original has a property for it.
fn everything() -> Registration {
    let neighbor = json!({"chassisId": "c", "portId": "p", "portDescription": "d", "systemName": "n", "systemDescription": "s", "mgmtIp": "192.0.2.9",
        "capabilities": ["Bridge"], "vlanId": "7"});
    serde_json::from_value(json!({"systemUUID": UUID, "data": {
        "timestamp": "2026-01-02T03:04:05.678Z",
        "systemInfo": {
            "biosInformation": {"vendor": "v", "version": "1", "date": "d"},
            "systemInformation": {"manufacturer": "m", "productName": "p", "version": "1", "serialNumber": "s", "uuid": "u", "skuNumber": "k", "family": "f"},
            "boardInformation": {"manufacturer": "m", "product": "p", "version": "1", "serialNumber": "s", "assetTag": "a"}},
        "cpu": [{"id": 1, "totalCores": 2, "totalHardwareThreads": 4, "vendor": "v", "model": "m", "capabilities": ["fpu"], "maxSpeedMhz": 3000}],
        "networkInterfaces": [{"name": "eth0", "ipAddress": "192.0.2.2", "ipAddresses": ["192.0.2.2", "fe80::1"], "macAddress": "52:54:00:00:00:01", "carrierStatus": "up"}],
        "lldp": [{"name": "eth0", "neighbors": [neighbor]}],
        "storage": [{"path": "/dev/sda", "name": "sda", "rotational": true, "removable": true, "readOnly": true, "vendor": "v", "model": "m", "serial": "s",
            "wwid": "naa.5", "physicalBlockSize": 4096, "logicalBlockSize": 512, "hWSectorSize": 512, "sizeBytes": 1_000_000_000_000_u64, "numaNodeID": 1}],
        "memory": [{"size": 17_179_869_184_u64, "deviceSet": "2", "deviceLocator": "A1", "bankLocator": "b", "memoryType": "DDR5", "speed": "4800 MT/s", "vendor": "v",
            "serialNumber": "s", "assetTag": "a", "partNumber": "p", "configuredMemorySpeed": "4400 MT/s", "minimumVoltage": "1.10 V", "maximumVoltage": "1.10 V",
            "configuredVoltage": "1.10 V"}],
        "nics": [{"name": "eth0", "mac": "52:54:00:00:00:01", "pciAddress": "0000:00:03.0", "speed": "25000Mb/s", "linkModes": ["25000baseCR/Full"],
            "supportedPorts": ["FIBRE"], "firmwareVersion": "1"}],
        "pciDevices": [{"address": "0000:00:03.0", "vendor": "v", "vendorID": "8086", "product": "p", "productID": "1593", "numaNodeID": 1}]}}))
    .unwrap()
}

/// What of `kept` is not what `sent` has.
fn differ(kept: &Value, sent: &Value, at: &str) -> Vec<String> {
    let pairs: Vec<(String, &Value, &Value)> = match (kept, sent) {
        (Value::Object(kept), Value::Object(sent)) => kept
            .iter()
            .map(|(key, value)| (format!("{at}.{key}"), value, &sent[key]))
            .collect(),
        (Value::Array(kept), Value::Array(sent)) if kept.len() == sent.len() => kept
            .iter()
            .zip(sent)
            .enumerate()
            .map(|(n, (kept, sent))| (format!("{at}[{n}]"), kept, sent))
            .collect(),
        (kept, sent) if kept == sent => return Vec::new(),
        (kept, sent) => return vec![format!("{at}: {sent} became {kept}")],
    };
    let each = pairs.into_iter();
    each.flat_map(|(at, kept, sent)| differ(kept, sent, &at))
        .collect()
}

#[tokio::test]
async fn metal_operators_registry_keeps_all_of_what_our_probe_tells() {
    let programs = match corten_tests::metal_operator().await {
        Ok(programs) => programs,
        Err(why) => skip!("{why}"),
    };
    let registry = Registry::start(&programs).await;
    let sent = serde_json::to_value(everything()).unwrap();
    let (status, said) = registry.call("POST", "/register", &sent.to_string()).await;
    assert_eq!(status, 201, "{said}");
    let mut kept = registry.kept().await;
    // Its clock has whole seconds.
    assert_eq!(kept["timestamp"], "2026-01-02T03:04:05Z");
    kept["timestamp"] = sent["data"]["timestamp"].clone();
    assert_eq!(differ(&kept, &sent["data"], ""), [""; 0]);
    let sections = [
        "systemInfo",
        "cpu",
        "networkInterfaces",
        "lldp",
        "storage",
        "memory",
        "nics",
        "pciDevices",
    ];
    for section in sections {
        assert!(kept.get(section).is_some(), "{section} is lost");
    }
}

#[tokio::test]
async fn our_probe_stands_in_for_metal_operators_own() {
    let programs = match corten_tests::metal_operator().await {
        Ok(programs) => programs,
        Err(why) => skip!("{why}"),
    };
    let Some(probe) = std::env::var_os("CORTEN_PROBE") else {
        skip!("CORTEN_PROBE does not name a static probe")
    };
    let registry = Registry::start(&programs).await;
    // As its manager writes it into the ignition of a discovery boot.
    let called = Command::new(probe)
        .arg(format!("--registry-url=http://{}", registry.address))
        .arg(format!("--server-uuid={UUID}"))
        .args(["--lldp-sync-duration=1s", "--once"])
        .output()
        .await
        .unwrap();
    assert!(called.status.success(), "{called:?}");
    let kept = registry.kept().await;
    let threads = std::thread::available_parallelism().unwrap().get();
    assert!(
        kept["cpu"][0]["totalHardwareThreads"].as_u64().unwrap() >= 1,
        "{threads} here: {kept}"
    );
    let age = jiff::Timestamp::now()
        - kept["timestamp"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
    // An older one is not believed.
    assert!(age.total(jiff::Unit::Second).unwrap() < 120.0, "{kept}");
    let (status, _) = registry
        .call("DELETE", &format!("/delete/{UUID}"), "")
        .await;
    assert_eq!(status, 200);
}
