//! Drives that are files and scripts.

use super::*;
use crate::device::file::FileDevice;
use crate::device::{Ata, BlockDevice, CommandSet, NvmeAdmin, Scsi};
use crate::inventory::drives::Attachment;
use corten_probe_ioctl::{NvmeCommand, NvmeCompletion, SgReply, Transfer};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

const SIZE: u64 = 40 << 20;

/// A file full of `0xa5`, with switches.
#[derive(Clone)]
struct Disk {
    path: PathBuf,
    fail_after: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
    lies: Arc<AtomicBool>,
    erased: Arc<AtomicU64>,
}

impl Disk {
    fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        std::fs::write(&path, vec![0xa5; usize::try_from(SIZE).unwrap()]).unwrap();
        Self {
            path,
            fail_after: Arc::new(AtomicU64::new(u64::MAX)),
            written: Arc::default(),
            lies: Arc::default(),
            erased: Arc::default(),
        }
    }

    fn open(&self) -> Opened {
        let file: File = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .unwrap();
        Opened(FileDevice::new(file).unwrap(), self.clone())
    }

    fn fill(&self, byte: u8) {
        std::fs::write(&self.path, vec![byte; usize::try_from(SIZE).unwrap()]).unwrap();
    }

    fn is_untouched(&self) -> bool {
        self.written.load(Ordering::SeqCst) == 0
            && std::fs::read(&self.path)
                .unwrap()
                .iter()
                .all(|byte| *byte == 0xa5)
    }

    fn is_zero(&self) -> bool {
        std::fs::read(&self.path)
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    }
}

struct Opened(FileDevice, Disk);

impl BlockDevice for Opened {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let written = self
            .1
            .written
            .fetch_add(bytes.len() as u64, Ordering::SeqCst);
        if written >= self.1.fail_after.load(Ordering::SeqCst) {
            return Err(io::Error::other("medium error"));
        }
        if self.1.lies.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.write_at(offset, bytes)
    }
    fn settle(&self) -> io::Result<()> {
        self.0.settle()
    }
    fn zero_out(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.zero_out(offset, length)
    }
    fn secure_discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.secure_discard(offset, length)
    }
    fn reread_partitions(&self) -> io::Result<()> {
        Ok(())
    }
}

type Commands = Box<dyn Fn() -> CommandSet + Sync>;

struct Bench {
    drives: Vec<(Found, Disk, Commands)>,
    used: Vec<String>,
    gone_after: AtomicU32,
}

fn found(serial: &str) -> Found {
    Found {
        kernel_name: format!("sd{serial}"),
        serial_number: serial.to_owned(),
        wwid: None,
        vendor: String::new(),
        model: "Scripted".into(),
        firmware: String::new(),
        size_bytes: SIZE,
        rotational: false,
        read_only: false,
        transport: "sata".into(),
        attachment: Attachment::Local,
    }
}

impl World for Bench {
    fn scan(&self) -> Vec<Found> {
        let left = self.gone_after.load(Ordering::SeqCst);
        if left == 0 {
            return Vec::new();
        }
        self.gone_after.store(left - 1, Ordering::SeqCst);
        self.drives
            .iter()
            .map(|(found, _, _)| found.clone())
            .collect()
    }
    fn in_use(&self, found: &Found) -> Option<String> {
        self.used
            .contains(&found.serial_number)
            .then(|| "mounted".to_owned())
    }
    fn partitions(&self, _: &Found) -> Vec<u64> {
        vec![1 << 20, 20 << 20]
    }
    fn open(&self, found: &Found) -> io::Result<Device> {
        let (_, disk, commands) = self
            .drives
            .iter()
            .find(|(one, _, _)| one.kernel_name == found.kernel_name)
            .unwrap();
        Ok(Device {
            block: Box::new(disk.open()),
            commands: commands(),
        })
    }
}

fn bench(drives: Vec<(Found, Disk, Commands)>) -> Bench {
    Bench {
        drives,
        used: Vec::new(),
        gone_after: AtomicU32::new(u32::MAX),
    }
}

fn plain(serial: &str, disk: &Disk) -> (Found, Disk, Commands) {
    (found(serial), disk.clone(), Box::new(|| CommandSet::None))
}

fn run(bench: &Bench, serials: &[&str], method: EraseMethod) -> Vec<DriveResult> {
    let grant = EraseGrant {
        id: "g".into(),
        drives: serials.iter().map(|serial| (*serial).to_owned()).collect(),
        method,
        ..EraseGrant::default()
    };
    drives(bench, &grant, &Stop::default(), &|_| {})
}

