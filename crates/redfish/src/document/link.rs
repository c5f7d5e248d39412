//! Links between resources: discovered in documents, checked once, never composed.

use std::fmt;
use std::hash::{Hash, Hasher};
use thiserror::Error;

/// Longest link accepted, in bytes. Real ones stay below 300.
const LONGEST: usize = 2048;

/// Where a resource is: an absolute path on the BMC, or an absolute URL which the gateway compares with the BMC's
/// own authority before it follows it. A fragment (`#/PowerControl/0`, DSP0266 8.3) is kept apart.
///
/// Two links are equal if they lead to one resource: a trailing slash does not count. It is kept for the request,
/// because iLO redirects where it is missing.
#[derive(Clone, Debug)]
pub struct Link {
    path: String,
    fragment: Option<String>,
}

/// Why a string is no link that may be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadLink {
    /// Nothing there.
    #[error("the link is empty")]
    Empty,
    /// Longer than any real link.
    #[error("the link is too long")]
    TooLong,
    /// Neither an absolute path nor an HTTP URL.
    #[error("the link is neither an absolute path nor an http(s) URL")]
    NotAbsolute,
    /// Control characters, backslashes, user information or climbing segments: things that make two parsers disagree on where it leads.
    #[error("the link has characters or segments that no link needs")]
    Suspicious,
}

// === impl Link ===

impl Link {
    /// Checks a link as found in a document.
    ///
    /// # Errors
    /// [`BadLink`], if it must not be followed; trying again does not help.
    pub fn parse(text: &str) -> Result<Self, BadLink> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadLink::Empty);
        }
        if text.len() > LONGEST {
            return Err(BadLink::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(BadLink::Suspicious);
        }
        let (path, fragment) = match text.split_once('#') {
            Some((path, fragment)) => (path, Some(fragment).filter(|f| !f.is_empty())),
            None => (text, None),
        };
        let path = path.trim_end();
        if path.is_empty() {
            return Err(BadLink::Empty);
        }
        let path = absolute(path)?;
        Ok(Self {
            path,
            fragment: fragment.map(str::to_owned),
        })
    }

    /// The service root, where every service begins (DSP0266 6.2).
    #[must_use]
    pub fn service_root() -> Self {
        Self {
            path: "/redfish/v1/".to_owned(),
            fragment: None,
        }
    }

    /// The path or URL to ask for, as the BMC gave it, without fragment.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The JSON pointer inside the resource, if the link leads to a part of it.
    #[must_use]
    pub fn fragment(&self) -> Option<&str> {
        self.fragment.as_deref()
    }

    /// The path in the form in which two links to one resource are equal: without a trailing slash.
    #[must_use]
    pub fn key(&self) -> &str {
        without_trailing_slash(&self.path)
    }

    /// The last segment: by convention the resource's `Id`. For names only; never to compose another link.
    #[must_use]
    pub fn last_segment(&self) -> &str {
        self.key().rsplit('/').next().unwrap_or_default()
    }
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key() && self.fragment == other.fragment
    }
}

impl Eq for Link {}

impl Hash for Link {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
        self.fragment.hash(state);
    }
}

/// An absolute path, or an absolute URL without user information.
fn absolute(text: &str) -> Result<String, BadLink> {
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let path = if lower.starts_with("http://") || lower.starts_with("https://") {
        let after = text.split_once("://").map_or("", |(_, rest)| rest);
        let authority = after.split(['/', '?']).next().unwrap_or_default();
        if authority.is_empty() || authority.contains('@') {
            return Err(BadLink::Suspicious);
        }
        text.to_owned()
    } else if text.starts_with("//") {
        // Another authority in disguise (RFC 3986 4.2, network-path reference).
        return Err(BadLink::Suspicious);
    } else if text.starts_with('/') {
        text.to_owned()
    } else if text.starts_with("redfish/") {
        // Seen without its first slash; it cannot mean anything else.
        format!("/{text}")
    } else {
        return Err(BadLink::NotAbsolute);
    };
    let only_path = path.split('?').next().unwrap_or_default();
    if only_path.split('/').any(climbs) {
        return Err(BadLink::Suspicious);
    }
    Ok(path)
}

/// `.` and `..`, also percent-encoded, which URL parsers resolve and BMCs' own routers may not.
fn climbs(segment: &str) -> bool {
    if segment.len() > 6 {
        return false;
    }
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

fn without_trailing_slash(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match &self.fragment {
            Some(fragment) => write!(f, "#{fragment}"),
            None => Ok(()),
        }
    }
}
