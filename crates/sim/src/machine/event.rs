//! Events: to streams (SSE) and to subscribers (POST).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, broadcast};

use crate::machine::{Happened, Machine};

/// An event subscription.
pub(crate) struct Subscription {
    pub id: u64,
    pub destination: String,
    pub context: Value,
}

/// Those who wait for a machine's events. Empty, it is a few words.
#[derive(Default)]
pub(crate) struct Listeners {
    streams: parking_lot::Mutex<Option<broadcast::Sender<Arc<str>>>>,
    open: AtomicUsize,
    next: AtomicU64,
    /// Raised when something new may be due.
    changed: Notify,
    watched: std::sync::atomic::AtomicBool,
}

impl Listeners {
    pub fn any(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    pub fn wake(&self) {
        self.changed.notify_waiters();
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.streams
            .lock()
            .get_or_insert_with(|| broadcast::channel(64).0)
            .subscribe()
    }

    fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.streams.lock() = None;
        }
    }

    /// Sends what happened to all who listen.
    pub fn tell(&self, machine: &Machine, happened: impl Iterator<Item = Happened>) {
        for what in happened {
            let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
            let event = machine.event(id, &what);
            if let Some(sender) = self.streams.lock().as_ref() {
                let _ = sender.send(format!("id: {id}\ndata: {event}\n\n").into());
            }
            let destinations: Vec<(String, Value)> = machine
                .state
                .lock()
                .subscriptions
                .iter()
                .map(|s| (s.destination.clone(), s.context.clone()))
                .collect();
            for (destination, context) in destinations {
                let mut event = event.clone();
                if let (Some(event), Some(context)) = (event.as_object_mut(), context.as_str()) {
                    event.insert("Context".into(), context.into());
                }
                tokio::spawn(async move {
                    if let Err(error) = push(&destination, event.to_string()).await {
                        tracing::debug!(%destination, %error, "event not delivered");
                    }
                });
            }
        }
    }
}

/// One open event stream; gives its text piece by piece.
pub(crate) struct EventStream {
    machine: Arc<Machine>,
    receiver: broadcast::Receiver<Arc<str>>,
}

impl EventStream {
    pub fn open(machine: Arc<Machine>) -> Self {
        let receiver = machine.listeners.subscribe();
        machine.watch();
        Self { machine, receiver }
    }

    /// The next piece; none when the stream is over.
    pub async fn next(&mut self) -> Option<Bytes> {
        let keep_alive = std::time::Duration::from_secs(15);
        loop {
            match tokio::time::timeout(keep_alive, self.receiver.recv()).await {
                Ok(Ok(text)) => return Some(Bytes::copy_from_slice(text.as_bytes())),
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {}
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
                Err(_) => return Some(Bytes::from_static(b": keep-alive\n\n")),
            }
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.machine.listeners.leave();
    }
}

impl Machine {
    /// Runs the clockwork on time while somebody listens; without listeners nothing runs.
    pub fn watch(self: &Arc<Self>) {
        if self.listeners.watched.swap(true, Ordering::Relaxed) {
            return;
        }
        let machine = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let Some(machine) = machine.upgrade() else {
                    return;
                };
                let due = machine.with_state(|state, _| {
                    if state.subscriptions.is_empty() && !machine.listeners.any() {
                        None
                    } else {
                        Some(state.next_due(&machine.timing))
                    }
                });
                let Some(due) = due else {
                    machine.listeners.watched.store(false, Ordering::Relaxed);
                    return;
                };
                // A second at most, so that nothing said between the look and the wait is missed for long.
                let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
                let until = due.map_or(limit, |due| machine.clock.instant(due).min(limit));
                let notified = machine.listeners.changed.notified();
                tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(until) => {}
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
    }

    fn event(&self, id: u64, happened: &Happened) -> Value {
        let now = self.clock.now();
        let (message_id, text, origin, kind) = match happened {
            Happened::PowerState { node, state } => {
                let key = if *state == "On" {
                    "ResourcePoweredOn"
                } else {
                    "ResourcePoweredOff"
                };
                (
                    format!("ResourceEvent.1.3.{key}"),
                    format!("The resource has powered {}.", state.to_lowercase()),
                    self.blueprint.spec.system(*node),
                    "StatusChange",
                )
            }
            Happened::Task { id, state } => {
                let key = if *state == "Completed" {
                    "TaskCompletedOK"
                } else {
                    "TaskCompletedWarning"
                };
                (
                    format!("TaskEvent.1.0.{key}"),
                    format!(
                        "The task with Id '{}' has ended: {state}.",
                        self.task_name(*id)
                    ),
                    self.task_location(*id),
                    "StatusChange",
                )
            }
            Happened::Test { message_id } => (
                message_id.clone(),
                "This is a test event.".to_owned(),
                "/redfish/v1/EventService".to_owned(),
                "Alert",
            ),
        };
        json!({
            "@odata.type": "#Event.v1_7_0.Event", "Id": id.to_string(), "Name": "Event Array",
            "Events": [{
                "MemberId": "0", "EventId": id.to_string(), "EventType": kind, "EventTimestamp": self.clock.text(now), "Severity": "OK", "MessageSeverity": "OK",
                "Message": text, "MessageId": message_id, "OriginOfCondition": {"@odata.id": origin},
            }],
        })
    }

    pub fn subscription_document(&self, subscription: &Subscription) -> Value {
        json!({
            "@odata.id": format!("/redfish/v1/EventService/Subscriptions/{}", subscription.id), "@odata.type": "#EventDestination.v1_10_0.EventDestination",
            "Id": subscription.id.to_string(), "Name": format!("Subscription {}", subscription.id), "Destination": subscription.destination,
            "Context": subscription.context, "Protocol": "Redfish", "SubscriptionType": "RedfishEvent", "EventFormatType": "Event",
        })
    }
}

/// Sends an event to an `http://` destination; others are not delivered to.
async fn push(destination: &str, body: String) -> std::io::Result<()> {
    let url = url::Url::parse(destination).map_err(std::io::Error::other)?;
    if url.scheme() != "http" {
        return Err(std::io::Error::other(
            "only http destinations are delivered to",
        ));
    }
    let address = url.socket_addrs(|| Some(80))?;
    let address = address
        .first()
        .ok_or_else(|| std::io::Error::other("no address"))?;
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        url.path(),
        url.host_str().unwrap_or_default(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(
        std::time::Duration::from_secs(5),
        stream.read_to_end(&mut answer),
    )
    .await
    .map_err(std::io::Error::other)??;
    Ok(())
}
