//! Boot entries: `EFI_LOAD_OPTION` (UEFI 2.10, section 3.1.3) and the device paths in them (section 10).

/// `LOAD_OPTION_ACTIVE`.
const ACTIVE: u32 = 1;

/// A boot entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOption {
    /// Whether it is tried.
    pub active: bool,
    /// For people.
    pub description: String,
    /// What it starts.
    pub path: Vec<Node>,
}

/// One node of a device path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A partition of a disk.
    HardDrive(HardDrive),
    /// A file in a file system, with backslashes.
    File(String),
    /// A network address to load from.
    Uri(String),
    /// Any other: type, sub-type, data.
    Other(u8, u8, Vec<u8>),
}

/// A partition of a disk, by what its table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardDrive {
    /// Number, from 1.
    pub number: u32,
    /// First logical block.
    pub start: u64,
    /// Logical blocks.
    pub blocks: u64,
    /// The partition's GUID as it stands in the table (GPT), or the disk's signature in the first four bytes (MBR).
    pub signature: [u8; 16],
    /// Whether the table is a GPT.
    pub is_gpt: bool,
}

impl LoadOption {
    /// Reads an entry; none where it is cut short.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (attributes, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (units, _) = rest.as_chunks::<2>();
        let end = units.iter().position(|unit| *unit == [0, 0])?;
        let description = utf16(units.get(..end)?);
        let path = rest
            .get((end + 1) * 2..)?
            .get(..usize::from(u16::from_le_bytes(*length)))?;
        Some(Self {
            active: u32::from_le_bytes(*attributes) & ACTIVE != 0,
            description,
            path: nodes(path),
        })
    }

    /// The entry as the firmware keeps it; none where it would be too long.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut path = Vec::new();
        for node in &self.path {
            let (kind, sub, data) = node.raw();
            path.extend([kind, sub]);
            path.extend(u16::try_from(data.len() + 4).ok()?.to_le_bytes());
            path.extend(data);
        }
        path.extend([0x7f, 0xff, 4, 0]);
        let mut bytes = u32::from(self.active).to_le_bytes().to_vec();
        bytes.extend(u16::try_from(path.len()).ok()?.to_le_bytes());
        bytes.extend(to_utf16(&self.description));
        bytes.extend(path);
        Some(bytes)
    }

    /// The partition that it starts from, where it starts from one.
    #[must_use]
    pub fn partition(&self) -> Option<&HardDrive> {
        self.path.iter().find_map(|node| match node {
            Node::HardDrive(partition) => Some(partition),
            _ => None,
        })
    }

    /// The description for people, with URIs cut as in [`Self::path_text`].
    #[must_use]
    pub fn description_text(&self) -> String {
        let words: Vec<String> = self
            .description
            .split(' ')
            .map(|word| {
                if word.contains("://") {
                    without_path(word)
                } else {
                    word.to_owned()
                }
            })
            .collect();
        words.join(" ")
    }

    /// The device path for people. URIs are cut to scheme and host: what follows may hold the token of a boot.
    #[must_use]
    pub fn path_text(&self) -> String {
        let texts: Vec<String> = self.path.iter().map(Node::text).collect();
        texts.join("/")
    }
}

impl Node {
    fn parse(kind: u8, sub: u8, data: &[u8]) -> Self {
        match (kind, sub) {
            (4, 1) if data.len() >= 38 => {
                let four = |at: usize| take::<4>(data, at).map(u32::from_le_bytes);
                let eight = |at: usize| take::<8>(data, at).map(u64::from_le_bytes);
                if let (Some(number), Some(start), Some(blocks), Some(signature)) =
                    (four(0), eight(4), eight(12), take::<16>(data, 20))
                {
                    return Self::HardDrive(HardDrive {
                        number,
                        start,
                        blocks,
                        signature,
                        is_gpt: data.get(36) == Some(&2),
                    });
                }
                Self::Other(kind, sub, data.to_vec())
            }
            (4, 4) => {
                let (units, _) = data.as_chunks::<2>();
                let end = units
                    .iter()
                    .position(|unit| *unit == [0, 0])
                    .unwrap_or(units.len());
                Self::File(utf16(units.get(..end).unwrap_or_default()))
            }
            (3, 24) => Self::Uri(String::from_utf8_lossy(data).into_owned()),
            _ => Self::Other(kind, sub, data.to_vec()),
        }
    }

