//! Server-sent events: what a BMC has to say, when it has something to say (DSP0266 section 13.6; WHATWG HTML 9.2).
//!
//! [`Bmc::events`] opens a stream on a connection of its own, outside the two places, because it stays open. After a
//! break the caller opens another with [`EventStream::last_event_id`], and the BMC sends what was missed.

use crate::{error::GatewayError, gateway::Bmc};
use std::{collections::VecDeque, mem};

/// The largest event kept, in bytes; a larger one is dropped whole.
const LARGEST: usize = 1 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// `id:`, to be sent as `Last-Event-ID` after a break.
    pub id: Option<String>,
    /// `event:`; Redfish services mostly send none.
    pub event: Option<String>,
    /// `data:`, lines joined: a Redfish `Event` or `MetricReport` as JSON.
    pub data: String,
}

/// Takes bytes as they come and gives events as they end.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    started: bool,
    after_cr: bool,
    size: usize,
    too_large: bool,
    event: SseEvent,
    has_data: bool,
    last_id: Option<String>,
    ready: VecDeque<SseEvent>,
}

/// An open stream of events.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    parser: SseParser,
    authority: std::sync::Arc<str>,
}

// === impl SseParser ===

impl SseParser {
    /// A parser that knows the last event's id from before a break.
    #[must_use]
    pub fn after(last_event_id: Option<String>) -> Self {
        Self {
            last_id: last_event_id,
            ..Self::default()
        }
    }

    /// Takes some bytes; they may end anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' if mem::take(&mut self.after_cr) => {}
                b'\n' => self.end_line(),
                b'\r' => {
                    self.end_line();
                    self.after_cr = true;
                }
                byte => {
                    self.after_cr = false;
                    self.size += 1;
                    if self.size > LARGEST {
                        self.too_large = true;
                        self.line.clear();
                    } else {
                        self.line.push(*byte);
                    }
                }
            }
        }
    }

    /// The next event that is whole.
    pub fn next_event(&mut self) -> Option<SseEvent> {
        self.ready.pop_front()
    }

    /// The id of the last event that was whole.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    fn end_line(&mut self) {
        let line = mem::take(&mut self.line);
        let mut line = String::from_utf8_lossy(&line).into_owned();
        if !mem::replace(&mut self.started, true) && line.starts_with('\u{feff}') {
            line.remove(0);
        }
        if line.is_empty() && !self.too_large {
            self.end_event();
            return;
        }
        if self.too_large {
            // Dropped up to the empty line that ends it.
            if self.size == 0 {
                self.reset();
            }
            self.size = 0;
            return;
        }
        let (field, value) = match line.split_once(':') {
            Some((field, value)) => (field, value.strip_prefix(' ').unwrap_or(value)),
            None => (line.as_str(), ""),
        };
        match field {
            "data" => {
                if mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => self.event.event = Some(value.to_owned()),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            // Comments keep the connection alive; `retry` is the caller's own policy.
            _ => {}
        }
    }

    fn end_event(&mut self) {
        if let Some(id) = &self.event.id {
            self.last_id = Some(id.clone()).filter(|id| !id.is_empty());
        }
        let event = mem::take(&mut self.event);
        let has_data = self.has_data;
        self.reset();
        if has_data {
            self.ready.push_back(event);
        }
    }

    fn reset(&mut self) {
        self.event = SseEvent::default();
        self.has_data = false;
        self.too_large = false;
        self.size = 0;
    }
}

// === impl Bmc, EventStream ===

impl Bmc {
    /// Opens the stream at `path`, the `ServerSentEventUri` of the event service.
    ///
    /// # Errors
    /// Any [`GatewayError`]; 404 or 501 mean that the BMC has no events to push.
    pub async fn events(
        &self,
        path: &str,
        last_event_id: Option<&str>,
    ) -> Result<EventStream, GatewayError> {
        let (response, authority) = self.open_stream(path, last_event_id).await?;
        let parser = SseParser::after(last_event_id.map(str::to_owned));
        Ok(EventStream {
            response,
            parser,
            authority,
        })
    }
}

impl EventStream {
    /// The next event; `None` when the BMC ends the stream. Cancellation-safe: what has come is kept.
    ///
    /// # Errors
    /// [`GatewayError::Interrupted`]; open the stream again.
    pub async fn next(&mut self) -> Result<Option<SseEvent>, GatewayError> {
        loop {
            if let Some(event) = self.parser.next_event() {
                return Ok(Some(event));
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.parser.push(&bytes),
                Ok(None) => return Ok(None),
                Err(error) => {
                    return Err(GatewayError::Interrupted {
                        authority: self.authority.clone(),
                        source: Some(std::sync::Arc::new(error.without_url())),
                    });
                }
            }
        }
    }

    /// What to go on after, when the stream breaks.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.parser.last_event_id()
    }
}

#[cfg(test)]
mod tests;
