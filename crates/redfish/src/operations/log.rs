//! Log entries of a BMC, for conditions and for people.

use crate::GatewayError;
use crate::document::{Document, Link};
use crate::inventory::id_of;
use crate::model::Service;
use jiff::Timestamp;

/// One `LogEntry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// `Id`.
    pub id: String,
    /// When; absent where the BMC's clock was not set (iLO writes zeroes).
    pub created: Option<Timestamp>,
    /// `OK`, `Warning`, `Critical`.
    pub severity: Option<String>,
    /// `Event`, `SEL`, `Oem`…
    pub kind: Option<String>,
    /// The registry's message id.
    pub message_id: Option<String>,
    /// For people.
    pub message: Option<String>,
}

// === impl LogEntry ===

impl LogEntry {
    /// Reads a `LogEntry` resource.
    #[must_use]
    pub fn read(document: &Document) -> Self {
        let root = document.root();
        Self {
            id: id_of(document),
            created: root.time("Created"),
            severity: root.text("Severity"),
            kind: root.text("EntryType"),
            message_id: root.text("MessageId"),
            message: root.text("Message"),
        }
    }
}

/// The log services of a system or manager: 1 request with `$expand`.
///
/// # Errors
/// Whatever the gateway says.
pub async fn services(service: &Service, owner: &Document) -> Result<Vec<Document>, GatewayError> {
    match owner.root().link("LogServices") {
        Some(link) => Ok(service.reader().members(&link, 1).await?.documents),
        None => Ok(Vec::new()),
    }
}

/// The entries of one log service, first page only where the BMC pages: logs hold thousands. Members of a log are
/// given whole by every recorded service, so this is one request.
///
/// # Errors
/// Whatever the gateway says.
pub async fn entries(service: &Service, log: &Document) -> Result<Vec<LogEntry>, GatewayError> {
    let Some(link) = log.root().link("Entries") else {
        return Ok(Vec::new());
    };
    let page = service
        .access()
        .get(link.path(), crate::Priority::Inventory)
        .await?;
    let (_, inner) = page.at(link.path()).split();
    Ok(inner
        .iter()
        .filter(|entry| is_entry_of(&link, entry))
        .map(LogEntry::read)
        .collect())
}

fn is_entry_of(log: &Link, entry: &Document) -> bool {
    entry.kind() == Some("LogEntry") || entry.path().starts_with(log.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_from_a_clock_that_was_never_set_has_no_time() {
        let entry = LogEntry::read(&Document::new(
            "/l/1",
            None,
            json!({"Id": "1", "Created": "0000-00-00T00:00:00Z", "Severity": "OK", "Message": "Power on"}),
        ));
        assert_eq!(
            (entry.created, entry.message.as_deref()),
            (None, Some("Power on"))
        );
    }
}
