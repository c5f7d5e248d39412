//! Answers, and the body that can break off.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, LINK, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde_json::Value;

use crate::message::Failure;

/// The connection is to be cut here.
#[derive(Debug, thiserror::Error)]
#[error("the connection was cut by a fault")]
pub(crate) struct Cut;

/// A body: whole, streamed, or one that ends too soon.
pub(crate) enum Body {
    Whole(Option<Bytes>),
    /// Announces more than it gives.
    Partial(Option<Bytes>, u64, Pin<Box<tokio::time::Sleep>>),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Partial(bytes, _, pause) => match bytes.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                // What was given must be on the wire before the connection breaks.
                None => pause.as_mut().poll(context).map(|()| Some(Err(Cut))),
            },
            Self::Stream(stream) => stream
                .as_mut()
                .poll_next(context)
                .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Partial(_, announced, _) => SizeHint::with_exact(*announced),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

pub(crate) type Reply = Response<Body>;

/// An answer under construction.
pub(crate) struct Answer {
    status: StatusCode,
    body: Option<Bytes>,
    content_type: &'static str,
    headers: Vec<(HeaderName, String)>,
}

impl Answer {
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            body: Some(body.into()),
            content_type: "application/json;charset=utf-8",
            headers: Vec::new(),
        }
    }

    pub fn value(status: StatusCode, body: &Value) -> Self {
        Self::json(status, body.to_string())
    }

    pub fn text(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            body: Some(body.into()),
            content_type,
            headers: Vec::new(),
        }
    }

    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            body: None,
            content_type: "",
            headers: Vec::new(),
        }
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn location(self, path: impl Into<String>) -> Self {
        self.header(LOCATION, path)
    }

    pub fn etag(self, tag: String) -> Self {
        self.header(ETAG, tag)
    }

    pub fn allow(self, methods: &str) -> Self {
        self.header(ALLOW, methods)
    }

    pub fn described_by(self, schema: Option<&str>) -> Self {
        match schema {
            Some(schema) => self.header(
                LINK,
                format!("<http://redfish.dmtf.org/schemas/v1/{schema}.json>; rel=describedby"),
            ),
            None => self,
        }
    }

    /// The ETag set so far.
    pub fn tag(&self) -> Option<&str> {
        self.headers
            .iter()
            .find(|(name, _)| name == ETAG)
            .map(|(_, tag)| tag.as_str())
    }

    /// Finishes; a HEAD request gets the headers alone.
    pub fn finish(self) -> Reply {
        let mut reply = Response::new(Body::Whole(self.body.filter(|bytes| !bytes.is_empty())));
        *reply.status_mut() = self.status;
        let headers = reply.headers_mut();
        headers.insert("odata-version", HeaderValue::from_static("4.0"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if !self.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        reply
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        let answer = Self::value(failure.status, &failure.body);
        match failure.header {
            Some((name, value)) => answer.header(name, value),
            None => answer,
        }
    }
}

/// Half of the body, with the length of the whole announced.
pub(crate) fn partial(reply: Reply) -> Reply {
    let (parts, body) = reply.into_parts();
    let body = match body {
        Body::Whole(Some(bytes)) => {
            let announced = bytes.len() as u64;
            let pause = Box::pin(tokio::time::sleep(std::time::Duration::from_millis(20)));
            Body::Partial(Some(bytes.slice(..bytes.len() / 2)), announced, pause)
        }
        other => other,
    };
    Response::from_parts(parts, body)
}

/// The body without its last third, as a complete answer.
pub(crate) fn broken_json(reply: Reply) -> Reply {
    let (parts, body) = reply.into_parts();
    let body = match body {
        Body::Whole(Some(bytes)) => Body::Whole(Some(bytes.slice(..bytes.len() * 2 / 3))),
        other => other,
    };
    Response::from_parts(parts, body)
}
