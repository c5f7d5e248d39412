//! Streaming an artefact's pieces: a file is read in chunks, one ahead of the socket. Its readers share what one of them has just read, so that a rack
//! which boots one image costs hardly more memory, and no more reading, than one machine.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, OnceLock, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::piece::Piece;

/// How much is read at once.
pub const CHUNK: usize = 256 * 1024;
/// So many chunks are kept for readers that come a little later.
const KEPT: usize = 64;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What was read of all files, while anybody has it.
static SHELF: LazyLock<Mutex<Shelf>> = LazyLock::new(Mutex::default);

/// A chunk that is read once for all who want it.
type Cell = OnceLock<Vec<u8>>;

/// Device, inode, length and time of the last change: a file that was written again is another.
type Identity = (u64, u64, u64, (i64, i64));

#[derive(Default)]
struct Shelf {
    chunks: HashMap<(Identity, u64), Weak<Cell>>,
    recent: VecDeque<Arc<Cell>>,
}

/// A chunk in a reader's hands.
struct Taken(Arc<Cell>);

/// A file of the pieces, open.
struct Opened {
    file: File,
    identity: Identity,
    length: u64,
}

#[derive(Clone)]
enum Source {
    Path(PathBuf),
    Open(Arc<Opened>),
}

/// The file under way: what of it is not read yet.
struct UnderWay {
    source: Source,
    offset: u64,
    length: u64,
}

type Read = io::Result<(Arc<Opened>, Bytes)>;

enum Ahead {
    Read(Read),
    Reading(JoinHandle<Read>),
}

/// The bytes of `pieces`, as an HTTP body.
pub struct Pieces {
    queue: VecDeque<Piece>,
    left: u64,
    file: Option<UnderWay>,
    ahead: Option<Ahead>,
}

// === impl Shelf ===

impl Shelf {
    /// The place of a chunk, filled or not.
    fn cell(&mut self, identity: Identity, number: u64) -> Arc<Cell> {
        let key = (identity, number);
        if let Some(cell) = self.chunks.get(&key).and_then(Weak::upgrade) {
            return cell;
        }
        let cell = Arc::<Cell>::default();
        if self.chunks.len() == self.chunks.capacity() {
            self.chunks.retain(|_, cell| cell.strong_count() > 0);
        }
        self.chunks.insert(key, Arc::downgrade(&cell));
        self.recent.push_back(Arc::clone(&cell));
        if self.recent.len() > KEPT {
            self.recent.pop_front();
        }
        cell
    }
}

// === impl Taken ===

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        self.0.get().map(Vec::as_slice).unwrap_or_default()
    }
}

// === impl Opened ===

impl Opened {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let changed = (about.mtime(), about.mtime_nsec());
        Ok(Self {
            identity: (about.dev(), about.ino(), about.len(), changed),
            length: about.len(),
            file,
        })
    }

    fn cell(&self, offset: u64) -> Arc<Cell> {
        SHELF.lock().cell(self.identity, offset / CHUNK as u64)
    }

    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let at = number * CHUNK as u64;
        let size = self.length.saturating_sub(at).min(CHUNK as u64);
        let mut data = vec![0; usize::try_from(size).unwrap_or_default()];
        // A file that has become shorter ends the connection: the length was promised.
        self.file.read_exact_at(&mut data, at)?;
        Ok(data)
    }

    /// `size` bytes from `offset` on, all in one chunk, if that is read.
    fn taken(cell: Arc<Cell>, offset: u64, size: usize) -> io::Result<Bytes> {
        let begin = usize::try_from(offset % CHUNK as u64).unwrap_or_default();
        let chunk = Bytes::from_owner(Taken(cell));
        if chunk.len() < begin + size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(chunk.slice(begin..begin + size))
    }
}

// === impl Source ===

impl Source {
    /// The chunk's part at once if it was read, else when it is.
    fn read(self, offset: u64, size: usize) -> Ahead {
        if let Self::Open(opened) = &self {
            let cell = opened.cell(offset);
            if cell.get().is_some() {
                let taken = Opened::taken(cell, offset, size);
                return Ahead::Read(taken.map(|bytes| (Arc::clone(opened), bytes)));
            }
        }
        Ahead::Reading(tokio::task::spawn_blocking(move || {
            let opened = match self {
                Self::Open(opened) => opened,
                Self::Path(path) => Arc::new(Opened::open(path)?),
            };
            let cell = opened.cell(offset);
            // Another may be at it in this moment: whoever is first is read by both.
            if cell.get().is_none() {
                let data = opened.read(offset / CHUNK as u64)?;
                let _ = cell.set(data);
            }
            let bytes = Opened::taken(cell, offset, size)?;
            Ok((opened, bytes))
        }))
    }
}

// === impl Pieces ===

impl Pieces {
    /// `length` bytes from `start` of all pieces together.
    #[must_use]
    pub fn new(pieces: Vec<Piece>, start: u64, length: u64) -> Self {
        Self {
            queue: cut(pieces, start, length),
            left: length,
            file: None,
            ahead: None,
        }
    }

