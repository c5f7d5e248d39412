//! A small system that is installed to a disk or runs without one: a kernel, busybox, and a word to whomever its user data or its ignition names.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corten_boot::piece::{self, Piece};
use corten_boot::{cpio::Archive, ramdisk, uki};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use crate::error::{Error, checked, run};

/// A text that stands in the image, so that the disk that holds it can be told from a clean one.
pub const MARKER: &[u8] = b"corten-marker-of-a-tenant";

const BUSYBOX: &str = "/bin/busybox";
const MIB: usize = 1 << 20;
/// Bytes of the image of [`disk`], unpacked.
pub const LENGTH: usize = 48 * MIB;
const COMMAND_LINE: &str = "console=ttyS0 panic=5";

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules); do insmod $module; done
echo "guest: $(uname -r) runs from its disk" > /dev/ttyS0
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -n -q -t 20 -s /udhcpc > /dev/ttyS0 2>&1
for part in /dev/nvme0n1p* /dev/sda* /dev/vda*; do
  mount -t iso9660 -o ro $part /mnt 2>/dev/null && [ -f /mnt/user-data ] && break
  umount /mnt 2>/dev/null
done
url=$(grep -o 'http://[^ ]*' /mnt/user-data)
[ -z "$url" ] && url=$(grep -o 'callback=[^ ]*' /proc/cmdline | cut -d= -f2)
ignition=$(grep -o 'ignition.config.url=[^ ]*' /proc/cmdline | cut -d= -f2-)
if [ -z "$url" ] && [ -n "$ignition" ]; then
  until wget -q -O /tmp/ignition "$ignition"; do sleep 2; done
  url=$(grep -o 'data:,http://[^"]*' /tmp/ignition | cut -d, -f2)
fi
echo "guest: user data says $url" > /dev/ttyS0
start=$(cat /proc/sys/kernel/random/boot_id)
while true; do
  said=$(wget -q -O - "$url/$(cat /sys/class/dmi/id/product_uuid)/$start") && echo "guest: called back" > /dev/ttyS0
  [ "$said" = restart ] && reboot -f
  sleep 5
done
"#;

const UDHCPC: &str =
    "#!/bin/busybox sh\n[ \"$1\" = bound ] && ip addr add $ip/24 dev $interface\nexit 0\n";

/// What is missing here for [`disk`] and [`diskless`], each with why it is needed and how to get it.
pub fn missing() -> Vec<String> {
    let mut missing: Vec<String> = [
        ("sfdisk", "partitions the image"),
        ("mkfs.vfat", "makes its EFI system partition"),
        ("mcopy", "fills that"),
        ("mmd", "fills that"),
    ]
    .into_iter()
    .filter_map(|(program, why)| crate::absent(program, why))
    .collect();
    match fs::read(BUSYBOX) {
        Err(_) => missing.push(format!(
            "{BUSYBOX} is missing, which is all of the guest's programs; scripts/e2e-setup installs it"
        )),
        // The name of the loader that a program with shared libraries asks for.
        Ok(bytes) if holds(&bytes, b"/ld-linux") => missing.push(format!(
            "{BUSYBOX} needs shared libraries, which the guest has not; install busybox-static (scripts/e2e-setup does)"
        )),
        Ok(_) => {}
    }
    if !Path::new(ramdisk::STUB).exists() {
        missing.push(format!(
            "{} is missing, with which a kernel becomes an EFI program; scripts/e2e-setup installs it",
            ramdisk::STUB
        ));
    }
    missing.extend(Kernel::find().err().map(|error| error.to_string()));
    missing
}

/// What is missing for [`iso`] besides.
pub fn missing_for_iso() -> Option<String> {
    crate::absent("xorriso", "makes the image of a disc")
}

/// The distribution's kernel, and the folder of its modules.
struct Kernel {
    release: String,
    image: PathBuf,
    modules: PathBuf,
}

// === impl Kernel ===

