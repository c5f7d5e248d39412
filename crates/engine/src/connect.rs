//! From an object to a BMC that may be spoken to: address, credentials, trust.
//!
//! [`Connector::connect`] is the entry point. It decides by [`corten_lifecycle::trust`] whether the credentials may be
//! sent at all; where a certificate is to be pinned, the caller persists the pin before it comes back for the handle.

pub mod address;
pub mod ledger;
pub mod policy;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use corten_api::metal::{Protocol, ProtocolScheme};
use corten_kit::Store;
use corten_lifecycle::{
    endpoint::mac::MacAddress,
    trust::{self, Origin, Scheme},
};
use corten_redfish::{Bmc, CaBundle, Fingerprint, Gateway, GatewayError, Target, Trust};
use url::Url;

use crate::{
    macdb::MacDatabase,
    secret::{Loaded, SecretError, SecretKey, Secrets},
};
use address::{BadAddress, Cidr};
use ledger::Ledger;
use policy::Policies;

/// Everything that an object says about its BMC.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The gateway's name for the BMC.
    pub target: String,
    /// IP address or host name.
    pub host: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Where the credentials are.
    pub secret: SecretKey,
    /// The BMC's MAC address, where it is known: factory credentials are known by it.
    pub mac: Option<MacAddress>,
    /// The annotation `corten.dev/tls-pin`.
    pub pin: Option<String>,
    /// Labels, by which policies select.
    pub labels: BTreeMap<String, String>,
}

/// A BMC, ready to be spoken to.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The handle.
    pub bmc: Bmc,
    /// Its address, for messages.
    pub url: Url,
    /// Which version of the Secret is in use.
    pub secret_version: String,
    /// The place of the credentials among the factory credentials, if they are such.
    pub factory: Option<usize>,
}

/// What is to be done about a certificate, and what that rests on.
struct Judged {
    decision: trust::Decision,
    /// The place of the credentials among the factory credentials, if they are such.
    factory: Option<usize>,
    ca: Option<CaBundle>,
}

/// What connecting comes to.
#[derive(Clone, Debug)]
pub enum Way {
    /// Speak.
    Open(Connected),
    /// Look at the certificate without credentials ([`Bmc::service_root`]), persist the pin that it shows, come back.
    PinFirst(Bmc),
}

/// Why there is no way to a BMC. [`ConnectError::reason`] is the condition's word.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The object that says where the BMC is does not exist. Trying again helps once it does.
    #[error(
        "there is no Endpoint {0}, and no address is known from before: create it or delete the BMC"
    )]
    EndpointMissing(String),
    /// Nothing says where the BMC is.
    #[error("no address is given: set spec.access.ip or spec.access.host")]
    NoAddress,
    /// Nothing says where the credentials are.
    #[error("no credentials are given: set spec.secretRef or spec.bmcSecretRef")]
    NoSecret,
    /// The address is wrong.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The credentials could not be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The pin is none.
    #[error(
        "the annotation corten.dev/tls-pin is {0:?}: it must be sha256: and 64 hexadecimal digits"
    )]
    BadPin(String),
    /// The policy's CA cannot be used.
    #[error("caCertificates of ServerPolicy {policy}: {cause}")]
    BadCa {
        /// Its name.
        policy: String,
        /// What is wrong.
        cause: String,
    },
    /// These credentials must not go to this certificate.
    #[error(
        "the certificate of {authority} is not trusted, so the credentials were not sent; check it, then set the annotation corten.dev/tls-pin to {}, or give its CA (key ca.crt of the Secret, caCertificates of a ServerPolicy), or set trustOnFirstUse in a ServerPolicy",
        presented.map_or_else(|| "its fingerprint".to_owned(), |pin| pin.to_string())
    )]
    Untrusted {
        /// Host and port.
        authority: Arc<str>,
        /// The certificate that was shown.
        presented: Option<Fingerprint>,
    },
    /// The BMC said no, or nothing.
    #[error("{}", .0.chain())]
    Gateway(GatewayError),
}

/// Makes ways to BMCs. Clones share everything.
#[derive(Clone, Debug)]
pub struct Connector {
    /// The gateway of the process.
    pub gateway: Gateway,
    /// The login budget.
    pub ledger: Ledger,
    /// Credentials.
    pub secrets: Secrets,
    /// MAC prefixes and factory credentials.
    pub macs: Arc<MacDatabase>,
    /// Policies on trust.
    pub policies: Policies,
    /// Where plain HTTP is meant when no scheme is given.
    pub assume_http: Arc<[Cidr]>,
}

// === impl Connector ===

impl Connector {
    /// A connector with policies from `store`.
    pub fn new(
        gateway: Gateway,
        ledger: Ledger,
        secrets: Secrets,
        macs: Arc<MacDatabase>,
        policies: Store<corten_api::corten::ServerPolicy>,
        assume_http: Vec<Cidr>,
    ) -> Self {
        Self {
            gateway,
            ledger,
            secrets,
            macs,
            policies: Policies::new(policies),
            assume_http: assume_http.into(),
        }
    }

    /// Reads the credentials and decides on the way.
    ///
    /// # Errors
    /// [`ConnectError`], with object, cause and remedy.
    pub async fn connect(&self, wanted: &Wanted) -> Result<Way, ConnectError> {
        let loaded = self.secrets.load(&wanted.secret).await?;
        self.connect_with(wanted, loaded).await
    }

