//! Artefacts on disk, by digest.
//!
//! A file gets its name, the SHA-256 of its bytes, only after all of them were written, hashed and synced; so what has a name is whole. What stood there
//! when the process started is hashed again before it is first used. [`Cache::store`] fetches once however many ask; [`Held`] keeps a file from eviction.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ramdisk::index::hexadecimal;

/// Why something is not in the cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The disk. Trying again may help.
    #[error("cannot {what} {} in the cache", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What came has another digest. Trying again does not help before the source or the digest changes.
    #[error("sha256 is {found}, {wanted} is wanted")]
    Mismatch {
        /// Which was asked for.
        wanted: String,
        /// What came.
        found: String,
    },
    /// It has more bytes than allowed, or than the whole cache may have. Trying again does not help.
    #[error("it has more than {limit} bytes")]
    TooLong {
        /// How many it may have.
        limit: u64,
    },
    /// All that is in the cache is in use, so nothing can go. Trying again helps later.
    #[error("the cache is full of what is in use")]
    Full,
    /// It is no SHA-256. Trying again does not help.
    #[error("it is no sha256")]
    Digest,
    /// The source broke off. Trying again may help.
    #[error("the source broke off")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CacheError {
    fn io(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether trying again may help without anybody changing anything.
    #[must_use]
    pub fn retry_helps(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Full | Self::Source(_))
    }
}

/// A file of the cache, which is not evicted as long as this is held.
#[derive(Debug, Clone)]
pub struct Held {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub length: u64,
    _pin: Arc<()>,
}

#[derive(Debug)]
struct Entry {
    length: u64,
    used: SystemTime,
    verified: bool,
    pin: Arc<()>,
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    budget: u64,
    entries: Mutex<HashMap<String, Entry>>,
    flights: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    number: AtomicU64,
}

/// Whether `text` is a SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

const PART: &str = "part";

impl Cache {
    /// Opens the cache in `folder`, which belongs to one process, with room for `budget` bytes. What was left unfinished is removed.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: &Path, budget: u64) -> Result<Self, CacheError> {
        let failed = |error| CacheError::io("open", folder, error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut entries = HashMap::new();
        for file in std::fs::read_dir(folder).map_err(failed)?.flatten() {
            let path = file.path();
            let name = file.file_name().to_string_lossy().into_owned();
            if path.extension().is_some_and(|extension| extension == PART) {
                let _ = std::fs::remove_file(&path);
            } else if is_sha256(&name)
                && let Ok(metadata) = file.metadata()
            {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                entries.insert(
                    name,
                    Entry {
                        length: metadata.len(),
                        used,
                        verified: false,
                        pin: Arc::default(),
                    },
                );
            }
        }
        let cache = Self {
            folder: folder.to_owned(),
            budget,
            entries: Mutex::new(entries),
            flights: Mutex::default(),
            number: AtomicU64::new(0),
        };
        let _ = cache.make_room(0);
        Ok(cache)
    }

    /// The file of that digest, if there is one; hashed first if it was not since the start. One that turns out damaged is removed.
    ///
    /// # Errors
    /// The disk fails.
    pub async fn get(&self, sha256: &str) -> Result<Option<Held>, CacheError> {
        let (held, verified) = {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(sha256) else {
                return Ok(None);
            };
            entry.used = SystemTime::now();
            (
                Held {
                    path: self.folder.join(sha256),
                    sha256: sha256.to_owned(),
                    length: entry.length,
                    _pin: entry.pin.clone(),
                },
                entry.verified,
            )
        };
        if verified {
            return Ok(Some(held));
        }
        let found = digest_of(&held.path).await;
        let whole = found
            .as_ref()
            .is_ok_and(|(found, length)| *found == sha256 && *length == held.length);
        if whole {
            if let Some(entry) = self.entries.lock().get_mut(sha256) {
                entry.verified = true;
            }
            return Ok(Some(held));
        }
        tracing::warn!(
            event = "cached_artefact_damaged",
            sha256,
            "a cached artefact is not what it was; it is removed"
        );
        self.entries.lock().remove(sha256);
        let _ = std::fs::remove_file(&held.path);
        Ok(None)
    }

