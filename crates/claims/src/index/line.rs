//! Claims that wait, one line for each distinct demand, so that a freed server meets each demand once however many claims have it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use corten_kit::ObjectKey;
use corten_lifecycle::claim::{Demand, Offer, Target};
use jiff::Timestamp;

use super::Asker;

/// A claim's place: the oldest first, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    created: Timestamp,
    claim: ObjectKey,
}

impl Turn {
    pub(super) fn of(asker: &Asker, claim: &ObjectKey) -> Self {
        Self {
            created: asker.created,
            claim: claim.clone(),
        }
    }
}

/// What every server that a line could take has in common, and so where the line is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pivot {
    Named(Box<str>),
    Pair(Box<str>, Box<str>),
    Anything,
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Line {
    turns: HashMap<Arc<Demand>, BTreeSet<Turn>>,
    by_pivot: HashMap<Pivot, HashSet<Arc<Demand>>>,
    waiting: usize,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn join(&mut self, demand: &Arc<Demand>, turn: Turn) {
        let Some(pivot) = Pivot::of(demand) else {
            return;
        };
        if self.turns.entry(demand.clone()).or_default().insert(turn) {
            self.waiting += 1;
        }
        self.by_pivot
            .entry(pivot)
            .or_default()
            .insert(demand.clone());
    }

    pub(super) fn leave(&mut self, demand: &Arc<Demand>, turn: &Turn) {
        let Some(turns) = self.turns.get_mut(demand) else {
            return;
        };
        if turns.remove(turn) {
            self.waiting -= 1;
        }
        if turns.is_empty() {
            self.turns.remove(demand);
            if let Some(pivot) = Pivot::of(demand)
                && let Some(demands) = self.by_pivot.get_mut(&pivot)
            {
                demands.remove(demand);
                if demands.is_empty() {
                    self.by_pivot.remove(&pivot);
                }
            }
        }
    }

    /// The claims that wait for the server of this name and no other.
    pub(super) fn naming(&self, server: &str) -> Vec<ObjectKey> {
        let demands = self
            .by_pivot
            .get(&Pivot::Named(server.into()))
            .into_iter()
            .flatten();
        demands
            .filter_map(|demand| self.turns.get(demand))
            .flatten()
            .map(|turn| turn.claim.clone())
            .collect()
    }

    /// The oldest claim that the server fits.
    pub(super) fn oldest_for(&self, offer: &Offer) -> Option<ObjectKey> {
        let pairs = offer
            .labels()
            .map(|(key, value)| Pivot::Pair(key.into(), value.into()));
        [Pivot::Anything, Pivot::Named(offer.name().into())]
            .into_iter()
            .chain(pairs)
            .filter_map(|pivot| self.by_pivot.get(&pivot))
            .flatten()
            .filter(|demand| demand.check(offer).is_ok())
            .filter_map(|demand| self.turns.get(demand)?.first())
            .min()
            .map(|turn| turn.claim.clone())
    }
}

impl Pivot {
    /// None for a demand that no server can ever meet: its claims wait in no line.
    fn of(demand: &Demand) -> Option<Self> {
        match demand.target() {
            Target::Named(name) => Some(Self::Named(name.as_str().into())),
            Target::Matching(selector) => Some(
                selector
                    .pairs()
                    .next()
                    .map_or(Self::Anything, |(key, value)| {
                        Self::Pair(key.into(), value.into())
                    }),
            ),
            Target::Any => Some(Self::Anything),
            Target::Invalid(_) => None,
        }
    }
}
