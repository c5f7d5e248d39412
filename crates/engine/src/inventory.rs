//! From what a BMC said to what the objects say: pure, and the same for the controllers and for `corten inspect`.
//!
//! [`server_status`] and [`bmc_status`] fill what a reading can tell and leave state and conditions to their controllers;
//! [`contents`] is the long inventory. Lists are in the order of their ids, so that a BMC that lists its parts in another order
//! every time does not look changed.

mod contents;

use corten_api::{
    Quantity,
    metal::{
        BmcState, BmcStatus, IndicatorLed, NetworkInterface, PowerState, Processor, ServerStatus,
        Storage, StorageDrive, StorageVolume,
    },
};
use corten_redfish::inventory::{self as found, Inventory, ManagerFacts, SystemFacts};

pub use contents::{contents, with_drives_of};

const MIB: u64 = 1 << 20;

/// What `Server.status` says of a machine that was read whole; state and conditions are empty.
#[must_use]
pub fn server_status(inventory: &Inventory) -> ServerStatus {
    ServerStatus {
        total_system_memory: inventory
            .memory_mib()
            .map(|mib| Quantity::from_bytes(mib.saturating_mul(MIB))),
        network_interfaces: network_interfaces(inventory),
        processors: processors(inventory),
        storages: storages(inventory),
        ..system_status(&inventory.system)
    }
}

/// What the ComputerSystem alone tells: identity, firmware, power, light.
#[must_use]
pub fn system_status(system: &SystemFacts) -> ServerStatus {
    ServerStatus {
        manufacturer: system.manufacturer.clone(),
        model: system.model.clone(),
        sku: system.sku.clone(),
        serial_number: system.serial_number.clone(),
        bios_version: system.bios_version.clone(),
        power_state: system.power_state.as_ref().map(power_state),
        indicator_led: system
            .led
            .as_ref()
            .map(|led| IndicatorLed::from(led.as_str())),
        ..ServerStatus::default()
    }
}

/// What `BMC.status` says of a manager; its conditions are empty. `system` fills in what a manager rarely says itself: its maker.
#[must_use]
pub fn bmc_status(manager: &ManagerFacts, system: Option<&SystemFacts>) -> BmcStatus {
    BmcStatus {
        mac_address: manager.macs.first().map(ToString::to_string),
        ip: manager.addresses.first().map(ToString::to_string),
        manufacturer: manager
            .manufacturer
            .clone()
            .or_else(|| system.and_then(|s| s.manufacturer.clone())),
        model: manager.model.clone(),
        sku: system.and_then(|s| s.sku.clone()),
        serial_number: manager
            .serial_number
            .clone()
            .or_else(|| system.and_then(|s| s.serial_number.clone())),
        firmware_version: manager.firmware_version.clone(),
        state: Some(BmcState::Enabled),
        // iLO 6 1.70 has no PowerState on its manager; a manager that answers has power.
        power_state: Some(
            manager
                .power_state
                .as_ref()
                .map_or(PowerState::On, power_state),
        ),
        last_reset_time: manager.last_reset,
        ..BmcStatus::default()
    }
}

/// Redfish's power state in our vocabulary.
#[must_use]
pub fn power_state(state: &found::PowerState) -> PowerState {
    PowerState::from(state.as_str())
}

fn network_interfaces(inventory: &Inventory) -> Vec<NetworkInterface> {
    let mut all: Vec<_> = inventory
        .interfaces
        .iter()
        .map(|nic| NetworkInterface {
            name: nic.id.clone(),
            mac_address: nic.mac.to_string(),
            carrier_status: nic
                .link_up
                .map(|up| if up { "up" } else { "down" }.to_owned()),
            ..NetworkInterface::default()
        })
        .collect();
    all.sort_by(|a, b| (&a.name, &a.mac_address).cmp(&(&b.name, &b.mac_address)));
    all
}

