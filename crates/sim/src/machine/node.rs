//! Power and boot of one computer system.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::machine::{Happened, Machine, Medium, Reset, State};
use crate::qemu::chassis::Order;
use crate::qemu::console::Progress;
use crate::settings::Timing;
use crate::shapes::Redundant;

/// Power, with what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    Off,
    /// On since then.
    On {
        since: Moment,
    },
    PoweringOn {
        until: Moment,
    },
    PoweringOff {
        until: Moment,
        then_on: bool,
    },
    /// Between off and on of a power cycle.
    Cycling {
        until: Moment,
    },
}

/// What a machine booted last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Since the fleet's start.
    pub at: Duration,
    /// `BootSourceOverrideTarget` that decided, or `None` for the boot order.
    pub target: String,
    /// `UEFI` or `Legacy`.
    pub mode: String,
    /// Image in the virtual drive, when the target was a medium.
    pub image: Option<String>,
    /// URI of an HTTP boot.
    pub uri: Option<String>,
    /// How many boots there were, with this one.
    pub count: u32,
}

/// `Boot` of a ComputerSystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    pub enabled: String,
    pub target: String,
    pub mode: String,
    pub uefi_target: Option<String>,
    pub uri: Option<String>,
}

impl Override {
    pub fn none() -> Self {
        Self {
            enabled: "Disabled".into(),
            target: "None".into(),
            mode: "UEFI".into(),
            uefi_target: None,
            uri: None,
        }
    }
}

pub(crate) struct Node {
    pub power: Power,
    pub boot: Override,
    pub boot_order: Option<Vec<String>>,
    pub led: &'static str,
    pub last_reset: Moment,
    /// Set when POST of the present power-on has ended.
    pub booted: Option<Box<Boot>>,
    /// POST of this power-on has been settled.
    posted: bool,
    boots: u32,
    /// BIOS attributes that differ from the delivered ones.
    pub bios: BTreeMap<String, serde_json::Value>,
    pub bios_pending: BTreeMap<String, serde_json::Value>,
    /// Attributes go back to defaults at the next boot.
    pub bios_reset: bool,
    /// How far a real firmware has come; none: the clockwork says.
    pub progress: Option<Progress>,
    /// What a real firmware that is still at POST was told to boot.
    pub booting: Option<Override>,
}

/// What a request for a reset led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetOutcome {
    Accepted,
    /// The system is already in that state.
    Redundant,
    Unsupported,
}

impl Node {
    pub fn new(on: bool) -> Self {
        Self {
            power: if on {
                Power::On { since: Moment(0) }
            } else {
                Power::Off
            },
            boot: Override::none(),
            boot_order: None,
            led: "Off",
            last_reset: Moment(0),
            booted: None,
            posted: on,
            boots: 0,
            bios: BTreeMap::new(),
            bios_pending: BTreeMap::new(),
            bios_reset: false,
            progress: None,
            booting: None,
        }
    }

    /// A node with a real firmware, off.
    pub fn real() -> Self {
        Self {
            progress: Some(Progress::Started),
            ..Self::new(false)
        }
    }

    /// `PowerState`.
    pub fn power_state(&self) -> &'static str {
        match self.power {
            Power::Off | Power::Cycling { .. } => "Off",
            Power::On { .. } => "On",
            Power::PoweringOn { .. } => "PoweringOn",
            Power::PoweringOff { .. } => "PoweringOff",
        }
    }

    pub fn is_on(&self) -> bool {
        matches!(self.power, Power::On { .. } | Power::PoweringOff { .. })
    }

    /// `BootProgress.LastState`.
    pub fn boot_progress(&self, now: Moment, timing: &Timing) -> &'static str {
        let Power::On { since } = self.power else {
            return "None";
        };
        if let Some(progress) = self.progress {
            return progress.as_str();
        }
        let (passed, post) = (now.since(since), timing.post);
        if self.posted {
            match self.booted.as_ref().map(|boot| boot.target.as_str()) {
                Some("BiosSetup") => "SetupEntered",
                _ if now.since(since) < post + post / 4 => "OSBootStarted",
                _ => "OSRunning",
            }
        } else if passed < post / 4 {
            "PrimaryProcessorInitializationStarted"
        } else if passed < post / 2 {
            "MemoryInitializationStarted"
        } else if passed < post * 3 / 4 {
            "PCIResourceConfigStarted"
        } else {
            "SystemHardwareInitializationComplete"
        }
    }

    pub fn due(&self, timing: &Timing) -> Option<Moment> {
        if self.progress.is_some() {
            return None;
        }
        match self.power {
            Power::Off => None,
            Power::On { since } => (!self.posted).then(|| since.after(timing.post)),
            Power::PoweringOn { until }
            | Power::PoweringOff { until, .. }
            | Power::Cycling { until } => Some(until),
        }
    }

    pub fn turn_on(&mut self, at: Moment) {
        self.power = Power::On { since: at };
        self.last_reset = at;
        self.posted = false;
        self.booted = None;
    }
}