#[test]
fn only_the_named_drive_is_erased_and_it_is_proved() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (Disk::new(folder.path(), "a"), Disk::new(folder.path(), "b"));
    let results = run(
        &bench(vec![plain("A", &a), plain("B", &b)]),
        &["A"],
        EraseMethod::Purge,
    );
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].outcome, Outcome::Succeeded, "{results:?}");
    assert_eq!(results[0].method, "Overwrite");
    assert_eq!(results[0].class, EraseClass::Clear);
    assert!(results[0].verified);
    assert!(a.is_zero());
    assert!(b.is_untouched());
}

#[test]
fn drives_that_are_unknown_doubled_used_or_untouchable_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "a");
    let mut fabric = plain("F", &disk);
    fabric.0.attachment = Attachment::Fabric;
    let mut read_only = plain("R", &disk);
    read_only.0.read_only = true;
    let mut bench = bench(vec![
        plain("D", &disk),
        plain("D", &disk),
        plain("U", &disk),
        fabric,
        read_only,
    ]);
    bench.used.push("U".into());
    let results = run(&bench, &["D", "U", "F", "R", "X", ""], EraseMethod::Purge);
    assert_eq!(results.len(), 6);
    for result in &results {
        assert_eq!(result.outcome, Outcome::Failed);
        assert_eq!(result.class, EraseClass::None);
        assert!(!result.message.is_empty());
    }
    assert!(disk.is_untouched());
}

#[test]
fn a_drive_that_fails_midway_is_failed_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "a");
    disk.fail_after.store(8 << 20, Ordering::SeqCst);
    let results = run(&bench(vec![plain("A", &disk)]), &["A"], EraseMethod::Clear);
    assert_eq!(results[0].outcome, Outcome::Failed);
    assert!(!results[0].verified);
    assert!(
        results[0].message.contains("medium error"),
        "{}",
        results[0].message
    );
}

#[test]
fn a_drive_that_takes_writes_and_keeps_none_is_not_verified() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "a");
    disk.lies.store(true, Ordering::SeqCst);
    let results = run(&bench(vec![plain("A", &disk)]), &["A"], EraseMethod::Clear);
    assert_eq!(results[0].outcome, Outcome::Failed);
    assert!(
        results[0].message.contains("not verified"),
        "{}",
        results[0].message
    );
}

#[test]
fn a_drive_that_vanishes_before_it_is_erased_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "a");
    let bench = bench(vec![plain("A", &disk)]);
    bench.gone_after.store(1, Ordering::SeqCst);
    let results = run(&bench, &["A"], EraseMethod::Clear);
    assert_eq!(results[0].outcome, Outcome::Failed);
    assert!(results[0].message.contains("refused"));
    assert!(disk.is_untouched());
}

#[test]
fn a_stop_ends_it_within_a_second_and_nothing_is_called_erased() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "a");
    let bench = bench(vec![plain("A", &disk)]);
    let grant = EraseGrant {
        drives: vec!["A".into()],
        ..EraseGrant::default()
    };
    let stop = Stop::default();
    let begun = Instant::now();
    let results = drives(&bench, &grant, &stop, &|percent| {
        if percent > 20 {
            stop.stop("the grant is taken back");
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(results[0].outcome, Outcome::Failed);
    assert!(results[0].message.contains("taken back"));
    assert!(!disk.is_zero());
}

#[test]
fn metadata_takes_both_ends_and_superblocks_and_is_called_no_more_than_that() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "a");
    let results = run(
        &bench(vec![plain("A", &disk)]),
        &["A"],
        EraseMethod::Metadata,
    );
    assert_eq!(results[0].class, EraseClass::Metadata, "{results:?}");
    let bytes = std::fs::read(&disk.path).unwrap();
    assert!(bytes[..16 << 20].iter().all(|byte| *byte == 0));
    assert!(bytes[20 << 20..21 << 20].iter().all(|byte| *byte == 0));
    assert!(bytes[24 << 20..].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[22 << 20], 0xa5);
}

/// An NVMe controller: sanitize takes three looks at its log, and ends as `ends`.
struct Nvme {
    serial: &'static str,
    namespaces: u32,
    /// More that are allocated and not attached.
    detached: u32,
    sanitizes: bool,
    ends: u16,
    looks: AtomicU32,
    disk: Disk,
}

