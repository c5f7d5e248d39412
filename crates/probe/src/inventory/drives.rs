//! Block devices: what each is, how it is attached, and whether it may ever be written.

use super::root::Root;
use corten_wire::DriveName;
use corten_wire::registration::Drive;
use std::path::{Path, PathBuf};

/// Names of block devices that are no hardware of their own.
const NOT_HARDWARE: [&str; 9] = [
    "loop", "ram", "zram", "dm-", "md", "nbd", "rbd", "drbd", "bcache",
];

/// How a drive is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// In this machine, by one path, not to be taken out.
    Local,
    /// Over a network: Fibre Channel, iSCSI, NVMe over Fabrics.
    Fabric,
    /// By more than one path, or a port that another machine may share.
    Multipath,
    /// Behind a SAS expander: another machine may reach it by the shelf's other module, which nothing in here shows. Written only where a grant names it,
    /// since the registry then knows by the BMC that it is this machine's own.
    Expander,
    /// To be taken out: USB, card readers, optical drives.
    Removable,
    /// In this machine, and another device shows its serial number: a second way to it, or another part of it. Nothing could be reported of it by name.
    Ambiguous,
}

impl Attachment {
    /// The word on the wire.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Fabric => "fabric",
            Self::Multipath => "multipath",
            Self::Expander => "expander",
            Self::Removable => "removable",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// A block device as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The kernel's name, such as `nvme0n1`.
    pub kernel_name: String,
    /// Serial number; empty where it has none.
    pub serial_number: String,
    /// World-wide name, such as `naa.5000c500a1b2c3d4`.
    pub wwid: Option<String>,
    /// Vendor.
    pub vendor: String,
    /// Model.
    pub model: String,
    /// Version of its firmware.
    pub firmware: String,
    /// Bytes.
    pub size_bytes: u64,
    /// Whether it turns.
    pub rotational: bool,
    /// Whether the kernel holds it for read-only.
    pub read_only: bool,
    /// `nvme`, `sata`, `sas`, `virtio`, `usb`, `mmc`, `scsi`, `fc`, `iscsi`, `nvme-tcp`, …
    pub transport: String,
    /// How it is attached.
    pub attachment: Attachment,
}

impl Found {
    /// Whether it is a CD or DVD drive.
    #[must_use]
    pub fn is_optical(&self) -> bool {
        self.kernel_name.starts_with("sr")
    }

    /// Whether it is a reader without a medium, such as the virtual floppy of a BMC.
    #[must_use]
    pub fn is_empty_slot(&self) -> bool {
        self.attachment == Attachment::Removable && self.size_bytes == 0
    }

    /// Its device node.
    #[must_use]
    pub fn path(&self, root: &Root) -> PathBuf {
        root.join("dev").join(&self.kernel_name)
    }

    /// Why it may never be written, whatever a grant says.
    #[must_use]
    pub fn untouchable(&self) -> Option<String> {
        let reason = match self.attachment {
            Attachment::Fabric => "fabric: the drive is reached over a network",
            Attachment::Multipath => "multipath: the drive is reached, or may be, by another path",
            Attachment::Removable => "removable: the medium can be taken out",
            Attachment::Ambiguous => "ambiguous: another device shows the same serial number",
            _ if self.read_only => "read-only",
            _ if self.serial_number.is_empty() => "no serial number",
            _ if self.size_bytes == 0 => "no medium",
            Attachment::Local | Attachment::Expander => return None,
        };
        Some(reason.to_owned())
    }

    /// What it is called on the wire.
    #[must_use]
    pub fn name(&self) -> DriveName {
        DriveName {
            serial_number: self.serial_number.clone(),
            wwn: self.wwid.clone(),
            model: self.model.clone(),
            size_bytes: self.size_bytes,
            attachment: self.attachment.word().to_owned(),
            untouchable: self.untouchable(),
        }
    }

