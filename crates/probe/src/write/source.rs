//! Bytes of a URL, hashed on the way; a connection that is lost is taken up where it was.

use super::Fetch;
use crate::registry::{CallError, Transfer, chain};
use crate::say;
use crate::stop::Stop;
use sha2::{Digest, Sha256};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So many failures in a row, without one byte between them.
const ATTEMPTS: u32 = 20;

/// Bytes of a URL.
pub struct Source<'a> {
    fetch: &'a Fetch<'a>,
    url: String,
    stop: &'a Stop,
    transfer: Option<Transfer>,
    etag: Option<String>,
    total: Option<u64>,
    at: u64,
    seen: Arc<AtomicU64>,
    hash: Sha256,
    peeked: Vec<u8>,
}

impl<'a> Source<'a> {
    /// Opens it.
    ///
    /// # Errors
    /// The first answer's.
    pub fn open(fetch: &'a Fetch<'a>, url: &str, stop: &'a Stop) -> Result<Self, CallError> {
        let transfer = fetch(url, 0)?;
        Ok(Self {
            fetch,
            url: url.to_owned(),
            stop,
            etag: transfer.etag.clone(),
            total: transfer.total,
            transfer: Some(transfer),
            at: 0,
            seen: Arc::default(),
            hash: Sha256::new(),
            peeked: Vec::new(),
        })
    }

    /// Length of the whole, where the server said it.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// How many bytes have come; may be looked at while it is read.
    #[must_use]
    pub fn position(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.seen)
    }

    /// The first bytes, which will be read again.
    ///
    /// # Errors
    /// As reading.
    pub fn peek(&mut self) -> io::Result<&[u8]> {
        let mut first = [0_u8; 8];
        let length = super::fill(&mut *self, &mut first)?;
        self.peeked = first.get(..length).unwrap_or_default().to_vec();
        Ok(&self.peeked)
    }

    /// Reads what is left, and returns the SHA-256 of all.
    ///
    /// # Errors
    /// As reading.
    pub fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        let digest = self.hash.finalize();
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Opens again at the place where it broke off.
    fn resume(&mut self) -> io::Result<()> {
        let mut transfer = (self.fetch)(&self.url, self.at).map_err(|error| {
            let kind = if error.may_pass() {
                io::ErrorKind::ConnectionReset
            } else {
                io::ErrorKind::PermissionDenied
            };
            io::Error::new(kind, chain(&error))
        })?;
        if transfer.etag != self.etag || transfer.total != self.total {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the image changed while it was read",
            ));
        }
        if transfer.begins > self.at {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server left bytes out",
            ));
        }
        // A server without ranges begins anew: what is known already is read past.
        let skip = self.at - transfer.begins;
        let passed = io::copy(&mut (&mut transfer.reader).take(skip), &mut io::sink())?;
        if passed != skip {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.transfer = Some(transfer);
        Ok(())
    }

    fn once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.transfer.is_none() {
            self.resume()?;
        }
        let Some(transfer) = &mut self.transfer else {
            return Ok(0);
        };
        let length = transfer.reader.read(buffer)?;
        if length == 0 && self.total.is_some_and(|total| self.at < total) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(length)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.peeked.is_empty() && !buffer.is_empty() {
            let length = self.peeked.len().min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(self.peeked.drain(..length)) {
                *to = from;
            }
            return Ok(length);
        }
        let mut pause = Duration::from_millis(100);
        for attempt in 1..=ATTEMPTS {
            if let Some(reason) = self.stop.reason() {
                return Err(io::Error::other(format!("stopped: {reason}")));
            }
            match self.once(buffer) {
                Ok(length) => {
                    self.hash.update(buffer.get(..length).unwrap_or_default());
                    self.at += length as u64;
                    self.seen.store(self.at, Ordering::Relaxed);
                    return Ok(length);
                }
                Err(error)
                    if attempt == ATTEMPTS
                        || matches!(
                            error.kind(),
                            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData
                        ) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    say!("the transfer broke off at byte {}: {error}", self.at);
                    self.transfer = None;
                    self.stop.wait(pause);
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}
