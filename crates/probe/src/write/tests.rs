//! Images onto files.

use super::*;
use crate::device::CommandSet;
use crate::device::file::FileDevice;
use crate::inventory::drives::Attachment;
use corten_wire::RootDeviceHints;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const SIZE: u64 = 24 << 20;

/// What is written to a drive, in its order: where, and how much.
type Writes = Arc<Mutex<Vec<(u64, usize)>>>;

/// Drives, what is written to them, and the size of their blocks.
struct Bench(Vec<(Found, PathBuf)>, Writes, u64);

/// A file that remembers the order of writes.
struct Watched(FileDevice, Writes, u64);

impl BlockDevice for Watched {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn block_size(&self) -> u64 {
        self.2
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.1.lock().unwrap().push((offset, bytes.len()));
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
        self.0.reread_partitions()
    }
}

impl World for Bench {
    fn scan(&self) -> Vec<Found> {
        self.0.iter().map(|(found, _)| found.clone()).collect()
    }
    fn in_use(&self, _: &Found) -> Option<String> {
        None
    }
    fn partitions(&self, _: &Found) -> Vec<u64> {
        Vec::new()
    }
    fn open(&self, found: &Found) -> io::Result<Device> {
        let (_, path) = self.0.iter().find(|(one, _)| one == found).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Device {
            block: Box::new(Watched(FileDevice::new(file)?, self.1.clone(), self.2)),
            commands: CommandSet::None,
        })
    }
}

fn bench(folder: &tempfile::TempDir, serials: &[&str]) -> Bench {
    Bench(
        serials
            .iter()
            .map(|serial| {
                let path = folder.path().join(serial);
                std::fs::write(&path, vec![0x5a; usize::try_from(SIZE).unwrap()]).unwrap();
                let found = Found {
                    kernel_name: format!("vd{serial}"),
                    serial_number: (*serial).to_owned(),
                    wwid: None,
                    vendor: String::new(),
                    model: "Model".into(),
                    firmware: String::new(),
                    size_bytes: SIZE,
                    rotational: false,
                    read_only: false,
                    transport: "virtio".into(),
                    attachment: Attachment::Local,
                };
                (found, path)
            })
            .collect(),
        Writes::default(),
        512,
    )
}

fn grant(hints: RootDeviceHints) -> WriteGrant {
    WriteGrant {
        id: "w".into(),
        url: "/image".into(),
        hints,
        drives: vec!["A".into(), "B".into()],
        ..WriteGrant::default()
    }
}

fn serial(serial: &str) -> RootDeviceHints {
    RootDeviceHints {
        serial_number: Some(serial.into()),
        ..RootDeviceHints::default()
    }
}

/// Serves `bytes`; each answer breaks off after `each` of them.
fn run(bench: &Bench, grant: &WriteGrant, bytes: &[u8], each: usize) -> Result<Written, String> {
    let calls = AtomicU32::new(0);
    let fetch = |url: &str, offset: u64| {
        calls.fetch_add(1, Ordering::SeqCst);
        let whole: Vec<u8> = if url == "/config" {
            vec![0xc0; 5000]
        } else {
            bytes.to_vec()
        };
        let rest: Vec<u8> = whole[usize::try_from(offset).unwrap()..]
            .iter()
            .copied()
            .take(each)
            .collect();
        Ok(Transfer {
            begins: offset,
            total: Some(whole.len() as u64),
            etag: None,
            reader: Box::new(io::Cursor::new(rest)),
        })
    };
    let work = Work {
        world: bench,
        fetch: &fetch,
        stop: &Stop::default(),
        progress: &|_, _| {},
    };
    image(&work, grant)
}

