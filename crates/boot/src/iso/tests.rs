use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::piece;

/// The image that boots `efi`.
pub(crate) fn bytes(efi: &[u8]) -> Vec<u8> {
    piece::whole(&image(efi).pieces).unwrap()
}

fn image(efi: &[u8]) -> Bootable {
    bootable(vec![Piece::from(efi.to_vec())], 0).unwrap()
}

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
    let bytes = bytes(&efi);
    let offset = image(&efi).offset as usize;
    assert_eq!(&bytes[offset..][..efi.len()], &efi[..]);
    assert_eq!(bytes.len() % 2048, 0);
}

#[test]
fn the_boot_catalogue_adds_up() {
    let image = bytes(&[b'M'; 512]);
    let record = &image[17 * 2048..];
    assert_eq!(&record[7..30], b"EL TORITO SPECIFICATION");
    let catalogue = u32::from_le_bytes(record[0x47..0x4b].try_into().unwrap()) as usize * 2048;
    let validation = &image[catalogue..catalogue + 32];
    let sum = validation.chunks(2).fold(0u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
    });
    assert_eq!(sum, 0);
    assert_eq!(image[catalogue + 32], 0x88);
}

/// The kernel's and libarchive's readers would do; isoinfo is what distributions have.
#[test]
fn a_foreign_reader_finds_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed.iso");
    let seed = config_drive(&seed(b"#cloud-config\n")).unwrap();
    std::fs::write(&path, piece::whole(&seed).unwrap()).unwrap();
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
        let image = piece::whole(&config_drive(&data).unwrap()).unwrap();
        prop_assert!(image.chunks(2048).collect::<Vec<_>>().windows(user.len().div_ceil(2048)).any(|sectors| sectors.concat().starts_with(&user)));
    }
}
