//! Where to call and with what: from the kernel command line, from `/etc/corten/boot`, or from flags and the environment.

use corten_wire::cmdline;
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// The boot token. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token itself, for the request's header and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// An address for a place without DHCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its prefix.
    pub prefix: u8,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The link, by its MAC address; none for the first with carrier.
    pub mac: Option<String>,
}

/// Where to call and with what.
#[derive(Clone, Debug)]
pub struct Config {
    /// Base URL of the registry, without a slash at the end.
    pub url: String,
    /// Boot token; none for the original's registry, which knows none.
    pub token: Option<Token>,
    /// SHA-256 of the registry's certificate.
    pub pin: Option<[u8; 32]>,
    /// How long LLDP is listened for.
    pub lldp: Duration,
    /// An address where there is no DHCP.
    pub address: Option<StaticAddress>,
}

/// Why there is nowhere to call. Another try helps only after the configuration changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A key is missing.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A value is not what it should be.
    #[error("{0} is not {1}")]
    Malformed(&'static str, &'static str),
}

// === impl Config ===

impl Config {
    /// For metal-operator's own registry at `url`.
    ///
    /// # Errors
    /// It is no HTTP URL. TLS would need a pin, and that registry has none.
    pub fn of_the_original(url: &str) -> Result<Self, ConfigError> {
        if !url.starts_with("http://") {
            return Err(ConfigError::Malformed("--registry-url", "an http URL"));
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token: None,
            pin: None,
            lldp: Duration::from_secs(30),
            address: None,
        })
    }
}

const LLDP: &str = "corten.lldp";
const IP: &str = "corten.ip";

/// Keys and values as they were found; later ones win.
#[derive(Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Takes what a kernel command line says.
    pub fn add_command_line(&mut self, text: &str) {
        for word in text.split_ascii_whitespace() {
            self.add_pair(word.trim_matches('"'));
        }
    }

    /// Takes the lines of `/etc/corten/boot`.
    pub fn add_file(&mut self, text: &str) {
        for line in text.lines().map(str::trim) {
            if !line.starts_with('#') {
                self.add_pair(line);
            }
        }
    }

    /// Takes one key's value.
    pub fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.trim().to_owned());
    }

    fn add_pair(&mut self, pair: &str) {
        if let Some((key, value)) = pair.split_once('=')
            && key.starts_with("corten.")
        {
            self.set(key, value);
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Checks all that was found.
    ///
    /// # Errors
    /// A key that is missing or malformed; never with the token's value in it.
    pub fn finish(&self) -> Result<Config, ConfigError> {
        let url = self
            .get(cmdline::URL)
            .ok_or(ConfigError::Missing(cmdline::URL))?;
        let is_tls = url.starts_with("https://");
        if !is_tls && !url.starts_with("http://") {
            return Err(ConfigError::Malformed(cmdline::URL, "an http or https URL"));
        }
        let token = self
            .get(cmdline::TOKEN)
            .ok_or(ConfigError::Missing(cmdline::TOKEN))?;
        if token.len() > 4096 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::Malformed(
                cmdline::TOKEN,
                "printable ASCII without spaces",
            ));
        }
        let pin = match self.get(cmdline::PIN) {
            None if is_tls => return Err(ConfigError::Missing(cmdline::PIN)),
            None => None,
            Some(text) => Some(digest(text).ok_or(ConfigError::Malformed(
                cmdline::PIN,
                "64 hexadecimal digits",
            ))?),
        };
        let lldp = match self.get(LLDP) {
            None => 30,
            Some(text) => text
                .parse::<u64>()
                .map_err(|_| ConfigError::Malformed(LLDP, "a number of seconds"))?
                .min(300),
        };
        let address = self
            .get(IP)
            .map(|text| {
                static_address(text)
                    .ok_or(ConfigError::Malformed(IP, "address/prefix[,gateway[,MAC]]"))
            })
            .transpose()?;
        Ok(Config {
            url: url.trim_end_matches('/').to_owned(),
            token: Some(Token(token.to_owned())),
            pin,
            lldp: Duration::from_secs(lldp),
            address,
        })
    }
}

/// 32 bytes from hexadecimal digits, colons allowed between them.
#[must_use]
pub fn digest(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    bytes.try_into().ok()
}

fn static_address(text: &str) -> Option<StaticAddress> {
    let mut parts = text.split(',');
    let (address, prefix) = parts.next()?.split_once('/')?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    let gateway = match parts.next() {
        None | Some("") => None,
        Some(gateway) => Some(gateway.parse().ok()?),
    };
    Some(StaticAddress {
        address: address.parse().ok()?,
        prefix,
        gateway,
        mac: parts.next().map(str::to_ascii_lowercase),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ramdisks_file_wins_over_the_command_line_and_no_token_is_shown() {
        let mut settings = Settings::default();
        settings.add_command_line(
            "console=ttyS0 corten.url=http://10.0.0.1:8080/ corten.token=old quiet",
        );
        settings.add_file("# by the builder\ncorten.token=geheim\ncorten.ip=10.0.0.9/24,10.0.0.1,52:54:00:AA:00:01\n");
        let config = settings.finish().unwrap();
        assert_eq!(config.url, "http://10.0.0.1:8080");
        assert_eq!(config.token.as_ref().unwrap().reveal(), "geheim");
        assert!(!format!("{config:?}").contains("geheim"));
        let address = config.address.unwrap();
        assert_eq!(address.prefix, 24);
        assert_eq!(address.mac.as_deref(), Some("52:54:00:aa:00:01"));
    }

    #[test]
    fn tls_without_a_pin_is_refused() {
        let mut settings = Settings::default();
        settings.add_command_line("corten.url=https://10.0.0.1 corten.token=t");
        assert_eq!(
            settings.finish().unwrap_err(),
            ConfigError::Missing("corten.pin")
        );
    }

    proptest! {
        #[test]
        fn no_command_line_makes_it_panic(text in ".{0,300}", pin in "[0-9a-fA-F:]{0,80}") {
            let mut settings = Settings::default();
            settings.add_command_line(&text);
            settings.add_file(&text);
            settings.set("corten.ip", &text);
            let _ = settings.finish();
            let _ = digest(&pin);
            let _ = static_address(&text);
        }
    }
}
