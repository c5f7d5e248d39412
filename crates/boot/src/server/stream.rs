//! Streaming an artefact's pieces: a file is read one chunk ahead of the socket, in buffers that are used again, so that a reader costs two chunks of
//! memory however large the artefact is.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::piece::Piece;

/// How much is read at once.
pub const CHUNK: usize = 256 * 1024;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

/// A chunk that goes back to its stream when the socket has taken it.
struct Chunk {
    data: Vec<u8>,
    spare: Spare,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.spare.lock().push(std::mem::take(&mut self.data));
    }
}

struct Ahead {
    file: File,
    data: Vec<u8>,
}

/// The bytes of `pieces`, as an HTTP body.
pub struct Pieces {
    queue: VecDeque<Piece>,
    left: u64,
    /// The file under way: what of it is not read yet.
    file: Option<(u64, u64)>,
    ahead: Option<JoinHandle<io::Result<Ahead>>>,
    spare: Spare,
}

impl Pieces {
    /// `length` bytes from `start` of all pieces together.
    #[must_use]
    pub fn new(pieces: Vec<Piece>, start: u64, length: u64) -> Self {
        Self {
            queue: cut(pieces, start, length),
            left: length,
            file: None,
            ahead: None,
            spare: Spare::default(),
        }
    }

    fn read(&mut self, source: Source) {
        let Some((offset, length)) = self.file.as_mut() else {
            return;
        };
        let size = usize::try_from(*length).unwrap_or(CHUNK).min(CHUNK);
        let at = *offset;
        *offset += size as u64;
        *length -= size as u64;
        let mut data = self.spare.lock().pop().unwrap_or_default();
        self.ahead = Some(tokio::task::spawn_blocking(move || {
            let file = match source {
                Source::Open(file) => file,
                Source::Path(path) => File::open(path)?,
            };
            data.resize(size, 0);
            // A file that has become shorter ends the connection: the length was promised.
            file.read_exact_at(&mut data, at)?;
            Ok(Ahead { file, data })
        }));
    }

    /// The next chunk; none at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(ahead) = self.ahead.as_mut() {
                let read = std::task::ready!(Pin::new(ahead).poll(cx));
                self.ahead = None;
                let Ahead { file, data } =
                    match read.map_err(io::Error::other).and_then(|read| read) {
                        Ok(read) => read,
                        Err(error) => {
                            self.queue.clear();
                            self.file = None;
                            return Poll::Ready(Some(Err(error)));
                        }
                    };
                if self.file.is_some_and(|(_, length)| length > 0) {
                    self.read(Source::Open(file));
                } else {
                    self.file = None;
                }
                self.left = self.left.saturating_sub(data.len() as u64);
                return Poll::Ready(Some(Ok(Bytes::from_owner(Chunk {
                    data,
                    spare: self.spare.clone(),
                }))));
            }
            match self.queue.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::File {
                    path,
                    offset,
                    length,
                }) => {
                    self.file = Some((offset, length));
                    self.read(Source::Path(path));
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

enum Source {
    Open(File),
    Path(std::path::PathBuf),
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
