//! Power: what is wanted, mapped to what `ResetType` the BMC allows.
//!
//! 15 of 40 recorded services do not list the values in the action but in its ActionInfo; that one is then read first.

use super::{Call, OperationError, action, read};
use crate::Priority;
use crate::document::Document;
use crate::inventory::PowerState;
use crate::model::{Manager, Service, System};
use serde_json::json;

/// What is wanted of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetKind {
    /// Switch on.
    On,
    /// Cut power.
    ForceOff,
    /// Ask the operating system to shut down. It may not.
    GracefulShutdown,
    /// Ask the operating system to restart. It may not.
    GracefulRestart,
    /// Reset at once.
    ForceRestart,
    /// Cut power and give it back.
    PowerCycle,
    /// Interrupt that cannot be masked: makes operating systems dump.
    Nmi,
}

// === impl ResetKind ===

impl ResetKind {
    /// The `ResetType`s that do it, best first. A graceful kind never falls back to one that cuts power, and nothing
    /// falls back to the power button unless it is known which way the button works: it is a toggle.
    fn ways(self, power: Option<&PowerState>) -> Vec<&'static str> {
        let is_on = power == Some(&PowerState::On);
        let is_off = power == Some(&PowerState::Off);
        match self {
            Self::On if is_off => vec!["On", "ForceOn", "PushPowerButton"],
            Self::On => vec!["On", "ForceOn"],
            Self::ForceOff => vec!["ForceOff"],
            // Cray's controllers call it Off.
            Self::GracefulShutdown if is_on => vec!["GracefulShutdown", "Off", "PushPowerButton"],
            Self::GracefulShutdown => vec!["GracefulShutdown", "Off"],
            Self::GracefulRestart => vec!["GracefulRestart"],
            Self::ForceRestart => vec!["ForceRestart", "PowerCycle", "FullPowerCycle"],
            // Of the recorded services, iLO, XCC and AMI cannot cycle power; a forced restart is what comes nearest.
            Self::PowerCycle => vec!["PowerCycle", "FullPowerCycle", "ForceRestart"],
            Self::Nmi => vec!["Nmi"],
        }
    }

    /// As Redfish's `ResetType` spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "On",
            Self::ForceOff => "ForceOff",
            Self::GracefulShutdown => "GracefulShutdown",
            Self::GracefulRestart => "GracefulRestart",
            Self::ForceRestart => "ForceRestart",
            Self::PowerCycle => "PowerCycle",
            Self::Nmi => "Nmi",
        }
    }
}

const SYSTEM_RESET: &str = "#ComputerSystem.Reset";
const MANAGER_RESET: &str = "#Manager.Reset";
const RESET_TYPE: &str = "ResetType";

/// Plans a reset of `system`; `info` is its ActionInfo, where the action has one and lists nothing itself.
///
/// # Errors
/// [`OperationError::NotOffered`] if there is no reset action, or it allows none of the ways.
pub fn plan(
    system: &System,
    info: Option<&Document>,
    kind: ResetKind,
) -> Result<Call, OperationError> {
    let power = system.power_state();
    choose(
        system.document(),
        SYSTEM_RESET,
        info,
        kind.as_str(),
        &kind.ways(power.as_ref()),
    )
}

/// As [`plan`], reading the ActionInfo if it is needed: at most one request, which changes nothing.
///
/// # Errors
/// As [`plan`], and what the gateway says.
pub async fn prepare(
    service: &Service,
    system: &System,
    kind: ResetKind,
) -> Result<Call, OperationError> {
    let info = action_info(service, system.document(), SYSTEM_RESET).await?;
    plan(system, info.as_ref(), kind)
}

/// Plans a restart of the BMC itself, gracefully where it can.
///
/// # Errors
/// As [`prepare`].
pub async fn prepare_manager(service: &Service, manager: &Manager) -> Result<Call, OperationError> {
    let info = action_info(service, manager.document(), MANAGER_RESET).await?;
    choose(
        manager.document(),
        MANAGER_RESET,
        info.as_ref(),
        "GracefulRestart",
        &["GracefulRestart", "ForceRestart"],
    )
}

/// The `ResetType`s that a system allows; empty if it does not say.
#[must_use]
pub fn allowed(system: &System, info: Option<&Document>) -> Vec<String> {
    values(system.document(), SYSTEM_RESET, info)
}

fn values(resource: &Document, name: &str, info: Option<&Document>) -> Vec<String> {
    let inline = action::inline_values(resource.root(), name, RESET_TYPE);
    if inline.is_empty() {
        info.map(|info| action::info_values(info, RESET_TYPE))
            .unwrap_or_default()
    } else {
        inline
    }
}

