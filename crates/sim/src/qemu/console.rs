//! A machine's serial console: what it printed is kept in a bounded file, and says how far it has booted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// The console keeps between this and half of it.
const LARGEST_LOG: u64 = 4 << 20;
/// A longer line is looked at in pieces.
const LONGEST_LINE: usize = 4096;

/// How far a boot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// The firmware has said nothing yet.
    Started,
    /// The firmware speaks.
    Firmware,
    /// The firmware's setup or another of its own programs.
    Setup,
    /// A boot option was started.
    BootStarted,
    /// A kernel speaks.
    Running,
}

impl Progress {
    /// `BootProgress.LastState`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "PrimaryProcessorInitializationStarted",
            Self::Firmware => "SystemHardwareInitializationComplete",
            Self::Setup => "SetupEntered",
            Self::BootStarted => "OSBootStarted",
            Self::Running => "OSRunning",
        }
    }
}

/// What a line of the console says of the boot, if anything.
fn progress(line: &str) -> Option<Progress> {
    const KERNEL: &[&str] = &[
        "Linux version ",
        "Run /init as init process",
        "systemd[1]:",
        "corten-probe",
    ];
    if KERNEL.iter().any(|mark| line.contains(mark)) {
        return Some(Progress::Running);
    }
    // EDK2's BdsDxe, `Library/UefiBootManagerLib/BmBoot.c`.
    if let Some((_, option)) = line.split_once("BdsDxe: starting ") {
        return Some(if option.contains("UiApp") {
            Progress::Setup
        } else {
            Progress::BootStarted
        });
    }
    if line.contains("EFI stub:") {
        return Some(Progress::BootStarted);
    }
    // Before it has found its devices it only clears the screen.
    (!plain(line).trim().is_empty()).then_some(Progress::Firmware)
}

/// Reads a boot's progress off what is printed.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    line: Vec<u8>,
}

impl Watcher {
    /// The furthest that `bytes` show.
    pub fn see(&mut self, bytes: &[u8]) -> Option<Progress> {
        let mut furthest = None;
        for byte in bytes {
            if *byte == b'\n' || self.line.len() >= LONGEST_LINE {
                furthest = furthest.max(progress(&String::from_utf8_lossy(&self.line)));
                self.line.clear();
            } else {
                self.line.push(*byte);
            }
        }
        furthest.max(progress(&String::from_utf8_lossy(&self.line)))
    }
}

/// The file; the second half of it begins anew as another file, so that it stays bounded.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Log {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            length: file.metadata()?.len(),
            file,
        })
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length >= LARGEST_LOG / 2 {
            fs::rename(&self.path, older(&self.path))?;
            self.file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?;
            self.length = 0;
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// QEMU connects to the console before it runs anything.
const CONNECTING: Duration = Duration::from_secs(30);

/// Follows one process's console until it ends: keeps what it prints, types what is typed, tells of progress.
pub(super) async fn follow(
    listener: UnixListener,
    mut log: Log,
    mut typed: mpsc::Receiver<Vec<u8>>,
    tell: impl Fn(Progress),
) {
    let Ok(Ok((stream, _))) = tokio::time::timeout(CONNECTING, listener.accept()).await else {
        return;
    };
    drop(listener);
    let (mut reader, mut writer) = stream.into_split();
    let (mut watcher, mut furthest) = (Watcher::default(), None);
    let mut buffer = vec![0; 16 << 10];
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = buffer.get(..length).unwrap_or_default();
                if let Err(error) = log.write(bytes) {
                    tracing::warn!(%error, "the console is not kept");
                }
                let seen = watcher.see(bytes);
                if seen > furthest {
                    furthest = seen;
                    if let Some(progress) = seen {
                        tell(progress);
                    }
                }
            }
            Some(keys) = typed.recv() => {
                let _ = writer.write_all(&keys).await;
            }
        }
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// All that is kept, as text; control characters and escape sequences are left out.
pub(crate) fn read(path: &Path) -> String {
    let mut bytes = fs::read(older(path)).unwrap_or_default();
    bytes.extend(fs::read(path).unwrap_or_default());
    plain(&String::from_utf8_lossy(&bytes))
}

/// Text without terminal control: OVMF repaints its screen on the serial line.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next_if_eq(&'[').is_some() {
                    // Parameters, then one final byte (ECMA-48, 5.4).
                    while characters
                        .next_if(|c| matches!(c, '\u{20}'..='\u{3f}'))
                        .is_some()
                    {}
                    characters.next();
                }
            }
            '\n' | '\t' => out.push(character),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_console_says_how_far_the_boot_is() {
        let mut watcher = Watcher::default();
        assert_eq!(watcher.see(b"\x1b[2J\x1b[01;01H"), None);
        assert_eq!(
            watcher.see(b"\nBdsDxe: loading Boot0001 \"x\"\r\n"),
            Some(Progress::Firmware)
        );
        assert_eq!(
            watcher.see(b"BdsDxe: starting Boot0001 \"x\" from"),
            Some(Progress::BootStarted)
        );
        assert_eq!(
            watcher.see(b" y\r\n[    0.000000] Linux ver"),
            Some(Progress::BootStarted)
        );
        assert_eq!(watcher.see(b"sion 6.1"), Some(Progress::Running));
        assert_eq!(
            Watcher::default().see(b"BdsDxe: starting Boot0000 \"UiApp\" from\n"),
            Some(Progress::Setup)
        );
    }

    #[test]
    fn the_log_keeps_the_end_and_stays_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let mut log = Log::open(&path).unwrap();
        let piece = vec![b'a'; 512 << 10];
        for _ in 0..20 {
            log.write(&piece).unwrap();
        }
        log.write(b"\x1b[1mthe end\r\n").unwrap();
        let text = read(&path);
        assert!(text.ends_with("the end\n"));
        assert!(text.len() as u64 <= LARGEST_LOG + (1 << 20));
        assert!(text.len() as u64 > LARGEST_LOG / 4);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_console_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let mut watcher = Watcher::default();
            for piece in &pieces {
                watcher.see(piece);
                plain(&String::from_utf8_lossy(piece));
            }
        }
    }
}
