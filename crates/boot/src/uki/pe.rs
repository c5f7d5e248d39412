//! As much of PE (Portable Executable; Microsoft's "PE Format") as appending sections takes.

/// Machine type of x86-64.
pub const AMD64: u16 = 0x8664;
/// Machine type of AArch64.
pub const ARM64: u16 = 0xaa64;

const SECTION_HEADER: usize = 40;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const DATA: u32 = 0x4000_0040;
/// Page size that sections are laid out by in memory, whatever the stub's own alignment: the kernel is started from its section.
const PAGE: u64 = 4096;
/// Most sections that are looked at.
const MAX_SECTIONS: u16 = 96;

/// Why a file is no PE file that sections can be appended to. Trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// It does not begin with `MZ`, or has no `PE` header.
    #[error("it does not begin as an EFI executable does")]
    Magic,
    /// It ends before its headers do.
    #[error("it ends within its headers")]
    Truncated,
    /// It is no 64-bit one.
    #[error("it is not a 64-bit executable (PE32+)")]
    Format,
    /// It has more sections than any stub.
    #[error("it has {0} sections")]
    Sections(u16),
    /// Its alignment is not a power of two.
    #[error("its alignment is {0}")]
    Alignment(u32),
    /// There is no room for another section header.
    #[error("its headers have no room for another section")]
    NoRoom,
    /// It would be longer than the format allows.
    #[error("it would be longer than 4 GiB")]
    TooLong,
}

/// A section, as its header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Name, without NULs.
    pub name: String,
    /// Address in memory, from the image's base.
    pub address: u32,
    /// Length in memory.
    pub size: u32,
    /// Offset in the file.
    pub offset: u32,
    /// Length in the file.
    pub length: u32,
}

