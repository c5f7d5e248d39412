//! One machine: its state, and the clockwork that moves it.
//!
//! Nothing runs while nobody looks. What time does to a machine (POST ends, a shutdown completes, a task finishes) is worked
//! out from time stamps when the machine is next asked, in [`State::settle`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use crate::blueprint::Blueprint;
use crate::clock::{Clock, Moment};
use crate::counters::Counters;
use crate::fault::Faults;
use crate::identity::Identity;
use crate::settings::{Behaviour, Timing};

pub(crate) mod account;
pub(crate) mod event;
pub(crate) mod node;
pub(crate) mod task;

use account::{Account, Session};
use event::Listeners;
use node::Node;
use task::Task;

/// A machine of the fleet. Shared by its listener, the admin API and the test that owns the fleet.
pub(crate) struct Machine {
    pub index: usize,
    pub blueprint: Arc<Blueprint>,
    pub clock: Clock,
    pub timing: Timing,
    pub scheme: &'static str,
    pub address: std::net::SocketAddrV4,
    pub state: Mutex<State>,
    pub counters: Counters,
    pub faults: Faults,
    pub listeners: Listeners,
    /// The process behind the BMC, for a machine with a real firmware.
    pub real: Option<Arc<crate::qemu::chassis::Chassis>>,
    /// Raised when a hung machine comes back.
    pub awake: tokio::sync::Notify,
}

/// What one machine remembers.
pub(crate) struct State {
    pub identity: Identity,
    pub behaviour: Behaviour,
    pub nodes: Box<[Node]>,
    pub media: BTreeMap<(usize, usize), Medium>,
    pub drives: BTreeMap<usize, Contents>,
    pub accounts: Vec<Account>,
    pub sessions: Vec<Session>,
    pub next_session: u64,
    pub tasks: Vec<Task>,
    pub next_task: u64,
    pub subscriptions: Vec<event::Subscription>,
    pub next_subscription: u64,
    /// Patched values, by document and writable property.
    pub settings: BTreeMap<(usize, usize), Value>,
    /// Firmware versions that were installed, by row of the inventory.
    pub firmware: BTreeMap<usize, String>,
    pub resets: Vec<Reset>,
    pub manager_start: Moment,
    /// The BMC is resetting itself until then.
    pub manager_back: Option<Moment>,
    pub logs_cleared: bool,
    /// Events that a request asked for.
    pub pending_events: Vec<Happened>,
}

/// What is on a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Data, with a mark that says whose.
    Data(String),
    /// Erased, nothing can be read back.
    Erased,
}

/// An inserted virtual medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Medium {
    pub image: String,
    pub write_protected: bool,
    pub user: Option<String>,
    pub method: Option<String>,
    pub protocol: Option<String>,
}

/// A reset that a machine accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Since the fleet's start.
    pub at: Duration,
    /// Index of the node, or none for the BMC itself.
    pub node: Option<usize>,
    /// `ResetType` as it was sent.
    pub kind: String,
}

impl Machine {
    /// Turns a machine with a real firmware on, as a hand on the button does.
    pub fn press_power(&self) {
        self.with_state(|state, now| {
            state.reset(0, "On", now, self);
            state.resets.pop();
        });
    }

    /// The state, brought up to now. Tells listeners what happened meanwhile.
    pub fn with_state<R>(&self, f: impl FnOnce(&mut State, Moment) -> R) -> R {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let happened = state.settle(now, self);
        let result = f(&mut state, now);
        let more = state.settle(now, self);
        if !state.subscriptions.is_empty() || self.listeners.any() {
            self.listeners.wake();
            drop(state);
            self.listeners.tell(self, happened.into_iter().chain(more));
        }
        result
    }
}

/// Something that an event tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    PowerState { node: usize, state: &'static str },
    Task { id: u64, state: &'static str },
    Test { message_id: String },
}

impl State {
    pub fn new(
        identity: Identity,
        blueprint: &Blueprint,
        behaviour: Behaviour,
        user: String,
        password: String,
        on: bool,
    ) -> Self {
        Self {
            identity,
            behaviour,
            nodes: blueprint.spec.nodes.iter().map(|_| Node::new(on)).collect(),
            media: BTreeMap::new(),
            drives: BTreeMap::new(),
            accounts: vec![Account::first(&blueprint.spec, user, password)],
            sessions: Vec::new(),
            next_session: 1,
            tasks: Vec::new(),
            next_task: 1,
            subscriptions: Vec::new(),
            next_subscription: 1,
            settings: BTreeMap::new(),
            firmware: BTreeMap::new(),
            resets: Vec::new(),
            manager_start: Moment(0),
            manager_back: None,
            logs_cleared: false,
            pending_events: Vec::new(),
        }
    }

    /// Does all that was due by `now`, in order.
    fn settle(&mut self, now: Moment, machine: &Machine) -> Vec<Happened> {
        let mut happened = std::mem::take(&mut self.pending_events);
        for index in 0..self.nodes.len() {
            self.settle_node(index, now, machine, &mut happened);
        }
        task::settle(self, now, &mut happened);
        happened
    }

    /// When something is next due, if anything is under way.
    pub fn next_due(&self, timing: &Timing) -> Option<Moment> {
        self.nodes
            .iter()
            .filter_map(|node| node.due(timing))
            .chain(self.tasks.iter().filter_map(Task::due))
            .min()
    }
}
