//! Servers and waiting claims, arranged so that neither side has to look through the other.
//!
//! Free servers stand on shelves in the order in which claims take them: one shelf for all, one for each label pair. Claims that could not be
//! served stand in [`line::Line`]s, one for each distinct demand. A claim that asks takes the first server that fits from the
//! smallest shelf that must hold it; a server that becomes free is set aside for the oldest claim that it fits. Setting aside is
//! the binding assumed in memory: it is committed by the Server's resourceVersion, and forgotten when the server turns out not to fit.
//!
//! Between two calls it always holds that no claim waits while a server that fits it is free (held by property tests), so an event
//! costs what it touches, never the number of claims.

mod line;
mod shelf;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use corten_kit::ObjectKey;
use corten_lifecycle::claim::{Demand, Misfit, NoFit, Offer, Standing, Target, choice::position};
use jiff::Timestamp;

use self::{
    line::{Line, Turn},
    shelf::Shelves,
};

/// What the index keeps of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it offers.
    pub offer: Offer,
    /// The claim that `spec.serverClaimRef` names.
    pub refers_to: Option<ObjectKey>,
    /// The UID of the claim that it records as bound.
    pub bound_uid: Option<Box<str>>,
}

/// What the index keeps of a claim that wants a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its UID: a claim made anew under a name is another one.
    pub uid: Box<str>,
    /// When it was made: the oldest is served first.
    pub created: Timestamp,
    /// What it asks for.
    pub demand: Arc<Demand>,
}

/// The allocator's answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This server is set aside for the claim.
    Aside(Arc<str>),
    /// None fits; the claim stands in line and is woken when one does.
    NoFit(NoFit),
}

/// The allocator's memory.
#[derive(Debug)]
pub struct Index {
    seed: u64,
    servers: HashMap<Arc<str>, Entry>,
    standings: HashMap<Standing, usize>,
    shelves: Shelves,
    referring: HashMap<ObjectKey, BTreeSet<Arc<str>>>,
    bound: HashMap<Box<str>, BTreeSet<Arc<str>>>,
    askers: HashMap<ObjectKey, (Asker, Option<Arc<str>>)>,
    line: Line,
}

#[derive(Debug)]
struct Entry {
    facts: Facts,
    aside: Option<ObjectKey>,
}

// === impl Index ===

