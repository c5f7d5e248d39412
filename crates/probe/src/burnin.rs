//! Burn-in: patterns through a share of the free memory, and reads over the drives, until the time is over. Drives are opened for reading only.

use crate::inventory::drives::{self, Found};
use crate::inventory::root::Root;
use crate::stop::Stop;
use corten_wire::{BurnIn, BurnInResult};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Of the free memory, so many parts in ten are tested at once; the rest is for the probe and the kernel.
const SHARE: u64 = 6;
const CHUNK: usize = 8 << 20;
const READ: usize = 1 << 20;
/// Lists of errors are cut here.
const ERRORS: usize = 50;

/// Tests memory and drives at the same time until the limit, or `stop`.
#[must_use]
pub fn run(
    root: &Root,
    limits: &BurnIn,
    stop: &Stop,
    progress: &(dyn Fn(u8) + Sync),
) -> BurnInResult {
    let begun = Instant::now();
    let time = Duration::from_secs(u64::from(limits.seconds.clamp(1, 7 * 24 * 3600)));
    let over = || {
        let spent = begun.elapsed();
        let percent = spent.as_millis() * 100 / time.as_millis().max(1);
        progress(u8::try_from(percent).unwrap_or(100));
        spent >= time || stop.is_stopped()
    };
    let drive_bytes = AtomicU64::new(0);
    let mut result = BurnInResult::default();
    std::thread::scope(|scope| {
        let (over, drive_bytes) = (&over, &drive_bytes);
        let readers: Vec<_> = drives::scan(root)
            .into_iter()
            .filter(|found| found.untouchable().is_none())
            .map(|found| {
                scope.spawn(move || {
                    read(root, &found, over, drive_bytes)
                        .err()
                        .map(|error| format!("drive {}: {error}", found.serial_number))
                })
            })
            .collect();
        let free = free_memory(root).saturating_mul(SHARE) / 10;
        // One processor alone does not fill a terabyte in an hour's time often.
        let most = (free / CHUNK as u64).clamp(1, 256);
        let testers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let testers = testers.min(most);
        let testers: Vec<_> = (0..testers)
            .map(|_| scope.spawn(move || memory(free / testers, over)))
            .collect();
        for tester in testers {
            let (bytes, errors) = tester
                .join()
                .unwrap_or_else(|_| (0, vec!["a test of memory broke off".to_owned()]));
            result.memory_bytes += bytes;
            result.errors.extend(errors);
        }
        if result.memory_bytes == 0 && !stop.is_stopped() {
            result.errors.push(
                "the time was over before the memory was filled once and read back: give it longer"
                    .to_owned(),
            );
        }
        for reader in readers {
            match reader.join() {
                Ok(error) => result.errors.extend(error),
                Err(_) => result.errors.push("a drive's reader broke off".to_owned()),
            }
        }
    });
    result.drive_bytes = drive_bytes.load(Ordering::Relaxed);
    result.errors.truncate(ERRORS);
    result
}

fn free_memory(root: &Root) -> u64 {
    root.text("proc/meminfo")
        .and_then(|text| {
            let line = text
                .lines()
                .find(|line| line.starts_with("MemAvailable:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .unwrap_or_default()
        .saturating_mul(1024)
}

/// Fills `bytes` of memory with a pattern, reads it back, and again with the next pattern. Returns how much was tested and what was wrong.
fn memory(bytes: u64, over: &dyn Fn() -> bool) -> (u64, Vec<String>) {
    let mut errors = Vec::new();
    let mut tested = 0_u64;
    let mut chunks: Vec<Vec<u64>> = Vec::new();
    let words = CHUNK / 8;
    while (chunks.len() as u64) < bytes / CHUNK as u64 {
        let mut chunk: Vec<u64> = Vec::new();
        if over() || chunk.try_reserve_exact(words).is_err() {
            break;
        }
        chunk.resize(words, 0);
        chunks.push(chunk);
    }
    for pass in 0_u64.. {
        // Walking ones and their complement, mixed with the place, so that an address line that sticks shows too.
        let pattern = (1_u64 << (pass / 2 % 64)) ^ if pass % 2 == 0 { 0 } else { u64::MAX };
        let value = |chunk: usize, word: usize| {
            pattern
                ^ (chunk as u64 * words as u64 + word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        for (number, chunk) in chunks.iter_mut().enumerate() {
            if over() {
                return (tested, errors);
            }
            for (word, cell) in chunk.iter_mut().enumerate() {
                *cell = value(number, word);
            }
        }
        for (number, chunk) in chunks.iter().enumerate() {
            if over() {
                return (tested, errors);
            }
            let chunk = std::hint::black_box(chunk);
            let wrong = chunk
                .iter()
                .enumerate()
                .filter(|(word, cell)| **cell != value(number, *word))
                .count();
            if wrong > 0 && errors.len() < ERRORS {
                errors.push(format!("memory: {wrong} words differ in pass {pass}"));
            }
            tested += CHUNK as u64;
        }
        if chunks.is_empty() {
            break;
        }
    }
    (tested, errors)
}

/// Reads a drive from the beginning to the end, once, or until the time is over.
fn read(root: &Root, found: &Found, over: &dyn Fn() -> bool, read: &AtomicU64) -> io::Result<()> {
    let file = File::open(found.path(root))?;
    let mut buffer = vec![0_u8; READ];
    let mut at = 0;
    while at < found.size_bytes && !over() {
        let left = usize::try_from(found.size_bytes - at).unwrap_or(READ);
        let bytes = buffer.get_mut(..left.min(READ)).unwrap_or_default();
        file.read_exact_at(bytes, at)
            .map_err(|error| io::Error::new(error.kind(), format!("byte {at}: {error}")))?;
        at += bytes.len() as u64;
        read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::drives::tests::lay;

    #[test]
    fn a_burn_in_ends_in_time_reads_drives_and_names_the_one_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let files = |serial: &'static str| [("size", "2048"), ("serial", serial)];
        lay(folder.path(), "pci0/virtio1/block/vda", &files("GOOD"));
        lay(folder.path(), "pci0/virtio2/block/vdb", &files("BAD"));
        std::fs::create_dir_all(folder.path().join("dev")).unwrap();
        std::fs::create_dir_all(folder.path().join("proc")).unwrap();
        std::fs::write(
            folder.path().join("proc/meminfo"),
            "MemAvailable: 32768 kB\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("dev/vda"), vec![0; 1 << 20]).unwrap();
        std::fs::write(folder.path().join("dev/vdb"), vec![0; 1000]).unwrap();
        let limits = BurnIn {
            id: "b".into(),
            seconds: 1,
        };
        let begun = Instant::now();
        let result = run(&Root::at(folder.path()), &limits, &Stop::default(), &|_| {});
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(result.drive_bytes, 1 << 20);
        assert!(result.memory_bytes > 0);
        assert_eq!(result.errors.len(), 1, "{:?}", result.errors);
        assert!(result.errors[0].contains("BAD"));
    }
}
