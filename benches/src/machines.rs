//! Whole machines: what a person sees who plays the demo with a real firmware, phase by phase, and what the machines' consoles say of the probe.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use corten_boot::ramdisk::index::Index;

/// One demo.
pub struct Machines {
    /// What happened and how long it took, as the demo says it.
    pub phases: Vec<(String, String)>,
    /// For each start of a probe that took inventory: seconds from PID 1 to the machine's address, and from there to its registration.
    pub probes: Vec<(f64, f64)>,
    /// Bytes of the probe, and of the ramdisk's kernel with it as one EFI program.
    pub sizes: (u64, u64),
}

/// Plays it to its end.
pub async fn run(corten: &Path, ramdisk: &Path, probe: &Path) -> Result<Machines> {
    let index = Index::open(ramdisk).with_context(|| ramdisk.display().to_string())?;
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
    let mut probes = Vec::new();
    for entry in std::fs::read_dir(".demo").context("the demo's folder")? {
        let path = entry?.path();
        let is_console = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("console-"));
        if is_console {
            let console = std::fs::read(&path)?;
            probes.extend(starts(&String::from_utf8_lossy(&console)));
        }
    }
    Ok(Machines {
        phases: phases(&said),
        probes,
        sizes: (size.len(), index.efi.length),
    })
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
fn starts(console: &str) -> Vec<(f64, f64)> {
    let mut found = Vec::new();
    let (mut begun, mut addressed) = (None, None);
    for line in console.lines() {
        let Some((time, what)) = line.split_once("] corten-probe: ") else {
            continue;
        };
        let time = time
            .rsplit('[')
            .next()
            .unwrap_or_default()
            .trim()
            .parse::<f64>();
        let Ok(time) = time else { continue };
        if what.ends_with(" begins") {
            (begun, addressed) = (Some(time), None);
        } else if what.contains(" has ") && addressed.is_none() {
            addressed = Some(time);
        } else if what.starts_with("registered ")
            && let (Some(begun), Some(addressed)) = (begun, addressed)
        {
            found.push((addressed - begun, time - addressed));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_tells_when_the_probe_began_had_an_address_and_was_registered() {
        let console = "BdsDxe: starting[    4.000000] corten-probe: version 0.1.0 begins\n\
            [    5.000000] corten-probe: 29 modules loaded\n\
            [    5.500000] corten-probe: eth0 has 10.77.0.144/24\r\n\
            [    7.750000] corten-probe: registered 9a9c8ad9 after 7 s\n\
            [    9.000000] corten-probe: version 0.1.0 begins\n";
        assert_eq!(starts(console), [(1.5, 2.25)]);
        let table =
            "│ what happened ┆ took ┆ at │\n╞══╡\n│ m1: Available ┆ 48.7 s ┆ 58.2 s │\n└──┘\n";
        assert_eq!(
            phases(table),
            [("m1: Available".to_owned(), "48.7 s".to_owned())]
        );
    }
}
