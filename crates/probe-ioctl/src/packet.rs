//! Packet sockets (packet(7)) and what a NIC's driver says of itself (`linux/ethtool.h`).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 3;
const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;

/// A socket for whole Ethernet frames of one type on one link. It hears `multicast` too, where given; `send` goes out on that link.
///
/// # Errors
/// The kernel's, such as `EPERM` without `CAP_NET_RAW`.
pub fn packet_socket(
    interface: u32,
    ethertype: u16,
    multicast: Option<[u8; 6]>,
) -> io::Result<OwnedFd> {
    let index = libc::c_int::try_from(interface)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: no pointer is passed.
    let raw = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::c_int::from(ethertype.to_be()),
        )
    };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address lives across the call and its own size stands beside it.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    if let Some([a, b, c, d, e, f]) = multicast {
        let membership = libc::packet_mreq {
            mr_ifindex: index,
            mr_type: libc::PACKET_MR_MULTICAST as libc::c_ushort,
            mr_alen: 6,
            mr_address: [a, b, c, d, e, f, 0, 0],
        };
        // SAFETY: the membership lives across the call and its own size stands beside it.
        let joined = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const membership).cast(),
                size_of::<libc::packet_mreq>() as libc::socklen_t,
            )
        };
        if joined < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(socket)
}

/// What a NIC's driver says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverInfo {
    /// Name of the driver.
    pub driver: String,
    /// Version of the NIC's firmware.
    pub firmware: String,
    /// Where it sits, such as `0000:00:03.0`.
    pub bus: String,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct RawDriverInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rom: [u8; 32],
    rest: [u8; 32],
}

const _: () = assert!(size_of::<RawDriverInfo>() == 196);

#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    data: *mut libc::c_void,
    rest: [u8; 16],
}

/// Most words that the kernel has for one set of link modes: their number is a signed byte.
const MOST_WORDS: usize = 127;

/// `struct ethtool_link_settings` with room for its three sets of link modes: supported, advertised, and the partner's.
#[repr(C)]
struct RawLinkSettings {
    command: u32,
    speed: u32,
    before: [u8; 7],
    words: i8,
    after: [u8; 4],
    reserved: [u32; 7],
    modes: [u32; 3 * MOST_WORDS],
}

const _: () = assert!(size_of::<RawLinkSettings>() == 48 + 12 * MOST_WORDS);

/// What the kernel reads and fills for a command of ethtool's: `repr(C)`, beginning with the command, and as large as the command's structure.
trait Answer {}
impl Answer for RawDriverInfo {}
impl Answer for RawLinkSettings {}

fn ask<T: Answer>(interface: &str, answer: &mut T) -> io::Result<()> {
    let mut name = [0_u8; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from;
    }
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))
        .or_else(|_| std::net::UdpSocket::bind(("0.0.0.0", 0)))?;
    let mut request = InterfaceRequest {
        name,
        data: std::ptr::from_mut(answer).cast(),
        rest: [0; 16],
    };
    // SAFETY: the kernel reads the request, at most 40 bytes, and fills `answer`, whose size is the command's; both live across the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Which link modes a NIC supports, as numbers of `ETHTOOL_LINK_MODE_…_BIT`.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` for a link that has none.
pub fn link_modes(interface: &str) -> io::Result<Vec<u32>> {
    let mut settings = RawLinkSettings {
        command: ETHTOOL_GLINKSETTINGS,
        speed: 0,
        before: [0; 7],
        words: 0,
        after: [0; 4],
        reserved: [0; 7],
        modes: [0; 3 * MOST_WORDS],
    };
    // Asked without room for any, it says how many words it has, as a negative number.
    ask(interface, &mut settings)?;
    settings.command = ETHTOOL_GLINKSETTINGS;
    settings.words = settings.words.checked_neg().unwrap_or(0).max(0);
    ask(interface, &mut settings)?;
    let words = usize::try_from(settings.words).unwrap_or(0);
    let supported = settings.modes.iter().take(words).zip(0_u32..);
    Ok(supported
        .flat_map(|(word, index)| {
            let bits = (0..32).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| index * 32 + bit)
        })
        .collect())
}

/// Asks a NIC's driver by the link's name.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` for a link without a driver of that kind.
pub fn driver_info(interface: &str) -> io::Result<DriverInfo> {
    let mut info = RawDriverInfo {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        firmware: [0; 32],
        bus: [0; 32],
        rom: [0; 32],
        rest: [0; 32],
    };
    ask(interface, &mut info)?;
    Ok(DriverInfo {
        driver: text(&info.driver),
        firmware: text(&info.firmware),
        bus: text(&info.bus),
    })
}

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default())
        .trim()
        .to_owned()
}