impl Kernel {
    /// The newest of this computer.
    fn find() -> Result<Self, Error> {
        let newest = fs::read_dir("/boot")
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let release = name.strip_prefix("vmlinuz-")?.to_owned();
                let modules = Path::new("/lib/modules").join(&release);
                modules
                    .join("modules.dep")
                    .exists()
                    .then_some((release, modules))
            })
            .max();
        let Some((release, modules)) = newest else {
            return Err(Error::Missing(
                "there is no /boot/vmlinuz-* with its modules, which the guest runs; scripts/e2e-setup installs a kernel's package"
                    .to_owned(),
            ));
        };
        Ok(Self {
            image: PathBuf::from(format!("/boot/vmlinuz-{release}")),
            release,
            modules,
        })
    }

    /// The guest's ramdisk: busybox, its script, and the drivers of QEMU's devices.
    fn initrd(&self) -> Result<Vec<u8>, Error> {
        let list = |name: &str| fs::read_to_string(self.modules.join(name)).unwrap_or_default();
        let index = ramdisk::modules::Index::read(
            &list("modules.dep"),
            &list("modules.softdep"),
            &list("modules.alias"),
            &list("modules.builtin"),
        );
        let wanted = [
            "virtio_pci",
            "virtio_net",
            "virtio_blk",
            "ahci",
            "sd_mod",
            "nvme",
            "isofs",
        ];
        let mut archive = Archive::new(0);
        for folder in ["proc", "sys", "dev", "bin", "mnt", "tmp", "lib"] {
            archive.directory(folder)?;
        }
        archive.character_device("dev/console", 0o600, 5, 1)?;
        archive.file("init", 0o755, INIT.as_bytes())?;
        archive.file("udhcpc", 0o755, UDHCPC.as_bytes())?;
        archive.file("bin/busybox", 0o755, &read(Path::new(BUSYBOX))?)?;
        let mut order = String::new();
        for path in &index.select(wanted).paths {
            let name = ramdisk::modules::name_of(path);
            let module = ramdisk::kernel::read_module(&self.modules.join(path))?;
            archive.file(&format!("lib/{name}.ko"), 0o644, &module)?;
            order.push_str(&format!("/lib/{name}.ko\n"));
        }
        archive.file("modules", 0o644, order.as_bytes())?;
        pack(&archive.finish()?)
    }

    /// The program that firmware starts: kernel, busybox and its script.
    fn program(&self, command_line: &str) -> Result<Vec<u8>, Error> {
        let image = read(&self.image)?;
        let parts = uki::Parts {
            stub: &read(Path::new(ramdisk::STUB))?,
            os_release: "ID=guest\n",
            release: &self.release,
            command_line,
            head: &image,
            kernel: vec![Piece::from(image.clone())],
            initrd: vec![Piece::from(self.initrd()?)],
        };
        piece::whole(&uki::build(parts)?.pieces).map_err(|source| Error::File {
            path: self.image.clone(),
            source,
        })
    }
}

/// The same system without a disk, as files below a URL: `manifest.json`, `kernel`, `initrd`. It calls back to `callback`.
///
/// # Errors
/// See [`missing`].
pub fn diskless(callback: &str) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
    let found = Kernel::find()?;
    let (kernel, initrd) = (read(&found.image)?, found.initrd()?);
    let entry =
        |name: &str, bytes: &[u8]| json!({"url": name, "sha256": ramdisk::index::sha256(bytes)});
    let manifest = json!({
        "kernel": entry("kernel", &kernel), "initrd": entry("initrd", &initrd),
        "commandLine": format!("{COMMAND_LINE} callback={callback}"),
    });
    Ok(vec![
        ("manifest.json", manifest.to_string().into_bytes()),
        ("kernel", kernel),
        ("initrd", initrd),
    ])
}

/// An ignition configuration that has the system call back to `callback`, where neither user data nor the kernel's command line names another. Its
/// command line has to say where the configuration is (`ignition.config.url=`).
pub fn ignition(callback: &str) -> String {
    let file =
        json!({"path": "/etc/callback", "contents": {"source": format!("data:,{callback}")}});
    json!({"ignition": {"version": "3.4.0"}, "storage": {"files": [file]}}).to_string()
}

/// A disk image, packed with gzip: a partition table, an EFI system partition with the system, and [`MARKER`] in the rest. Made in `folder`.
///
/// # Errors
/// See [`missing`].
pub fn disk(folder: &Path) -> Result<Vec<u8>, Error> {
    let (esp, program, raw) = (
        folder.join("esp.img"),
        folder.join("BOOTX64.EFI"),
        folder.join("disk.raw"),
    );
    write(&program, &Kernel::find()?.program(COMMAND_LINE)?)?;
    system_partition(&esp, &program)?;
    let mut image = vec![0; MIB];
    image.extend(read(&esp)?);
    if image.len() != 41 * MIB {
        return Err(Error::Size);
    }
    image.extend(marked(6 * MIB));
    image.resize(LENGTH, 0);
    write(&raw, &image)?;
    partition(&raw)?;
    pack(&read(&raw)?)
}

