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
use std::time::Duration;

const USAGE: &str = "usage: corten-probe [--url URL] [--pin SHA256] [--token-file FILE] [--lldp SECONDS] [--once] \
     (or CORTEN_URL, CORTEN_PIN, CORTEN_TOKEN)
       corten-probe --registry-url URL --server-uuid UUID [--lldp-sync-duration SECONDSs] [--once], with metal-operator";

/// What an ordinary process is to do.
struct Wanted {
    config: Config,
    once: bool,
    /// Of the original: under which UUID it registers, and nothing else.
    registers: Option<String>,
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::run();
        return ExitCode::FAILURE;
    }
    match wanted(std::env::args().skip(1)) {
        Ok(Wanted {
            config,
            once,
            registers,
        }) => {
            let pace = Pace {
                lldp: config.lldp,
                once,
                ..Pace::default()
            };
            let agent = Agent::new(
                Root::default(),
                Registry::new(config),
                Arc::new(NoPower),
                pace,
            );
            match registers {
                Some(uuid) => agent.register_only(&uuid, &Stop::default()),
                None => agent.run(&Stop::default()),
            }
            ExitCode::SUCCESS
        }
        Err(message) => {
            say!("{message}");
            ExitCode::from(2)
        }
    }
}

/// From the environment first, flags over it. The token comes by environment or file, since everybody can read a command line.
fn wanted(flags: impl Iterator<Item = String>) -> Result<Wanted, String> {
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
    let (mut once, mut registry, mut uuid, mut lldp) = (false, None, None, None);
    // Go's flags, which the original is called with, are written `--flag=value` too.
    let mut words = flags.flat_map(|flag| match flag.split_once('=') {
        Some((name, value)) if name.starts_with("--") => vec![name.to_owned(), value.to_owned()],
        _ => vec![flag],
    });
    while let Some(flag) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{flag} wants a value"));
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
            "--registry-url" => registry = Some(value()?),
            "--server-uuid" => uuid = Some(value()?),
            "--lldp-sync-duration" => lldp = Some(seconds(&value()?)?),
            // How often lldpctl is called, and what waits for it: we listen ourselves.
            "--lldp-sync-interval" | "--duration" | "--registry-client-timeout" => {
                value()?;
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    let config = match (&registry, &uuid) {
        (None, None) => settings.finish(),
        (Some(url), Some(_)) => Config::of_the_original(url).map(|config| Config {
            lldp: lldp.unwrap_or(config.lldp),
            ..config
        }),
        _ => {
            return Err(format!(
                "--registry-url and --server-uuid belong together\n{USAGE}"
            ));
        }
    };
    Ok(Wanted {
        config: config.map_err(|error| format!("{error}\n{USAGE}"))?,
        once,
        registers: uuid,
    })
}

/// Whole seconds, as Go writes a duration.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text
        .strip_suffix('s')
        .and_then(|digits| digits.parse::<u64>().ok());
    let number = number.filter(|seconds| *seconds <= 300);
    number
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text} is no number of seconds, such as 30s, up to 300s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(line: &str) -> Result<Wanted, String> {
        wanted(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn it_is_called_as_metal_operator_calls_its_own_probe() {
        for line in [
            "--registry-url=http://10.0.0.1:30000 --server-uuid=38947555-7742-3448-3784-823347823834",
            "--registry-url http://10.0.0.1:30000/ --server-uuid 38947555-7742-3448-3784-823347823834 --lldp-sync-duration=5s --duration 5s",
        ] {
            let wanted = called(line).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(wanted.config.url, "http://10.0.0.1:30000");
            assert_eq!(
                wanted.registers.as_deref(),
                Some("38947555-7742-3448-3784-823347823834")
            );
            assert!(wanted.config.token.is_none());
        }
        for line in [
            "--registry-url http://10.0.0.1",
            "--server-uuid u",
            "--registry-url https://10.0.0.1 --server-uuid u",
            "--registry-url http://10.0.0.1 --server-uuid u --lldp-sync-duration 1h",
        ] {
            assert!(called(line).is_err(), "{line}");
        }
    }
}