    /// Its entry in the registration. Asks the drive what it can do, where that is the machine's own.
    #[must_use]
    pub fn entry(&self, root: &Root) -> Drive {
        let queue = |file: &str| {
            root.number::<u64>(format!("sys/block/{}/queue/{file}", self.kernel_name))
                .unwrap_or_default()
        };
        // A drive that must not be touched is not even asked: the question would be a command to somebody else's device.
        let (erase_methods, erase_obstacles) = if root.is_machine() && self.untouchable().is_none()
        {
            crate::device::linux::open_to_ask(root, self)
                .map(|device| crate::erase::abilities(&device))
                .unwrap_or_default()
        } else {
            (Vec::new(), Vec::new())
        };
        Drive {
            path: format!("/dev/{}", self.kernel_name),
            name: self.kernel_name.clone(),
            rotational: self.rotational,
            removable: self.attachment == Attachment::Removable,
            read_only: self.read_only,
            vendor: self.vendor.clone(),
            model: self.model.clone(),
            serial_number: self.serial_number.clone(),
            wwid: self.wwid.clone().unwrap_or_default(),
            physical_block_size: queue("physical_block_size"),
            logical_block_size: queue("logical_block_size"),
            sector_size: queue("hw_sector_size"),
            size_bytes: self.size_bytes,
            numa_node: root
                .number(format!("sys/block/{}/device/numa_node", self.kernel_name))
                .or_else(|| {
                    root.number(format!(
                        "sys/block/{}/device/device/numa_node",
                        self.kernel_name
                    ))
                })
                .unwrap_or_default(),
            transport: self.transport.clone(),
            attachment: self.attachment.word().to_owned(),
            firmware_version: self.firmware.clone(),
            erase_methods,
            erase_obstacles,
        }
    }
}

/// All block devices that are hardware, sorted by name.
#[must_use]
pub fn scan(root: &Root) -> Vec<Found> {
    let mut found: Vec<Found> = root
        .names("sys/block")
        .into_iter()
        .filter(|name| {
            !NOT_HARDWARE.iter().any(|prefix| {
                name.strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            })
        })
        // `nvme0c0n1` is one of the paths behind `nvme0n1`, and cannot be opened.
        .filter(|name| !root.flag(format!("sys/block/{name}/hidden")))
        .filter(|name| !is_part_of_card(name))
        .map(|name| one(root, name))
        .collect();
    // Two devices with one serial number are two ways to one drive, or two parts of one: neither may be written by that name.
    let serials: Vec<String> = found
        .iter()
        .map(|drive| drive.serial_number.clone())
        .collect();
    for drive in &mut found {
        let same = serials
            .iter()
            .filter(|serial| !serial.is_empty() && **serial == drive.serial_number)
            .count();
        let own = matches!(drive.attachment, Attachment::Local | Attachment::Expander);
        if same > 1 && own {
            drive.attachment = Attachment::Ambiguous;
        }
    }
    found
}

/// `mmcblk0boot0`, `mmcblk0rpmb`: an eMMC's own small areas beside its blocks, which are no drives.
fn is_part_of_card(name: &str) -> bool {
    name.strip_prefix("mmcblk")
        .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        .is_some_and(|rest| !rest.is_empty())
}

fn one(root: &Root, name: String) -> Found {
    let of = |file: &str| root.text(format!("sys/block/{name}/{file}"));
    let (transport, attachment) = attachment(root, &name);
    Found {
        serial_number: serial(root, &name),
        wwid: of("wwid").or_else(|| of("device/wwid")).filter(|wwid| {
            wwid.starts_with("naa.") || wwid.starts_with("eui.") || wwid.starts_with("uuid.")
        }),
        vendor: of("device/vendor")
            .filter(|vendor| !vendor.starts_with("0x"))
            .unwrap_or_default(),
        model: of("device/model")
            .or_else(|| of("device/name"))
            .unwrap_or_default(),
        firmware: of("device/firmware_rev")
            .or_else(|| of("device/rev"))
            .unwrap_or_default(),
        size_bytes: of("size")
            .and_then(|text| text.parse::<u64>().ok())
            .and_then(|sectors| sectors.checked_mul(512))
            .unwrap_or_default(),
        rotational: root.flag(format!("sys/block/{name}/queue/rotational")),
        read_only: root.flag(format!("sys/block/{name}/ro")),
        transport,
        attachment,
        kernel_name: name,
    }
}

