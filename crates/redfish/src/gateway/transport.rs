//! One HTTP exchange with one BMC: deadlines on every phase, a bounded body, errors told apart.

use super::{
    GatewayConfig,
    health::Health,
    request::{Method, Reply},
};
use crate::{
    error::{Cause, GatewayError, Obstacle, Phase},
    target::{Target, Trust},
    tls::{self, Observed, TlsFailure, Verifier},
};
use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::{
    error::Error,
    hash::{DefaultHasher, Hasher},
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};
use url::Url;

static TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// The connections to one target.
#[derive(Debug)]
pub(crate) struct Transport {
    client: Result<reqwest::Client, GatewayError>,
    pub(crate) authority: Arc<str>,
    pub(crate) base: Url,
    observed: Arc<Observed>,
    config: Arc<GatewayConfig>,
    health: Arc<Health>,
}

/// What goes over the wire. Not `Debug`: a login's body holds the password.
pub(crate) struct Wire<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) body: Option<&'a Value>,
    pub(crate) auth: Auth<'a>,
    pub(crate) if_match: Option<&'a str>,
    pub(crate) if_none_match: Option<&'a str>,
    /// For a stream of server-sent events: after which one.
    pub(crate) stream: Option<Option<&'a str>>,
    /// The caller's own deadline, if it has one.
    pub(crate) deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Auth<'a> {
    Nobody,
    Token(&'a SecretString),
    Basic(&'a str, &'a SecretString),
}

/// An answer of any status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) url: Url,
}

// === impl Wire ===

impl<'a> Wire<'a> {
    pub(crate) fn new(method: Method, url: Url, auth: Auth<'a>) -> Self {
        Self {
            method,
            url,
            body: None,
            auth,
            if_match: None,
            if_none_match: None,
            stream: None,
            deadline: None,
        }
    }
}

// === impl Transport ===

impl Transport {
    pub(crate) fn new(target: &Target, config: Arc<GatewayConfig>, health: Arc<Health>) -> Self {
        let observed = Arc::new(Observed::default());
        let mut base = target.url.clone();
        base.set_path("/");
        base.set_query(None);
        base.set_fragment(None);
        let client = target
            .check()
            .and_then(|()| client(target, &config, &observed, &health));
        Self {
            client,
            authority: target.authority(),
            base,
            observed,
            config,
            health,
        }
    }

    pub(crate) fn observed(&self) -> Option<tls::Fingerprint> {
        self.observed.get()
    }

    /// The same connections under a pin, if they were opened on first use and this certificate is all that was ever shown: looking and then speaking
    /// costs a BMC one handshake.
    pub(crate) fn pinned(&self, pin: tls::Fingerprint) -> Option<Self> {
        self.observed.adopt(pin).then(|| Self {
            client: self.client.clone(),
            authority: self.authority.clone(),
            base: self.base.clone(),
            observed: self.observed.clone(),
            config: self.config.clone(),
            health: self.health.clone(),
        })
    }

    /// Sends `wire` and reads the whole answer. Tells the BMC's health what came of it.
    pub(crate) async fn exchange(&self, wire: Wire<'_>) -> Result<Answer, GatewayError> {
        let started = Instant::now();
        let (method, path) = (wire.method.as_str(), wire.url.path().to_owned());
        let patience = wire
            .deadline
            .map(|deadline| deadline.saturating_duration_since(started));
        self.health.sent();
        let outcome = self.try_exchange(wire, started).await;
        let latency = started.elapsed();
        match &outcome {
            Ok(answer) => {
                self.health.answered(latency, answer.status);
                tracing::debug!(
                    bmc = %self.authority, method, path, status = answer.status,
                    bytes = answer.body.len(), ms = latency.as_millis(), "redfish exchange"
                );
            }
            Err(error) => {
                // A caller in a hurry is no proof that the BMC hangs.
                let hasty =
                    patience.is_some_and(|patience| patience < self.config.deadlines.connect);
                let hasty = hasty && matches!(error, GatewayError::Timeout { .. });
                if error.is_silence() && !hasty {
                    self.health.silent(error);
                }
                tracing::debug!(bmc = %self.authority, method, path, error = %error.chain(), "redfish exchange failed");
            }
        }
        outcome
    }

