//! A cache of one kind: fed by a watch, never older than our own last write, and indifferent to objects that cannot be read.
//!
//! Start at [`Store::new`], add observers, spawn [`Store::run`], wait for [`Store::ready`].
//!
//! Versions are compared as numbers, which Kubernetes allows since 1.35 (KEP-5504); before that every implementation on etcd did
//! the same. A watch event that is older than what we wrote ourselves is dropped, so a reconcile sees its own writes.

mod kept;

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    future::Future,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use parking_lot::RwLock;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, watch};

use crate::{
    key::ObjectKey,
    tolerant::{Tolerant, lean},
};
use kept::{Kept, Packing};

/// How often a cache looks for objects that nobody asks for.
const COOLING: Duration = Duration::from_secs(2);
/// How many of them it packs at a time: some 20 ms of work.
const COOLED: usize = 256;

type Observer<K> = Box<dyn Fn(&ObjectKey, Option<&K>, Option<&K>) + Send + Sync>;
type OnBroken = Box<dyn Fn(&Broken) + Send + Sync>;

/// The cache. Clones share it.
pub struct Store<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    state: RwLock<State<K>>,
    observers: RwLock<Vec<Observer<K>>>,
    on_broken: RwLock<Vec<OnBroken>>,
    subscribers: RwLock<Vec<mpsc::UnboundedSender<ObjectKey>>>,
    ready: watch::Sender<bool>,
    relisted: watch::Sender<Relisted>,
    failing: watch::Sender<Option<String>>,
    packing: Option<Packing<K>>,
}

struct State<K> {
    objects: HashMap<ObjectKey, Entry<K>>,
    broken: HashMap<ObjectKey, Broken>,
    /// UIDs of objects that a write of ours ended, until the watch says so too: what it still tells of them is the past.
    ended: HashMap<ObjectKey, String>,
    /// Counts our own writes, so that a list that began before one does not undo it.
    writes: u64,
    listing: Option<Listing>,
}

struct Entry<K> {
    object: Kept<K>,
    version: u64,
    written: u64,
}

struct Listing {
    seen: HashSet<ObjectKey>,
    writes_before: u64,
    went_back: bool,
}

/// An object that the API server holds and we cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its key.
    pub key: ObjectKey,
    /// Its UID, where it could be read.
    pub uid: Option<String>,
    /// What is wrong with it: the decoder's words, which name the field.
    pub error: String,
}

/// What the last complete list changed: how many objects were known before, and how many of them it no longer had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relisted {
    /// Lists so far.
    pub count: u64,
    /// Objects known before the list.
    pub before: usize,
    /// Of those, how many the list no longer had.
    pub lost: usize,
    /// Lists that showed objects as they had been before: the API server went back, as after a restored snapshot. Counted at the first such
    /// object, before anybody can act on it.
    pub back: usize,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<K> Debug for Store<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("objects", &self.inner.state.read().objects.len())
            .finish()
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self::with(None)
    }
}

// === impl Store ===

impl<K: Serialize + DeserializeOwned> Store<K> {
    /// An empty store for a kind of large objects that are rarely looked at: each takes a third of the memory while nobody asks for it.
    pub fn packed() -> Self {
        Self::with(Some(Packing::json()))
    }
}

