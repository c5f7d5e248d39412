//! The command line of a machine, and which device sits where.

use std::fmt::Write as _;
use std::path::Path;

use crate::identity::MacAddress;

use super::device_path::DevicePath;
use super::directory::Directory;
use super::{Ailment, Bus, Disk, Firmware, Network, Qemu};

/// PCI devices of the root bus, by kind; the rest are QEMU's own.
/// The SCSI controller of the CD drive and of SCSI disks.
const MEDIA_CONTROLLER: u8 = 1;
const FIRST_CARD: u8 = 3;
const FIRST_NVME: u8 = 8;
const FIRST_VIRTIO: u8 = 16;
/// Where q35 has its AHCI controller, in a machine with SATA disks: one that nothing hangs on would be a place that the probe cannot look into, where
/// its kernel has no driver for it.
const AHCI: (u8, u8) = (31, 2);
/// Where the TPM is spoken to, in the machine's folder.
pub(super) const TPM_SOCKET: &str = "tpm.sock";
/// The CD drive's name in QMP.
pub(super) const CD: &str = "cd";

/// A disk with its place.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub disk: Disk,
    pub ailment: Option<Ailment>,
    pub serial: String,
    /// Its number on its bus.
    number: u8,
}

impl Place {
    pub fn path(&self) -> DevicePath {
        match self.disk.bus {
            Bus::Nvme => DevicePath::pci(FIRST_NVME + self.number, 0).nvme(),
            Bus::Sata => DevicePath::pci(AHCI.0, AHCI.1).sata(u16::from(self.number)),
            Bus::Virtio => DevicePath::pci(FIRST_VIRTIO + self.number, 0),
            Bus::Scsi => DevicePath::pci(MEDIA_CONTROLLER, 0).scsi(1 + self.number),
        }
    }

    /// Its name in QMP.
    pub fn id(&self) -> String {
        let bus = match self.disk.bus {
            Bus::Nvme => "nvme",
            Bus::Sata => "sata",
            Bus::Virtio => "virtio",
            Bus::Scsi => "scsi",
        };
        format!("{bus}{}", self.number)
    }

    /// The PCI device of a virtio disk.
    pub fn virtio(&self) -> Option<u8> {
        (self.disk.bus == Bus::Virtio).then_some(FIRST_VIRTIO + self.number)
    }
}

/// All that tells one machine's command line from another's.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub uuid: String,
    pub serial: String,
    pub manufacturer: String,
    pub product: String,
    pub chassis_serial: String,
    pub macs: Vec<MacAddress>,
    pub disks: Vec<Place>,
    pub index: usize,
}

/// Where the disks go, in the order of the Redfish drives.
pub(super) fn places(
    disks: &[Disk],
    ailments: &[Option<Ailment>],
    serial: impl Fn(usize) -> String,
) -> Vec<Place> {
    let (mut nvme, mut sata, mut virtio, mut scsi) = (0, 0, 0, 0);
    disks
        .iter()
        .enumerate()
        .map(|(i, disk)| {
            let next = match disk.bus {
                Bus::Nvme => &mut nvme,
                Bus::Sata => &mut sata,
                Bus::Virtio => &mut virtio,
                Bus::Scsi => &mut scsi,
            };
            let number = *next;
            *next += 1;
            Place {
                disk: *disk,
                ailment: ailments.get(i).copied().flatten(),
                serial: serial(i),
                number,
            }
        })
        .collect()
}

/// Device path of the virtual CD drive.
pub(super) fn cd_path() -> DevicePath {
    DevicePath::pci(MEDIA_CONTROLLER, 0).scsi(0)
}

/// Device path of a network card.
pub(super) fn card_path(card: u8, mac: MacAddress) -> DevicePath {
    DevicePath::pci(FIRST_CARD + card, 0).ipv4(mac)
}

/// Name of the tap device of a card; 15 bytes at most.
pub(crate) fn tap(index: usize, card: usize) -> String {
    format!("ctap{index}.{card}")
}