    /// Sends `wire` and returns when the headers are there.
    pub(crate) async fn open(
        &self,
        wire: Wire<'_>,
        started: Instant,
    ) -> Result<reqwest::Response, GatewayError> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let deadlines = &self.config.deadlines;
        let wait = if wire.method == Method::Get {
            deadlines.headers
        } else {
            deadlines.change
        };
        // Connecting has its own, shorter deadline inside the client, so what is left belongs to the headers.
        let until = earliest(started + deadlines.connect + wait, wire.deadline);
        let mut request = client
            .request(wire.method.http(), wire.url.clone())
            .headers(headers(&wire)?);
        if let Some(body) = wire.body {
            request = request.body(serde_json::to_vec(body).unwrap_or_default());
        }
        match timeout_at(until, request.send()).await {
            Ok(sent) => sent.map_err(|error| self.judge(error, Phase::Headers, started)),
            Err(_) => Err(self.timeout(Phase::Headers, started)),
        }
    }

    /// Sends `wire` and hands over the answer as it comes. Tells the BMC's health whether there was one.
    pub(crate) async fn stream(&self, wire: Wire<'_>) -> Result<reqwest::Response, GatewayError> {
        let started = Instant::now();
        self.health.sent();
        let opened = self.open(wire, started).await;
        match &opened {
            Ok(response) => self
                .health
                .answered(started.elapsed(), response.status().as_u16()),
            Err(error) if error.is_silence() => self.health.silent(error),
            Err(_) => {}
        }
        opened
    }

    /// Reads the rest of an answer.
    pub(crate) async fn finish(
        &self,
        response: reqwest::Response,
        url: Url,
        started: Instant,
        until: Instant,
    ) -> Result<Answer, GatewayError> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = match timeout_at(until, self.read(response, &url, started)).await {
            Ok(body) => body?,
            Err(_) => return Err(self.timeout(Phase::Body, started)),
        };
        Ok(Answer {
            status,
            headers,
            body,
            url,
        })
    }

    async fn try_exchange(&self, wire: Wire<'_>, started: Instant) -> Result<Answer, GatewayError> {
        let (url, deadline) = (wire.url.clone(), wire.deadline);
        let response = self.open(wire, started).await?;
        let until = earliest(started + self.config.deadlines.exchange, deadline);
        self.finish(response, url, started, until).await
    }

    async fn read(
        &self,
        mut response: reqwest::Response,
        url: &Url,
        started: Instant,
    ) -> Result<Bytes, GatewayError> {
        let limit = self.config.body_limit;
        let too_large = || GatewayError::TooLarge {
            path: Arc::from(url.path()),
            limit,
        };
        let announced = response.content_length().unwrap_or(0);
        if usize::try_from(announced).map_or(true, |announced| announced > limit) {
            return Err(too_large());
        }
        let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(64 << 10));
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.judge(error, Phase::Body, started))?
        {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }

    fn timeout(&self, phase: Phase, started: Instant) -> GatewayError {
        GatewayError::Timeout {
            authority: self.authority.clone(),
            phase,
            after: started.elapsed(),
        }
    }

    /// What a failure of the HTTP library means.
    fn judge(&self, error: reqwest::Error, phase: Phase, started: Instant) -> GatewayError {
        let authority = self.authority.clone();
        if let Some(failure) = tls_failure(&error) {
            return GatewayError::TlsFailed { authority, failure };
        }
        if error.is_timeout() {
            let phase = if error.is_connect() {
                Phase::Connecting
            } else {
                phase
            };
            return self.timeout(phase, started);
        }
        if error.is_connect() {
            let kind = io_kind(&error);
            if self.base.scheme() == "https" && matches!(kind, Some(io::ErrorKind::UnexpectedEof)) {
                let what = "the connection was closed during the handshake".to_owned();
                return GatewayError::TlsFailed {
                    authority,
                    failure: TlsFailure::Handshake { what },
                };
            }
            return GatewayError::Unreachable {
                authority,
                obstacle: obstacle(&error, kind),
                source: Some(cause(error)),
            };
        }
        if let Some(what) = not_http(&error) {
            return GatewayError::NotRedfish {
                authority,
                what: Arc::from(what),
            };
        }
        GatewayError::Interrupted {
            authority,
            source: Some(cause(error)),
        }
    }
}

