//! All that a decision about a claim rests on.

use std::sync::Arc;

use corten_api::metal::{Server, ServerBootConfiguration, ServerClaim};
use corten_kit::ObjectKey;
use corten_lifecycle::claim::{self, BOUND_SERVER, CHOSEN_SERVER, Choice, Demand, NoFit, Observed};
use kube::ResourceExt;

use crate::{
    Allocator,
    index::{Answer, Asker},
    intake::created,
};

/// What was observed, owned; [`World::view`] lends it to the decision.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) claim: Arc<ServerClaim>,
    pub(crate) referring: Vec<Arc<Server>>,
    former: Option<Arc<Server>>,
    chosen: Option<Arc<Server>>,
    boot: Option<Arc<ServerBootConfiguration>>,
    found: Found,
}

#[derive(Clone, Debug)]
enum Found {
    Server(Arc<Server>),
    NoFit(NoFit),
    NotAsked,
}

impl World {
    pub(crate) fn view(&self) -> Observed<'_> {
        Observed {
            claim: &self.claim,
            referring: self.referring.iter().map(|server| &**server).collect(),
            former: self.former.as_deref(),
            chosen: self.chosen.as_deref(),
            boot: self.boot.as_deref(),
            choice: match &self.found {
                Found::Server(server) => Choice::Server(server),
                Found::NoFit(report) => Choice::NoFit(report),
                Found::NotAsked => Choice::NotAsked,
            },
        }
    }

    /// The server of this name among those that were observed.
    pub(crate) fn server(&self, name: &str) -> Option<&Arc<Server>> {
        let found = match &self.found {
            Found::Server(server) => Some(server),
            _ => None,
        };
        let seen = self
            .referring
            .iter()
            .chain(&self.chosen)
            .chain(&self.former)
            .chain(found);
        seen.into_iter()
            .find(|server| server.metadata.name.as_deref() == Some(name))
    }

    /// The boot configuration of the claim's name.
    pub(crate) fn boot(&self) -> Option<&Arc<ServerBootConfiguration>> {
        self.boot.as_ref()
    }

    /// The same world, in which `server` refers to the claim as well.
    pub(crate) fn with(&self, server: Arc<Server>) -> Self {
        let mut world = self.clone();
        world
            .referring
            .retain(|known| known.metadata.name != server.metadata.name);
        world.referring.push(server);
        world
    }

    /// The servers that the claim's own annotations and spec name.
    pub(crate) fn servers_on_record(&self) -> Vec<String> {
        let annotated = [BOUND_SERVER, CHOSEN_SERVER]
            .into_iter()
            .filter_map(|key| recorded(&self.claim, key));
        let named = self
            .claim
            .spec
            .server_ref
            .as_ref()
            .map(|server| server.name.clone());
        let mut names: Vec<String> = annotated
            .map(str::to_owned)
            .chain(named)
            .filter(|name| !name.is_empty())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The server's name in an annotation of the form `name/uid`.
fn recorded<'a>(claim: &'a ServerClaim, key: &str) -> Option<&'a str> {
    claim
        .annotations()
        .get(key)
        .and_then(|record| record.split_once('/'))
        .map(|(name, _)| name)
}

impl Allocator {
    /// What is known about the claim; none when there is no such claim. Asks the index for a server if the claim wants one.
    pub(crate) fn observe(&self, key: &ObjectKey) -> Option<World> {
        let mut index = self.index.lock();
        let Some(claim) = self.stores.claims.get(key) else {
            let wake = index.withdraw(key);
            drop(index);
            self.wake(wake);
            return None;
        };
        let server = |name: &str| self.stores.servers.get(&ObjectKey::cluster(name));
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        let mut world = World {
            referring: index
                .referring(key, &uid)
                .iter()
                .filter_map(|name| server(name))
                .collect(),
            former: recorded(&claim, BOUND_SERVER).and_then(server),
            chosen: recorded(&claim, CHOSEN_SERVER).and_then(server),
            boot: self.stores.boots.get(key),
            found: Found::NotAsked,
            claim,
        };
        let wake = if claim::wants_server(&world.view()) {
            let asker = Asker {
                uid: uid.into(),
                created: created(&world.claim),
                demand: Arc::new(Demand::of(&world.claim.spec)),
            };
            let (answer, wake) = index.ask(key, asker);
            world.found = match answer {
                Answer::Aside(name) => server(&name).map_or(Found::NotAsked, Found::Server),
                Answer::NoFit(report) => Found::NoFit(report),
            };
            wake
        } else if world.chosen.is_some()
            && world.claim.metadata.deletion_timestamp.is_none()
            && world.referring.is_empty()
        {
            // Its choice is on record and about to be bound: what is set aside for it stays so.
            Vec::new()
        } else {
            index.withdraw(key)
        };
        drop(index);
        self.wake(wake);
        Some(world)
    }

    /// Lets the claim stand in line, or out of it, before its turn in the queue.
    pub(crate) fn consider(&self, key: &ObjectKey) {
        drop(self.observe(key));
    }
}