impl Node {
    /// The override that the next boot is to follow; one for once is gone with that.
    pub fn take_override(&mut self) -> Override {
        let boot = self.boot.clone();
        self.forget_once();
        boot
    }

    fn forget_once(&mut self) {
        if self.boot.enabled == "Once" {
            self.boot.enabled = "Disabled".into();
            self.boot.target = "None".into();
            self.boot.uefi_target = None;
        }
    }
}

impl State {
    /// A real firmware has come so far. `began` tells this power-on from one that has followed it.
    pub fn progressed(&mut self, index: usize, progress: Progress, began: Moment, now: Moment) {
        let medium = self
            .media
            .iter()
            .find(|((owner, _), _)| *owner == index)
            .map(|(_, medium)| medium.clone());
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        if node.last_reset > began || !node.is_on() {
            return;
        }
        node.progress = node.progress.max(Some(progress));
        if let Some(boot) = node.booting.take() {
            finish_post(node, now, medium.as_ref(), &boot);
        }
    }

    /// Hands what a `Reset` of `kind` asks for to the process behind the BMC.
    fn reset_real(
        &mut self,
        index: usize,
        kind: &str,
        now: Moment,
        machine: &Machine,
    ) -> ResetOutcome {
        let (Some(node), Some(chassis)) = (self.nodes.get_mut(index), &machine.real) else {
            return ResetOutcome::Unsupported;
        };
        let on = !matches!(node.power, Power::Off);
        let accepts = machine.blueprint.spec.redundant == Redundant::Accept;
        // The process's own word ends these states.
        let until = Moment(u64::MAX);
        let (order, power) = match (kind, on) {
            ("On" | "ForceOn" | "PushPowerButton", false) => {
                (Order::On, Some(Power::PoweringOn { until }))
            }
            ("ForceRestart" | "GracefulRestart" | "PowerCycle", false) if accepts => {
                (Order::On, Some(Power::PoweringOn { until }))
            }
            ("ForceOff", true) => (
                Order::ForceOff,
                Some(Power::PoweringOff {
                    until,
                    then_on: false,
                }),
            ),
            // A system that does not listen stays on, and real BMCs show it so.
            ("GracefulShutdown" | "Off" | "PushPowerButton", true) => (Order::Shutdown, None),
            ("GracefulRestart", true) => (Order::GracefulRestart, None),
            ("ForceRestart", true) => (Order::ForceRestart, None),
            ("PowerCycle", true) => (Order::Cycle, None),
            ("Nmi", true) => (Order::Nmi, None),
            ("On" | "ForceOn" | "ForceOff" | "GracefulShutdown" | "Off", _)
            | ("ForceRestart" | "GracefulRestart" | "PowerCycle" | "Nmi", false) => {
                return ResetOutcome::Redundant;
            }
            _ => return ResetOutcome::Unsupported,
        };
        if let Err(error) = chassis.orders.try_send(order) {
            tracing::warn!(machine = machine.index, %error, "too many resets at once");
            return ResetOutcome::Unsupported;
        }
        if let Some(power) = power {
            node.power = power;
        }
        self.resets.push(Reset {
            at: Duration::from_millis(now.0),
            node: Some(index),
            kind: kind.to_owned(),
        });
        ResetOutcome::Accepted
    }

