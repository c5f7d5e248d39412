//! What the operating system says a process used.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Clock ticks a second: the unit of `/proc/PID/stat` (`USER_HZ`, 100 on every Linux that Rust supports).
const TICKS: f64 = 100.0;

/// A reading of one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// Resident memory now, MiB.
    pub rss_mib: f64,
    /// Most resident memory so far, MiB.
    pub peak_mib: f64,
}

impl Usage {
    /// Reads `/proc` for `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let stat = std::fs::read_to_string(folder.join("stat")).context("the process is gone")?;
        // The name is in parentheses and may hold spaces: fields count from behind it.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let ticks = |at: usize| {
            fields
                .get(at)
                .and_then(|v| v.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        let status = std::fs::read_to_string(folder.join("status"))?;
        let kib = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.split_whitespace().next())
                .and_then(|v| v.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        Ok(Self {
            cpu_seconds: (ticks(11) + ticks(12)) / TICKS,
            rss_mib: kib("VmRSS:") / 1024.0,
            peak_mib: kib("VmHWM:") / 1024.0,
        })
    }
}

/// CPU seconds so far of this process (the fleet) and of the control plane's programs that work in `folder`, by name.
pub fn others(folder: &Path) -> Vec<(String, f64)> {
    let own = Usage::of(std::process::id()).map_or(0.0, |usage| usage.cpu_seconds);
    let mut all = vec![("the fleet and this measurement".to_owned(), own)];
    let folder = folder.to_string_lossy();
    for name in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        let cpu: f64 = pids()
            .filter(|pid| is(*pid, name, &folder))
            .filter_map(|pid| Usage::of(pid).ok())
            .map(|usage| usage.cpu_seconds)
            .sum();
        all.push((name.to_owned(), cpu));
    }
    all
}

/// CPU seconds that all processors together were busy and idle since the machine's start.
pub fn machine() -> (f64, f64) {
    busy_and_idle(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// The first line of `/proc/stat`: user nice system idle iowait irq softirq steal, in ticks; guests' are in user's already.
fn busy_and_idle(stat: &str) -> (f64, f64) {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|v| v.parse().ok())
        .collect();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    let all: f64 = ticks.iter().sum();
    ((all - idle) / TICKS, idle / TICKS)
}

/// Memory that new processes may have, in MiB, as the kernel reckons it.
pub fn available_mib() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is(pid: u32, name: &str, folder: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let program = line.split('\0').next().unwrap_or_default();
    program.rsplit('/').next() == Some(name) && line.contains(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_busy_or_idle() {
        let (busy, idle) = busy_and_idle("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 1 1 1\n");
        assert_eq!((busy, idle), (1.5, 8.5));
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let mut sum = 0_u64;
        for i in 0..40_000_000_u64 {
            sum = sum.wrapping_mul(31).wrapping_add(i);
        }
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(
            usage.rss_mib > 1.0 && usage.peak_mib >= usage.rss_mib,
            "{usage:?} {sum}"
        );
        assert!(usage.cpu_seconds > 0.0);
    }
}
