//! One pass over a BMC: follows links, reads collections whole, expands where that is cheaper, asks for nothing twice.

use super::Service;
use crate::document::{Document, Link};
use crate::{GatewayError, Priority};
use std::collections::{HashMap, HashSet};

/// Requests after which a pass gives up, whatever is left: 20 times a large machine without `$expand`.
const MOST_REQUESTS: u32 = 4000;
/// Pages of one collection.
const MOST_PAGES: usize = 256;
/// Members of one collection.
const MOST_MEMBERS: usize = 10_000;
/// Documents kept at a time.
const MOST_KEPT: usize = 20_000;
/// Answers in a row that never came, after which the BMC counts as gone.
const MOST_SILENCES: u8 = 2;

/// Reads documents, and keeps those that came along expanded.
pub(crate) struct Reader<'s> {
    service: &'s Service,
    priority: Priority,
    /// Expanded along with another document, not asked for yet. By [`Link::key`].
    kept: HashMap<String, Document>,
    requests: u32,
    silences: u8,
}

/// Members of a collection.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) documents: Vec<Document>,
    pub(crate) unread: Vec<(String, GatewayError)>,
}

// === impl Reader ===

impl<'s> Reader<'s> {
    pub(crate) fn new(service: &'s Service, priority: Priority) -> Self {
        Self {
            service,
            priority,
            kept: HashMap::new(),
            requests: 0,
            silences: 0,
        }
    }

    /// Whether the conversation is over after `error`: what follows would fail in the same way, or must not be tried.
    pub(crate) fn is_over(&self, error: &GatewayError) -> bool {
        self.silences >= MOST_SILENCES || is_final(error)
    }

    /// Requests made so far.
    pub(crate) fn requests(&self) -> u32 {
        self.requests
    }

    /// Whether `link` was expanded into an earlier answer.
    pub(crate) fn has(&self, link: &Link) -> bool {
        self.kept.contains_key(link.key())
    }

    /// Deepest level of `$expand` that this BMC can do; 0 if it cannot.
    pub(crate) fn deepest(&self) -> u8 {
        self.service.expand().deepest()
    }

    /// One document: from what is kept, else by a request.
    pub(crate) async fn get(&mut self, link: &Link) -> Result<Document, GatewayError> {
        match self.kept.remove(link.key()) {
            Some(document) => Ok(document),
            None => Ok(self.ask(link.path()).await?.at(link.path())),
        }
    }

    /// One document with what it contains, `depth` levels deep where the BMC can; what came along is kept.
    pub(crate) async fn get_with_parts(
        &mut self,
        link: &Link,
        depth: u8,
    ) -> Result<Document, GatewayError> {
        let document = match self.service.expand().path(link.path(), depth) {
            None => self.ask(link.path()).await?,
            Some(expanded) => match self.ask(&expanded).await {
                Ok(document) => document,
                Err(error) if self.is_over(&error) || error.status() == Some(404) => {
                    return Err(error);
                }
                Err(error) => {
                    // Both requests are for one resource: if neither is answered, that is one silence.
                    self.silences = 0;
                    let document = self.ask(link.path()).await?;
                    tracing::debug!(path = link.path(), error = %error, "the plain document can be read, the expanded one cannot");
                    self.service.expand().failed();
                    document
                }
            },
        };
        Ok(self.keep_parts(document.at(link.path())))
    }

    fn keep_parts(&mut self, document: Document) -> Document {
        let (document, parts) = document.split();
        for part in parts {
            if self.kept.len() < MOST_KEPT
                && let Ok(link) = Link::parse(part.path())
            {
                self.kept.insert(link.key().to_owned(), part);
            }
        }
        document
    }

    /// The members of a collection, all pages, `depth` levels deep where the BMC can expand. Members that did not
    /// come along are read one by one. Each member once.
    ///
    /// # Errors
    /// If the collection itself cannot be read, or the conversation is over ([`Reader::is_over`]).
    pub(crate) async fn members(
        &mut self,
        link: &Link,
        depth: u8,
    ) -> Result<Members, GatewayError> {
        let mut members = Members::default();
        let mut seen: HashSet<String> = HashSet::new();
        let mut pages: HashSet<String> = HashSet::from([link.key().to_owned()]);
        let mut page = self.collection(link, depth).await?;
        loop {
            let links = page.root().links("Members");
            let absent = links.iter().filter(|member| !self.has(member)).count();
            let asked = self.service.expand().is_usable() && depth > 0;
            if asked && links.len() > 1 && absent == links.len() {
                // Expansion is promised and not done: asking so again would only cost the BMC.
                self.service.expand().failed();
            }
            for member in links {
                if seen.len() >= MOST_MEMBERS || !seen.insert(member.key().to_owned()) {
                    continue;
                }
                match self.get(&member).await {
                    Ok(document) => members.documents.push(document),
                    Err(error) if self.is_over(&error) => return Err(error),
                    Err(error) => members.unread.push((member.path().to_owned(), error)),
                }
            }
            let next = ["Members@odata.nextLink", "@odata.nextLink"]
                .into_iter()
                .find_map(|name| page.root().uri(name));
            let Some(next) = next else { return Ok(members) };
            // A page that was read already is a loop; seen on firmware that ignores $skip.
            if pages.len() >= MOST_PAGES || !pages.insert(next.path().to_owned()) {
                return Ok(members);
            }
            page = match self.ask(next.path()).await {
                Ok(document) => self.keep_parts(document),
                Err(error) if self.is_over(&error) => return Err(error),
                Err(error) => {
                    members.unread.push((next.path().to_owned(), error));
                    return Ok(members);
                }
            };
        }
    }

    /// The collection's first page. A kept one is good unless its members have to be read one by one and expanding it again is cheaper.
    async fn collection(&mut self, link: &Link, depth: u8) -> Result<Document, GatewayError> {
        if let Some(kept) = self.kept.remove(link.key()) {
            let absent = kept
                .root()
                .links("Members")
                .iter()
                .filter(|member| !self.has(member))
                .count();
            if absent <= 1 || self.deepest() == 0 {
                return Ok(kept);
            }
        }
        self.get_with_parts(link, depth).await
    }

    async fn ask(&mut self, path: &str) -> Result<Document, GatewayError> {
        if self.requests >= MOST_REQUESTS {
            return Err(GatewayError::TooLarge {
                path: path.into(),
                limit: MOST_REQUESTS as usize,
            });
        }
        self.requests = self.requests.saturating_add(1);
        match self.service.access().get(path, self.priority).await {
            Ok(document) => {
                self.silences = 0;
                Ok(document)
            }
            Err(error) => {
                self.silences = if error.is_silence() {
                    self.silences.saturating_add(1)
                } else {
                    0
                };
                Err(error)
            }
        }
    }
}

fn is_final(error: &GatewayError) -> bool {
    matches!(
        error,
        GatewayError::Unreachable { .. }
            | GatewayError::AuthFailed { .. }
            | GatewayError::LoginHeld { .. }
            | GatewayError::LedgerFailed { .. }
            | GatewayError::TlsFailed { .. }
            | GatewayError::NotRedfish { .. }
            | GatewayError::BreakerOpen { .. }
            | GatewayError::InvalidTarget { .. }
            | GatewayError::Closed
    )
}