impl<K> Store<K> {
    fn with(packing: Option<Packing<K>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                state: RwLock::new(State {
                    objects: HashMap::new(),
                    broken: HashMap::new(),
                    ended: HashMap::new(),
                    writes: 0,
                    listing: None,
                }),
                observers: RwLock::default(),
                on_broken: RwLock::default(),
                subscribers: RwLock::default(),
                ready: watch::Sender::new(false),
                relisted: watch::Sender::new(Relisted::default()),
                failing: watch::Sender::new(None),
                packing,
            }),
        }
    }

    /// An empty store that nothing feeds yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `f(key, old, new)` on each change, in order, before anybody else can see it: for indices. It must be quick and must not use the store.
    /// It is called as long as the store lives: what comes and goes with a Lease is held weakly.
    pub fn observe(&self, f: impl Fn(&ObjectKey, Option<&K>, Option<&K>) + Send + Sync + 'static) {
        self.inner.observers.write().push(Box::new(f));
    }

    /// Calls `f` when an object that cannot be read appears or changes: for its Event.
    pub fn on_broken(&self, f: impl Fn(&Broken) + Send + Sync + 'static) {
        self.inner.on_broken.write().push(Box::new(f));
    }

    /// The keys of changed objects, own writes included, from now on. What is known already is sent first.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<ObjectKey> {
        let (sender, receiver) = mpsc::unbounded_channel();
        // The order matters: whoever changes the state notifies after it, so nothing falls between.
        let mut subscribers = self.inner.subscribers.write();
        subscribers.retain(|known| !known.is_closed());
        subscribers.push(sender.clone());
        drop(subscribers);
        for key in self.inner.state.read().objects.keys() {
            let _ = sender.send(key.clone());
        }
        receiver
    }

    /// The newest known state of an object: the watch's or our own last write, whichever is newer.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.inner
            .state
            .read()
            .objects
            .get(key)
            .and_then(|entry| entry.object.get())
    }

    /// Whether an object is known: cheaper than [`Store::get`].
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.inner.state.read().objects.contains_key(key)
    }

    /// Why an object that exists cannot be read.
    pub fn broken(&self, key: &ObjectKey) -> Option<Broken> {
        self.inner.state.read().broken.get(key).cloned()
    }

    /// All objects, in no order. Costs one `Arc` clone each; for look-ups by a property keep an index with [`Store::observe`].
    pub fn all(&self) -> Vec<Arc<K>> {
        self.inner
            .state
            .read()
            .objects
            .values()
            .filter_map(|entry| entry.object.get())
            .collect()
    }

    /// The keys of all objects, in no order.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.inner.state.read().objects.keys().cloned().collect()
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.inner.state.read().objects.len()
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends when the first complete list has arrived.
    pub async fn ready(&self) {
        // The sender lives as long as the store, so this cannot fail.
        let _ = self.inner.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// True when the first complete list has arrived.
    pub fn is_ready(&self) -> bool {
        *self.inner.ready.borrow()
    }

    /// What complete lists changed: the brake on destructive work watches it.
    pub fn relisted(&self) -> watch::Receiver<Relisted> {
        self.inner.relisted.subscribe()
    }

    /// Why the watch does not work at present, if it does not.
    pub fn failing(&self) -> Option<String> {
        self.inner.failing.borrow().clone()
    }

    fn notify(&self, key: &ObjectKey) {
        self.inner.subscribers.read().iter().for_each(|s| {
            let _ = s.send(key.clone());
        });
    }

    fn observed(&self, key: &ObjectKey, old: Option<&K>, new: Option<&K>) {
        self.inner
            .observers
            .read()
            .iter()
            .for_each(|f| f(key, old, new));
    }

    fn ended(&self, key: &ObjectKey, entry: Option<Entry<K>>) {
        let old = entry.and_then(|entry| entry.object.get());
        self.observed(key, old.as_deref(), None);
    }

    /// Packs objects that nobody has asked for since the last call.
    fn cool(&self) {
        let Some(packing) = self.inner.packing else {
            return;
        };
        let cold: Vec<(ObjectKey, Arc<K>)> = {
            let state = self.inner.state.read();
            let cold = |(key, entry): (&ObjectKey, &Entry<K>)| {
                entry.object.cold().map(|object| (key.clone(), object))
            };
            state.objects.iter().filter_map(cold).take(COOLED).collect()
        };
        for (key, object) in cold {
            let text = packing.pack(&object);
            if let Some(entry) = self.inner.state.write().objects.get_mut(&key) {
                entry.object.cool(&object, text, packing);
            }
        }
    }
}

impl<K: Resource> Store<K> {
    /// Takes in what a write of ours returned. [`crate::Objects`] does it for each of its writes.
    pub fn wrote(&self, object: K) -> Arc<K> {
        let object = Arc::new(object);
        self.put(object.clone(), true);
        object
    }

