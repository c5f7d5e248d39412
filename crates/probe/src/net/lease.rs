//! Getting and keeping an address: one thread a link, from no carrier to a lease and through its renewals.

use super::dhcp::{self, Answer, Kind};
use super::frame;
use super::link;
use crate::config::StaticAddress;
use crate::inventory::nics::{Link, links};
use crate::inventory::root::Root;
use crate::stop::Stop;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// A link that has an address now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The link's name.
    pub link: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Takes all links up and keeps them addressed. Each time that a link gets an address, the receiver hears of it.
#[must_use]
pub fn configure(root: &Root, fixed: Option<StaticAddress>, stop: &Stop) -> Receiver<Leased> {
    let (sender, receiver) = channel();
    let root = root.clone();
    let stop = stop.clone();
    // Links come late: a driver probes its devices in the background, and a module may bring one after the first look.
    std::thread::spawn(move || {
        let mut known: Vec<u32> = Vec::new();
        loop {
            for (order, one) in links(&root).into_iter().enumerate() {
                if known.contains(&one.index) {
                    continue;
                }
                known.push(one.index);
                if let Err(error) = link::up(one.index) {
                    crate::say!("{} does not come up: {error}", one.name);
                }
                let keeper = Keeper {
                    root: root.clone(),
                    priority: 100 + u32::try_from(order).unwrap_or_default(),
                    fixed: fixed
                        .clone()
                        .filter(|fixed| fixed.mac.as_ref().is_none_or(|mac| *mac == one.mac)),
                    link: one,
                    stop: stop.clone(),
                    sender: sender.clone(),
                };
                std::thread::spawn(move || keeper.run());
            }
            let pause = if known.is_empty() { 100 } else { 2000 };
            if stop.wait(Duration::from_millis(pause)) {
                return;
            }
        }
    });
    receiver
}

struct Keeper {
    root: Root,
    priority: u32,
    fixed: Option<StaticAddress>,
    link: Link,
    stop: Stop,
    sender: Sender<Leased>,
}

impl Keeper {
    fn run(self) {
        let Some(mac) = mac(&self.link.mac) else {
            return;
        };
        if !self.wait_for_carrier() {
            return;
        }
        if let Some(fixed) = &self.fixed {
            let answer = Answer {
                kind: Kind::Ack,
                address: fixed.address,
                prefix: fixed.prefix,
                router: fixed.gateway,
                name_servers: Vec::new(),
                server: None,
                lease_seconds: u32::MAX,
            };
            self.apply(&answer, true);
            return;
        }
        let mut held: Option<Answer> = None;
        loop {
            let answer = match &held {
                None => self.acquire(mac),
                Some(answer) => self.renew(mac, answer),
            };
            let pause = match answer {
                Ok(answer) => {
                    self.apply(&answer, held.is_none());
                    let half = Duration::from_secs(u64::from(answer.lease_seconds / 2).max(10));
                    held = Some(answer);
                    half
                }
                Err(error) if held.is_none() => {
                    crate::say!("{}: no address by DHCP: {error}", self.link.name);
                    Duration::from_secs(1)
                }
                // The address stays: whether another has it now is the server's affair, and a long erasure must not lose its registry.
                Err(error) => {
                    crate::say!("{}: the lease was not renewed: {error}", self.link.name);
                    Duration::from_secs(30)
                }
            };
            if self.stop.wait(pause) {
                return;
            }
        }
    }

    fn wait_for_carrier(&self) -> bool {
        let file = format!("sys/class/net/{}/carrier", self.link.name);
        let mut pause = 20;
        while !self.root.flag(&file) {
            if self.stop.wait(Duration::from_millis(pause)) {
                return false;
            }
            pause = (pause * 2).min(1000);
        }
        true
    }

