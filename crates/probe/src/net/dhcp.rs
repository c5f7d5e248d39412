//! DHCP messages (RFC 2131, RFC 2132), as much as a client in a ramdisk needs.

use std::net::Ipv4Addr;

const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// Where the options begin.
const HEADER: usize = 236;

const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address may be had.
    Offer,
    /// It is ours.
    Ack,
    /// It is not.
    Nak,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it is.
    pub kind: Kind,
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its prefix.
    pub prefix: u8,
    /// Default gateway.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub name_servers: Vec<Ipv4Addr>,
    /// The server.
    pub server: Option<Ipv4Addr>,
    /// Seconds that it holds.
    pub lease_seconds: u32,
}

/// Asks who has an address.
#[must_use]
pub fn discover(transaction: [u8; 4], mac: [u8; 6]) -> Vec<u8> {
    let mut message = begin(transaction, mac, Ipv4Addr::UNSPECIFIED, DISCOVER);
    finish(&mut message);
    message
}

/// Asks for the address that was offered.
#[must_use]
pub fn request(transaction: [u8; 4], mac: [u8; 6], offer: &Answer) -> Vec<u8> {
    let mut message = begin(transaction, mac, Ipv4Addr::UNSPECIFIED, REQUEST);
    option(&mut message, 50, &offer.address.octets());
    if let Some(server) = offer.server {
        option(&mut message, 54, &server.octets());
    }
    finish(&mut message);
    message
}

/// Asks to keep an address (RFC 2131 section 4.3.2, rebinding).
#[must_use]
pub fn renew(transaction: [u8; 4], mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut message = begin(transaction, mac, address, REQUEST);
    finish(&mut message);
    message
}

fn begin(transaction: [u8; 4], mac: [u8; 6], address: Ipv4Addr, kind: u8) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0];
    message.extend(transaction);
    // No seconds; the answer is to be broadcast, which reaches a link without an address for certain.
    message.extend([0, 0, 0x80, 0]);
    message.extend(address.octets());
    message.resize(28, 0);
    message.extend(mac);
    message.resize(HEADER, 0);
    message.extend(MAGIC);
    option(&mut message, 53, &[kind]);
    // Client identifier: the hardware address, as the firmware's own DHCP client has it, so that the address stays the same.
    let identifier = [&[1][..], &mac].concat();
    option(&mut message, 61, &identifier);
    option(&mut message, 57, &1472_u16.to_be_bytes());
    option(&mut message, 60, b"corten-probe");
    option(&mut message, 55, &[1, 3, 6, 51, 54]);
    message
}

fn option(message: &mut Vec<u8>, code: u8, value: &[u8]) {
    message.push(code);
    message.push(u8::try_from(value.len()).unwrap_or_default());
    message.extend(value);
}

fn finish(message: &mut Vec<u8>) {
    message.push(255);
    // Old relays drop what is shorter than a BOOTP message.
    message.resize(message.len().max(300), 0);
}

/// Reads what a server said to `transaction`; none for anything else.
#[must_use]
pub fn parse(message: &[u8], transaction: [u8; 4], mac: [u8; 6]) -> Option<Answer> {
    let is_ours = message.first() == Some(&2)
        && message.get(4..8)? == transaction
        && message.get(28..34)? == mac
        && message.get(HEADER..HEADER + 4)? == MAGIC;
    if !is_ours {
        return None;
    }
    let four = |bytes: &[u8]| bytes.first_chunk::<4>().copied();
    let mut answer = Answer {
        kind: Kind::Nak,
        address: Ipv4Addr::from(four(message.get(16..20)?)?),
        prefix: 24,
        router: None,
        name_servers: Vec::new(),
        server: None,
        lease_seconds: 3600,
    };
    let mut kind = None;
    let mut rest = message.get(HEADER + 4..)?;
    while let [code, ..] = *rest {
        match code {
            0 => {
                rest = rest.get(1..)?;
                continue;
            }
            255 => break,
            _ => {}
        }
        let length = usize::from(*rest.get(1)?);
        let value = rest.get(2..2 + length)?;
        rest = rest.get(2 + length..)?;
        match code {
            1 => {
                if let Some(mask) = four(value) {
                    answer.prefix = u8::try_from(u32::from_be_bytes(mask).leading_ones()).ok()?;
                }
            }
            3 => answer.router = four(value).map(Ipv4Addr::from),
            6 => {
                let (servers, _) = value.as_chunks::<4>();
                answer.name_servers = servers.iter().map(|bytes| Ipv4Addr::from(*bytes)).collect();
            }
            51 => {
                if let Some(seconds) = four(value) {
                    answer.lease_seconds = u32::from_be_bytes(seconds);
                }
            }
            53 => kind = value.first().copied(),
            54 => answer.server = four(value).map(Ipv4Addr::from),
            _ => {}
        }
    }
    answer.kind = match kind? {
        2 => Kind::Offer,
        5 => Kind::Ack,
        6 => Kind::Nak,
        _ => return None,
    };
    let is_usable = !answer.address.is_unspecified()
        && !answer.address.is_multicast()
        && !answer.address.is_broadcast();
    (answer.kind == Kind::Nak || is_usable).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const TRANSACTION: [u8; 4] = [1, 2, 3, 4];

    fn answer(kind: u8) -> Vec<u8> {
        let mut message = begin(TRANSACTION, MAC, Ipv4Addr::UNSPECIFIED, kind);
        message[0] = 2;
        message[16..20].copy_from_slice(&[10, 0, 0, 5]);
        option(&mut message, 1, &[255, 255, 254, 0]);
        option(&mut message, 3, &[10, 0, 0, 1]);
        option(&mut message, 6, &[10, 0, 0, 2, 10, 0, 0, 3]);
        option(&mut message, 51, &600_u32.to_be_bytes());
        option(&mut message, 54, &[10, 0, 0, 1]);
        finish(&mut message);
        message
    }

    #[test]
    fn an_offer_is_read_and_asked_for() {
        let offer = parse(&answer(2), TRANSACTION, MAC).unwrap();
        assert_eq!(offer.kind, Kind::Offer);
        assert_eq!(offer.address, Ipv4Addr::new(10, 0, 0, 5));
        assert_eq!((offer.prefix, offer.lease_seconds), (23, 600));
        assert_eq!(offer.name_servers.len(), 2);
        assert!(request(TRANSACTION, MAC, &offer).len() >= 300);
    }

    #[test]
    fn an_answer_to_somebody_else_is_passed_over() {
        assert_eq!(parse(&answer(2), [9; 4], MAC), None);
        assert_eq!(parse(&answer(2), TRANSACTION, [9; 6]), None);
        assert_eq!(parse(&discover(TRANSACTION, MAC), TRANSACTION, MAC), None);
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(options in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..500) {
            let mut message = answer(5);
            message.truncate(HEADER + 4);
            message.extend(options);
            let _ = parse(&message, TRANSACTION, MAC);
            message.truncate(cut);
            let _ = parse(&message, TRANSACTION, MAC);
        }
    }
}
