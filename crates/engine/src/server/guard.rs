//! The shard's brake and rates, kept in memory and judged from what is recorded.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use parking_lot::Mutex;

use corten_api::{corten::ServerPolicy, metal::Server, names};
use corten_kit::{Lease, Store, store::Relisted};
use corten_lifecycle::{
    brake::{self, Rate, Start},
    plan::Plan,
    run::Step,
    server::Guard,
};

use crate::{connect::policy::covers, context::Context, run::RunIndex};

/// The shard's limits. Clones share them.
#[derive(Clone)]
pub(super) struct Guards {
    servers: Store<Server>,
    policies: Store<ServerPolicy>,
    runs: RunIndex,
    /// Labels of this shard's runs: what another shard does is that one's brake. One that is told apart by labels which runs do not carry
    /// counts all, which is early and never late.
    shard: Arc<BTreeMap<String, String>>,
    /// Labels that each server of the shard has: a policy speaks for the shard only if it selects all that have them.
    demanded: Arc<BTreeMap<String, String>>,
    /// Carries what no run records: a pause for a lost cache, and acknowledgements.
    lease: Lease,
    /// What ends a pause.
    remedy: Arc<str>,
    /// What was judged of the lists of servers.
    judged: Arc<Mutex<Relisted>>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Destructive starts on record and those of this process; none before the first look.
    starts: Option<Vec<Start>>,
    ons: Rate,
    offs: Rate,
    erasures: Rate,
    wanted: Wanted,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Wanted {
    ons: u32,
    offs: u32,
    erasures: u32,
}

/// Gentle enough for a power feed, fast enough for a fleet.
const DEFAULT: Wanted = Wanted {
    ons: 120,
    offs: 240,
    erasures: 240,
};
const BURST: u32 = 40;

// === impl Guards ===

impl Guards {
    pub(super) fn new(ctx: &Context, runs: RunIndex) -> Self {
        let demanded = ctx.config.demanded_labels();
        let mut shard = demanded.clone();
        shard.retain(|key, _| key == names::AGENT || key == names::MANAGED_BY);
        Self {
            servers: ctx.servers.store.clone(),
            policies: ctx.policies.store.clone(),
            runs,
            shard: Arc::new(shard),
            demanded: Arc::new(demanded),
            lease: ctx.lease.clone(),
            remedy: brake::remedy(&ctx.config.namespace, &ctx.config.lease_name).into(),
            judged: ctx.judged.clone(),
            state: Arc::new(Mutex::new(State {
                starts: None,
                ons: rate(DEFAULT.ons),
                offs: rate(DEFAULT.offs),
                erasures: rate(DEFAULT.erasures),
                wanted: DEFAULT,
            })),
        }
    }

    /// How the limits stand.
    pub(super) fn look(&self, now: Timestamp) -> Guard {
        let mut state = self.state.lock();
        self.heed(&mut state, now);
        Guard {
            brake: self.judge(&mut state, now),
            power_at: state.ons.peek(now).max(state.offs.peek(now)),
            erase_at: state.erasures.peek(now),
        }
    }

