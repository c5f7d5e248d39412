//! What a BMC's machines become: which Server each ComputerSystem is, who else claims it, and what Ready says.
//!
//! [`place`] is the entry point. A system is known by its UUID and serial number, never by its place in a list.
//! Promises held here: one machine has one Server; another machine in the place is not taken for the expected one.

pub mod deletion;
pub mod watch;

use crate::identity::Identity;

/// A ComputerSystem as the BMC shows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Path of the resource.
    pub path: String,
    /// UUID and serial number; parts that tell nothing are empty.
    pub identity: Identity,
}

/// A Server object that refers to this BMC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The object's name.
    pub name: String,
    /// Identity as recorded (annotation, else `spec.systemUUID` and `status.serialNumber`).
    pub identity: Identity,
    /// `spec.systemURI`.
    pub path: Option<String>,
}

/// Which Server a system is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This one.
    Is {
        /// The Server's name.
        server: String,
    },
    /// None yet: create it under this name.
    New {
        /// The Server's name, `<bmc>-system-<i>`.
        server: String,
    },
    /// None, and none is created: the machine has a Server already, by another BMC.
    Taken {
        /// Why, for people.
        by: String,
    },
}

/// Where all systems of a BMC belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One place for each found system, in their order; and the Servers of which no system was found.
    Placed {
        /// In the order of the found systems.
        places: Vec<Place>,
        /// Servers of this BMC that no system is.
        absent: Vec<String>,
    },
    /// Servers are known and none of them is here: another machine stands behind this address.
    OtherMachine {
        /// What was expected, for people.
        expected: String,
        /// What was found, for people.
        found: String,
    },
}

/// Decides for each found system. `taken` says whether a Server of this name exists for somebody else;
/// `elsewhere` names the BMC that has a Server for surely the same machine.
pub fn place(
    bmc: &str,
    found: &[Found],
    known: &[Known],
    taken: impl Fn(&str) -> bool,
    elsewhere: impl Fn(&Identity) -> Option<String>,
) -> Placement {
    let mut free: Vec<&Known> = known.iter().collect();
    let mut matched: Vec<Option<&Known>> = vec![None; found.len()];
    // The surest sign first, so that a weak one cannot take what belongs to a strong one.
    for sign in [same, agrees, same_path] {
        for (system, matched) in found.iter().zip(&mut matched) {
            if matched.is_none()
                && let Some(at) = free.iter().position(|known| sign(system, known))
            {
                *matched = Some(free.remove(at));
            }
        }
    }
    if !known.is_empty() && !found.is_empty() && matched.iter().all(Option::is_none) {
        let list = |identities: &mut dyn Iterator<Item = String>| {
            identities.collect::<Vec<_>>().join(", ")
        };
        return Placement::OtherMachine {
            expected: list(
                &mut known
                    .iter()
                    .map(|known| format!("{} ({})", known.name, words(&known.identity))),
            ),
            found: list(&mut found.iter().map(|found| words(&found.identity))),
        };
    }
    let mut number = 0_u32;
    let mut next_name = || loop {
        let name = format!("{bmc}-system-{number}");
        number += 1;
        if !taken(&name) && !known.iter().any(|known| known.name == name) {
            return name;
        }
    };
    let places = found
        .iter()
        .zip(&matched)
        .map(|(system, matched)| match matched {
            Some(known) => Place::Is {
                server: known.name.clone(),
            },
            None => match elsewhere(&system.identity) {
                Some(other) => Place::Taken { by: other },
                None => Place::New {
                    server: next_name(),
                },
            },
        })
        .collect();
    Placement::Placed {
        places,
        absent: free.iter().map(|known| known.name.clone()).collect(),
    }
}

fn same(found: &Found, known: &Known) -> bool {
    found.identity.is_same(&known.identity)
}

/// No part differs and one is equal: a BMC that leaves out the serial number today.
fn agrees(found: &Found, known: &Known) -> bool {
    !found.identity.is_empty() && !known.identity.contradicts(&found.identity)
}

