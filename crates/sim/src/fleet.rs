//! A fleet of machines in this process.
//!
//! ```no_run
//! # async fn example() -> Result<(), corten_sim::FleetError> {
//! use corten_sim::{Effect, Fleet, Rule, Shape};
//!
//! let fleet = Fleet::builder().machines(12).mixed().start().await?;
//! fleet.machine(3).add_fault(Rule::new(Effect::Status(503)).path("/redfish/v1/Systems/**").times(2))?;
//! println!("{}", fleet.machine(0).url());
//! # Ok(()) }
//! ```

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::blueprint::Blueprint;
use crate::clock::Clock;
use crate::counters::{Counters, Counts};
use crate::fault::{BadRule, Faults, Rule};
use crate::identity::Identity;
use crate::machine::{Machine, State};
use crate::net::{Certificates, Wire};
use crate::qemu::{Qemu, QemuError};
use crate::settings::{Behaviour, Erase, Limits, Timing};
use crate::shapes::{Inventory, Shape};

mod handle;
mod real;

use handle::Slot;
pub use handle::{Drive, MachineHandle, SystemIdentity};

/// Why a fleet did not start.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Somebody else listens there. Another address or port helps.
    #[error("machine {machine} cannot have {address}: it is taken")]
    AddressTaken {
        /// Index of the machine.
        machine: usize,
        /// Where it should have listened.
        address: SocketAddrV4,
    },
    /// Each machine needs a file descriptor, and one more for each connection.
    #[error("too few file descriptors for {machines} machines: raise RLIMIT_NOFILE (ulimit -n)")]
    TooManyFiles {
        /// Size of the fleet.
        machines: usize,
    },
    /// Listening failed otherwise.
    #[error("machine {machine} cannot listen on {address}")]
    Listen {
        /// Index of the machine.
        machine: usize,
        /// Where it should have listened.
        address: SocketAddrV4,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The address is not a loopback address, or the fleet runs out of them.
    #[error("{0} is no loopback address")]
    NotLoopback(Ipv4Addr),
    /// A fault rule makes no sense.
    #[error("unusable fault rule")]
    Rule(#[from] BadRule),
    /// Machines with a real firmware cannot be had.
    #[error("no machines with a real firmware")]
    Qemu(#[from] QemuError),
    /// No certificate could be made.
    #[error("cannot make certificates")]
    Certificate(#[from] rcgen::Error),
}

/// How a fleet is to be. See [`Fleet::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    machines: Option<usize>,
    qemu: Option<Qemu>,
    shapes: Vec<Shape>,
    inventory: Inventory,
    shared_drives: usize,
    tls: bool,
    signed: bool,
    address: Option<Ipv4Addr>,
    port: Option<u16>,
    ports: HashMap<Shape, u16>,
    timing: Timing,
    credentials: Option<(String, String)>,
    on: bool,
    ignores_shutdown: bool,
    erase: Erase,
    limits: Limits,
    rules: Vec<Rule>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            machines: None,
            qemu: None,
            shapes: vec![Shape::Dell],
            inventory: Inventory::Realistic,
            shared_drives: 0,
            tls: false,
            signed: false,
            address: None,
            port: None,
            ports: HashMap::new(),
            timing: Timing::default(),
            credentials: None,
            on: false,
            ignores_shutdown: false,
            erase: Erase::default(),
            limits: Limits::default(),
            rules: Vec::new(),
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name(mut self, $name: $kind) -> Self { self.$name = $name; self })*
    };
}

impl Builder {
    setters! {
        /// The shapes that machines take in turn.
        shapes: Vec<Shape>;
        /// How much a machine lists.
        inventory: Inventory;
        /// So many drives in the enclosure of a multi-node machine, which the Storage of every node lists.
        shared_drives: usize;
        /// HTTPS, each machine with a self-signed certificate of its own. Plain HTTP without it.
        tls: bool;
        /// How long things take.
        timing: Timing;
        /// Machines start powered on, with an operating system running.
        on: bool;
        /// Operating systems ignore a graceful shutdown.
        ignores_shutdown: bool;
        /// How drives take `Drive.SecureErase`.
        erase: Erase;
        /// What BMCs limit.
        limits: Limits;
    }

    /// How many machines with clockwork; one without it, or none beside machines with a real firmware.
    #[must_use]
    pub fn machines(mut self, machines: usize) -> Self {
        self.machines = Some(machines);
        self
    }

    /// Machines with a real firmware, which come before the others.
    #[must_use]
    pub fn qemu(mut self, qemu: Qemu) -> Self {
        self.qemu = Some(qemu);
        self
    }

    /// All machines have this shape.
    #[must_use]
    pub fn shape(mut self, shape: Shape) -> Self {
        self.shapes = vec![shape];
        self
    }

    /// Dell, HPE, Lenovo and Supermicro in turn.
    #[must_use]
    pub fn mixed(mut self) -> Self {
        self.shapes = Shape::MIXED.to_vec();
        self
    }

