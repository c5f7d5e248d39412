//! What a fleet costs in memory. A process of its own, so that nothing else is counted.

use corten_redfish::{Credentials, Fingerprint, Gateway, GatewayConfig, Target, Trust};

const BMCS: usize = 5_000;
const MIB: u64 = 1 << 20;

/// Resident memory in bytes, where the system says.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn five_thousand_bmcs_that_are_known_cost_well_below_a_hundred_mebibytes() {
    let Some(before) = resident() else {
        println!("skipped: footprint: this system does not say how much memory is resident");
        return;
    };
    let gateway = Gateway::new(GatewayConfig::default());
    let handles: Vec<_> = (0..BMCS)
        .map(|i| {
            gateway.bmc(Target {
                name: format!("bmc-{i}"),
                url: format!("https://10.0.{}.{}", i / 256, i % 256)
                    .parse()
                    .unwrap(),
                credentials: Credentials::new("root", format!("password {i}")),
                trust: Trust::Pinned(Fingerprint::of(&i.to_be_bytes())),
            })
        })
        .collect();
    let grown = resident().unwrap().saturating_sub(before);
    println!(
        "{BMCS} handles: {} KiB, {} bytes each",
        grown / 1024,
        grown / BMCS as u64
    );
    assert!(grown < 60 * MIB, "{grown}");
    drop(handles);
}
