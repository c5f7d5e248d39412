//! The task that owns a machine's process: it obeys the BMC, and says what the process does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::machine::node::{Override, Power};
use crate::machine::{Happened, Machine};

use super::boot;
use super::command::{self, CD, Layout};
use super::console::{self, Progress};
use super::directory::Directory;
use super::medium::{self, MediumError};
use super::process::{Grip, Process};
use super::qmp::{self, Said, Speaker};
use super::{Ailment, Bus, Firmware, Qemu, QemuError};

/// How long QEMU may take to greet, or to end when asked.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a start waits for the image in the drive.
const LONGEST_FETCH: Duration = Duration::from_secs(300);
/// Orders that wait; more are refused, since nobody presses a button so often.
const ORDERS: usize = 64;

/// What the BMC wants of the process.
#[derive(Debug)]
pub(crate) enum Order {
    On,
    ForceOff,
    Shutdown,
    GracefulRestart,
    ForceRestart,
    Cycle,
    Nmi,
    Insert {
        image: String,
        key: (usize, usize),
    },
    Eject,
    Type(Vec<u8>),
    /// A disk is pulled out.
    Unplug(String),
}

/// What everybody may know of a machine's process.
#[derive(Debug)]
pub(crate) struct Chassis {
    pub orders: mpsc::Sender<Order>,
    pub directory: Directory,
    pub disks: Vec<super::Disk>,
    /// What ails each disk from the next start on.
    pub ailments: Mutex<Vec<Option<Ailment>>>,
    /// The firmware passes over what the BMC says is to be booted.
    pub ignores_overrides: AtomicBool,
    /// The process, while there is one, and how to end it.
    pub process: Mutex<Option<Grip>>,
}

/// A machine's process and files, as a test sees them.
#[derive(Clone)]
pub struct QemuHandle {
    pub(crate) chassis: Arc<Chassis>,
    pub(crate) serials: Vec<String>,
}

/// A disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskFile {
    /// `SerialNumber` of the Redfish drive, and what the machine's system reads.
    pub serial: String,
    /// How it is attached.
    pub bus: Bus,
    /// Its size.
    pub bytes: u64,
    /// The raw file; may be read at any time, and written while the machine is off.
    pub path: PathBuf,
}

impl QemuHandle {
    /// The machine's folder.
    pub fn directory(&self) -> PathBuf {
        self.chassis.directory.path().to_owned()
    }

    /// Its disks, in the order of the Redfish drives.
    pub fn disks(&self) -> Vec<DiskFile> {
        self.chassis
            .disks
            .iter()
            .zip(&self.serials)
            .enumerate()
            .map(|(number, (disk, serial))| DiskFile {
                serial: serial.clone(),
                bus: disk.bus,
                bytes: disk.bytes,
                path: self.chassis.directory.disk_path(number),
            })
            .collect()
    }

    /// The folder with what its TPM remembers, for `swtpm` to read and write while the machine is off.
    pub fn tpm(&self) -> PathBuf {
        self.chassis.directory.tpm()
    }

    /// What it printed on its serial console: the last megabytes, over all power cycles, without terminal control.
    pub fn console(&self) -> String {
        console::read(&self.chassis.directory.console())
    }

    /// Types on the serial console; lost while it is off.
    pub fn type_text(&self, text: &str) {
        let _ = self
            .chassis
            .orders
            .try_send(Order::Type(text.as_bytes().to_vec()));
    }

    /// What ails the disk of this number from the next start on; `None` heals it.
    pub fn ail(&self, number: usize, ailment: Option<Ailment>) {
        if let Some(place) = self.chassis.ailments.lock().get_mut(number) {
            *place = ailment;
        }
    }

    /// Pulls a SCSI disk out of the running machine; with the next start it is there again.
    pub fn unplug(&self, number: usize) {
        let disks = command::places(&self.chassis.disks, &[], |_| String::new());
        if let Some(place) = disks.get(number) {
            let _ = self.chassis.orders.try_send(Order::Unplug(place.id()));
        }
    }

    /// Whether the firmware passes over boot overrides, as some do, while the BMC goes on saying that it takes them.
    pub fn ignore_overrides(&self, ignores: bool) {
        self.chassis
            .ignores_overrides
            .store(ignores, Ordering::SeqCst);
    }

    /// The process, while it is on.
    pub fn pid(&self) -> Option<u32> {
        self.chassis.process.lock().as_ref().map(Grip::pid)
    }