    /// As [`Connector::connect`], with credentials that were read already.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn connect_with(&self, wanted: &Wanted, loaded: Loaded) -> Result<Way, ConnectError> {
        address::check_protocol(wanted.protocol.name.as_str())?;
        let stated = wanted.protocol.scheme.as_ref().map(ProtocolScheme::as_str);
        let scheme = address::scheme(stated, &wanted.host, &self.assume_http)?;
        let url = address::url(scheme, &wanted.host, wanted.protocol.port.into())?;
        let Judged {
            decision,
            factory,
            ca,
        } = self.judge(
            &wanted.labels,
            wanted.mac,
            &loaded,
            trust::Observed {
                insecure: wanted.protocol.insecure_skip_tls_verify,
                pin: wanted.pin.as_deref(),
                ..unvouched(scheme)
            },
        )?;
        let trust = self.trust(decision, wanted, ca)?;
        self.ledger.uses(&wanted.target, &loaded.version);
        let first_use = trust == Trust::FirstUse;
        let bmc = self.gateway.bmc(Target {
            name: wanted.target.clone(),
            url: url.clone(),
            credentials: loaded.credentials,
            trust,
        });
        if decision == trust::Decision::Refuse {
            // Looked at without credentials, so that the message can name the certificate.
            bmc.service_root().await.map_err(ConnectError::Gateway)?;
            let authority = authority(&url);
            return Err(ConnectError::Untrusted {
                authority,
                presented: bmc.observed_pin(),
            });
        }
        if first_use {
            return Ok(Way::PinFirst(bmc));
        }
        Ok(Way::Open(Connected {
            bmc,
            url,
            secret_version: loaded.version,
            factory,
        }))
    }

    /// Whether a certificate that was just seen, of a device that nobody has vouched for, may be pinned as the one that these credentials go to.
    /// A site's own password, or a site that has given an authority, does not take the first certificate that comes.
    pub(crate) fn may_pin_first(
        &self,
        labels: &BTreeMap<String, String>,
        mac: MacAddress,
        loaded: &Loaded,
    ) -> bool {
        let judged = self.judge(labels, Some(mac), loaded, unvouched(Scheme::Https));
        judged.is_ok_and(|judged| judged.decision == trust::Decision::PinFirst)
    }

    /// What may be done about a certificate, from `observed` and what credentials and policies say.
    fn judge(
        &self,
        labels: &BTreeMap<String, String>,
        mac: Option<MacAddress>,
        loaded: &Loaded,
        observed: trust::Observed<'_>,
    ) -> Result<Judged, ConnectError> {
        let given = &loaded.credentials;
        let factory = mac.and_then(|mac| {
            self.macs
                .factory_credential(mac, &given.username, &given.password)
        });
        let policy = self.policies.trust(labels)?;
        let ca = loaded.ca.clone().or(policy.ca);
        let decision = trust::decide(&trust::Observed {
            has_ca: ca.is_some(),
            trust_on_first_use: policy.trust_on_first_use,
            origin: if factory.is_some() {
                Origin::Factory
            } else {
                Origin::Site
            },
            ..observed
        });
        Ok(Judged {
            decision,
            factory,
            ca,
        })
    }

    fn trust(
        &self,
        decision: trust::Decision,
        wanted: &Wanted,
        ca: Option<CaBundle>,
    ) -> Result<Trust, ConnectError> {
        let pin = match wanted.pin.as_deref() {
            None => None,
            Some(text) => Some(
                text.parse::<Fingerprint>()
                    .map_err(|_| ConnectError::BadPin(text.to_owned()))?,
            ),
        };
        Ok(match (decision, pin, ca) {
            (trust::Decision::Plain, _, _) => Trust::Plain,
            (trust::Decision::Insecure, _, _) => Trust::Insecure,
            (trust::Decision::Ca, Some(pin), Some(ca)) => Trust::PinnedOrCa(pin, ca),
            (trust::Decision::Ca, None, Some(ca)) => Trust::Ca(ca),
            (trust::Decision::Pinned, Some(pin), _) => Trust::Pinned(pin),
            _ => Trust::FirstUse,
        })
    }
}

/// A certificate that nobody has vouched for yet.
fn unvouched(scheme: Scheme) -> trust::Observed<'static> {
    trust::Observed {
        scheme,
        insecure: false,
        has_ca: false,
        pin: None,
        trust_on_first_use: false,
        origin: Origin::Site,
    }
}

/// Whether a host is one that plain HTTP is assumed for, and the like: the scheme that holds for an Endpoint's device.
///
/// # Errors
/// A wrong scheme.
pub fn scheme_for(
    stated: Option<&str>,
    ip: IpAddr,
    assume_http: &[Cidr],
) -> Result<Scheme, BadAddress> {
    address::scheme(stated, &ip.to_string(), assume_http)
}

fn authority(url: &Url) -> Arc<str> {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}").into(),
        None => host.into(),
    }
}

// === impl ConnectError ===

impl ConnectError {
    /// The word for a condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::EndpointMissing(_) => "EndpointMissing",
            Self::NoAddress | Self::Address(_) => "AddressInvalid",
            Self::NoSecret | Self::Secret(SecretError::Missing { .. }) => "SecretMissing",
            Self::Secret(SecretError::Invalid { .. }) => "SecretInvalid",
            Self::Secret(SecretError::Unread { .. }) => "SecretUnread",
            Self::BadPin(_) | Self::BadCa { .. } | Self::Untrusted { .. } => "TLSFailed",
            Self::Gateway(error) => error.reason(),
        }
    }

    /// Whether the BMC kept silent, as opposed to being forbidden or refusing.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Gateway(error) if error.is_silence())
    }
}

impl From<GatewayError> for ConnectError {
    fn from(error: GatewayError) -> Self {
        Self::Gateway(error)
    }
}
