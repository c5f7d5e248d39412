use super::*;
use crate::uki::pe;

/// A static ELF program's header.
fn program(machine: u8, interpreter: bool) -> Vec<u8> {
    let mut bytes = vec![0u8; 64 + 56];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = machine;
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = 1;
    bytes[64] = if interpreter { 3 } else { 1 };
    bytes
}

pub(crate) fn options(root: &Path, out: &str) -> Options {
    let modules = root.join("lib/modules/6.1.0-test");
    fs::create_dir_all(modules.join("kernel/net")).unwrap();
    fs::create_dir_all(root.join("boot")).unwrap();
    fs::write(
        root.join("boot/vmlinuz-6.1.0-test"),
        crate::uki::tests::small_pe(pe::AMD64, 0),
    )
    .unwrap();
    fs::write(
        modules.join("modules.dep"),
        "kernel/net/virtio_net.ko.gz: kernel/net/failover.ko\nkernel/net/failover.ko:\n",
    )
    .unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"module").unwrap();
    fs::write(
        modules.join("kernel/net/virtio_net.ko.gz"),
        packed.finish().unwrap(),
    )
    .unwrap();
    fs::write(modules.join("kernel/net/failover.ko"), b"other").unwrap();
    fs::write(root.join("probe"), program(62, false)).unwrap();
    fs::write(root.join("stub"), crate::uki::tests::small_pe(pe::AMD64, 7)).unwrap();
    Options {
        kernel: KernelSource::Root(root.to_owned()),
        release: None,
        profile: Profile::Virtual,
        probe: root.join("probe"),
        stub: root.join("stub"),
        command_line: COMMAND_LINE.into(),
        time: 1_700_000_000,
        out: root.join(out),
    }
}

#[test]
fn the_same_input_makes_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let first = build(&options(root.path(), "one")).unwrap();
    let second = build(&options(root.path(), "two")).unwrap();
    assert_eq!(first, second);
    assert_ne!(
        first.initrd.sha256,
        build(&Options {
            time: 1,
            ..options(root.path(), "three")
        })
        .unwrap()
        .initrd
        .sha256
    );
}

#[test]
fn the_ramdisk_lists_unpacked_modules_in_the_order_of_loading() {
    let root = tempfile::tempdir().unwrap();
    let index = build(&options(root.path(), "out")).unwrap();
    assert_eq!(index.modules, ["failover", "virtio_net"]);
    assert!(index.missing.contains(&"ahci".to_owned()));
    let packed = fs::read(root.path().join("out/initrd")).unwrap();
    let mut archive = Vec::new();
    std::io::Read::read_to_end(
        &mut flate2::read::GzDecoder::new(packed.as_slice()),
        &mut archive,
    )
    .unwrap();
    let text = String::from_utf8_lossy(&archive);
    assert!(text.contains("/lib/modules/6.1.0-test/kernel/net/failover.ko\n/lib/modules/6.1.0-test/kernel/net/virtio_net.ko\n"));
    assert!(!text.contains(".ko.gz"));
}

#[test]
fn the_command_line_is_where_the_index_says_in_both_forms() {
    let root = tempfile::tempdir().unwrap();
    let index = build(&options(root.path(), "out")).unwrap();
    for file in [&index.efi, &index.iso] {
        let bytes = fs::read(root.path().join("out").join(&file.name)).unwrap();
        let slot = file.slot.unwrap();
        assert_eq!(
            &bytes[slot.offset as usize..][..slot.length as usize],
            crate::uki::slot(COMMAND_LINE).unwrap()
        );
    }
}

#[test]
fn a_file_that_was_changed_is_noticed_when_the_ramdisk_is_opened() {
    let root = tempfile::tempdir().unwrap();
    let index = build(&options(root.path(), "out")).unwrap();
    let out = root.path().join("out");
    assert_eq!(Index::open(&out).unwrap(), index);
    fs::write(out.join("initrd"), b"other").unwrap();
    assert!(matches!(
        Index::open(&out),
        Err(RamdiskError::Changed { .. })
    ));
}

#[test]
fn a_probe_that_needs_a_loader_or_another_processor_is_refused() {
    let root = tempfile::tempdir().unwrap();
    for probe in [
        program(62, true),
        program(183, false),
        b"#!/bin/sh\n".to_vec(),
    ] {
        let options = options(root.path(), "out");
        fs::write(&options.probe, probe).unwrap();
        assert!(matches!(build(&options), Err(RamdiskError::Probe { .. })));
    }
}
