//! SMBIOS tables (DSP0134), read structure by structure.
//!
//! A parser of our own, since vendors' tables hold strings that are no UTF-8, string numbers without strings and lengths that are too short: each must
//! cost one property, where the crates lose the structure or the rest of the table.

use super::root::Root;
use corten_wire::registration::{
    BiosInformation, BoardInformation, ChassisInformation, MemoryModule, SystemInfo,
    SystemInformation,
};

/// What we take from the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Type 0.
    pub bios: BiosInformation,
    /// Type 1.
    pub system: SystemInformation,
    /// Type 2; the first.
    pub board: BoardInformation,
    /// Type 3; the first.
    pub chassis: ChassisInformation,
    /// Type 4; those in place.
    pub processors: Vec<Processor>,
    /// Type 17; those in place.
    pub memory: Vec<MemoryModule>,
}

/// SMBIOS type 4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    /// Socket.
    pub socket: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub version: String,
    /// Highest speed in MHz.
    pub max_speed_mhz: u32,
    /// Cores.
    pub cores: u32,
    /// Threads.
    pub threads: u32,
}

impl Tables {
    /// For the registration.
    #[must_use]
    pub fn into_info(self) -> SystemInfo {
        SystemInfo {
            bios_information: self.bios,
            system_information: self.system,
            board_information: self.board,
            chassis_information: self.chassis,
        }
    }
}

/// Reads the machine's tables; what they do not say is taken from `/sys/class/dmi/id`.
#[must_use]
pub fn read(root: &Root) -> Tables {
    let mut tables = root
        .bytes("sys/firmware/dmi/tables/DMI")
        .map(|bytes| parse(&bytes))
        .unwrap_or_default();
    // The kernel knows the version, on which the order of the UUID's bytes depends.
    if let Some(uuid) = root.text("sys/class/dmi/id/product_uuid") {
        tables.system.uuid = uuid.to_ascii_lowercase();
    }
    let fill = |property: &mut String, name: &str| {
        if property.is_empty()
            && let Some(text) = root.text(format!("sys/class/dmi/id/{name}"))
        {
            *property = text;
        }
    };
    fill(&mut tables.system.manufacturer, "sys_vendor");
    fill(&mut tables.system.product_name, "product_name");
    fill(&mut tables.system.serial_number, "product_serial");
    fill(&mut tables.board.serial_number, "board_serial");
    fill(&mut tables.chassis.serial_number, "chassis_serial");
    fill(&mut tables.bios.vendor, "bios_vendor");
    fill(&mut tables.bios.version, "bios_version");
    tables
}

/// One structure: its formatted part and its strings.
struct Structure<'a> {
    formatted: &'a [u8],
    strings: Vec<String>,
}

impl Structure<'_> {
    fn byte(&self, offset: usize) -> u8 {
        self.formatted.get(offset).copied().unwrap_or_default()
    }

    fn word(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.byte(offset), self.byte(offset + 1)])
    }

    fn double_word(&self, offset: usize) -> u32 {
        u32::from(self.word(offset)) | u32::from(self.word(offset + 2)) << 16
    }

    /// The string whose number stands at `offset`; empty for none, and for what vendors put there instead.
    fn string(&self, offset: usize) -> String {
        let text = usize::from(self.byte(offset))
            .checked_sub(1)
            .and_then(|index| self.strings.get(index))
            .map(|text| text.trim())
            .unwrap_or_default();
        let hollow = ["not specified", "to be filled by o.e.m.", "default string"];
        if hollow.contains(&text.to_ascii_lowercase().as_str()) {
            return String::new();
        }
        text.to_owned()
    }
}

/// Reads a table. Whatever it holds, what can be understood is returned.
#[must_use]
pub fn parse(table: &[u8]) -> Tables {
    let mut tables = Tables::default();
    let mut rest = table;
    while let [kind, length, ..] = *rest {
        let length = usize::from(length);
        let Some((formatted, after)) = (length >= 4)
            .then(|| rest.split_at_checked(length))
            .flatten()
        else {
            break;
        };
        let (strings, after) = strings(after);
        rest = after;
        take(&mut tables, kind, &Structure { formatted, strings });
        if kind == 127 {
            break;
        }
    }
    tables
}

