//! The site's network: a network namespace with a bridge. Nothing of it is ever in the host's own network.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::{Error, run};

/// What all our namespaces begin with; the maker's process id and a number follow.
const PREFIX: &str = "corten-site-";
/// The bridge that machines are connected to.
pub const BRIDGE: &str = "br0";
/// The site's server, which is this side of the bridge.
pub const SERVER: &str = "10.77.0.1";

/// A namespace with a bridge. Dropped, it is gone with its processes.
#[derive(Debug)]
pub struct Namespace(String);

// === impl Namespace ===

impl Namespace {
    /// Makes it, with [`SERVER`] as its address on [`BRIDGE`].
    ///
    /// # Errors
    /// Without root or iproute2, or where a container may not make namespaces.
    pub fn make() -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        ip(&["netns", "add", &name])?;
        let namespace = Self(name);
        let name = namespace.0.as_str();
        let address = format!("{SERVER}/24");
        for words in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", BRIDGE, "type", "bridge"],
            &["address", "add", &address, "dev", BRIDGE],
            &["link", "set", BRIDGE, "up"],
            // An API server looks for the address that it is to be reached at by the default route.
            &["route", "add", "default", "dev", BRIDGE],
        ] {
            ip(&[&["-n", name][..], words].concat())?;
        }
        Ok(namespace)
    }

    /// Its name, as `ip netns` has it.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Waits up to `patience` until no process is inside.
    pub async fn empty_within(&self, patience: Duration) {
        let deadline = tokio::time::Instant::now() + patience;
        while !processes(&self.0).is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is put before a command, so that it runs inside.
    pub fn enter(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/run/netns/{}", self.0)]
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn ip<W: AsRef<OsStr>>(words: &[W]) -> Result<String, Error> {
    run(Command::new("ip").args(words))
}

fn processes(namespace: &str) -> Vec<u32> {
    ip(&["netns", "pids", namespace])
        .unwrap_or_default()
        .lines()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Ends the processes in a namespace of ours, and removes it. Not this process, which may be the last one inside.
fn remove(namespace: &str) {
    for pid in processes(namespace) {
        if pid != std::process::id() {
            let _ = Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .output();
        }
    }
    let _ = ip(&["netns", "del", namespace]);
}

/// Removes what makers left behind that were killed. May be called inside.
pub fn remove_leftovers() {
    for line in ip(&["netns", "list"]).unwrap_or_default().lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let maker = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_namespace_goes_with_its_processes_and_so_does_one_whose_maker_is_gone() {
        if let Some(reason) = crate::missing().first() {
            println!(
                "skipped: a_namespace_goes_with_its_processes_and_so_does_one_whose_maker_is_gone: {reason}"
            );
            return;
        }
        let namespace = Namespace::make().unwrap();
        let name = namespace.name().to_owned();
        let [program, place] = namespace.enter();
        let mut inside = tokio::process::Command::new(program)
            .args([&place, "sleep", "600"])
            .spawn()
            .unwrap();
        while processes(&name).is_empty() {
            tokio::task::yield_now().await;
        }
        remove_leftovers();
        assert!(inside.try_wait().unwrap().is_none(), "its maker lives");
        drop(namespace);
        inside.wait().await.unwrap();
        // The process id of one that has ended, and was waited for.
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let orphan = format!("{PREFIX}{}-0", ended.id());
        ip(&["netns", "add", &orphan]).unwrap();
        remove_leftovers();
        let left = ip(&["netns", "list"]).unwrap();
        assert!(!left.contains(&name) && !left.contains(&orphan), "{left}");
    }
}