impl Index {
    /// An empty index; `seed` orders servers of equal rank.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            servers: HashMap::new(),
            standings: HashMap::new(),
            shelves: Shelves::default(),
            referring: HashMap::new(),
            bound: HashMap::new(),
            askers: HashMap::new(),
            line: Line::default(),
        }
    }

    /// Takes in what is known of a server now; none when it is gone. Returns the claims to look at.
    pub fn observe(&mut self, name: &str, now: Option<Facts>) -> Vec<ObjectKey> {
        let mut wake = BTreeSet::new();
        let old = self.take_out(name, &mut wake);
        let (was, aside) = old.map_or((None, None), |entry| (Some(entry.facts), entry.aside));
        let news = was.as_ref().map(|facts| &facts.offer) != now.as_ref().map(|facts| &facts.offer);
        if news {
            wake.extend(self.line.naming(name));
        }
        let kept = now.is_some_and(|facts| self.put_in(name, facts, aside.as_ref(), &mut wake));
        if let Some(claim) = aside
            && !kept
        {
            self.lost_its_server(&claim);
            wake.insert(claim);
        }
        wake.extend(self.hand_over(name));
        wake.into_iter().collect()
    }

    /// The claim wants a server: sets one aside for it, or puts it in line. Asking again changes nothing, unless the demand has changed.
    pub fn ask(&mut self, claim: &ObjectKey, asker: Asker) -> (Answer, Vec<ObjectKey>) {
        let mut wake = Vec::new();
        match self.askers.get(claim) {
            Some((known, got)) if *known == asker => {
                return (
                    got.clone()
                        .map_or_else(|| Answer::NoFit(self.report(&asker.demand)), Answer::Aside),
                    wake,
                );
            }
            Some(_) => wake = self.withdraw(claim),
            None => {}
        }
        let found =
            self.shelves
                .first_fit(&asker.demand, position(self.seed, &asker.uid), |name| {
                    self.servers
                        .get(name)
                        .is_some_and(|entry| asker.demand.check(&entry.facts.offer).is_ok())
                });
        let answer = match &found {
            Some(server) => {
                self.set_aside(server, claim);
                Answer::Aside(server.clone())
            }
            None => {
                self.line.join(&asker.demand, Turn::of(&asker, claim));
                Answer::NoFit(self.report(&asker.demand))
            }
        };
        self.askers.insert(claim.clone(), (asker, found));
        (answer, wake)
    }

    /// The claim does not want a server any more: it is bound, being deleted or gone. Returns the claim that gets what was set aside for it.
    pub fn withdraw(&mut self, claim: &ObjectKey) -> Vec<ObjectKey> {
        let Some((asker, got)) = self.askers.remove(claim) else {
            return Vec::new();
        };
        match got {
            None => {
                self.line.leave(&asker.demand, &Turn::of(&asker, claim));
                Vec::new()
            }
            Some(server) => {
                if let Some(entry) = self.servers.get_mut(&server) {
                    entry.aside = None;
                }
                self.shelve(&server);
                self.hand_over(&server).into_iter().collect()
            }
        }
    }

    /// The servers that refer to a claim of this name or record this UID.
    pub fn referring(&self, claim: &ObjectKey, uid: &str) -> Vec<Arc<str>> {
        let by_name = self.referring.get(claim).into_iter().flatten();
        let by_uid = self.bound.get(uid).into_iter().flatten();
        by_name
            .chain(by_uid)
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// How many claims stand in line.
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    /// How many servers can be bound now.
    pub fn free(&self) -> usize {
        self.shelves.len()
    }

    /// Why no server fits `demand`.
    fn report(&self, demand: &Demand) -> NoFit {
        let mut report = NoFit::new(demand);
        match demand.target() {
            Target::Invalid(_) => {}
            Target::Named(name) => {
                if let Some(misfit) = self
                    .servers
                    .get(name.as_str())
                    .and_then(|entry| entry.misfit(demand))
                {
                    report.count(misfit, 1);
                }
            }
            // Standings are counted as they change; only what is free has to be looked at.
            Target::Any => {
                let mut free = 0;
                for name in self.shelves.all() {
                    free += 1;
                    if let Some(misfit) = self
                        .servers
                        .get(name)
                        .and_then(|entry| entry.misfit(demand))
                    {
                        report.count(misfit, 1);
                    }
                }
                for (standing, servers) in &self.standings {
                    match standing {
                        Standing::Free => report.count(
                            Misfit::NotFree(Standing::Taken),
                            servers.saturating_sub(free),
                        ),
                        other => report.count(Misfit::NotFree(other.clone()), *servers),
                    }
                }
            }
            Target::Matching(_) => {
                for misfit in self
                    .servers
                    .values()
                    .filter_map(|entry| entry.misfit(demand))
                {
                    report.count(misfit, 1);
                }
            }
        }
        report
    }

    fn take_out(&mut self, name: &str, wake: &mut BTreeSet<ObjectKey>) -> Option<Entry> {
        let (name, entry) = self.servers.remove_entry(name)?;
        self.shelves.remove(self.seed, &name, &entry.facts.offer);
        if let Some(count) = self.standings.get_mut(entry.facts.offer.standing()) {
            *count = count.saturating_sub(1);
        }
        if let Some(claim) = &entry.facts.refers_to {
            wake.insert(claim.clone());
            forget_pair(&mut self.referring, claim, &name);
        }
        if let Some(uid) = &entry.facts.bound_uid {
            forget_pair(&mut self.bound, uid, &name);
        }
        Some(entry)
    }

    /// Returns whether it is still set aside for `aside`.
    fn put_in(
        &mut self,
        name: &str,
        facts: Facts,
        aside: Option<&ObjectKey>,
        wake: &mut BTreeSet<ObjectKey>,
    ) -> bool {
        let name: Arc<str> = name.into();
        *self
            .standings
            .entry(facts.offer.standing().clone())
            .or_default() += 1;
        if let Some(claim) = &facts.refers_to {
            wake.insert(claim.clone());
            self.referring
                .entry(claim.clone())
                .or_default()
                .insert(name.clone());
        }
        if let Some(uid) = &facts.bound_uid {
            self.bound
                .entry(uid.clone())
                .or_default()
                .insert(name.clone());
        }
        // Bound: the claim has what it wanted.
        if let Some(claim) = &facts.refers_to
            && let Some((asker, got)) = self.askers.get(claim)
            && facts.bound_uid.as_ref() == Some(&asker.uid)
        {
            if got.is_none() {
                self.line.leave(&asker.demand, &Turn::of(asker, claim));
            }
            let elsewhere = got.clone().filter(|server| *server != name);
            self.askers.remove(claim);
            if let Some(server) = elsewhere {
                if let Some(entry) = self.servers.get_mut(&server) {
                    entry.aside = None;
                }
                self.shelve(&server);
                wake.extend(self.hand_over(&server));
            }
        }
        let aside = aside
            .filter(|claim| {
                self.askers
                    .get(*claim)
                    .is_some_and(|(asker, _)| asker.demand.check(&facts.offer).is_ok())
            })
            .cloned();
        let kept = aside.is_some();
        self.servers.insert(name.clone(), Entry { facts, aside });
        self.shelve(&name);
        kept
    }

    /// The claim has to look for another server, or stand in line.
    fn lost_its_server(&mut self, claim: &ObjectKey) {
        let Some((asker, _)) = self.askers.remove(claim) else {
            return;
        };
        // It takes another at once if one fits; a claim that waits is older than this only if none fits it.
        let (_, woken) = self.ask(claim, asker);
        debug_assert!(
            woken.is_empty(),
            "a claim that is not known displaces nobody"
        );
    }

    fn set_aside(&mut self, server: &Arc<str>, claim: &ObjectKey) {
        if let Some(entry) = self.servers.get_mut(server) {
            entry.aside = Some(claim.clone());
            self.shelves.remove(self.seed, server, &entry.facts.offer);
        }
    }

    /// Puts the server on its shelves if it can be bound to anybody.
    fn shelve(&mut self, server: &Arc<str>) {
        if let Some(entry) = self.servers.get(server)
            && entry.is_free()
        {
            self.shelves.insert(self.seed, server, &entry.facts.offer);
        }
    }

    /// Sets a free server aside for the oldest claim in line that it fits.
    fn hand_over(&mut self, server: &str) -> Option<ObjectKey> {
        let (name, entry) = self.servers.get_key_value(server)?;
        if !entry.is_free() {
            return None;
        }
        let name = name.clone();
        let claim = self.line.oldest_for(&entry.facts.offer)?;
        let (asker, got) = self.askers.get_mut(&claim)?;
        *got = Some(name.clone());
        self.line.leave(&asker.demand, &Turn::of(asker, &claim));
        self.set_aside(&name, &claim);
        Some(claim)
    }
}

impl Entry {
    fn is_free(&self) -> bool {
        self.facts.offer.is_free() && self.aside.is_none()
    }

    fn misfit(&self, demand: &Demand) -> Option<Misfit> {
        match demand.check(&self.facts.offer) {
            // Set aside, it is as good as bound, whatever else speaks against it.
            Ok(()) | Err(Misfit::Tainted(_)) if !self.is_free() => {
                Some(Misfit::NotFree(Standing::Taken))
            }
            checked => checked.err(),
        }
    }
}

fn forget_pair<K: std::hash::Hash + Eq>(
    pairs: &mut HashMap<K, BTreeSet<Arc<str>>>,
    key: &K,
    name: &Arc<str>,
) {
    if let Some(names) = pairs.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            pairs.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
