//! A test inside a site's network: a network namespace with a bridge, and dnsmasq as its DHCP (`corten_site`).
//!
//! A test begins with [`enter`]. Outside, that makes the namespace, runs the same test again within it as a process of its
//! own, and takes the namespace away, with every process in it, whatever became of the test. So the fleet, our servers and
//! the test all live at the bridge's addresses, and nothing of it is ever in the host's own network.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

pub use corten_site::{BRIDGE, Dhcp, Lldpd, SERVER};
use corten_site::{Dnsmasq, Namespace};

/// The variable that tells the inner test where it is.
const INSIDE: &str = "CORTEN_TEST_NETNS";

/// What is missing here for a site, if anything is.
pub fn missing() -> Option<String> {
    let missing = corten_site::missing()
        .into_iter()
        .chain((!on_path("timeout")).then(|| "timeout is missing, which ends the test".to_owned()));
    let missing: Vec<String> = missing.collect();
    (!missing.is_empty()).then(|| missing.join("; "))
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

/// A site, seen from inside.
#[derive(Debug)]
pub struct Site {
    folder: tempfile::TempDir,
    dnsmasq: Option<Dnsmasq>,
    switch: Option<Lldpd>,
}

/// Whether this is the test inside a site, which reaches nothing outside of it.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Gives the site when called inside. Outside it runs `test`, the caller's name, inside within `limit`, fails with it, and
/// gives none.
///
/// # Panics
/// If the site cannot be made, or the test fails in it.
pub fn enter(test: &str, limit: Duration) -> Option<Site> {
    if is_inside() {
        return Some(Site {
            folder: tempfile::tempdir().expect("a folder"),
            dnsmasq: None,
            switch: None,
        });
    }
    corten_site::remove_leftovers();
    let namespace = Namespace::make().expect("a network namespace");
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("timeout")
        .args(["--kill-after=5", &limit.as_secs().to_string()])
        .args(namespace.enter())
        .arg(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, namespace.name())
        .stdin(Stdio::null())
        .output()
        .expect("the test inside");
    for line in String::from_utf8_lossy(&output.stdout)
        .lines()
        .chain(String::from_utf8_lossy(&output.stderr).lines())
    {
        // Its own sum must not be counted again, its reason for being skipped must.
        if line.starts_with("skipped: ") {
            println!("{line}");
        } else {
            println!("  {line}");
        }
    }
    drop(namespace);
    assert!(
        output.status.success(),
        "the test failed in its namespace: {}",
        output.status
    );
    None
}

impl Site {
    /// The namespace's name.
    pub fn namespace(&self) -> String {
        std::env::var(INSIDE).unwrap_or_default()
    }

    /// A folder that goes with the site.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts dnsmasq, in place of one that runs.
    ///
    /// # Panics
    /// If it does not start.
    pub fn dhcp(&mut self, dhcp: &Dhcp) {
        self.stop_dhcp();
        self.dnsmasq = Some(Dnsmasq::start(dhcp, self.folder()).expect("dnsmasq"));
    }

    /// Starts the switch that the machines hear by LLDP.
    ///
    /// # Panics
    /// If it does not start.
    pub fn switch(&mut self) {
        self.switch = Some(Lldpd::start(self.folder()).expect("lldpd"));
    }

    /// Ends dnsmasq.
    pub fn stop_dhcp(&mut self) {
        self.dnsmasq = None;
    }

    /// What dnsmasq heard and answered.
    pub fn dhcp_said(&self) -> String {
        self.dnsmasq.as_ref().map(Dnsmasq::said).unwrap_or_default()
    }
}
