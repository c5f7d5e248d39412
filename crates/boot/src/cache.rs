//! Artefacts on disk, by digest.
//!
//! A file gets its name, the SHA-256 of its bytes, only after all of them were written, hashed and synced; so what has a name is whole. What stood there
//! when the process started is hashed again before it is first used. [`Cache::fetch`] fetches once however many ask; [`Held`] keeps a file from eviction.
//!
//! A digest is no secret, so knowing one opens nothing: whoever asks names a [`Place`], and that place has to give what it has to the asker. A file notes
//! the places that it came from, in `<sha256>.places` beside it; only such a place's word is taken for the bytes.

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
    /// It came so slowly that it would take for ever, and hold room as long. Trying again may help.
    #[error("it comes with less than {} KiB a second", SLOWEST >> 10)]
    Slow,
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
        matches!(
            self,
            Self::Io { .. } | Self::Full | Self::Slow | Self::Source(_)
        )
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

/// Where bytes came from: the SHA-256 of a URL, which may itself hold a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// The place that a URL is, with its query.
    #[must_use]
    pub fn of(url: &url::Url) -> Self {
        Self(crate::ramdisk::index::sha256(url.as_str().as_bytes()))
    }
}

#[derive(Debug)]
struct Entry {
    length: u64,
    used: SystemTime,
    verified: bool,
    pin: Arc<()>,
    /// Places whose bytes had this digest, the newest last.
    places: Vec<Place>,
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    budget: u64,
    entries: Mutex<HashMap<String, Entry>>,
    flights: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    number: AtomicU64,
    /// Bytes of what is being received.
    arriving: AtomicU64,
}

/// What one stream has brought so far, as long as it is not kept.
#[derive(Debug)]
struct Arriving<'a>(&'a AtomicU64, u64);

