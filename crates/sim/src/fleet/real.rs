//! The machines of a fleet that have a real firmware: their folder, their cables and the tasks that keep them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::machine::Machine;
use crate::machine::node::Node;
use crate::qemu::chassis::{Chassis, Keeper, Order};
use crate::qemu::{Firmware, Network, Qemu, QemuError, tap};

/// What all of them share.
pub(crate) struct Real {
    qemu: Arc<Qemu>,
    firmware: Firmware,
    folder: PathBuf,
    /// Removed with the fleet.
    _temporary: Option<tempfile::TempDir>,
}

impl Real {
    /// Sees that all is there, and lays the cables.
    pub async fn prepare(qemu: &Qemu) -> Result<Self, QemuError> {
        qemu.check()?;
        let firmware = qemu.programs()?;
        let (folder, temporary) = match &qemu.directory {
            Some(folder) => (folder.clone(), None),
            None => {
                let base = std::env::temp_dir();
                let folder = tempfile::Builder::new()
                    .prefix("corten-sim-")
                    .tempdir()
                    .map_err(QemuError::file(&base))?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        if let Network::Bridge { bridge, namespace } = &qemu.network {
            for index in 0..qemu.machines {
                for card in 0..qemu.cards {
                    lay(&tap(index, card), bridge, namespace.as_deref()).await?;
                }
            }
        }
        Ok(Self {
            qemu: Arc::new(qemu.clone()),
            firmware,
            folder,
            _temporary: temporary,
        })
    }

    /// Gives a machine its disks and variables.
    pub fn equip(&self, machine: &mut Machine) -> Result<mpsc::Receiver<Order>, QemuError> {
        let (chassis, orders) =
            Chassis::open(&self.folder, machine.index, &self.qemu, &self.firmware)?;
        machine.real = Some(chassis);
        machine.state.get_mut().nodes = Box::new([Node::real()]);
        Ok(orders)
    }

    /// Starts the task that owns the machine's process.
    pub fn keep(
        &self,
        machine: &Arc<Machine>,
        orders: mpsc::Receiver<Order>,
        stop: &CancellationToken,
    ) {
        let Some(chassis) = machine.real.clone() else {
            return;
        };
        let (qemu, firmware) = (Arc::clone(&self.qemu), self.firmware.clone());
        let keeper = Keeper::new(Arc::clone(machine), chassis, qemu, firmware);
        tokio::spawn(keeper.run(orders, stop.child_token()));
    }

    /// Kills the processes and takes the cables away; waits for a moment, so that the folder is nobody's when it goes.
    pub fn end<'a>(&self, machines: impl Iterator<Item = &'a Chassis>) {
        let begun = Instant::now();
        for chassis in machines {
            chassis.kill();
            chassis.gone(Duration::from_secs(2).saturating_sub(begun.elapsed()));
        }
        if let Network::Bridge { namespace, .. } = &self.qemu.network {
            for index in 0..self.qemu.machines {
                for card in 0..self.qemu.cards {
                    let mut words = namespace_words(namespace.as_deref());
                    words.extend(["link".into(), "del".into(), tap(index, card)]);
                    // The namespace may be gone already, and the device with it.
                    let _ = std::process::Command::new("ip").args(words).output();
                }
            }
        }
    }
}

fn namespace_words(namespace: Option<&str>) -> Vec<String> {
    namespace.map_or_else(Vec::new, |name| vec!["-n".into(), name.to_owned()])
}

/// Makes a tap device and connects it to the bridge.
async fn lay(name: &str, bridge: &str, namespace: Option<&str>) -> Result<(), QemuError> {
    let run = async |words: &[&str]| {
        let output = Command::new("ip")
            .args(namespace_words(namespace))
            .args(words)
            .output()
            .await;
        let reason = match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        Err(QemuError::Tap {
            name: name.to_owned(),
            reason,
        })
    };
    // A fleet that was killed leaves its own behind.
    let _ = run(&["link", "del", name]).await;
    run(&["tuntap", "add", "dev", name, "mode", "tap"]).await?;
    run(&["link", "set", name, "master", bridge, "up"]).await
}
