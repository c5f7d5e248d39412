//! The shard's brake and rates, kept in memory and judged from what is recorded.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use parking_lot::Mutex;

use corten_api::{corten::ServerPolicy, metal::Server, names};
use corten_kit::{Lease, Store};
use corten_lifecycle::{
    brake::{self, Rate, Start},
    plan::Plan,
    run::Step,
    server::Guard,
};

use crate::{context::Context, run::RunIndex};

/// The shard's limits. Clones share them.
#[derive(Clone)]
pub(super) struct Guards {
    servers: Store<Server>,
    policies: Store<ServerPolicy>,
    runs: RunIndex,
    /// Labels of this shard's runs: what another shard does is that one's brake. One that is told apart by labels which runs do not carry
    /// counts all, which is early and never late.
    shard: Arc<BTreeMap<String, String>>,
    /// Carries what no run records: a pause for a lost cache, and acknowledgements.
    lease: Lease,
    /// What ends a pause.
    remedy: Arc<str>,
    /// Lists of servers that were judged.
    lists: Arc<AtomicU64>,
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
        let mut shard = ctx.config.demanded_labels();
        shard.retain(|key, _| key == names::AGENT || key == names::MANAGED_BY);
        Self {
            servers: ctx.servers.store.clone(),
            policies: ctx.policies.store.clone(),
            runs,
            shard: Arc::new(shard),
            lease: ctx.lease.clone(),
            remedy: brake::remedy(&ctx.config.namespace, &ctx.config.lease_name).into(),
            lists: ctx.judged_lists.clone(),
            state: Arc::new(Mutex::new(State {
                starts: None,
                ons: Rate::new(DEFAULT.ons, BURST),
                offs: Rate::new(DEFAULT.offs, BURST),
                erasures: Rate::new(DEFAULT.erasures, BURST),
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

    /// A list that lost servers, and rates that policy changed.
    fn heed(&self, state: &mut State, now: Timestamp) {
        let relisted = *self.servers.relisted().borrow();
        // A term that follows another in this process does not judge the same list again.
        if relisted.count > self.lists.fetch_max(relisted.count, Relaxed)
            && let Some(why) = brake::lost_cache(relisted.before, relisted.lost)
        {
            tracing::error!(
                before = relisted.before,
                lost = relisted.lost,
                "brake: servers vanished from the list"
            );
            self.lease
                .annotate(names::BRAKE_ENGAGED, &format!("{now} {why}"));
        }
        let wanted = self.wanted();
        if wanted != state.wanted {
            state.wanted = wanted;
            state.ons = Rate::new(wanted.ons, BURST);
            state.offs = Rate::new(wanted.offs, BURST);
            state.erasures = Rate::new(wanted.erasures, BURST);
        }
    }

    /// The lowest rates that any policy asks for: they are the shard's, not one server's.
    fn wanted(&self) -> Wanted {
        let lowest = |all: &[Arc<ServerPolicy>],
                      rate: fn(&corten_api::corten::Rates) -> Option<i32>,
                      default| {
            all.iter()
                .filter_map(|policy| policy.spec.rates.as_ref().and_then(rate))
                .filter_map(|rate| u32::try_from(rate).ok())
                .min()
                .unwrap_or(default)
        };
        if self.policies.is_empty() {
            return DEFAULT;
        }
        let all = self.policies.all();
        Wanted {
            ons: lowest(&all, |r| r.power_ons_per_minute, DEFAULT.ons),
            offs: lowest(&all, |r| r.power_offs_per_minute, DEFAULT.offs),
            erasures: lowest(&all, |r| r.erasures_per_minute, DEFAULT.erasures),
        }
    }

    /// The latest acknowledgement, on the Lease or on any policy. One from the future acknowledges nothing yet to come.
    fn acknowledged(&self) -> Option<Timestamp> {
        let now = Timestamp::now()
            .checked_add(SignedDuration::from_mins(1))
            .unwrap_or(Timestamp::MAX);
        let on_policies = self.policies.all();
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

/// How often a paused server is looked at again.
pub(super) const PAUSED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