impl NvmeAdmin for Nvme {
    fn admin(&self, command: &NvmeCommand, data: Transfer<'_>) -> io::Result<NvmeCompletion> {
        let mut answer = vec![0_u8; 4096];
        match (command.opcode, command.cdw[0] & 0xff) {
            (0x06, 1) => {
                answer[4..24].copy_from_slice(format!("{:<20}", self.serial).as_bytes());
                answer[328] = if self.sanitizes { 2 } else { 0 };
                answer[256] = if self.detached > 0 { 2 | 8 } else { 2 };
            }
            (0x06, 2 | 0x10) => {
                let more = if command.cdw[0] == 2 {
                    0
                } else {
                    self.detached
                };
                for id in 0..self.namespaces + more {
                    let at = usize::try_from(id).unwrap() * 4;
                    answer[at..at + 4].copy_from_slice(&(id + 1).to_le_bytes());
                }
            }
            (0x02, 0x81) => {
                let look = self.looks.fetch_add(1, Ordering::SeqCst);
                let status = if look < 3 { 2 } else { self.ends };
                if status == 1 {
                    self.disk.fill(0xff);
                }
                answer[0..2].copy_from_slice(&0x8000_u16.to_le_bytes());
                answer[2..4].copy_from_slice(&status.to_le_bytes());
            }
            (0x80, _) => {
                assert_eq!(command.cdw[0] >> 9 & 7, 1);
                self.disk.fill(0);
            }
            _ => {}
        }
        if let Transfer::FromDevice(buffer) = data {
            let length = buffer.len();
            buffer.copy_from_slice(&answer[..length]);
        }
        Ok(NvmeCompletion::default())
    }
}

fn nvme(serial: &'static str, namespaces: u32, ends: u16, disk: &Disk) -> (Found, Disk, Commands) {
    nvme_with(serial, namespaces, 0, true, ends, disk)
}

fn nvme_with(
    serial: &'static str,
    namespaces: u32,
    detached: u32,
    sanitizes: bool,
    ends: u16,
    disk: &Disk,
) -> (Found, Disk, Commands) {
    let inner = disk.clone();
    let commands: Commands = Box::new(move || {
        CommandSet::Nvme(
            Box::new(Nvme {
                serial,
                namespaces,
                detached,
                sanitizes,
                ends,
                looks: AtomicU32::new(0),
                disk: inner.clone(),
            }),
            1,
        )
    });
    (found("N"), disk.clone(), commands)
}

#[test]
fn an_nvme_sanitize_is_followed_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "n");
    let results = run(
        &bench(vec![nvme("N", 1, 1, &disk)]),
        &["N"],
        EraseMethod::Purge,
    );
    assert_eq!(
        results[0].method, "NVMe Sanitize Block Erase",
        "{results:?}"
    );
    assert_eq!(results[0].class, EraseClass::Purge);
    assert!(results[0].verified);
}

#[test]
fn a_sanitize_that_fails_falls_back_to_format_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "n");
    let results = run(
        &bench(vec![nvme("N", 1, 3, &disk)]),
        &["N"],
        EraseMethod::Purge,
    );
    assert_eq!(results[0].method, "NVMe Format User Data Erase");
    assert_eq!(results[0].class, EraseClass::Clear);
    assert!(results[0].message.contains("sanitize failed"));
}

#[test]
fn a_controller_with_a_second_namespace_is_neither_sanitized_nor_formatted() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "n");
    let results = run(
        &bench(vec![nvme("N", 2, 1, &disk)]),
        &["N"],
        EraseMethod::Purge,
    );
    assert_eq!(results[0].method, "Overwrite");
    assert!(results[0].message.contains("2 namespaces"));
}

#[test]
fn detached_namespaces_are_sanitized_with_the_drive_whatever_less_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "n");
    for wanted in [EraseMethod::Purge, EraseMethod::Clear] {
        let drive = nvme_with("N", 1, 2, true, 1, &disk);
        let results = run(&bench(vec![drive]), &["N"], wanted);
        assert_eq!(
            results[0].method, "NVMe Sanitize Block Erase",
            "{results:?}"
        );
        assert!(results[0].verified);
        assert!(results[0].message.contains("2 more namespace(s)"));
        disk.fill(0xa5);
    }
}

