//! The rustls verifier behind [`Trust`](crate::Trust).

use super::{CaBundle, Fingerprint, TlsFailure};
use crate::target::Trust;
use parking_lot::Mutex;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::CryptoProvider,
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{fmt, sync::Arc};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// The certificates whose keys the peer has proved to hold.
#[derive(Debug, Default)]
pub(crate) struct Observed(Mutex<Shown>);

#[derive(Debug, Default)]
struct Shown {
    /// In the last full handshake.
    last: Option<Fingerprint>,
    /// Another one was shown before.
    changed: bool,
    /// What was looked at on first use and is trusted since.
    adopted: Option<Fingerprint>,
}

/// Applies one target's trust and records what was shown.
pub(crate) struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    observed: Arc<Observed>,
}

// === impl Observed ===

impl Observed {
    pub(crate) fn get(&self) -> Option<Fingerprint> {
        self.0.lock().last
    }

    /// Takes `pin` as trusted if it is the only certificate that was ever shown; then no other is accepted any more, and whatever connection there
    /// is leads to its holder.
    pub(crate) fn adopt(&self, pin: Fingerprint) -> bool {
        let mut shown = self.0.lock();
        if shown.changed || shown.last != Some(pin) {
            return false;
        }
        shown.adopted = Some(pin);
        true
    }

    fn adopted(&self) -> Option<Fingerprint> {
        self.0.lock().adopted
    }

    /// Notes a certificate whose key was proved; says if it may be used.
    pub(super) fn note(&self, leaf: Fingerprint) -> bool {
        let mut shown = self.0.lock();
        if shown.adopted.is_some_and(|adopted| adopted != leaf) {
            return false;
        }
        shown.changed |= shown.last.is_some_and(|last| last != leaf);
        shown.last = Some(leaf);
        true
    }
}

// === impl Verifier ===

impl Verifier {
    pub(crate) fn new(
        trust: Trust,
        provider: Arc<CryptoProvider>,
        observed: Arc<Observed>,
    ) -> Self {
        Self {
            trust,
            provider,
            observed,
        }
    }

    fn chains_to(
        &self,
        ca: &CaBundle,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), TlsFailure> {
        let presented = Fingerprint::of(leaf);
        let judge = |error: Error| judge(presented, leaf, &error);
        let parsed = ParsedCertificate::try_from(leaf).map_err(judge)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, ca.roots(), rest, now, algorithms)
            .map_err(judge)?;
        verify_server_name(&parsed, name).map_err(judge)
    }

    /// Checks the handshake's signature with the leaf's key, without judging the certificate: webpki refuses to parse
    /// X.509 v1 and other certificates that BMCs really have.
    fn verify_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (_, parsed) =
            X509Certificate::from_der(cert).map_err(|_| CertificateError::BadEncoding)?;
        let key = parsed
            .tbs_certificate
            .subject_pki
            .subject_public_key
            .data
            .as_ref();
        let algorithms = self
            .provider
            .signature_verification_algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?
            .1;
        if algorithms.iter().any(|algorithm| {
            algorithm
                .verify_signature(key, message, signed.signature())
                .is_ok()
        }) {
            // A handshake that began before another certificate was adopted.
            if !self.observed.note(Fingerprint::of(cert)) {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
            return Ok(HandshakeSignatureValid::assertion());
        }
        Err(CertificateError::BadSignature.into())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = Fingerprint::of(leaf);
        let verdict = match &self.trust {
            // FirstUse only looks: nothing secret is sent over such a connection before its certificate is adopted.
            Trust::FirstUse => match self.observed.adopted() {
                Some(pinned) if pinned != presented => {
                    Err(TlsFailure::PinMismatch { pinned, presented })
                }
                _ => Ok(()),
            },
            Trust::Plain | Trust::Insecure => Ok(()),
            Trust::Ca(ca) => self.chains_to(ca, leaf, rest, name, now),
            Trust::Pinned(pinned) | Trust::PinnedOrCa(pinned, _) if *pinned == presented => Ok(()),
            Trust::Pinned(pinned) => Err(TlsFailure::PinMismatch {
                pinned: *pinned,
                presented,
            }),
            Trust::PinnedOrCa(pinned, ca) => {
                self.chains_to(ca, leaf, rest, name, now)
                    .map_err(|_| TlsFailure::PinMismatch {
                        pinned: *pinned,
                        presented,
                    })
            }
        };
        verdict
            .map(|()| ServerCertVerified::assertion())
            .map_err(|failure| CertificateError::Other(OtherError(Arc::new(failure))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // RFC 8446 section 4.2.3: PKCS#1 v1.5 signs certificates only, never a TLS 1.3 handshake.
        if matches!(
            signed.scheme,
            SignatureScheme::RSA_PKCS1_SHA256
                | SignatureScheme::RSA_PKCS1_SHA384
                | SignatureScheme::RSA_PKCS1_SHA512
        ) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.verify_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

fn judge(presented: Fingerprint, leaf: &CertificateDer<'_>, error: &Error) -> TlsFailure {
    let Error::InvalidCertificate(error) = error else {
        return TlsFailure::BadCertificate {
            presented,
            what: error.to_string(),
        };
    };
    match error {
        // A bad signature is an issuer of the right name with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TlsFailure::UnknownIssuer { presented }
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFailure::NameMismatch {
                presented,
                names: names(leaf),
            }
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsFailure::Expired { presented },
        other => TlsFailure::BadCertificate {
            presented,
            what: other.to_string(),
        },
    }
}

/// The names that a certificate is for: subject alternative names, else the subject.
fn names(leaf: &CertificateDer<'_>) -> String {
    let Ok((_, cert)) = X509Certificate::from_der(leaf) else {
        return "nobody".to_owned();
    };
    let names: Vec<String> = match cert.subject_alternative_name() {
        Ok(Some(extension)) => extension
            .value
            .general_names
            .iter()
            .take(8)
            .filter_map(name)
            .collect(),
        _ => Vec::new(),
    };
    if names.is_empty() {
        let subject = cert.subject().to_string();
        return if subject.is_empty() {
            "nobody".to_owned()
        } else {
            format!("{subject} (no alternative names)")
        };
    }
    names.join(", ")
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress([a, b, c, d]) => {
            Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string())
        }
        GeneralName::IPAddress(bytes) => <[u8; 16]>::try_from(*bytes)
            .ok()
            .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        _ => None,
    }
}
