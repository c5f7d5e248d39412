//! Which TLS peers are believed: by authority, by pin, or not at all.
//!
//! BMC certificates are self-signed, out of date, without names, X.509 v1 or all of that, so a pin is compared with the
//! leaf's bytes and nothing else about it is judged; that the peer holds its key is always checked.

mod verifier;

pub(crate) use verifier::{Observed, Verifier};

use ring::digest::{SHA256, digest};
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::CryptoProvider};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{fmt, str::FromStr, sync::Arc};

/// SHA-256 of a leaf certificate's DER. Written `sha256:<64 hex digits>`; colons between bytes are read too.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text that is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is sha256: followed by 64 hexadecimal digits")]
pub struct BadFingerprint;

/// Certificate authorities that may vouch for BMCs. Cheap to clone: one for the whole fleet.
#[derive(Clone)]
pub struct CaBundle {
    roots: Arc<RootCertStore>,
    digest: Fingerprint,
}

/// A CA file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCaBundle {
    /// Not PEM, or damaged.
    #[error("the CA file is not PEM: {0}")]
    NotPem(String),
    /// No certificate in it.
    #[error("the CA file holds no certificate (expected -----BEGIN CERTIFICATE-----)")]
    Empty,
    /// A certificate that cannot be an authority.
    #[error("a certificate in the CA file cannot be used: {0}")]
    Unusable(String),
}

/// Which check a TLS peer failed, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The certificate is not the pinned one. Somebody renewed it, or somebody is in between.
    #[error(
        "the certificate changed from {pinned} to {presented}; if it was replaced on purpose, set the pin to the new one"
    )]
    PinMismatch {
        /// What was trusted.
        pinned: Fingerprint,
        /// What was shown.
        presented: Fingerprint,
    },
    /// Nothing is trusted yet, so credentials were not sent.
    #[error(
        "the certificate {presented} is not trusted yet, no credentials were sent; pin it, or give the CA that signed it"
    )]
    NotTrustedYet {
        /// What was shown.
        presented: Fingerprint,
    },
    /// The chain does not end at a given authority.
    #[error(
        "the certificate {presented} is not signed by a given CA; give the right CA or pin the certificate"
    )]
    UnknownIssuer {
        /// What was shown.
        presented: Fingerprint,
    },
    /// The certificate is for other names.
    #[error(
        "the certificate {presented} is not for this address but for {names}; use one of those names or pin the certificate"
    )]
    NameMismatch {
        /// What was shown.
        presented: Fingerprint,
        /// The names in it.
        names: String,
    },
    /// The certificate is no longer, or not yet, valid.
    #[error(
        "the certificate {presented} is expired or not yet valid; check the clocks, renew it or pin the certificate"
    )]
    Expired {
        /// What was shown.
        presented: Fingerprint,
    },
    /// The certificate is unusable otherwise.
    #[error("the certificate {presented} cannot be used: {what}; renew it or pin it")]
    BadCertificate {
        /// What was shown.
        presented: Fingerprint,
        /// The verifier's word.
        what: String,
    },
    /// No common protocol version or cipher, or the peer does not speak TLS at all.
    #[error(
        "no TLS handshake: {what}; TLS 1.2 or newer is needed, and the port must be the HTTPS port"
    )]
    Handshake {
        /// The TLS library's word.
        what: String,
    },
}

/// A rustls configuration for `verifier`. One session ticket is kept per BMC: a full handshake costs a BMC's CPU 100 ms.
pub(crate) fn client_config(
    verifier: Arc<Verifier>,
    provider: Arc<CryptoProvider>,
) -> Option<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(1);
    Some(config)
}

/// The one crypto provider of the process: ring.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
        .clone()
}

// === impl Fingerprint ===

impl Fingerprint {
    /// The fingerprint of a certificate's DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let text = text.trim();
        let digits = match text.split_once(':') {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("sha256") => rest,
            _ => text,
        };
        let mut bytes = [0_u8; 32];
        let mut nibbles = digits.chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        for byte in &mut bytes {
            let high = nibbles.next().flatten().ok_or(BadFingerprint)?;
            let low = nibbles.next().flatten().ok_or(BadFingerprint)?;
            *byte = u8::try_from(high * 16 + low).map_err(|_| BadFingerprint)?;
        }
        if nibbles.next().is_some() {
            Err(BadFingerprint)
        } else {
            Ok(Self(bytes))
        }
    }
}

// === impl CaBundle ===

impl CaBundle {
    /// Reads every certificate of a PEM file.
    ///
    /// # Errors
    /// [`BadCaBundle`] if there is none or one cannot be an authority.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadCaBundle> {
        let mut roots = RootCertStore::empty();
        let mut all = Vec::new();
        for cert in CertificateDer::pem_slice_iter(pem) {
            let cert = cert.map_err(|error| BadCaBundle::NotPem(error.to_string()))?;
            all.extend_from_slice(&cert);
            roots
                .add(cert)
                .map_err(|error| BadCaBundle::Unusable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(BadCaBundle::Empty);
        }
        Ok(Self {
            roots: Arc::new(roots),
            digest: Fingerprint::of(&all),
        })
    }

    pub(crate) fn roots(&self) -> &RootCertStore {
        &self.roots
    }
}

impl PartialEq for CaBundle {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for CaBundle {}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaBundle({} certificates)", self.roots.len())
    }
}

// === impl TlsFailure ===

impl TlsFailure {
    /// The certificate that was shown, if one was.
    #[must_use]
    pub fn presented(&self) -> Option<Fingerprint> {
        match self {
            Self::PinMismatch { presented, .. }
            | Self::NotTrustedYet { presented }
            | Self::UnknownIssuer { presented }
            | Self::NameMismatch { presented, .. }
            | Self::Expired { presented }
            | Self::BadCertificate { presented, .. } => Some(*presented),
            Self::Handshake { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