fn client(
    target: &Target,
    config: &GatewayConfig,
    observed: &Arc<Observed>,
    health: &Arc<Health>,
) -> Result<reqwest::Client, GatewayError> {
    let unusable = |what| GatewayError::InvalidTarget {
        url: target.authority(),
        what,
    };
    let provider = tls::provider();
    let verifier = Arc::new(Verifier::new(
        target.trust.clone(),
        provider.clone(),
        observed.clone(),
    ));
    let tls = tls::client_config(verifier, provider).ok_or(unusable("TLS cannot be set up"))?;
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .http1_only()
        // Followed by hand, and only on the BMC's own authority.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(config.deadlines.connect)
        .pool_idle_timeout(config.idle)
        .pool_max_idle_per_host(config.in_flight)
        .user_agent(config.user_agent.as_ref())
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .connector_layer(CountConnections(health.clone()));
    if target.trust == Trust::Plain {
        builder = builder.https_only(false);
    } else {
        builder = builder.https_only(true);
    }
    builder
        .build()
        .map_err(|_| unusable("no HTTP client can be made for it"))
}

fn headers(wire: &Wire<'_>) -> Result<HeaderMap, GatewayError> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert("odata-version", HeaderValue::from_static("4.0"));
    if wire.body.is_some() {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
    }
    let unsendable = |_| GatewayError::InvalidTarget {
        url: Arc::from(wire.url.authority()),
        what: "the credentials or the ETag hold characters that HTTP cannot carry",
    };
    match wire.auth {
        Auth::Nobody => {}
        Auth::Token(token) => {
            let mut value = HeaderValue::from_str(token.expose_secret()).map_err(unsendable)?;
            value.set_sensitive(true);
            headers.insert(&TOKEN, value);
        }
        Auth::Basic(username, password) => {
            let pair = format!("{username}:{}", password.expose_secret());
            let pair = base64::engine::general_purpose::STANDARD.encode(pair);
            let mut value = HeaderValue::from_str(&format!("Basic {pair}")).map_err(unsendable)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
    }
    if let Some(last_event_id) = wire.stream {
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("text/event-stream"),
        );
        if let Some(id) = last_event_id {
            headers.insert(
                "last-event-id",
                HeaderValue::from_str(id).map_err(unsendable)?,
            );
        }
    }
    if let Some(etag) = wire.if_match {
        headers.insert(
            header::IF_MATCH,
            HeaderValue::from_str(etag).map_err(unsendable)?,
        );
    }
    if let Some(etag) = wire.if_none_match {
        headers.insert(
            header::IF_NONE_MATCH,
            HeaderValue::from_str(etag).map_err(unsendable)?,
        );
    }
    Ok(headers)
}

fn earliest(own: Instant, callers: Option<Instant>) -> Instant {
    callers.map_or(own, |callers| callers.min(own))
}

fn cause(error: reqwest::Error) -> Cause {
    // The URL is in the message already, and a query string is nobody's business.
    Arc::new(error.without_url())
}

fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        // `io::Error::source` skips the error that it wraps.
        match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn tls_failure(error: &reqwest::Error) -> Option<TlsFailure> {
    let error = sources(error).find_map(|error| error.downcast_ref::<rustls::Error>())?;
    if let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = error
        && let Some(failure) = other.0.downcast_ref::<TlsFailure>()
    {
        return Some(failure.clone());
    }
    Some(TlsFailure::Handshake {
        what: error.to_string(),
    })
}

fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    sources(error)
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind)
        .find(|kind| *kind != io::ErrorKind::Other)
}

fn obstacle(error: &reqwest::Error, kind: Option<io::ErrorKind>) -> Obstacle {
    if sources(error).any(|error| error.to_string().contains("dns error")) {
        return Obstacle::Dns;
    }
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => Obstacle::Refused,
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            Obstacle::NoRoute
        }
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => Obstacle::Reset,
        _ => Obstacle::Other,
    }
}

/// Something answers, but not in HTTP: hyper's parse errors have no public type.
fn not_http(error: &reqwest::Error) -> Option<&'static str> {
    sources(error)
        .any(|error| {
            error.to_string().contains("invalid HTTP") || error.to_string().contains("HTTP version")
        })
        .then_some("its answer is not HTTP")
}

// === impl Answer ===

impl Answer {
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers
            .get(name)?
            .to_str()
            .ok()
            .map(str::trim)
            .filter(|value| !value.is_empty())
    }

    /// `Retry-After` in seconds; its date form is not used by BMCs.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.header(header::RETRY_AFTER)?.parse().ok()?;
        Some(Duration::from_secs(seconds.min(3600)))
    }

    pub(crate) fn json(&self) -> Result<Value, String> {
        parse_json(&self.body)
    }

    pub(crate) fn into_reply(self, body: Option<Value>) -> Reply {
        Reply {
            status: self.status,
            location: self.header(header::LOCATION).map(str::to_owned),
            etag: self.header(header::ETAG).map(str::to_owned),
            retry_after: self.retry_after(),
            path: Arc::from(self.url.path()),
            token: self.header(&TOKEN).map(SecretString::from),
            digest: digest(&self.body),
            body,
        }
    }
}

/// Reads JSON as BMCs write it: with a byte order mark, or with bytes that are no UTF-8 inside a string.
pub(crate) fn parse_json(bytes: &[u8]) -> Result<Value, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        Err(_) if std::str::from_utf8(bytes).is_err() => {
            serde_json::from_str(&String::from_utf8_lossy(bytes)).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Counts the connections that come about.
#[derive(Clone)]
struct CountConnections(Arc<Health>);

#[derive(Clone)]
struct Counting<S> {
    inner: S,
    health: Arc<Health>,
}

impl<S> tower::Layer<S> for CountConnections {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting {
            inner,
            health: self.0.clone(),
        }
    }
}

impl<S, R> tower::Service<R> for Counting<S>
where
    S: tower::Service<R>,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::future::BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (connecting, health) = (self.inner.call(request), self.health.clone());
        Box::pin(async move {
            let connected = connecting.await;
            if connected.is_ok() {
                health.count(|tally| &tally.connections, 1);
            }
            connected
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_with_a_byte_order_mark_or_stray_bytes_is_read() {
        assert_eq!(parse_json(b"\xef\xbb\xbf{\"a\":1}").unwrap()["a"], 1);
        assert_eq!(parse_json(b"{\"a\":\"x\xff\"}").unwrap()["a"], "x\u{fffd}");
        assert!(parse_json(b"{\"a\":").is_err());
    }

    proptest! {
        #[test]
        fn no_body_and_no_header_can_do_harm(body in proptest::collection::vec(any::<u8>(), 0..200), value in "[ -~]{0,40}") {
            let mut headers = HeaderMap::new();
            for name in [header::RETRY_AFTER, header::LOCATION, header::ETAG, TOKEN.clone()] {
                headers.insert(name, HeaderValue::from_str(&value).unwrap());
            }
            let answer = Answer { status: 200, headers, body: body.into(), url: "http://h/".parse().unwrap() };
            let parsed = answer.json().ok();
            prop_assert!(answer.retry_after().is_none_or(|after| after <= Duration::from_secs(3600)));
            let reply = answer.into_reply(parsed);
            let shown = format!("{reply:?}");
            prop_assert!(value.trim().len() < 20 || reply.location.is_some());
            prop_assert!(shown.contains("REDACTED") == reply.token.is_some());
        }
    }
}
