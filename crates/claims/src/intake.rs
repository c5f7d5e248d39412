//! What has changed, into the index and the queue.

use corten_api::metal::{Server, ServerClaim};
use corten_kit::ObjectKey;
use corten_lifecycle::claim::Offer;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::{Allocator, index::Facts};

/// Feeds the index and `queue` from the stores, for as long as it is polled.
pub(crate) async fn run(
    allocator: &Allocator,
    queue: &UnboundedSender<ObjectKey>,
    woken: &mut UnboundedReceiver<ObjectKey>,
) {
    let stores = &allocator.stores;
    tokio::join!(
        stores.servers.ready(),
        stores.claims.ready(),
        stores.boots.ready()
    );
    // A subscription begins with all that is known. Servers first, then the claims by age: none may be served before an older one.
    let mut servers = stores.servers.subscribe();
    let mut claims = stores.claims.subscribe();
    let mut boots = stores.boots.subscribe();
    while let Ok(key) = servers.try_recv() {
        allocator.note_server(&key);
    }
    let mut first: Vec<ObjectKey> = std::iter::from_fn(|| claims.try_recv().ok()).collect();
    first.sort_by_cached_key(|key| {
        (
            stores.claims.get(key).map(|claim| created(&claim)),
            key.clone(),
        )
    });
    for key in first {
        allocator.consider(&key);
        let _ = queue.send(key);
    }
    loop {
        let key = tokio::select! {
            Some(key) = servers.recv() => {
                allocator.note_server(&key);
                continue;
            }
            Some(key) = claims.recv() => {
                allocator.consider(&key);
                key
            }
            // It has the name of its claim.
            Some(key) = boots.recv() => key,
            Some(key) = woken.recv() => key,
            else => return,
        };
        if queue.send(key).is_err() {
            return;
        }
    }
}

/// When the claim was made; one without a time is the youngest.
pub(crate) fn created(claim: &ServerClaim) -> jiff::Timestamp {
    claim
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(jiff::Timestamp::MAX, |time| time.0)
}

impl Allocator {
    /// Takes what is known of a server now into the index, and wakes the claims that it concerns.
    pub(crate) fn note_server(&self, key: &ObjectKey) {
        let mut index = self.index.lock();
        let facts = self.stores.servers.get(key).map(|server| facts(&server));
        let wake = index.observe(key.name(), facts);
        drop(index);
        self.wake(wake);
    }

    pub(crate) fn wake(&self, claims: Vec<ObjectKey>) {
        for claim in claims {
            let _ = self.wake.send(claim);
        }
    }
}

/// What the index keeps of `server`.
fn facts(server: &Server) -> Facts {
    let reference = server.spec.server_claim_ref.as_ref();
    let annotations = server.metadata.annotations.as_ref();
    Facts {
        offer: Offer::of(server),
        refers_to: reference.map(|claim| ObjectKey::namespaced(&claim.namespace, &claim.name)),
        bound_uid: annotations
            .and_then(|all| all.get(corten_api::names::CLAIM_UID))
            .map(|uid| uid.as_str().into()),
    }
}
