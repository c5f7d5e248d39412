//! What the machine boots next: `Boot.BootSourceOverride…` of the system, or of its settings resource.

use super::{Call, OperationError, read};
use crate::Priority;
use crate::document::{Document, Link};
use crate::model::{Service, System};
use crate::quirks::{Product, Quirk};
use serde_json::{Map, Value, json};

/// A boot source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BootTarget {
    /// The network, by PXE.
    Pxe,
    /// The network, by UEFI HTTP boot; the address comes by DHCP.
    UefiHttp,
    /// The network, by UEFI HTTP boot from this address.
    HttpBootUri(String),
    /// Optical drive, virtual ones included.
    Cd,
    /// USB stick, virtual ones included.
    Usb,
    /// The first disk.
    Hdd,
    /// The UEFI device path given.
    UefiTarget(String),
    /// The firmware's setup.
    BiosSetup,
}

/// For how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootDuration {
    /// The next boot only.
    Once,
    /// Until changed.
    Continuous,
}

/// Firmware mode of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootMode {
    /// UEFI.
    Uefi,
    /// BIOS compatibility.
    Legacy,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootOverride {
    /// No override: the boot order holds.
    Disabled,
    /// This source.
    Enabled {
        /// Which.
        target: BootTarget,
        /// For how long.
        duration: BootDuration,
        /// In which mode; `None` leaves it, unless the target or the firmware needs one.
        mode: Option<BootMode>,
    },
}

/// What a system says about its override.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootState {
    /// `Once`, `Continuous`, `Disabled`.
    pub enabled: Option<String>,
    /// `Pxe`, `Hdd`, `None`…
    pub target: Option<String>,
    /// `UEFI`, `Legacy`.
    pub mode: Option<String>,
    /// Address for HTTP boot.
    pub http_boot_uri: Option<String>,
    /// Device path.
    pub uefi_target: Option<String>,
    /// Targets that are allowed; empty if the BMC does not say.
    pub targets: Vec<String>,
    /// Durations that are allowed; empty if the BMC does not say.
    pub durations: Vec<String>,
    /// Boot order.
    pub order: Vec<String>,
    /// Whether the system has an override at all.
    pub offered: bool,
    has_http_uri: bool,
}

// === impl BootTarget ===

impl BootTarget {
    fn wire(&self) -> &'static str {
        match self {
            Self::Pxe => "Pxe",
            Self::UefiHttp | Self::HttpBootUri(_) => "UefiHttp",
            Self::Cd => "Cd",
            Self::Usb => "Usb",
            Self::Hdd => "Hdd",
            Self::UefiTarget(_) => "UefiTarget",
            Self::BiosSetup => "BiosSetup",
        }
    }

    fn needs_uefi(&self) -> bool {
        matches!(
            self,
            Self::UefiHttp | Self::HttpBootUri(_) | Self::UefiTarget(_)
        )
    }
}

// === impl BootMode ===

impl BootMode {
    fn wire(self) -> &'static str {
        match self {
            Self::Uefi => "UEFI",
            Self::Legacy => "Legacy",
        }
    }
}

// === impl BootState ===

impl BootState {
    /// Reads a ComputerSystem, or its settings resource.
    #[must_use]
    pub fn read(document: &Document) -> Self {
        let boot = document.root().object("Boot");
        Self {
            enabled: boot.text("BootSourceOverrideEnabled"),
            target: boot.text("BootSourceOverrideTarget"),
            mode: boot.text("BootSourceOverrideMode"),
            http_boot_uri: boot.text("HttpBootUri"),
            uefi_target: boot
                .text("UefiTargetBootSourceOverride")
                .filter(|path| !path.eq_ignore_ascii_case("none")),
            targets: boot.texts("BootSourceOverrideTarget@Redfish.AllowableValues"),
            durations: boot.texts("BootSourceOverrideEnabled@Redfish.AllowableValues"),
            order: boot.texts("BootOrder"),
            offered: boot.has("BootSourceOverrideEnabled") || boot.has("BootSourceOverrideTarget"),
            has_http_uri: boot.has("HttpBootUri"),
        }
    }

    /// Whether an override is in force.
    #[must_use]
    pub fn is_overridden(&self) -> bool {
        let enabled = self
            .enabled
            .as_deref()
            .is_some_and(|enabled| !enabled.eq_ignore_ascii_case("disabled"));
        enabled
            && self
                .target
                .as_deref()
                .is_some_and(|target| !target.eq_ignore_ascii_case("none"))
    }

    /// Whether what is wanted is what the BMC says, as far as it says it: evidence after a call.
    #[must_use]
    pub fn matches(&self, wanted: &BootOverride) -> bool {
        match wanted {
            BootOverride::Disabled => !self.is_overridden(),
            BootOverride::Enabled {
                target, duration, ..
            } => {
                let duration = match duration {
                    BootDuration::Once => "Once",
                    BootDuration::Continuous => "Continuous",
                };
                let same = |said: &Option<String>, wanted: &str| {
                    said.as_deref()
                        .is_some_and(|said| said.eq_ignore_ascii_case(wanted))
                };
                same(&self.target, target.wire()) && same(&self.enabled, duration)
            }
        }
    }