async fn action_info(
    service: &Service,
    resource: &Document,
    name: &str,
) -> Result<Option<Document>, OperationError> {
    let inline = action::inline_values(resource.root(), name, RESET_TYPE);
    let Some(link) = action::find(resource.root(), name)
        .and_then(|action| action.info)
        .filter(|_| inline.is_empty())
    else {
        return Ok(None);
    };
    match read(service, &link, Priority::Power).await {
        Ok(info) => Ok(Some(info)),
        // Without it the standard value is tried.
        Err(error) if error.status().is_some() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn choose(
    resource: &Document,
    name: &str,
    info: Option<&Document>,
    wanted: &str,
    ways: &[&str],
) -> Result<Call, OperationError> {
    let Some(target) = action::target(resource.root(), name) else {
        return Err(OperationError::not_offered(
            format!("{name} at {}", resource.path()),
            Vec::new(),
        ));
    };
    let allowed = values(resource, name, info);
    let chosen = if allowed.is_empty() {
        ways.first().map(ToString::to_string)
    } else {
        ways.iter().find_map(|way| {
            allowed
                .iter()
                .find(|value| value.eq_ignore_ascii_case(way))
                .cloned()
        })
    };
    let Some(chosen) = chosen else {
        return Err(OperationError::not_offered(
            format!("ResetType {wanted}"),
            allowed,
        ));
    };
    let mut call =
        Call::post(target, json!({ "ResetType": chosen })).with_priority(Priority::Power);
    call.substitute = Some(chosen).filter(|chosen| !chosen.eq_ignore_ascii_case(wanted));
    Ok(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(power: &str, allowed: &[&str]) -> System {
        System::new(Document::new(
            "/redfish/v1/Systems/1",
            None,
            json!({"PowerState": power, "Actions": {"#ComputerSystem.Reset": {
                "target": "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
                "ResetType@Redfish.AllowableValues": allowed,
            }}}),
        ))
    }

    fn sent(system: &System, kind: ResetKind) -> Option<String> {
        let call = plan(system, None, kind).ok()?;
        call.body.get("ResetType")?.as_str().map(str::to_owned)
    }

    #[test]
    fn what_is_allowed_is_sent_as_it_is() {
        let dell = system(
            "On",
            &[
                "On",
                "ForceOff",
                "ForceRestart",
                "GracefulRestart",
                "GracefulShutdown",
                "PushPowerButton",
                "Nmi",
                "PowerCycle",
            ],
        );
        for kind in [
            ResetKind::ForceOff,
            ResetKind::GracefulShutdown,
            ResetKind::PowerCycle,
            ResetKind::Nmi,
        ] {
            assert_eq!(sent(&dell, kind).as_deref(), Some(kind.as_str()));
            assert_eq!(plan(&dell, None, kind).unwrap().substitute, None);
        }
    }

    #[test]
    fn a_power_cycle_becomes_a_forced_restart_where_there_is_none_and_says_so() {
        let hpe = system(
            "On",
            &[
                "On",
                "ForceOff",
                "GracefulShutdown",
                "ForceRestart",
                "Nmi",
                "PushPowerButton",
                "GracefulRestart",
            ],
        );
        assert_eq!(
            plan(&hpe, None, ResetKind::PowerCycle)
                .unwrap()
                .substitute
                .as_deref(),
            Some("ForceRestart")
        );
    }

    #[test]
    fn the_power_button_is_pushed_only_when_it_is_known_what_it_does() {
        assert_eq!(
            sent(
                &system("On", &["PushPowerButton"]),
                ResetKind::GracefulShutdown
            )
            .as_deref(),
            Some("PushPowerButton")
        );
        assert_eq!(
            sent(
                &system("Off", &["PushPowerButton"]),
                ResetKind::GracefulShutdown
            ),
            None
        );
        assert_eq!(
            sent(&system("Off", &["PushPowerButton"]), ResetKind::On).as_deref(),
            Some("PushPowerButton")
        );
        assert_eq!(
            sent(&system("On", &["PushPowerButton"]), ResetKind::On),
            None
        );
        assert_eq!(
            sent(&system("On", &["PushPowerButton"]), ResetKind::ForceOff),
            None
        );
    }

    #[test]
    fn a_graceful_kind_never_becomes_a_forced_one() {
        let ami = system("On", &["ForceRestart", "ForceOff", "On", "PowerCycle"]);
        assert_eq!(sent(&ami, ResetKind::GracefulShutdown), None);
        assert_eq!(sent(&ami, ResetKind::GracefulRestart), None);
    }

    #[test]
    fn values_come_from_the_action_info_where_the_action_has_none() {
        let cray = System::new(Document::new(
            "/redfish/v1/Systems/Node0",
            None,
            json!({"PowerState": "On", "Actions": {"#ComputerSystem.Reset": {
                "target": "/redfish/v1/Systems/Node0/Actions/ComputerSystem.Reset", "@Redfish.ActionInfo": "/redfish/v1/Systems/Node0/ResetActionInfo"}}}),
        ));
        let info = Document::new(
            "/i",
            None,
            json!({"Parameters": [{"Name": "ResetType", "AllowableValues": ["Off", "ForceOff", "On"]}]}),
        );
        let call = plan(&cray, Some(&info), ResetKind::GracefulShutdown).unwrap();
        assert_eq!(call.substitute.as_deref(), Some("Off"));
        assert!(plan(&cray, Some(&info), ResetKind::Nmi).is_err());
    }

    #[test]
    fn a_bmc_that_lists_nothing_is_sent_the_standard_value() {
        assert_eq!(
            sent(&system("On", &[]), ResetKind::GracefulShutdown).as_deref(),
            Some("GracefulShutdown")
        );
    }
}
