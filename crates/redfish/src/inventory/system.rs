//! The system as a whole, and its managers.

use super::MacAddress;
use super::health::Health;
use super::network::mac;
use crate::document::{Document, Object};
use jiff::Timestamp;
use std::fmt;
use std::net::IpAddr;

/// `PowerState` of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PowerState {
    /// On.
    On,
    /// Off, some parts may keep auxiliary power.
    Off,
    /// Going on.
    PoweringOn,
    /// Going off.
    PoweringOff,
    /// Paused.
    Paused,
    /// A value that the schema does not know.
    Other(String),
}

/// State of the identification LED.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LedState {
    /// Dark.
    Off,
    /// Lit steadily.
    Lit,
    /// Blinking: also what `LocationIndicatorActive` true is.
    Blinking,
    /// The BMC does not know.
    Unknown,
}

/// A system's UUID, normalised to lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SystemUuid(String);

/// What the ComputerSystem resource says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SystemFacts {
    /// `Id` of the resource.
    pub id: String,
    /// Its path.
    pub path: String,
    /// Name.
    pub name: Option<String>,
    /// Host name that the operating system told the BMC.
    pub host_name: Option<String>,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Order number of the maker; on Dell the service tag.
    pub sku: Option<String>,
    /// Part number.
    pub part_number: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Asset tag.
    pub asset_tag: Option<String>,
    /// UUID, as SMBIOS has it. Ask [`SystemUuid::is_distinctive`] before trusting it as an identity.
    pub uuid: Option<SystemUuid>,
    /// BIOS version.
    pub bios_version: Option<String>,
    /// Power state.
    pub power_state: Option<PowerState>,
    /// Identification LED.
    pub led: Option<LedState>,
    /// Health, parts included.
    pub health: Option<Health>,
    /// `Status.State`.
    pub state: Option<String>,
    /// `BootProgress.LastState`.
    pub boot_progress: Option<String>,
    /// Processors, by the summary.
    pub processor_count: Option<u64>,
    /// Model of the processors, by the summary.
    pub processor_model: Option<String>,
    /// Memory in MiB, by the summary: rounded by some firmware.
    pub memory_summary_mib: Option<u64>,
    /// When the system was last reset, where the BMC keeps it.
    pub last_reset: Option<Timestamp>,
}

/// What a Manager resource says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManagerFacts {
    /// `Id` of the resource.
    pub id: String,
    /// Its path.
    pub path: String,
    /// `BMC`, `EnclosureManager`, `Service`…
    pub kind: Option<String>,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// UUID.
    pub uuid: Option<SystemUuid>,
    /// Firmware version.
    pub firmware_version: Option<String>,
    /// Power state; absent on iLO and XCC services that do not offer it.
    pub power_state: Option<PowerState>,
    /// `Status.State`.
    pub state: Option<String>,
    /// Health.
    pub health: Option<Health>,
    /// When the manager was last reset.
    pub last_reset: Option<Timestamp>,
    /// The manager's own clock.
    pub date_time: Option<Timestamp>,
    /// MAC addresses of its interfaces, the one in use first.
    pub macs: Vec<MacAddress>,
    /// IP addresses of its interfaces, unusable ones left out.
    pub addresses: Vec<IpAddr>,
}

/// `Id` of a resource, or the last segment of its path: a name for people and for lists.
pub(crate) fn id_of(document: &Document) -> String {
    document.root().text("Id").unwrap_or_else(|| {
        document
            .path()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    })
}

// === impl PowerState ===

impl PowerState {
    /// Reads a resource's `PowerState`.
    #[must_use]
    pub fn of(resource: Object<'_>) -> Option<Self> {
        let text = resource.text("PowerState")?;
        Some(match text.to_ascii_lowercase().as_str() {
            "on" => Self::On,
            "off" => Self::Off,
            "poweringon" => Self::PoweringOn,
            "poweringoff" => Self::PoweringOff,
            "paused" => Self::Paused,
            _ => Self::Other(text),
        })
    }

    /// As Redfish spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::On => "On",
            Self::Off => "Off",
            Self::PoweringOn => "PoweringOn",
            Self::PoweringOff => "PoweringOff",
            Self::Paused => "Paused",
            Self::Other(text) => text,
        }
    }
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl LedState ===