#[test]
fn detached_namespaces_of_a_drive_that_cannot_sanitize_are_never_taken_for_erased() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "n");
    for (sanitizes, ends) in [(false, 1), (true, 3)] {
        let drive = nvme_with("N", 1, 1, sanitizes, ends, &disk);
        let results = run(&bench(vec![drive]), &["N"], EraseMethod::Purge);
        assert_eq!(results[0].outcome, Outcome::Failed, "{results:?}");
        assert_eq!(results[0].class, EraseClass::None);
        assert!(results[0].message.contains("not attached"));
        // Nothing but the stamps that a sanitize is judged by.
        assert!(disk.written.load(Ordering::SeqCst) <= 16 * 4096);
    }
}

#[test]
fn a_drive_that_says_another_serial_number_than_sysfs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "n");
    let results = run(
        &bench(vec![nvme("OTHER", 1, 1, &disk)]),
        &["N"],
        EraseMethod::Purge,
    );
    assert_eq!(results[0].outcome, Outcome::Failed);
    assert!(results[0].message.contains("OTHER"));
    assert!(disk.is_untouched());
}

#[test]
fn a_method_that_does_nothing_is_seen_whatever_the_drive_held() {
    let folder = tempfile::tempdir().unwrap();
    for byte in [0, 0xff, 0xa5] {
        let disk = Disk::new(folder.path(), "n");
        disk.fill(byte);
        // A sanitize that the drive calls done, and that leaves it as it was.
        let drive = nvme_with("N", 1, 0, true, 0x101, &disk);
        let results = run(&bench(vec![drive]), &["N"], EraseMethod::Purge);
        assert_eq!(
            results[0].method, "NVMe Format User Data Erase",
            "{results:?}"
        );
        let said = &results[0].message;
        assert!(
            said.contains("Sanitize Block Erase: not verified"),
            "{said}"
        );
        assert!(disk.is_zero());
    }
}

#[test]
fn a_drive_that_takes_no_stamp_is_not_called_erased_by_its_own_word() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "n");
    disk.fail_after.store(0, Ordering::SeqCst);
    let results = run(
        &bench(vec![nvme("N", 1, 0x101, &disk)]),
        &["N"],
        EraseMethod::Purge,
    );
    assert!(
        !results[0].verified || results[0].method == "Write Zeroes",
        "{results:?}"
    );
    let said = &results[0].message;
    assert!(said.contains("cannot be stamped: medium error"), "{said}");
    assert!(
        said.contains("Sanitize Block Erase: not verified"),
        "{said}"
    );
}

/// An ATA drive whose security status is `status`.
struct Sata {
    status: Arc<AtomicU16>,
    password: &'static [u8],
    unlocks: bool,
    erases: bool,
    disk: Disk,
}

impl Ata for Sata {
    fn command(&self, command: u8, data: Transfer<'_>, _: Duration) -> io::Result<()> {
        let is_right = |block: &[u8]| block[2..8] == *self.password;
        let aborted = || Err(io::Error::other("aborted"));
        let status = self.status.load(Ordering::SeqCst);
        match (command, data) {
            (0xec, Transfer::FromDevice(block)) => {
                // Words hold their characters the other way round.
                block[20..40].fill(b' ');
                block[21] = b'A';
                block[256..258].copy_from_slice(&status.to_le_bytes());
            }
            (0xf2, Transfer::ToDevice(block)) => {
                if !self.unlocks || !is_right(block) {
                    return aborted();
                }
                self.status.store(status & !4, Ordering::SeqCst);
            }
            (0xf6, Transfer::ToDevice(block)) => {
                if status & 4 != 0 || !is_right(block) {
                    return aborted();
                }
                self.status.store(status & !2, Ordering::SeqCst);
            }
            (0xf4, Transfer::ToDevice(block)) => {
                if !self.erases || !is_right(block) {
                    return aborted();
                }
                self.status.store(status & !6, Ordering::SeqCst);
                // A crypto erase: other noise than before.
                let seed = self.disk.erased.fetch_add(1, Ordering::SeqCst);
                let noise: Vec<u8> = (0..SIZE)
                    .map(|at| u8::try_from((at * 7 + seed * 3) % 251).unwrap())
                    .collect();
                std::fs::write(&self.disk.path, noise).unwrap();
            }
            _ => {}
        }
        Ok(())
    }
}

fn sata(status: u16, erases: bool, disk: &Disk) -> (Found, Disk, Commands) {
    sata_with(
        &Arc::new(AtomicU16::new(status)),
        b"corten",
        true,
        erases,
        disk,
    )
}

