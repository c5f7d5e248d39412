//! What can be asked of a machine: power, boot, media, LED, erasure, settings, firmware, events.
//!
//! Each operation is one [`Call`]: one request that changes something. What to send is decided beforehand, by pure
//! functions on documents that were read (`plan`), or by `prepare` functions that read what is missing and then plan.
//! So a step of a run can write its intent, then send, and never send a second thing.

pub mod action;
pub mod bios;
pub mod boot;
pub mod drive;
pub mod events;
pub mod firmware;
pub mod led;
pub mod log;
pub mod media;
pub mod power;
pub mod task;

use crate::document::{Document, Link};
use crate::gateway::{IfMatch, Reply};
use crate::model::Service;
use crate::{GatewayError, Priority};
use serde_json::Value;
use std::time::Duration;
use thiserror::Error;

/// How a call changes its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// An action, or a new member of a collection.
    Post,
    /// Properties of a resource.
    Patch,
    /// The resource itself.
    Delete,
}

/// One request that changes something, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// How.
    pub verb: Verb,
    /// Where: a link that the BMC gave.
    pub link: Link,
    /// What; null for none.
    pub body: Value,
    /// Which state of the resource it is meant for.
    pub if_match: IfMatch,
    /// How urgent it is.
    pub priority: Priority,
    /// What is sent in place of what was asked for, where the BMC does not offer that.
    pub substitute: Option<String>,
}

/// The BMC's answer to a call that it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accepted {
    /// Where to follow the work, if it goes on after the answer. Some firmware answers 202 without (Supermicro): then
    /// only evidence tells.
    pub monitor: Option<Link>,
    /// The resource that was made, for calls that make one.
    pub created: Option<Link>,
    /// Whether the work goes on after the answer.
    pub under_way: bool,
    /// When to look next, if the BMC says.
    pub retry_after: Option<Duration>,
    /// `@Message.ExtendedInfo` messages, for people.
    pub messages: Vec<String>,
}

/// Why an operation cannot be planned, or its reading failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The BMC does not offer it. Trying again does not help; another firmware may.
    #[error("the BMC does not offer {what}{}", Offers(.offered))]
    NotOffered {
        /// What was asked for.
        what: String,
        /// What it offers in its place, if it says.
        offered: Vec<String>,
    },
    /// What was needed to plan could not be read.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

struct Offers<'a>(&'a [String]);

// === impl Call ===

impl Call {
    /// A POST.
    #[must_use]
    pub fn post(link: Link, body: Value) -> Self {
        Self::new(Verb::Post, link, body, IfMatch::Never)
    }

    /// A PATCH of a resource that was read: for exactly that state where the BMC gave an ETag, the gateway finding out how it wants it.
    #[must_use]
    pub fn patch(link: Link, read: Option<&Document>, body: Value) -> Self {
        let if_match = match read.and_then(Document::etag) {
            Some(etag) => IfMatch::Prefer(etag.to_owned()),
            None => IfMatch::Auto,
        };
        Self::new(Verb::Patch, link, body, if_match)
    }

    /// A DELETE.
    #[must_use]
    pub fn delete(link: Link) -> Self {
        Self::new(Verb::Delete, link, Value::Null, IfMatch::Never)
    }

    fn new(verb: Verb, link: Link, body: Value, if_match: IfMatch) -> Self {
        Self {
            verb,
            link,
            body,
            if_match,
            priority: Priority::Control,
            substitute: None,
        }
    }

    /// The same call with another urgency.
    #[must_use]
    pub fn with_priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// Sends it: one request.
    ///
    /// # Errors
    /// Whatever the gateway says; [`GatewayError::outcome_unknown`] tells if it may have been done all the same.
    pub async fn send(&self, service: &Service) -> Result<Accepted, GatewayError> {
        let access = service.access();
        let path = self.link.path();
        let reply = match self.verb {
            Verb::Post => access.post(path, &self.body, self.priority).await?,
            Verb::Patch => {
                access
                    .patch(path, &self.body, self.if_match.clone(), self.priority)
                    .await?
            }
            Verb::Delete => access.delete(path, self.priority).await?,
        };
        Ok(Accepted::of(&reply))
    }
}

// === impl Accepted ===

impl Accepted {
    /// What an answer says about the work: 202 with a monitor (DSP0266 12.2), a task in the body, or iDRAC's job in `Location`.
    #[must_use]
    pub fn of(reply: &Reply) -> Self {
        let document = Document::new(
            &*reply.path,
            None,
            reply.body.clone().unwrap_or(Value::Null),
        );
        let location = reply
            .location
            .as_deref()
            .and_then(|text| Link::parse(text).ok());
        let body = document.root();
        let is_task = document
            .kind()
            .is_some_and(|kind| kind == "Task" || kind.ends_with("Job"));
        let named = body
            .uri("TaskMonitor")
            .or_else(|| if is_task { body.own_link() } else { None });
        // iDRAC answers 200, 201 or 202 with the job's address, whatever was asked (nv-redfish-quirks).
        let job = location.as_ref().filter(|link| {
            link.path().contains("/Jobs/")
                || link.path().contains("/Tasks/")
                || link.path().contains("TaskMonitor")
        });
        let monitor = match reply.status {
            202 => location.clone().or(named),
            _ => job.cloned().or(if is_task { named } else { None }),
        };
        let infos = body
            .objects("@Message.ExtendedInfo")
            .into_iter()
            .chain(body.object("error").objects("@Message.ExtendedInfo"));
        Self {
            under_way: reply.status == 202 || monitor.is_some(),
            created: location
                .filter(|_| reply.status == 201 && monitor.is_none())
                .or_else(|| body.own_link().filter(|_| reply.status == 201)),
            monitor,
            retry_after: reply.retry_after,
            messages: infos
                .filter_map(|info| info.first_text(&["Message", "MessageId"]))
                .take(8)
                .collect(),
        }
    }
}

// === impl OperationError ===

impl OperationError {
    pub(crate) fn not_offered(what: impl Into<String>, offered: Vec<String>) -> Self {
        Self::NotOffered {
            what: what.into(),
            offered,
        }
    }

    /// The word for a condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotOffered { .. } => "NotOffered",
            Self::Gateway(error) => error.reason(),
        }
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Gateway(error) if error.is_transient())
    }
}

impl std::fmt::Display for Offers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "; it offers {}", self.0.join(", "))
        }
    }
}

/// The resource behind a link, by a request of its own.
pub(crate) async fn read(
    service: &Service,
    link: &Link,
    priority: Priority,
) -> Result<Document, GatewayError> {
    Ok(service
        .access()
        .get(link.path(), priority)
        .await?
        .at(link.path()))
}