    /// Whether `target` may be asked for.
    #[must_use]
    pub fn allows(&self, target: &BootTarget) -> bool {
        let listed = self.targets.is_empty()
            || self
                .targets
                .iter()
                .any(|value| value.eq_ignore_ascii_case(target.wire()));
        self.offered
            && listed
            && (self.has_http_uri || !matches!(target, BootTarget::HttpBootUri(_)))
    }
}

/// Where an override is written: the system, or its settings resource (AMI's `…/SD`).
#[must_use]
pub fn written_at(system: &System, product: &Product) -> Link {
    let own = Link::parse(system.path()).ok();
    let settings = system
        .document()
        .root()
        .object("@Redfish.Settings")
        .link("SettingsObject");
    // XCC has a settings resource too, and takes the override on the system itself.
    match (settings, own) {
        (Some(settings), _) if product.has(Quirk::BootThroughSettings) => settings,
        (settings, own) => own.or(settings).unwrap_or_else(Link::service_root),
    }
}

/// Plans an override; `at` is the document that it is written to (the system's own, or the settings resource).
///
/// # Errors
/// [`OperationError::NotOffered`] with the targets that are.
pub fn plan(
    system: &System,
    at: &Document,
    product: &Product,
    wanted: &BootOverride,
) -> Result<Call, OperationError> {
    let state = BootState::read(system.document());
    if !state.offered && !BootState::read(at).offered {
        return Err(OperationError::not_offered("a boot override", Vec::new()));
    }
    let mut boot = Map::new();
    match wanted {
        BootOverride::Disabled => {
            boot.insert("BootSourceOverrideEnabled".into(), json!("Disabled"));
            if state.targets.is_empty() || state.targets.iter().any(|target| target == "None") {
                boot.insert("BootSourceOverrideTarget".into(), json!("None"));
            }
        }
        BootOverride::Enabled {
            target,
            duration,
            mode,
        } => {
            if !state.allows(target) {
                let what = if matches!(target, BootTarget::HttpBootUri(_)) {
                    "boot from an HTTP address (HttpBootUri)".into()
                } else {
                    format!("boot target {}", target.wire())
                };
                return Err(OperationError::not_offered(what, state.targets));
            }
            let lasting = match duration {
                BootDuration::Once => "Once",
                BootDuration::Continuous => "Continuous",
            };
            if !state.durations.is_empty() && !state.durations.iter().any(|value| value == lasting)
            {
                return Err(OperationError::not_offered(
                    format!("boot override {lasting}"),
                    state.durations,
                ));
            }
            boot.insert("BootSourceOverrideEnabled".into(), json!(lasting));
            boot.insert("BootSourceOverrideTarget".into(), json!(target.wire()));
            match target {
                BootTarget::HttpBootUri(uri) => boot.insert("HttpBootUri".into(), json!(uri)),
                // An address of an earlier boot would be asked instead of DHCP.
                BootTarget::UefiHttp
                    if state
                        .http_boot_uri
                        .as_deref()
                        .is_some_and(|uri| !uri.is_empty()) =>
                {
                    boot.insert("HttpBootUri".into(), json!(""))
                }
                BootTarget::UefiTarget(path) => {
                    boot.insert("UefiTargetBootSourceOverride".into(), json!(path))
                }
                _ => None,
            };
            if let Some(mode) = mode_to_send(&state, target, *mode, product) {
                boot.insert("BootSourceOverrideMode".into(), json!(mode));
            }
        }
    }
    let link = Link::parse(at.path()).unwrap_or_else(|_| written_at(system, product));
    Ok(
        Call::patch(link, Some(at), json!({ "Boot": Value::Object(boot) }))
            .with_priority(Priority::Power),
    )
}

/// As [`plan`], reading the settings resource where the override is written there: at most one request.
///
/// # Errors
/// As [`plan`], and what the gateway says.
pub async fn prepare(
    service: &Service,
    system: &System,
    wanted: &BootOverride,
) -> Result<Call, OperationError> {
    let link = written_at(system, service.product());
    if Link::parse(system.path()).is_ok_and(|own| own == link) {
        return plan(system, system.document(), service.product(), wanted);
    }
    let at = read(service, &link, Priority::Power).await?;
    plan(system, &at, service.product(), wanted)
}

/// The mode is sent where it is asked for and differs, where the target needs UEFI and the machine is not in it, and
/// where firmware falls back to Legacy without it. Otherwise not: iLO refuses it as read-only.
fn mode_to_send(
    state: &BootState,
    target: &BootTarget,
    asked: Option<BootMode>,
    product: &Product,
) -> Option<&'static str> {
    let current = state.mode.as_deref();
    let wanted = asked
        .map(BootMode::wire)
        .or_else(|| target.needs_uefi().then_some("UEFI"));
    match wanted {
        Some(wanted) if current.is_some_and(|current| !current.eq_ignore_ascii_case(wanted)) => {
            Some(wanted)
        }
        _ if product.has(Quirk::BootModeRequired) => match (wanted, current) {
            (Some(wanted), _) => Some(wanted),
            (None, Some("Legacy")) => Some("Legacy"),
            (None, _) => Some("UEFI"),
        },
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests;
