//! PID 1 of the ramdisk: mounts, modules, network, and then the agent, for ever.
//!
//! It never ends: the kernel panics without PID 1. What fails is said on the console and tried again.

use crate::agent::{Agent, Pace};
use crate::config::{Config, Settings};
use crate::inventory::root::Root;
use crate::net::lease;
use crate::power::MachinePower;
use crate::registry::Registry;
use crate::say;
use crate::stop::Stop;
use rustix::mount::{MountFlags, mount};
use rustix::process::{WaitOptions, wait};
use std::ffi::CString;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// What is mounted where.
const MOUNTS: [(&str, &str); 5] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];
const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// Modules to load, one a line.
pub const MODULES: &str = "/etc/corten/modules";
/// Where to call.
pub const BOOT: &str = "/etc/corten/boot";

/// Runs as PID 1. Returns only where it cannot even make a thread.
pub fn run() {
    let failures: Vec<String> = MOUNTS
        .iter()
        .filter_map(|(kind, target)| mount_at(kind, target).err())
        .collect();
    crate::log::to_kernel();
    say!("version {} begins", env!("CARGO_PKG_VERSION"));
    for failure in failures {
        say!("{failure}");
    }
    load_modules(&fs::read_to_string(MODULES).unwrap_or_default());
    // Only machines that came up by UEFI have the folder; the file system may have come with a module.
    if fs::metadata("/sys/firmware/efi").is_ok()
        && let Err(failure) = mount_at("efivarfs", EFIVARS)
    {
        say!("{failure}");
    }
    let stop = Stop::default();
    std::thread::spawn(reap);
    loop {
        // A fault in the agent must not take the machine with it.
        let inner = stop.clone();
        let ended = std::thread::Builder::new()
            .name("agent".into())
            .spawn(move || serve(&inner))
            .map(std::thread::JoinHandle::join);
        match ended {
            Ok(Ok(())) => say!("the agent ended; it begins again"),
            Ok(Err(_)) => say!("the agent broke off; it begins again"),
            Err(error) => say!("no thread can be made: {error}"),
        }
        stop.wait(Duration::from_secs(5));
    }
}

/// Configures the network once, then runs the agent.
fn serve(stop: &Stop) {
    let config = loop {
        match configuration() {
            Ok(config) => break config,
            Err(error) => {
                say!("nowhere to call: {error}; looked at /proc/cmdline and {BOOT}");
                stop.wait(Duration::from_secs(30));
            }
        }
    };
    say!("the registry is at {}", config.url);
    let root = Root::default();
    let leases = lease::configure(&root, config.address.clone(), stop);
    // The kernel may have been told an address, and IPv6 needs no lease: a call is tried after a while in any case.
    if leases.recv_timeout(Duration::from_secs(60)).is_err() {
        say!("no link has got an address by DHCP until now; calling all the same");
    }
    let pace = Pace {
        lldp: config.lldp,
        ..Pace::default()
    };
    Agent::new(root, Registry::new(config), Arc::new(MachinePower), pace).run(stop);
}

fn configuration() -> Result<Config, crate::config::ConfigError> {
    let mut settings = Settings::default();
    settings.add_command_line(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    settings.add_file(&fs::read_to_string(BOOT).unwrap_or_default());
    settings.finish()
}

fn mount_at(kind: &str, target: &str) -> Result<(), String> {
    let _ = fs::create_dir_all(target);
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let flags = if kind == "devtmpfs" {
        flags
    } else {
        flags | MountFlags::NODEV
    };
    match mount(kind, target, kind, flags, None::<&std::ffi::CStr>) {
        // It is there already: the kernel mounted it, or a test did.
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(format!("{target} is not mounted: {error}")),
    }
}

/// A line of the modules' file: path and parameters.
fn module_line(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (path, parameters) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    Some((path, parameters.trim()))
}

fn load_modules(list: &str) {
    let mut loaded = 0;
    for (path, parameters) in list.lines().filter_map(module_line) {
        let result = CString::new(parameters)
            .map_err(std::io::Error::from)
            .and_then(|parameters| {
                let file = fs::File::open(path)?;
                Ok(rustix::system::finit_module(&file, &parameters, 0)?)
            });
        match result {
            Ok(()) => loaded += 1,
            // Built in, or loaded by an alias before.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => say!("module {path} was not loaded: {error}"),
        }
    }
    say!("{loaded} modules loaded");
}

/// Takes the exit status of whatever process the kernel hands to PID 1.
fn reap() {
    let stop = Stop::default();
    loop {
        // Without children there is nothing to wait for.
        if wait(WaitOptions::empty()).is_err() {
            stop.wait(Duration::from_secs(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_line_is_a_path_and_its_parameters() {
        assert_eq!(
            module_line(" /lib/m/ahci.ko  a=1 b=2 "),
            Some(("/lib/m/ahci.ko", "a=1 b=2"))
        );
        assert_eq!(module_line("/lib/m/nvme.ko"), Some(("/lib/m/nvme.ko", "")));
        assert_eq!(module_line("# none"), None);
        assert_eq!(module_line(""), None);
    }
}
