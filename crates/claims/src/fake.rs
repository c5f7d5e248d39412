//! An API server in memory: enough of one for the allocator's writes, with resourceVersions, UIDs, finalizers and the promises watched
//! on every write. What it does not do (watches, schemas, garbage collection) the tests against the real one hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
};

use corten_api::names;
use corten_kit::{ObjectKey, Store};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::{Client, Resource, client::Body};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Stores;

type Key = (String, String, String);

#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
}

struct State {
    objects: BTreeMap<Key, Value>,
    version: u64,
    /// Successful writes of other things than Events.
    writes: usize,
    events: BTreeSet<String>,
    random: StdRng,
    /// Answers come after up to this many turns of other tasks.
    jitter: u32,
}

impl Fake {
    pub(crate) fn new(seed: u64, jitter: u32) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                objects: BTreeMap::new(),
                version: 0,
                writes: 0,
                events: BTreeSet::new(),
                random: StdRng::seed_from_u64(seed),
                jitter,
            })),
        }
    }

    pub(crate) fn client(&self) -> Client {
        let state = self.state.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = state.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map(|all| all.to_bytes())
                    .unwrap_or_default();
                let turns = {
                    let mut state = state.lock();
                    let jitter = state.jitter;
                    state.random.random_range(0..=jitter)
                };
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let kind = parts
                    .headers
                    .get("content-type")
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or_default()
                    .to_owned();
                let (code, answer) =
                    state
                        .lock()
                        .handle(&parts.method, parts.uri.path(), &kind, body);
                let response = Response::builder()
                    .status(code)
                    .body(Body::from(serde_json::to_vec(&answer).unwrap()));
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn add(&self, plural: &str, namespace: &str, name: &str, mut object: Value) {
        let mut state = self.state.lock();
        object["metadata"]["name"] = json!(name);
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        state.create((plural.into(), namespace.into(), name.into()), object);
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state
            .lock()
            .objects
            .get(&(plural.into(), namespace.into(), name.into()))
            .cloned()
    }

    pub(crate) fn all(&self, plural: &str) -> Vec<Value> {
        self.state
            .lock()
            .objects
            .iter()
            .filter(|(key, _)| key.0 == plural)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Changes an object as some other client would.
    pub(crate) fn change(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let mut state = self.state.lock();
        let key = (plural.into(), namespace.into(), name.into());
        if let Some(mut object) = state.objects.get(&key).cloned() {
            change(&mut object);
            state.put(&key, object);
        }
    }

    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.state
            .lock()
            .delete(&(plural.into(), namespace.into(), name.into()));
    }

    /// Takes an object away whatever holds it.
    pub(crate) fn vanish(&self, plural: &str, namespace: &str, name: &str) {
        self.state
            .lock()
            .objects
            .remove(&(plural.into(), namespace.into(), name.into()));
    }

    pub(crate) fn writes(&self) -> usize {
        self.state.lock().writes
    }

    pub(crate) fn events(&self) -> BTreeSet<String> {
        self.state.lock().events.clone()
    }

    /// Brings `stores` up to date, as a watch would.
    pub(crate) fn feed(&self, stores: &Stores) {
        self.feed_one(&stores.servers, "servers");
        self.feed_one(&stores.claims, "serverclaims");
        self.feed_one(&stores.boots, "serverbootconfigurations");
    }

    fn feed_one<K: Resource + DeserializeOwned>(&self, store: &Store<K>, plural: &str) {
        let mut gone: BTreeSet<ObjectKey> = store
            .all()
            .iter()
            .map(|object| ObjectKey::of(&**object))
            .collect();
        for object in self.all(plural) {
            let object: K = serde_json::from_value(object).unwrap();
            gone.remove(&ObjectKey::of(&object));
            store.wrote(object);
        }
        gone.iter().for_each(|key| store.removed(key));
    }
}

