//! UEFI device paths (UEFI 2.10, section 10) of the devices that a machine has, and boot options made of them.

use crate::identity::MacAddress;

/// Type of each node that a boot option can pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BootClass {
    Hdd,
    Cd,
    Pxe,
    UefiHttp,
    Other,
}

/// A device path that grows node by node, from the PCI root on.
#[derive(Clone, Debug)]
pub(crate) struct DevicePath(Vec<u8>);

impl DevicePath {
    /// A function on the root bus.
    pub fn pci(device: u8, function: u8) -> Self {
        // PNP0A03, UID 0.
        let mut path = Self(Vec::new());
        path.node(2, 1, &[0xD0, 0x41, 0x03, 0x0A, 0, 0, 0, 0]);
        path.node(1, 1, &[function, device]);
        path
    }

    pub fn sata(mut self, port: u16) -> Self {
        let mut data = port.to_le_bytes().to_vec();
        data.extend([0xFF, 0xFF, 0, 0]);
        self.node(3, 18, &data);
        self
    }

    /// The first unit of a target.
    pub fn scsi(mut self, target: u8) -> Self {
        self.node(3, 2, &[target, 0, 0, 0]);
        self
    }

    /// The first namespace, without an EUI-64.
    pub fn nvme(mut self) -> Self {
        self.node(3, 23, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        self
    }

    /// IPv4 by DHCP through the card with this MAC.
    pub fn ipv4(mut self, mac: MacAddress) -> Self {
        let mut data = [0; 33];
        for (place, byte) in data.iter_mut().zip(mac.0) {
            *place = byte;
        }
        if let Some(kind) = data.last_mut() {
            *kind = 1;
        }
        self.node(3, 11, &data);
        self.node(3, 12, &[0; 23]);
        self
    }

    /// HTTP boot; an empty URI is asked of DHCP.
    pub fn uri(mut self, uri: &str) -> Self {
        self.node(3, 24, uri.as_bytes());
        self
    }

    fn node(&mut self, kind: u8, subtype: u8, data: &[u8]) {
        let length = u16::try_from(data.len() + 4).unwrap_or(u16::MAX);
        self.0.extend([kind, subtype]);
        self.0.extend(length.to_le_bytes());
        self.0.extend(data);
    }

    /// `EFI_LOAD_OPTION` with this path.
    pub fn load_option(mut self, description: &str) -> Vec<u8> {
        self.node(0x7F, 0xFF, &[]);
        let length = u16::try_from(self.0.len()).unwrap_or(u16::MAX);
        let mut option = 1_u32.to_le_bytes().to_vec();
        option.extend(length.to_le_bytes());
        option.extend(
            description
                .encode_utf16()
                .chain([0])
                .flat_map(u16::to_le_bytes),
        );
        option.extend(self.0);
        option
    }
}

/// The description and kind of a boot option that somebody wrote; none if it is no load option. `virtio` are the PCI devices of virtio disks, whose
/// paths end there.
pub(crate) fn read_option(option: &[u8], virtio: &[u8]) -> Option<(String, BootClass)> {
    let rest = option.get(6..)?;
    let description = super::store::from_utf16(rest);
    let mut class = BootClass::Other;
    for (kind, subtype, data) in nodes(option) {
        match (kind, subtype) {
            (1, 1) if data.get(1).is_some_and(|device| virtio.contains(device)) => {
                class = BootClass::Hdd;
            }
            // A namespace, a SATA drive, a partition.
            (3, 18 | 23) | (4, 1) => class = BootClass::Hdd,
            // The CD drive is SCSI's first target.
            (3, 2) if data.first().is_some_and(|target| *target != 0) => class = BootClass::Hdd,
            (3, 2) | (4, 2) => class = BootClass::Cd,
            (3, 12) => class = BootClass::Pxe,
            (3, 13) => class = BootClass::Other,
            (3, 24) => class = BootClass::UefiHttp,
            _ => {}
        }
    }
    Some((description, class))
}

/// Whether a boot option leads to a partition of a disk.
pub(crate) fn names_partition(option: &[u8]) -> bool {
    nodes(option).any(|(kind, subtype, _)| (kind, subtype) == (4, 1))
}

/// Type, subtype and data of the nodes of a boot option's path, up to the first that makes no sense.
fn nodes(option: &[u8]) -> impl Iterator<Item = (u8, u8, &[u8])> {
    let rest = option.get(6..).unwrap_or_default();
    let name_length = rest
        .chunks_exact(2)
        .position(|unit| unit == [0, 0])
        .map_or(rest.len(), |units| (units + 1) * 2);
    let mut path = rest.get(name_length..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [kind, subtype, low, high, ..] = path else {
            return None;
        };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let node = (*kind, *subtype, path.get(4..length)?);
        path = path.get(length..)?;
        (*kind != 0x7F).then_some(node)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_option_is_read_as_it_was_written() {
        let mac = MacAddress([0x52, 0x54, 0, 1, 2, 3]);
        let http = DevicePath::pci(3, 0).ipv4(mac).uri("http://10.0.0.1/a.efi");
        let http = http.load_option("HTTP");
        assert_eq!(
            read_option(&http, &[]),
            Some(("HTTP".to_owned(), BootClass::UefiHttp))
        );
        let cd = DevicePath::pci(1, 0).scsi(0).load_option("CD");
        assert_eq!(
            read_option(&cd, &[]),
            Some(("CD".to_owned(), BootClass::Cd))
        );
        let disk = DevicePath::pci(1, 0).scsi(1).load_option("Disk");
        assert_eq!(
            read_option(&disk, &[]),
            Some(("Disk".to_owned(), BootClass::Hdd))
        );
        let disk = DevicePath::pci(31, 2).sata(0).load_option("Disk");
        assert_eq!(
            read_option(&disk, &[]),
            Some(("Disk".to_owned(), BootClass::Hdd))
        );
        let disk = DevicePath::pci(4, 0).nvme().load_option("Disk");
        assert_eq!(
            read_option(&disk, &[]),
            Some(("Disk".to_owned(), BootClass::Hdd))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_option(&bytes, &[]);
        }
    }
}
