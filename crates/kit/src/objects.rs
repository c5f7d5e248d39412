//! The one way to write a kind: each write lands in the store before the call returns, and passes the [`crate::gate`].

use std::{fmt::Debug, sync::Arc, time::Duration};

use kube::{
    Client, Resource,
    api::{
        DeleteParams, DynamicObject, ListParams, ObjectList, Patch, PatchParams, PostParams,
        Preconditions,
    },
    core::{Request, request::Error as RequestError},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{error::Error, gate, key::ObjectKey, metrics, store::Store, tolerant::lean};

/// Requests to the API server under way at once, in the whole process. Each has a connection of its own with its buffers, which stay for a
/// while; beyond some dozens the API server takes no more a second (`docs/benchmarks.md`). Renewals of Leases do not wait here.
const AT_ONCE: usize = 48;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

/// Objects a page when a kind is read whole.
const PAGE: u32 = 500;

/// How long the API server may take: as long as it gives a request itself by default (`--request-timeout`).
const ANSWER: Duration = Duration::from_secs(60);

/// What comes of a request in time, once it has a place among those under way, in the order of asking. A peer that is gone without a word,
/// or a proxy that only acknowledges, would hold its place for ever; what became of such a request is seen by observing again.
async fn answered<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    // It fails only when closed, which nobody does.
    let _place = PLACES.acquire().await;
    tokio::time::timeout(ANSWER, request)
        .await
        .unwrap_or_else(|_| {
            let late = format!("no answer from the API server within {ANSWER:?}");
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, late);
            Err(kube::Error::Service(Box::new(late)))
        })
}

/// Reads and writes objects of one kind under one field manager. Clones are cheap.
pub struct Objects<K> {
    client: Client,
    store: Option<Store<K>>,
    manager: Arc<str>,
}

impl<K> Clone for Objects<K> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            store: self.store.clone(),
            manager: self.manager.clone(),
        }
    }
}

impl<K> Debug for Objects<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects")
            .field("manager", &self.manager)
            .finish_non_exhaustive()
    }
}

