//! What a caller is told when it gets nothing: a status and one word. The log gets the reason, never a token or a path with one.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use crate::Refusal;
use crate::token::Rejection;

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// 403.
    #[error(transparent)]
    Token(#[from] Rejection),
    /// 401: none was shown.
    #[error("no token was shown")]
    NoToken,
    /// By the desk's word.
    #[error(transparent)]
    Desk(#[from] Refusal),
    /// 429: a token that another address is using. A probe whose address changed (a lease that was not renewed, a link that went) comes
    /// again until the old one has been silent long enough; a thief waits just as long as the machine is at work.
    #[error("the token is in use from another address")]
    Elsewhere,
    /// 429.
    #[error("too many requests")]
    TooMany,
    /// 413.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// 408.
    #[error("the request was not sent in time")]
    TooSlow,
    /// 400.
    #[error("{0}")]
    Bad(&'static str),
    /// 500. Trying again may help.
    #[error("{0}")]
    Broken(String),
}

impl Refused {
    /// Status and word.
    #[must_use]
    pub fn told(&self) -> (StatusCode, &'static str) {
        match self {
            Refused::Token(_) => (StatusCode::FORBIDDEN, "token"),
            Refused::NoToken => (StatusCode::UNAUTHORIZED, "token"),
            Refused::Desk(Refusal::NotDue(_)) => (StatusCode::FORBIDDEN, "refused"),
            Refused::Desk(Refusal::Nothing(_)) => (StatusCode::NOT_FOUND, "nothing"),
            Refused::Desk(Refusal::Conflict(_)) => (StatusCode::CONFLICT, "conflict"),
            Refused::Desk(Refusal::NotNow(_)) => (StatusCode::SERVICE_UNAVAILABLE, "later"),
            Refused::Elsewhere => (StatusCode::TOO_MANY_REQUESTS, "elsewhere"),
            Refused::TooMany => (StatusCode::TOO_MANY_REQUESTS, "slower"),
            Refused::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "large"),
            Refused::TooSlow => (StatusCode::REQUEST_TIMEOUT, "slow"),
            Refused::Bad(_) => (StatusCode::BAD_REQUEST, "malformed"),
            Refused::Broken(_) => (StatusCode::INTERNAL_SERVER_ERROR, "broken"),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, word) = self.told();
        if status.is_server_error() {
            tracing::warn!(%status, reason = %self, "boot.refused");
        } else {
            tracing::info!(%status, reason = %self, "boot.refused");
        }
        let mut response = (status, word).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