/// NVMe and MMC have a file, virtio another; SCSI and ATA have page 80h of their vital product data.
fn serial(root: &Root, name: &str) -> String {
    let of = |file: &str| root.text(format!("sys/block/{name}/{file}"));
    of("device/serial")
        .or_else(|| of("serial"))
        .or_else(|| {
            let page = root.bytes(format!("sys/block/{name}/device/vpd_pg80"))?;
            unit_serial(&page)
        })
        .unwrap_or_default()
}

/// The serial number on page 80h of a SCSI device's vital product data (SPC-5, 7.7.18).
#[must_use]
pub fn unit_serial(page: &[u8]) -> Option<String> {
    let [_, 0x80, high, low, rest @ ..] = page else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let bytes = rest.get(..length).unwrap_or(rest);
    let text = String::from_utf8_lossy(bytes)
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_owned();
    (!text.is_empty()).then_some(text)
}

/// Transport and attachment, from the path through the machine that leads to the device.
fn attachment(root: &Root, name: &str) -> (String, Attachment) {
    let path = root
        .canonical(format!("sys/block/{name}"))
        .unwrap_or_default();
    let has = |part: &str| contains(&path, part);
    let (transport, mut attachment) = if name.starts_with("nvme") {
        nvme(root, name, has("nvme-subsys"))
    } else if has("rport-") {
        ("fc".to_owned(), Attachment::Fabric)
    } else if has("session") {
        ("iscsi".to_owned(), Attachment::Fabric)
    } else if has("usb") {
        ("usb".to_owned(), Attachment::Removable)
    } else if has("end_device-") {
        ("sas".to_owned(), Attachment::Local)
    } else if has("ata") {
        ("sata".to_owned(), Attachment::Local)
    } else if has("virtio") {
        ("virtio".to_owned(), Attachment::Local)
    } else if has("mmc") {
        ("mmc".to_owned(), Attachment::Local)
    } else {
        ("scsi".to_owned(), Attachment::Local)
    };
    if attachment == Attachment::Local {
        if is_multipath(root, name) || is_array(root, name) || has_initiators(root, &path) {
            attachment = Attachment::Multipath;
        } else if is_behind_expander(&path) {
            attachment = Attachment::Expander;
        }
    }
    if name.starts_with("sr")
        || name.starts_with("fd")
        || root.flag(format!("sys/block/{name}/removable"))
    {
        attachment = Attachment::Removable;
    }
    (transport, attachment)
}