impl State {
    fn handle(
        &mut self,
        method: &Method,
        path: &str,
        content: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (namespace, rest) = match &parts[3..] {
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        if rest[0] == "events" {
            self.events
                .insert(body["reason"].as_str().unwrap_or_default().to_owned());
            return (StatusCode::CREATED, body);
        }
        let key: Key = (
            rest[0].into(),
            namespace.into(),
            rest.get(1).copied().unwrap_or_default().into(),
        );
        let status = rest.get(2) == Some(&"status");
        let Some(old) = self.objects.get(&key).cloned() else {
            if *method == Method::PATCH && content.contains("apply-patch") && !status {
                return (StatusCode::CREATED, self.create(key, body));
            }
            return failure(404, "NotFound");
        };
        match *method {
            Method::GET => (StatusCode::OK, old),
            Method::DELETE => {
                self.delete(&key);
                (
                    StatusCode::OK,
                    json!({ "kind": "Status", "status": "Success" }),
                )
            }
            Method::PATCH => {
                let meta = &body["metadata"];
                for guard in ["uid", "resourceVersion"] {
                    if meta
                        .get(guard)
                        .is_some_and(|wanted| *wanted != old["metadata"][guard])
                    {
                        return failure(409, "Conflict");
                    }
                }
                let named = &old["spec"]["serverRef"];
                if key.0 == "serverclaims"
                    && !named.is_null()
                    && body["spec"]
                        .get("serverRef")
                        .is_some_and(|new| new != named)
                {
                    return failure(422, "Invalid");
                }
                let mut new = old.clone();
                if status {
                    new["status"] = body["status"].clone();
                } else {
                    merge(&mut new, &body);
                    new["status"] = old["status"].clone();
                }
                (StatusCode::OK, self.put(&key, new))
            }
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    fn create(&mut self, key: Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["uid"] = json!(format!("{}-{}", key.2, self.version));
        object["metadata"]["creationTimestamp"] =
            json!(format!("2026-11-21T10:00:{:02}Z", self.version.min(59)));
        object["apiVersion"] = json!("metal.ironcore.dev/v1alpha1");
        object["kind"] = json!(match key.0.as_str() {
            "servers" => "Server",
            "serverclaims" => "ServerClaim",
            _ => "ServerBootConfiguration",
        });
        self.put(&key, object)
    }

    fn put(&mut self, key: &Key, mut object: Value) -> Value {
        let old = self.objects.get(key).cloned().unwrap_or(Value::Null);
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if object == old {
            return object;
        }
        self.watch_promises(key, &old, &object);
        self.version += 1;
        self.writes += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let finalizers = object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        if object["metadata"]["deletionTimestamp"].is_string() && !finalizers {
            self.objects.remove(key);
        } else {
            self.objects.insert(key.clone(), object.clone());
        }
        object
    }

    fn delete(&mut self, key: &Key) {
        if let Some(mut object) = self.objects.get(key).cloned()
            && object["metadata"]["deletionTimestamp"].is_null()
        {
            object["metadata"]["deletionTimestamp"] = json!("2026-11-21T11:00:00Z");
            self.put(key, object);
        }
    }

    /// What must not happen, whoever writes.
    fn watch_promises(&self, key: &Key, old: &Value, new: &Value) {
        if key.0 != "servers" {
            return;
        }
        let uid = |server: &Value| {
            server["metadata"]["annotations"][names::CLAIM_UID]
                .as_str()
                .map(str::to_owned)
        };
        let (before, after) = (uid(old), uid(new));
        if let (Some(before), Some(after)) = (&before, &after) {
            assert_eq!(
                before, after,
                "{} was bound to one claim and is bound to another",
                key.2
            );
        }
        if let Some(after) = after
            && before.is_none()
        {
            assert_eq!(
                old["status"]["state"], "Available",
                "{} was bound while not Available",
                key.2
            );
            assert!(
                old["metadata"]["annotations"][names::DIRTY].is_null(),
                "{} was bound while dirty",
                key.2
            );
            let beside = self.objects.iter().find(|(other, server)| {
                other.0 == "servers"
                    && *other != key
                    && uid(server).as_deref() == Some(after.as_str())
            });
            assert!(
                beside.is_none(),
                "claim {after} is bound to {} and {}",
                key.2,
                beside.unwrap().0.2
            );
        }
        let release = |server: &Value| {
            server["metadata"]["annotations"][names::RELEASE]
                .as_str()
                .map(str::to_owned)
        };
        if let Some(released) = release(new)
            && release(old).is_none()
        {
            let claim = self.objects.iter().find(|(other, claim)| {
                other.0 == "serverclaims"
                    && claim["metadata"]["uid"].as_str() == Some(released.as_str())
            });
            // One that is gone may have been deleted while it was being bound.
            let deleting =
                claim.is_none_or(|(_, claim)| claim["metadata"]["deletionTimestamp"].is_string());
            assert!(
                deleting,
                "{} is released for a claim that is not being deleted",
                key.2
            );
        }
    }
}

fn failure(code: u16, reason: &str) -> (StatusCode, Value) {
    let status = json!({ "kind": "Status", "status": "Failure", "message": reason, "reason": reason, "code": code });
    (StatusCode::from_u16(code).unwrap(), status)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}
