//! Boot windows: for which machines Corten expects a network boot just now, and for how long.
//!
//! A machine that comes by DHCP has no token. It gets one only inside a window that was opened for its UUID and MAC addresses, and once a window, so that
//! a machine which resets in a loop, or another that asks in its name afterwards, gets nothing. A diskless machine's window is renewable: it boots
//! from the network each time, as long as the window is kept open.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::machine::other_byte_order;
use crate::{Caller, Refusal, Ticket};

/// A window for one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The boot that is expected.
    pub ticket: Ticket,
    /// SMBIOS UUID of the machine, lower case.
    pub system_uuid: Option<String>,
    /// MAC addresses of the machine, lower case with colons.
    pub macs: BTreeSet<String>,
    /// Addresses that the machine is known to have, for callers that say nothing of themselves.
    pub addresses: BTreeSet<std::net::IpAddr>,
    /// When it closes.
    pub until: Timestamp,
    /// It lets its machine in again and again.
    pub renewable: bool,
}

#[derive(Debug)]
struct Open {
    window: Window,
    used: bool,
}

/// The windows of this process, by server.
#[derive(Debug, Default)]
pub struct Windows {
    open: Mutex<HashMap<String, Open>>,
}

impl Windows {
    /// Opens a window. One that is open for the same boot is renewed: its limits are the new ones, but who came in stays in.
    pub fn open(&self, window: Window) {
        let mut open = self.open.lock();
        let used = open
            .get(&window.ticket.server)
            .is_some_and(|old| old.used && old.window.ticket == window.ticket);
        open.insert(window.ticket.server.clone(), Open { window, used });
    }

    /// Keeps the window of a boot open longer; says whether there is one.
    pub fn renew(&self, ticket: &Ticket, until: Timestamp) -> bool {
        match self
            .open
            .lock()
            .get_mut(&ticket.server)
            .filter(|open| open.window.ticket == *ticket)
        {
            Some(open) => {
                open.window.until = until;
                true
            }
            None => false,
        }
    }

    /// Closes a server's window.
    pub fn close(&self, server: &str) {
        self.open.lock().remove(server);
    }

    /// The window of a server, if it is open.
    #[must_use]
    pub fn of(&self, server: &str, now: Timestamp) -> Option<Window> {
        self.open
            .lock()
            .get(server)
            .filter(|open| now < open.window.until)
            .map(|open| open.window.clone())
    }

    /// Lets a machine in.
    ///
    /// # Errors
    /// `NotDue` if no window is open for it or more than one could be meant; `Conflict` if it was let in before.
    pub fn admit(&self, caller: &Caller, now: Timestamp) -> Result<Ticket, Refusal> {
        let mut open = self.open.lock();
        open.retain(|_, open| now < open.window.until);
        let mut fitting = open.values_mut().filter(|open| fits(&open.window, caller));
        let Some(found) = fitting.next() else {
            return Err(Refusal::NotDue(
                "no boot window is open for this machine".into(),
            ));
        };
        if fitting.next().is_some() {
            return Err(Refusal::NotDue(
                "more than one boot window is open for what this machine says it is".into(),
            ));
        }
        if found.used && !found.window.renewable {
            return Err(Refusal::Conflict(
                "this machine came through its boot window before".into(),
            ));
        }
        found.used = true;
        Ok(found.window.ticket.clone())
    }
}

