//! The vendors' shapes: where each keeps its things, what it offers and how it names it.
//!
//! Sources: recordings of real machines (PowerEdge R750 iDRAC9 6.00, ProLiant DL380a Gen11 iLO 6 1.66, ThinkSystem SR670 V2
//! XCC 2.83, SYS-821GE-TNHR 11.01, OpenBMC 2.15, Cray EX420, DGX H100 23.11) and the table in `docs/simulator.md`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod dell;
mod dgx;
mod hpe;
mod lenovo;
mod multinode;
mod openbmc;
mod supermicro;

/// A vendor's way of building a Redfish service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Dell PowerEdge R750 with iDRAC9.
    Dell,
    /// HPE ProLiant DL380 Gen11 with iLO 6.
    Hpe,
    /// Lenovo ThinkSystem SR650 V2 with XCC.
    Lenovo,
    /// Supermicro SYS-221H with an AST2600 BMC.
    Supermicro,
    /// A server with stock OpenBMC.
    OpenBmc,
    /// Four nodes behind one BMC, like HPE Cray EX.
    MultiNode,
    /// Eight GPUs behind two management controllers, like NVIDIA DGX H100.
    Dgx,
}

impl Shape {
    /// All shapes.
    pub const ALL: [Self; 7] = [
        Self::Dell,
        Self::Hpe,
        Self::Lenovo,
        Self::Supermicro,
        Self::OpenBmc,
        Self::MultiNode,
        Self::Dgx,
    ];

    /// The four vendors of the demo, which a mixed fleet takes in turn.
    pub const MIXED: [Self; 4] = [Self::Dell, Self::Hpe, Self::Lenovo, Self::Supermicro];

    /// Lower-case name, as on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dell => "dell",
            Self::Hpe => "hpe",
            Self::Lenovo => "lenovo",
            Self::Supermicro => "supermicro",
            Self::OpenBmc => "openbmc",
            Self::MultiNode => "multinode",
            Self::Dgx => "dgx",
        }
    }

    pub(crate) fn spec(self, inventory: Inventory) -> Spec {
        let mut spec = match self {
            Self::Dell => dell::spec(),
            Self::Hpe => hpe::spec(),
            Self::Lenovo => lenovo::spec(),
            Self::Supermicro => supermicro::spec(),
            Self::OpenBmc => openbmc::spec(),
            Self::MultiNode => multinode::spec(),
            Self::Dgx => dgx::spec(),
        };
        if inventory == Inventory::Small {
            spec.shrink();
        }
        spec
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no shape.
#[derive(Debug, thiserror::Error)]
#[error(
    "no shape is called {0:?}; there are dell, hpe, lenovo, supermicro, openbmc, multinode and dgx"
)]
pub struct UnknownShape(String);

impl FromStr for Shape {
    type Err = UnknownShape;

    fn from_str(text: &str) -> Result<Self, UnknownShape> {
        Self::ALL
            .into_iter()
            .find(|shape| shape.as_str() == text)
            .ok_or_else(|| UnknownShape(text.to_owned()))
    }
}

/// How much a machine lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inventory {
    /// As many parts as the real machine.
    #[default]
    Realistic,
    /// Two DIMMs, two drives, one network card.
    Small,
}

/// Where a machine shows its virtual media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaPlace {
    Managers,
    Both,
    Nowhere,
}

/// How a machine says which reset types it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetNames {
    AllowableValues,
    ActionInfo,
    Both,
}

/// Which property lights the locator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LedProperty {
    Indicator,
    Location,
    Both,
}

/// What `$expand` a service takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expand {
    pub levels: u8,
    /// `*`
    pub all: bool,
    /// `~`
    pub links: bool,
    /// `.`
    pub no_links: bool,
}

/// What a push of the power button in the state that it asks for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redundant {
    /// Success, nothing happens.
    Accept,
    /// 409, as iDRAC.
    Conflict,
    /// 400, as iLO.
    Refuse,
}

#[derive(Clone, Debug)]
pub(crate) struct MediaSpec {
    /// Id under Systems.
    pub system_id: &'static str,
    /// Id under Managers, which can differ.
    pub manager_id: &'static str,
    pub types: &'static [&'static str],
}