    /// Cuts the power: kills the process, whatever it does. The BMC shows it off at once.
    pub fn cut_power(&self) {
        self.chassis.kill();
    }

    /// A second machine protocol socket, for what the BMC does not offer, such as pulling out a disk.
    pub fn qmp_socket(&self) -> PathBuf {
        self.chassis.directory.path().join("qmp.sock")
    }
}

impl Chassis {
    /// Opens the machine's folder below `parent`.
    pub fn open(
        parent: &Path,
        index: usize,
        qemu: &Qemu,
        firmware: &Firmware,
    ) -> Result<(Arc<Self>, mpsc::Receiver<Order>), QemuError> {
        let directory = Directory::open(parent, index, qemu, firmware)?;
        let (orders, receiver) = mpsc::channel(ORDERS);
        let chassis = Self {
            orders,
            directory,
            ailments: Mutex::new(vec![None; qemu.disks.len()]),
            disks: qemu.disks_in_order(),
            ignores_overrides: AtomicBool::new(false),
            process: Mutex::new(None),
        };
        Ok((Arc::new(chassis), receiver))
    }

    /// Kills the process, as a loss of power does; its keeper sees it end.
    pub fn kill(&self) {
        if let Some(grip) = &*self.process.lock() {
            grip.kill();
        }
    }

    /// Waits until the process is gone, but not longer than `patience`.
    pub fn gone(&self, patience: Duration) {
        let grip = self.process.lock().clone();
        if let Some(grip) = grip {
            grip.gone(patience);
        }
    }
}

struct Running {
    process: Process,
    /// Its TPM, which goes with it.
    _tpm: Option<Process>,
    speaker: Speaker,
    said: mpsc::Receiver<Said>,
    keys: mpsc::Sender<Vec<u8>>,
}

/// The owner of a machine's process. See [`Keeper::run`].
pub(crate) struct Keeper {
    pub machine: Arc<Machine>,
    pub chassis: Arc<Chassis>,
    pub qemu: Arc<Qemu>,
    pub firmware: Firmware,
    running: Option<Running>,
    /// The next time that it goes off, it comes on again.
    restart: bool,
    fetch: Option<JoinHandle<Result<PathBuf, MediumError>>>,
    /// Which of the BMC's media is being fetched or in the drive.
    medium: (usize, usize),
    image: Option<PathBuf>,
    images: u32,
    /// The boot order that was last written into the variables.
    order: Option<Vec<String>>,
}

impl Keeper {
    pub fn new(
        machine: Arc<Machine>,
        chassis: Arc<Chassis>,
        qemu: Arc<Qemu>,
        firmware: Firmware,
    ) -> Self {
        Self {
            machine,
            chassis,
            qemu,
            firmware,
            running: None,
            restart: false,
            fetch: None,
            medium: (0, 0),
            image: None,
            images: 0,
            order: None,
        }
    }