    /// Begins to read what comes next of the file under way.
    fn read(&mut self) {
        let Some(file) = self.file.as_mut() else {
            return;
        };
        let in_chunk = CHUNK as u64 - file.offset % CHUNK as u64;
        let size = file.length.min(in_chunk);
        let source = file.source.clone();
        let ahead = source.read(file.offset, usize::try_from(size).unwrap_or(CHUNK));
        self.ahead = Some(ahead);
        file.offset += size;
        file.length -= size;
    }

    /// The next chunk; none at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(ahead) = self.ahead.take() {
                let read = match ahead {
                    Ahead::Read(read) => read,
                    Ahead::Reading(mut reading) => match Pin::new(&mut reading).poll(cx) {
                        Poll::Ready(read) => read.map_err(io::Error::other).flatten(),
                        Poll::Pending => {
                            self.ahead = Some(Ahead::Reading(reading));
                            return Poll::Pending;
                        }
                    },
                };
                let (opened, bytes) = match read {
                    Ok(read) => read,
                    Err(error) => {
                        self.queue.clear();
                        self.file = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                };
                match &mut self.file {
                    Some(file) if file.length > 0 => {
                        file.source = Source::Open(opened);
                        self.read();
                    }
                    _ => self.file = None,
                }
                self.left = self.left.saturating_sub(bytes.len() as u64);
                return Poll::Ready(Some(Ok(bytes)));
            }
            match self.queue.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::File {
                    path,
                    offset,
                    length,
                }) => {
                    self.file = Some(UnderWay {
                        source: Source::Path(path),
                        offset,
                        length,
                    });
                    self.read();
                }
                Some(Piece::Bytes(bytes)) => {
                    self.left = self.left.saturating_sub(bytes.len() as u64);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Piece::Zeros(length)) => {
                    let some = usize::try_from(length)
                        .unwrap_or(usize::MAX)
                        .min(ZEROS.len());
                    if length > some as u64 {
                        self.queue.push_front(Piece::Zeros(length - some as u64));
                    }
                    self.left = self.left.saturating_sub(some as u64);
                    return Poll::Ready(Some(Ok(Bytes::from_static(ZEROS.split_at(some).0))));
                }
            }
        }
    }

    /// The next chunk; none at the end.
    ///
    /// # Errors
    /// A file cannot be read, or is shorter than it was.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.poll_chunk(cx)
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The pieces of `length` bytes from `start`.
fn cut(pieces: Vec<Piece>, mut start: u64, mut length: u64) -> VecDeque<Piece> {
    let mut parts = VecDeque::new();
    for piece in pieces {
        let whole = piece.length();
        if start >= whole {
            start -= whole;
            continue;
        }
        let take = (whole - start).min(length);
        if take == 0 {
            break;
        }
        parts.push_back(match piece {
            Piece::File { path, offset, .. } => Piece::File {
                path,
                offset: offset + start,
                length: take,
            },
            // Both lie within the length of something in memory.
            Piece::Bytes(bytes) => {
                Piece::Bytes(bytes.slice(start as usize..(start + take) as usize))
            }
            Piece::Zeros(_) => Piece::Zeros(take),
        });
        start = 0;
        length -= take;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(path: &std::path::Path) -> Vec<Piece> {
        vec![
            Piece::Bytes(Bytes::from_static(b"head")),
            Piece::File {
                path: path.into(),
                offset: 2,
                length: 600_000,
            },
            Piece::Zeros(100_000),
            Piece::Bytes(Bytes::from_static(b"tail")),
        ]
    }

    fn whole() -> (tempfile::NamedTempFile, Vec<u8>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let data: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(file.path(), &data).unwrap();
        let all = [b"head", &data[2..600_002], &[0; 100_000], b"tail"].concat();
        (file, all)
    }

    async fn collect(mut stream: Pieces) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error_and_not_a_short_answer() {
        let (file, _) = whole();
        file.as_file().set_len(1000).unwrap();
        assert!(
            collect(Pieces::new(pieces(file.path()), 0, 700_008))
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn readers_of_one_file_share_what_was_read_and_a_file_written_anew_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("artefact");
        let pieces = || {
            vec![Piece::File {
                path: path.clone(),
                offset: 0,
                length: 1000,
            }]
        };
        let chunk = async || {
            Pieces::new(pieces(), 0, 1000)
                .next()
                .await
                .unwrap()
                .unwrap()
        };
        std::fs::write(&path, [1; 1000]).unwrap();
        let (one, other) = (chunk().await, chunk().await);
        assert_eq!(one.as_ptr(), other.as_ptr());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, [2; 1001]).unwrap();
        assert_eq!(chunk().await, [2; 1000][..]);
        assert_eq!(one, [1; 1000][..]);
    }

    #[test]
    fn what_nobody_has_is_forgotten() {
        let mut shelf = Shelf::default();
        let identity = (1, 1, 1, (0, 0));
        for number in 0..10_000 {
            shelf.cell(identity, number);
        }
        assert_eq!(shelf.recent.len(), KEPT);
        assert!(shelf.chunks.len() < 1000, "{}", shelf.chunks.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_part_has_the_bytes_of_the_whole(start in 0usize..700_008, length in 0usize..700_008) {
            let (file, all) = whole();
            let length = length.min(all.len() - start);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let part = runtime.block_on(collect(Pieces::new(pieces(file.path()), start as u64, length as u64))).unwrap();
            prop_assert!(part == all[start..start + length]);
        }
    }
}