impl LedState {
    /// Reads `LocationIndicatorActive` (since 2020), else the deprecated `IndicatorLED`.
    ///
    /// `IndicatorLED` wins where both are there and it is lit: some firmware keeps the new property at false.
    #[must_use]
    pub fn of(resource: Object<'_>) -> Option<Self> {
        let old = resource
            .value("IndicatorLED")
            .and_then(|_| resource.text("IndicatorLED"))
            .map(|text| match text.to_ascii_lowercase().as_str() {
                "off" => Self::Off,
                "lit" => Self::Lit,
                "blinking" => Self::Blinking,
                _ => Self::Unknown,
            });
        match (old, resource.flag("LocationIndicatorActive")) {
            (Some(Self::Lit), _) => Some(Self::Lit),
            (Some(Self::Blinking), _) | (_, Some(true)) => Some(Self::Blinking),
            (_, Some(false)) => Some(Self::Off),
            (old, None) => old,
        }
    }

    /// As Redfish's `IndicatorLED` spells it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Lit => "Lit",
            Self::Blinking => "Blinking",
            Self::Unknown => "Unknown",
        }
    }
}

// === impl SystemUuid ===

impl SystemUuid {
    /// Normalises a UUID: lower case, with or without hyphens or braces. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text
            .trim()
            .chars()
            .filter(|c| !matches!(c, '-' | '{' | '}'))
            .collect::<String>()
            .to_ascii_lowercase();
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
        let joined: Vec<&str> = parts
            .iter()
            .filter_map(|(from, to)| digits.get(*from..*to))
            .collect();
        Some(Self(joined.join("-")))
    }

    /// Whether the UUID tells one machine from another: not nil, not all ones, not the one that board makers ship
    /// by default (`03000200-0400-0500-0006-000700080009`) nor a counting pattern.
    #[must_use]
    pub fn is_distinctive(&self) -> bool {
        let digits: String = self.0.chars().filter(|c| *c != '-').collect();
        let one_digit = digits
            .chars()
            .next()
            .is_none_or(|first| digits.chars().all(|c| c == first));
        const DEFAULTS: [&str; 5] = [
            "03000200-0400-0500-0006-000700080009",
            "00020003-0004-0005-0006-000700080009",
            "12345678-1234-5678-90ab-cddeefaabbcc",
            "12345678-1234-1234-1234-123456789abc",
            "01234567-89ab-cdef-0123-456789abcdef",
        ];
        !one_digit && !DEFAULTS.contains(&self.0.as_str())
    }

    /// The normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SystemUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl SystemFacts ===

impl SystemFacts {
    /// Reads a `ComputerSystem` resource.
    #[must_use]
    pub fn read(document: &Document) -> Self {
        let root = document.root();
        let processors = root.object("ProcessorSummary");
        Self {
            id: id_of(document),
            path: document.path().to_owned(),
            name: root.text("Name"),
            host_name: root.text("HostName"),
            manufacturer: root.text("Manufacturer"),
            model: root.text("Model"),
            sku: root.text("SKU"),
            part_number: root.text("PartNumber"),
            serial_number: root.text("SerialNumber"),
            asset_tag: root.text("AssetTag"),
            uuid: root.text("UUID").and_then(|text| SystemUuid::parse(&text)),
            bios_version: root.text("BiosVersion"),
            power_state: PowerState::of(root),
            led: LedState::of(root),
            health: Health::of(root),
            state: root.object("Status").text("State"),
            boot_progress: root.object("BootProgress").text("LastState"),
            processor_count: processors.whole("Count").filter(|count| *count > 0),
            processor_model: processors.text("Model"),
            memory_summary_mib: root
                .object("MemorySummary")
                .number("TotalSystemMemoryGiB")
                .and_then(gib_to_mib),
            last_reset: root.time("LastResetTime"),
        }
    }
}

fn gib_to_mib(gib: f64) -> Option<u64> {
    let mib = (gib * 1024.0).round();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in range
    (1.0..1e12).contains(&mib).then_some(mib as u64)
}

// === impl ManagerFacts ===

