//! What can go wrong between a controller and the API server.

use kube::core::Status;

use crate::key::ObjectKey;

/// A request to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody wrote the object in between (409 Conflict). Observe again; never send the same write again.
    #[error("{kind} {key} was changed by somebody else")]
    Conflict {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
    },
    /// The object does not exist (404). Trying again does not help.
    #[error("{kind} {key} does not exist")]
    NotFound {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
    },
    /// An object of this name exists already (409 AlreadyExists). Observe again.
    #[error("{kind} {key} exists already")]
    AlreadyExists {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
    },
    /// The API server refuses the object or the caller (4xx). Trying again does not help before somebody changes something.
    #[error("the API server refuses {verb} of {kind} {key}: {message}")]
    Refused {
        /// What was tried.
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
        /// The API server's words.
        message: String,
    },
    /// The API server could not be reached, was overloaded or broke off; a retry can help.
    #[error("{verb} of {kind} {key} failed")]
    Unavailable {
        /// What was tried.
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
        /// What the client saw.
        #[source]
        source: Box<kube::Error>,
    },
    /// Our object could not be written as JSON: a defect of ours.
    #[error("cannot serialise {kind} {key}")]
    Serialise {
        /// Kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
        /// The serialiser's error.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// Sorts a client error by what the caller can do about it.
    pub(crate) fn from_kube(
        verb: &'static str,
        kind: &str,
        key: &ObjectKey,
        source: kube::Error,
    ) -> Self {
        let (kind, key) = (kind.to_owned(), key.clone());
        match source {
            kube::Error::Api(status) => Self::from_status(verb, kind, key, status),
            source => Self::Unavailable {
                verb,
                kind,
                key,
                source: Box::new(source),
            },
        }
    }

    fn from_status(verb: &'static str, kind: String, key: ObjectKey, status: Box<Status>) -> Self {
        match status.code {
            404 => Self::NotFound { kind, key },
            409 if status.reason == "AlreadyExists" => Self::AlreadyExists { kind, key },
            409 => Self::Conflict { kind, key },
            // Too many requests and time-outs are the server's state, not the caller's fault.
            400..=499 if status.code != 408 && status.code != 429 => Self::Refused {
                verb,
                kind,
                key,
                message: status.message.clone(),
            },
            _ => Self::Unavailable {
                verb,
                kind,
                key,
                source: Box::new(kube::Error::Api(status)),
            },
        }
    }

    /// True when the object was changed, created or deleted in between: observe again at once.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::AlreadyExists { .. })
    }

    /// True when the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// True when the same request may succeed later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Conflict { .. } | Self::AlreadyExists { .. }
        )
    }
}