    /// Owns the process until `stop`, which ends it.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>, stop: CancellationToken) {
        loop {
            let said = async {
                match &mut self.running {
                    Some(running) => running.said.recv().await,
                    None => std::future::pending().await,
                }
            };
            let fetched = async {
                match &mut self.fetch {
                    Some(fetch) => fetch.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                said = said => self.hear(said).await,
                fetched = fetched => {
                    self.fetch = None;
                    self.loaded(fetched.ok()).await;
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::On if self.running.is_none() => self.start().await,
            Order::On => {}
            Order::ForceOff => {
                self.stop(false).await;
                self.off();
            }
            Order::Shutdown => self.say("system_powerdown", json!({})).await,
            Order::GracefulRestart => {
                self.restart = true;
                self.say("system_powerdown", json!({})).await;
            }
            Order::ForceRestart => {
                self.stop(false).await;
                self.start().await;
            }
            Order::Cycle => {
                self.stop(false).await;
                self.off();
                tokio::time::sleep(self.machine.timing.cycle).await;
                self.start().await;
            }
            Order::Nmi => self.say("inject-nmi", json!({})).await,
            Order::Insert { image, key } => self.insert(image, key),
            Order::Eject => self.eject().await,
            Order::Unplug(id) => self.say("device_del", json!({"id": id})).await,
            Order::Type(keys) => {
                if let Some(running) = &self.running {
                    let _ = running.keys.try_send(keys);
                }
            }
        }
    }

    async fn hear(&mut self, said: Option<Said>) {
        match said {
            Some(Said::Shutdown(reason)) => {
                tracing::info!(machine = self.machine.index, reason, "machine stopped");
                let again = std::mem::take(&mut self.restart)
                    || matches!(reason.as_str(), "guest-reset" | "host-qmp-system-reset");
                self.stop(true).await;
                if again {
                    self.start().await;
                } else {
                    self.off();
                }
            }
            Some(Said::Failed(reason)) => {
                tracing::warn!(machine = self.machine.index, reason, "QEMU refused");
            }
            Some(Said::Other) => {}
            None => {
                let complaint = self.stop(false).await;
                tracing::warn!(machine = self.machine.index, complaint, "QEMU ended");
                self.off();
            }
        }
    }

    async fn say(&mut self, command: &str, arguments: serde_json::Value) {
        if let Some(running) = &mut self.running {
            running.speaker.say(command, arguments).await;
        }
    }

    /// Ends the process: at once as when power is cut, or when it has written what it still holds.
    async fn stop(&mut self, orderly: bool) -> String {
        let Some(mut running) = self.running.take() else {
            return String::new();
        };
        if orderly {
            running.speaker.say("quit", json!({})).await;
            if let Ok(complaint) = tokio::time::timeout(PATIENCE, running.process.ended()).await {
                *self.chassis.process.lock() = None;
                return complaint;
            }
        }
        running.process.kill();
        let complaint = running.process.ended().await;
        *self.chassis.process.lock() = None;
        complaint
    }

    fn off(&mut self) {
        self.restart = false;
        self.machine.with_state(|state, _| {
            if let Some(node) = state.nodes.first_mut() {
                node.power = Power::Off;
            }
            state.pending_events.push(Happened::PowerState {
                node: 0,
                state: "Off",
            });
        });
    }

    async fn start(&mut self) {
        // What is in the drive decides what boots, so a fetch that is under way is waited for.
        if let Some(fetch) = self.fetch.take() {
            let abort = fetch.abort_handle();
            let fetched = tokio::time::timeout(LONGEST_FETCH, fetch).await;
            if fetched.is_err() {
                abort.abort();
            }
            self.loaded(fetched.ok().and_then(Result::ok)).await;
        }
        match self.launch().await {
            Ok(running) => {
                self.running = Some(running);
                self.machine.with_state(|state, _| {
                    state.pending_events.push(Happened::PowerState {
                        node: 0,
                        state: "On",
                    });
                });
            }
            Err(error) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(machine = self.machine.index, %error, reason, "machine does not start");
                self.off();
            }
        }
    }

    async fn launch(&mut self) -> Result<Running, QemuError> {
        let layout = self.layout();
        let boot = self.prepare(&layout)?;
        let directory = &self.chassis.directory;
        let socket = directory.socket("console.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = tokio::net::UnixListener::bind(&socket).map_err(QemuError::file(&socket))?;
        let log = console::Log::open(&directory.console())
            .map_err(QemuError::file(&directory.console()))?;
        let tpm = if self.qemu.tpm {
            Some(self.start_tpm().await?)
        } else {
            None
        };
        let words = command::words(
            &self.qemu,
            &self.firmware,
            &layout,
            directory,
            self.image.as_deref(),
        );
        tracing::debug!(machine = self.machine.index, command = words.join(" "));
        let (mut process, output, input) =
            Process::start(&words, directory.path(), self.qemu.longest_life)
                .map_err(QemuError::Start)?;
        *self.chassis.process.lock() = Some(process.grip());
        // Before QEMU greets it may print already.
        let (keys, typed) = mpsc::channel(16);
        self.machine.with_state(|state, now| {
            if let Some(node) = state.nodes.first_mut() {
                node.turn_on(now);
                node.progress = Some(Progress::Started);
                node.booting = Some(boot);
            }
        });
        let machine = Arc::clone(&self.machine);
        let began = self.machine.clock.now();
        tokio::spawn(console::follow(listener, log, typed, move |progress| {
            machine.with_state(|state, now| state.progressed(0, progress, began, now));
        }));
        let opened = tokio::time::timeout(PATIENCE, qmp::open(output, input)).await;
        let Ok(Some((mut listener, speaker))) = opened else {
            process.kill();
            let complaint = process.ended().await;
            *self.chassis.process.lock() = None;
            return Err(QemuError::Ended(complaint));
        };
        let (sender, said) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(said) = listener.next().await {
                if sender.send(said).await.is_err() {
                    return;
                }
            }
        });
        Ok(Running {
            process,
            _tpm: tpm,
            speaker,
            said,
            keys,
        })
    }

