//! Why a call to a BMC failed, with the cause and the remedy in the message.
//!
//! [`GatewayError::reason`] is the CamelCase word for a condition, [`GatewayError::is_transient`] says whether trying
//! again can help, [`GatewayError::outcome_unknown`] whether a change may have reached the machine.

use crate::tls::{Fingerprint, TlsFailure};
use jiff::Timestamp;
use std::{error::Error, fmt, sync::Arc, time::Duration};

/// A shared, cloneable cause.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// What a call to a BMC can fail with. Cloneable, because all who wait for one login share its failure.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// No connection came about. Retry helps once the network or the BMC is back.
    #[error(
        "cannot connect to {authority}: {obstacle}; check address, port and that the BMC's network is up"
    )]
    Unreachable {
        /// Host and port.
        authority: Arc<str>,
        /// What stood in the way.
        obstacle: Obstacle,
        /// The operating system's or resolver's error.
        #[source]
        source: Option<Cause>,
    },
    /// The connection was made and cut before the answer was whole. Retry helps; a change may have been made.
    #[error("{authority} cut the connection in the middle of an answer; the BMC may be restarting")]
    Interrupted {
        /// Host and port.
        authority: Arc<str>,
        /// What the HTTP layer saw.
        #[source]
        source: Option<Cause>,
    },
    /// A deadline passed. Retry may help; a change may have been made if `phase` says that it was sent.
    #[error("{authority} did not answer in {} while {phase}; the BMC is overloaded, hung or behind a firewall that drops packets", Seconds(*.after))]
    Timeout {
        /// Host and port.
        authority: Arc<str>,
        /// What was being waited for.
        phase: Phase,
        /// How long.
        after: Duration,
    },
    /// The BMC refused the credentials. Retry does not help before the Secret has changed.
    #[error(
        "the BMC refused user {username:?} with status {status}; correct the user name or password in the Secret"
    )]
    AuthFailed {
        /// The user name that was refused.
        username: Arc<str>,
        /// 401 or 403 (or what the vendor sends in place of them).
        status: u16,
    },
    /// A login failed less than ten minutes ago, so none is tried: BMCs lock accounts that fail often.
    #[error(
        "no login before {until}: {why}; correct the Secret, a changed Secret is tried at once"
    )]
    LoginHeld {
        /// When the next attempt may be made.
        until: Timestamp,
        /// What the ledger knows about the last one.
        why: Arc<str>,
    },
    /// The ledger could not be asked, so no login was risked.
    #[error("no login: the login budget could not be recorded")]
    LedgerFailed {
        /// The store's error.
        #[source]
        source: Cause,
    },
    /// The connection is not one that credentials may be sent over.
    #[error("TLS with {authority} failed: {failure}")]
    TlsFailed {
        /// Host and port.
        authority: Arc<str>,
        /// Which check failed.
        failure: TlsFailure,
    },
    /// Something answers, but it does not speak Redfish.
    #[error(
        "{authority} does not speak Redfish: {what}; check the port and that Redfish is enabled on the BMC"
    )]
    NotRedfish {
        /// Host and port.
        authority: Arc<str>,
        /// What it answered instead.
        what: Arc<str>,
    },
    /// The BMC answered with an error of its own.
    #[error("{method} {path} was answered with {code}: {message}")]
    Status {
        /// HTTP status.
        code: u16,
        /// HTTP method.
        method: &'static str,
        /// The path asked for.
        path: Arc<str>,
        /// From `@Message.ExtendedInfo`, else the status' name.
        message: Arc<str>,
        /// The registry's message id, such as `Base.1.12.PropertyNotWritable`.
        message_id: Option<Arc<str>>,
        /// `Retry-After`, where the BMC sent one.
        retry_after: Option<Duration>,
    },
    /// The BMC failed often enough that it is left alone for a while; it was not asked.
    #[error(
        "the BMC is left alone until {until} after {failures} failures in a row, the last: {last}"
    )]
    BreakerOpen {
        /// When the next probe goes out.
        until: Timestamp,
        /// Failures since the last answer.
        failures: u32,
        /// The last failure.
        last: Arc<str>,
    },
    /// A link or redirect leads to another host. Never followed: it would take the credentials there.
    #[error("the link {link:?} leads away from {authority}; refused")]
    ForeignLink {
        /// The link as the BMC sent it.
        link: Arc<str>,
        /// The BMC's own host and port.
        authority: Arc<str>,
    },
    /// The answer is not JSON where JSON is due. Retry helps if the BMC was starting.
    #[error("the answer to {path} cannot be read: {what}")]
    Malformed {
        /// The path asked for.
        path: Arc<str>,
        /// What is wrong with it.
        what: Arc<str>,
    },
    /// The answer is larger than the limit.
    #[error("the answer to {path} is larger than {limit} bytes")]
    TooLarge {
        /// The path asked for.
        path: Arc<str>,
        /// The limit in bytes.
        limit: usize,
    },
    /// The target contradicts itself, such as an `http://` address without plain HTTP being allowed.
    #[error("the address {url} cannot be used: {what}")]
    InvalidTarget {
        /// The address.
        url: Arc<str>,
        /// What is wrong and what to do.
        what: &'static str,
    },
    /// The gateway is shutting down or the BMC was forgotten.
    #[error("the gateway to this BMC is closed")]
    Closed,
}

