//! Why an image cannot be booted.

use crate::cache::CacheError;

/// Why an image is not resolved. No address with a login, and no login, is in any of them.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is not there.
    #[error("{0} is not there")]
    Missing(String),
    /// The registry or server wants a login, or refuses the one that it got.
    #[error("{0} asks for a login that is not given, or refuses it")]
    Login(String),
    /// It is at an address that images are not fetched from.
    #[error(
        "no image is fetched from {0}: it is this host itself, on its link, or outside of --image-network"
    )]
    NotAllowed(String),
    /// It does not answer, or not as it should for now. Trying again may help.
    #[error("{place} does not answer as it should: {why}")]
    Away {
        /// Which host.
        place: String,
        /// What it did.
        why: String,
    },
    /// What came is no manifest that is understood, or the reference is none.
    #[error("it cannot be understood: {0}")]
    Malformed(String),
    /// It is for another architecture.
    #[error("it is for {found}, the machine is {wanted}")]
    Architecture {
        /// The machine's.
        wanted: String,
        /// The image's.
        found: String,
    },
    /// Nothing in it can be booted.
    #[error("nothing in it can be booted: {0}")]
    NotBootable(String),
    /// A SHA-256 must be given for URLs and is not.
    #[error("no sha256 is given, and one is required")]
    NoDigest,
    /// The cache, or the digest.
    #[error("it cannot be kept")]
    Cache(#[from] CacheError),
    /// The client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

impl ImageError {
    /// Whether trying again may help without anybody changing anything.
    #[must_use]
    pub fn retry_helps(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Cache(error) => error.retry_helps(),
            _ => false,
        }
    }
}
