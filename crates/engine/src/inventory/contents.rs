//! The long inventory and its digest.

use corten_api::corten as wire;
use corten_redfish::inventory::{Health, Inventory, Processor, Section, SectionState};
use ring::digest::{SHA256, digest};

/// All that a machine is made of, with [`wire::ServerInventoryStatus::content_hash`] set: SHA-256 of the rest as JSON, in hexadecimal.
#[must_use]
pub fn contents(inventory: &Inventory) -> wire::ServerInventoryStatus {
    let mut contents = wire::ServerInventoryStatus {
        health: health(inventory.system.health.as_ref()),
        processors: by_id(inventory.cpus().map(processor), |p| &p.id),
        gpus: by_id(inventory.gpus().map(gpu), |g| &g.id),
        memory_modules: memory(inventory),
        storage_controllers: controllers(inventory),
        drives: drives(inventory),
        volumes: volumes(inventory),
        network_ports: ports(inventory),
        network_adapters: adapters(inventory),
        pcie_devices: pcie(inventory),
        firmware: firmware(inventory),
        sections: inventory
            .sections
            .named()
            .iter()
            .filter_map(|(name, s)| section(name, s))
            .collect(),
        in_band: None,
        content_hash: None,
    };
    contents.content_hash = hash(&contents);
    contents
}

/// `contents` with the drives that `recorded` has beside its own, by serial number: a cleaning is judged against all that there were.
#[must_use]
pub fn with_drives_of(
    mut contents: wire::ServerInventoryStatus,
    recorded: &wire::ServerInventoryStatus,
) -> wire::ServerInventoryStatus {
    for drive in &recorded.drives {
        let has = |known: &wire::Drive| known.serial_number == drive.serial_number;
        if drive.serial_number.is_some() && !contents.drives.iter().any(has) {
            contents.drives.push(drive.clone());
        }
    }
    contents.drives.sort_by(|a, b| a.id.cmp(&b.id));
    contents.content_hash = None;
    contents.content_hash = hash(&contents);
    contents
}

fn hash(contents: &wire::ServerInventoryStatus) -> Option<String> {
    let json = serde_json::to_vec(contents).ok()?;
    let digest = digest(&SHA256, &json);
    Some(digest.as_ref().iter().map(|b| format!("{b:02x}")).collect())
}

fn by_id<T>(all: impl Iterator<Item = T>, id: impl Fn(&T) -> &str) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_by(|a, b| id(a).cmp(id(b)));
    all
}

fn health(health: Option<&Health>) -> Option<String> {
    health.map(|h| h.as_str().to_owned())
}

fn whole(value: Option<u64>) -> Option<i64> {
    value.and_then(|v| i64::try_from(v).ok())
}

fn processor(p: &Processor) -> wire::Processor {
    wire::Processor {
        id: p.id.clone(),
        socket: p.socket.clone(),
        manufacturer: p.manufacturer.clone(),
        model: p.model.clone(),
        architecture: p.architecture.clone(),
        instruction_set: p.instruction_set.clone(),
        cores: whole(p.cores),
        threads: whole(p.threads),
        max_speed_mhz: whole(p.max_speed_mhz),
        part_number: p.part_number.clone(),
        serial_number: p.serial_number.clone(),
        health: health(p.health.as_ref()),
    }
}

fn gpu(p: &Processor) -> wire::Gpu {
    wire::Gpu {
        id: p.id.clone(),
        kind: Some(p.kind.as_str().to_owned()),
        slot: p.socket.clone(),
        manufacturer: p.manufacturer.clone(),
        model: p.model.clone(),
        memory_mib: whole(p.memory_mib),
        uuid: p.uuid.clone(),
        part_number: p.part_number.clone(),
        serial_number: p.serial_number.clone(),
        firmware_version: p.firmware_version.clone(),
        health: health(p.health.as_ref()),
    }
}

fn memory(inventory: &Inventory) -> Vec<wire::MemoryModule> {
    let modules = inventory.memory.iter().map(|m| wire::MemoryModule {
        id: m.id.clone(),
        location: m.location.clone(),
        capacity_mib: whole(m.capacity_mib),
        device_type: m.device_type.clone(),
        speed_mhz: whole(m.speed_mhz),
        manufacturer: m.manufacturer.clone(),
        part_number: m.part_number.clone(),
        serial_number: m.serial_number.clone(),
        health: health(m.health.as_ref()),
    });
    by_id(modules, |m| &m.id)
}

fn controllers(inventory: &Inventory) -> Vec<wire::StorageController> {
    let controllers = inventory
        .controllers
        .iter()
        .map(|c| wire::StorageController {
            id: c.storage.clone(),
            name: c.name.clone(),
            manufacturer: c.manufacturer.clone(),
            model: c.model.clone(),
            serial_number: c.serial_number.clone(),
            firmware_version: c.firmware_version.clone(),
            protocols: c.device_protocols.clone(),
            raid_types: c.raid_types.clone(),
            health: health(c.health.as_ref()),
        });
    by_id(controllers, |c| &c.id)
}

