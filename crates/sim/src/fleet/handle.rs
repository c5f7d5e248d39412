//! What a test sees of a machine, and may do to it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::counters::Counts;
use crate::fault::{BadRule, Rule};
use crate::identity::MacAddress;
use crate::machine::node::{Boot, Power};
use crate::machine::{Contents, Happened, Machine, Reset, State};
use crate::net::Wire;
use crate::qemu::QemuHandle;
use crate::settings::{Erase, Limits};
use crate::shapes::Shape;

use super::FleetError;

/// A machine and its place on the network.
pub(crate) struct Slot {
    pub wire: Wire,
    fleet: CancellationToken,
    listening: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

impl Slot {
    pub fn start(wire: Wire, listener: TcpListener, fleet: &CancellationToken) -> Self {
        let slot = Self {
            wire,
            fleet: fleet.clone(),
            listening: Mutex::new(None),
        };
        slot.listen(listener);
        slot
    }

    fn listen(&self, listener: TcpListener) {
        let stop = self.fleet.child_token();
        let task = tokio::spawn(self.wire.clone().listen(listener, stop.clone()));
        *self.listening.lock() = Some((stop, task));
    }
}

/// Who a computer system is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemIdentity {
    /// `Id` of the ComputerSystem.
    pub id: String,
    /// Path of the ComputerSystem.
    pub path: String,
    /// `UUID`.
    pub uuid: String,
    /// `SerialNumber`.
    pub serial: String,
    /// MACs of the network ports.
    pub macs: Vec<String>,
    /// Serial numbers of the drives.
    pub drives: Vec<String>,
}

/// A drive and what is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Index of the system that it belongs to.
    pub node: usize,
    /// `SerialNumber`.
    pub serial: String,
    /// Path of the Drive.
    pub path: String,
    /// What is on it.
    pub contents: Contents,
}

/// One machine of a fleet.
#[derive(Clone)]
pub struct MachineHandle(pub(super) Arc<Slot>);

impl MachineHandle {
    fn machine(&self) -> &Machine {
        &self.0.wire.machine
    }

