//! LLDP frames (IEEE 802.1AB), type by length by value.

use corten_wire::registration::LldpNeighbor;
use std::net::{Ipv4Addr, Ipv6Addr};

/// LLDP's type.
pub const ETHERTYPE: u16 = 0x88cc;
/// Nearest bridge: the group that no bridge passes on.
pub const NEAREST_BRIDGE: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];

/// Names of the capability bits (table 8-4).
const CAPABILITIES: [&str; 11] = [
    "Other",
    "Repeater",
    "Bridge",
    "Wlan",
    "Router",
    "Telephone",
    "DocsisCableDevice",
    "Station",
    "CVlan",
    "SVlan",
    "Tpmr",
];

/// Reads a frame with its Ethernet header; none where it is no LLDP, is cut short, or says that the neighbour goes (a time to live of 0).
#[must_use]
pub fn parse(frame: &[u8]) -> Option<LldpNeighbor> {
    let (header, mut rest) = frame.split_first_chunk::<14>()?;
    if header.last_chunk::<2>() != Some(&ETHERTYPE.to_be_bytes()) {
        return None;
    }
    let mut neighbor = LldpNeighbor::default();
    let mut seconds = None;
    while let [high, low, ..] = *rest {
        let head = u16::from_be_bytes([high, low]);
        let value = rest.get(2..2 + usize::from(head & 0x1ff))?;
        rest = rest.get(2 + value.len()..)?;
        match head >> 9 {
            0 => break,
            1 => neighbor.chassis_id = chassis(value)?,
            2 => neighbor.port_id = port(value)?,
            3 => seconds = value.first_chunk::<2>().map(|two| u16::from_be_bytes(*two)),
            4 => neighbor.port_description = text(value),
            5 => neighbor.system_name = text(value),
            6 => neighbor.system_description = text(value),
            7 => {
                let enabled = value.get(2..4).unwrap_or_default();
                if let [high, low] = *enabled {
                    let bits = u16::from_be_bytes([high, low]);
                    neighbor.capabilities = CAPABILITIES
                        .iter()
                        .enumerate()
                        .filter(|(bit, _)| bits >> bit & 1 == 1)
                        .map(|(_, name)| (*name).to_owned())
                        .collect();
                }
            }
            // One neighbour may have several; the first is kept.
            8 if neighbor.mgmt_ip.is_empty() => {
                neighbor.mgmt_ip = management(value).unwrap_or_default();
            }
            // IEEE 802.1: port VLAN.
            127 => {
                if let [0x00, 0x80, 0xc2, 1, high, low, ..] = *value {
                    neighbor.vlan_id = u16::from_be_bytes([high, low]).to_string();
                }
            }
            _ => {}
        }
    }
    let is_whole = !neighbor.chassis_id.is_empty() && !neighbor.port_id.is_empty();
    (is_whole && seconds? > 0).then_some(neighbor)
}

fn chassis(value: &[u8]) -> Option<String> {
    let (subtype, id) = value.split_first()?;
    Some(match subtype {
        4 => mac(id),
        5 => network_address(id),
        _ => text(id),
    })
}

fn port(value: &[u8]) -> Option<String> {
    let (subtype, id) = value.split_first()?;
    Some(match subtype {
        3 => mac(id),
        4 => network_address(id),
        _ => text(id),
    })
}

fn management(value: &[u8]) -> Option<String> {
    let (length, rest) = value.split_first()?;
    Some(network_address(rest.get(..usize::from(*length))?))
}

/// An address after the number of its family (1 for IPv4, 2 for IPv6, 6 for a MAC address).
fn network_address(bytes: &[u8]) -> String {
    match bytes {
        [1, a, b, c, d] => Ipv4Addr::new(*a, *b, *c, *d).to_string(),
        [2, six @ ..] if six.len() == 16 => six
            .first_chunk::<16>()
            .map(|bytes| Ipv6Addr::from(*bytes).to_string())
            .unwrap_or_default(),
        [6, rest @ ..] => mac(rest),
        [_, rest @ ..] => text(rest),
        [] => String::new(),
    }
}

fn mac(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn tlv(frame: &mut Vec<u8>, kind: u16, value: &[u8]) {
        frame.extend((kind << 9 | u16::try_from(value.len()).unwrap()).to_be_bytes());
        frame.extend(value);
    }

    pub(crate) fn frame(seconds: u16) -> Vec<u8> {
        let mut frame = NEAREST_BRIDGE.to_vec();
        frame.extend([2, 0, 0, 0, 0, 1]);
        frame.extend(ETHERTYPE.to_be_bytes());
        tlv(&mut frame, 1, &[4, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        tlv(&mut frame, 2, b"\x05swp1");
        tlv(&mut frame, 3, &seconds.to_be_bytes());
        tlv(&mut frame, 4, b"to server 1");
        tlv(&mut frame, 5, b"leaf-1");
        tlv(&mut frame, 7, &[0, 0x14, 0, 0x14]);
        tlv(&mut frame, 8, &[5, 1, 10, 0, 0, 1, 2, 0, 0, 0, 1, 0]);
        tlv(&mut frame, 127, &[0x00, 0x80, 0xc2, 1, 0, 42]);
        tlv(&mut frame, 0, &[]);
        frame
    }

    #[test]
    fn a_switch_is_read_whole() {
        let neighbor = parse(&frame(120)).unwrap();
        assert_eq!(neighbor.chassis_id, "aa:bb:cc:dd:ee:ff");
        assert_eq!(neighbor.port_id, "swp1");
        assert_eq!(neighbor.system_name, "leaf-1");
        assert_eq!(neighbor.capabilities, ["Bridge", "Router"]);
        assert_eq!(neighbor.mgmt_ip, "10.0.0.1");
        assert_eq!(neighbor.vlan_id, "42");
    }

    #[test]
    fn a_neighbour_that_says_goodbye_is_none() {
        assert_eq!(parse(&frame(0)), None);
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
            let mut frame = frame(1);
            frame.truncate(cut);
            frame.extend(bytes);
            let _ = parse(&frame);
        }
    }
}
