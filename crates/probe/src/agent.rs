//! The loop: say hello, do what is told, report, say hello again.

pub mod tasks;

use crate::inventory::{self, nics, root::Root};
use crate::net::neighbours::{self, Heard};
use crate::power::{End, Power};
use crate::registry::{CallError, Registry, chain};
use crate::say;
use crate::stop::Stop;
use corten_wire::{DriveName, Report, Task, Welcome, path};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Finished grants that are remembered, so that one which comes again is answered and not done again.
const REMEMBERED: usize = 64;
/// How often the original's registry is told anew: what it has is believed for two minutes.
const AGAIN: Duration = Duration::from_secs(30);

/// How fast, and how often.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How long LLDP is listened for.
    pub lldp: Duration,
    /// How often progress is told while a task runs.
    pub progress: Duration,
    /// How long a task goes on without an answer to its progress.
    pub patience: Duration,
    /// Ends after the first task that is not a wait: for tests and for people.
    pub once: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            lldp: Duration::from_secs(30),
            progress: Duration::from_millis(700),
            patience: Duration::from_secs(600),
            once: false,
        }
    }
}

/// The agent of one boot.
pub struct Agent {
    root: Root,
    registry: Registry,
    power: Arc<dyn Power>,
    pace: Pace,
    boot_id: String,
    heard: Heard,
    /// Drives that the last hello named.
    shown: Vec<DriveName>,
    done: HashMap<String, Report>,
}

impl Agent {
    /// An agent for the machine at `root`.
    #[must_use]
    pub fn new(root: Root, registry: Registry, power: Arc<dyn Power>, pace: Pace) -> Self {
        let id: [u8; 16] = rand::random();
        Self {
            root,
            registry,
            power,
            pace,
            boot_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            heard: Heard::default(),
            shown: Vec::new(),
            done: HashMap::new(),
        }
    }

    /// Runs until `stop`, or until it was told to end the boot and an ordinary process cannot.
    pub fn run(mut self, stop: &Stop) {
        let mut listening = self.listen(stop);
        let mut pause = Duration::from_millis(250);
        loop {
            match self.hello() {
                Ok(welcome) => {
                    pause = Duration::from_millis(250);
                    let again = Duration::from_secs(u64::from(welcome.again_seconds.clamp(1, 300)));
                    let is_wait = welcome.task == Task::Wait;
                    // The engine takes the machine down when it has its inventory: who is heard late would be heard never.
                    if welcome.task == Task::Inventory {
                        self.listen_to_the_end(listening.take(), stop);
                    }
                    if self.follow(welcome.task, stop) || (self.pace.once && !is_wait) {
                        return;
                    }
                    if is_wait && stop.wait(again) {
                        return;
                    }
                }
                Err(error) => {
                    say!("{}; again in {pause:?}", chain(&error));
                    if stop.wait(pause) {
                        return;
                    }
                    // A refusal may pass too: a boot window may open later. It is only asked for more slowly.
                    let longest = if error.may_pass() { 15 } else { 60 };
                    pause = (pause * 2).min(Duration::from_secs(longest));
                }
            }
            if stop.is_stopped() {
                return;
            }
        }
    }

    /// As the original's metalprobe: tells its registry what is seen, under the UUID that it was given, and again every 30 s. Nothing is asked, and nothing
    /// done.
    pub fn register_only(self, system_uuid: &str, stop: &Stop) {
        let listening = self.listen(stop);
        self.listen_to_the_end(listening, stop);
        loop {
            let mut seen = inventory::take(&self.root, &self.boot_id, self.heard.interfaces());
            system_uuid.clone_into(&mut seen.system_uuid);
            match self
                .registry
                .tell_until_taken(path::REGISTER, &seen, 6, stop)
            {
                Ok(()) => say!("registered {system_uuid}"),
                Err(error) => say!("not registered: {}", chain(&error)),
            }
            if self.pace.once {
                return;
            }
            // Who is plugged in later is told later.
            let listening = self.listen(stop);
            if stop.wait(AGAIN) {
                return;
            }
            if let Some(listening) = listening {
                let _ = listening.join();
            }
        }
    }

    /// Listens for neighbours, if it is to.
    fn listen(&self, stop: &Stop) -> Option<std::thread::JoinHandle<()>> {
        let listens = self.root.is_machine() && !self.pace.lldp.is_zero();
        listens
            .then(|| neighbours::listen(nics::links(&self.root), self.pace.lldp, &self.heard, stop))
    }

