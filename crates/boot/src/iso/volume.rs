//! A volume with one folder (ECMA-119), its names also as Joliet has them, since `meta-data` is no name of ISO 9660's.

use crate::piece::{self, Piece};

/// Size of a sector, in bytes.
const SECTOR: usize = 2048;
/// Largest image, in bytes: virtual media of BMCs end there.
const LARGEST: u64 = 2 << 30;

/// Why an image cannot be made. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    /// It would be longer than 2 GiB.
    #[error("{0} bytes are too long for an ISO image")]
    TooLong(u64),
    /// The FAT file system in it.
    #[error("the EFI system partition cannot be written")]
    FileSystem(#[source] std::io::Error),
    /// The EFI file is not in one piece in the FAT file system.
    #[error("the EFI file is not in one piece")]
    Fragmented,
    /// It has not even the headers of an EFI file.
    #[error("{0} bytes are no EFI file")]
    TooShort(u64),
}

/// A file of the volume.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) contents: Vec<Piece>,
}

/// Both byte orders, as ECMA-119 has numbers.
fn both32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    let (little, big) = bytes.split_at_mut(4);
    little.copy_from_slice(&value.to_le_bytes());
    big.copy_from_slice(&value.to_be_bytes());
    bytes
}

fn both16(value: u16) -> [u8; 4] {
    let mut bytes = [0; 4];
    let (little, big) = bytes.split_at_mut(2);
    little.copy_from_slice(&value.to_le_bytes());
    big.copy_from_slice(&value.to_be_bytes());
    bytes
}

/// Bytes that grow field by field.
#[derive(Default)]
struct Block(Vec<u8>);

impl Block {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Fills up to `end`.
    fn fill(&mut self, end: usize, with: u8) -> &mut Self {
        self.0.resize(end, with);
        self
    }
}

/// The two trees of names: ECMA-119's own, and Joliet's in UCS-2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Primary,
    Joliet,
}

impl Names {
    /// A file's identifier.
    fn of(self, name: &str) -> Vec<u8> {
        match self {
            Names::Joliet => ucs2(name),
            Names::Primary => {
                let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
                let clean = |text: &str, most: usize| -> String {
                    text.chars()
                        .take(most)
                        .map(|letter| {
                            if letter.is_ascii_alphanumeric() {
                                letter.to_ascii_uppercase()
                            } else {
                                '_'
                            }
                        })
                        .collect()
                };
                format!("{}.{};1", clean(stem, 8), clean(extension, 3)).into_bytes()
            }
        }
    }