    fn state<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.machine().with_state(|state, _| f(state))
    }

    /// Its process, disks and console, if it has a real firmware.
    pub fn qemu(&self) -> Option<QemuHandle> {
        let chassis = self.machine().real.clone()?;
        let identity = self.state(|state| state.identity);
        let serials = (0..chassis.disks.len())
            .map(|i| identity.part_serial("drive", i))
            .collect();
        Some(QemuHandle { chassis, serials })
    }

    /// Its number in the fleet.
    pub fn index(&self) -> usize {
        self.machine().index
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.machine().blueprint.spec.shape
    }

    /// `Manufacturer` of its systems.
    pub fn manufacturer(&self) -> &'static str {
        self.machine().blueprint.spec.manufacturer
    }

    /// `Model` of its systems.
    pub fn model(&self) -> &'static str {
        self.machine().blueprint.spec.model
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        self.machine().scheme
    }

    /// Base URL, without a path.
    pub fn url(&self) -> String {
        format!("{}://{}", self.machine().scheme, self.machine().address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.machine().address
    }

    /// Its address.
    pub fn ip(&self) -> Ipv4Addr {
        *self.machine().address.ip()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.machine().address.port()
    }

    /// MAC of the BMC.
    pub fn mac(&self) -> MacAddress {
        self.state(|state| state.identity.bmc_mac())
    }

    /// Name of the first account.
    pub fn user(&self) -> String {
        self.state(|state| {
            state
                .accounts
                .first()
                .map(|account| account.user.clone())
                .unwrap_or_default()
        })
    }

    /// Password of the first account, as it is now.
    pub fn password(&self) -> String {
        self.state(|state| {
            state
                .accounts
                .first()
                .map(|account| account.password.clone())
                .unwrap_or_default()
        })
    }

    /// Changes the first account's password behind everybody's back.
    pub fn set_password(&self, password: impl Into<String>) {
        let password = password.into();
        self.state(|state| {
            if let Some(account) = state.accounts.first_mut() {
                account.password = password;
            }
            state.sessions.clear();
        });
    }

    /// Who its systems are.
    pub fn systems(&self) -> Vec<SystemIdentity> {
        let blueprint = Arc::clone(&self.machine().blueprint);
        let identity = self.state(|state| state.identity);
        let spec = &blueprint.spec;
        (0..spec.nodes.len())
            .map(|node| SystemIdentity {
                id: spec.nodes.get(node).cloned().unwrap_or_default(),
                path: spec.system(node),
                uuid: identity.system_uuid(node).to_string(),
                serial: identity.system_serial(node),
                macs: blueprint
                    .ports
                    .iter()
                    .filter(|(owner, _)| *owner == node)
                    .map(|(_, port)| identity.port_mac(*port).to_string())
                    .collect(),
                drives: blueprint
                    .drives
                    .iter()
                    .enumerate()
                    .filter(|(_, drive)| drive.node == node)
                    .map(|(i, _)| identity.part_serial("drive", i))
                    .collect(),
            })
            .collect()
    }

    /// UUID of the first system.
    pub fn uuid(&self) -> String {
        self.state(|state| state.identity.system_uuid(0).to_string())
    }

    /// Serial number of the first system.
    pub fn serial(&self) -> String {
        self.state(|state| state.identity.system_serial(0))
    }

    /// `PowerState` of the first system.
    pub fn power_state(&self) -> &'static str {
        self.power_state_of(0)
    }

    /// `PowerState` of a system.
    pub fn power_state_of(&self, node: usize) -> &'static str {
        self.state(|state| {
            state
                .nodes
                .get(node)
                .map_or("Off", |node| node.power_state())
        })
    }

    /// `BootProgress.LastState` of the first system.
    pub fn boot_progress(&self) -> &'static str {
        let timing = self.machine().timing;
        self.machine().with_state(|state, now| {
            state
                .nodes
                .first()
                .map_or("None", |node| node.boot_progress(now, &timing))
        })
    }

    /// Turns a system on (POST begins) or off at once, as a hand on the button would; no reset is recorded.
    pub fn set_power(&self, node: usize, on: bool) {
        if let Some(chassis) = &self.machine().real {
            match on {
                true if self.power_state() == "Off" => self.machine().press_power(),
                true => {}
                false => chassis.kill(),
            }
            return;
        }
        self.machine().with_state(|state, now| {
            if let Some(node) = state.nodes.get_mut(node) {
                if on {
                    node.turn_on(now);
                } else {
                    node.power = Power::Off;
                }
            }
            let state_name = if on { "On" } else { "Off" };
            state.pending_events.push(Happened::PowerState {
                node,
                state: state_name,
            });
        });
    }

    /// `BootSourceOverrideEnabled` and `BootSourceOverrideTarget` of the first system.
    pub fn boot_override(&self) -> (String, String) {
        self.state(|state| {
            state
                .nodes
                .first()
                .map(|node| (node.boot.enabled.clone(), node.boot.target.clone()))
                .unwrap_or_default()
        })
    }

    /// Sets an override for the next boot of the first system, as somebody at its console would.
    pub fn set_boot_override(&self, target: &str, uri: Option<&str>) {
        self.state(|state| {
            if let Some(node) = state.nodes.first_mut() {
                node.boot.enabled = "Once".to_owned();
                node.boot.target = target.to_owned();
                node.boot.uri = uri.map(str::to_owned);
            }
        });
    }

    /// What the first system booted since it was last turned on; none before POST has ended.
    pub fn booted(&self) -> Option<Boot> {
        self.booted_of(0)
    }

    /// What a system booted since it was last turned on.
    pub fn booted_of(&self, node: usize) -> Option<Boot> {
        self.state(|state| {
            state
                .nodes
                .get(node)
                .and_then(|node| node.booted.as_deref().cloned())
        })
    }

    /// `IndicatorLED` of the first system.
    pub fn led(&self) -> &'static str {
        self.state(|state| state.nodes.first().map_or("Off", |node| node.led))
    }

    /// Images in the virtual drives of a system.
    pub fn media(&self, node: usize) -> Vec<String> {
        self.state(|state| {
            state
                .media
                .iter()
                .filter(|((owner, _), _)| *owner == node)
                .map(|(_, medium)| medium.image.clone())
                .collect()
        })
    }

    /// Resets that were accepted, in order.
    pub fn resets(&self) -> Vec<Reset> {
        self.state(|state| state.resets.clone())
    }

    /// BIOS attributes in force on the first system.
    pub fn bios(&self) -> serde_json::Map<String, serde_json::Value> {
        self.state(|state| self.machine().bios(state, 0))
    }

    /// Its drives and what is on them.
    pub fn drives(&self) -> Vec<Drive> {
        let blueprint = Arc::clone(&self.machine().blueprint);
        self.state(|state| {
            blueprint
                .drives
                .iter()
                .enumerate()
                .map(|(i, drive)| Drive {
                    node: drive.node,
                    serial: state.identity.part_serial("drive", i),
                    path: drive.path.clone(),
                    contents: state
                        .drives
                        .get(&i)
                        .cloned()
                        .unwrap_or_else(|| Contents::Data("factory".into())),
                })
                .collect()
        })
    }

    /// Writes `mark` on all drives, as a tenant would.
    pub fn write_drives(&self, mark: &str) {
        let count = self.machine().blueprint.drives.len();
        self.state(|state| {
            for drive in 0..count {
                state.drives.insert(drive, Contents::Data(mark.to_owned()));
            }
        });
    }

    /// One entry of its firmware inventory has another version, as after an update by hand.
    pub fn set_firmware(&self, entry: usize, version: &str) {
        self.state(|state| {
            state.firmware.insert(entry, version.to_owned());
        });
    }

    /// Open sessions.
    pub fn sessions(&self) -> usize {
        self.machine().with_state(|state, now| {
            state.expire_sessions(now, self.machine());
            state.sessions.len()
        })
    }

    /// Forgets all sessions, as a BMC does that restarts.
    pub fn drop_sessions(&self) {
        self.state(|state| state.sessions.clear());
    }

    /// Event subscriptions.
    pub fn subscriptions(&self) -> Vec<String> {
        self.state(|state| {
            state
                .subscriptions
                .iter()
                .map(|subscription| subscription.destination.clone())
                .collect()
        })
    }

    /// What it was asked.
    pub fn counts(&self) -> Counts {
        self.machine().counters.read()
    }

    /// Sets the counts to zero.
    pub fn reset_counts(&self) {
        self.machine().counters.reset();
    }

    /// From now on keeps every request's method and path, for [`MachineHandle::journal`]; or forgets them.
    pub fn record(&self, on: bool) {
        self.machine().counters.record(on);
    }

    /// `METHOD path` of the requests since [`MachineHandle::record`].
    pub fn journal(&self) -> Vec<String> {
        self.machine().counters.journal()
    }

    /// Adds a fault.
    ///
    /// # Errors
    /// If the rule makes no sense.
    pub fn add_fault(&self, rule: Rule) -> Result<(), BadRule> {
        self.machine().faults.add(rule)
    }

    /// Takes all fault rules away.
    pub fn clear_faults(&self) {
        self.machine().faults.clear();
    }

    /// The fault rules, with or without requests left.
    pub fn faults(&self) -> Vec<Rule> {
        self.machine().faults.list()
    }

    /// From now on accepts and never answers; or answers all that waited.
    pub fn hang(&self, hung: bool) {
        self.state(|state| state.behaviour.hung = hung);
        self.machine().awake.notify_waiters();
    }

    /// Whether it hangs.
    pub fn is_hung(&self) -> bool {
        self.state(|state| state.behaviour.hung)
    }

    /// Whether the operating system ignores a graceful shutdown.
    pub fn ignore_shutdown(&self, ignores: bool) {
        self.state(|state| state.behaviour.ignores_shutdown = ignores);
    }

    /// How its drives take an erasure.
    pub fn set_erase(&self, erase: Erase) {
        self.state(|state| state.behaviour.erase = erase);
    }

    /// What its BMC limits.
    pub fn set_limits(&self, limits: Limits) {
        self.state(|state| state.behaviour.limits = limits);
    }

    /// Closes the port and cuts all connections: refused from now on.
    pub async fn unplug(&self) {
        let listening = self.0.listening.lock().take();
        if let Some((stop, task)) = listening {
            stop.cancel();
            let _ = task.await;
        }
    }

    /// Listens again at the same place.
    ///
    /// # Errors
    /// If somebody else took the port meanwhile.
    pub async fn replug(&self) -> Result<(), FleetError> {
        if self.0.listening.lock().is_some() {
            return Ok(());
        }
        let listener = super::listen(self.address(), self.index(), 1).await?;
        self.0.listen(listener);
        Ok(())
    }

    /// Whether it listens.
    pub fn is_plugged(&self) -> bool {
        self.0.listening.lock().is_some()
    }

    /// Another machine of the same shape stands at this address: other UUIDs, serials, MACs and, with TLS, certificate.
    pub fn replace_identity(&self) {
        self.state(|state| {
            state.identity.generation += 1;
            state.sessions.clear();
        });
        self.replace_certificate();
    }

    /// Only the certificate is another.
    pub fn replace_certificate(&self) {
        let mut slot = self.0.wire.acceptor.lock();
        slot.0 += 1;
        slot.1 = None;
    }

    /// Time since the fleet's start, to compare with a [`Reset`]'s or a [`Boot`]'s.
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.machine().clock.now().0)
    }
}
