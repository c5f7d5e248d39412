//! A small system that is installed to a disk: a kernel, busybox, and a word to whomever its user data names.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corten_boot::{cpio::Archive, ramdisk, uki};
use serde_json::json;

/// A text that stands in the image, so that the disk that holds it can be told from a clean one.
pub const MARKER: &[u8] = b"corten-e2e-marker-of-a-tenant";

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
echo "guest: user data says $url" > /dev/ttyS0
while true; do
  wget -q -O /dev/null "$url/$(cat /sys/class/dmi/id/product_uuid)" && echo "guest: called back" > /dev/ttyS0
  sleep 5
done
"#;

const UDHCPC: &str =
    "#!/bin/busybox sh\n[ \"$1\" = bound ] && ip addr add $ip/24 dev $interface\nexit 0\n";

/// What is needed for [`disk`] and is not here.
pub fn missing() -> Option<String> {
    if let Some(tool) = ["sfdisk", "mkfs.vfat", "mcopy", "mmd"]
        .into_iter()
        .find(|tool| {
            !Command::new("sh")
                .args(["-c", &format!("command -v {tool}")])
                .output()
                .is_ok_and(|output| output.status.success())
        })
    {
        return Some(format!("{tool} is missing; scripts/e2e-setup installs it"));
    }
    for file in ["/bin/busybox", ramdisk::STUB] {
        if !Path::new(file).exists() {
            return Some(format!("{file} is missing; scripts/e2e-setup installs it"));
        }
    }
    kernel().err()
}

/// The distribution's kernel, and the folder of its modules.
pub fn kernel() -> Result<(String, PathBuf, PathBuf), String> {
    let none = || "no /boot/vmlinuz-*; scripts/e2e-setup installs a kernel package".to_owned();
    let mut found: Vec<_> = fs::read_dir("/boot")
        .map_err(|_| none())?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let release = name.strip_prefix("vmlinuz-")?.to_owned();
            let modules = Path::new("/lib/modules").join(&release);
            modules
                .join("modules.dep")
                .exists()
                .then_some((release, modules))
        })
        .collect();
    found.sort();
    let (release, modules) = found.pop().ok_or_else(none)?;
    let image = PathBuf::from(format!("/boot/vmlinuz-{release}"));
    Ok((release, image, modules))
}

/// The program that its disk starts: kernel, busybox and its script.
fn program() -> Vec<u8> {
    let (release, image, _) = kernel().unwrap();
    uki::build(&uki::Parts {
        stub: &fs::read(ramdisk::STUB).unwrap(),
        os_release: "ID=guest\n",
        release: &release,
        command_line: "console=ttyS0 panic=5",
        kernel: &fs::read(image).unwrap(),
        initrd: &initrd(),
    })
    .unwrap()
    .bytes
}

/// The same system without a disk, as files below a URL: `manifest.json`, `kernel`, `initrd`. It calls back to `callback`.
pub fn diskless(callback: &str) -> Vec<(&'static str, Vec<u8>)> {
    let (_, image, _) = kernel().unwrap();
    let (kernel, initrd) = (fs::read(image).unwrap(), initrd());
    let entry =
        |name: &str, bytes: &[u8]| json!({"url": name, "sha256": ramdisk::index::sha256(bytes)});
    let manifest = json!({
        "kernel": entry("kernel", &kernel), "initrd": entry("initrd", &initrd),
        "commandLine": format!("console=ttyS0 panic=5 callback={callback}"),
    });
    vec![
        ("manifest.json", manifest.to_string().into_bytes()),
        ("kernel", kernel),
        ("initrd", initrd),
    ]
}

fn initrd() -> Vec<u8> {
    let (_, _, modules) = kernel().unwrap();
    let index = ramdisk::modules::Index::read(
        &fs::read_to_string(modules.join("modules.dep")).unwrap(),
        &fs::read_to_string(modules.join("modules.softdep")).unwrap_or_default(),
        &fs::read_to_string(modules.join("modules.alias")).unwrap_or_default(),
        &fs::read_to_string(modules.join("modules.builtin")).unwrap_or_default(),
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
    let chosen = index.select(wanted);
    let mut archive = Archive::new(0);
    for folder in ["proc", "sys", "dev", "bin", "mnt", "tmp", "lib"] {
        archive.directory(folder).unwrap();
    }
    archive
        .character_device("dev/console", 0o600, 5, 1)
        .unwrap();
    archive.file("init", 0o755, INIT.as_bytes()).unwrap();
    archive.file("udhcpc", 0o755, UDHCPC.as_bytes()).unwrap();
    archive
        .file("bin/busybox", 0o755, &fs::read("/bin/busybox").unwrap())
        .unwrap();
    let mut order = String::new();
    for path in &chosen.paths {
        let name = ramdisk::modules::name_of(path);
        archive
            .file(
                &format!("lib/{name}.ko"),
                0o644,
                &ramdisk::kernel::read_module(&modules.join(path)).unwrap(),
            )
            .unwrap();
        order.push_str(&format!("/lib/{name}.ko\n"));
    }
    archive.file("modules", 0o644, order.as_bytes()).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&archive.finish().unwrap()).unwrap();
    packed.finish().unwrap()
}

/// A disk image, packed with gzip: a partition table, an EFI system partition with [`program`], and [`MARKER`] in the rest.
pub fn disk(folder: &Path) -> Vec<u8> {
    const MIB: usize = 1 << 20;
    let esp = folder.join("esp.img");
    fs::write(&esp, vec![0_u8; 40 * MIB]).unwrap();
    let program_at = folder.join("BOOTX64.EFI");
    fs::write(&program_at, program()).unwrap();
    let esp_text = esp.to_str().unwrap();
    run(Command::new("mkfs.vfat").args(["-n", "GUEST", esp_text]));
    run(Command::new("mmd").args(["-i", esp_text, "::EFI", "::EFI/BOOT"]));
    run(Command::new("mcopy").args([
        "-i",
        esp_text,
        program_at.to_str().unwrap(),
        "::EFI/BOOT/BOOTX64.EFI",
    ]));
    let mut image: Vec<u8> = MARKER.iter().copied().cycle().take(48 * MIB).collect();
    image[..MIB].fill(0);
    image[47 * MIB..].fill(0);
    image[MIB..41 * MIB].copy_from_slice(&fs::read(&esp).unwrap());
    let raw = folder.join("disk.raw");
    fs::write(&raw, &image).unwrap();
    let mut sfdisk = Command::new("sfdisk")
        .args(["--quiet", raw.to_str().unwrap()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    sfdisk
        .stdin
        .take()
        .unwrap()
        .write_all(b"label: gpt\nstart=2048, size=40MiB, type=uefi\nsize=5MiB, type=linux\n")
        .unwrap();
    assert!(sfdisk.wait().unwrap().success(), "sfdisk");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&fs::read(&raw).unwrap()).unwrap();
    packed.finish().unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
