//! Whole machines: what a person sees who plays the demo with a real firmware, phase by phase, and what the machines' consoles say of the probe.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use corten_boot::ramdisk::index::Index;

/// One demo.
pub struct Machines {
    /// What happened and how long it took, as the demo says it.
    pub phases: Vec<(String, String)>,
    /// Each start of a probe that took inventory.
    pub starts: Vec<Start>,
    /// Bytes of the probe.
    pub probe: u64,
    /// For each ramdisk that is there its profile, and the bytes of its kernel with the probe as one EFI program.
    pub ramdisks: Vec<(String, u64)>,
}

/// A start of a probe, in seconds by the kernel's time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// From PID 1 to registered.
    pub whole: f64,
    /// Of it DHCP: from the links being brought up, their carriers awaited, to the first address.
    pub dhcp: f64,
    /// Of it the wait for neighbours by LLDP; none from a probe that does not say it.
    pub lldp: Option<f64>,
}

// === impl Start ===

impl Start {
    /// What is the probe's own: modules, the first call, the inventory, its registration.
    pub fn rest(&self) -> f64 {
        self.whole - self.dhcp - self.lldp.unwrap_or_default()
    }
}

/// Plays it to its end.
pub async fn run(corten: &Path, ramdisk: &Path, probe: &Path) -> Result<Machines> {
    let ramdisks = profiles(ramdisk)?;
    let size = std::fs::metadata(probe).with_context(|| probe.display().to_string())?;
    let output = tokio::process::Command::new(corten)
        .args(["demo", "--qemu", "--once", "--ramdisk"])
        .arg(ramdisk)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("the demo")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the demo failed:\n{said}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(".demo").context("the demo's folder")? {
        let path = entry?.path();
        let is_console = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("console-"));
        if is_console {
            let console = std::fs::read(&path)?;
            found.extend(starts(&String::from_utf8_lossy(&console)));
        }
    }
    Ok(Machines {
        phases: phases(&said),
        starts: found,
        probe: size.len(),
        ramdisks,
    })
}

/// The ramdisk that is booted, and that for servers where scripts/ramdisk has built it beside.
fn profiles(ramdisk: &Path) -> Result<Vec<(String, u64)>> {
    let booted = Index::open(ramdisk).with_context(|| ramdisk.display().to_string())?;
    let beside = Index::open(&ramdisk.with_file_name("hardware")).ok();
    let beside = beside.filter(|beside| beside.profile != booted.profile);
    let size = |index: Index| (index.profile, index.efi.length);
    Ok([Some(booted), beside]
        .into_iter()
        .flatten()
        .map(size)
        .collect())
}

/// The rows of the demo's last table.
fn phases(said: &str) -> Vec<(String, String)> {
    let rows = said
        .lines()
        .skip_while(|line| !line.contains("what happened"));
    rows.skip(1)
        .filter_map(|line| line.strip_prefix('│')?.strip_suffix('│'))
        .filter_map(|row| {
            let mut cells = row.split('┆').map(|cell| cell.trim().to_owned());
            Some((cells.next()?, cells.next()?))
        })
        .collect()
}

/// What a console says of each start of a probe that took inventory. Lines carry the kernel's time.
fn starts(console: &str) -> Vec<Start> {
    let mut found = Vec::new();
    let (mut begun, mut up, mut addressed, mut lldp) = (None, None, None, None);
    for line in console.lines() {
        let Some((time, what)) = line.split_once("] corten-probe: ") else {
            continue;
        };
        let time = time.rsplit('[').next().unwrap_or_default();
        let Ok(time) = time.trim().parse::<f64>() else {
            continue;
        };
        let what = what.trim_end();
        if what.ends_with(" begins") {
            (begun, up, addressed, lldp) = (Some(time), None, None, None);
        } else if what.starts_with("the registry is at ") {
            // The links are brought up at once after this.
            up = Some(time);
        } else if what.contains(" has ") && addressed.is_none() {
            addressed = Some(time);
        } else if let Some(waited) = waited(what) {
            lldp = Some(waited);
        } else if what.starts_with("registered ")
            && let (Some(begun), Some(up), Some(addressed)) = (begun.take(), up, addressed)
        {
            found.push(Start {
                whole: time - begun,
                dhcp: addressed - up,
                lldp,
            });
        }
    }
    found
}

/// `waited 0.62 s for LLDP`.
fn waited(what: &str) -> Option<f64> {
    let seconds = what.strip_prefix("waited ")?.strip_suffix(" s for LLDP")?;
    seconds.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "BdsDxe: starting[    6.500000] corten-probe: version 0.1.0 begins\r\n\
        [    7.500000] corten-probe: 29 modules loaded\r\n\
        [    7.750000] corten-probe: the registry is at https://10.77.0.1:8443\r\n\
        [    7.900000] virtio_net virtio1 eth0: renamed\r\n\
        [    8.000000] corten-probe: eth0 has 10.77.0.167/24\r\n\
        [    9.000000] corten-probe: registered 9a9c8ad9 after 8 s\r\n\
        [    9.500000] corten-probe: registered 9a9c8ad9 after 9 s\r\n\
        [    4.000000] corten-probe: version 0.1.0 begins\r\n\
        [    5.000000] corten-probe: the registry is at https://10.77.0.1:8443\r\n\
        [    5.500000] corten-probe: eth0 has 10.77.0.167/24\r\n\
        [    5.600000] corten-probe: eth1 has 10.77.0.168/24\r\n\
        [    6.500000] corten-probe: waited 0.75 s for LLDP\r\n\
        [    7.000000] corten-probe: registered 9a9c8ad9 after 6 s\r\n\
        [    4.000000] corten-probe: version 0.1.0 begins\r\n";

    #[test]
    fn a_console_tells_how_long_each_start_of_the_probe_took_and_what_of_it_was_dhcp_and_lldp() {
        let start = |whole, dhcp, lldp| Start { whole, dhcp, lldp };
        let found = starts(CONSOLE);
        assert_eq!(found, [start(2.5, 0.25, None), start(3.0, 0.5, Some(0.75))]);
        let rest: Vec<f64> = found.iter().map(Start::rest).collect();
        assert_eq!(rest, [2.25, 1.75]);
    }

    #[test]
    fn the_demo_s_last_table_tells_its_phases() {
        let table =
            "│ what happened ┆ took ┆ at │\n╞══╡\n│ m1: Available ┆ 48.7 s ┆ 58.2 s │\n└──┘\n";
        assert_eq!(
            phases(table),
            [("m1: Available".to_owned(), "48.7 s".to_owned())]
        );
    }
}
