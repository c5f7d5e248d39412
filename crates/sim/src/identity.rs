//! Who a machine is: UUIDs, serial numbers and MACs, derived from its address, so that ten thousand identities take no memory.
//!
//! The BMC's MAC ends in the last three bytes of its IPv4 address: `127.18.0.7` has `xx:xx:xx:12:00:07`.

use std::fmt;
use std::net::Ipv4Addr;

use uuid::Uuid;

/// An IEEE 802 address; prints with colons and upper-case digits, as BMCs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{g:02X}")
    }
}

/// OUIs of the makers of network cards (Intel, Broadcom, Mellanox/NVIDIA), one for each port that a machine can have.
const PORT_OUIS: [[u8; 3]; 16] = [
    [0xB4, 0x96, 0x91],
    [0x3C, 0xFD, 0xFE],
    [0x00, 0x10, 0x18],
    [0xBC, 0x97, 0xE1],
    [0xB8, 0x3F, 0xD2],
    [0xA0, 0x88, 0xC2],
    [0x94, 0x6D, 0xAE],
    [0xE8, 0xEB, 0xD3],
    [0x9C, 0x63, 0xC0],
    [0x04, 0x3F, 0x72],
    [0x0C, 0x42, 0xA1],
    [0x10, 0x70, 0xFD],
    [0x1C, 0x34, 0xDA],
    [0x24, 0x8A, 0x07],
    [0x50, 0x6B, 0x4B],
    [0x6C, 0xB3, 0x11],
];

/// The seed of a machine's identity. A replaced machine has the next generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub ip: Ipv4Addr,
    pub oui: [u8; 3],
    pub generation: u16,
}

impl Identity {
    fn suffix(self) -> [u8; 3] {
        let [_, a, b, c] = self.ip.octets();
        let number = u32::from_be_bytes([0, a, b, c]);
        // Far from the neighbours, so that a replaced machine meets nobody's numbers.
        let number = number.wrapping_add(u32::from(self.generation).wrapping_mul(0x0050_0001));
        let [_, a, b, c] = number.to_be_bytes();
        [a, b, c]
    }

    /// A random-looking UUID that is always the same for the same machine and part. Not cryptographic: it is made for
    /// every part of every document that names one.
    fn hash(self, what: &str, index: usize) -> Uuid {
        let [a, b, c] = self.oui.map(u64::from);
        let mut state = u64::from(u32::from(self.ip)) << 32 | a << 24 | b << 16 | c << 8;
        state ^= u64::from(self.generation).wrapping_mul(0xA24B_AED4_963E_E407);
        let mut next = |word: u64| {
            // SplitMix64's finaliser.
            state = state.wrapping_add(word).wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            state ^= z;
            z ^ (z >> 31)
        };
        for byte in what.bytes() {
            next(u64::from(byte));
        }
        let high = next(index as u64);
        let low = next(!0);
        let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// MAC of the BMC's own port.
    pub fn bmc_mac(self) -> MacAddress {
        let [a, b, c] = self.oui;
        let [d, e, f] = self.suffix();
        MacAddress([a, b, c, d, e, f])
    }

    /// MAC of the `port`-th network port over all nodes of the machine.
    pub fn port_mac(self, port: usize) -> MacAddress {
        let [a, b, c] = PORT_OUIS
            .get(port % PORT_OUIS.len())
            .copied()
            .unwrap_or([2, 0, 0]);
        let [d, e, f] = self.suffix();
        MacAddress([a, b, c, d, e, f])
    }

    pub fn system_uuid(self, node: usize) -> Uuid {
        self.hash("system", node)
    }

    pub fn service_uuid(self) -> Uuid {
        self.hash("service", 0)
    }

    pub fn system_serial(self, node: usize) -> String {
        self.code("serial", node, 7)
    }

    pub fn chassis_serial(self) -> String {
        self.code("chassis", 0, 8)
    }

    /// Serial number of part number `index` of a kind (drive, DIMM, PSU…).
    pub fn part_serial(self, kind: &str, index: usize) -> String {
        self.code(kind, index, 12)
    }

    /// Letters and digits without those that people mix up.
    fn code(self, what: &str, index: usize, length: usize) -> String {
        const LETTERS: &[u8; 32] = b"0123456789BCDFGHJKLMNPQRSTVWXYZA";
        self.hash(what, index)
            .as_bytes()
            .iter()
            // The last bytes first: they have no fixed bits.
            .rev()
            .take(length)
            .map(|byte| {
                char::from(
                    LETTERS
                        .get(usize::from(*byte) % LETTERS.len())
                        .copied()
                        .unwrap_or(b'0'),
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(ip: [u8; 4]) -> Identity {
        Identity {
            ip: ip.into(),
            oui: [0xD0, 0x94, 0x66],
            generation: 0,
        }
    }

    #[test]
    fn the_bmc_mac_ends_in_the_address() {
        assert_eq!(
            identity([127, 18, 0, 7]).bmc_mac().to_string(),
            "D0:94:66:12:00:07"
        );
    }

    #[test]
    fn neighbours_and_successors_share_nothing() {
        let (one, two) = (identity([127, 18, 0, 7]), identity([127, 18, 0, 8]));
        let next = Identity {
            generation: 1,
            ..one
        };
        for (a, b) in [(one, two), (one, next)] {
            assert_ne!(a.system_uuid(0), b.system_uuid(0));
            assert_ne!(a.system_serial(0), b.system_serial(0));
            assert_ne!(a.port_mac(3), b.port_mac(3));
            assert_ne!(a.part_serial("drive", 0), b.part_serial("drive", 0));
        }
    }
}
