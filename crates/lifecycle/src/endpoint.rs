//! What becomes of an Endpoint: a BMC with its secret, or nothing, with the reason.
//!
//! [`decide`] is the entry point. A maker's MAC prefix is also on its network cards, so a device counts as a BMC only
//! when it answers as a Redfish service; anything else is left alone. What exists is never rewritten.

pub mod mac;

use jiff::SignedDuration;

/// The wait before a device that did not answer is asked again, at first.
pub const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// The wait before a device that answered as something else is asked again.
pub const ASK_OTHER_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// What the decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// `spec.macAddress`, or what is wrong with it.
    pub mac: Result<mac::MacAddress, String>,
    /// Whether `spec.ip` is an address.
    pub has_address: bool,
    /// What the MAC database says.
    pub kind: Kind,
    /// An older Endpoint with the same MAC address.
    pub same_mac: Option<String>,
    /// The BMC object of the same name.
    pub bmc: Existing,
    /// What the device answered, where it was asked.
    pub answer: Option<Answer>,
}

/// What the MAC database says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No prefix matches.
    Unknown,
    /// A prefix matches, and says that it is no BMC.
    NotBmc,
    /// A BMC of this maker.
    Bmc {
        /// The maker.
        manufacturer: String,
    },
}

/// The object of the name that the BMC would get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// There is none.
    None,
    /// It refers to this Endpoint.
    Ours,
    /// It refers to something else.
    Foreign,
    /// It refers to this Endpoint, and it is outside of the selector that the Endpoint is in.
    Unselected,
}

/// What a device answered to a look without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A Redfish service root, or a refusal to show it without credentials.
    Redfish,
    /// Something else.
    Other(String),
    /// Nothing.
    Silence(String),
    /// A certificate that must not be trusted, or none at all.
    Tls(String),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Ask the device who it is.
    Ask,
    /// Create the BMC and, where there is none, its secret.
    Create,
    /// All is there.
    Settled,
    /// Do nothing to the device and say why.
    LeaveAlone {
        /// CamelCase.
        reason: &'static str,
        /// Cause and remedy.
        message: String,
        /// When asking again makes sense by itself.
        again: Option<SignedDuration>,
    },
}