    /// Forgets an object that a delete of ours ended.
    pub fn removed(&self, key: &ObjectKey) {
        {
            let mut state = self.inner.state.write();
            let uid = state
                .objects
                .get(key)
                .and_then(|entry| entry.object.get())
                .and_then(|object| object.meta().uid.clone());
            if let Some(uid) = uid {
                state.ended.insert(key.clone(), uid);
            }
        }
        self.take_out(key, None);
    }

    fn put(&self, object: Arc<K>, own: bool) {
        let key = ObjectKey::of(&*object);
        let version = version(&*object);
        {
            let mut state = self.inner.state.write();
            if let Some(listing) = &mut state.listing
                && !own
            {
                listing.seen.insert(key.clone());
            }
            match state.ended.get(&key) {
                // An event that was under way when we ended the object must not bring it back.
                Some(uid) if object.meta().uid.as_ref() == Some(uid) => return,
                Some(_) => drop(state.ended.remove(&key)),
                None => {}
            }
            let known = state.objects.get(&key);
            // The echo of our own write, or something older than it, tells nothing new. Unless a whole list that began after the last write says so: then the
            // API server itself went back, as after a restored snapshot, and what we knew is no more.
            let went_back = |entry: &Entry<K>| {
                !own && version != 0
                    && version < entry.version
                    && state
                        .listing
                        .as_ref()
                        .is_some_and(|listing| entry.written <= listing.writes_before)
            };
            let is_back = known.is_some_and(went_back);
            if !is_back && known.is_some_and(|entry| version != 0 && version <= entry.version) {
                return;
            }
            let was_written = known.map_or(0, |entry| entry.written);
            if is_back
                && let Some(listing) = &mut state.listing
                && !std::mem::replace(&mut listing.went_back, true)
            {
                self.inner
                    .relisted
                    .send_modify(|relisted| relisted.back += 1);
            }
            if own {
                state.writes += 1;
            }
            let written = if own { state.writes } else { was_written };
            state.broken.remove(&key);
            let old = state.objects.insert(
                key.clone(),
                Entry {
                    object: Kept::new(object.clone()),
                    version,
                    written,
                },
            );
            let old = old.and_then(|entry| entry.object.get());
            self.observed(&key, old.as_deref(), Some(&*object));
        }
        self.notify(&key);
    }

    /// `deleted_at` is the version of the deletion: an object that we created anew since then stays.
    fn take_out(&self, key: &ObjectKey, deleted_at: Option<u64>) {
        {
            let mut state = self.inner.state.write();
            state.broken.remove(key);
            let newer =
                |entry: &Entry<K>| deleted_at.is_some_and(|at| at != 0 && entry.version > at);
            if state.objects.get(key).is_none_or(newer) {
                return;
            }
            let old = state.objects.remove(key);
            self.ended(key, old);
        }
        self.notify(key);
    }

    /// The watch has told the end of an object: nothing of its past can follow.
    fn buried(&self, key: &ObjectKey, uid: Option<&String>) {
        let mut state = self.inner.state.write();
        if state.ended.get(key) == uid {
            state.ended.remove(key);
        }
    }

    fn put_broken(&self, broken: Broken) {
        let key = broken.key.clone();
        let news = {
            let mut state = self.inner.state.write();
            if let Some(listing) = &mut state.listing {
                listing.seen.insert(key.clone());
            }
            // Nobody may act on what it said before: it is gone from the readable ones.
            let old = state.objects.remove(&key);
            if old.is_some() {
                self.ended(&key, old);
            }
            state.broken.insert(key.clone(), broken.clone()).as_ref() != Some(&broken)
        };
        if news {
            tracing::warn!(object = %broken.key, error = %broken.error, "object cannot be read");
            self.inner.on_broken.read().iter().for_each(|f| f(&broken));
        }
        self.notify(&key);
    }

    fn begin_list(&self) {
        let mut state = self.inner.state.write();
        state.listing = Some(Listing {
            seen: HashSet::new(),
            writes_before: state.writes,
            went_back: false,
        });
    }