fn sata_with(
    status: &Arc<AtomicU16>,
    password: &'static [u8],
    unlocks: bool,
    erases: bool,
    disk: &Disk,
) -> (Found, Disk, Commands) {
    let (inner, status) = (disk.clone(), status.clone());
    let commands: Commands = Box::new(move || {
        CommandSet::Ata(Box::new(Sata {
            status: status.clone(),
            password,
            unlocks,
            erases,
            disk: inner.clone(),
        }))
    });
    (found("A"), disk.clone(), commands)
}

#[test]
fn a_drive_that_a_cut_cleaning_left_locked_with_our_password_is_opened_and_erased() {
    let folder = tempfile::tempdir().unwrap();
    for (status, unlocks) in [(0x27, true), (0x27, false), (0x23, true)] {
        let disk = Disk::new(folder.path(), "a");
        let status = Arc::new(AtomicU16::new(status));
        let drive = sata_with(&status, b"corten", unlocks, true, &disk);
        let results = run(&bench(vec![drive]), &["A"], EraseMethod::Purge);
        assert_eq!(
            results[0].method, "ATA Enhanced Secure Erase",
            "{results:?}"
        );
        assert!(results[0].verified);
        assert!(results[0].message.contains("open again"));
        assert_eq!(status.load(Ordering::SeqCst), 0x21);
    }
}

#[test]
fn a_drive_with_another_password_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "a");
    let status = Arc::new(AtomicU16::new(0x27));
    let drive = sata_with(&status, b"secret", true, true, &disk);
    let results = run(&bench(vec![drive]), &["A"], EraseMethod::Metadata);
    assert_eq!(status.load(Ordering::SeqCst), 0x27, "{results:?}");
    let drive = sata_with(&status, b"secret", true, true, &disk);
    let results = run(&bench(vec![drive]), &["A"], EraseMethod::Purge);
    assert_eq!(status.load(Ordering::SeqCst), 0x27);
    assert!(results[0].message.contains("locked"), "{results:?}");
}

#[test]
fn an_enhanced_secure_erase_that_leaves_other_noise_is_a_purge() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "a");
    let results = run(
        &bench(vec![sata(0x21, true, &disk)]),
        &["A"],
        EraseMethod::Purge,
    );
    assert_eq!(
        results[0].method, "ATA Enhanced Secure Erase",
        "{results:?}"
    );
    assert!(results[0].verified);
}

#[test]
fn a_frozen_drive_is_overwritten_instead_and_it_is_said_why() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "a");
    let results = run(
        &bench(vec![sata(0x29, true, &disk)]),
        &["A"],
        EraseMethod::Purge,
    );
    assert_eq!(results[0].method, "Overwrite");
    assert!(results[0].message.contains("frozen"));
    assert_eq!(results[0].class, EraseClass::Clear);
}

/// A SCSI drive that can crypto-erase; it is busy for two looks.
struct Sas(AtomicU32, Disk);

impl Scsi for Sas {
    fn command(&self, cdb: &[u8], data: Transfer<'_>, _: Duration) -> io::Result<SgReply> {
        let mut answer = vec![0_u8; 255];
        match cdb[0] {
            0x12 => answer[..5].copy_from_slice(&[0, 0x80, 0, 1, b'S']),
            0xa3 => answer[1] = if cdb[5] == 3 { 3 } else { 1 },
            0x48 => assert_eq!(cdb[1], 0x83),
            0x03 => {
                answer[0] = 0x72;
                if self.0.fetch_add(1, Ordering::SeqCst) < 2 {
                    answer[1..4].copy_from_slice(&[2, 4, 0x1b]);
                } else {
                    self.1.fill(0x3c);
                }
            }
            _ => {}
        }
        if let Transfer::FromDevice(buffer) = data {
            let length = buffer.len();
            buffer.copy_from_slice(&answer[..length]);
        }
        Ok(SgReply::default())
    }
}

#[test]
fn a_scsi_sanitize_is_followed_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "s");
    let inner = disk.clone();
    let drive: (Found, Disk, Commands) = (
        found("S"),
        disk.clone(),
        Box::new(move || CommandSet::Scsi(Box::new(Sas(AtomicU32::new(0), inner.clone())))),
    );
    let results = run(&bench(vec![drive]), &["S"], EraseMethod::Purge);
    assert_eq!(
        results[0].method, "SCSI Sanitize Cryptographic Erase",
        "{results:?}"
    );
    assert_eq!(results[0].class, EraseClass::Purge);
}

proptest::proptest! {
    #[test]
    fn no_identify_data_makes_it_panic(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
        let _ = nvme::Controller::parse(&data);
        let _ = crate::device::ata::Identity::parse(&data);
    }
}