impl<K> Objects<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    /// Writes go through `client` as field manager `manager` and land in `store`.
    pub fn new(client: Client, manager: &str, store: Store<K>) -> Self {
        Self {
            client,
            store: Some(store),
            manager: manager.into(),
        }
    }

    /// For kinds of which no cache is kept.
    pub fn uncached(client: Client, manager: &str) -> Self {
        Self {
            client,
            store: None,
            manager: manager.into(),
        }
    }

    /// Reads the object from the API server itself, past the cache: for decisions that a stale cache must not make.
    pub async fn live(&self, key: &ObjectKey) -> Result<Arc<K>, Error> {
        let request = Self::at(key).get(key.name(), &Default::default());
        self.object("get", key, request).await
    }

    /// Reads from the API server itself all objects of the kind with `field` = `value`, whatever their labels and whether or not we can
    /// decode them. Where the kind's definition does not offer the field for selection, all are read, page by page.
    pub async fn live_with(&self, field: &str, value: &str) -> Result<Vec<DynamicObject>, Error> {
        let selector = ListParams::default().fields(&format!("{field}={value}"));
        match self.pages(selector, |_| true).await {
            Err(Error::Refused { .. }) => {
                let path = format!("/{}", field.replace('.', "/"));
                let has = |object: &DynamicObject| {
                    object.data.pointer(&path).and_then(Value::as_str) == Some(value)
                };
                self.pages(ListParams::default(), has).await
            }
            other => other,
        }
    }

    async fn pages(
        &self,
        selector: ListParams,
        keep: impl Fn(&DynamicObject) -> bool,
    ) -> Result<Vec<DynamicObject>, Error> {
        let all = ObjectKey::cluster("*");
        let mut kept = Vec::new();
        let mut params = selector.limit(PAGE);
        loop {
            gate::pass().await;
            let request = Self::at(&all)
                .list(&params)
                .map_err(|e| Self::build_error("list", &all, e))?;
            let answer = answered(self.client.request::<ObjectList<DynamicObject>>(request)).await;
            gate::pass().await;
            let page = answer.map_err(|e| Error::from_kube("list", &Self::kind(), &all, e))?;
            kept.extend(page.items.into_iter().filter(&keep));
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params = params.continue_token(&next),
                None => return Ok(kept),
            }
        }
    }

    /// Creates the object.
    pub async fn create(&self, object: &K) -> Result<Arc<K>, Error> {
        let key = ObjectKey::of(object);
        let body = Self::body(&key, object)?;
        let request = Self::at(&key).create(&self.post_params(), body);
        self.object("create", &key, request).await
    }

    /// Replaces all but the status. `object` carries the resourceVersion that was observed; anybody's write in between is a [`Error::Conflict`].
    pub async fn replace(&self, object: &K) -> Result<Arc<K>, Error> {
        let key = ObjectKey::of(object);
        let body = Self::body(&key, object)?;
        let request = Self::at(&key).replace(key.name(), &self.post_params(), body);
        self.object("update", &key, request).await
    }

    /// Replaces the status, with resourceVersion like [`Objects::replace`]: for intents.
    pub async fn replace_status(&self, object: &K) -> Result<Arc<K>, Error> {
        let key = ObjectKey::of(object);
        let body = Self::body(&key, object)?;
        let request =
            Self::at(&key).replace_subresource("status", key.name(), &self.post_params(), body);
        self.object("update status", &key, request).await
    }

    /// Applies our fields of the status by server-side apply. `object` tells which object is meant: one made anew under its name is not touched.
    pub async fn apply_status<S: Serialize>(
        &self,
        object: &K,
        status: &S,
    ) -> Result<Arc<K>, Error> {
        let key = ObjectKey::of(object);
        let status = serde_json::to_value(status).map_err(|source| Error::Serialise {
            kind: Self::kind(),
            key: key.clone(),
            source,
        })?;
        let patch = Patch::Apply(json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": key.name(), "uid": object.meta().uid },
            "status": status,
        }));
        let params = PatchParams::apply(&self.manager).force();
        let request = Self::at(&key).patch_subresource("status", key.name(), &params, &patch);
        self.object("apply status", &key, request).await
    }

    /// Applies `status` if it differs from `current`, which is what our fields of the observed object say. Returns the written object, or none when nothing had to be written.
    pub async fn apply_status_if_changed<S: Serialize + PartialEq>(
        &self,
        object: &K,
        current: Option<&S>,
        status: &S,
    ) -> Result<Option<Arc<K>>, Error> {
        if current == Some(status) {
            return Ok(None);
        }
        self.apply_status(object, status).await.map(Some)
    }

    /// Creates or updates our fields of a whole object (no status) by server-side apply.
    pub async fn apply(&self, key: &ObjectKey, fields: &Value) -> Result<Arc<K>, Error> {
        let params = PatchParams::apply(&self.manager).force();
        let request = Self::at(key).patch(key.name(), &params, &Patch::Apply(fields));
        self.object("apply", key, request).await
    }

    /// A JSON merge patch, guarded by the UID and, where `at_version` says so, the resourceVersion of the observed object.
    pub async fn merge(
        &self,
        object: &K,
        mut patch: Value,
        at_version: bool,
    ) -> Result<Arc<K>, Error> {
        let key = ObjectKey::of(object);
        if let Some(fields) = patch.as_object_mut() {
            let meta = fields.entry("metadata").or_insert_with(|| json!({}));
            if let Some(meta) = meta.as_object_mut() {
                meta.insert("uid".into(), json!(object.meta().uid));
                if at_version {
                    meta.insert(
                        "resourceVersion".into(),
                        json!(object.meta().resource_version),
                    );
                }
            }
        }
        let params = PatchParams {
            field_manager: Some(self.manager.to_string()),
            ..PatchParams::default()
        };
        let request = Self::at(&key).patch(key.name(), &params, &Patch::Merge(patch));
        self.object("patch", &key, request).await
    }

    /// Deletes the observed object, and only it: a successor under its name stays.
    pub async fn delete(&self, object: &K) -> Result<(), Error> {
        let key = ObjectKey::of(object);
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: object.meta().uid.clone(),
            resource_version: None,
        });
        let request = Self::at(&key).delete(key.name(), &params);
        gate::pass().await;
        let request = request.map_err(|e| Self::build_error("delete", &key, e))?;
        let answer = answered(self.client.request_text(request)).await;
        metrics::wrote("delete", &Self::kind(), answer.is_ok());
        gate::pass().await;
        let text = answer.map_err(|e| Error::from_kube("delete", &Self::kind(), &key, e))?;
        if let Some(store) = &self.store {
            // With finalizers the answer is the object, marked; without them it is a Status and the object is gone.
            match serde_json::from_str::<K>(&text) {
                Ok(marked) if marked.meta().deletion_timestamp.is_some() => {
                    drop(store.wrote(lean(marked)))
                }
                _ => store.removed(&key),
            }
        }
        Ok(())
    }

    async fn object(
        &self,
        verb: &'static str,
        key: &ObjectKey,
        request: Result<http::Request<Vec<u8>>, RequestError>,
    ) -> Result<Arc<K>, Error> {
        gate::pass().await;
        let request = request.map_err(|e| Self::build_error(verb, key, e))?;
        let answer = answered(self.client.request::<K>(request)).await;
        if verb != "get" {
            metrics::wrote(verb, &Self::kind(), answer.is_ok());
        }
        gate::pass().await;
        let object = answer.map_err(|e| {
            let error = Error::from_kube(verb, &Self::kind(), key, e);
            if error.is_not_found()
                && let Some(store) = &self.store
            {
                store.removed(key);
            }
            error
        })?;
        let object = lean(object);
        // A finalizer's removal can be an object's end: the API server answers with its last state.
        let ended = object.meta().deletion_timestamp.is_some()
            && object.meta().finalizers.as_ref().is_none_or(Vec::is_empty)
            && verb != "get";
        match &self.store {
            Some(store) if ended => {
                store.removed(key);
                Ok(Arc::new(object))
            }
            // What the watch does not have, such as an object that left the selector, is read and not taken in: nobody would take it out again.
            Some(store) if verb == "get" && !store.contains(key) => Ok(Arc::new(object)),
            Some(store) => Ok(store.wrote(object)),
            None => Ok(Arc::new(object)),
        }
    }

    fn at(key: &ObjectKey) -> Request {
        Request::new(K::url_path(&(), key.namespace()))
    }

    fn kind() -> String {
        K::kind(&()).into_owned()
    }

    fn body(key: &ObjectKey, object: &K) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(object).map_err(|source| Error::Serialise {
            kind: Self::kind(),
            key: key.clone(),
            source,
        })
    }

    fn post_params(&self) -> PostParams {
        PostParams {
            field_manager: Some(self.manager.to_string()),
            ..PostParams::default()
        }
    }

    fn build_error(verb: &'static str, key: &ObjectKey, error: RequestError) -> Error {
        Error::Refused {
            verb,
            kind: Self::kind(),
            key: key.clone(),
            message: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_never_answered_ends() {
        let silent = answered(std::future::pending::<Result<(), kube::Error>>()).await;
        let error = Error::from_kube(
            "get",
            "Server",
            &ObjectKey::cluster("a"),
            silent.unwrap_err(),
        );
        assert!(error.is_transient());
    }
}