    fn end_list(&self) {
        let mut gone = Vec::new();
        {
            let mut state = self.inner.state.write();
            let Some(listing) = state.listing.take() else {
                return;
            };
            let before = state.objects.len();
            state.broken.retain(|key, _| listing.seen.contains(key));
            state.ended.retain(|key, _| listing.seen.contains(key));
            let missing: Vec<ObjectKey> = state
                .objects
                .iter()
                .filter(|(key, entry)| {
                    !listing.seen.contains(*key) && entry.written <= listing.writes_before
                })
                .map(|(key, _)| key.clone())
                .collect();
            for key in missing {
                let old = state.objects.remove(&key);
                self.ended(&key, old);
                gone.push(key);
            }
            self.inner.relisted.send_modify(|relisted| {
                *relisted = Relisted {
                    count: relisted.count + 1,
                    before,
                    lost: gone.len(),
                    back: relisted.back,
                };
            });
        }
        gone.iter().for_each(|key| self.notify(key));
        self.inner.ready.send_replace(true);
    }

    fn heard(&self, event: Result<Event<Tolerant<K>>, watcher::Error>) {
        match event {
            Ok(event) => {
                self.inner
                    .failing
                    .send_if_modified(|failing| failing.take().is_some());
                match event {
                    Event::Init => self.begin_list(),
                    Event::InitApply(object) | Event::Apply(object) => self.apply(object),
                    Event::Delete(object) => {
                        self.buried(&ObjectKey::of(&object), object.meta().uid.as_ref());
                        self.take_out(&ObjectKey::of(&object), Some(version(&object)))
                    }
                    Event::InitDone => self.end_list(),
                }
            }
            Err(error) => {
                let text = error.to_string();
                tracing::warn!(error = %text, "watch interrupted; it will be taken up again");
                self.inner.failing.send_replace(Some(text));
            }
        }
    }

    fn apply(&self, object: Tolerant<K>) {
        match object {
            Tolerant::Read(object) => self.put(Arc::new(*object), false),
            Tolerant::Broken {
                ref meta,
                ref error,
            } => {
                let broken = Broken {
                    key: ObjectKey::of(&object),
                    uid: meta.uid.clone(),
                    error: error.clone(),
                };
                self.put_broken(broken);
            }
        }
    }

    async fn feed(&self, events: impl Stream<Item = Result<Event<Tolerant<K>>, watcher::Error>>) {
        let mut events = pin!(events);
        let mut cooling = tokio::time::interval(COOLING);
        cooling.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(event) => self.heard(event),
                    None => return,
                },
                _ = cooling.tick(), if self.inner.packing.is_some() => self.cool(),
            }
        }
    }
}

impl<K> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Watches all objects of the kind that `config` selects, until dropped. Interruptions are taken up again with backoff.
    ///
    /// An object that leaves a selector is reported like a deleted one: a reader must not take absence for deletion.
    pub fn run(
        &self,
        client: Client,
        config: watcher::Config,
    ) -> impl Future<Output = ()> + Send + 'static {
        let store = self.clone();
        let api: Api<Tolerant<K>> = Api::all(client);
        async move {
            store
                .feed(watcher::watcher(api, config).default_backoff())
                .await
        }
    }
}

impl<K> Store<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()>,
{
    /// Watches the metadata only: for kinds whose contents are large and written by us alone.
    pub fn run_metadata(
        &self,
        client: Client,
        config: watcher::Config,
    ) -> impl Future<Output = ()> + Send + 'static {
        let store = self.clone();
        let api: Api<PartialObjectMeta<K>> = Api::all(client);
        async move {
            let events = watcher::watcher(api, config)
                .default_backoff()
                .map(|event| {
                    event.map(|event| match event {
                        Event::Init => Event::Init,
                        Event::InitDone => Event::InitDone,
                        Event::InitApply(object) => {
                            Event::InitApply(Tolerant::Read(Box::new(lean(object))))
                        }
                        Event::Apply(object) => {
                            Event::Apply(Tolerant::Read(Box::new(lean(object))))
                        }
                        Event::Delete(object) => {
                            Event::Delete(Tolerant::Read(Box::new(lean(object))))
                        }
                    })
                });
            store.feed(events).await;
        }
    }
}

/// The version as a number; 0 when there is none or it is no number, which compares as "unknown".
fn version<K: Resource>(object: &K) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