/// All that the caller says must be so, and something must be known to be so.
fn fits(window: &Window, caller: &Caller) -> bool {
    let uuid = caller
        .system_uuid
        .as_deref()
        .zip(window.system_uuid.as_deref())
        .map(|(says, is)| says == is || other_byte_order(says).as_deref() == Some(is));
    let mac = caller
        .mac
        .as_ref()
        .filter(|_| !window.macs.is_empty())
        .map(|mac| window.macs.contains(mac));
    match (uuid, mac) {
        (None, None) => {
            caller.system_uuid.is_none()
                && caller.mac.is_none()
                && caller
                    .address
                    .is_some_and(|address| window.addresses.contains(&address))
        }
        (uuid, mac) => uuid != Some(false) && mac != Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "4c4c4544-0042-3510-8053-b4c04f583132";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ticket(server: &str) -> Ticket {
        Ticket {
            server: server.into(),
            server_uid: "uid".into(),
            nonce: "run".into(),
        }
    }

    fn window(server: &str) -> Window {
        Window {
            ticket: ticket(server),
            system_uuid: Some(UUID.into()),
            macs: ["52:54:00:00:00:01".to_owned()].into(),
            addresses: BTreeSet::new(),
            until: at(100),
            renewable: false,
        }
    }

    fn caller(uuid: Option<&str>, mac: Option<&str>) -> Caller {
        Caller {
            system_uuid: uuid.map(Into::into),
            mac: mac.map(Into::into),
            address: None,
        }
    }

    #[test]
    fn a_machine_is_let_in_once_a_window() {
        let windows = Windows::default();
        windows.open(window("a"));
        let caller = caller(Some(UUID), Some("52:54:00:00:00:01"));
        assert_eq!(windows.admit(&caller, at(1)), Ok(ticket("a")));
        assert!(matches!(
            windows.admit(&caller, at(2)),
            Err(Refusal::Conflict(_))
        ));
        windows.open(window("a"));
        assert!(
            matches!(windows.admit(&caller, at(3)), Err(Refusal::Conflict(_))),
            "the same boot declared again is no second one"
        );
        windows.open(Window {
            ticket: Ticket {
                nonce: "next".into(),
                ..ticket("a")
            },
            ..window("a")
        });
        assert!(windows.admit(&caller, at(4)).is_ok());
    }

    #[test]
    fn a_diskless_machine_comes_again_as_long_as_its_window_is_renewed() {
        let windows = Windows::default();
        windows.open(Window {
            renewable: true,
            ..window("a")
        });
        let caller = caller(Some(UUID), None);
        assert!(windows.admit(&caller, at(1)).is_ok());
        assert!(windows.renew(&ticket("a"), at(200)));
        assert!(windows.admit(&caller, at(150)).is_ok());
        assert!(matches!(
            windows.admit(&caller, at(200)),
            Err(Refusal::NotDue(_))
        ));
    }

    #[test]
    fn a_machine_that_is_another_by_mac_or_uuid_is_not_let_in() {
        let windows = Windows::default();
        windows.open(window("a"));
        for stranger in [
            caller(Some(UUID), Some("52:54:00:00:00:02")),
            caller(
                Some("4c4c4544-0042-3510-8053-b4c04f583133"),
                Some("52:54:00:00:00:01"),
            ),
            caller(None, None),
            Caller {
                address: Some("192.0.2.1".parse().unwrap()),
                ..Caller::default()
            },
        ] {
            assert!(
                matches!(windows.admit(&stranger, at(1)), Err(Refusal::NotDue(_))),
                "{stranger:?}"
            );
        }
        assert!(
            windows
                .admit(&caller(None, Some("52:54:00:00:00:01")), at(1))
                .is_ok()
        );
    }

    #[test]
    fn two_machines_with_one_uuid_are_told_apart_by_mac_or_not_at_all() {
        let windows = Windows::default();
        windows.open(window("a"));
        windows.open(Window {
            macs: ["52:54:00:00:00:02".to_owned()].into(),
            ..window("b")
        });
        assert!(matches!(
            windows.admit(&caller(Some(UUID), None), at(1)),
            Err(Refusal::NotDue(_))
        ));
        assert_eq!(
            windows.admit(&caller(Some(UUID), Some("52:54:00:00:00:02")), at(1)),
            Ok(ticket("b"))
        );
    }

    #[test]
    fn a_uuid_in_the_other_byte_order_is_the_same_machine() {
        let windows = Windows::default();
        windows.open(window("a"));
        assert!(
            windows
                .admit(
                    &caller(Some("44454c4c-4200-1035-8053-b4c04f583132"), None),
                    at(1)
                )
                .is_ok()
        );
    }

    #[test]
    fn a_window_that_is_closed_or_over_lets_nobody_in() {
        let windows = Windows::default();
        windows.open(window("a"));
        assert!(windows.admit(&caller(Some(UUID), None), at(100)).is_err());
        windows.open(window("a"));
        windows.close("a");
        assert!(windows.admit(&caller(Some(UUID), None), at(1)).is_err());
        assert_eq!(windows.of("a", at(1)), None);
    }
}
