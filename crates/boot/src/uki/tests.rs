use proptest::prelude::*;

use super::pe::{AMD64, Image, PeError};
use super::*;

/// A PE file with one section of code and room for `room` more headers.
pub(crate) fn small_pe(machine: u16, room: usize) -> Vec<u8> {
    let (header, optional) = (0x80usize, 240u16);
    let table = header + 24 + usize::from(optional);
    let headers = (table + 40 * (1 + room)) as u32;
    let first = headers.next_multiple_of(512);
    let mut bytes = vec![0u8; first as usize + 512];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3c, &(header as u32).to_le_bytes());
    put(header, b"PE\0\0");
    put(header + 4, &machine.to_le_bytes());
    put(header + 6, &1u16.to_le_bytes());
    put(header + 20, &optional.to_le_bytes());
    put(header + 24, &0x20bu16.to_le_bytes());
    put(header + 24 + 32, &512u32.to_le_bytes());
    put(header + 24 + 36, &512u32.to_le_bytes());
    put(header + 24 + 56, &0x2200u32.to_le_bytes());
    put(header + 24 + 60, &headers.to_le_bytes());
    put(table, b".text");
    put(table + 8, &512u32.to_le_bytes());
    put(table + 12, &0x2000u32.to_le_bytes());
    put(table + 16, &512u32.to_le_bytes());
    put(table + 20, &first.to_le_bytes());
    bytes
}

fn parts<'a>(stub: &'a [u8], kernel: &'a [u8]) -> Parts<'a> {
    Parts {
        stub,
        os_release: "ID=corten\n",
        release: "6.1.0",
        command_line: "quiet",
        head: kernel,
        kernel: vec![Piece::from(kernel.to_vec())],
        initrd: vec![Piece::from(vec![9; 777])],
    }
}

#[test]
fn sections_are_where_the_headers_say_and_do_not_overlap() {
    let (stub, kernel) = (small_pe(AMD64, 5), small_pe(AMD64, 0));
    let uki = build(parts(&stub, &kernel)).unwrap();
    let bytes = piece::whole(&uki.pieces).unwrap();
    let image = Image::read(&bytes).unwrap();
    let names: Vec<_> = image
        .sections()
        .iter()
        .map(|section| section.name.as_str())
        .collect();
    assert_eq!(
        names,
        [".text", ".osrel", ".uname", ".cmdline", ".initrd", ".linux"]
    );
    let contents = |name: &str| {
        let section = image
            .sections()
            .iter()
            .find(|section| section.name == name)
            .unwrap();
        bytes[section.offset as usize..][..section.size as usize].to_vec()
    };
    assert_eq!(contents(".linux"), kernel);
    assert_eq!(contents(".initrd"), [9; 777]);
    assert_eq!(contents(".cmdline"), slot("quiet").unwrap());
    assert_eq!(
        image
            .sections()
            .iter()
            .find(|section| section.name == ".cmdline")
            .unwrap()
            .offset as u64,
        uki.slot
    );
    for pair in image.sections().windows(2) {
        assert!(pair[0].address + pair[0].size <= pair[1].address);
        assert!(pair[0].offset + pair[0].length <= pair[1].offset);
    }
}

#[test]
fn a_stub_without_room_for_the_headers_is_refused() {
    let (stub, kernel) = (small_pe(AMD64, 3), small_pe(AMD64, 0));
    assert_eq!(
        build(parts(&stub, &kernel)),
        Err(UkiError::Stub(PeError::NoRoom))
    );
}

#[test]
fn a_kernel_of_another_processor_is_refused() {
    let (stub, kernel) = (small_pe(AMD64, 5), small_pe(pe::ARM64, 0));
    assert!(matches!(
        build(parts(&stub, &kernel)),
        Err(UkiError::Machine { .. })
    ));
}

#[test]
fn a_command_line_keeps_one_byte_for_its_end() {
    assert!(slot(&"x".repeat(SLOT - 1)).is_ok());
    assert_eq!(slot(&"x".repeat(SLOT)), Err(UkiError::CommandLine(SLOT)));
}

proptest! {
    #[test]
    fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(mut image) = Image::read(&bytes) {
            let _ = image.append(".x", 1);
        }
    }

    #[test]
    fn no_damaged_stub_panics(at in 0usize..1024, value in any::<u8>()) {
        let mut stub = small_pe(AMD64, 5);
        stub[at] = value;
        let kernel = small_pe(AMD64, 0);
        let _ = build(parts(&stub, &kernel));
    }
}