/// The system without a disk as an ISO image that UEFI boots, made by xorriso in `folder`. It calls back to `callback`.
///
/// # Errors
/// See [`missing`] and [`missing_for_iso`].
pub fn iso(folder: &Path, callback: &str) -> Result<Vec<u8>, Error> {
    let (tree, program, iso) = (
        folder.join("iso"),
        folder.join("live.efi"),
        folder.join("live.iso"),
    );
    fs::create_dir_all(&tree).map_err(Error::file(&tree))?;
    write(
        &program,
        &Kernel::find()?.program(&format!("{COMMAND_LINE} callback={callback}"))?,
    )?;
    system_partition(&tree.join("efi.img"), &program)?;
    run(Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-V", "LIVE"])
        .args(["-e", "efi.img", "-no-emul-boot", "-o"])
        .arg(&iso)
        .arg(&tree))?;
    read(&iso)
}

/// An EFI system partition with `program` as what firmware starts first.
fn system_partition(esp: &Path, program: &Path) -> Result<(), Error> {
    write(esp, &vec![0; 40 * MIB])?;
    run(Command::new("mkfs.vfat").args(["-n", "GUEST"]).arg(esp))?;
    run(Command::new("mmd")
        .arg("-i")
        .arg(esp)
        .args(["::EFI", "::EFI/BOOT"]))?;
    run(Command::new("mcopy")
        .arg("-i")
        .arg(esp)
        .arg(program)
        .arg("::EFI/BOOT/BOOTX64.EFI"))?;
    Ok(())
}

/// `length` bytes full of [`MARKER`]: what a tenant leaves on a disk.
pub fn marked(length: usize) -> Vec<u8> {
    MARKER.iter().copied().cycle().take(length).collect()
}

/// Whether [`MARKER`] stands anywhere in a file.
///
/// # Errors
/// If the file cannot be read.
pub fn is_marked(path: &Path) -> Result<bool, Error> {
    let mut file = File::open(path).map_err(Error::file(path))?;
    let (mut window, mut kept) = (vec![0; MIB], 0);
    // Most of a clean disk, and quick to tell.
    let zeros = vec![0; MIB];
    loop {
        let free = window.get_mut(kept..).unwrap_or_default();
        let length = kept + file.read(free).map_err(Error::file(path))?;
        let bytes = window.get(..length).unwrap_or_default();
        if length == kept {
            return Ok(false);
        }
        if zeros.get(..length) != Some(bytes) && holds(bytes, MARKER) {
            return Ok(true);
        }
        // It may stand across two pieces.
        let rest = length.saturating_sub(MARKER.len() - 1);
        window.copy_within(rest..length, 0);
        kept = length - rest;
    }
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn partition(raw: &Path) -> Result<(), Error> {
    let mut command = Command::new("sfdisk");
    command.arg("--quiet").arg(raw);
    let mut sfdisk = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::start("sfdisk"))?;
    let table = b"label: gpt\nstart=2048, size=40MiB, type=uefi\nsize=5MiB, type=linux\n";
    let written = sfdisk
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(table));
    let output = sfdisk.wait_with_output().map_err(Error::start("sfdisk"))?;
    // What it said of itself says more than a broken pipe.
    checked(&command, &output)?;
    written.map_err(Error::start("sfdisk"))
}

fn pack(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let packed = || -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes)?;
        encoder.finish()
    };
    packed().map_err(Error::Pack)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::file(path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(Error::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        for at in [0, 1, MIB - 5, MIB, 2 * MIB - MARKER.len()] {
            let mut bytes = vec![0; 2 * MIB];
            bytes[at..at + MARKER.len()].copy_from_slice(MARKER);
            write(&path, &bytes).unwrap();
            assert!(is_marked(&path).unwrap(), "at {at}");
            bytes[at] = 0;
            write(&path, &bytes).unwrap();
            assert!(!is_marked(&path).unwrap(), "at {at}");
        }
    }
}
