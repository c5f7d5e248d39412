//! The registry's client: JSON over HTTP/1.1 with the boot token, TLS by the certificate's pin.

mod pinned;

use crate::config::Config;
use crate::stop::Stop;
use corten_wire::path;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::time::Duration;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};

/// An answer may be so long.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The registry said no. Another try helps only where [`CallError::may_pass`] says so.
    #[error("the registry answered {status} to {path}{}", if said.is_empty() { String::new() } else { format!(": {said}") })]
    Refused {
        /// What was asked for.
        path: String,
        /// HTTP status.
        status: u16,
        /// The beginning of its answer.
        said: String,
    },
    /// It did not answer, or not to the end. Another try may help.
    #[error("no answer from the registry to {path}")]
    Unreachable {
        /// What was asked for.
        path: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The answer is none that we know. Another try does not help.
    #[error("the registry's answer to {path} makes no sense")]
    Unreadable {
        /// What was asked for.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl CallError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Unreachable { .. } => true,
            Self::Unreadable { .. } => false,
        }
    }
}

/// The registry.
#[derive(Clone, Debug)]
pub struct Registry {
    agent: ureq::Agent,
    transfers: ureq::Agent,
    config: Config,
}

impl Registry {
    /// A client for the registry that `config` names. Nothing is called yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let settings = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("corten-probe/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(10)));
        let connector = |config: &Config| {
            ().chain(TcpConnector::default())
                .chain(pinned::PinnedConnector::new(config.pin))
        };
        let agent = ureq::Agent::with_parts(
            settings
                .timeout_global(Some(Duration::from_secs(30)))
                .build(),
            connector(&config),
            DefaultResolver::default(),
        );
        let settings = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("corten-probe/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            // A transfer that hangs is taken up again from where it was; so is one that is only long.
            .timeout_recv_body(Some(Duration::from_secs(120)));
        let transfers = ureq::Agent::with_parts(
            settings.build(),
            connector(&config),
            DefaultResolver::default(),
        );
        Self {
            agent,
            transfers,
            config,
        }
    }

    /// Posts `body` once and reads the answer.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, CallError> {
        let bytes = self.exchange(path, body)?;
        serde_json::from_slice(&bytes).map_err(|source| CallError::Unreadable {
            path: path.to_owned(),
            source,
        })
    }

    /// Posts `body` once; what is answered besides the status does not matter.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn tell(&self, path: &str, body: &impl Serialize) -> Result<(), CallError> {
        self.exchange(path, body).map(|_| ())
    }

    /// Posts `body` until it is taken, or refused for good, or work is to end; with growing pauses, at most 15 s.
    ///
    /// # Errors
    /// The last one.
    pub fn tell_until_taken(
        &self,
        path: &str,
        body: &impl Serialize,
        attempts: u32,
        stop: &Stop,
    ) -> Result<(), CallError> {
        let mut pause = Duration::from_millis(250);
        for attempt in 1_u32.. {
            match self.tell(path, body) {
                Err(error) if error.may_pass() && attempt < attempts => {
                    crate::say!("{}; again in {pause:?}", chain(&error));
                    if stop.wait(pause) {
                        return Err(error);
                    }
                    pause = (pause * 2).min(Duration::from_secs(15));
                }
                other => return other,
            }
        }
        Ok(())
    }

    fn exchange(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, CallError> {
        let unreachable = |source| CallError::Unreachable {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let body = serde_json::to_vec(body).map_err(|source| CallError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let mut request = self
            .agent
            .post(format!("{}{path}", self.config.url))
            .header("Content-Type", "application/json");
        if let Some(authorization) = self.authorization() {
            request = request.header("Authorization", authorization);
        }
        let mut answer = request.send(&body[..]).map_err(unreachable)?;
        let status = answer.status();
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_LIMIT)
            .read_to_vec()
            .map_err(unreachable)?;
        if !status.is_success() {
            return Err(CallError::Refused {
                path: path.to_owned(),
                status: status.as_u16(),
                said: String::from_utf8_lossy(&bytes).chars().take(200).collect(),
            });
        }
        Ok(bytes)
    }

    /// Asks for the bytes of `url` from `offset` on, with the boot token.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn open(&self, url: &str, offset: u64) -> Result<Transfer, CallError> {
        let url = if url.starts_with('/') {
            format!("{}{url}", self.config.url)
        } else {
            url.to_owned()
        };
        let path = shown(&url);
        let mut request = self
            .transfers
            .get(&url)
            .header("Accept-Encoding", "identity");
        // The token is for the boot server alone: an image elsewhere must not get to see it.
        if origin(&url) == origin(&self.config.url)
            && let Some(authorization) = self.authorization()
        {
            request = request.header("Authorization", authorization);
        }
        if offset > 0 {
            request = request.header("Range", format!("bytes={offset}-"));
        }
        let answer = request.call().map_err(|source| CallError::Unreachable {
            path: path.clone(),
            source: Box::new(source),
        })?;
        let status = answer.status().as_u16();
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let begins = match (status, header("content-range")) {
            (200, _) => 0,
            (206, Some(range)) => first_byte(&range).ok_or_else(|| CallError::Refused {
                path: path.clone(),
                status,
                said: "a Content-Range that makes no sense".into(),
            })?,
            _ => {
                return Err(CallError::Refused {
                    path,
                    status,
                    said: String::new(),
                });
            }
        };
        let length = header("content-length").and_then(|text| text.parse::<u64>().ok());
        let etag = header("etag");
        Ok(Transfer {
            begins,
            total: length.map(|length| begins.saturating_add(length)),
            etag,
            reader: Box::new(answer.into_body().into_reader()),
        })
    }

    fn authorization(&self) -> Option<String> {
        let token = self.config.token.as_ref()?;
        Some(format!("Bearer {}", token.reveal()))
    }
}

/// Bytes that come.
pub struct Transfer {
    /// Where the first byte stands in the whole.
    pub begins: u64,
    /// Length of the whole, where it was said.
    pub total: Option<u64>,
    /// Which version it is, where it was said.
    pub etag: Option<String>,
    /// The bytes.
    pub reader: Box<dyn Read + Send>,
}

/// The posts' paths are in [`path`]; this one is asked first.
pub const FIRST: &str = path::HELLO;

/// First byte's position of a `Content-Range: bytes 5-9/10`.
fn first_byte(range: &str) -> Option<u64> {
    range
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .trim()
        .parse()
        .ok()
}

/// Scheme, host and port.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url
        .get(start..)
        .and_then(|rest| rest.find(['/', '?', '#']))
        .map_or(url.len(), |at| start + at);
    url.get(..end).unwrap_or(url)
}

/// A URL without its query, which may carry a secret.
fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// An error with all that caused it, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_only_to_the_boot_server_itself() {
        assert_eq!(origin("http://10.0.0.1:80/x?y"), "http://10.0.0.1:80");
        assert_ne!(
            origin("http://10.0.0.1@evil/x"),
            origin("http://10.0.0.1/x")
        );
        assert_ne!(origin("http://10.0.0.1.evil/"), origin("http://10.0.0.1/"));
        assert_eq!(shown("http://a/b?token=t"), "http://a/b");
    }

    #[test]
    fn a_content_range_says_where_it_begins() {
        assert_eq!(first_byte("bytes 5-9/10"), Some(5));
        assert_eq!(first_byte("bytes */10"), None);
    }
}
