//! The shard's brake and rates, kept in memory and judged from what is recorded.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use parking_lot::Mutex;

use corten_api::{corten::ServerPolicy, metal::Server, names};
use corten_kit::Store;
use corten_lifecycle::{
    brake::{self, Rate, Start},
    plan::Plan,
    run::Step,
    server::Guard,
};

use crate::{config::EngineConfig, run::RunIndex};

/// The shard's limits. Clones share them.
#[derive(Clone)]
pub(super) struct Guards {
    servers: Store<Server>,
    policies: Store<ServerPolicy>,
    runs: RunIndex,
    /// Labels of this shard's runs: what another shard does is that one's brake. One that is told apart by labels which runs do not carry
    /// counts all, which is early and never late.
    shard: Arc<BTreeMap<String, String>>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Destructive starts on record and those of this process; none before the first look.
    starts: Option<Vec<Start>>,
    lost: Option<(Timestamp, String)>,
    lists: u64,
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
    pub(super) fn new(
        servers: Store<Server>,
        policies: Store<ServerPolicy>,
        runs: RunIndex,
        config: &EngineConfig,
    ) -> Self {
        let mut shard = config.demanded_labels();
        shard.retain(|key, _| key == names::AGENT || key == names::MANAGED_BY);
        Self {
            servers,
            policies,
            runs,
            shard: Arc::new(shard),
            state: Arc::new(Mutex::new(State {
                starts: None,
                lost: None,
                lists: 1,
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

    /// Counts a step that is about to be sent.
    pub(super) fn count(&self, step: &Step, now: Timestamp) {
        let mut state = self.state.lock();
        match step {
            Step::EraseDrive(_) => state.erasures.take(now),
            Step::PowerOn => state.ons.take(now),
            Step::RequestShutdown | Step::ForceOff => state.offs.take(now),
            Step::GracefulRestart | Step::ForceRestart | Step::PowerCycle => {
                state.ons.take(now);
                state.offs.take(now);
            }
            _ => {}
        }
    }

    fn judge(&self, state: &mut State, now: Timestamp) -> Option<String> {
        let acknowledged = self.acknowledged();
        if let Some((_, why)) = state
            .lost
            .as_ref()
            .filter(|(at, _)| acknowledged.is_none_or(|ack| ack < *at))
        {
            return Some(why.clone());
        }
        let since = now.checked_sub(brake::MEMORY).unwrap_or(Timestamp::MIN);
        let starts = state
            .starts
            .get_or_insert_with(|| self.runs.destructive_starts(since, &self.shard));
        starts.retain(|start| start.at > since && acknowledged.is_none_or(|ack| start.at > ack));
        brake::judge(starts, brake::limit(self.servers.len(), None), acknowledged)
    }

    /// A list that lost servers, and rates that policy changed.
    fn heed(&self, state: &mut State, now: Timestamp) {
        let relisted = *self.servers.relisted().borrow();
        if relisted.count > state.lists {
            state.lists = relisted.count;
            if let Some(why) = brake::lost_cache(relisted.before, relisted.lost) {
                tracing::error!(
                    before = relisted.before,
                    lost = relisted.lost,
                    "brake: servers vanished from the list"
                );
                state.lost = Some((now, why));
            }
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

    /// The latest acknowledgement on any policy. One from the future acknowledges nothing yet to come.
    fn acknowledged(&self) -> Option<Timestamp> {
        if self.policies.is_empty() {
            return None;
        }
        let now = Timestamp::now()
            .checked_add(SignedDuration::from_mins(1))
            .unwrap_or(Timestamp::MAX);
        self.policies
            .all()
            .iter()
            .filter_map(|policy| {
                policy
                    .annotations()
                    .get(names::BRAKE_ACKNOWLEDGED)?
                    .trim()
                    .parse::<Timestamp>()
                    .ok()
            })
            .filter(|at| *at <= now)
            .max()
    }
}

/// How often a paused server is looked at again.
pub(super) const PAUSED: Duration = Duration::from_secs(60);