    /// Counts a run that is about to be recorded, or says why it must not begin. Between the look and this others may have begun.
    pub(super) fn admit(
        &self,
        server_uid: &str,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<(), String> {
        if !plan.is_destructive() {
            return Ok(());
        }
        let mut state = self.state.lock();
        self.heed(&mut state, now);
        if let Some(why) = self.judge(&mut state, now) {
            return Err(why);
        }
        if let Some(starts) = &mut state.starts {
            starts.push(Start {
                server: server_uid.to_owned(),
                at: now,
            });
        }
        Ok(())
    }

    /// Counts a step that is about to be sent, or says when it may be: since the look many others may have been sent.
    pub(super) fn take(&self, step: &Step, now: Timestamp) -> Result<(), Timestamp> {
        let mut state = self.state.lock();
        let State {
            ons,
            offs,
            erasures,
            ..
        } = &mut *state;
        let mut rates: Vec<&mut Rate> = match step {
            Step::EraseDrive(_) => vec![erasures],
            Step::PowerOn => vec![ons],
            Step::RequestShutdown | Step::ForceOff => vec![offs],
            Step::GracefulRestart | Step::ForceRestart | Step::PowerCycle => vec![ons, offs],
            _ => return Ok(()),
        };
        if let Some(at) = rates.iter().filter_map(|rate| rate.peek(now)).max() {
            return Err(at);
        }
        rates.iter_mut().for_each(|rate| rate.take(now));
        Ok(())
    }

    fn judge(&self, state: &mut State, now: Timestamp) -> Option<String> {
        let acknowledged = self.acknowledged();
        let engaged = self
            .engaged()
            .filter(|(at, _)| acknowledged.is_none_or(|ack| ack < *at));
        if let Some((_, why)) = engaged {
            return Some(self.with_remedy(why));
        }
        let since = now.checked_sub(brake::MEMORY).unwrap_or(Timestamp::MIN);
        let starts = state
            .starts
            .get_or_insert_with(|| self.runs.destructive_starts(since, &self.shard));
        starts.retain(|start| start.at > since && acknowledged.is_none_or(|ack| start.at > ack));
        let limit = brake::limit(self.servers.len(), None);
        brake::judge(starts, limit, acknowledged).map(|why| self.with_remedy(why))
    }

    fn with_remedy(&self, why: String) -> String {
        format!("{why}: {}", self.remedy)
    }

    /// Since when, and why, the Lease says that the brake is on. It outlives this process, as what no run records must.
    fn engaged(&self) -> Option<(Timestamp, String)> {
        let text = self.lease.annotation(names::BRAKE_ENGAGED)?;
        let (at, why) = text.split_once(' ').unwrap_or((&text, "the Lease says so"));
        // An unreadable time is no reason to go on: any acknowledgement ends it.
        let at = at.parse().unwrap_or(Timestamp::MIN);
        Some((at, why.to_owned()))
    }

    fn engage(&self, why: &str, now: Timestamp) {
        tracing::error!(why, "brake engaged");
        self.lease
            .annotate(names::BRAKE_ENGAGED, &format!("{now} {why}"));
    }

    /// A list that lost servers or went back, and rates that policy changed.
    fn heed(&self, state: &mut State, now: Timestamp) {
        // A term that follows another in this process does not judge the same list again.
        let mut judged = self.judged.lock();
        let relisted = *self.servers.relisted().borrow();
        let before = std::mem::replace(&mut *judged, relisted);
        drop(judged);
        // The first one has no predecessor to lose from.
        if relisted.count > before.count.max(1)
            && let Some(why) = brake::lost_cache(relisted.before, relisted.lost)
        {
            self.engage(&why, now);
        }
        if relisted.back > before.back
            && let Some(why) = brake::went_back(relisted.back)
        {
            self.engage(&why, now);
        }
        let wanted = self.wanted();
        if wanted != state.wanted {
            state.wanted = wanted;
            state.ons = rate(wanted.ons);
            state.offs = rate(wanted.offs);
            state.erasures = rate(wanted.erasures);
        }
    }

    /// The rates of the policy that speaks for the shard, with the defaults for what it leaves out.
    fn wanted(&self) -> Wanted {
        if self.policies.is_empty() {
            return DEFAULT;
        }
        // They are the shard's, not one server's, and a policy that says nothing of them takes none away.
        let mut speaking = self.speaking();
        speaking.retain(|policy| policy.spec.rates.is_some());
        let highest = speaking.into_iter().min_by(|a, b| {
            let by_name = || a.name_any().cmp(&b.name_any());
            b.spec.priority.cmp(&a.spec.priority).then_with(by_name)
        });
        let rates = highest.and_then(|policy| policy.spec.rates.clone());
        let rates = rates.unwrap_or_default();
        let or = |rate: Option<i32>, default| {
            rate.and_then(|rate| u32::try_from(rate).ok())
                .unwrap_or(default)
        };
        Wanted {
            ons: or(rates.power_ons_per_minute, DEFAULT.ons),
            offs: or(rates.power_offs_per_minute, DEFAULT.offs),
            erasures: or(rates.erasures_per_minute, DEFAULT.erasures),
        }
    }

    /// The policies that are for each server of the shard.
    fn speaking(&self) -> Vec<Arc<ServerPolicy>> {
        let mut all = self.policies.all();
        all.retain(|policy| {
            let selector = policy.spec.selector.as_ref();
            selector.is_none_or(|selector| covers(selector, &self.demanded))
        });
        all
    }

    /// The latest acknowledgement, on the Lease or on a policy that is for the whole shard. One from the future acknowledges nothing yet to come.
    fn acknowledged(&self) -> Option<Timestamp> {
        let now = Timestamp::now()
            .checked_add(SignedDuration::from_mins(1))
            .unwrap_or(Timestamp::MAX);
        let on_policies = self.speaking();
        let on_policies = on_policies
            .iter()
            .filter_map(|policy| policy.annotations().get(names::BRAKE_ACKNOWLEDGED).cloned());
        self.lease
            .annotation(names::BRAKE_ACKNOWLEDGED)
            .into_iter()
            .chain(on_policies)
            .filter_map(|text| text.trim().parse::<Timestamp>().ok())
            .filter(|at| *at <= now)
            .max()
    }
}

/// A slow rate has a small burst: twenty seconds' worth, or a site's limit for a minute would be used up in a moment, and more.
fn rate(per_minute: u32) -> Rate {
    Rate::new(per_minute, BURST.min(per_minute / 3).max(1))
}

/// How often a paused server is looked at again.
pub(super) const PAUSED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
