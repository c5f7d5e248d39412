//! DHCP's datagrams in Ethernet frames: a link without an address can neither send nor receive UDP.

use std::net::Ipv4Addr;

/// IPv4's type.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
const UDP: u8 = 17;
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// A broadcast from a DHCP client that has the address `source`, or none (0.0.0.0).
#[must_use]
pub fn to_server(mac: [u8; 6], source: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let udp_length = u16::try_from(payload.len() + 8).unwrap_or_default();
    let mut ip = vec![0x45, 0];
    ip.extend((udp_length + 20).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    ip.extend(source.octets());
    ip.extend(Ipv4Addr::BROADCAST.octets());
    let sum = checksum(&ip);
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend(ETHERTYPE_IPV4.to_be_bytes());
    frame.extend(ip.get(..10).unwrap_or_default());
    frame.extend(sum.to_be_bytes());
    frame.extend(ip.get(12..).unwrap_or_default());
    frame.extend(CLIENT_PORT.to_be_bytes());
    frame.extend(SERVER_PORT.to_be_bytes());
    frame.extend(udp_length.to_be_bytes());
    // UDP's own sum may be left out with IPv4.
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// What a DHCP server sent; none for any other frame. The sums are the network's affair: virtual NICs leave them open.
#[must_use]
pub fn from_server(frame: &[u8]) -> Option<&[u8]> {
    let (header, ip) = frame.split_first_chunk::<14>()?;
    if header.last_chunk::<2>() != Some(&ETHERTYPE_IPV4.to_be_bytes()) {
        return None;
    }
    let first = *ip.first()?;
    let protocol = *ip.get(9)?;
    // Fragments carry no ports.
    let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff;
    if first >> 4 != 4 || protocol != UDP || fragment != 0 {
        return None;
    }
    let udp = ip.get(usize::from(first & 0xf) * 4..)?;
    let ([a, b, c, d, e, f, _, _], payload) = udp.split_first_chunk::<8>()?;
    if u16::from_be_bytes([*a, *b]) != SERVER_PORT || u16::from_be_bytes([*c, *d]) != CLIENT_PORT {
        return None;
    }
    payload.get(..usize::from(u16::from_be_bytes([*e, *f])).checked_sub(8)?)
}

fn checksum(header: &[u8]) -> u16 {
    let (words, _) = header.as_chunks::<2>();
    let mut sum: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frames_header_sums_up_to_nothing() {
        let frame = to_server([2, 0, 0, 0, 0, 1], Ipv4Addr::UNSPECIFIED, b"payload");
        assert_eq!(checksum(&frame[14..34]), 0);
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = from_server(&bytes);
            let mut frame = to_server([0; 6], Ipv4Addr::LOCALHOST, &bytes);
            frame.swap(34, 36);
            frame.swap(35, 37);
            prop_assert_eq!(from_server(&frame), Some(&bytes[..]));
        }
    }
}