/// The strings behind a structure, up to the two zeros, and what follows them.
fn strings(mut bytes: &[u8]) -> (Vec<String>, &[u8]) {
    let mut found = Vec::new();
    if let [0, 0, after @ ..] = bytes {
        return (found, after);
    }
    while let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        let (text, after) = bytes.split_at(end);
        let after = after.get(1..).unwrap_or_default();
        if text.is_empty() {
            return (found, after);
        }
        found.push(String::from_utf8_lossy(text).into_owned());
        bytes = after;
    }
    (found, &[])
}

fn take(tables: &mut Tables, kind: u8, from: &Structure<'_>) {
    match kind {
        0 => {
            tables.bios = BiosInformation {
                vendor: from.string(4),
                version: from.string(5),
                date: from.string(8),
            };
        }
        1 => {
            tables.system = SystemInformation {
                manufacturer: from.string(4),
                product_name: from.string(5),
                version: from.string(6),
                serial_number: from.string(7),
                uuid: from.formatted.get(8..24).map(uuid).unwrap_or_default(),
                sku_number: from.string(25),
                family: from.string(26),
            };
        }
        2 if tables.board == BoardInformation::default() => {
            tables.board = BoardInformation {
                manufacturer: from.string(4),
                product: from.string(5),
                version: from.string(6),
                serial_number: from.string(7),
                asset_tag: from.string(8),
            };
        }
        3 if tables.chassis == ChassisInformation::default() => {
            tables.chassis = ChassisInformation {
                manufacturer: from.string(4),
                chassis_type: from.byte(5) & 0x7f,
                version: from.string(6),
                serial_number: from.string(7),
                asset_tag: from.string(8),
            };
        }
        // Bit 6 of the status: the socket is populated.
        4 if from.byte(24) & 0x40 != 0 => tables.processors.push(Processor {
            socket: from.string(4),
            manufacturer: from.string(7),
            version: from.string(16),
            max_speed_mhz: u32::from(from.word(20)),
            cores: count(from.byte(35), from.word(42)),
            threads: count(from.byte(37), from.word(46)),
        }),
        17 => tables.memory.extend(module(from)),
        _ => {}
    }
}

/// A count that stands in a byte, and in a word where the byte is full.
fn count(byte: u8, word: u16) -> u32 {
    if byte == 0xff && word > 0 {
        u32::from(word)
    } else {
        u32::from(byte)
    }
}

fn module(from: &Structure<'_>) -> Option<MemoryModule> {
    let size_bytes = match from.word(12) {
        0 | 0xffff => return None,
        // The real size stands elsewhere, in MiB.
        0x7fff => u64::from(from.double_word(28) & 0x7fff_ffff) << 20,
        kib if kib & 0x8000 != 0 => u64::from(kib & 0x7fff) << 10,
        mib => u64::from(mib) << 20,
    };
    let speed = |word: u16, double_word: u32| match (word, double_word) {
        (0, _) => String::new(),
        (0xffff, full) => format!("{full} MT/s"),
        (word, _) => format!("{word} MT/s"),
    };
    let voltage = |millivolts: u16| match millivolts {
        0 => String::new(),
        known => format!("{:.2} V", f32::from(known) / 1000.0),
    };
    Some(MemoryModule {
        size_bytes,
        device_set: match from.byte(15) {
            0 | 0xff => String::new(),
            number => number.to_string(),
        },
        device_locator: from.string(16),
        bank_locator: from.string(17),
        memory_type: memory_type(from.byte(18)).to_owned(),
        speed: speed(from.word(21), from.double_word(84)),
        vendor: from.string(23),
        serial_number: from.string(24),
        asset_tag: from.string(25),
        part_number: from.string(26),
        configured_memory_speed: speed(from.word(32), from.double_word(88)),
        minimum_voltage: voltage(from.word(34)),
        maximum_voltage: voltage(from.word(36)),
        configured_voltage: voltage(from.word(38)),
    })
}

