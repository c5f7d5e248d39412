//! `corten-probe`: PID 1 of the discovery ramdisk, or an ordinary process.

use corten_probe::agent::{Agent, Pace};
use corten_probe::config::{Config, Settings};
use corten_probe::inventory::root::Root;
use corten_probe::power::NoPower;
use corten_probe::registry::Registry;
use corten_probe::stop::Stop;
use corten_probe::{init, say};
use corten_wire::cmdline;
use std::process::ExitCode;
use std::sync::Arc;

const USAGE: &str = "usage: corten-probe [--url URL] [--pin SHA256] [--token-file FILE] [--lldp SECONDS] [--once] \
     (or CORTEN_URL, CORTEN_PIN, CORTEN_TOKEN)";

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::run();
        return ExitCode::FAILURE;
    }
    match configuration(std::env::args().skip(1)) {
        Ok((config, once)) => {
            let pace = Pace {
                lldp: config.lldp,
                once,
                ..Pace::default()
            };
            Agent::new(
                Root::default(),
                Registry::new(config),
                Arc::new(NoPower),
                pace,
            )
            .run(&Stop::default());
            ExitCode::SUCCESS
        }
        Err(message) => {
            say!("{message}");
            ExitCode::from(2)
        }
    }
}

/// From the environment first, flags over it. The token comes by environment or file, since everybody can read a command line.
fn configuration(mut flags: impl Iterator<Item = String>) -> Result<(Config, bool), String> {
    let mut settings = Settings::default();
    for (variable, key) in [
        ("CORTEN_URL", cmdline::URL),
        ("CORTEN_PIN", cmdline::PIN),
        ("CORTEN_TOKEN", cmdline::TOKEN),
    ] {
        if let Ok(value) = std::env::var(variable) {
            settings.set(key, &value);
        }
    }
    let mut once = false;
    while let Some(flag) = flags.next() {
        let mut value = || flags.next().ok_or_else(|| format!("{flag} wants a value"));
        match flag.as_str() {
            "--url" => settings.set(cmdline::URL, &value()?),
            "--pin" => settings.set(cmdline::PIN, &value()?),
            "--lldp" => settings.set("corten.lldp", &value()?),
            "--token-file" => {
                let file = value()?;
                let token = std::fs::read_to_string(&file)
                    .map_err(|error| format!("{file} cannot be read: {error}"))?;
                settings.set(cmdline::TOKEN, &token);
            }
            "--once" => once = true,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let config = settings
        .finish()
        .map_err(|error| format!("{error}\n{USAGE}"))?;
    Ok((config, once))
}