#[derive(Clone, Debug)]
pub(crate) struct Cpu {
    pub id: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Controller {
    pub id: &'static str,
    pub name: &'static str,
    pub model: &'static str,
    pub protocol: &'static str,
    pub media: &'static str,
    pub drive_model: &'static str,
    pub drive_maker: &'static str,
    pub drive_bytes: u64,
    pub drives: Vec<String>,
    pub volumes: usize,
    pub erasable: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Adapter {
    pub id: &'static str,
    pub maker: &'static str,
    pub model: &'static str,
    pub gbps: u64,
    /// Ids of the ports' EthernetInterfaces.
    pub ports: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Gpu {
    pub count: usize,
    pub maker: &'static str,
    pub model: &'static str,
    pub memory_gib: u64,
    /// Another ComputerSystem that lists them, as HGX baseboards do.
    pub baseboard: Option<&'static str>,
}

/// All that tells one shape from another.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub shape: Shape,
    pub vendor: Option<&'static str>,
    pub product: Option<&'static str>,
    pub manufacturer: &'static str,
    pub model: &'static str,
    pub sku: &'static str,
    pub redfish_version: &'static str,
    pub root_schema: &'static str,
    pub system_schema: &'static str,
    pub manager_schema: &'static str,
    pub oui: [u8; 3],
    pub user: &'static str,
    pub password: &'static str,
    pub nodes: Vec<String>,
    pub manager: &'static str,
    pub manager_model: &'static str,
    pub manager_type: &'static str,
    pub firmware_version: &'static str,
    pub chassis: &'static str,
    pub bios_version: &'static str,
    /// Writes `@odata.context`.
    pub context: bool,
    /// Writes `@odata.etag` into bodies.
    pub body_etags: bool,
    pub expand: Option<Expand>,
    pub select: bool,
    pub reset: &'static [&'static str],
    pub reset_names: ResetNames,
    pub manager_reset: &'static [&'static str],
    pub redundant: Redundant,
    pub boot_targets: &'static [&'static str],
    pub boot_enabled: &'static [&'static str],
    pub http_boot_uri: bool,
    pub boot_progress: bool,
    pub last_reset_time: bool,
    pub led: LedProperty,
    pub media_place: MediaPlace,
    pub media: Vec<MediaSpec>,
    pub storage: bool,
    pub simple_storage: bool,
    pub sse: bool,
    pub simple_update: bool,
    pub push_uri: Option<&'static str>,
    pub multipart_uri: Option<&'static str>,
    /// Accounts are sixteen fixed slots that are patched, as on iDRAC.
    pub account_slots: Option<usize>,
    /// Tasks are also jobs, as on iDRAC.
    pub jobs: bool,
    pub session_timeout: u64,
    /// The model has Power and Thermal rather than PowerSubsystem and ThermalSubsystem.
    pub old_sensors: bool,
    pub cpus: Vec<Cpu>,
    pub cpu_maker: &'static str,
    pub cpu_model: &'static str,
    pub cores: u64,
    pub dimms: Vec<String>,
    pub dimm_gib: u64,
    pub controllers: Vec<Controller>,
    /// Drives in the enclosure that every node's Storage lists.
    pub shared_drives: usize,
    pub adapters: Vec<Adapter>,
    pub gpus: Option<Gpu>,
    /// PCIe devices that are neither cards nor drives.
    pub bridges: usize,
    pub sensors: usize,
    pub power_supplies: usize,
    pub fans: usize,
    pub firmware: Vec<(String, &'static str)>,
    pub logs: usize,
    pub bios_attributes: &'static [(&'static str, &'static str)],
}

impl Spec {
    fn shrink(&mut self) {
        self.dimms.truncate(2);
        self.controllers.truncate(1);
        for controller in &mut self.controllers {
            controller.drives.truncate(2);
            controller.volumes = controller.volumes.min(1);
        }
        self.adapters.truncate(1);
        self.bridges = 0;
        self.sensors = self.sensors.min(4);
        self.power_supplies = self.power_supplies.min(2);
        self.fans = self.fans.min(2);
        self.firmware.truncate(3);
        self.logs = self.logs.min(2);
        if let Some(gpus) = &mut self.gpus {
            gpus.count = gpus.count.min(1);
        }
    }
}

/// `prefix` with the numbers from `first`, `count` of them.
fn numbered(prefix: &str, first: usize, count: usize) -> Vec<String> {
    (first..first + count)
        .map(|i| format!("{prefix}{i}"))
        .collect()
}
