//! Which machine it is: what a BMC says now against what was seen at onboarding.
//!
//! Promise held here: nothing is done to a machine that stands where another one is expected.

/// UUID and serial number, as annotated at onboarding: `uuid/serial`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// System UUID, lower case; empty when the machine has none of its own.
    pub uuid: String,
    /// Serial number; empty when unknown.
    pub serial: String,
}

impl Identity {
    /// Normalises both parts: UUID in lower case, placeholders emptied.
    pub fn new(uuid: &str, serial: &str) -> Self {
        let uuid = uuid.trim().to_ascii_lowercase();
        let serial = serial.trim();
        Self {
            uuid: if is_placeholder_uuid(&uuid) {
                String::new()
            } else {
                uuid
            },
            serial: if is_placeholder_serial(serial) {
                String::new()
            } else {
                serial.to_owned()
            },
        }
    }

    /// Reads an annotation's value.
    pub fn parse(text: &str) -> Self {
        let (uuid, serial) = text.split_once('/').unwrap_or((text, ""));
        Self::new(uuid, serial)
    }

    /// True when nothing tells this machine from another.
    pub fn is_empty(&self) -> bool {
        self.uuid.is_empty() && self.serial.is_empty()
    }

    /// True when `seen` contradicts this: a part that both know differs. A part that one of them lacks contradicts nothing,
    /// unless no part is left to agree on.
    pub fn contradicts(&self, seen: &Self) -> bool {
        let differs = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
        let agrees = |a: &str, b: &str| !a.is_empty() && a == b;
        differs(&self.uuid, &seen.uuid)
            || differs(&self.serial, &seen.serial)
            || (!self.is_empty()
                && !agrees(&self.uuid, &seen.uuid)
                && !agrees(&self.serial, &seen.serial))
    }

    /// True when what runs on a machine says that it is another one. SMBIOS has its own ideas: its serial number may be another than the BMC's (Dell's is
    /// the service tag), and some firmware turns half of the UUID around. Where both know a UUID it decides alone.
    pub fn is_denied_from_inside(&self, told: &Self) -> bool {
        if self.uuid.is_empty() || told.uuid.is_empty() {
            return self.serial.is_empty() || self.serial != told.serial;
        }
        self.uuid != told.uuid && other_byte_order(&self.uuid).as_deref() != Some(&told.uuid)
    }

    /// True when `other` is surely the same machine: both parts known and equal, or one known and equal where the other is unknown to both.
    pub fn is_same(&self, other: &Self) -> bool {
        !self.is_empty() && self == other
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.uuid, self.serial)
    }
}

/// The UUID with its first three fields' bytes turned around, as SMBIOS before 2.6 means it.
fn other_byte_order(uuid: &str) -> Option<String> {
    let turned = |part: &str| -> Option<String> {
        let bytes: Option<Vec<&str>> = (0..part.len() / 2)
            .map(|at| part.get(at * 2..at * 2 + 2))
            .collect();
        Some(bytes?.into_iter().rev().collect())
    };
    let parts: Vec<&str> = uuid.split('-').collect();
    let [a, b, c, d, e] = parts[..] else {
        return None;
    };
    Some(format!(
        "{}-{}-{}-{d}-{e}",
        turned(a)?,
        turned(b)?,
        turned(c)?
    ))
}

/// UUIDs that many machines carry: nil, all ones, and AMI's and Supermicro's untouched defaults.
pub fn is_placeholder_uuid(uuid: &str) -> bool {
    let hex: String = uuid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .collect::<String>()
        .to_ascii_lowercase();
    let uniform = hex
        .chars()
        .next()
        .is_none_or(|first| hex.chars().all(|c| c == first));
    uniform
        || matches!(
            hex.as_str(),
            "03000200040005000006000700080009"
                | "12345678123456781234567812345678"
                | "0123456789abcdef0123456789abcdef"
        )
}

/// Serial numbers that a factory forgot to set.
pub fn is_placeholder_serial(serial: &str) -> bool {
    let plain = serial.trim().to_ascii_lowercase();
    let uniform = plain.chars().next().is_none_or(|first| {
        first.is_ascii_punctuation() && plain.chars().all(|c| c == first)
            || plain.chars().all(|c| c == '0')
    });
    uniform
        || matches!(
            plain.as_str(),
            "to be filled by o.e.m."
                | "default string"
                | "not specified"
                | "not available"
                | "system serial number"
                | "0123456789"
                | "1234567890"
                | "123456789"
                | "na"
                | "n/a"
                | "none"
                | "null"
                | "unknown"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "4C4C4544-0042-3510-8052-B7C04F4C3232";

    #[test]
    fn the_same_machine_in_other_letters_is_the_same() {
        let seen = Identity::new(&UUID.to_lowercase(), "7B5RL22");
        assert!(!Identity::new(UUID, "7B5RL22").contradicts(&seen));
        assert_eq!(Identity::parse(&seen.to_string()), seen);
    }

    #[test]
    fn a_machine_is_known_from_inside_by_its_uuid_whatever_serial_number_smbios_has() {
        // As a PowerEdge has them: the board's serial number over Redfish, the service tag in SMBIOS.
        let known = Identity::new(UUID, "CNIVC0014M0388");
        let inside =
            |uuid: &str, serial: &str| known.is_denied_from_inside(&Identity::new(uuid, serial));
        assert!(!inside(UUID, "7B5RL22"));
        assert!(!inside("44454c4c-4200-1035-8052-b7c04f4c3232", "7B5RL22"));
        assert!(inside(
            "4C4C4544-0042-3510-8052-B7C04F4C3233",
            "CNIVC0014M0388"
        ));
        // Without a UUID the serial number has to do, and nothing at all is nobody.
        assert!(!inside("", "CNIVC0014M0388"));
        assert!(inside("", "7B5RL22") && inside("", ""));
        assert!(Identity::default().is_denied_from_inside(&Identity::new(UUID, "")));
    }

    #[test]
    fn another_serial_in_the_same_place_is_another_machine() {
        assert!(Identity::new(UUID, "7B5RL22").contradicts(&Identity::new(UUID, "7B5RL23")));
    }

    #[test]
    fn a_serial_that_the_bmc_leaves_out_today_contradicts_nothing() {
        assert!(!Identity::new(UUID, "7B5RL22").contradicts(&Identity::new(UUID, "")));
    }

    #[test]
    fn a_machine_that_shows_nothing_known_is_not_taken_for_the_expected_one() {
        let placeholder = "00000000-0000-0000-0000-000000000000";
        assert!(Identity::new(UUID, "7B5RL22").contradicts(&Identity::new(placeholder, "")));
    }

    #[test]
    fn factory_defaults_are_no_identity() {
        for uuid in [
            "",
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
        ] {
            assert!(Identity::new(uuid, "Default string").is_empty(), "{uuid}");
        }
        assert!(!Identity::new("", "0042").is_empty());
        assert!(Identity::new("", "0000000").is_empty());
        assert!(Identity::new("", "--").is_empty());
    }
}