impl Arriving<'_> {
    fn add(&mut self, length: u64) {
        self.0.fetch_add(length, Ordering::Relaxed);
        self.1 += length;
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
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
const PLACES: &str = "places";
/// Less than this in a second, on average and after [`STARTING`], is given up.
const SLOWEST: u64 = 32 << 10;
const STARTING: std::time::Duration = std::time::Duration::from_secs(120);
/// Places that are remembered of one file; a forgotten one is asked for the bytes again.
const MOST_PLACES: usize = 64;

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
            let is_orphan = || !path.with_extension("").exists();
            if path
                .extension()
                .is_some_and(|extension| extension == PART || extension == PLACES && is_orphan())
            {
                let _ = std::fs::remove_file(&path);
            } else if is_sha256(&name)
                && let Ok(metadata) = file.metadata()
            {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let places = places_at(&path);
                entries.insert(
                    name,
                    Entry {
                        length: metadata.len(),
                        used,
                        verified: false,
                        pin: Arc::default(),
                        places,
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
            arriving: AtomicU64::new(0),
        };
        let _ = cache.make_room(&mut Arriving(&cache.arriving, 0), 0);
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
        remove(&held.path);
        Ok(None)
    }

    /// The file of that digest which `place` gives: `source` opens it there as the asker may, and is asked each time. Its bytes are taken only where that
    /// place has not given them before, and once however many wait. At most `limit` bytes are taken.
    ///
    /// # Errors
    /// The source fails, or what comes is too long or has another digest: then nothing of it remains.
    pub async fn fetch<S, F, E>(
        &self,
        sha256: &str,
        place: &Place,
        limit: u64,
        source: F,
    ) -> Result<Held, E>
    where
        F: AsyncFnOnce() -> Result<S, E>,
        S: Stream<Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Unpin,
        E: From<CacheError>,
    {
        if !is_sha256(sha256) {
            return Err(CacheError::Digest.into());
        }
        // Access is asked for outside of the flight: hundreds who ask for what is here do not wait for one another.
        if let Some(held) = self.given(sha256, place).await? {
            source().await?;
            return Ok(held);
        }
        let flight = self
            .flights
            .lock()
            .entry(sha256.to_owned())
            .or_default()
            .clone();
        let result = {
            let _turn = flight.lock().await;
            match self.given(sha256, place).await {
                Ok(Some(held)) => source().await.map(|_| held),
                Ok(None) => match source().await {
                    Ok(stream) => self
                        .store(Some(sha256), Some(place), limit, stream)
                        .await
                        .map_err(E::from),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error.into()),
            }
        };
        // The last one out takes the flight away; two hold it then, the map and we.
        let mut flights = self.flights.lock();
        if Arc::strong_count(&flight) <= 2 {
            flights.remove(sha256);
        }
        result
    }

    /// The file of that digest, if there is one and `place` has given it before.
    async fn given(&self, sha256: &str, place: &Place) -> Result<Option<Held>, CacheError> {
        let is_known = self
            .entries
            .lock()
            .get(sha256)
            .is_some_and(|entry| entry.places.contains(place));
        if is_known {
            self.get(sha256).await
        } else {
            Ok(None)
        }
    }

    /// Stores a stream under its digest, which must be `wanted` where that is given, and notes that `place` gave it.
    ///
    /// # Errors
    /// As [`Cache::fetch`].
    pub async fn store<S>(
        &self,
        wanted: Option<&str>,
        place: Option<&Place>,
        limit: u64,
        stream: S,
    ) -> Result<Held, CacheError>
    where
        S: Stream<Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Unpin,
    {
        // Bytes that are here are read from another place too, and written down once.
        let known = match wanted {
            Some(wanted) => self.get(wanted).await?,
            None => None,
        };
        let part = Part(self.folder.join(format!(
            "{}.{PART}",
            self.number.fetch_add(1, Ordering::Relaxed)
        )));
        let mut arriving = Arriving(&self.arriving, 0);
        let found = self
            .receive(
                known.is_none().then_some(&*part.0),
                limit.min(self.budget),
                &mut arriving,
                stream,
            )
            .await?;
        let length = arriving.1;
        if let Some(wanted) = wanted
            && wanted != found
        {
            return Err(CacheError::Mismatch {
                wanted: wanted.to_owned(),
                found,
            });
        }
        // The same bytes may be here by another place; they stay, for somebody may be reading them.
        if let Some(held) = self.get(&found).await? {
            self.note(&held, place);
            return Ok(held);
        }
        let path = self.folder.join(&found);
        tokio::fs::rename(&part.0, &path)
            .await
            .map_err(|error| CacheError::io("name", &path, error))?;
        if let Ok(folder) = std::fs::File::open(&self.folder) {
            // So that the name survives a loss of power. Without it the file is fetched again, no more.
            let _ = folder.sync_all();
        }
        let pin = {
            let mut entries = self.entries.lock();
            let entry = entries.entry(found.clone()).or_insert_with(|| Entry {
                length,
                used: SystemTime::now(),
                verified: true,
                pin: Arc::default(),
                places: Vec::new(),
            });
            entry.verified = true;
            let pin = entry.pin.clone();
            // From here on it counts as what is kept.
            drop(arriving);
            pin
        };
        let held = Held {
            path,
            sha256: found,
            length,
            _pin: pin,
        };
        self.note(&held, place);
        Ok(held)
    }

    /// That `place` gave this file. Not written is forgotten at the next start, no more.
    fn note(&self, held: &Held, place: Option<&Place>) {
        let mut entries = self.entries.lock();
        let (Some(place), Some(entry)) = (place, entries.get_mut(&held.sha256)) else {
            return;
        };
        if entry.places.contains(place) {
            return;
        }
        if entry.places.len() >= MOST_PLACES {
            entry.places.remove(0);
        }
        entry.places.push(place.clone());
        let lines: Vec<_> = entry.places.iter().map(|place| place.0.as_str()).collect();
        let _ = std::fs::write(held.path.with_extension(PLACES), lines.join("\n"));
    }

    async fn receive<S>(
        &self,
        to: Option<&Path>,
        limit: u64,
        arriving: &mut Arriving<'_>,
        mut stream: S,
    ) -> Result<String, CacheError>
    where
        S: Stream<Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Unpin,
    {
        let failed = |error| CacheError::io("write", to.unwrap_or(&self.folder), error);
        let mut file = match to {
            Some(path) => Some(tokio::fs::File::create(path).await.map_err(failed)?),
            None => None,
        };
        let mut context = Context::new(&SHA256);
        let mut length = 0_u64;
        let begun = tokio::time::Instant::now();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(CacheError::Source)?;
            let took = begun.elapsed();
            length += chunk.len() as u64;
            if length > limit {
                return Err(CacheError::TooLong { limit });
            }
            if took > STARTING && length < took.as_secs() * SLOWEST {
                return Err(CacheError::Slow);
            }
            context.update(&chunk);
            if let Some(file) = &mut file {
                // What arrives counts from its first byte on, so that many at once do not fill what they share.
                self.make_room(arriving, chunk.len() as u64)?;
                file.write_all(&chunk).await.map_err(failed)?;
            }
        }
        if let Some(file) = &mut file {
            file.flush().await.map_err(failed)?;
            file.sync_all().await.map_err(failed)?;
        }
        Ok(hexadecimal(context.finish().as_ref()))
    }

    /// Evicts what was not used longest until `length` more bytes fit; never what is held.
    fn make_room(&self, arriving: &mut Arriving<'_>, length: u64) -> Result<(), CacheError> {
        let mut entries = self.entries.lock();
        loop {
            let kept: u64 = entries.values().map(|entry| entry.length).sum();
            let sum = kept + self.arriving.load(Ordering::Relaxed);
            if sum.saturating_add(length) <= self.budget {
                arriving.add(length);
                return Ok(());
            }
            let oldest = entries
                .iter()
                .filter(|(_, entry)| Arc::strong_count(&entry.pin) == 1)
                .min_by_key(|(_, entry)| entry.used)
                .map(|(name, _)| name.clone());
            let oldest = oldest.ok_or(CacheError::Full)?;
            entries.remove(&oldest);
            remove(&self.folder.join(&oldest));
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

/// A file and what is noted of it.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path.with_extension(PLACES));
    let _ = std::fs::remove_file(path);
}

/// The places that are noted beside a file; what is no place is passed over.
fn places_at(path: &Path) -> Vec<Place> {
    let path = path.with_extension(PLACES);
    let is_small = |length: u64| length <= (MOST_PLACES * 65) as u64;
    if !std::fs::metadata(&path).is_ok_and(|found| is_small(found.len())) {
        return Vec::new();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    text.lines()
        .filter(|line| is_sha256(line))
        .map(|line| Place(line.to_owned()))
        .collect()
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
