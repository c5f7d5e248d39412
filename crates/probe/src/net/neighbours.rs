//! Listening for LLDP on all links at once, for a limited time.

use super::lease::readable;
use super::lldp;
use crate::inventory::nics::Link;
use crate::stop::Stop;
use corten_wire::registration::{LldpInterface, LldpNeighbor};
use rustix::net::{RecvFlags, recv};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A link hears so many neighbours at most.
const LIMIT: usize = 16;

/// What was heard until now.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    by_link: Arc<Mutex<BTreeMap<String, Vec<LldpNeighbor>>>>,
}

impl Heard {
    /// For the registration: the links that heard anybody.
    #[must_use]
    pub fn interfaces(&self) -> Vec<LldpInterface> {
        self.by_link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(name, neighbors)| LldpInterface {
                name: name.clone(),
                neighbors: neighbors.clone(),
            })
            .collect()
    }

    fn add(&self, link: &str, neighbor: LldpNeighbor) {
        let mut by_link = self.by_link.lock().unwrap_or_else(PoisonError::into_inner);
        let known = by_link.entry(link.to_owned()).or_default();
        known
            .retain(|old| old.chassis_id != neighbor.chassis_id || old.port_id != neighbor.port_id);
        if known.len() < LIMIT {
            known.push(neighbor);
        }
    }
}

/// Listens on `links` for so long, each in a thread of its own. Returns at once; the thread that is returned ends with the last.
pub fn listen(
    links: Vec<Link>,
    time: Duration,
    heard: &Heard,
    stop: &Stop,
) -> std::thread::JoinHandle<()> {
    let heard = heard.clone();
    let stop = stop.clone();
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for link in &links {
                let (heard, stop) = (&heard, &stop);
                scope.spawn(move || {
                    if let Err(error) = listen_on(link, time, heard, stop) {
                        crate::say!("{}: no LLDP: {error}", link.name);
                    }
                });
            }
        });
    })
}

fn listen_on(link: &Link, time: Duration, heard: &Heard, stop: &Stop) -> io::Result<()> {
    let socket =
        corten_probe_ioctl::packet_socket(link.index, lldp::ETHERTYPE, Some(lldp::NEAREST_BRIDGE))?;
    let until = Instant::now() + time;
    let mut buffer = [0_u8; 9216];
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if stop.is_stopped() {
            break;
        }
        if !readable(&socket, left.min(Duration::from_millis(500)))? {
            continue;
        }
        let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        if let Some(neighbor) = lldp::parse(buffer.get(..length).unwrap_or_default()) {
            heard.add(&link.name, neighbor);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_that_repeats_itself_is_one() {
        let heard = Heard::default();
        let neighbor = lldp::parse(&lldp::tests::frame(120)).unwrap();
        heard.add("eth0", neighbor.clone());
        heard.add("eth0", neighbor);
        assert_eq!(heard.interfaces()[0].neighbors.len(), 1);
    }
}
