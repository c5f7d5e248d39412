//! HTTP as registries and file servers need it: bounded, with redirects followed by ourselves, so that no login goes to another host.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http::header::{ACCEPT, AUTHORIZATION, LOCATION};
use reqwest::{Response, StatusCode};
use url::{Host, Url};

use super::ImageError;
use super::networks::{Networks, NotAllowed};

/// Most redirects that are followed.
const REDIRECTS: usize = 5;

/// An HTTP client that asks nobody who is not allowed.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    networks: Networks,
}

// === impl Client ===

impl Client {
    pub(super) fn new(
        tls: rustls::ClientConfig,
        idle: Duration,
        networks: Networks,
    ) -> Result<Self, ImageError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(networks.clone()))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(idle)
            .user_agent(concat!("corten/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ImageError::Client)?;
        Ok(Self { http, networks })
    }

    /// An address in a URL is resolved by nobody.
    fn allows(&self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Ipv4(address)) => self.networks.allow(address.into()),
            Some(Host::Ipv6(address)) => self.networks.allow(address.into()),
            _ => true,
        }
    }
}

/// The host, for messages: a URL may carry a login or a signed query.
pub(super) fn place(url: &Url) -> String {
    url.host_str().unwrap_or("it").to_owned()
}

fn away(url: &Url, error: reqwest::Error) -> ImageError {
    let error = error.without_url();
    let mut why = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        if error.is::<NotAllowed>() {
            return ImageError::NotAllowed(place(url));
        }
        why.push_str(&format!(": {error}"));
        source = error.source();
    }
    ImageError::Away {
        place: place(url),
        why,
    }
}

/// A GET whose answer is 200 or 401; other answers are errors.
pub(super) async fn get(
    client: &Client,
    url: &Url,
    accept: &str,
    authorization: Option<&str>,
) -> Result<Response, ImageError> {
    let mut at = url.clone();
    for _ in 0..=REDIRECTS {
        if !client.allows(&at) {
            return Err(ImageError::NotAllowed(place(&at)));
        }
        let mut request = client.http.get(at.clone()).header(ACCEPT, accept);
        if let Some(authorization) = authorization
            && at.origin() == url.origin()
        {
            let mut value = http::HeaderValue::from_str(authorization)
                .map_err(|_| ImageError::Login(place(url)))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let answer = request.send().await.map_err(|error| away(&at, error))?;
        let status = answer.status();
        if status.is_redirection() {
            let next = answer
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| at.join(value).ok());
            let next = next.filter(|next| {
                next.scheme() == "https" || (next.scheme() == "http" && at.scheme() == "http")
            });
            at = next.ok_or_else(|| {
                ImageError::Malformed(format!(
                    "{} redirects to nowhere that may be followed",
                    place(&at)
                ))
            })?;
            continue;
        }
        return match status {
            StatusCode::OK | StatusCode::UNAUTHORIZED => Ok(answer),
            StatusCode::FORBIDDEN => Err(ImageError::Login(place(&at))),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Err(ImageError::Missing(format!("{}{}", place(&at), at.path())))
            }
            other if other.is_server_error() || other == StatusCode::TOO_MANY_REQUESTS => {
                Err(ImageError::Away {
                    place: place(&at),
                    why: other.to_string(),
                })
            }
            other => Err(ImageError::Malformed(format!(
                "{} answered {other}",
                place(&at)
            ))),
        };
    }
    Err(ImageError::Malformed(format!(
        "{} redirects too often",
        place(url)
    )))
}

/// The body as the cache takes it.
pub(super) fn stream(
    answer: Response,
) -> impl Stream<Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Unpin {
    answer
        .bytes_stream()
        .map_err(|error| error.without_url().into())
        .boxed()
}

/// A small body.
pub(super) async fn small(answer: Response, limit: usize) -> Result<Bytes, ImageError> {
    let url = answer.url().clone();
    let mut body = answer.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| away(&url, error))?);
        if bytes.len() > limit {
            return Err(ImageError::Malformed(format!(
                "a document of {} has more than {limit} bytes",
                place(&url)
            )));
        }
    }
    Ok(bytes.into())
}
