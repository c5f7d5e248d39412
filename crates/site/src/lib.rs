//! A site for machines with a real firmware, for demo and tests: what stands around a machine that Corten runs.
//!
//! [`Namespace`] is its network, apart from the host's; [`Dnsmasq`] its DHCP; [`guest`] makes a small system to install; [`Images`] hands it out
//! and hears what the installed system says; [`Registry`] is one of images that others made. [`missing`] tells what this computer lacks for it.

mod dhcp;
mod error;
pub mod guest;
mod images;
mod lldp;
mod namespace;
mod registry;

use std::path::Path;

pub use self::dhcp::{Dhcp, Dnsmasq};
pub use self::error::Error;
pub use self::images::Images;
pub use self::lldp::Lldpd;
pub use self::namespace::{BRIDGE, Namespace, SERVER, remove_leftovers};
pub use self::registry::Registry;

/// What is missing here for a site's network, each with why it is needed and how to get it.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt as _;
        own.uid() == 0
    });
    if !root {
        missing.push("needs root, for network namespaces and tap devices".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        missing.push("there is no /dev/net/tun, for the machines' network cards: modprobe tun, or give it to the container".to_owned());
    }
    missing.extend(
        [
            ("ip", "makes the site's network"),
            ("nsenter", "enters it"),
            ("setpriv", "ends dnsmasq with the site"),
            ("dnsmasq", "is the site's DHCP"),
        ]
        .into_iter()
        .filter_map(|(program, why)| absent(program, why)),
    );
    missing
}

/// A command of a program that ends with the thread that starts it, also when this process is killed.
fn tied_to_us() -> std::process::Command {
    let mut command = std::process::Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    command
}

/// A program that is not on the path, and what it is for.
fn absent(program: &str, why: &str) -> Option<String> {
    let there = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    });
    (!there).then(|| format!("{program} is missing, which {why}; scripts/e2e-setup installs it"))
}