    /// The machine's TPM, once it can be spoken to.
    async fn start_tpm(&self) -> Result<Process, QemuError> {
        let directory = &self.chassis.directory;
        let socket = directory.socket(command::TPM_SOCKET);
        let _ = std::fs::remove_file(&socket);
        let (mut tpm, ..) =
            Process::start(&command::tpm(), directory.path(), self.qemu.longest_life)
                .map_err(QemuError::Start)?;
        let is_there = async {
            while !socket.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, is_there).await.is_err() {
            tpm.kill();
            return Err(QemuError::Ended(tpm.ended().await));
        }
        Ok(tpm)
    }

    fn layout(&self) -> Layout {
        let identity = self.machine.with_state(|state, _| state.identity);
        let blueprint = &self.machine.blueprint;
        Layout {
            uuid: identity.system_uuid(0).to_string(),
            serial: identity.system_serial(0),
            manufacturer: blueprint.spec.manufacturer.to_owned(),
            product: blueprint.spec.model.to_owned(),
            chassis_serial: identity.chassis_serial(),
            macs: blueprint
                .ports
                .iter()
                .map(|(_, port)| identity.port_mac(*port))
                .collect(),
            disks: command::places(&self.chassis.disks, &self.chassis.ailments.lock(), |i| {
                identity.part_serial("drive", i)
            }),
            index: self.machine.index,
        }
    }

    /// Writes into the variables what is to be booted, and gives it. An override for once is used up by that.
    fn prepare(&mut self, layout: &Layout) -> Result<Override, QemuError> {
        let (boot, order) = self.machine.with_state(|state, _| {
            let Some(node) = state.nodes.first_mut() else {
                return (Override::none(), None);
            };
            (node.take_override(), node.boot_order.clone())
        });
        let directory = &self.chassis.directory;
        let mut store = directory.read_variables()?;
        let before = store.clone();
        let ignores = self.chassis.ignores_overrides.load(Ordering::SeqCst);
        let wanted = (boot.enabled != "Disabled" && !ignores).then_some(&boot);
        boot::apply_override(&mut store, wanted, layout, |disk| {
            directory.is_partitioned(disk)
        });
        if order != self.order
            && let Some(order) = &order
        {
            let classes: Vec<_> = order.iter().map(|option| boot::class_of(option)).collect();
            boot::apply_order(&mut store, &classes, layout);
        }
        if store != before {
            directory.write_variables(&store)?;
        }
        self.order = order;
        Ok(boot)
    }

    fn insert(&mut self, url: String, key: (usize, usize)) {
        self.forget_fetch();
        self.medium = key;
        self.images += 1;
        // Another name each time: the last image may still be open.
        let file = self
            .chassis
            .directory
            .image()
            .with_extension(format!("{}.iso", self.images));
        let largest = self.qemu.largest_image;
        self.fetch = Some(tokio::spawn(async move {
            medium::fetch(&url, &file, largest).await?;
            Ok(file)
        }));
    }

    fn forget_fetch(&mut self) {
        if let Some(fetch) = self.fetch.take() {
            fetch.abort();
        }
    }

    /// The end of a fetch: the image goes into the drive, or the BMC shows an empty one.
    async fn loaded(&mut self, fetched: Option<Result<PathBuf, MediumError>>) {
        match fetched {
            Some(Ok(file)) => {
                let change = json!({
                    "id": CD, "filename": file, "format": "raw", "read-only-mode": "read-only", "force": true,
                });
                self.say("blockdev-change-medium", change).await;
                self.replace_image(Some(file));
            }
            failed => {
                let error = failed.and_then(Result::err);
                let error = error.as_ref().map(|error| error as &dyn std::error::Error);
                tracing::warn!(
                    machine = self.machine.index,
                    error,
                    "the image is not in the drive"
                );
                let key = self.medium;
                self.machine
                    .with_state(|state, _| drop(state.media.remove(&key)));
            }
        }
    }

    async fn eject(&mut self) {
        self.forget_fetch();
        self.say("blockdev-open-tray", json!({"id": CD, "force": true}))
            .await;
        self.say("blockdev-remove-medium", json!({"id": CD})).await;
        self.say("blockdev-close-tray", json!({"id": CD})).await;
        self.replace_image(None);
    }

    fn replace_image(&mut self, image: Option<PathBuf>) {
        if let Some(old) = std::mem::replace(&mut self.image, image) {
            let _ = std::fs::remove_file(old);
        }
    }
}