/// What stood in the way of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// Nothing listens on the port.
    Refused,
    /// The network or host cannot be routed to.
    NoRoute,
    /// The name does not resolve.
    Dns,
    /// The peer reset the connection while it was being made.
    Reset,
    /// Anything else.
    Other,
}

/// What a deadline passed during.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for one of the BMC's two places; nothing was sent.
    Queued,
    /// Waiting for somebody's login; nothing was sent.
    LoggingIn,
    /// TCP or TLS; nothing was sent.
    Connecting,
    /// The request was sent, no headers came.
    Headers,
    /// Headers came, the body did not end.
    Body,
}

struct Seconds(Duration);

// === impl GatewayError ===

impl GatewayError {
    /// The word for a condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } => "Unreachable",
            Self::Timeout { .. } => "Timeout",
            Self::AuthFailed { .. } => "AuthFailed",
            Self::LoginHeld { .. } => "LoginHeld",
            Self::LedgerFailed { .. } => "LoginLedgerFailed",
            Self::TlsFailed { .. } => "TLSFailed",
            Self::NotRedfish { .. } => "NotRedfish",
            Self::Status { .. } => "RedfishError",
            Self::BreakerOpen { .. } => "BreakerOpen",
            Self::ForeignLink { .. } => "ForeignLink",
            Self::Malformed { .. } | Self::TooLarge { .. } => "MalformedAnswer",
            Self::InvalidTarget { .. } => "InvalidAddress",
            Self::Closed => "Closed",
        }
    }

    /// Whether the same call can succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Interrupted { .. }
            | Self::Timeout { .. }
            | Self::BreakerOpen { .. }
            | Self::LedgerFailed { .. }
            | Self::Malformed { .. }
            | Self::Closed => true,
            Self::Status { code, .. } => {
                matches!(code, 408 | 409 | 423 | 425 | 429 | 500 | 502 | 503 | 504)
            }
            Self::AuthFailed { .. }
            | Self::LoginHeld { .. }
            | Self::TlsFailed { .. }
            | Self::NotRedfish { .. }
            | Self::ForeignLink { .. }
            | Self::TooLarge { .. }
            | Self::InvalidTarget { .. } => false,
        }
    }

    /// Whether the BMC may have executed the request although no answer says so. Then only evidence tells.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Timeout { phase, .. } => matches!(phase, Phase::Headers | Phase::Body),
            // What is not HTTP is an answer all the same: the request was sent.
            Self::Interrupted { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::NotRedfish { .. } => true,
            Self::Status { code, .. } => matches!(code, 500 | 502 | 504),
            _ => false,
        }
    }

    /// Whether the BMC itself did not answer, as opposed to answering with something unwelcome.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Timeout { phase, .. } => !matches!(phase, Phase::Queued | Phase::LoggingIn),
            Self::Unreachable { .. } | Self::Interrupted { .. } | Self::BreakerOpen { .. } => true,
            _ => false,
        }
    }

    /// The HTTP status, where the BMC answered with an error.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::AuthFailed { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// When it makes sense to try again, where that is known.
    #[must_use]
    pub fn retry_at(&self) -> Option<Timestamp> {
        match self {
            Self::LoginHeld { until, .. } | Self::BreakerOpen { until, .. } => Some(*until),
            Self::Status {
                retry_after: Some(after),
                ..
            } => Timestamp::now().checked_add(*after).ok(),
            _ => None,
        }
    }

    /// The fingerprint of a certificate that was shown but is not trusted.
    #[must_use]
    pub fn presented_pin(&self) -> Option<Fingerprint> {
        match self {
            Self::TlsFailed { failure, .. } => failure.presented(),
            _ => None,
        }
    }

    /// The message and those of its sources, for a log or a condition.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(source) = next {
            let part = source.to_string();
            // HTTP libraries repeat the inner message in the outer one.
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            next = source.source();
        }
        text
    }
}

// === impl Obstacle, Phase, Seconds ===

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::NoRoute => "no route to host",
            Self::Dns => "the name does not resolve",
            Self::Reset => "connection reset",
            Self::Other => "the connection failed",
        })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "earlier requests to it were waited for",
            Self::LoggingIn => "logging in",
            Self::Connecting => "connecting",
            Self::Headers => "it had the request",
            Self::Body => "it was sending the answer",
        })
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{} s", self.0.as_secs())
        }
    }
}
