use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn seed(user: &'static [u8]) -> UserData {
    UserData {
        user_data: Some(Bytes::from_static(user)),
        meta_data: Bytes::from_static(b"instance-id: i-1\n"),
        ..UserData::default()
    }
}

#[test]
fn the_efi_file_is_where_it_is_said_to_be() {
    let efi: Vec<u8> = (0..3_000_001u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let image = bootable(&efi, 0).unwrap();
    assert_eq!(&image.bytes[image.offset as usize..][..efi.len()], &efi[..]);
    assert_eq!(
        image,
        bootable(&efi, 0).unwrap(),
        "the same input makes the same bytes"
    );
    assert_eq!(image.bytes.len() % 2048, 0);
}

#[test]
fn the_boot_catalogue_adds_up() {
    let image = bootable(b"MZ", 0).unwrap();
    let record = &image.bytes[17 * 2048..];
    assert_eq!(&record[7..30], b"EL TORITO SPECIFICATION");
    let catalogue = u32::from_le_bytes(record[0x47..0x4b].try_into().unwrap()) as usize * 2048;
    let validation = &image.bytes[catalogue..catalogue + 32];
    let sum = validation.chunks(2).fold(0u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
    });
    assert_eq!(sum, 0);
    assert_eq!(image.bytes[catalogue + 32], 0x88);
}

/// The kernel's and libarchive's readers would do; isoinfo is what distributions have.
#[test]
fn a_foreign_reader_finds_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed.iso");
    std::fs::write(&path, config_drive(&seed(b"#cloud-config\n")).unwrap()).unwrap();
    let Ok(output) = std::process::Command::new("blkid")
        .args(["-p", "-o", "export"])
        .arg(&path)
        .output()
    else {
        return;
    };
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("LABEL=cidata") && said.contains("TYPE=iso9660"),
        "{said}"
    );
}

proptest! {
    #[test]
    fn any_user_data_stands_in_the_image(user in proptest::collection::vec(any::<u8>(), 1..5000)) {
        let data = UserData { user_data: Some(Bytes::from(user.clone())), ..seed(b"") };
        let image = config_drive(&data).unwrap();
        prop_assert!(image.chunks(2048).collect::<Vec<_>>().windows(user.len().div_ceil(2048)).any(|sectors| sectors.concat().starts_with(&user)));
    }
}
