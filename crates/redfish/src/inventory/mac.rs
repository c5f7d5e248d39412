//! MAC addresses in the spellings that BMCs use.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A 48-bit MAC address of a network interface: never all zero, never broadcast or multicast.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress([u8; 6]);

/// The text is no MAC address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a MAC address of an interface")]
pub struct NotAMac;

// === impl MacAddress ===

impl MacAddress {
    /// The six octets.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = NotAMac;

    /// Accepts `aa:bb:…`, `AA-BB-…`, `aabb.ccdd.eeff` and `AABBCCDDEEFF`. World Wide Names and InfiniBand GUIDs
    /// (eight octets), which some firmware lists among the addresses of a port, are no MAC.
    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut octets = [0_u8; 6];
        let mut digits = 0_usize;
        for c in text.trim().chars() {
            if matches!(c, ':' | '-' | '.') {
                continue;
            }
            let nibble = u8::try_from(c.to_digit(16).ok_or(NotAMac)?).map_err(|_| NotAMac)?;
            let octet = octets.get_mut(digits / 2).ok_or(NotAMac)?;
            *octet = (*octet << 4) | nibble;
            digits += 1;
        }
        let multicast = octets.first().is_some_and(|first| first & 1 == 1);
        // DMTF's own mockups use FB:AA:…, a group address; recorded machines do not. The bit is checked for
        // broadcast only, so that a sloppy but unique address still identifies its interface.
        let broadcast = multicast && octets.iter().all(|octet| *octet == 0xFF);
        if digits != 12 || broadcast || octets.iter().all(|octet| *octet == 0) {
            return Err(NotAMac);
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_gives_the_same_address() {
        for text in [
            "b0:7b:25:d6:51:82",
            "B0-7B-25-D6-51-82",
            "b07b.25d6.5182",
            " B07B25D65182 ",
        ] {
            assert_eq!(
                text.parse::<MacAddress>().unwrap().to_string(),
                "b0:7b:25:d6:51:82"
            );
        }
    }

    #[test]
    fn world_wide_names_guids_and_fillers_are_no_mac() {
        for text in [
            "51:40:2E:C0:20:89:B2:A0",
            "88e9:a4ff:ff87:42c8",
            "00:00:00:00:00:00",
            "FF:FF:FF:FF:FF:FF",
            "Not Available",
            "",
            "b0:7b:25",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
