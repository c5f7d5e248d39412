//! What a claim's image is: a reference resolved to files in the cache, each verified by digest.
//!
//! [`Images::resolve`] is the one entry. What it gives has a digest, by which the server finds it again ([`Images::get`]); nothing unverified is served.

pub mod credentials;
pub mod error;
mod fetch;
pub mod networks;
mod oci;
pub mod resolved;
mod url;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::cache::{Cache, Held};
use credentials::Credentials;
pub use error::ImageError;
use networks::Networks;
use resolved::Resolved;

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// In an OCI registry.
    Oci {
        /// Host, with a port where it is another than 443.
        registry: String,
        /// Path in it.
        repository: String,
        /// A tag, or a digest (`sha256:…`).
        reference: String,
    },
    /// A file (EFI, ISO, disk image) or a manifest, by HTTP or HTTPS.
    Url(::url::Url),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Where it is.
    pub reference: &'a Reference,
    /// Architecture, as OCI names it: `amd64`, `arm64`.
    pub architecture: &'a str,
    /// Logins of the pull Secret.
    pub credentials: Option<&'a Credentials>,
    /// SHA-256 that a URL's file must have.
    pub sha256: Option<&'a str>,
}

/// What images may be and cost.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether a URL without a SHA-256 is refused.
    pub require_sha256: bool,
    /// Registries (host and port) that are spoken to without TLS.
    pub insecure: Vec<String>,
    /// Most bytes of one file.
    pub limit: u64,
    /// Longest time without a byte.
    pub idle: Duration,
    /// Where they may come from.
    pub networks: Networks,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            require_sha256: false,
            insecure: Vec::new(),
            limit: 64 << 30,
            idle: Duration::from_secs(30),
            networks: Networks::default(),
        }
    }
}

/// An image, and its files kept from eviction.
#[derive(Debug)]
struct Kept {
    resolved: Resolved,
    _held: Vec<Held>,
}

/// Resolves images and keeps what was resolved.
#[derive(Debug)]
pub struct Images {
    cache: Arc<Cache>,
    client: fetch::Client,
    options: Options,
    kept: Mutex<HashMap<String, Arc<Kept>>>,
}

impl Images {
    /// Images in `cache`, fetched with TLS as `tls` says (its roots).
    ///
    /// # Errors
    /// The client cannot be made of this TLS configuration.
    pub fn new(
        cache: Arc<Cache>,
        tls: rustls::ClientConfig,
        options: Options,
    ) -> Result<Self, ImageError> {
        let client = fetch::Client::new(tls, options.idle, options.networks.clone())?;
        Ok(Self {
            cache,
            client,
            options,
            kept: Mutex::default(),
        })
    }

    /// The cache that the files are in.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Finds an image and fetches all of its files that are not in the cache. They stay there until [`Images::forget`].
    ///
    /// # Errors
    /// See [`ImageError`], whose [`ImageError::retry_helps`] says if trying again does.
    pub async fn resolve(&self, request: &Request<'_>) -> Result<Resolved, ImageError> {
        let (resolved, held) = match request.reference {
            Reference::Oci {
                registry,
                repository,
                reference,
            } => oci::resolve(self, request, registry, repository, reference).await?,
            Reference::Url(url) => url::resolve(self, request, url).await?,
        };
        self.kept.lock().insert(
            resolved.digest.clone(),
            Arc::new(Kept {
                resolved: resolved.clone(),
                _held: held,
            }),
        );
        Ok(resolved)
    }

    /// What was resolved to this digest in this process.
    #[must_use]
    pub fn get(&self, digest: &str) -> Option<Resolved> {
        self.kept
            .lock()
            .get(digest)
            .map(|kept| kept.resolved.clone())
    }

    /// No longer needed: its files may be evicted.
    pub fn forget(&self, digest: &str) {
        self.kept.lock().remove(digest);
    }
}

#[cfg(test)]
pub(crate) mod tests;