    fn raw(&self) -> (u8, u8, Vec<u8>) {
        match self {
            Self::HardDrive(partition) => {
                let mut data = partition.number.to_le_bytes().to_vec();
                data.extend(partition.start.to_le_bytes());
                data.extend(partition.blocks.to_le_bytes());
                data.extend(partition.signature);
                let kind = if partition.is_gpt { 2 } else { 1 };
                data.extend([kind, kind]);
                (4, 1, data)
            }
            Self::File(path) => (4, 4, to_utf16(path)),
            Self::Uri(uri) => (3, 24, uri.clone().into_bytes()),
            Self::Other(kind, sub, data) => (*kind, *sub, data.clone()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::HardDrive(partition) => format!(
                "HD({},{},{:#x},{:#x})",
                partition.number,
                if partition.is_gpt { "GPT" } else { "MBR" },
                partition.start,
                partition.blocks
            ),
            Self::File(path) => path.clone(),
            Self::Uri(uri) => format!("Uri({})", without_path(uri)),
            Self::Other(1, 1, data) => match data[..] {
                [function, device] => format!("Pci({device:#x},{function:#x})"),
                _ => "Pci".into(),
            },
            Self::Other(2, 1, _) => "PciRoot".into(),
            Self::Other(3, 11, data) => {
                let mac: Vec<String> = data
                    .iter()
                    .take(6)
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                format!("MAC({})", mac.join(":"))
            }
            Self::Other(3, 12, _) => "IPv4".into(),
            Self::Other(3, 13, _) => "IPv6".into(),
            Self::Other(3, 18, _) => "Sata".into(),
            Self::Other(3, 23, _) => "NVMe".into(),
            Self::Other(kind, sub, _) => format!("Path({kind},{sub})"),
        }
    }
}

/// A URI's scheme and host, without who logs in there; `…` stands for the rest.
fn without_path(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return if uri.is_empty() { "" } else { "…" }.to_owned();
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let cut = if path.is_empty() { "" } else { "/…" };
    format!("{scheme}://{host}{cut}")
}

fn nodes(mut bytes: &[u8]) -> Vec<Node> {
    let mut found = Vec::new();
    while let [kind, sub, low, high, ..] = *bytes {
        let length = usize::from(u16::from_le_bytes([low, high]));
        let Some((node, rest)) = (length >= 4 && kind & 0x7f != 0x7f)
            .then(|| bytes.split_at_checked(length))
            .flatten()
        else {
            break;
        };
        found.push(Node::parse(kind, sub, node.get(4..).unwrap_or_default()));
        bytes = rest;
    }
    found
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn utf16(units: &[[u8; 2]]) -> String {
    char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit)))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

fn to_utf16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_of_ours_reads_back_as_it_was_written() {
        let option = LoadOption {
            active: true,
            description: "Corten: disk S4EV".into(),
            path: vec![
                Node::HardDrive(HardDrive {
                    number: 1,
                    start: 2048,
                    blocks: 204_800,
                    signature: [7; 16],
                    is_gpt: true,
                }),
                Node::File("\\EFI\\BOOT\\BOOTX64.EFI".into()),
            ],
        };
        let bytes = option.to_bytes().unwrap();
        assert_eq!(LoadOption::parse(&bytes), Some(option.clone()));
        assert_eq!(
            option.path_text(),
            "HD(1,GPT,0x800,0x32000)/\\EFI\\BOOT\\BOOTX64.EFI"
        );
    }

    #[test]
    fn a_uri_is_told_by_scheme_and_host_alone_and_kept_whole_for_the_firmware() {
        for (uri, told) in [
            (
                "http://10.77.0.1:8080/boot/s3cret/boot.efi",
                "http://10.77.0.1:8080/…",
            ),
            (
                "https://[fd00::1]:443?token=s3cret",
                "https://[fd00::1]:443/…",
            ),
            ("http://user:s3cret@boot.example/", "http://boot.example/…"),
            ("http://user:s3cret@boot.example", "http://boot.example"),
            ("http://boot.example\\s3cret", "http://boot.example/…"),
            ("s3cret/boot.efi", "…"),
            ("", ""),
        ] {
            let option = LoadOption {
                active: true,
                description: format!("from {uri}"),
                path: vec![Node::Uri(uri.into())],
            };
            assert_eq!(option.path_text(), format!("Uri({told})"));
            if uri.contains("://") {
                assert_eq!(option.description_text(), format!("from {told}"));
            }
            let bytes = option.to_bytes().unwrap();
            assert_eq!(LoadOption::parse(&bytes), Some(option));
        }
    }

    proptest! {
        #[test]
        fn no_entry_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(option) = LoadOption::parse(&bytes) {
                let _ = option.path_text();
                let _ = option.description_text();
                let _ = option.to_bytes();
            }
        }

        #[test]
        fn no_device_path_makes_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let length = u16::try_from(bytes.len()).unwrap();
            let mut entry = vec![1, 0, 0, 0];
            entry.extend(length.to_le_bytes());
            entry.extend([b'x', 0, 0, 0]);
            entry.append(&mut bytes);
            let read = LoadOption::parse(&entry).unwrap();
            let _ = read.path_text();
            prop_assert!(read.to_bytes().is_some());
        }
    }
}
