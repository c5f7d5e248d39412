//! Boot entries in a folder that looks like efivarfs.

use std::fs;

use super::*;

const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// A machine with one drive, A, whose only partition begins at 2048, and one that is not cleaned, B, whose begins at 4096.
fn machine(folder: &tempfile::TempDir) -> Root {
    let root = folder.path();
    for (name, serial, start) in [("sda", "A", "2048"), ("sdb", "B", "4096")] {
        let block = root.join("sys/block").join(name);
        let part = block.join(format!("{name}1"));
        fs::create_dir_all(&part).unwrap();
        fs::create_dir_all(block.join("device")).unwrap();
        fs::write(block.join("size"), "100000").unwrap();
        fs::write(block.join("removable"), "0").unwrap();
        fs::write(block.join("serial"), serial).unwrap();
        fs::write(block.join("device/serial"), serial).unwrap();
        fs::write(part.join("start"), start).unwrap();
        fs::write(part.join("size"), "1000").unwrap();
        fs::write(part.join("partition"), "1").unwrap();
    }
    fs::create_dir_all(root.join("sys/firmware/efi/efivars")).unwrap();
    Root::at(root)
}

fn put(folder: &tempfile::TempDir, name: &str, value: &[u8]) {
    let path = folder
        .path()
        .join(format!("sys/firmware/efi/efivars/{name}-{GLOBAL}"));
    fs::write(path, [&[7, 0, 0, 0], value].concat()).unwrap();
}

fn entry(folder: &tempfile::TempDir, number: u16, path: Vec<Node>) {
    option(folder, &format!("Boot{number:04X}"), path);
}

fn disk(start: u64) -> Vec<Node> {
    let partition = HardDrive {
        number: 1,
        start,
        blocks: 1000,
        signature: [1; 16],
        is_gpt: true,
    };
    vec![
        Node::HardDrive(partition),
        Node::File("\\EFI\\BOOT\\BOOTX64.EFI".into()),
    ]
}

fn uri(uri: &str) -> Vec<Node> {
    vec![Node::Other(3, 11, vec![0; 33]), Node::Uri(uri.into())]
}

fn option(folder: &tempfile::TempDir, name: &str, path: Vec<Node>) {
    let option = LoadOption {
        active: true,
        description: "some driver".into(),
        path,
    };
    put(folder, name, &option.to_bytes().unwrap());
}

fn left(root: &Root) -> Vec<u16> {
    let entries = Variables::at(root).unwrap().entries();
    entries.into_iter().map(|(number, _)| number).collect()
}

fn grant() -> EraseGrant {
    EraseGrant {
        drives: vec!["A".into()],
        remove_boot_entries: true,
        ..EraseGrant::default()
    }
}

fn with_entries(folder: &tempfile::TempDir) -> Root {
    let root = machine(folder);
    assert_eq!(drives::scan(&root).len(), 2, "the two drives are seen");
    entry(folder, 1, disk(2048));
    entry(folder, 2, disk(4096));
    // Of a drive that an earlier cleaning, cut short, has emptied.
    entry(folder, 3, disk(9999));
    entry(folder, 4, uri("http://evil.example/x.efi"));
    // What the firmware makes for a network adapter, and for a device.
    entry(folder, 5, uri(""));
    entry(folder, 6, vec![Node::Other(1, 1, vec![0, 1])]);
    // An iSCSI target, and the address of a server without a URI; what the firmware makes for PXE over IPv4 and IPv6 names none.
    let ip = |kind, length, remote: std::ops::Range<usize>| {
        let mut data = vec![0; length];
        data[remote].fill(10);
        vec![Node::Other(3, 11, vec![0; 33]), Node::Other(3, kind, data)]
    };
    entry(folder, 7, vec![Node::Other(3, 19, vec![0; 30])]);
    entry(folder, 8, ip(12, 23, 4..8));
    entry(folder, 9, ip(13, 56, 16..32));
    entry(folder, 10, ip(12, 23, 0..0));
    entry(folder, 11, ip(13, 56, 0..0));
    put(folder, "BootOrder", &[4, 0, 1, 0, 6, 0, 2, 0]);
    put(folder, "BootNext", &[6, 0]);
    root
}

