//! How a machine names itself from outside: UUIDs and MAC addresses in one spelling.

/// A SMBIOS system UUID, lower case with hyphens. None for rubbish and for those that tell nothing (all zeros, all ones).
#[must_use]
pub fn system_uuid(text: &str) -> Option<String> {
    if text.len() != 36 && text.len() != 32 {
        return None;
    }
    let uuid = uuid::Uuid::try_parse(text).ok()?;
    (!uuid.is_nil() && !uuid.is_max()).then(|| uuid.hyphenated().to_string())
}

/// The same UUID with its first three fields' bytes turned around: SMBIOS before 2.6 and some firmware mean the other order.
#[must_use]
pub fn other_byte_order(text: &str) -> Option<String> {
    let uuid = uuid::Uuid::try_parse(text).ok()?;
    Some(
        uuid::Uuid::from_bytes_le(uuid.into_bytes())
            .hyphenated()
            .to_string(),
    )
}

/// A MAC address, lower case with colons; from colons, hyphens or none. None for rubbish, zeros and group addresses. An octet may be one digit, as ISC DHCP's `binary-to-ascii` writes it.
#[must_use]
pub fn mac(text: &str) -> Option<String> {
    let separator = text.chars().find(|found| matches!(found, ':' | '-'));
    let digits: String = match separator {
        None if text.len() == 12 => text.to_owned(),
        None => return None,
        Some(separator) => {
            let octets: Vec<&str> = text.split(separator).collect();
            if octets.len() != 6 || octets.iter().any(|octet| !(1..=2).contains(&octet.len())) {
                return None;
            }
            octets.iter().map(|octet| format!("{octet:0>2}")).collect()
        }
    };
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u64::from_str_radix(&digits, 16).ok()?;
    let group = value >> 40 & 1 == 1;
    if value == 0 || group {
        return None;
    }
    let [_, _, octets @ ..] = value.to_be_bytes();
    Some(octets.map(|octet| format!("{octet:02x}")).join(":"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mac_address_has_one_spelling() {
        for text in ["52:54:00:AB:cd:01", "52-54-00-ab-cd-01", "525400abcd01"] {
            assert_eq!(mac(text).as_deref(), Some("52:54:00:ab:cd:01"));
        }
        assert_eq!(mac("52:54:0:ab:c:1").as_deref(), Some("52:54:00:ab:0c:01"));
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54-00:ab-cd:01",
            "52:54::ab:cd:01",
            "52:540:0:ab:cd:01",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "+2:54:00:ab:cd:01",
            "zz5400abcd01",
        ] {
            assert_eq!(mac(text), None, "{text}");
        }
    }

    #[test]
    fn a_uuid_that_tells_nothing_is_none() {
        assert_eq!(
            system_uuid("4C4C4544-0042-3510-8053-B4C04F583132").as_deref(),
            Some("4c4c4544-0042-3510-8053-b4c04f583132")
        );
        assert_eq!(system_uuid("00000000-0000-0000-0000-000000000000"), None);
        assert_eq!(system_uuid("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"), None);
        assert_eq!(system_uuid("../../etc/passwd"), None);
    }

    #[test]
    fn the_other_byte_order_turns_the_first_three_fields() {
        assert_eq!(
            other_byte_order("4c4c4544-0042-3510-8053-b4c04f583132").as_deref(),
            Some("44454c4c-4200-1035-8053-b4c04f583132")
        );
    }

    proptest! {
        #[test]
        fn nothing_from_outside_panics(text in ".{0,40}") {
            let _ = (mac(&text), system_uuid(&text), other_byte_order(&text));
        }

        #[test]
        fn what_was_read_reads_the_same_again(text in "[0-9a-fA-F]{12}|[0-9a-fA-F]{32}") {
            if let Some(read) = mac(&text) { prop_assert_eq!(mac(&read), Some(read)); }
            if let Some(read) = system_uuid(&text) { prop_assert_eq!(system_uuid(&read), Some(read)); }
        }
    }
}