    /// The file of that digest: from the cache, else from `source`, which is asked once however many wait. At most `limit` bytes are taken.
    ///
    /// # Errors
    /// The source fails, or what comes is too long or has another digest: then nothing of it remains.
    pub async fn fetch<S, F, E>(&self, sha256: &str, limit: u64, source: F) -> Result<Held, E>
    where
        F: AsyncFnOnce() -> Result<S, E>,
        S: Stream<Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Unpin,
        E: From<CacheError>,
    {
        if !is_sha256(sha256) {
            return Err(CacheError::Digest.into());
        }
        let flight = self
            .flights
            .lock()
            .entry(sha256.to_owned())
            .or_default()
            .clone();
        let result = {
            let _turn = flight.lock().await;
            match self.get(sha256).await? {
                Some(held) => Ok(held),
                None => match source().await {
                    Ok(stream) => self
                        .store(Some(sha256), limit, stream)
                        .await
                        .map_err(E::from),
                    Err(error) => Err(error),
                },
            }
        };
        // The last one out takes the flight away; two hold it then, the map and we.
        let mut flights = self.flights.lock();
        if Arc::strong_count(&flight) <= 2 {
            flights.remove(sha256);
        }
        result
    }

    /// Stores a stream under its digest, which must be `wanted` where that is given.
    ///
    /// # Errors
    /// As [`Cache::fetch`].
    pub async fn store<S>(
        &self,
        wanted: Option<&str>,
        limit: u64,
        stream: S,
    ) -> Result<Held, CacheError>
    where
        S: Stream<Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Unpin,
    {
        let part = Part(self.folder.join(format!(
            "{}.{PART}",
            self.number.fetch_add(1, Ordering::Relaxed)
        )));
        let (found, length) = self
            .receive(&part.0, limit.min(self.budget), stream)
            .await?;
        if let Some(wanted) = wanted
            && wanted != found
        {
            return Err(CacheError::Mismatch {
                wanted: wanted.to_owned(),
                found,
            });
        }
        self.make_room(length)?;
        let path = self.folder.join(&found);
        tokio::fs::rename(&part.0, &path)
            .await
            .map_err(|error| CacheError::io("name", &path, error))?;
        if let Ok(folder) = std::fs::File::open(&self.folder) {
            // So that the name survives a loss of power. Without it the file is fetched again, no more.
            let _ = folder.sync_all();
        }
        let mut entries = self.entries.lock();
        let pin = entries
            .get(&found)
            .map(|entry| entry.pin.clone())
            .unwrap_or_default();
        entries.insert(
            found.clone(),
            Entry {
                length,
                used: SystemTime::now(),
                verified: true,
                pin: pin.clone(),
            },
        );
        Ok(Held {
            path,
            sha256: found,
            length,
            _pin: pin,
        })
    }

    async fn receive<S>(
        &self,
        path: &Path,
        limit: u64,
        mut stream: S,
    ) -> Result<(String, u64), CacheError>
    where
        S: Stream<Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Unpin,
    {
        let failed = |error| CacheError::io("write", path, error);
        let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
        let mut context = Context::new(&SHA256);
        let mut length = 0u64;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(CacheError::Source)?;
            length = length.saturating_add(chunk.len() as u64);
            if length > limit {
                return Err(CacheError::TooLong { limit });
            }
            context.update(&chunk);
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)?;
        Ok((hexadecimal(context.finish().as_ref()), length))
    }

    /// Evicts what was not used longest until `length` more bytes fit; never what is held.
    fn make_room(&self, length: u64) -> Result<(), CacheError> {
        let mut entries = self.entries.lock();
        loop {
            let sum: u64 = entries.values().map(|entry| entry.length).sum();
            if sum.saturating_add(length) <= self.budget {
                return Ok(());
            }
            let oldest = entries
                .iter()
                .filter(|(_, entry)| Arc::strong_count(&entry.pin) == 1)
                .min_by_key(|(_, entry)| entry.used)
                .map(|(name, _)| name.clone());
            let oldest = oldest.ok_or(CacheError::Full)?;
            entries.remove(&oldest);
            let _ = std::fs::remove_file(self.folder.join(&oldest));
        }
    }
}

/// An unfinished file, which goes unless it was given its name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn digest_of(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0u8; 1 << 18];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            return Ok((hexadecimal(context.finish().as_ref()), length));
        }
        context.update(buffer.get(..count).unwrap_or_default());
        length += count as u64;
    }
}

#[cfg(test)]
mod tests;
