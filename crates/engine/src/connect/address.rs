//! Where a BMC listens: from host, scheme and port of an object to a URL.

use std::{fmt, net::IpAddr, str::FromStr};

use corten_lifecycle::trust::Scheme;
use url::Url;

/// A range of IP addresses, `10.0.0.0/8` or `fd00::/8`; a single address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: u128,
    bits: u8,
    is_v6: bool,
}

/// A text that is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of IP addresses: write 10.0.0.0/8 or fd00::/8")]
pub struct BadCidr(String);

/// Host, port and scheme that do not make an address. Trying again does not help before the object changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// The scheme is unknown.
    #[error("protocol.scheme is {0:?}: http and https are allowed")]
    Scheme(String),
    /// The protocol is unknown.
    #[error("protocol.name is {0:?}: Redfish is supported")]
    Protocol(String),
    /// The port is out of range.
    #[error("protocol.port is {0}: 1 to 65535 are allowed, 0 for the scheme's own")]
    Port(i64),
    /// The host is none.
    #[error("{0:?} is neither an IP address nor a host name")]
    Host(String),
}

// === impl Cidr ===

impl Cidr {
    /// Whether `address` lies in the range. An IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (value, is_v6) = number(address);
        let width: u8 = if is_v6 { 128 } else { 32 };
        is_v6 == self.is_v6
            && shifted(value, width - self.bits) == shifted(self.network, width - self.bits)
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let bad = || BadCidr(text.to_owned());
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let (network, is_v6) = number(address.parse().map_err(|_| bad())?);
        let width = if is_v6 { 128 } else { 32 };
        let bits = match bits {
            Some(bits) => bits
                .parse::<u8>()
                .ok()
                .filter(|bits| *bits <= width)
                .ok_or_else(bad)?,
            None => width,
        };
        Ok(Self {
            network,
            bits,
            is_v6,
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = if self.is_v6 {
            IpAddr::V6(self.network.into())
        } else {
            IpAddr::V4(u32::try_from(self.network).unwrap_or_default().into())
        };
        write!(f, "{address}/{}", self.bits)
    }
}

fn number(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), false),
        IpAddr::V6(v6) => (u128::from(v6), true),
    }
}

fn shifted(value: u128, by: u8) -> u128 {
    value.checked_shr(u32::from(by)).unwrap_or(0)
}

/// Which scheme holds: the stated one; without one plain HTTP only where `assume_http` covers the address, else TLS.
///
/// # Errors
/// The stated scheme, if it is neither.
pub fn scheme(
    stated: Option<&str>,
    host: &str,
    assume_http: &[Cidr],
) -> Result<Scheme, BadAddress> {
    match stated.map(str::trim).unwrap_or_default() {
        "" => {
            let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
            let plain = address
                .is_some_and(|address| assume_http.iter().any(|range| range.contains(address)));
            Ok(if plain { Scheme::Http } else { Scheme::Https })
        }
        text if text.eq_ignore_ascii_case("https") => Ok(Scheme::Https),
        text if text.eq_ignore_ascii_case("http") => Ok(Scheme::Http),
        other => Err(BadAddress::Scheme(other.to_owned())),
    }
}

/// The URL of a BMC. `host` is an IP address or a name, IPv6 with or without brackets; port 0 is the scheme's own.
///
/// # Errors
/// What is wrong with the parts.
pub fn url(scheme: Scheme, host: &str, port: i64) -> Result<Url, BadAddress> {
    let host = host.trim();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let written = match bare.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => format!("[{v6}]"),
        Ok(IpAddr::V4(v4)) => v4.to_string(),
        Err(_) if is_host_name(bare) => bare.to_owned(),
        Err(_) => return Err(BadAddress::Host(host.to_owned())),
    };
    let port = match port {
        0 => None,
        1..=65535 => Some(port),
        _ => return Err(BadAddress::Port(port)),
    };
    let scheme = match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let text = match port {
        Some(port) => format!("{scheme}://{written}:{port}"),
        None => format!("{scheme}://{written}"),
    };
    Url::parse(&text).map_err(|_| BadAddress::Host(host.to_owned()))
}

/// Checks the protocol's name; the original's test doubles count as Redfish.
///
/// # Errors
/// The name, if it is unknown.
pub fn check_protocol(name: &str) -> Result<(), BadAddress> {
    match name {
        "" | "Redfish" | "RedfishLocal" | "RedfishWithRegistryPatch" => Ok(()),
        other => Err(BadAddress::Protocol(other.to_owned())),
    }
}

fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let looks_like_an_address = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    !looks_like_an_address
        && text.len() <= 253
        && text.trim_end_matches('.').split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn ranges_hold_their_addresses_and_no_others() {
        let range: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(range.contains("10.1.255.1".parse().unwrap()));
        assert!(range.contains("::ffff:10.1.0.1".parse().unwrap()));
        assert!(!range.contains("10.2.0.1".parse().unwrap()));
        assert!(!range.contains("fd00::1".parse().unwrap()));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("192.0.2.1".parse().unwrap()));
        assert!(
            "fd00::/8"
                .parse::<Cidr>()
                .unwrap()
                .contains("fd12::1".parse().unwrap())
        );
        assert!(
            "127.0.0.1"
                .parse::<Cidr>()
                .unwrap()
                .contains("127.0.0.1".parse().unwrap())
        );
        for bad in ["10.0.0.0/33", "10.0.0/8", "x", "", "::/129"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn plain_http_is_assumed_only_where_it_was_allowed() {
        let ranges = ranges(&["10.0.0.0/8"]);
        assert_eq!(scheme(None, "10.0.0.1", &ranges), Ok(Scheme::Http));
        assert_eq!(scheme(Some(""), "10.0.0.1", &ranges), Ok(Scheme::Http));
        assert_eq!(
            scheme(Some("https"), "10.0.0.1", &ranges),
            Ok(Scheme::Https)
        );
        assert_eq!(scheme(None, "192.0.2.1", &ranges), Ok(Scheme::Https));
        assert_eq!(scheme(None, "bmc.example.com", &ranges), Ok(Scheme::Https));
        assert_eq!(scheme(Some("HTTP"), "192.0.2.1", &[]), Ok(Scheme::Http));
        assert!(scheme(Some("ftp"), "192.0.2.1", &[]).is_err());
    }

    #[test]
    fn urls_are_made_of_addresses_and_names() {
        let text = |host, port| url(Scheme::Https, host, port).map(|url| url.to_string());
        assert_eq!(
            text("192.0.2.1", 8443).as_deref(),
            Ok("https://192.0.2.1:8443/")
        );
        assert_eq!(
            text("2001:db8::1", 0).as_deref(),
            Ok("https://[2001:db8::1]/")
        );
        assert_eq!(
            text("[2001:db8::1]", 443).as_deref(),
            Ok("https://[2001:db8::1]/")
        );
        assert_eq!(
            text("bmc-1.example.com", 0).as_deref(),
            Ok("https://bmc-1.example.com/")
        );
        for host in ["", "300.1.1.1", "a b", "user@host", "host/path", "-x"] {
            assert!(text(host, 0).is_err(), "{host}");
        }
        assert_eq!(text("192.0.2.1", 70000), Err(BadAddress::Port(70000)));
    }
}
