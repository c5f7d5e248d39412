//! MAC addresses and their prefixes, in whatever way they were written.
//!
//! [`MacAddress`] is the entry point: `3c:ec:ef:00:00:01`, `3C-EC-EF-00-00-01` and `3cecef000001` are one address.

use std::fmt;
use std::str::FromStr;

/// A 48-bit Ethernet address; prints in lower case with colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress([u8; 6]);

/// The first one to twelve hexadecimal digits of a [`MacAddress`]: a vendor's block, or one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacPrefix {
    digits: [u8; 12],
    length: usize,
}

/// Why a text is no MAC address or prefix. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// A character that is neither a hexadecimal digit nor `:`, `-` or `.`.
    #[error(
        "{text:?} has the character {found:?}: only hexadecimal digits and the separators ':' and '-' are allowed"
    )]
    Character {
        /// The text as given.
        text: String,
        /// The first wrong character.
        found: char,
    },
    /// The number of digits does not fit.
    #[error("{text:?} has {found} hexadecimal digits, {wanted} wanted")]
    Length {
        /// The text as given.
        text: String,
        /// Digits found.
        found: usize,
        /// What is wanted, in words.
        wanted: &'static str,
    },
}

// === impl MacAddress ===

impl MacAddress {
    /// The address as its six bytes.
    pub fn bytes(&self) -> [u8; 6] {
        self.0
    }

    /// Twelve lower-case hexadecimal digits without separators.
    pub fn plain(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn digits(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().flat_map(|b| [b >> 4, b & 0x0f])
    }
}

impl FromStr for MacAddress {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = digits(text)?;
        let mut bytes = [0u8; 6];
        let mut pairs = digits.chunks_exact(2);
        if digits.len() != 12 {
            return Err(MacError::Length {
                text: text.to_owned(),
                found: digits.len(),
                wanted: "12",
            });
        }
        for (byte, pair) in bytes.iter_mut().zip(&mut pairs) {
            *byte = pair.iter().fold(0, |value, digit| (value << 4) | digit);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

// === impl MacPrefix ===

impl MacPrefix {
    /// Number of hexadecimal digits, 1 to 12: the longer of two matching prefixes says more.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The first `length` digits of `mac`; `length` above 12 counts as 12.
    pub fn of(mac: MacAddress, length: usize) -> Self {
        let length = length.min(12);
        let mut digits = [0; 12];
        for (place, digit) in digits.iter_mut().zip(mac.digits().take(length)) {
            *place = digit;
        }
        Self { digits, length }
    }

    /// Whether `mac` begins with this prefix.
    pub fn matches(&self, mac: MacAddress) -> bool {
        Self::of(mac, self.length) == *self
    }
}

impl FromStr for MacPrefix {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = digits(text)?;
        if found.is_empty() || found.len() > 12 {
            return Err(MacError::Length {
                text: text.to_owned(),
                found: found.len(),
                wanted: "1 to 12",
            });
        }
        let mut digits = [0; 12];
        for (place, digit) in digits.iter_mut().zip(&found) {
            *place = *digit;
        }
        Ok(Self {
            digits,
            length: found.len(),
        })
    }
}

impl fmt::Display for MacPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, digit) in self.digits.iter().take(self.length).enumerate() {
            if i > 0 && i % 2 == 0 {
                f.write_str(":")?;
            }
            write!(f, "{digit:x}")?;
        }
        Ok(())
    }
}

fn digits(text: &str) -> Result<Vec<u8>, MacError> {
    let mut digits = Vec::with_capacity(12);
    for c in text.trim().chars() {
        match c.to_digit(16) {
            Some(digit) => digits.push(u8::try_from(digit).unwrap_or_default()),
            None if matches!(c, ':' | '-' | '.') => {}
            None => {
                return Err(MacError::Character {
                    text: text.to_owned(),
                    found: c,
                });
            }
        }
    }
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_in_every_spelling() {
        let all: Vec<MacAddress> = [
            "3c:ec:ef:00:0a:01",
            "3C-EC-EF-00-0A-01",
            "3cecef000a01",
            "3cec.ef00.0a01",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(all[0].to_string(), "3c:ec:ef:00:0a:01");
        assert_eq!(all[0].plain(), "3cecef000a01");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_cause() {
        let error = "3c:ec:ef:00:0a".parse::<MacAddress>().unwrap_err();
        assert!(
            error.to_string().contains("10 hexadecimal digits"),
            "{error}"
        );
        let error = "3c:ec:ef:00:0a:zz".parse::<MacAddress>().unwrap_err();
        assert!(error.to_string().contains("'z'"), "{error}");
        assert!("".parse::<MacAddress>().is_err());
    }

    #[test]
    fn a_prefix_matches_by_digits_not_by_text() {
        let mac: MacAddress = "B4:2E:99:BA:DE:17".parse().unwrap();
        for text in ["b42e99", "B4:2E:99", "b4-2e-99-b", "B4:2E:99:BA:DE:17", "b"] {
            assert!(text.parse::<MacPrefix>().unwrap().matches(mac), "{text}");
        }
        assert!(!"b42e98".parse::<MacPrefix>().unwrap().matches(mac));
        assert!("b42e99bade1700".parse::<MacPrefix>().is_err());
        assert!(":".parse::<MacPrefix>().is_err());
        assert_eq!("B42E9".parse::<MacPrefix>().unwrap().to_string(), "b4:2e:9");
    }
}
