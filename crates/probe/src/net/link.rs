//! Links, addresses and routes by netlink (rtnetlink(7)), and the name servers' file.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_REPLACE: u16 = 0x100;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Attributes of addresses and routes.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;

/// Takes a link up.
///
/// # Errors
/// The kernel's.
pub fn up(index: u32) -> io::Result<()> {
    let mut body = vec![0, 0, 0, 0];
    body.extend(index.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    request(RTM_NEWLINK, 0, &body)
}

/// Gives a link an address.
///
/// # Errors
/// The kernel's.
pub fn add_address(index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut body = vec![AF_INET, prefix, 0, 0];
    body.extend(index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &address.octets());
    attribute(&mut body, IFA_ADDRESS, &address.octets());
    request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
}

/// Adds a default route; of several, the one with the lowest `priority` is taken.
///
/// # Errors
/// The kernel's.
pub fn add_default_route(index: u32, gateway: Ipv4Addr, priority: u32) -> io::Result<()> {
    // Family, lengths of destination and source, type of service, table main, protocol boot, scope universe, type unicast, flags.
    let mut body = vec![AF_INET, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    attribute(&mut body, RTA_GATEWAY, &gateway.octets());
    attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
    attribute(&mut body, RTA_PRIORITY, &priority.to_ne_bytes());
    request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
}

/// All addresses with the number of their link.
///
/// # Errors
/// The kernel's.
pub fn addresses() -> io::Result<Vec<(u32, IpAddr)>> {
    let socket = open()?;
    send(
        &socket,
        RTM_GETADDR,
        NLM_F_REQUEST | NLM_F_DUMP,
        &[0, 0, 0, 0, 0, 0, 0, 0],
    )?;
    let mut found = Vec::new();
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if length == 0 || parse_addresses(bytes, &mut found) {
            return Ok(found);
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // Protocol 0 is `NETLINK_ROUTE`.
        None,
    )?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(std::time::Duration::from_secs(5)),
    )?;
    Ok(socket)
}

fn send(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let mut message = u32::try_from(body.len() + 16)
        .unwrap_or_default()
        .to_ne_bytes()
        .to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    sendto(
        socket,
        &message,
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    Ok(())
}

fn request(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let socket = open()?;
    send(&socket, kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)?;
    let mut buffer = [0_u8; 4096];
    let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    match error_number(buffer.get(..length).unwrap_or_default()) {
        None | Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(-number)),
    }
}

/// The number in an acknowledgement; 0 is success.
fn error_number(bytes: &[u8]) -> Option<i32> {
    let (kind, body, _) = message(bytes)?;
    if kind != NLMSG_ERROR {
        return None;
    }
    Some(i32::from_ne_bytes(*body.first_chunk::<4>()?))
}

/// Kind, body and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (header, _) = bytes.split_first_chunk::<16>()?;
    let [a, b, c, d, low, high, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
    let body = bytes.get(16..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([low, high]), body, after))
}

/// Takes the addresses of one datagram; says whether the dump has ended.
fn parse_addresses(mut bytes: &[u8], found: &mut Vec<(u32, IpAddr)>) -> bool {
    while let Some((kind, body, after)) = message(bytes) {
        match kind {
            NLMSG_DONE | NLMSG_ERROR => return true,
            RTM_NEWADDR => found.extend(address(body)),
            _ => {}
        }
        bytes = after;
    }
    false
}

fn address(body: &[u8]) -> Option<(u32, IpAddr)> {
    let (header, mut rest) = body.split_first_chunk::<8>()?;
    let [family, _, _, _, a, b, c, d] = *header;
    let mut found = None;
    while let Some(([low, high, kind_low, kind_high], _)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*low, *high]));
        let Some(value) = rest.get(4..length) else {
            break;
        };
        let ip = match (
            family,
            <[u8; 4]>::try_from(value),
            <[u8; 16]>::try_from(value),
        ) {
            (AF_INET, Ok(four), _) => Some(IpAddr::V4(Ipv4Addr::from(four))),
            (AF_INET6, _, Ok(sixteen)) => Some(IpAddr::V6(Ipv6Addr::from(sixteen))),
            _ => None,
        };
        match u16::from_ne_bytes([*kind_low, *kind_high]) {
            // On a point-to-point link the other attribute is the peer's.
            IFA_LOCAL => found = ip.or(found),
            IFA_ADDRESS => found = found.or(ip),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((u32::from_ne_bytes([a, b, c, d]), found?))
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or_default();
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_loopback_address_is_among_the_machines_own() {
        let all = addresses().unwrap();
        assert!(all.iter().any(|(_, ip)| ip.is_loopback()), "{all:?}");
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_addresses(&bytes, &mut Vec::new());
            let _ = address(&bytes);
            let mut message = u32::try_from(bytes.len() + 16).unwrap().to_ne_bytes().to_vec();
            message.extend(RTM_NEWADDR.to_ne_bytes());
            message.extend([0; 10]);
            message.extend(&bytes);
            let _ = parse_addresses(&message, &mut Vec::new());
            let _ = error_number(&message);
        }
    }
}