    fn hello(&mut self) -> Result<Welcome, CallError> {
        let hello = inventory::hello(&self.root, &self.boot_id);
        self.shown.clone_from(&hello.machine.drives);
        self.registry.post(path::HELLO, &hello)
    }

    /// Until the time for LLDP is over, or each link that has a carrier has heard somebody.
    fn listen_to_the_end(&self, listening: Option<std::thread::JoinHandle<()>>, stop: &Stop) {
        let Some(listening) = listening else { return };
        let begun = Instant::now();
        let have_all_heard = || {
            let heard = self.heard.interfaces();
            nics::links(&self.root)
                .iter()
                .filter(|link| {
                    self.root
                        .flag(format!("sys/class/net/{}/carrier", link.name))
                })
                .all(|link| heard.iter().any(|known| known.name == link.name))
        };
        while !listening.is_finished() && !have_all_heard() {
            if stop.wait(Duration::from_millis(200)) {
                return;
            }
        }
        say!("waited {:.2} s for LLDP", begun.elapsed().as_secs_f64());
    }

    /// Does one task; says whether the agent is to end.
    fn follow(&mut self, task: Task, stop: &Stop) -> bool {
        match task {
            Task::Wait => {}
            Task::Inventory => self.register(stop),
            Task::PowerOff => return self.end(End::PowerOff, stop),
            Task::Reboot => return self.end(End::Reboot, stop),
            Task::BurnIn(limits) => {
                let id = limits.id.clone();
                let what = format!("burn-in for {} s", limits.seconds);
                self.once(&id, &what, stop, |agent, watch| {
                    agent.burn_in(&limits, watch)
                });
            }
            Task::Erase(grant) => {
                let id = grant.id.clone();
                let what = format!("erasing {}", grant.drives.join(", "));
                self.once(&id, &what, stop, |agent, watch| agent.erase(&grant, watch));
            }
            Task::Write(grant) => {
                let id = grant.id.clone();
                let (report, taken) = self.once(&id, "writing an image", stop, |agent, watch| {
                    agent.write(&grant, watch)
                });
                // A start by kexec is optional; what the firmware starts is the same. What nobody wants any more is not started.
                if report.outcome == corten_wire::Outcome::Succeeded && !grant.then.is_empty() {
                    let how = if taken { End::Reboot } else { End::PowerOff };
                    return self.end(how, stop);
                }
            }
        }
        false
    }

    fn register(&self, stop: &Stop) {
        let registration = inventory::take(&self.root, &self.boot_id, self.heard.interfaces());
        match self
            .registry
            .tell_until_taken(path::REGISTER, &registration, 6, stop)
        {
            Ok(()) => say!(
                "registered {} after {} s",
                registration.system_uuid,
                registration.data.clock.uptime_seconds
            ),
            Err(error) => say!("not registered: {}", chain(&error)),
        }
    }

    /// Does a granted task, unless it was done before, and reports it; says whether the report was taken. A report that is not taken is given again when the grant comes again.
    fn once(
        &mut self,
        id: &str,
        what: &str,
        stop: &Stop,
        work: impl FnOnce(&Self, &tasks::Watch) -> Report,
    ) -> (Report, bool) {
        let report = match self.done.get(id) {
            Some(report) => report.clone(),
            None => {
                say!("{what} (grant {id})");
                let watch = tasks::Watch::begin(id, &self.registry, &self.pace, stop);
                let mut report = work(self, &watch);
                watch.end();
                report.id = id.to_owned();
                report.boot_id.clone_from(&self.boot_id);
                say!("{what}: {:?} {}", report.outcome, report.message);
                report
            }
        };
        if self.done.len() >= REMEMBERED {
            self.done.clear();
        }
        self.done.insert(id.to_owned(), report.clone());
        let told = self
            .registry
            .tell_until_taken(path::REPORT, &report, 20, stop);
        if let Err(error) = &told {
            say!("the report was not taken: {}", chain(error));
        }
        (report, told.is_ok())
    }

    fn end(&self, how: End, stop: &Stop) -> bool {
        match self.power.end(how) {
            Ok(()) => true,
            Err(error) => {
                say!("the boot does not end: {error}");
                stop.wait(Duration::from_secs(5));
                false
            }
        }
    }
}