/// A PE file: its first bytes in memory, and how long it is with what is appended.
#[derive(Debug, Clone)]
pub struct Image {
    bytes: Vec<u8>,
    end: u64,
    header: usize,
    table: usize,
    machine: u16,
    file_alignment: u64,
    section_alignment: u64,
    headers: usize,
    sections: Vec<Section>,
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PeError> {
    let raw = bytes
        .get(at..at.saturating_add(2))
        .and_then(|raw| raw.first_chunk())
        .ok_or(PeError::Truncated)?;
    Ok(u16::from_le_bytes(*raw))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, PeError> {
    let raw = bytes
        .get(at..at.saturating_add(4))
        .and_then(|raw| raw.first_chunk())
        .ok_or(PeError::Truncated)?;
    Ok(u32::from_le_bytes(*raw))
}

fn usize_at(bytes: &[u8], at: usize) -> Result<usize, PeError> {
    usize::try_from(u32_at(bytes, at)?).map_err(|_| PeError::TooLong)
}

/// Machine type of an EFI executable, by its first bytes (some kilobytes are enough).
///
/// # Errors
/// It is none.
pub fn machine(start: &[u8]) -> Result<u16, PeError> {
    u16_at(start, header(start)?.saturating_add(4))
}

/// Offset of the `PE` header.
fn header(bytes: &[u8]) -> Result<usize, PeError> {
    if !bytes.starts_with(b"MZ") {
        return Err(PeError::Magic);
    }
    let header = usize_at(bytes, 0x3c)?;
    if bytes
        .get(header..header.saturating_add(4))
        .ok_or(PeError::Truncated)?
        != b"PE\0\0"
    {
        return Err(PeError::Magic);
    }
    Ok(header)
}

impl Image {
    /// Reads the headers of a file, or of its first bytes as far as the headers go, and takes a copy.
    ///
    /// # Errors
    /// It is no 64-bit PE file.
    pub fn read(bytes: &[u8]) -> Result<Self, PeError> {
        let header = header(bytes)?;
        let machine = u16_at(bytes, header.saturating_add(4))?;
        let count = u16_at(bytes, header.saturating_add(6))?;
        if count > MAX_SECTIONS {
            return Err(PeError::Sections(count));
        }
        let optional = header.saturating_add(24);
        if u16_at(bytes, optional)? != 0x20b {
            return Err(PeError::Format);
        }
        let alignment = |at| match u32_at(bytes, at)? {
            alignment if alignment.is_power_of_two() && alignment <= 1 << 20 => {
                Ok(u64::from(alignment))
            }
            alignment => Err(PeError::Alignment(alignment)),
        };
        let section_alignment = alignment(optional + 32)?;
        let file_alignment = alignment(optional + 36)?;
        let headers = usize_at(bytes, optional + 60)?;
        let table = optional + usize::from(u16_at(bytes, header + 20)?);
        let mut sections = Vec::new();
        for number in 0..usize::from(count) {
            let at = table + number * SECTION_HEADER;
            let name = bytes.get(at..at + 8).ok_or(PeError::Truncated)?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            sections.push(Section {
                name: String::from_utf8_lossy(name).into_owned(),
                size: u32_at(bytes, at + 8)?,
                address: u32_at(bytes, at + 12)?,
                length: u32_at(bytes, at + 16)?,
                offset: u32_at(bytes, at + 20)?,
            });
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            end: bytes.len() as u64,
            header,
            table,
            machine,
            file_alignment,
            section_alignment,
            headers,
            sections,
        })
    }

    /// Machine type.
    #[must_use]
    pub fn machine(&self) -> u16 {
        self.machine
    }

    /// The sections, in the order of their headers.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Appends a section of `length` bytes, and says at which offset of the file they belong.
    ///
    /// # Errors
    /// There is no room for its header, or the file would be too long.
    pub fn append(&mut self, name: &str, length: u64) -> Result<u64, PeError> {
        let at = self.table + self.sections.len() * SECTION_HEADER;
        let first = self
            .sections
            .iter()
            .filter(|section| section.length > 0)
            .map(|section| section.offset)
            .min()
            .unwrap_or(0);
        let first = usize::try_from(first).map_err(|_| PeError::TooLong)?;
        if at + SECTION_HEADER > self.headers.min(first) {
            return Err(PeError::NoRoom);
        }
        let too_long = |_| PeError::TooLong;
        let end = self
            .sections
            .iter()
            .map(|section| u64::from(section.address) + u64::from(section.size))
            .max()
            .unwrap_or(0);
        let address = u32::try_from(end.next_multiple_of(self.section_alignment.max(PAGE)))
            .map_err(too_long)?;
        let size = u32::try_from(length).map_err(too_long)?;
        let begin = self.end.next_multiple_of(self.file_alignment);
        self.end = begin
            .saturating_add(length)
            .next_multiple_of(self.file_alignment);
        let offset = u32::try_from(begin).map_err(too_long)?;
        let length = u32::try_from(self.end).map_err(too_long)? - offset;

        let mut entry = [0u8; SECTION_HEADER];
        for (slot, byte) in entry.iter_mut().zip(name.bytes().take(8)) {
            *slot = byte;
        }
        self.put(at, &entry)?;
        for (field, value) in [
            (8, size),
            (12, address),
            (16, length),
            (20, offset),
            (36, DATA),
        ] {
            self.put(at + field, &value.to_le_bytes())?;
        }
        self.sections.push(Section {
            name: name.to_owned(),
            address,
            size,
            offset,
            length,
        });
        let count = u16::try_from(self.sections.len()).map_err(|_| PeError::NoRoom)?;
        self.put(self.header + 6, &count.to_le_bytes())?;
        let optional = self.header + 24;
        let image = u32::try_from(
            (u64::from(address) + u64::from(size)).next_multiple_of(self.section_alignment),
        )
        .map_err(too_long)?;
        self.put(optional + 56, &image.to_le_bytes())?;
        let data = u32_at(&self.bytes, optional + 8)?.saturating_add(length);
        self.put(optional + 8, &data.to_le_bytes())?;
        // The checksum is only looked at for drivers of Windows; none is better than a wrong one.
        self.put(optional + 64, &0u32.to_le_bytes())?;
        Ok(u64::from(offset))
    }

    /// Length of the file, with all that is appended.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The bytes that were read, with the headers of all sections.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn put(&mut self, at: usize, value: &[u8]) -> Result<(), PeError> {
        self.bytes
            .get_mut(at..at.saturating_add(value.len()))
            .ok_or(PeError::Truncated)?
            .copy_from_slice(value);
        Ok(())
    }
}
