//! The ramdisk from the distribution's kernel, and its boot by real UEFI firmware. Needs a static probe (`CORTEN_PROBE`), a kernel with its modules
//! (`/boot`, or another root in `CORTEN_KERNEL_ROOT`), `systemd-boot-efi`, and for the boot `qemu-system-x86` and `ovmf`. Where one of them is
//! missing, the test is skipped and says which.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs
)]

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use corten_boot::ramdisk::{COMMAND_LINE, Index, KernelSource, Options, Profile, STUB, build};

const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

macro_rules! need {
    ($missing:expr) => {
        if let Some(missing) = $missing {
            println!(
                "skipped: {}: {missing}",
                std::thread::current().name().unwrap_or("a test")
            );
            return;
        }
    };
}

fn kernel_root() -> PathBuf {
    std::env::var_os("CORTEN_KERNEL_ROOT")
        .unwrap_or_else(|| "/".into())
        .into()
}

/// What a ramdisk needs and is not here.
fn missing_for_ramdisk() -> Option<String> {
    if std::env::var_os("CORTEN_PROBE").is_none() {
        return Some("CORTEN_PROBE does not name a static probe".into());
    }
    let kernels = kernel_root().join("boot");
    let kernel = std::fs::read_dir(&kernels)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"));
    if !kernel {
        return Some(format!("there is no kernel in {}", kernels.display()));
    }
    (!Path::new(STUB).exists()).then(|| format!("there is no {STUB} (package systemd-boot-efi)"))
}

/// What a boot of one needs and is not here.
fn missing_for_boot() -> Option<String> {
    missing_for_ramdisk()
        .or_else(|| {
            let qemu = Command::new("qemu-system-x86_64")
                .arg("--version")
                .stdout(Stdio::null())
                .status();
            qemu.is_err()
                .then(|| "there is no qemu-system-x86_64".into())
        })
        .or_else(|| {
            (!Path::new(FIRMWARE).exists())
                .then(|| format!("there is no {FIRMWARE} (package ovmf)"))
        })
}

/// A probe that is named and is none is a failure, not a reason to skip.
fn options(profile: Profile, out: &Path) -> Options {
    let probe = std::env::var_os("CORTEN_PROBE").expect("looked at before");
    Options {
        kernel: KernelSource::Root(kernel_root()),
        release: None,
        profile,
        probe: PathBuf::from(probe),
        stub: PathBuf::from(STUB),
        command_line: COMMAND_LINE.into(),
        time: 0,
        out: out.to_owned(),
    }
}

/// Lays a command line over a copy of an artefact, as the server does while it streams.
fn patched(folder: &Path, name: &str, line: &str) -> PathBuf {
    let index = Index::open(folder).unwrap();
    let file = if name == index.iso.name {
        &index.iso
    } else {
        &index.efi
    };
    let copy = folder.join(format!("patched-{name}"));
    std::fs::copy(folder.join(name), &copy).unwrap();
    let mut handle = std::fs::OpenOptions::new().write(true).open(&copy).unwrap();
    handle
        .seek(SeekFrom::Start(file.slot.unwrap().offset))
        .unwrap();
    handle
        .write_all(&corten_boot::uki::slot(line).unwrap())
        .unwrap();
    copy
}

/// Starts OVMF with these drives; what the serial console said until `wanted` or until time was up.
fn boot(folder: &Path, drive: &[&str], wanted: &str) -> (String, Duration) {
    let console = folder.join("console");
    let started = Instant::now();
    let mut machine = Command::new("qemu-system-x86_64")
        .args([
            "-machine",
            "q35,accel=tcg",
            "-cpu",
            "max",
            "-m",
            "1024",
            "-display",
            "none",
            "-no-reboot",
            "-nic",
            "none",
            "-monitor",
            "none",
        ])
        .arg("-drive")
        .arg(format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}"))
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(drive)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    while started.elapsed() < Duration::from_secs(120)
        && !said.contains(wanted)
        && machine.try_wait().unwrap().is_none()
    {
        std::thread::park_timeout(Duration::from_millis(200));
        let mut bytes = Vec::new();
        if let Ok(mut file) = std::fs::File::open(&console) {
            file.read_to_end(&mut bytes).unwrap();
        }
        said = String::from_utf8_lossy(&bytes).into_owned();
    }
    let took = started.elapsed();
    let _ = machine.kill();
    let _ = machine.wait();
    (said, took)
}

#[test]
fn firmware_boots_the_iso_and_the_probe_reads_its_own_command_line() {
    need!(missing_for_boot());
    let folder = tempfile::tempdir().unwrap();
    let index = build(&options(Profile::Virtual, folder.path())).unwrap();
    eprintln!(
        "kernel {} initrd {} efi {} iso {} missing {:?}",
        index.kernel.length, index.initrd.length, index.efi.length, index.iso.length, index.missing
    );
    assert!(
        index.efi.length <= 32 << 20,
        "the ramdisk has {} bytes with its kernel",
        index.efi.length
    );
    let iso = patched(
        folder.path(),
        "boot.iso",
        &format!("{COMMAND_LINE} corten.url=http://192.0.2.7:8082 corten.token=abc"),
    );
    let cd = format!("file={},media=cdrom,format=raw,readonly=on", iso.display());
    let stick = format!("file={},if=virtio,format=raw,readonly=on", iso.display());
    for drive in [cd, stick] {
        let (said, took) = boot(
            folder.path(),
            &["-drive", &drive],
            "the registry is at http://192.0.2.7:8082",
        );
        eprintln!("{} s for {drive}", took.as_secs_f32());
        assert!(
            said.contains("the registry is at http://192.0.2.7:8082"),
            "{}",
            said.chars()
                .rev()
                .take(3000)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<String>()
        );
    }
}

#[test]
fn the_distribution_kernel_makes_the_same_bytes_twice() {
    need!(missing_for_ramdisk());
    let folder = tempfile::tempdir().unwrap();
    let profile =
        std::env::var("CORTEN_PROFILE").map_or(Profile::Virtual, |name| name.parse().unwrap());
    let first = build(&options(profile, &folder.path().join("one"))).unwrap();
    eprintln!(
        "kernel {} initrd {} efi {} modules {} missing {:?}",
        first.kernel.length,
        first.initrd.length,
        first.efi.length,
        first.modules.len(),
        first.missing
    );
    assert_eq!(
        first,
        build(&options(profile, &folder.path().join("two"))).unwrap()
    );
}