fn is_untouched(bench: &Bench, index: usize) -> bool {
    std::fs::read(&bench.0[index].1)
        .unwrap()
        .iter()
        .all(|byte| *byte == 0x5a)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn an_image_for_blocks_of_another_size_than_the_drives_is_not_written() {
    for (of_image, of_drive) in [(512, 4096), (4096, 512)] {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = bench(&folder, &["A"]);
        bench.2 = of_drive;
        let mut image = vec![0; 2 << 20];
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        let at = usize::try_from(of_image).unwrap();
        image[at..at + 8].copy_from_slice(b"EFI PART");
        let why = run(&bench, &grant(serial("A")), &image, usize::MAX).unwrap_err();
        assert!(
            why.contains(&format!("blocks of {of_image} bytes")),
            "{why}"
        );
        assert!(is_untouched(&bench, 0));
        assert!(bench.1.lock().unwrap().is_empty());
    }
}

#[test]
fn an_image_whose_transfer_breaks_off_arrives_whole_and_the_config_drive_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(&folder, &["A", "B"]);
    let mut disk = gpt::tests::disk(12 << 20);
    disk[5 << 20] = 7;
    let mut packed = Vec::new();
    let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
    encoder.write_all(&disk).unwrap();
    encoder.finish().unwrap();
    let mut grant = grant(serial("B"));
    grant.sha256 = Some(sha256(&packed));
    grant.config_drive = Some("/config".into());
    let written = run(&bench, &grant, &packed, 3000).unwrap();
    assert_eq!(written.result.bytes, 12 << 20);
    assert!(written.result.verified);
    assert_eq!(written.result.sha256, sha256(&packed));
    let config_drive::Start::Partition(partition) = written.start else {
        panic!("no system partition");
    };
    assert_eq!(partition.start, 2048);
    let bytes = std::fs::read(&bench.0[1].1).unwrap();
    assert_eq!(bytes[5 << 20], 7);
    assert!(bytes.windows(5000).any(|window| window == [0xc0; 5000]));
    assert_eq!(&bytes[bytes.len() - 512..][..8], b"EFI PART");
    assert!(is_untouched(&bench, 0));
    // Power may be lost between any two writes: nothing boots before all is there, the user data too.
    let writes = bench.1.lock().unwrap().clone();
    let at_the_start: Vec<usize> = (0..writes.len())
        .filter(|index| writes[*index].0 == 0)
        .collect();
    assert_eq!(
        at_the_start,
        [0, writes.len() - 1],
        "wiped first, written last: {writes:?}"
    );
}

#[test]
fn what_is_no_disk_image_is_refused_before_a_byte_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(&folder, &["A"]);
    let mut packed = Vec::new();
    let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
    // An archive of a root file system, say.
    encoder.write_all(&vec![b'u'; 3 << 20]).unwrap();
    encoder.finish().unwrap();
    let error = run(&bench, &grant(serial("A")), &packed, 1 << 30).unwrap_err();
    assert!(error.contains("no disk image"), "{error}");
    assert!(is_untouched(&bench, 0));
}

#[test]
fn an_image_goes_to_a_card_only_where_there_is_no_drive_or_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&folder, &["A", "B"]);
    bench.0[1].0.transport = "mmc".into();
    let chosen = |bench: &Bench, hints| {
        let allowed = ["A".to_owned(), "B".to_owned()];
        hints::choose(&bench.scan(), &hints, &allowed).map(|found| found.serial_number)
    };
    assert_eq!(chosen(&bench, RootDeviceHints::default()), Ok("A".into()));
    assert_eq!(chosen(&bench, serial("B")), Ok("B".into()));
    bench.0.remove(0);
    assert_eq!(chosen(&bench, RootDeviceHints::default()), Ok("B".into()));
}

#[test]
fn hints_that_match_none_or_several_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(&folder, &["A", "B", "C"]);
    let image = vec![1_u8; 4096];
    let several = run(&bench, &grant(RootDeviceHints::default()), &image, 9999).unwrap_err();
    assert!(several.contains("2 drives match"), "{several}");
    // C matches, but is not among those that may be written.
    for hints in [serial("C"), serial("X")] {
        assert!(run(&bench, &grant(hints), &image, 9999).is_err());
    }
    assert!((0..3).all(|index| is_untouched(&bench, index)));
}

#[test]
fn a_wrong_digest_leaves_no_partition_table() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(&folder, &["A"]);
    let mut grant = grant(serial("A"));
    grant.sha256 = Some("00".repeat(32));
    let error = run(&bench, &grant, &gpt::tests::disk(8 << 20), 1 << 30).unwrap_err();
    assert!(error.contains("SHA-256"), "{error}");
    let bytes = std::fs::read(&bench.0[0].1).unwrap();
    assert!(bytes[..1 << 20].iter().all(|byte| *byte == 0));
}

#[test]
fn an_image_that_is_larger_than_the_drive_is_refused_before_a_byte_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(&folder, &["A"]);
    let image = vec![1_u8; usize::try_from(SIZE).unwrap() + 512];
    let error = run(&bench, &grant(serial("A")), &image, 1 << 30).unwrap_err();
    assert!(error.contains("bytes, the drive"), "{error}");
    assert!(is_untouched(&bench, 0));
}

#[test]
fn an_image_that_is_cut_short_for_good_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(&folder, &["A"]);
    let mut packed = Vec::new();
    let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
    encoder.write_all(&gpt::tests::disk(8 << 20)).unwrap();
    encoder.finish().unwrap();
    packed.truncate(packed.len() / 2);
    assert!(run(&bench, &grant(serial("A")), &packed, 1 << 30).is_err());
    let bytes = std::fs::read(&bench.0[0].1).unwrap();
    assert!(bytes[..1 << 20].iter().all(|byte| *byte == 0));
}
