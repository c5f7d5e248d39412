//! Free servers in the order in which claims take them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use corten_lifecycle::claim::{Demand, Offer, Target, choice::position, offer::Rank};

/// Best rank first; within a rank, along the ring (`corten_lifecycle::claim::choice`).
type Shelf = BTreeSet<(Rank, u64, Arc<str>)>;
type Pair = (Box<str>, Box<str>);

/// All free servers, and those of each label pair.
#[derive(Debug, Default)]
pub(super) struct Shelves {
    all: Shelf,
    by_name: HashMap<Arc<str>, (Rank, u64)>,
    by_pair: HashMap<Pair, Shelf>,
}

impl Shelves {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all.iter().map(|(_, _, name)| name)
    }

    pub(super) fn insert(&mut self, seed: u64, name: &Arc<str>, offer: &Offer) {
        let (rank, at) = (offer.rank(), position(seed, name));
        if self.by_name.insert(name.clone(), (rank, at)).is_some() {
            return;
        }
        self.all.insert((rank, at, name.clone()));
        for (key, value) in offer.labels() {
            self.by_pair
                .entry((key.into(), value.into()))
                .or_default()
                .insert((rank, at, name.clone()));
        }
    }

    /// `offer` must be the one that it was inserted with.
    pub(super) fn remove(&mut self, seed: u64, name: &Arc<str>, offer: &Offer) {
        if self.by_name.remove(name).is_none() {
            return;
        }
        let spot = (offer.rank(), position(seed, name), name.clone());
        self.all.remove(&spot);
        for (key, value) in offer.labels() {
            let pair: Pair = (key.into(), value.into());
            if let Some(shelf) = self.by_pair.get_mut(&pair) {
                shelf.remove(&spot);
                if shelf.is_empty() {
                    self.by_pair.remove(&pair);
                }
            }
        }
    }

    /// The first server that fits, from the smallest shelf that holds all that could.
    pub(super) fn first_fit(
        &self,
        demand: &Demand,
        start: u64,
        fits: impl Fn(&str) -> bool,
    ) -> Option<Arc<str>> {
        match demand.target() {
            Target::Invalid(_) => None,
            Target::Named(name) => {
                let (name, _) = self.by_name.get_key_value(name.as_str())?;
                fits(name).then(|| name.clone())
            }
            Target::Any => walk(&self.all, start, fits),
            Target::Matching(selector) => {
                let empty = Shelf::new();
                let shelf = selector
                    .pairs()
                    .map(|(key, value)| {
                        self.by_pair
                            .get(&(key.into(), value.into()))
                            .unwrap_or(&empty)
                    })
                    .min_by_key(|shelf| shelf.len())
                    .unwrap_or(&self.all);
                walk(shelf, start, fits)
            }
        }
    }
}

/// Rank by rank; in each, from `start` along the ring and round.
fn walk(shelf: &Shelf, start: u64, fits: impl Fn(&str) -> bool) -> Option<Arc<str>> {
    let none: Arc<str> = "".into();
    let mut rank = shelf.first().map(|(rank, _, _)| *rank);
    while let Some(this) = rank {
        let ahead = shelf
            .range((this, start, none.clone())..)
            .take_while(|spot| spot.0 == this);
        let round = shelf.range((this, 0, none.clone())..(this, start, none.clone()));
        if let Some((_, _, name)) = ahead.chain(round).find(|(_, _, name)| fits(name)) {
            return Some(name.clone());
        }
        rank = shelf
            .range((this, u64::MAX, none.clone())..)
            .map(|spot| spot.0)
            .find(|next| *next != this);
    }
    None
}
