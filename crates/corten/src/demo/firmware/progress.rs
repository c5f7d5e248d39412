//! What is shown while machines with a real firmware are on their way: where each stands, and what its console said.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use corten_api::metal::Server;
use kube::ResourceExt as _;

use super::super::stage::{LOOK_EVERY, Stage};
use super::super::view::{self, View};
use super::{name, server_name};

/// What each machine is to reach, on its own.
pub struct Goal<'a> {
    pub what: &'static str,
    pub within: Duration,
    pub reached: &'a dyn Fn(&Server) -> bool,
}

// === impl Stage ===

impl Stage {
    /// Waits until every machine has reached all `goals` in turn, with a line whenever one stands otherwise.
    pub async fn until_each(&mut self, goals: &[Goal<'_>]) -> anyhow::Result<()> {
        let mut ways: Vec<Way> = (0..self.args.machines()).map(|_| Way::begin()).collect();
        loop {
            self.serves()?;
            let view = View::read(&self.cluster.client)
                .await
                .context("the API server")?;
            for (number, way) in ways.iter_mut().enumerate() {
                let named = server_name(number);
                let Some(goal) = goals.get(way.reached) else {
                    continue;
                };
                if let Some(server) = view.servers.iter().find(|s| s.name_any() == named) {
                    if (goal.reached)(server) {
                        let what = format!("{}: {}", name(number), goal.what);
                        self.story.reached(what, way.since);
                        self.show_console(number, 3, spoken);
                        way.reached += 1;
                        way.since = Instant::now();
                        continue;
                    }
                    let line = view::standing(server);
                    if way.told != line {
                        self.story.say(format!("  {}: {line}", name(number)));
                        way.told = line;
                    }
                }
                if way.since.elapsed() > goal.within {
                    bail!(
                        "{}: not {} within {} s:{}\nThe log of corten serve ends:\n{}",
                        name(number),
                        goal.what,
                        goal.within.as_secs(),
                        view.complaints(),
                        self.serve_log()
                    );
                }
            }
            if ways.iter().all(|way| way.reached == goals.len()) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The last lines of a machine's console that are `worth` it.
    fn show_console(&self, number: usize, lines: usize, worth: fn(&str) -> bool) {
        let console = self.qemu(number).map(|qemu| qemu.console());
        for line in last_lines(&console.unwrap_or_default(), lines, worth) {
            self.story
                .plain(format!("    {} console | {line}", name(number)));
        }
    }

    /// The last lines of each machine's console, whatever they are.
    pub fn show_consoles(&self, lines: usize) {
        for (number, _) in self.all() {
            self.show_console(number, lines, |_| true);
        }
    }

    /// Writes each machine's console to the demo's folder, where it stays like the other logs.
    pub fn keep_consoles(&self) {
        for (number, machine) in self.all() {
            let Some(qemu) = machine.qemu() else { continue };
            let path = self.folder.log(&format!("console-{}.log", name(number)));
            if let Err(error) = std::fs::write(&path, qemu.console()) {
                self.story.say(format!("{}: {error}", path.display()));
            }
        }
    }
}

/// How far a machine is.
struct Way {
    reached: usize,
    since: Instant,
    told: String,
}

// === impl Way ===

impl Way {
    fn begin() -> Self {
        Self {
            reached: 0,
            since: Instant::now(),
            told: String::new(),
        }
    }
}

/// What the probe and the guest say, not their kernels.
fn spoken(line: &str) -> bool {
    (line.contains("corten-probe: ") && !line.contains("was not loaded"))
        || line.starts_with("guest: ")
}

/// The last lines that are `worth` it, said once each, cut to a terminal's width.
fn last_lines(text: &str, count: usize, worth: fn(&str) -> bool) -> Vec<String> {
    let mut said: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && worth(line))
        .collect();
    said.dedup();
    said.iter()
        .skip(said.len().saturating_sub(count))
        .map(|line| line.chars().take(140).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_console_the_last_lines_of_probe_and_guest_are_shown_once_each() {
        let text = "[ 1.0] corten-probe: version 0.1.0 begins\n\
                    [ 1.1] corten-probe: module a.ko was not loaded: no such device\n\
                    [ 1.2] net eth0: ready\n\nguest: called back\r\nguest: called back\n";
        let lines = last_lines(text, 3, spoken);
        assert_eq!(
            lines,
            [
                "[ 1.0] corten-probe: version 0.1.0 begins",
                "guest: called back"
            ]
        );
        assert_eq!(last_lines(text, 1, |_| true), ["guest: called back"]);
    }
}