#[test]
fn no_entry_of_the_last_tenant_stays_and_each_of_the_firmware_and_of_other_drives_does() {
    let folder = tempfile::tempdir().unwrap();
    let root = with_entries(&folder);
    assert_eq!(boot_entries(&root, &grant()), Vec::<String>::new());
    assert_eq!(left(&root), [2, 5, 6, 10, 11]);
    let variables = Variables::at(&root).unwrap();
    // efivarfs replaces a variable, a plain file keeps its tail.
    assert_eq!(variables.order(List::Boot)[..2], [6, 2]);
    assert_eq!(variables.get("BootNext"), None);
    // Nothing is left to do the next time.
    assert_eq!(boot_entries(&root, &grant()), Vec::<String>::new());
    assert_eq!(left(&root), [2, 5, 6, 10, 11]);
}

#[test]
fn where_policy_keeps_them_they_stay() {
    let folder = tempfile::tempdir().unwrap();
    let root = with_entries(&folder);
    let grant = EraseGrant {
        remove_boot_entries: false,
        ..grant()
    };
    assert_eq!(boot_entries(&root, &grant), Vec::<String>::new());
    assert_eq!(left(&root), (1..=11).collect::<Vec<_>>());
}

#[test]
fn drivers_and_programs_that_run_before_the_boot_entries_go_by_the_same_rule() {
    let folder = tempfile::tempdir().unwrap();
    let root = machine(&folder);
    for list in ["Driver", "SysPrep"] {
        option(&folder, &format!("{list}0001"), disk(2048));
        option(&folder, &format!("{list}0002"), disk(4096));
        option(&folder, &format!("{list}00AB"), uri("http://evil.example/"));
        put(&folder, &format!("{list}Order"), &[0xab, 0, 1, 0, 2, 0]);
    }
    // No option of these lists, whatever it looks like.
    option(&folder, "Driver+001", disk(2048));
    option(&folder, "SysPrep00ab", disk(2048));
    assert_eq!(boot_entries(&root, &grant()), Vec::<String>::new());
    let names = root.names("sys/firmware/efi/efivars");
    let left: Vec<&str> = names
        .iter()
        .map(|name| name.strip_suffix(&format!("-{GLOBAL}")).unwrap())
        .collect();
    assert_eq!(
        left,
        [
            "Driver+001",
            "Driver0002",
            "DriverOrder",
            "SysPrep0002",
            "SysPrep00ab",
            "SysPrepOrder"
        ]
    );
    let variables = Variables::at(&root).unwrap();
    for order in ["DriverOrder", "SysPrepOrder"] {
        // efivarfs replaces a variable, a plain file keeps its tail.
        assert_eq!(variables.get(order).unwrap()[..2], [2, 0], "{order}");
    }
}

#[test]
fn a_uefi_machine_whose_variables_cannot_be_had_is_not_called_clean_and_a_bios_machine_is() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path());
    assert_eq!(boot_entries(&root, &grant()), Vec::<String>::new());
    let efi = folder.path().join("sys/firmware/efi");
    // Without the mount point, and with nothing mounted there.
    for path in [efi.clone(), efi.join("efivars")] {
        fs::create_dir_all(path).unwrap();
        let told = boot_entries(&root, &grant());
        assert!(told.len() == 1 && told[0].contains("efivarfs"), "{told:?}");
        let keeps = EraseGrant {
            remove_boot_entries: false,
            ..grant()
        };
        assert_eq!(boot_entries(&root, &keeps), Vec::<String>::new());
    }
}

#[test]
fn a_boot_entry_that_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = machine(&folder);
    entry(&folder, 1, disk(4096));
    let path = format!("sys/firmware/efi/efivars/Boot0002-{GLOBAL}");
    fs::create_dir(folder.path().join(path)).unwrap();
    let told = boot_entries(&root, &grant());
    assert!(told.len() == 1 && told[0].contains("Boot0002"), "{told:?}");
}