    fn text(self, text: &str, length: usize) -> Vec<u8> {
        let (mut bytes, space): (Vec<u8>, &[u8]) = match self {
            Names::Primary => (text.as_bytes().to_vec(), b" "),
            Names::Joliet => (ucs2(text), b"\0 "),
        };
        bytes.truncate(length);
        while bytes.len() < length {
            bytes.extend_from_slice(
                space
                    .get(..space.len().min(length - bytes.len()))
                    .unwrap_or_default(),
            );
        }
        bytes
    }
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Where everything is, in sectors.
struct Layout {
    total: u32,
    paths: u32,
    root: u32,
    joliet_root: u32,
    catalogue: u32,
    files: Vec<(u32, u32)>,
}

/// Lays the volume out; `boot` is the number of the file that firmware boots, which must be the last. Returns the pieces, and the offset of the last file.
pub(super) fn write(
    label: &str,
    files: Vec<Entry>,
    boot: Option<usize>,
    time: u32,
) -> Result<(Vec<Piece>, u64), IsoError> {
    let lengths = files.iter().map(|file| piece::length(&file.contents));
    let lengths: Vec<u64> = lengths.collect();
    let sum: u64 = lengths.iter().sum();
    let too_long = || IsoError::TooLong(sum);
    if sum > LARGEST {
        return Err(too_long());
    }
    // 16 system area, then the descriptors (primary, boot record, Joliet, terminator), four path tables, two folders, the boot catalogue, the files.
    let paths = 20;
    let (root, joliet_root, catalogue) = (paths + 4, paths + 5, paths + 6);
    let mut next = catalogue + 1;
    let mut places = Vec::with_capacity(files.len());
    for length in lengths {
        let length = u32::try_from(length).map_err(|_| too_long())?;
        places.push((next, length));
        next += length.div_ceil(SECTOR as u32);
    }
    let layout = Layout {
        total: next,
        paths,
        root,
        joliet_root,
        catalogue,
        files: places,
    };
    let booted = boot.and_then(|number| layout.files.get(number).copied());

    let mut image = Block::default();
    if let Some((start, length)) = booted {
        partition_table(&mut image, start, length);
    }
    image.fill(16 * SECTOR, 0);
    descriptor(&mut image, Names::Primary, label, &layout, time);
    // Without boot record, a second copy of the primary descriptor takes its place: it is allowed, and the layout stays the same.
    match booted {
        Some(_) => boot_record(&mut image, layout.catalogue),
        None => descriptor(&mut image, Names::Primary, label, &layout, time),
    }
    descriptor(&mut image, Names::Joliet, label, &layout, time);
    let end = image.0.len() + SECTOR;
    image.put(b"\xffCD001\x01").fill(end, 0);
    for root in [layout.root, layout.joliet_root] {
        for big in [false, true] {
            path_table(&mut image, root, big);
        }
    }
    folder(
        &mut image,
        Names::Primary,
        layout.root,
        &files,
        &layout,
        time,
    );
    folder(
        &mut image,
        Names::Joliet,
        layout.joliet_root,
        &files,
        &layout,
        time,
    );
    let end = image.0.len() + SECTOR;
    if let Some((start, length)) = booted {
        boot_catalogue(&mut image, start, length);
    }
    image.fill(end, 0);
    let mut end = image.0.len() as u64;
    let mut last = 0;
    let mut pieces = vec![Piece::from(image.0)];
    for file in files {
        last = end;
        let full = end + piece::length(&file.contents);
        end = full.next_multiple_of(SECTOR as u64);
        pieces.extend(file.contents);
        piece::pad(&mut pieces, full, end);
    }
    Ok((pieces, last))
}

/// A master boot record whose partition is the boot image, for USB sticks.
fn partition_table(image: &mut Block, start: u32, length: u32) {
    /// Type of an EFI system partition.
    const EFI_SYSTEM: u8 = 0xef;
    image.fill(446, 0);
    image
        .put(&[0, 0xff, 0xff, 0xff, EFI_SYSTEM, 0xff, 0xff, 0xff])
        .put(&(start * 4).to_le_bytes())
        .put(&length.div_ceil(512).to_le_bytes());
    image.fill(510, 0).put(&[0x55, 0xaa]);
}

fn boot_record(image: &mut Block, catalogue: u32) {
    let end = image.0.len() + SECTOR;
    image
        .put(b"\0CD001\x01")
        .put(b"EL TORITO SPECIFICATION")
        .fill(end - SECTOR + 0x47, 0)
        .put(&catalogue.to_le_bytes())
        .fill(end, 0);
}

fn boot_catalogue(image: &mut Block, start: u32, length: u32) {
    /// Platform UEFI.
    const UEFI: u8 = 0xef;
    let mut validation = Block::default();
    validation.put(&[1, UEFI, 0, 0]).put(b"Corten").fill(28, 0);
    let words = validation.0.chunks(2).chain([[0x55u8, 0xaa].as_slice()]);
    let sum = words.fold(0u16, |sum, word| {
        sum.wrapping_add(
            word.iter()
                .rev()
                .fold(0u16, |value, byte| (value << 8) | u16::from(*byte)),
        )
    });
    validation
        .put(&sum.wrapping_neg().to_le_bytes())
        .put(&[0x55, 0xaa]);
    // A length that does not fit is given as 1: firmware then takes all up to the end of the medium (UEFI 13.3.2.1).
    let count = u16::try_from(length.div_ceil(512)).unwrap_or(1);
    image
        .put(&validation.0)
        .put(&[0x88, 0, 0, 0, 0, 0])
        .put(&count.to_le_bytes())
        .put(&start.to_le_bytes());
}

fn path_table(image: &mut Block, root: u32, big: bool) {
    let end = image.0.len() + SECTOR;
    let (extent, parent) = if big {
        (root.to_be_bytes(), 1u16.to_be_bytes())
    } else {
        (root.to_le_bytes(), 1u16.to_le_bytes())
    };
    image
        .put(&[1, 0])
        .put(&extent)
        .put(&parent)
        .put(&[0, 0])
        .fill(end, 0);
}

fn civil(time: u32) -> jiff::civil::DateTime {
    let instant =
        jiff::Timestamp::from_second(i64::from(time)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::tz::Offset::UTC.to_datetime(instant)
}

/// A folder's entry (9.1).
fn record(place: (u32, u32), directory: bool, identifier: &[u8], time: u32) -> Vec<u8> {
    let at = civil(time);
    let small = |value: i8| u8::try_from(value).unwrap_or(0);
    let year = u8::try_from(i32::from(at.year()) - 1900).unwrap_or(0);
    let mut record = Block::default();
    record
        .put(&[0, 0])
        .put(&both32(place.0))
        .put(&both32(place.1));
    record.put(&[
        year,
        small(at.month()),
        small(at.day()),
        small(at.hour()),
        small(at.minute()),
        small(at.second()),
        0,
    ]);
    record
        .put(&[if directory { 2 } else { 0 }, 0, 0])
        .put(&both16(1));
    record
        .put(&[u8::try_from(identifier.len()).unwrap_or(0)])
        .put(identifier);
    let length = record.0.len().next_multiple_of(2);
    record.fill(length, 0);
    if let Some(first) = record.0.first_mut() {
        *first = u8::try_from(length).unwrap_or(0);
    }
    record.0
}

fn folder(image: &mut Block, names: Names, own: u32, files: &[Entry], layout: &Layout, time: u32) {
    let end = image.0.len() + SECTOR;
    for identifier in [[0u8], [1u8]] {
        image.put(&record((own, SECTOR as u32), true, &identifier, time));
    }
    let mut records: Vec<(Vec<u8>, (u32, u32))> = files
        .iter()
        .zip(&layout.files)
        .map(|(file, place)| (names.of(file.name), *place))
        .collect();
    // Entries stand in the order of their identifiers (9.3).
    records.sort();
    for (identifier, place) in records {
        image.put(&record(place, false, &identifier, time));
    }
    image.fill(end, 0);
}

/// A volume descriptor (8.4, 8.5).
fn descriptor(image: &mut Block, names: Names, label: &str, layout: &Layout, time: u32) {
    let begin = image.0.len();
    let root = if names == Names::Joliet {
        layout.joliet_root
    } else {
        layout.root
    };
    let paths = if names == Names::Joliet {
        layout.paths + 2
    } else {
        layout.paths
    };
    image
        .put(&[if names == Names::Joliet { 2 } else { 1 }])
        .put(b"CD001")
        .put(&[1, 0]);
    image
        .put(&names.text("", 32))
        .put(&names.text(label, 32))
        .fill(begin + 80, 0)
        .put(&both32(layout.total));
    if names == Names::Joliet {
        // UCS-2 level 3.
        image.put(b"%/E");
    }
    image
        .fill(begin + 120, 0)
        .put(&both16(1))
        .put(&both16(1))
        .put(&both16(SECTOR as u16))
        .put(&both32(10));
    image
        .put(&paths.to_le_bytes())
        .put(&[0; 4])
        .put(&(paths + 1).to_be_bytes())
        .put(&[0; 4]);
    image.put(&record((root, SECTOR as u32), true, &[0], time));
    for length in [128, 128, 128] {
        image.put(&names.text("", length));
    }
    image.put(&names.text("CORTEN", 128));
    for length in [37, 37, 37] {
        image.put(&names.text("", length));
    }
    let at = civil(time);
    let stamp = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}00",
        at.year(),
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    for _ in 0..2 {
        image.put(stamp.as_bytes()).put(&[0]);
    }
    for _ in 0..2 {
        image.put(b"0000000000000000\0");
    }
    image.put(&[1]).fill(begin + SECTOR, 0);
}