/// A value within a comma-separated option.
fn value(text: &str) -> String {
    text.replace(',', ",,")
}

/// The whole command, with what confines it: the network namespace, and death with its parent.
pub(super) fn words(
    qemu: &Qemu,
    firmware: &Firmware,
    layout: &Layout,
    directory: &Directory,
    image: Option<&Path>,
) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    if let Network::Bridge {
        namespace: Some(namespace),
        ..
    } = &qemu.network
    {
        words.extend(["nsenter".to_owned(), namespace_file(namespace)]);
    }
    let mut option = |texts: &[&str]| words.extend(texts.iter().map(|text| (*text).to_owned()));
    option(&["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]);
    option(&["-nodefaults", "-no-user-config", "-display", "none"]);
    let smm = if qemu.secure_boot { ",smm=on" } else { "" };
    let has_sata = layout.disks.iter().any(|place| place.disk.bus == Bus::Sata);
    let sata = if has_sata { "on" } else { "off" };
    // KVM is not asked for: where it is nested it may hang.
    let machine = format!("q35,accel=tcg,sata={sata}{smm}");
    option(&["-machine", &machine, "-cpu", "max"]);
    option(&["-m", &qemu.memory_mib.to_string(), "-smp", "1"]);
    // A reset and a shutdown stop the machine and say why; what comes next is decided outside.
    option(&["-action", "reboot=shutdown,shutdown=pause"]);
    option(&["-chardev", "stdio,id=qmp,signal=off"]);
    option(&["-mon", "chardev=qmp,mode=control"]);
    option(&["-qmp", "unix:qmp.sock,server=on,wait=off"]);
    option(&["-chardev", "socket,id=console,path=console.sock"]);
    option(&["-serial", "chardev:console"]);
    let code = value(&firmware.code.to_string_lossy());
    option(&[
        "-drive",
        &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        "-drive",
        "if=pflash,unit=1,format=raw,file=variables.fd",
    ]);
    if qemu.secure_boot {
        option(&[
            "-global",
            "driver=cfi.pflash01,property=secure,value=on",
            "-global",
            "ICH9-LPC.disable_s3=1",
        ]);
    }
    if !qemu.pxe {
        for name in ["IPv4PXESupport", "IPv6PXESupport"] {
            option(&[
                "-fw_cfg",
                &format!("name=opt/org.tianocore/{name},string=n"),
            ]);
        }
    }
    option(&["-uuid", &layout.uuid]);
    let (maker, product) = (value(&layout.manufacturer), value(&layout.product));
    let (board, chassis) = (&layout.serial, &layout.chassis_serial);
    // SMBIOS of a PowerEdge has the service tag where Redfish has the board's number.
    let tag = board.get(board.len().saturating_sub(7)..).unwrap_or(board);
    let serial = if layout.manufacturer.starts_with("Dell") {
        tag
    } else {
        board
    };
    option(&[
        "-smbios",
        &format!(
            "type=1,manufacturer={maker},product={product},serial={serial},uuid={}",
            layout.uuid
        ),
        "-smbios",
        &format!("type=2,manufacturer={maker},product={product},serial={board}"),
        "-smbios",
        &format!("type=3,manufacturer={maker},serial={chassis}"),
    ]);
    option(&["-device", "virtio-rng-pci,addr=2"]);
    if qemu.tpm {
        option(&["-chardev", &format!("socket,id=tpm,path={TPM_SOCKET}")]);
        option(&["-tpmdev", "emulator,id=tpm0,chardev=tpm"]);
        option(&["-device", "tpm-tis,tpmdev=tpm0"]);
    }
    let controller = format!("virtio-scsi-pci,id=media,addr={MEDIA_CONTROLLER:#x}");
    option(&["-device", &controller]);
    for (number, place) in layout.disks.iter().enumerate() {
        let file = value(&directory.disk_path(number).to_string_lossy());
        // `unmap` makes discards reach the file, so that a test can see what was discarded.
        option(&[
            "-blockdev",
            &format!(
                "driver=raw,node-name=disk{number},discard=unmap,{}",
                backend(place.ailment, &file)
            ),
        ]);
        let (serial, on_bus, id) = (&place.serial, place.number, place.id());
        match place.disk.bus {
            Bus::Nvme => option(&[
                "-device",
                &format!(
                    "nvme,id={id},serial={serial},addr={:#x}",
                    FIRST_NVME + on_bus
                ),
                "-device",
                &format!("nvme-ns,drive=disk{number},bus={id},nsid=1"),
            ]),
            Bus::Sata => option(&[
                "-device",
                &format!(
                    "ide-hd,id={id},drive=disk{number},bus=ide.{on_bus},serial={serial},model={}",
                    super::hardware::SATA_MODEL
                ),
            ]),
            Bus::Virtio => option(&[
                "-device",
                &format!(
                    "virtio-blk-pci,id={id},drive=disk{number},serial={serial},addr={:#x}",
                    FIRST_VIRTIO + on_bus
                ),
            ]),
            Bus::Scsi => option(&[
                "-device",
                &format!(
                    "scsi-hd,id={id},drive=disk{number},bus=media.0,scsi-id={},lun=0,serial={serial}",
                    1 + on_bus
                ),
            ]),
        }
    }
    let mut drive = format!("scsi-cd,id={CD},bus=media.0,scsi-id=0,lun=0");
    if let Some(image) = image {
        let file = value(&image.to_string_lossy());
        option(&[
            "-blockdev",
            &format!(
                "driver=raw,node-name=image,read-only=on,file.driver=file,file.filename={file}"
            ),
        ]);
        drive.push_str(",drive=image");
    }
    option(&["-device", &drive]);
    for (card, mac) in layout.macs.iter().enumerate() {
        let backend = match &qemu.network {
            Network::User => format!("user,id=net{card}"),
            Network::Bridge { .. } => format!(
                "tap,id=net{card},ifname={},script=no,downscript=no",
                tap(layout.index, card)
            ),
        };
        option(&["-netdev", &backend]);
        // No option ROM: the firmware's own drivers boot from the network, as on real machines.
        option(&[
            "-device",
            &format!(
                "virtio-net-pci,netdev=net{card},mac={mac},addr={:#x},romfile=",
                usize::from(FIRST_CARD) + card
            ),
        ]);
    }
    words
}

/// What a disk's blocks come from: its file, or one that something ails.
fn backend(ailment: Option<Ailment>, file: &str) -> String {
    match ailment {
        None => format!("file.driver=file,file.filename={file}"),
        Some(Ailment::ReadOnly) => {
            format!("read-only=on,file.driver=file,file.filename={file}")
        }
        Some(Ailment::BadBlock(byte)) => {
            let sector = byte / 512;
            let mut words =
                format!("file.driver=blkdebug,file.image.driver=file,file.image.filename={file}");
            for (number, kind) in ["write", "discard", "write-zeroes"].into_iter().enumerate() {
                let rule = format!("file.inject-error.{number}");
                let _ = write!(
                    words,
                    ",{rule}.event=none,{rule}.iotype={kind},{rule}.errno=5,{rule}.sector={sector}"
                );
            }
            words
        }
    }
}

/// The command of a machine's TPM, which ends when the machine lets go of it.
pub(super) fn tpm() -> Vec<String> {
    let control = format!("type=unixio,path={TPM_SOCKET}");
    let words = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "swtpm",
        "socket",
        "--tpm2",
        "--terminate",
        "--tpmstate",
        "dir=tpm",
        "--ctrl",
        &control,
    ];
    words.map(str::to_owned).to_vec()
}

/// What `nsenter` takes for a namespace that `ip netns` made.
pub(super) fn namespace_file(namespace: &str) -> String {
    format!("--net=/run/netns/{namespace}")
}