fn drives(inventory: &Inventory) -> Vec<wire::Drive> {
    let drives = inventory.drives.iter().map(|d| wire::Drive {
        id: d.id.clone(),
        storage: d.storage.clone(),
        name: d.name.clone(),
        manufacturer: d.manufacturer.clone(),
        model: d.model.clone(),
        serial_number: d.serial_number.clone(),
        revision: d.revision.clone(),
        capacity_bytes: whole(d.capacity_bytes),
        protocol: d.protocol.clone(),
        media_type: d.media_type.clone(),
        location: d.location.clone(),
        durable_names: d.durable_names.clone(),
        encryption_ability: d.encryption_ability.clone(),
        // The in-band probe adds the drive's own methods; out of band there is one (DSP0268, Drive.SecureErase).
        erase_support: d
            .secure_erase
            .iter()
            .map(|_| "SecureErase".to_owned())
            .collect(),
        multipath: d.multipath || d.shared,
        health: health(d.health.as_ref()),
    });
    by_id(drives, |d| &d.id)
}

fn volumes(inventory: &Inventory) -> Vec<wire::Volume> {
    let volumes = inventory.volumes.iter().map(|v| wire::Volume {
        id: v.id.clone(),
        storage: Some(v.storage.clone()),
        name: v.name.clone(),
        capacity_bytes: whole(v.capacity_bytes),
        raid_type: v.raid_type.clone(),
        health: health(v.health.as_ref()),
    });
    by_id(volumes, |v| &v.id)
}

fn ports(inventory: &Inventory) -> Vec<wire::NetworkPort> {
    let ports = inventory.interfaces.iter().map(|p| wire::NetworkPort {
        id: p.id.clone(),
        name: p.name.clone(),
        mac_address: Some(p.mac.to_string()),
        permanent_mac_address: p.permanent_mac.map(|mac| mac.to_string()),
        speed_mbps: whole(p.speed_mbps),
        link_up: p.link_up,
        adapter: p.adapter.clone(),
        technology: p.technology.clone(),
    });
    by_id(ports, |p| &p.id)
}

fn adapters(inventory: &Inventory) -> Vec<wire::NetworkAdapter> {
    let adapters = inventory.adapters.iter().map(|a| wire::NetworkAdapter {
        id: a.id.clone(),
        manufacturer: a.manufacturer.clone(),
        model: a.model.clone(),
        part_number: a.part_number.clone(),
        serial_number: a.serial_number.clone(),
        firmware_version: a.firmware_version.clone(),
        location: a.location.clone(),
        health: health(a.health.as_ref()),
    });
    by_id(adapters, |a| &a.id)
}

fn pcie(inventory: &Inventory) -> Vec<wire::PcieDevice> {
    let devices = inventory.pcie_devices.iter().map(|d| wire::PcieDevice {
        id: d.id.clone(),
        name: d.name.clone(),
        manufacturer: d.manufacturer.clone(),
        model: d.model.clone(),
        part_number: d.part_number.clone(),
        serial_number: d.serial_number.clone(),
        firmware_version: d.firmware_version.clone(),
        slot: d.slot.clone(),
        pcie_type: d.pcie_type.clone(),
        lanes: whole(d.lanes),
        health: health(d.health.as_ref()),
    });
    by_id(devices, |d| &d.id)
}

fn firmware(inventory: &Inventory) -> Vec<wire::Firmware> {
    let firmware = inventory.firmware.iter().map(|f| wire::Firmware {
        id: f.id.clone(),
        name: f.name.clone(),
        version: f.version.clone(),
        updateable: f.updateable,
        software_id: f.software_id.clone(),
    });
    by_id(firmware, |f| &f.id)
}

/// Nothing is said of a section that was read whole.
fn section(name: &str, section: &Section) -> Option<wire::Section> {
    let (state, message) = match &section.state {
        SectionState::Read if section.unread_count == 0 => return None,
        SectionState::Read => (wire::SectionState::Read, Some(unread(section))),
        SectionState::Unsupported => (wire::SectionState::Unsupported, None),
        SectionState::Failed(why) => (wire::SectionState::Failed, Some(why.clone())),
    };
    Some(wire::Section {
        name: name.to_owned(),
        state,
        message,
    })
}

fn unread(section: &Section) -> String {
    let named: Vec<String> = section
        .unread
        .iter()
        .map(|u| format!("{}: {}", u.path, u.reason))
        .collect();
    format!("{} not read: {}", section.unread_count, named.join("; "))
}

#[cfg(test)]
mod tests {
    use corten_redfish::inventory::MemoryModule;

    use super::*;

    fn inventory(ids: &[&str]) -> Inventory {
        Inventory {
            memory: ids
                .iter()
                .map(|id| MemoryModule {
                    id: (*id).into(),
                    capacity_mib: Some(16_384),
                    ..MemoryModule::default()
                })
                .collect(),
            ..Inventory::default()
        }
    }

    #[test]
    fn the_order_in_which_a_bmc_lists_its_parts_is_no_change() {
        let (a, b) = (
            contents(&inventory(&["A1", "A2"])),
            contents(&inventory(&["A2", "A1"])),
        );
        assert!(a.content_hash.is_some());
        assert_eq!(a, b);
    }

    #[test]
    fn a_part_more_is_a_change() {
        let (a, b) = (
            contents(&inventory(&["A1"])),
            contents(&inventory(&["A1", "A2"])),
        );
        assert_ne!(a.content_hash, b.content_hash);
    }

    #[test]
    fn only_sections_that_were_not_read_whole_are_spoken_of() {
        let mut inventory = inventory(&["A1"]);
        inventory.sections.memory.state = SectionState::Read;
        let sections = contents(&inventory).sections;
        assert!(sections.iter().all(|s| s.name != "memory"));
        assert!(
            sections
                .iter()
                .any(|s| s.state == wire::SectionState::Unsupported)
        );
    }
}
