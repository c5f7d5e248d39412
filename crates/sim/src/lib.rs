//! A fleet of simulated machines that speak Redfish.
//!
//! Start with [`Fleet::builder`] in tests and with [`run`] in a process of its own. What the shapes do and how they
//! deviate from Redfish is in `docs/simulator.md`.

mod admin;
mod args;
mod blueprint;
mod clock;
mod counters;
mod fault;
mod fleet;
mod identity;
mod machine;
mod message;
mod net;
mod qemu;
mod render;
mod reply;
mod service;
mod settings;
mod shapes;
mod template;

pub use args::{Args, QemuArgs, RunError, run};
pub use counters::Counts;
pub use fault::{BadRule, Effect, Rule};
pub use fleet::{Builder, Drive, Fleet, FleetError, MachineHandle, SystemIdentity};
pub use identity::MacAddress;
pub use machine::node::Boot;
pub use machine::{Contents, Reset};
pub use qemu::chassis::DiskFile;
pub use qemu::{Ailment, Bus, Disk, Network, Qemu, QemuError, QemuHandle, StoreError, UnknownDisk};
pub use settings::{Erase, Limits, Timing};
pub use shapes::{Inventory, Shape, UnknownShape};