/// DSP0134 table 77, those that are met.
fn memory_type(number: u8) -> &'static str {
    match number {
        0x07 => "RAM",
        0x0f => "SDRAM",
        0x12 => "DDR",
        0x13 => "DDR2",
        0x14 => "DDR2 FB-DIMM",
        0x18 => "DDR3",
        0x1a => "DDR4",
        0x1b => "LPDDR",
        0x1c => "LPDDR2",
        0x1d => "LPDDR3",
        0x1e => "LPDDR4",
        0x1f => "Logical non-volatile device",
        0x20 => "HBM",
        0x21 => "HBM2",
        0x22 => "DDR5",
        0x23 => "LPDDR5",
        0x24 => "HBM3",
        _ => "Unknown",
    }
}

/// A UUID as SMBIOS 2.6 and later has it: the first three fields in little-endian order.
fn uuid(bytes: &[u8]) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    if bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff) {
        return String::new();
    }
    let mut text = String::with_capacity(36);
    for (position, index) in ORDER.into_iter().enumerate() {
        if [4, 6, 8, 10].contains(&position) {
            text.push('-');
        }
        text.push_str(&format!(
            "{:02x}",
            bytes.get(index).copied().unwrap_or_default()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn structure(kind: u8, body: &[u8], strings: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![kind, u8::try_from(body.len() + 4).unwrap(), 0, 0];
        bytes.extend_from_slice(body);
        for text in strings {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
        if strings.is_empty() {
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    fn system() -> Vec<u8> {
        let mut body = vec![1, 2, 0, 3];
        body.extend_from_slice(&[
            0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
            0xee, 0xff,
        ]);
        body.extend_from_slice(&[6, 0, 9]);
        structure(1, &body, &[b"Dell", b"R\xe9al", b" S123 "])
    }

    #[test]
    fn a_system_is_read_with_a_string_that_is_no_utf8_and_one_that_is_missing() {
        let tables = parse(&system());
        assert_eq!(tables.system.manufacturer, "Dell");
        assert_eq!(tables.system.product_name, "R\u{fffd}al");
        assert_eq!(tables.system.serial_number, "S123");
        assert_eq!(tables.system.family, "");
        assert_eq!(tables.system.uuid, "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn a_module_of_128_gib_and_an_empty_slot_are_told_apart() {
        let mut body = vec![0_u8; 36];
        body[8..10].copy_from_slice(&0x7fff_u16.to_le_bytes());
        body[12] = 1;
        body[14] = 0x22;
        body[17..19].copy_from_slice(&4800_u16.to_le_bytes());
        body[24..28].copy_from_slice(&(128_u32 << 10).to_le_bytes());
        body[11] = 2;
        body[34..36].copy_from_slice(&1100_u16.to_le_bytes());
        let mut table = structure(17, &body, &[b"DIMM A1"]);
        body[8..10].copy_from_slice(&0_u16.to_le_bytes());
        table.extend(structure(17, &body, &[b"DIMM A2"]));
        let memory = parse(&table).memory;
        assert_eq!(memory.len(), 1);
        assert_eq!(memory[0].size_bytes, 128 << 30);
        assert_eq!(memory[0].memory_type, "DDR5");
        assert_eq!(memory[0].speed, "4800 MT/s");
        assert_eq!(memory[0].device_locator, "DIMM A1");
        assert_eq!(memory[0].device_set, "2");
        assert_eq!(memory[0].configured_voltage, "1.10 V");
        assert_eq!(memory[0].minimum_voltage, "");
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(mut table in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..600) {
            let _ = parse(&table);
            let mut good = system();
            good.truncate(at);
            good.append(&mut table);
            let _ = parse(&good);
        }
    }
}
