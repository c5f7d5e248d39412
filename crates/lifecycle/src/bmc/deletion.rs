//! When a BMC object may go.
//!
//! Promise held here: a machine that is lent out or holds a tenant's data does not lose its BMC by a delete.

use jiff::{SignedDuration, Timestamp};

/// How long deleting waits for a BMC that does not answer before it goes without saying goodbye.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// A Server of the BMC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependent {
    /// Name.
    pub name: String,
    /// The claim that it is lent to, `namespace/name`.
    pub claim: Option<String>,
    /// Its disks may hold a tenant's data.
    pub dirty: bool,
    /// It is being deleted already.
    pub deleting: bool,
    /// It refers to the BMC and is not looked after by this engine, for its labels.
    pub elsewhere: bool,
}

/// What the decision rests on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The time.
    pub now: Timestamp,
    /// When the deletion was asked for.
    pub since: Timestamp,
    /// `corten.dev/force-delete` is set.
    pub forced: bool,
    /// The Servers that refer to the BMC.
    pub servers: Vec<Dependent>,
    /// A session on the BMC is still to be ended.
    pub logged_in: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Wait for people: these Servers are lent out or dirty.
    Hold {
        /// The message, with names and the remedy.
        message: String,
    },
    /// Delete these Servers; with `forced` they are told so.
    DeleteServers {
        /// Their names.
        names: Vec<String>,
        /// Pass the force on.
        forced: bool,
    },
    /// Servers are going: come back when one is gone.
    WaitForServers,
    /// End the session, for at most the patience that is left.
    LogOut,
    /// Take the finalizer off.
    Finish,
}

/// Decides.
pub fn decide(observed: &Observed) -> Decision {
    let held: Vec<String> = observed
        .servers
        .iter()
        .filter_map(|server| match (&server.claim, server.dirty) {
            (Some(claim), _) => Some(format!("Server {} is claimed by {claim}", server.name)),
            (None, true) => Some(format!(
                "the disks of Server {} are not proved clean",
                server.name
            )),
            (None, false) if server.elsewhere => Some(format!(
                "Server {} refers to it and its labels are not of this engine's selector (give it the BMC's labels, or delete it first)",
                server.name
            )),
            (None, false) => None,
        })
        .collect();
    if !held.is_empty() && !observed.forced {
        return Decision::Hold {
            message: format!(
                "not deleted: {}; release the claims and wait for the cleanup, or set the annotation corten.dev/force-delete",
                held.join(", ")
            ),
        };
    }
    let names: Vec<String> = observed
        .servers
        .iter()
        .filter(|server| !server.deleting && !server.elsewhere)
        .map(|server| server.name.clone())
        .collect();
    if !names.is_empty() {
        return Decision::DeleteServers {
            names,
            forced: observed.forced,
        };
    }
    if observed.servers.iter().any(|server| !server.elsewhere) {
        return Decision::WaitForServers;
    }
    if observed.logged_in && observed.now.duration_since(observed.since) < PATIENCE {
        return Decision::LogOut;
    }
    Decision::Finish
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(servers: Vec<Dependent>) -> Observed {
        let since: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        Observed {
            now: since,
            since,
            forced: false,
            servers,
            logged_in: true,
        }
    }

    fn server(claim: Option<&str>, dirty: bool, deleting: bool) -> Dependent {
        Dependent {
            name: "r1-system-0".into(),
            claim: claim.map(str::to_owned),
            dirty,
            deleting,
            elsewhere: false,
        }
    }

    #[test]
    fn a_server_that_another_engine_looks_after_holds_its_bmc_and_is_not_deleted_for_it() {
        let elsewhere = |claim| Dependent {
            elsewhere: true,
            ..server(claim, false, false)
        };
        for held in [elsewhere(None), elsewhere(Some("team/db"))] {
            let mut o = observed(vec![held]);
            assert!(
                matches!(decide(&o), Decision::Hold { message } if message.contains("r1-system-0"))
            );
            // By force the BMC goes. What is another engine's stays that engine's.
            o.forced = true;
            o.logged_in = false;
            assert_eq!(decide(&o), Decision::Finish);
        }
    }

    #[test]
    fn a_claimed_or_dirty_server_holds_its_bmc() {
        for held in [
            server(Some("team/db"), false, false),
            server(None, true, true),
        ] {
            match decide(&observed(vec![held])) {
                Decision::Hold { message } => {
                    assert!(message.contains("r1-system-0") && message.contains("force-delete"))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn force_passes_and_is_passed_on() {
        let o = Observed {
            forced: true,
            ..observed(vec![server(Some("team/db"), true, false)])
        };
        assert_eq!(
            decide(&o),
            Decision::DeleteServers {
                names: vec!["r1-system-0".into()],
                forced: true
            }
        );
    }

    #[test]
    fn servers_go_first_then_the_session_then_the_object() {
        assert!(matches!(
            decide(&observed(vec![server(None, false, false)])),
            Decision::DeleteServers { .. }
        ));
        assert_eq!(
            decide(&observed(vec![server(None, false, true)])),
            Decision::WaitForServers
        );
        assert_eq!(decide(&observed(vec![])), Decision::LogOut);
        assert_eq!(
            decide(&Observed {
                logged_in: false,
                ..observed(vec![])
            }),
            Decision::Finish
        );
    }

    #[test]
    fn a_dead_bmc_does_not_delay_its_deletion() {
        let o = observed(vec![]);
        assert_eq!(
            decide(&Observed {
                now: o.since + PATIENCE,
                ..o
            }),
            Decision::Finish
        );
    }
}
