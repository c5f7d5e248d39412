//! Events on what an operator acts on. Publishing never waits and never fails a reconcile.
//!
//! The same event on the same object is said once in ten minutes. Events are queued, sent by a few at once, and dropped (counted) when
//! the queue is full: they inform, nothing rests on them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, Resource, api::PostParams};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

use crate::{key::ObjectKey, metrics, store::Store};

const QUEUE: usize = 4096;
const SENDERS: usize = 8;
/// How long the API server keeps an Event by default: what stands unchanged is said again only when nobody can read it any more.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// The API server refuses longer notes.
const NOTE_BYTES: usize = 1024;

/// Publishes Events in the name of one controller. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Event>,
    said: Arc<Mutex<HashMap<u64, Instant>>>,
    controller: &'static str,
    instance: Arc<str>,
}

/// What an event is about.
#[derive(Clone, Debug)]
pub struct Subject(ObjectReference);

impl Subject {
    /// The object itself.
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        Self(object.object_ref(&()))
    }

    /// An object of which only the key is known, such as one that cannot be read.
    pub fn named<K: Resource<DynamicType = ()>>(key: &ObjectKey, uid: Option<&str>) -> Self {
        Self(ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(key.name().to_owned()),
            namespace: key.namespace().map(str::to_owned),
            uid: uid.map(str::to_owned),
            ..ObjectReference::default()
        })
    }
}

impl Events {
    /// Starts the queue; `instance` names this process (its pod, its host).
    pub fn start(client: Client, controller: &'static str, instance: &str) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(send_all(client, waiting));
        let instance = if instance.is_empty() {
            "corten"
        } else {
            instance
        };
        Self {
            queue,
            said: Arc::default(),
            controller,
            instance: instance.chars().take(128).collect::<String>().into(),
        }
    }

    /// Says of each object that `store` cannot read that it cannot, and what is wrong with it: nothing is done for it meanwhile, and
    /// nobody would know why.
    pub fn tell_of_broken<K: Resource<DynamicType = ()>>(&self, store: &Store<K>) {
        let events = self.clone();
        store.on_broken(move |broken| {
            let subject = Subject::named::<K>(&broken.key, broken.uid.as_deref());
            let note = format!(
                "this {} cannot be read, and nothing is done for it until it is corrected: {}",
                K::kind(&()),
                broken.error
            );
            events.warning(&subject, "Unreadable", note);
        });
    }

    /// The same queue under another controller's name.
    pub fn named(&self, controller: &'static str) -> Self {
        Self {
            controller,
            ..self.clone()
        }
    }

    /// Something went as it should. `reason` in CamelCase, `note` a sentence with the objects' names.
    pub fn normal(&self, subject: &Subject, reason: &str, note: impl Into<String>) {
        self.publish(subject, "Normal", reason, note.into());
    }

    /// Something needs eyes: the note says the cause and the remedy.
    pub fn warning(&self, subject: &Subject, reason: &str, note: impl Into<String>) {
        self.publish(subject, "Warning", reason, note.into());
    }

    fn publish(&self, subject: &Subject, kind: &str, reason: &str, mut note: String) {
        if note.len() > NOTE_BYTES {
            let end = (0..=NOTE_BYTES - 3)
                .rev()
                .find(|i| note.is_char_boundary(*i))
                .unwrap_or(0);
            note.truncate(end);
            note.push_str("...");
        }
        if !self.is_news(subject, reason, &note) {
            return;
        }
        let object = &subject.0;
        let name = object.name.as_deref().unwrap_or("unnamed");
        let now = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                // Unique without a round trip; the name's length is bounded by the API (253).
                name: Some(format!(
                    "{}.{:x}{:04x}",
                    name.get(..200).unwrap_or(name),
                    now.as_nanosecond(),
                    rand::random::<u16>()
                )),
                namespace: Some(object.namespace.clone().unwrap_or_else(|| "default".into())),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(format!("corten.dev/{}", self.controller)),
            reporting_instance: Some(self.instance.to_string()),
            action: Some(reason.to_owned()),
            reason: Some(reason.to_owned()),
            regarding: Some(object.clone()),
            note: Some(note),
            type_: Some(kind.to_owned()),
            ..Event::default()
        };
        if self.queue.try_send(event).is_err() {
            metrics::event_dropped();
        }
    }

    fn is_news(&self, subject: &Subject, reason: &str, note: &str) -> bool {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hash = DefaultHasher::new();
        (
            &subject.0.uid,
            &subject.0.kind,
            &subject.0.namespace,
            &subject.0.name,
            reason,
            note,
        )
            .hash(&mut hash);
        let now = Instant::now();
        let mut said = self.said.lock();
        if said.len() >= QUEUE {
            said.retain(|_, at| now.duration_since(*at) < AGAIN_AFTER);
        }
        match said.insert(hash.finish(), now) {
            Some(before) if now.duration_since(before) < AGAIN_AFTER => {
                said.insert(hash.finish(), before);
                false
            }
            _ => true,
        }
    }
}

async fn send_all(client: Client, waiting: mpsc::Receiver<Event>) {
    let events = futures::stream::unfold(waiting, |mut waiting| async move {
        waiting.recv().await.map(|e| (e, waiting))
    });
    events
        .for_each_concurrent(SENDERS, |event| {
            let namespace = event.metadata.namespace.clone().unwrap_or_default();
            let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
            async move {
                let sent = api.create(&PostParams::default(), &event).await;
                metrics::wrote("create", "Event", sent.is_ok());
                if let Err(error) = sent {
                    tracing::debug!(%error, reason = event.reason.as_deref(), "event not recorded");
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> (Events, mpsc::Receiver<Event>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (
            Events {
                queue,
                said: Arc::default(),
                controller: "test",
                instance: "i".into(),
            },
            waiting,
        )
    }

    fn subject() -> Subject {
        Subject::named::<k8s_openapi::api::core::v1::ConfigMap>(
            &ObjectKey::namespaced("n", "a"),
            Some("u"),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_event_is_said_once_in_ten_minutes() {
        let (events, mut waiting) = events();
        events.normal(&subject(), "Ready", "it is");
        events.normal(&subject(), "Ready", "it is");
        events.normal(&subject(), "Ready", "it is again");
        assert_eq!(waiting.try_recv().unwrap().note.as_deref(), Some("it is"));
        assert_eq!(
            waiting.try_recv().unwrap().note.as_deref(),
            Some("it is again")
        );
        assert!(waiting.try_recv().is_err());
        tokio::time::advance(AGAIN_AFTER).await;
        events.normal(&subject(), "Ready", "it is");
        assert!(waiting.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_long_note_is_cut_at_a_character() {
        let (events, mut waiting) = events();
        events.warning(&subject(), "Odd", "ü".repeat(2000));
        let note = waiting.try_recv().unwrap().note.unwrap();
        assert!(note.len() <= NOTE_BYTES && note.ends_with("..."));
    }
}