/// The place alone counts only where neither side has any identity.
fn same_path(found: &Found, known: &Known) -> bool {
    found.identity.is_empty()
        && known.identity.is_empty()
        && known
            .path
            .as_deref()
            .is_some_and(|path| path.trim_end_matches('/') == found.path.trim_end_matches('/'))
}

/// An identity in words.
pub fn words(identity: &Identity) -> String {
    let part = |name: &str, text: &str| {
        if text.is_empty() {
            format!("no {name}")
        } else {
            format!("{name} {text}")
        }
    };
    format!(
        "{}, {}",
        part("UUID", &identity.uuid),
        part("serial number", &identity.serial)
    )
}

/// What two BMCs that show one system UUID are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispute {
    /// Surely one machine: it gets one Server.
    SameMachine,
    /// One UUID, two serial numbers: two machines, of which nobody can say which one boots.
    SharedUuid,
}

/// Whether two systems are in dispute. Systems without a UUID of their own and with different serial numbers are not.
pub fn dispute(a: &Identity, b: &Identity) -> Option<Dispute> {
    if a.uuid.is_empty() && b.uuid.is_empty() {
        return (!a.serial.is_empty() && a.serial == b.serial).then_some(Dispute::SameMachine);
    }
    if a.uuid != b.uuid {
        return None;
    }
    let differ = !a.serial.is_empty() && !b.serial.is_empty() && a.serial != b.serial;
    Some(if differ {
        Dispute::SharedUuid
    } else {
        Dispute::SameMachine
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "4c4c4544-0042-3510-8052-b7c04f4c3232";
    const B: &str = "4c4c4544-0042-3510-8052-b7c04f4c3233";
    const NIL: &str = "00000000-0000-0000-0000-000000000000";

    fn found(path: &str, uuid: &str, serial: &str) -> Found {
        Found {
            path: path.into(),
            identity: Identity::new(uuid, serial),
        }
    }

    fn known(name: &str, uuid: &str, serial: &str, path: &str) -> Known {
        Known {
            name: name.into(),
            identity: Identity::new(uuid, serial),
            path: Some(path.into()),
        }
    }

    fn placed(found: &[Found], known: &[Known]) -> (Vec<Place>, Vec<String>) {
        match place("r1", found, known, |_| false, |_| None) {
            Placement::Placed { places, absent } => (places, absent),
            other => panic!("{other:?}"),
        }
    }

    fn is(server: &str) -> Place {
        Place::Is {
            server: server.into(),
        }
    }

    #[test]
    fn each_system_of_a_chassis_becomes_a_server() {
        let (places, absent) = placed(&[found("/S/1", A, "1"), found("/S/2", B, "2")], &[]);
        assert_eq!(
            places,
            [
                Place::New {
                    server: "r1-system-0".into()
                },
                Place::New {
                    server: "r1-system-1".into()
                }
            ]
        );
        assert!(absent.is_empty());
    }

    #[test]
    fn a_list_in_another_order_changes_nothing() {
        let servers = [
            known("r1-system-0", A, "1", "/S/1"),
            known("r1-system-1", B, "2", "/S/2"),
        ];
        let (places, _) = placed(&[found("/S/2", B, "2"), found("/S/1", A, "1")], &servers);
        assert_eq!(places, [is("r1-system-1"), is("r1-system-0")]);
    }

    #[test]
    fn machines_that_swapped_slots_keep_their_servers() {
        let servers = [
            known("r1-system-0", A, "1", "/S/1"),
            known("r1-system-1", B, "2", "/S/2"),
        ];
        let (places, _) = placed(&[found("/S/1", B, "2"), found("/S/2", A, "1")], &servers);
        assert_eq!(places, [is("r1-system-1"), is("r1-system-0")]);
    }

    #[test]
    fn nil_uuids_are_matched_by_serial_number() {
        let servers = [
            known("r1-system-0", NIL, "1", "/S/1"),
            known("r1-system-1", NIL, "2", "/S/2"),
        ];
        let (places, _) = placed(
            &[found("/S/1", NIL, "2"), found("/S/2", NIL, "1")],
            &servers,
        );
        assert_eq!(places, [is("r1-system-1"), is("r1-system-0")]);
    }

    #[test]
    fn a_system_without_any_identity_is_known_by_its_path_only_to_one_without() {
        let (places, _) = placed(
            &[found("/S/1/", NIL, "")],
            &[known("r1-system-0", NIL, "n/a", "/S/1")],
        );
        assert_eq!(places, [is("r1-system-0")]);
        let other = place(
            "r1",
            &[found("/S/1", NIL, "")],
            &[known("r1-system-0", A, "1", "/S/1")],
            |_| false,
            |_| None,
        );
        assert!(matches!(other, Placement::OtherMachine { .. }), "{other:?}");
    }

    #[test]
    fn a_blade_that_was_replaced_gets_a_server_of_its_own_and_the_old_one_is_absent() {
        let servers = [
            known("r1-system-0", A, "1", "/S/1"),
            known("r1-system-1", B, "2", "/S/2"),
        ];
        let c = "4c4c4544-0042-3510-8052-b7c04f4c3234";
        let (places, absent) = placed(&[found("/S/1", A, "1"), found("/S/2", c, "3")], &servers);
        assert_eq!(
            places,
            [
                is("r1-system-0"),
                Place::New {
                    server: "r1-system-2".into()
                }
            ]
        );
        assert_eq!(absent, ["r1-system-1"]);
    }

    #[test]
    fn another_machine_behind_the_address_creates_nothing() {
        let servers = [known("r1-system-0", A, "1", "/S/1")];
        match place(
            "r1",
            &[found("/S/1", B, "2")],
            &servers,
            |_| false,
            |_| None,
        ) {
            Placement::OtherMachine { expected, found } => {
                assert!(
                    expected.contains("r1-system-0") && expected.contains(A),
                    "{expected}"
                );
                assert!(found.contains(B), "{found}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bmc_that_shows_no_system_at_the_moment_is_not_another_machine() {
        let (places, absent) = placed(&[], &[known("r1-system-0", A, "1", "/S/1")]);
        assert!(places.is_empty());
        assert_eq!(absent, ["r1-system-0"]);
    }

    #[test]
    fn a_machine_that_has_a_server_by_another_bmc_gets_no_second_one() {
        let placement = place(
            "r2",
            &[found("/S/1", A, "1")],
            &[],
            |_| false,
            |_| Some("r1".into()),
        );
        assert_eq!(
            placement,
            Placement::Placed {
                places: vec![Place::Taken { by: "r1".into() }],
                absent: vec![]
            }
        );
    }

    #[test]
    fn a_name_that_somebody_else_uses_is_passed_over() {
        let placement = place(
            "r1",
            &[found("/S/1", A, "1")],
            &[],
            |name| name == "r1-system-0",
            |_| None,
        );
        assert_eq!(
            placement,
            Placement::Placed {
                places: vec![Place::New {
                    server: "r1-system-1".into()
                }],
                absent: vec![]
            }
        );
    }

    #[test]
    fn one_uuid_on_two_machines_is_a_dispute_and_nil_is_not() {
        let id = Identity::new;
        assert_eq!(
            dispute(&id(A, "1"), &id(A, "1")),
            Some(Dispute::SameMachine)
        );
        assert_eq!(dispute(&id(A, "1"), &id(A, "")), Some(Dispute::SameMachine));
        assert_eq!(dispute(&id(A, "1"), &id(A, "2")), Some(Dispute::SharedUuid));
        assert_eq!(dispute(&id(A, "1"), &id(B, "1")), None);
        assert_eq!(dispute(&id(NIL, "1"), &id(NIL, "2")), None);
        assert_eq!(dispute(&id(NIL, ""), &id(NIL, "")), None);
        assert_eq!(
            dispute(&id(NIL, "1"), &id(NIL, "1")),
            Some(Dispute::SameMachine)
        );
    }
}