    fn apply(&self, answer: &Answer, is_new: bool) {
        let index = self.link.index;
        let name = &self.link.name;
        let done = link::add_address(index, answer.address, answer.prefix).and_then(|()| {
            answer.router.map_or(Ok(()), |router| {
                link::add_default_route(index, router, self.priority)
            })
        });
        if let Err(error) = done {
            crate::say!("{name}: {} could not be set: {error}", answer.address);
        }
        if is_new {
            crate::say!("{name} has {}/{}", answer.address, answer.prefix);
            if !answer.name_servers.is_empty() {
                let lines: String = answer
                    .name_servers
                    .iter()
                    .take(3)
                    .map(|server| format!("nameserver {server}\n"))
                    .collect();
                let _ = std::fs::write(self.root.join("etc/resolv.conf"), lines);
            }
            let _ = self.sender.send(Leased {
                link: name.clone(),
                address: answer.address,
            });
        }
    }

    fn acquire(&self, mac: [u8; 6]) -> io::Result<Answer> {
        let socket = self.socket()?;
        let mut wait = Duration::from_millis(500);
        for _ in 0..6 {
            let transaction: [u8; 4] = rand::random();
            let asked = dhcp::discover(transaction, mac);
            let offer = self.exchange(
                &socket,
                mac,
                transaction,
                &asked,
                Ipv4Addr::UNSPECIFIED,
                wait,
            )?;
            if let Some(offer) = offer.filter(|offer| offer.kind == Kind::Offer) {
                let asked = dhcp::request(transaction, mac, &offer);
                let answer = self.exchange(
                    &socket,
                    mac,
                    transaction,
                    &asked,
                    Ipv4Addr::UNSPECIFIED,
                    wait.max(Duration::from_secs(2)),
                )?;
                if let Some(answer) = answer.filter(|answer| answer.kind == Kind::Ack) {
                    return Ok(answer);
                }
            }
            wait = (wait * 2).min(Duration::from_secs(8));
            if self.stop.is_stopped() {
                break;
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn renew(&self, mac: [u8; 6], held: &Answer) -> io::Result<Answer> {
        let socket = self.socket()?;
        for _ in 0..4 {
            let transaction: [u8; 4] = rand::random();
            let asked = dhcp::renew(transaction, mac, held.address);
            match self.exchange(
                &socket,
                mac,
                transaction,
                &asked,
                held.address,
                Duration::from_secs(4),
            )? {
                Some(answer) if answer.kind == Kind::Ack => return Ok(answer),
                Some(_) => return Err(io::Error::other("the server takes it back")),
                None => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn socket(&self) -> io::Result<OwnedFd> {
        corten_probe_ioctl::packet_socket(self.link.index, frame::ETHERTYPE_IPV4, None)
    }

    /// Sends and waits for the first answer that is no offer to a request.
    fn exchange(
        &self,
        socket: &OwnedFd,
        mac: [u8; 6],
        transaction: [u8; 4],
        message: &[u8],
        source: Ipv4Addr,
        wait: Duration,
    ) -> io::Result<Option<Answer>> {
        send(
            socket,
            &frame::to_server(mac, source, message),
            SendFlags::empty(),
        )?;
        // Message type stands in the first option; a request wants no second offer.
        let is_request = message.get(242) == Some(&3);
        let until = Instant::now() + wait;
        let mut buffer = [0_u8; 2048];
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if !readable(socket, left)? {
                return Ok(None);
            }
            let (length, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
            let answer = frame::from_server(buffer.get(..length).unwrap_or_default())
                .and_then(|payload| dhcp::parse(payload, transaction, mac))
                .filter(|answer| !(is_request && answer.kind == Kind::Offer));
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Ok(None)
    }
}

/// Waits until `socket` has something to read.
pub(super) fn readable(socket: &OwnedFd, wait: Duration) -> io::Result<bool> {
    let time =
        Timespec::try_from(wait).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut one = [PollFd::new(socket, PollFlags::IN)];
    match poll(&mut one, Some(&time)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Six bytes from `52:54:00:…`.
fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}