    pub(super) fn settle_node(
        &mut self,
        index: usize,
        now: Moment,
        machine: &Machine,
        happened: &mut Vec<Happened>,
    ) {
        // A node passes through a few states at most; the bound keeps zero-length timings from looping.
        for _ in 0..8 {
            let Some(node) = self.nodes.get_mut(index) else {
                return;
            };
            let Some(due) = node.due(&machine.timing).filter(|due| *due <= now) else {
                return;
            };
            match node.power {
                Power::Off => return,
                Power::On { .. } => {
                    let medium = self
                        .media
                        .iter()
                        .find(|((owner, _), _)| *owner == index)
                        .map(|(_, medium)| medium.clone());
                    if let Some(node) = self.nodes.get_mut(index) {
                        let boot = node.take_override();
                        finish_post(node, due, medium.as_ref(), &boot);
                    }
                }
                Power::PoweringOn { .. } | Power::Cycling { .. } => {
                    node.turn_on(due);
                    happened.push(Happened::PowerState {
                        node: index,
                        state: "On",
                    });
                }
                Power::PoweringOff { then_on: true, .. } => {
                    node.turn_on(due);
                    happened.push(Happened::PowerState {
                        node: index,
                        state: "On",
                    });
                }
                Power::PoweringOff { then_on: false, .. } => {
                    node.power = Power::Off;
                    happened.push(Happened::PowerState {
                        node: index,
                        state: "Off",
                    });
                }
            }
        }
    }

    /// Does what a `Reset` of `kind` asks for.
    pub fn reset(
        &mut self,
        index: usize,
        kind: &str,
        now: Moment,
        machine: &Machine,
    ) -> ResetOutcome {
        if machine.real.is_some() {
            return self.reset_real(index, kind, now, machine);
        }
        let timing = machine.timing;
        let ignores = self.behaviour.ignores_shutdown;
        let Some(node) = self.nodes.get_mut(index) else {
            return ResetOutcome::Unsupported;
        };
        let on = !matches!(node.power, Power::Off);
        let graceful = |node: &mut Node, then_on| {
            if !ignores && matches!(node.power, Power::On { .. }) {
                node.power = Power::PoweringOff {
                    until: now.after(timing.shutdown),
                    then_on,
                };
            }
        };
        let start = |node: &mut Node| {
            if timing.power_on.is_zero() {
                node.turn_on(now);
            } else {
                node.power = Power::PoweringOn {
                    until: now.after(timing.power_on),
                };
            }
        };
        match (kind, on) {
            ("On" | "ForceOn", true) | ("ForceOff" | "GracefulShutdown" | "Off", false) => {
                return ResetOutcome::Redundant;
            }
            // iDRAC and iLO refuse to restart what is off, the others turn it on.
            ("ForceRestart" | "GracefulRestart" | "PowerCycle", false)
                if machine.blueprint.spec.redundant == Redundant::Accept =>
            {
                start(node);
            }
            ("ForceRestart" | "GracefulRestart" | "PowerCycle" | "Nmi", false) => {
                return ResetOutcome::Redundant;
            }
            ("On" | "ForceOn" | "PushPowerButton", false) => start(node),
            ("ForceOff", true) => node.power = Power::Off,
            ("GracefulShutdown" | "Off" | "PushPowerButton", true) => graceful(node, false),
            ("GracefulRestart", true) => graceful(node, true),
            ("ForceRestart", true) => node.turn_on(now),
            ("PowerCycle", true) => {
                node.power = Power::Cycling {
                    until: now.after(timing.cycle),
                }
            }
            ("Nmi", true) => {}
            _ => return ResetOutcome::Unsupported,
        }
        self.resets.push(Reset {
            at: Duration::from_millis(now.0),
            node: Some(index),
            kind: kind.to_owned(),
        });
        ResetOutcome::Accepted
    }
}

/// The end of POST: pending settings apply, `boot` decides what boots.
fn finish_post(node: &mut Node, at: Moment, medium: Option<&Medium>, boot: &Override) {
    node.posted = true;
    if std::mem::take(&mut node.bios_reset) {
        node.bios.clear();
    }
    node.bios.append(&mut node.bios_pending);
    node.boots += 1;
    let active = boot.enabled != "Disabled";
    let target = if active {
        boot.target.clone()
    } else {
        "None".to_owned()
    };
    let from_medium = matches!(target.as_str(), "Cd" | "Usb" | "Floppy" | "UsbCd");
    let uri = if target == "UefiHttp" {
        boot.uri.clone()
    } else {
        None
    };
    node.booted = Some(Box::new(Boot {
        at: Duration::from_millis(at.0),
        target,
        mode: boot.mode.clone(),
        image: medium
            .filter(|_| from_medium)
            .map(|medium| medium.image.clone()),
        uri,
        count: node.boots,
    }));
}
