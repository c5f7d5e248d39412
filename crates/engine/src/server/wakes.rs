//! What makes a server be looked at again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use corten_api::metal::Server;
use corten_kit::ObjectKey;
use parking_lot::RwLock;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

type Referring = Arc<RwLock<HashMap<ObjectKey, BTreeSet<ObjectKey>>>>;

/// Keys of servers to look at, from all that a decision rests on.
pub(super) fn start(
    ctx: &Context,
    term: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> mpsc::UnboundedReceiver<ObjectKey> {
    let (send, receive) = mpsc::unbounded_channel();
    let referring = index(ctx);
    forward(
        ctx.servers.store.subscribe(),
        term,
        tasks,
        send.clone(),
        |key, send| {
            let _ = send.send(key);
        },
    );
    forward(ctx.fleet.wakes(), term, tasks, send.clone(), |key, send| {
        let _ = send.send(key);
    });
    for changed in [ctx.claims.store.subscribe(), ctx.boots.store.subscribe()] {
        // A claim's boot configuration has its name.
        let referring = referring.clone();
        forward(changed, term, tasks, send.clone(), move |key, send| {
            for server in referring.read().get(&key).into_iter().flatten() {
                let _ = send.send(server.clone());
            }
        });
    }
    // A person who removes failed runs has the work tried anew.
    let gone = send.clone();
    ctx.runs.store.observe(move |_, old, new| {
        if let (Some(run), None) = (old, new) {
            let _ = gone.send(ObjectKey::cluster(&run.spec.server_ref.name));
        }
    });
    let runs = ctx.runs.store.clone();
    forward(
        ctx.runs.store.subscribe(),
        term,
        tasks,
        send.clone(),
        move |key, send| {
            if let Some(run) = runs.get(&key) {
                let _ = send.send(ObjectKey::cluster(&run.spec.server_ref.name));
            }
        },
    );
    let servers = ctx.servers.store.clone();
    forward(
        ctx.policies.store.subscribe(),
        term,
        tasks,
        send,
        move |_, send| {
            for key in servers.keys() {
                let _ = send.send(key);
            }
        },
    );
    receive
}

/// Servers by the claim, or boot configuration, that they refer to.
fn index(ctx: &Context) -> Referring {
    let referring = Referring::default();
    // The store outlives the Lease, and this index does not.
    let index = Arc::downgrade(&referring);
    ctx.servers.store.observe(move |key, old, new| {
        let Some(index) = index.upgrade() else { return };
        let (old, new) = (
            old.map(refers).unwrap_or_default(),
            new.map(refers).unwrap_or_default(),
        );
        if old == new {
            return;
        }
        let mut index = index.write();
        for gone in &old {
            if let Some(servers) = index.get_mut(gone) {
                servers.remove(key);
                if servers.is_empty() {
                    index.remove(gone);
                }
            }
        }
        for to in new {
            index.entry(to).or_default().insert(key.clone());
        }
    });
    for server in ctx.servers.store.all() {
        for to in refers(&server) {
            referring
                .write()
                .entry(to)
                .or_default()
                .insert(ObjectKey::of(&*server));
        }
    }
    referring
}

fn refers(server: &Server) -> Vec<ObjectKey> {
    let both = [
        &server.spec.server_claim_ref,
        &server.spec.boot_configuration_ref,
    ];
    let mut keys: Vec<ObjectKey> = both
        .into_iter()
        .flatten()
        .map(|to| ObjectKey::namespaced(&to.namespace, &to.name))
        .collect();
    keys.dedup();
    keys
}

fn forward(
    mut from: mpsc::UnboundedReceiver<ObjectKey>,
    term: &CancellationToken,
    tasks: &mut JoinSet<()>,
    send: mpsc::UnboundedSender<ObjectKey>,
    each: impl Fn(ObjectKey, &mpsc::UnboundedSender<ObjectKey>) + Send + 'static,
) {
    let term = term.clone();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = term.cancelled() => return,
                key = from.recv() => match key {
                    Some(key) => each(key, &send),
                    None => return term.cancelled().await,
                },
            }
        }
    });
}
