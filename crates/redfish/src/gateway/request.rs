//! What is asked of a BMC and what comes back.

use crate::{document::Document, queue::Priority};
use secrecy::SecretString;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// One call. [`Bmc`](crate::Bmc)'s verbs build it; build it yourself for a deadline of your own.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    pub(crate) priority: Priority,
    pub(crate) deadline: Option<Duration>,
    pub(crate) if_match: IfMatch,
    pub(crate) if_none_match: Option<String>,
    pub(crate) anonymous: bool,
    pub(crate) body_optional: bool,
}

/// HTTP methods that Redfish uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Post,
    Patch,
    Put,
    Delete,
}

/// Which state of the resource a change is meant for (RFC 9110 section 13.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// Sends none, and finds out what the BMC wants if it refuses with 412 or 428: its own ETag read afresh, then
    /// `*`. For changes that do not depend on what was there.
    #[default]
    Auto,
    /// As `Auto`, starting with this ETag: it saves the BMCs that insist on one a refusal.
    Prefer(String),
    /// This state and no other: 412 is the caller's answer.
    Exactly(String),
    /// Sends none.
    Never,
}

/// Query parameters of DSP0266 section 7.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<String>);

/// What a resource looked like when it was read last: tells [`Bmc::get_if_changed`](crate::Bmc::get_if_changed) what
/// not to send again. The caller keeps it (some 40 bytes), so that the gateway need not keep bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub(crate) etag: Option<Box<str>>,
    pub(crate) digest: u64,
}

/// The answer to a change.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status, 200 to 304.
    pub status: u16,
    /// `Location`, as sent: the new resource (201) or the task monitor (202).
    pub location: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Retry-After`, in a 202 how long to wait before polling.
    pub retry_after: Option<Duration>,
    /// The path that answered, after redirects.
    pub path: Arc<str>,
    /// The body, if it was JSON.
    pub body: Option<Value>,
    pub(crate) token: Option<SecretString>,
    pub(crate) digest: u64,
}

// === impl Request ===

impl Request {
    /// Asks for `path`, a link as found in a document.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>, priority: Priority) -> Self {
        Self {
            method,
            path: path.into(),
            body: None,
            priority,
            deadline: None,
            if_match: IfMatch::default(),
            if_none_match: None,
            anonymous: false,
            body_optional: false,
        }
    }

    /// Sends `body` as JSON.
    #[must_use]
    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Gives up after `deadline`, everything included. Without it the gateway's own deadlines hold.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// See [`IfMatch`].
    #[must_use]
    pub fn if_match(mut self, if_match: IfMatch) -> Self {
        self.if_match = if_match;
        self
    }

    /// Asks for the resource only if it has another ETag than this; the answer is then 304.
    #[must_use]
    pub fn if_none_match(mut self, etag: impl Into<String>) -> Self {
        self.if_none_match = Some(etag.into());
        self
    }

    /// Sends no credentials. The service root is always asked for so.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }
}

// === impl Method ===

impl Method {
    /// The method's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    pub(crate) fn http(self) -> http::Method {
        match self {
            Self::Get => http::Method::GET,
            Self::Post => http::Method::POST,
            Self::Patch => http::Method::PATCH,
            Self::Put => http::Method::PUT,
            Self::Delete => http::Method::DELETE,
        }
    }
}

// === impl Query ===

impl Query {
    /// No parameter.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `$expand=.($levels=n)`: subordinate resources inline.
    #[must_use]
    pub fn expand_subordinates(self, levels: u8) -> Self {
        self.raw(format!("$expand=.($levels={levels})"))
    }

    /// `$expand=*($levels=n)`: all linked resources inline.
    #[must_use]
    pub fn expand_all(self, levels: u8) -> Self {
        self.raw(format!("$expand=*($levels={levels})"))
    }

    /// `$select=a,b`: only these properties.
    #[must_use]
    pub fn select(self, properties: &[&str]) -> Self {
        self.raw(format!("$select={}", properties.join(",")))
    }

    /// `$top=n`: at most so many members.
    #[must_use]
    pub fn top(self, members: u32) -> Self {
        self.raw(format!("$top={members}"))
    }

    /// Any other parameter, as it goes into the URL.
    #[must_use]
    pub fn raw(mut self, parameter: impl Into<String>) -> Self {
        self.0.push(parameter.into());
        self
    }

    pub(crate) fn apply(&self, path: &str) -> String {
        if self.0.is_empty() {
            return path.to_owned();
        }
        let glue = if path.contains('?') { '&' } else { '?' };
        format!("{path}{glue}{}", self.0.join("&"))
    }
}

// === impl Reply ===

impl Reply {
    /// An answer without a body, for tests that stand in for a BMC.
    #[must_use]
    pub fn empty(status: u16, path: &str) -> Self {
        Self {
            status,
            location: None,
            etag: None,
            retry_after: None,
            path: Arc::from(path),
            body: None,
            token: None,
            digest: 0,
        }
    }

    /// As if `document` had just been answered.
    pub(crate) fn of_document(document: &Document) -> Self {
        Self {
            status: 200,
            location: None,
            etag: document.etag().map(str::to_owned),
            retry_after: None,
            path: Arc::from(document.path()),
            body: Some(document.body().clone()),
            token: None,
            digest: 0,
        }
    }

    /// The answer as a document. An answer without a JSON body becomes one without properties.
    #[must_use]
    pub fn into_document(self) -> Document {
        Document::new(&*self.path, self.etag, self.body.unwrap_or(Value::Null))
    }

    /// What this answer looked like, for [`Bmc::get_if_changed`](crate::Bmc::get_if_changed).
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            etag: self.etag.as_deref().map(Box::from),
            digest: self.digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_appended_to_whatever_the_link_has() {
        let query = Query::new().expand_subordinates(2).top(5);
        assert_eq!(
            query.apply("/redfish/v1/Systems"),
            "/redfish/v1/Systems?$expand=.($levels=2)&$top=5"
        );
        assert_eq!(Query::new().top(1).apply("/a?x=1"), "/a?x=1&$top=1");
        assert_eq!(Query::new().apply("/a"), "/a");
    }
}