    /// HTTPS with certificates that [`Fleet::authority_pem`] verifies.
    #[must_use]
    pub fn signed_tls(mut self) -> Self {
        self.tls = true;
        self.signed = true;
        self
    }

    /// Address of the first machine, in 127.0.0.0/8; the others follow it. Without it, addresses that are free.
    #[must_use]
    pub fn address(mut self, first: Ipv4Addr) -> Self {
        self.address = Some(first);
        self
    }

    /// Port of all machines. Without it, a free one for each shape.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Port of the machines of one shape.
    #[must_use]
    pub fn port_of(mut self, shape: Shape, port: u16) -> Self {
        self.ports.insert(shape, port);
        self
    }

    /// How long POST takes.
    #[must_use]
    pub fn post_time(mut self, post: Duration) -> Self {
        self.timing.post = post;
        self
    }

    /// User and password of all machines, in place of the factory's.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// Fault rules for every machine.
    #[must_use]
    pub fn faults(mut self, rules: Vec<Rule>) -> Self {
        self.rules = rules;
        self
    }

    /// Starts the fleet. Listens when it returns.
    ///
    /// # Errors
    /// [`FleetError`]; with addresses given, a taken one is never replaced by another.
    pub async fn start(self) -> Result<Fleet, FleetError> {
        let tries = if self.address.is_some() { 1 } else { 32 };
        let mut last = None;
        for _ in 0..tries {
            // Loopback has room for many fleets side by side, as tests run.
            let first = self.address.unwrap_or_else(|| {
                Ipv4Addr::new(
                    127,
                    rand::random_range(16..=250),
                    rand::random_range(0..=180),
                    1,
                )
            });
            match self.bind(first).await {
                Ok(fleet) => return Ok(fleet),
                Err(error @ FleetError::AddressTaken { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(FleetError::NotLoopback(Ipv4Addr::UNSPECIFIED)))
    }

    async fn bind(&self, first: Ipv4Addr) -> Result<Fleet, FleetError> {
        let stop = CancellationToken::new();
        let clock = Clock::start();
        let certificates = if self.tls {
            Some(Arc::new(Certificates::new(self.signed)?))
        } else {
            None
        };
        let real = match &self.qemu {
            Some(qemu) => Some(real::Real::prepare(qemu).await?),
            None => None,
        };
        let reals = self.qemu.as_ref().map_or(0, |qemu| qemu.machines);
        let machines = reals + self.machines.unwrap_or(usize::from(self.qemu.is_none()));
        let mut blueprints: HashMap<(Shape, bool), Arc<Blueprint>> = HashMap::new();
        let mut ports = self.ports.clone();
        let mut slots = Vec::with_capacity(machines);
        for index in 0..machines {
            let qemu = self.qemu.as_ref().filter(|_| index < reals);
            let shape = self
                .shapes
                .get(index % self.shapes.len().max(1))
                .copied()
                .unwrap_or(Shape::Dell);
            let blueprint = blueprints
                .entry((shape, qemu.is_some()))
                .or_insert_with(|| {
                    let mut spec = shape.spec(self.inventory);
                    if spec.nodes.len() > 1 {
                        spec.shared_drives = self.shared_drives;
                    }
                    if let Some(qemu) = qemu {
                        spec.become_real(qemu);
                    }
                    Arc::new(Blueprint::new(spec))
                })
                .clone();
            let ip = u32::try_from(index)
                .ok()
                .and_then(|offset| u32::from(first).checked_add(offset))
                .map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from);
            if !ip.is_loopback() {
                return Err(FleetError::NotLoopback(ip));
            }
            let port = ports.get(&shape).copied().or(self.port).unwrap_or(0);
            let listener = listen(SocketAddrV4::new(ip, port), index, machines).await?;
            let address = match listener.local_addr() {
                Ok(std::net::SocketAddr::V4(address)) => address,
                _ => SocketAddrV4::new(ip, port),
            };
            ports.entry(shape).or_insert(address.port());
            let mut machine = self.machine(index, blueprint, &clock, address);
            let chassis = match real.as_ref().filter(|_| qemu.is_some()) {
                Some(real) => Some(real.equip(&mut machine)?),
                None => None,
            };
            let machine = Arc::new(machine);
            if let (Some(real), Some(orders)) = (&real, chassis) {
                real.keep(&machine, orders, &stop);
                if self.on {
                    machine.press_power();
                }
            }
            for rule in &self.rules {
                machine.faults.add(rule.clone())?;
            }
            let wire = Wire {
                machine,
                certificates: certificates.clone(),
                acceptor: Arc::default(),
            };
            slots.push(Arc::new(Slot::start(wire, listener, &stop)));
        }
        Ok(Fleet {
            slots,
            stop,
            certificates,
            real,
        })
    }

    fn machine(
        &self,
        index: usize,
        blueprint: Arc<Blueprint>,
        clock: &Clock,
        address: SocketAddrV4,
    ) -> Machine {
        let spec = &blueprint.spec;
        let identity = Identity {
            ip: *address.ip(),
            oui: spec.oui,
            generation: 0,
        };
        let behaviour = Behaviour {
            ignores_shutdown: self.ignores_shutdown,
            hung: false,
            erase: self.erase,
            limits: self.limits,
        };
        let (user, password) = self
            .credentials
            .clone()
            .unwrap_or_else(|| (spec.user.to_owned(), spec.password.to_owned()));
        let state = State::new(identity, &blueprint, behaviour, user, password, self.on);
        Machine {
            index,
            clock: clock.clone(),
            timing: self.timing,
            scheme: if self.tls { "https" } else { "http" },
            address,
            state: parking_lot::Mutex::new(state),
            counters: Counters::default(),
            faults: Faults::default(),
            listeners: crate::machine::event::Listeners::default(),
            real: None,
            awake: tokio::sync::Notify::new(),
            blueprint,
        }
    }
}

async fn listen(
    address: SocketAddrV4,
    machine: usize,
    machines: usize,
) -> Result<TcpListener, FleetError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| match source.raw_os_error() {
            _ if source.kind() == std::io::ErrorKind::AddrInUse => {
                FleetError::AddressTaken { machine, address }
            }
            // EMFILE and ENFILE, which std names no kind for.
            Some(23 | 24) => FleetError::TooManyFiles { machines },
            _ => FleetError::Listen {
                machine,
                address,
                source,
            },
        })
}