impl ManagerFacts {
    /// Reads a `Manager` resource. Addresses come with [`ManagerFacts::add_interface`].
    #[must_use]
    pub fn read(document: &Document) -> Self {
        let root = document.root();
        Self {
            id: id_of(document),
            path: document.path().to_owned(),
            kind: root.text("ManagerType"),
            manufacturer: root.text("Manufacturer"),
            model: root.text("Model"),
            serial_number: root.text("SerialNumber"),
            uuid: root.text("UUID").and_then(|text| SystemUuid::parse(&text)),
            firmware_version: root.text("FirmwareVersion"),
            power_state: PowerState::of(root),
            state: root.object("Status").text("State"),
            health: Health::of(root),
            last_reset: root.time("LastResetTime"),
            date_time: root.time("DateTime"),
            macs: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// Adds what one of the manager's `EthernetInterface`s says. Interfaces in use come first.
    pub fn add_interface(&mut self, document: &Document) {
        let root = document.root();
        let mut addresses: Vec<IpAddr> = Vec::new();
        for name in ["IPv4Addresses", "IPv6Addresses"] {
            let found = root.objects(name).into_iter().filter_map(|entry| {
                entry
                    .text("Address")?
                    .split('%')
                    .next()?
                    .parse::<IpAddr>()
                    .ok()
            });
            addresses.extend(found.filter(is_usable));
        }
        let in_use = !addresses.is_empty();
        for name in ["MACAddress", "PermanentMACAddress"] {
            if let Some(address) = mac(root, name)
                && !self.macs.contains(&address)
            {
                if in_use && self.addresses.is_empty() {
                    self.macs.insert(0, address)
                } else {
                    self.macs.push(address)
                }
            }
        }
        for address in addresses {
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
    }

    /// Whether this manager is a BMC, rather than an enclosure's or a fabric's.
    #[must_use]
    pub fn is_bmc(&self) -> bool {
        self.kind
            .as_deref()
            .is_none_or(|kind| kind.eq_ignore_ascii_case("bmc"))
    }
}

/// Not unspecified, loopback or link-local: addresses of the link to the host, or of nothing.
fn is_usable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => {
            !v6.is_unspecified()
                && !v6.is_loopback()
                && (v6.segments().first().copied().unwrap_or(0) & 0xffc0) != 0xfe80
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nil_and_factory_uuids_identify_nobody() {
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
        ] {
            assert!(!SystemUuid::parse(text).unwrap().is_distinctive(), "{text}");
        }
        assert!(
            SystemUuid::parse("00000000-0000-0000-0000-7CC25550A8FF")
                .unwrap()
                .is_distinctive()
        );
        assert_eq!(
            SystemUuid::parse("{4C4C4544-0035-3410-8050-C6C04F314733}")
                .unwrap()
                .as_str(),
            "4c4c4544-0035-3410-8050-c6c04f314733"
        );
        assert_eq!(SystemUuid::parse("STATIC:3:0"), None);
    }

    #[test]
    fn the_led_is_read_from_whichever_property_tells() {
        let led = |body| LedState::of(Document::new("/x", None, body).root());
        assert_eq!(led(json!({"IndicatorLED": "Lit"})), Some(LedState::Lit));
        assert_eq!(
            led(json!({"LocationIndicatorActive": true, "IndicatorLED": "Off"})),
            Some(LedState::Blinking)
        );
        assert_eq!(
            led(json!({"LocationIndicatorActive": false})),
            Some(LedState::Off)
        );
        assert_eq!(led(json!({})), None);
    }

    #[test]
    fn the_managers_own_address_comes_before_its_usb_link_to_the_host() {
        let mut facts = ManagerFacts::default();
        facts.add_interface(&Document::new("/usb0", None, json!({"MACAddress": "2A:1A:5A:BB:71:A5", "IPv4Addresses": [{"Address": "169.254.0.17"}]})));
        facts.add_interface(&Document::new("/eth0", None, json!({"MACAddress": "5C:FF:35:FB:E6:E9", "IPv4Addresses": [{"Address": "192.168.49.221"}]})));
        assert_eq!(facts.macs.first().unwrap().to_string(), "5c:ff:35:fb:e6:e9");
        assert_eq!(facts.addresses.len(), 1);
    }
}