/// Whether a part of the path begins so, with a digit or nothing behind it.
fn contains(path: &Path, part: &str) -> bool {
    path.iter().filter_map(|piece| piece.to_str()).any(|piece| {
        piece
            .strip_prefix(part)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn nvme(root: &Root, name: &str, is_subsystem: bool) -> (String, Attachment) {
    let of = |file: &str| root.text(format!("sys/block/{name}/device/{file}"));
    // Under native multipath the device is the subsystem, and its controllers are below it.
    let controllers: Vec<String> = root
        .names(format!("sys/block/{name}/device"))
        .into_iter()
        .filter(|entry| {
            entry.strip_prefix("nvme").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
            })
        })
        .collect();
    let transport = of("transport").or_else(|| {
        let first = controllers.first()?;
        of(&format!("{first}/transport"))
    });
    match transport.as_deref() {
        // A subsystem with more than one controller may have another machine at the other port.
        Some("pcie") | None if is_subsystem => ("nvme".to_owned(), Attachment::Multipath),
        Some("pcie" | "apple-nvme") => ("nvme".to_owned(), Attachment::Local),
        Some(other) => (format!("nvme-{other}"), Attachment::Fabric),
        None => ("nvme".to_owned(), Attachment::Local),
    }
}

/// Whether it is a LUN of an array: one that groups its ports (TPGS, INQUIRY byte 5, bits 5:4; SPC-5, 6.7.2) may show it to other machines too. Plain
/// drives have none.
fn is_array(root: &Root, name: &str) -> bool {
    root.bytes(format!("sys/block/{name}/device/inquiry"))
        .and_then(|inquiry| inquiry.get(5).copied())
        .is_some_and(|byte| byte & 0x30 != 0)
}

fn is_behind_expander(path: &Path) -> bool {
    let mut pieces = path.iter().filter_map(|piece| piece.to_str());
    pieces.any(|piece| piece.starts_with("expander-"))
}

/// Whether another initiator, which is another machine's adapter, is in the SAS domain that leads to it: an expander shows all that is attached to it.
fn has_initiators(root: &Root, path: &Path) -> bool {
    let pieces: Vec<&str> = path.iter().filter_map(|piece| piece.to_str()).collect();
    let host = pieces
        .iter()
        .find(|piece| piece.starts_with("host") && piece.len() > 4);
    if !is_behind_expander(path) {
        return false;
    }
    // `end_device-H:…`: H is the number of the host.
    let number = host
        .and_then(|host| host.strip_prefix("host"))
        .unwrap_or_default();
    root.names("sys/class/sas_device")
        .iter()
        .filter(|device| device.starts_with(&format!("end_device-{number}:")))
        .any(|device| {
            root.text(format!(
                "sys/class/sas_device/{device}/initiator_port_protocols"
            ))
            .is_some_and(|protocols| !matches!(protocols.as_str(), "" | "none"))
        })
}

/// Whether a multipath map holds it.
fn is_multipath(root: &Root, name: &str) -> bool {
    root.names(format!("sys/block/{name}/holders"))
        .iter()
        .any(|holder| {
            root.text(format!("sys/block/{holder}/dm/uuid"))
                .is_some_and(|uuid| uuid.starts_with("mpath-"))
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    /// Lays a device into a tree: `path` is where it hangs below `sys/devices`, `files` are below the block device's folder.
    pub(crate) fn lay(root: &Path, path: &str, files: &[(&str, &str)]) {
        let device = root.join("sys/devices").join(path);
        for (file, text) in files {
            let file = device.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let name = Path::new(path).file_name().unwrap();
        fs::create_dir_all(root.join("sys/block")).unwrap();
        std::os::unix::fs::symlink(&device, root.join("sys/block").join(name)).unwrap();
    }

    const NVME: &[(&str, &str)] = &[
        ("size", "8192\n"),
        ("device/serial", "S4EV  \n"),
        ("device/model", "Fast One\n"),
        ("device/transport", "pcie\n"),
        ("wwid", "eui.0025385\n"),
        ("queue/rotational", "0\n"),
    ];

    fn found(root: &Path) -> Vec<Found> {
        scan(&Root::at(root))
    }

    #[test]
    fn a_local_nvme_drive_may_be_written() {
        let root = tempfile::tempdir().unwrap();
        lay(
            root.path(),
            "pci0000:00/0000:00:05.0/nvme/nvme0/nvme0n1",
            NVME,
        );
        let drives = found(root.path());
        assert_eq!(drives[0].serial_number, "S4EV");
        assert_eq!(drives[0].size_bytes, 4 << 20);
        assert_eq!(drives[0].untouchable(), None);
        assert_eq!(drives[0].name().wwn.as_deref(), Some("eui.0025385"));
    }

    #[test]
    fn drives_behind_a_fabric_a_usb_port_or_a_second_path_are_never_touched() {
        let root = tempfile::tempdir().unwrap();
        let disk = |serial: &'static str| [("size", "8192"), ("serial", serial)];
        lay(
            root.path(),
            "pci0/host1/rport-1:0-0/target1:0:0/1:0:0:0/block/sda",
            &disk("A"),
        );
        lay(
            root.path(),
            "platform/host2/session1/target2:0:0/2:0:0:0/block/sdb",
            &disk("B"),
        );
        lay(
            root.path(),
            "pci0/usb1/1-1/host3/target3/3:0:0:0/block/sdc",
            &disk("C"),
        );
        lay(
            root.path(),
            "pci0/ata1/host4/target4/4:0:0:0/block/sdd",
            &disk("D"),
        );
        lay(
            root.path(),
            "pci0/ata2/host5/target5/5:0:0:0/block/sde",
            &disk("D"),
        );
        let mut remote = NVME.to_vec();
        remote[3].1 = "tcp";
        lay(
            root.path(),
            "virtual/nvme-fabrics/ctl/nvme1/nvme1n1",
            &remote,
        );
        let attachments: Vec<_> = found(root.path())
            .into_iter()
            .map(|drive| {
                (
                    drive.kernel_name.clone(),
                    drive.attachment,
                    drive.untouchable().is_some(),
                )
            })
            .collect();
        let expected = [
            ("nvme1n1", Attachment::Fabric),
            ("sda", Attachment::Fabric),
            ("sdb", Attachment::Fabric),
            ("sdc", Attachment::Removable),
            ("sdd", Attachment::Ambiguous),
            ("sde", Attachment::Ambiguous),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, attachment)| ((*name).to_owned(), *attachment, true))
            .collect();
        assert_eq!(attachments, expected);
    }

    #[test]
    fn a_soldered_card_is_one_drive_without_its_own_small_areas() {
        let folder = tempfile::tempdir().unwrap();
        let path = "pci0/mmc_host/mmc0/mmc0:0001/block/mmcblk0";
        for part in ["", "boot0", "boot1", "rpmb", "gp0"] {
            let facts = [("size", "8192"), ("serial", "0x5d1b2f6c")];
            lay(folder.path(), &format!("{path}{part}"), &facts);
        }
        let found = found(folder.path());
        let names: Vec<_> = found.iter().map(|d| d.kernel_name.as_str()).collect();
        assert_eq!(names, ["mmcblk0"]);
        assert_eq!(found[0].transport, "mmc");
        assert_eq!(found[0].untouchable(), None);
    }

    #[test]
    fn a_sas_drive_that_another_machine_may_reach_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let path = "pci0/host1/port-1:0/expander-1:0/port-1:0:1/end_device-1:0:1/target/block/sda";
        lay(root, path, &[("size", "8192"), ("serial", "S1")]);
        let direct = "pci0/host2/port-2:0/end_device-2:0/target/block/sdb";
        lay(root, direct, &[("size", "8192"), ("serial", "S2")]);
        let kind = |at: usize| found(root)[at].attachment;
        let device = |name: &str, protocols: &str| {
            let device = root.join("sys/class/sas_device").join(name);
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("initiator_port_protocols"), protocols).unwrap();
        };
        device("end_device-1:0:1", "none\n");
        // The other module of its shelf may lead to another machine: the registry is told.
        assert_eq!(
            (kind(0), kind(1)),
            (Attachment::Expander, Attachment::Local)
        );
        // Another host's adapter at the same expander.
        device("end_device-1:0:9", "stp, ssp, smp\n");
        assert_eq!(
            (kind(0), kind(1)),
            (Attachment::Multipath, Attachment::Local)
        );
        // A LUN of an array groups its ports (TPGS).
        let inquiry = root.join("sys/devices").join(direct).join("device/inquiry");
        fs::create_dir_all(inquiry.parent().unwrap()).unwrap();
        fs::write(inquiry, [0, 0, 6, 2, 31, 0x10]).unwrap();
        assert_eq!(kind(1), Attachment::Multipath);
    }

    #[test]
    fn a_drive_that_is_read_only_or_nameless_or_held_by_multipath_is_never_touched() {
        let root = tempfile::tempdir().unwrap();
        lay(
            root.path(),
            "pci0/ata1/host4/block/sda",
            &[("size", "8"), ("serial", "A"), ("ro", "1")],
        );
        lay(root.path(), "pci0/ata2/host5/block/sdb", &[("size", "8")]);
        lay(
            root.path(),
            "pci0/host6/block/sdc",
            &[("size", "8"), ("serial", "C"), ("holders/dm-0", "")],
        );
        fs::create_dir_all(root.path().join("sys/block/dm-0/dm")).unwrap();
        fs::write(root.path().join("sys/block/dm-0/dm/uuid"), "mpath-3600\n").unwrap();
        let drives = found(root.path());
        assert_eq!(drives.len(), 3);
        assert!(drives.iter().all(|drive| drive.untouchable().is_some()));
        assert_eq!(drives[2].attachment, Attachment::Multipath);
    }

    #[test]
    fn a_scsi_serial_number_is_read_from_page_80h() {
        assert_eq!(
            unit_serial(b"\x00\x80\x00\x08  QM0001").as_deref(),
            Some("QM0001")
        );
        assert_eq!(unit_serial(b"\x00\x83\x00\x01a"), None);
    }

    proptest! {
        #[test]
        fn no_page_makes_it_panic(page in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = unit_serial(&page);
        }
    }
}
