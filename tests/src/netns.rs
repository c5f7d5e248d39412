//! A site's network for machines with a real firmware: a network namespace with a bridge, and dnsmasq as its DHCP.
//!
//! A test begins with [`enter`]. Outside, that makes the namespace, runs the same test again within it as a process of its
//! own, and takes the namespace away, with every process in it, whatever became of the test. So the fleet, our servers and
//! the test all live at the bridge's addresses, and nothing of it is ever in the host's own network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The variable that tells the inner test where it is.
const INSIDE: &str = "CORTEN_TEST_NETNS";
/// What all our namespaces begin with; the maker's process id and a number follow.
const PREFIX: &str = "corten-e2e-";

/// The bridge that machines are connected to.
pub const BRIDGE: &str = "br0";
/// The site's server, which is this side of the bridge: servers of a test listen there.
pub const SERVER: &str = "10.77.0.1";

/// What is missing here for a site, if anything is.
pub fn missing() -> Option<String> {
    let root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt as _;
        own.uid() == 0
    });
    if !root {
        return Some("needs root, for network namespaces".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    ["ip", "nsenter", "dnsmasq", "timeout"]
        .into_iter()
        .find(|program| {
            !Command::new("sh")
                .args(["-c", &format!("command -v {program}")])
                .output()
                .is_ok_and(|output| output.status.success())
        })
        .map(|program| format!("{program} is missing; scripts/e2e-setup installs it"))
}

/// A site, seen from inside.
#[derive(Debug)]
pub struct Site {
    folder: tempfile::TempDir,
    dnsmasq: Option<Child>,
}

/// Gives the site when called inside. Outside it runs `test`, the caller's name, inside within `limit`, fails with it, and
/// gives none.
///
/// # Panics
/// If the site cannot be made, or the test fails in it.
pub fn enter(test: &str, limit: Duration) -> Option<Site> {
    if std::env::var_os(INSIDE).is_some() {
        return Some(Site {
            folder: tempfile::tempdir().expect("a folder"),
            dnsmasq: None,
        });
    }
    remove_leftovers();
    let namespace = Namespace::make();
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("timeout")
        .args(["--kill-after=5", &limit.as_secs().to_string(), "nsenter"])
        .arg(format!("--net=/run/netns/{}", namespace.0))
        .arg(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, &namespace.0)
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

/// How the site's DHCP is to be.
#[derive(Clone, Debug, Default)]
pub struct Dhcp {
    /// MAC and URL: UEFI HTTP boot for that machine. Others get an address and no word of booting.
    pub http_boot: Vec<(String, String)>,
    /// More of dnsmasq's options, such as `--enable-tftp`.
    pub options: Vec<String>,
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

    /// Starts dnsmasq, in place of one that runs; its leases are from 10.77.0.100 on.
    ///
    /// # Panics
    /// If it does not start.
    pub fn dhcp(&mut self, dhcp: &Dhcp) {
        self.stop_dhcp();
        let mut words: Vec<String> = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--port=0",
            "--log-dhcp",
            "--bind-interfaces",
            "--dhcp-authoritative",
            "--no-ping",
            "--dhcp-range=10.77.0.100,10.77.0.200,255.255.255.0,10m",
            // What UEFI says of itself when it means HTTP, for x64.
            "--dhcp-vendorclass=set:http,HTTPClient:Arch:00016",
        ]
        .map(str::to_owned)
        .into();
        words.push(format!("--interface={BRIDGE}"));
        words.push(format!(
            "--dhcp-leasefile={}",
            self.folder().join("leases").display()
        ));
        words.push(format!("--log-facility={}", self.dhcp_log().display()));
        words.push(format!(
            "--pid-file={}",
            self.folder().join("dnsmasq.pid").display()
        ));
        for (number, (mac, url)) in dhcp.http_boot.iter().enumerate() {
            words.push(format!("--dhcp-mac=set:boot{number},{mac}"));
            words.push(format!(
                "--dhcp-option-force=tag:http,tag:boot{number},60,HTTPClient"
            ));
            words.push(format!("--dhcp-boot=tag:http,tag:boot{number},{url}"));
        }
        words.extend(dhcp.options.iter().cloned());
        let child = Command::new("dnsmasq")
            .args(words)
            .spawn()
            .expect("dnsmasq");
        self.dnsmasq = Some(child);
    }

    /// Ends dnsmasq.
    pub fn stop_dhcp(&mut self) {
        if let Some(mut dnsmasq) = self.dnsmasq.take() {
            let _ = dnsmasq.kill();
            let _ = dnsmasq.wait();
        }
    }

    fn dhcp_log(&self) -> PathBuf {
        self.folder().join("dnsmasq.log")
    }

    /// What dnsmasq heard and answered.
    pub fn dhcp_said(&self) -> String {
        fs::read_to_string(self.dhcp_log()).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop_dhcp();
    }
}

/// A namespace with a bridge. Dropped, it is gone with its processes.
struct Namespace(String);

impl Namespace {
    fn make() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        ip(&["netns", "add", &name]).expect("a network namespace");
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
            ip(&[&["-n", name][..], words].concat()).expect("the site's network");
        }
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn ip(words: &[&str]) -> Result<String, String> {
    let output = Command::new("ip")
        .args(words)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "ip {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}

/// Ends the processes in a namespace of ours, and removes it.
fn remove(namespace: &str) {
    for pid in ip(&["netns", "pids", namespace])
        .unwrap_or_default()
        .lines()
    {
        let _ = Command::new("kill").args(["-KILL", pid]).output();
    }
    let _ = ip(&["netns", "del", namespace]);
}

/// Removes what test processes left behind that were killed.
fn remove_leftovers() {
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
