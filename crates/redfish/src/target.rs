//! Where a BMC is, who we are to it, and how far it is trusted.

use crate::{
    error::GatewayError,
    tls::{CaBundle, Fingerprint},
};
use secrecy::{ExposeSecret, SecretString};
use std::{fmt, sync::Arc};
use url::Url;

/// One BMC. `name` is the cache key: the BMC object's name.
#[derive(Clone, Debug)]
pub struct Target {
    /// Unique in the process; used in logs.
    pub name: String,
    /// `https://host[:port]`, or `http://` with [`Trust::Plain`]. A path is ignored.
    pub url: Url,
    /// Sent only over a connection that [`Trust`] accepts.
    pub credentials: Credentials,
    /// What makes a connection acceptable.
    pub trust: Trust,
}

/// A user name and a password. Neither `Debug` nor anything else here prints the password.
#[derive(Clone)]
pub struct Credentials {
    /// The account on the BMC.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// What makes a connection acceptable for credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// HTTP without TLS, chosen explicitly.
    Plain,
    /// TLS with any certificate, chosen explicitly.
    Insecure,
    /// The certificate chains to these authorities, is in date, and names the host.
    Ca(CaBundle),
    /// The leaf certificate is this one.
    Pinned(Fingerprint),
    /// The leaf certificate is this one or chains to these authorities: a renewed certificate is not a changed one.
    PinnedOrCa(Fingerprint, CaBundle),
    /// Nothing is known yet: the certificate is looked at, credentials are **not** sent. The caller records
    /// [`Bmc::observed_pin`](crate::Bmc::observed_pin) and comes back with [`Trust::Pinned`].
    FirstUse,
}

// === impl Target ===

impl Target {
    /// Host and port, as used in messages and to judge links.
    #[must_use]
    pub fn authority(&self) -> Arc<str> {
        authority(&self.url)
    }

    /// Checks that scheme and trust go together.
    ///
    /// # Errors
    /// [`GatewayError::InvalidTarget`] with what to change.
    pub fn check(&self) -> Result<(), GatewayError> {
        let wrong = |what| {
            Err(GatewayError::InvalidTarget {
                url: Arc::from(redacted(&self.url)),
                what,
            })
        };
        if self.url.host_str().is_none_or(str::is_empty) {
            return wrong("it has no host");
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            return wrong("credentials do not belong in an address; use the Secret");
        }
        match (self.url.scheme(), &self.trust) {
            ("http", Trust::Plain) => Ok(()),
            ("http", _) => wrong("plain HTTP must be asked for explicitly"),
            ("https", Trust::Plain) => wrong("plain HTTP was asked for, but the scheme is https"),
            ("https", _) => Ok(()),
            _ => wrong("the scheme must be https or http"),
        }
    }

    /// Whether both describe the same BMC reached in the same way with the same credentials.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.trust == other.trust
            && self.credentials == other.credentials
            && self.same_address(other)
    }

    /// Whether both lead to the same host and port over the same scheme.
    #[must_use]
    pub fn same_address(&self, other: &Self) -> bool {
        self.url.scheme() == other.url.scheme() && self.authority() == other.authority()
    }
}

pub(crate) fn authority(url: &Url) -> Arc<str> {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => Arc::from(format!("{host}:{port}")),
        None => Arc::from(host),
    }
}

/// The address without what a careless user may have put into it.
fn redacted(url: &Url) -> String {
    format!("{}://{}", url.scheme(), authority(url))
}

// === impl Credentials ===

impl Credentials {
    /// Credentials of one account.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
        }
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username
            && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Eq for Credentials {}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