/// Decides for one Endpoint.
pub fn decide(observed: &Observed) -> Decision {
    let leave = |reason, message| Decision::LeaveAlone {
        reason,
        message,
        again: None,
    };
    let mac = match &observed.mac {
        Ok(mac) => mac,
        Err(cause) => return leave("MACInvalid", format!("spec.macAddress: {cause}")),
    };
    if observed.bmc == Existing::Ours {
        return Decision::Settled;
    }
    if !observed.has_address {
        return leave(
            "IPInvalid",
            "spec.ip is no IP address: set the BMC's address".to_owned(),
        );
    }
    if let Some(other) = &observed.same_mac {
        return leave(
            "DuplicateMAC",
            format!("Endpoint {other} has the MAC address {mac} already: delete one of the two"),
        );
    }
    let manufacturer = match &observed.kind {
        Kind::Bmc { manufacturer } => manufacturer,
        Kind::NotBmc => {
            return leave(
                "NotABMC",
                format!(
                    "the MAC prefix database says that {mac} is no BMC: the device is left alone"
                ),
            );
        }
        Kind::Unknown => {
            return leave(
                "NotABMC",
                format!(
                    "no MAC prefix matches {mac}, so the device is left alone: if it is a BMC, add its prefix to the MAC prefix database, or create a BMC object with its address"
                ),
            );
        }
    };
    if observed.bmc == Existing::Foreign {
        return leave(
            "NameTaken",
            "a BMC of this name exists and refers to something else: rename the Endpoint or delete that BMC".to_owned(),
        );
    }
    if observed.bmc == Existing::Unselected {
        return Decision::LeaveAlone {
            reason: "BMCNotSelected",
            message: "the BMC of this name refers to this Endpoint and lacks labels of this Corten's selector, so another may be at work on it: give both the same labels".to_owned(),
            again: Some(ASK_OTHER_AGAIN),
        };
    }
    match &observed.answer {
        None => Decision::Ask,
        Some(Answer::Redfish) => Decision::Create,
        Some(Answer::Other(what)) => Decision::LeaveAlone {
            reason: "NotRedfish",
            message: format!(
                "the MAC prefix says {manufacturer}, but the device does not answer as a BMC, so it is left alone: {what}"
            ),
            again: Some(ASK_OTHER_AGAIN),
        },
        Some(Answer::Tls(what)) => Decision::LeaveAlone {
            reason: "TLSFailed",
            message: what.clone(),
            again: Some(ASK_OTHER_AGAIN),
        },
        Some(Answer::Silence(what)) => Decision::LeaveAlone {
            reason: "Unreachable",
            message: format!(
                "the MAC prefix says {manufacturer}, but nothing answers; it is asked again: {what}"
            ),
            again: Some(ASK_AGAIN),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed() -> Observed {
        Observed {
            mac: Ok("7c:c2:55:50:a8:ff".parse().unwrap()),
            has_address: true,
            kind: Kind::Bmc {
                manufacturer: "Supermicro".into(),
            },
            same_mac: None,
            bmc: Existing::None,
            answer: None,
        }
    }

    fn left_alone(observed: &Observed) -> (&'static str, String) {
        match decide(observed) {
            Decision::LeaveAlone {
                reason, message, ..
            } => (reason, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_device_is_asked_before_anything_is_created() {
        assert_eq!(decide(&observed()), Decision::Ask);
        assert_eq!(
            decide(&Observed {
                answer: Some(Answer::Redfish),
                ..observed()
            }),
            Decision::Create
        );
    }

    #[test]
    fn a_device_that_is_no_bmc_is_left_alone_and_the_condition_says_so() {
        let (reason, message) = left_alone(&Observed {
            kind: Kind::Unknown,
            ..observed()
        });
        assert_eq!(reason, "NotABMC");
        assert!(
            message.contains("7c:c2:55:50:a8:ff") && message.contains("prefix"),
            "{message}"
        );
        assert_eq!(
            left_alone(&Observed {
                kind: Kind::NotBmc,
                ..observed()
            })
            .0,
            "NotABMC"
        );
        assert_eq!(
            left_alone(&Observed {
                answer: Some(Answer::Other("HTML".into())),
                ..observed()
            })
            .0,
            "NotRedfish"
        );
    }

    #[test]
    fn a_network_card_of_the_same_maker_is_not_taken_for_a_bmc() {
        let o = Observed {
            answer: Some(Answer::Silence("connection refused".into())),
            ..observed()
        };
        match decide(&o) {
            Decision::LeaveAlone { reason, again, .. } => {
                assert_eq!(reason, "Unreachable");
                assert!(again.is_some());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_second_endpoint_with_the_same_mac_creates_nothing_and_names_the_first() {
        let (reason, message) = left_alone(&Observed {
            same_mac: Some("ep-1".into()),
            ..observed()
        });
        assert_eq!(reason, "DuplicateMAC");
        assert!(message.contains("ep-1"), "{message}");
    }

    #[test]
    fn what_exists_is_never_rewritten() {
        let o = Observed {
            bmc: Existing::Ours,
            kind: Kind::Unknown,
            answer: None,
            ..observed()
        };
        assert_eq!(decide(&o), Decision::Settled);
    }

    #[test]
    fn a_bmc_of_somebody_elses_is_not_taken_over() {
        assert_eq!(
            left_alone(&Observed {
                bmc: Existing::Foreign,
                ..observed()
            })
            .0,
            "NameTaken"
        );
    }

    #[test]
    fn a_bmc_that_another_corten_is_at_work_on_is_left_to_it_and_looked_for_later() {
        let decision = decide(&Observed {
            bmc: Existing::Unselected,
            answer: Some(Answer::Redfish),
            ..observed()
        });
        match decision {
            Decision::LeaveAlone { reason, again, .. } => {
                assert_eq!((reason, again), ("BMCNotSelected", Some(ASK_OTHER_AGAIN)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn malformed_addresses_are_named() {
        assert_eq!(
            left_alone(&Observed {
                mac: Err("no".into()),
                ..observed()
            })
            .0,
            "MACInvalid"
        );
        assert_eq!(
            left_alone(&Observed {
                has_address: false,
                ..observed()
            })
            .0,
            "IPInvalid"
        );
    }
}