fn processors(inventory: &Inventory) -> Vec<Processor> {
    let mut all: Vec<_> = inventory
        .processors
        .iter()
        .map(|p| Processor {
            id: p.id.clone(),
            type_: Some(p.kind.as_str().to_owned()),
            architecture: p.architecture.clone(),
            instruction_set: p.instruction_set.clone(),
            manufacturer: p.manufacturer.clone(),
            model: p.model.clone(),
            max_speed_mhz: p.max_speed_mhz.and_then(small),
            total_cores: p.cores.and_then(small),
            total_threads: p.threads.and_then(small),
        })
        .collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

/// One entry a controller, in the order of their names; drives and volumes that name no controller stand in one without a name.
fn storages(inventory: &Inventory) -> Vec<Storage> {
    let controllers = inventory
        .controllers
        .iter()
        .map(|c| Some(c.storage.as_str()));
    let drives = inventory.drives.iter().map(|d| d.storage.as_deref());
    let volumes = inventory.volumes.iter().map(|v| Some(v.storage.as_str()));
    let mut names: Vec<Option<&str>> = controllers.chain(drives).chain(volumes).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| Storage {
            name: name.map(str::to_owned),
            state: None,
            drives: sorted_by_name(
                inventory
                    .drives
                    .iter()
                    .filter(|d| d.storage.as_deref() == name)
                    .map(drive),
                |d| d.name.clone(),
            ),
            volumes: sorted_by_name(
                inventory
                    .volumes
                    .iter()
                    .filter(|v| Some(v.storage.as_str()) == name)
                    .map(volume),
                |v| v.name.clone(),
            ),
        })
        .collect()
}

fn sorted_by_name<T>(all: impl Iterator<Item = T>, name: impl Fn(&T) -> Option<String>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_by_cached_key(name);
    all
}

fn drive(drive: &found::Drive) -> StorageDrive {
    StorageDrive {
        name: Some(drive.name.clone().unwrap_or_else(|| drive.id.clone())),
        media_type: drive.media_type.clone(),
        type_: drive.protocol.clone(),
        capacity: drive.capacity_bytes.map(Quantity::from_bytes),
        vendor: drive.manufacturer.clone(),
        model: drive.model.clone(),
        state: None,
    }
}

fn volume(volume: &found::Volume) -> StorageVolume {
    StorageVolume {
        name: Some(volume.name.clone().unwrap_or_else(|| volume.id.clone())),
        capacity: volume.capacity_bytes.map(Quantity::from_bytes),
        state: None,
        raid_type: volume.raid_type.clone(),
        volume_usage: None,
    }
}

fn small(value: u64) -> Option<i32> {
    i32::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        Inventory {
            system: SystemFacts {
                manufacturer: Some("Dell Inc.".into()),
                power_state: Some(found::PowerState::Off),
                memory_summary_mib: Some(262_144),
                ..SystemFacts::default()
            },
            drives: vec![
                found::Drive {
                    id: "Bay1".into(),
                    storage: Some("RAID.1".into()),
                    capacity_bytes: Some(960_197_124_096),
                    ..found::Drive::default()
                },
                found::Drive {
                    id: "Bay0".into(),
                    storage: Some("RAID.1".into()),
                    ..found::Drive::default()
                },
                found::Drive {
                    id: "M2".into(),
                    ..found::Drive::default()
                },
            ],
            ..Inventory::default()
        }
    }

    #[test]
    fn the_status_of_a_server_says_what_was_read_and_no_more() {
        let status = server_status(&inventory());
        assert_eq!(status.manufacturer.as_deref(), Some("Dell Inc."));
        assert_eq!(status.power_state, Some(PowerState::Off));
        assert_eq!(status.total_system_memory, Some(Quantity("256Gi".into())));
        assert_eq!(status.state, None);
        assert!(status.conditions.is_empty());
    }

    #[test]
    fn drives_stand_under_their_controller_in_a_lasting_order() {
        let mut other = inventory();
        other.drives.reverse();
        let status = server_status(&inventory());
        assert_eq!(status, server_status(&other));
        let named: Vec<_> = status.storages.iter().map(|s| s.name.as_deref()).collect();
        assert_eq!(named, [None, Some("RAID.1")]);
        let drives: Vec<_> = status.storages[1]
            .drives
            .iter()
            .map(|d| d.name.as_deref())
            .collect();
        assert_eq!(drives, [Some("Bay0"), Some("Bay1")]);
    }

    #[test]
    fn a_manager_without_a_power_state_has_power_since_it_answers() {
        let status = bmc_status(&ManagerFacts::default(), None);
        assert_eq!(status.power_state, Some(PowerState::On));
    }
}