/// Running machines. Dropped, they are gone.
pub struct Fleet {
    slots: Vec<Arc<Slot>>,
    stop: CancellationToken,
    certificates: Option<Arc<Certificates>>,
    /// Goes last: the machines' folder.
    real: Option<real::Real>,
}

impl Fleet {
    /// One Dell on plain HTTP, off, unless told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// How many machines there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The machine at `index`.
    ///
    /// # Panics
    /// If there is none; see [`Fleet::get`].
    #[allow(
        clippy::panic,
        reason = "a test names its machines; what it names must be there"
    )]
    pub fn machine(&self, index: usize) -> MachineHandle {
        self.get(index).unwrap_or_else(|| {
            panic!(
                "the fleet has {} machines, none is number {index}",
                self.slots.len()
            )
        })
    }

    /// The machine at `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<MachineHandle> {
        self.slots.get(index).cloned().map(MachineHandle)
    }

    /// All machines.
    pub fn machines(&self) -> impl Iterator<Item = MachineHandle> + '_ {
        self.slots.iter().cloned().map(MachineHandle)
    }

    /// The counts of all machines together.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for slot in &self.slots {
            sum.merge(&slot.wire.machine.counters.read());
        }
        sum
    }

    /// Sets all counts to zero.
    pub fn reset_counts(&self) {
        for slot in &self.slots {
            slot.wire.machine.counters.reset();
        }
    }

    /// The authority that signed the certificates, with [`Builder::signed_tls`].
    pub fn authority_pem(&self) -> Option<&str> {
        self.certificates.as_ref()?.authority_pem()
    }

    /// A MAC prefix database for this fleet, in the format of metal-operator's: one entry a shape, with port and credentials.
    pub fn mac_database(&self) -> String {
        let mut seen = Vec::new();
        let mut entries = Vec::new();
        for machine in self.machines() {
            if seen.contains(&machine.shape()) {
                continue;
            }
            seen.push(machine.shape());
            let [a, b, c, ..] = machine.mac().0;
            entries.push(serde_json::json!({
                "macPrefix": format!("{a:02x}:{b:02x}:{c:02x}"),
                "manufacturer": machine.manufacturer(),
                "protocol": "Redfish",
                "protocolScheme": machine.scheme(),
                "port": machine.port(),
                "type": "bmc",
                "defaultCredentials": [{"username": machine.user(), "password": machine.password()}],
            }));
        }
        serde_json::to_string_pretty(&serde_json::json!({"macPrefixes": entries}))
            .unwrap_or_default()
    }

    /// `Endpoint` manifests of all machines, as a Kubernetes list.
    pub fn endpoints(&self) -> serde_json::Value {
        let items: Vec<serde_json::Value> = self
            .machines()
            .map(|machine| {
                serde_json::json!({
                    "apiVersion": "metal.ironcore.dev/v1alpha1", "kind": "Endpoint",
                    "metadata": {"name": format!("{}-{:05}", machine.shape(), machine.index())},
                    "spec": {"macAddress": machine.mac().to_string(), "ip": machine.ip().to_string()},
                })
            })
            .collect();
        serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items})
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(real) = &self.real {
            real.end(
                self.slots
                    .iter()
                    .filter_map(|slot| slot.wire.machine.real.as_deref()),
            );
        }
    }
}
