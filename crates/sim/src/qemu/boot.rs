//! What the BMC wants booted, written into the variable store of a machine that is off.

use crate::machine::node::Override;

use super::command::{Layout, card_path, cd_path};
use super::device_path::{BootClass, read_option};
use super::store::VariableStore;

/// The number of the BMC's own boot option, far from those that firmware and systems take.
const OWN: u16 = 0xC0;
/// Numbers of the options that stand for a boot order before the firmware has made any of its own.
const FIRST_OF_ORDER: u16 = 0xC1;
/// `EFI_OS_INDICATIONS_BOOT_TO_FW_UI`
const BOOT_TO_SETUP: u64 = 1;

fn name(number: u16) -> String {
    format!("Boot{number:04X}")
}

/// Writes an override into `store`, or takes the last one away.
pub(super) fn apply_override(
    store: &mut VariableStore,
    boot: Option<&Override>,
    layout: &Layout,
    is_partitioned: impl Fn(usize) -> bool,
) {
    // A boot that did not get so far may have left the last one.
    store.remove(&name(OWN));
    if store.get("BootNext") == Some(&OWN.to_le_bytes()) {
        store.remove("BootNext");
    }
    let Some(boot) = boot else { return };
    let card = layout.macs.first().copied();
    let own = match boot.target.as_str() {
        "Pxe" => card.map(|mac| card_path(0, mac).load_option("BMC: PXE")),
        "UefiHttp" => card.map(|mac| {
            card_path(0, mac)
                .uri(boot.uri.as_deref().unwrap_or_default())
                .load_option("BMC: HTTP")
        }),
        "Cd" => Some(cd_path().load_option("BMC: CD")),
        "Hdd" => match installed(store) {
            Some(number) => {
                store.set("BootNext", number.to_le_bytes().to_vec());
                None
            }
            None => layout
                .disks
                .iter()
                .enumerate()
                .find(|(number, _)| is_partitioned(*number))
                .map(|(_, disk)| disk.path().load_option("BMC: disk")),
        },
        "BiosSetup" => {
            let present = store
                .get("OsIndications")
                .and_then(|data| data.try_into().ok())
                .map_or(0, u64::from_le_bytes);
            store.set(
                "OsIndications",
                (present | BOOT_TO_SETUP).to_le_bytes().to_vec(),
            );
            None
        }
        _ => None,
    };
    if let Some(option) = own {
        store.set(&name(OWN), option);
        store.set("BootNext", OWN.to_le_bytes().to_vec());
    }
}

/// The first option of the boot order that names a partition: an installed system's.
fn installed(store: &VariableStore) -> Option<u16> {
    boot_order(store).into_iter().find(|number| {
        store
            .get(&name(*number))
            .is_some_and(super::device_path::names_partition)
    })
}

fn boot_order(store: &VariableStore) -> Vec<u16> {
    store
        .get("BootOrder")
        .unwrap_or_default()
        .chunks_exact(2)
        .filter_map(|number| Some(u16::from_le_bytes(number.try_into().ok()?)))
        .collect()
}

/// Brings the boot order into the order of these kinds; what is of none of them comes last.
pub(super) fn apply_order(store: &mut VariableStore, wanted: &[BootClass], layout: &Layout) {
    let mut order = boot_order(store);
    if order.is_empty() {
        order = options_of(store, layout);
    }
    let virtio: Vec<u8> = layout
        .disks
        .iter()
        .filter_map(|disk| disk.virtio())
        .collect();
    order.sort_by_key(|number| {
        let class = store
            .get(&name(*number))
            .and_then(|option| read_option(option, &virtio))
            .map_or(BootClass::Other, |(_, class)| class);
        wanted
            .iter()
            .position(|kind| *kind == class)
            .unwrap_or(wanted.len())
    });
    let data = order.into_iter().flat_map(u16::to_le_bytes).collect();
    store.set("BootOrder", data);
}

/// Options for all that the machine can boot, for a store in which the firmware has not made its own yet.
fn options_of(store: &mut VariableStore, layout: &Layout) -> Vec<u16> {
    let mut options = vec![cd_path().load_option("CD")];
    for disk in &layout.disks {
        options.push(disk.path().load_option(&format!("Disk {}", disk.serial)));
    }
    for (card, mac) in (0_u8..).zip(&layout.macs) {
        options.push(card_path(card, *mac).load_option(&format!("PXE {mac}")));
        options.push(
            card_path(card, *mac)
                .uri("")
                .load_option(&format!("HTTP {mac}")),
        );
    }
    (FIRST_OF_ORDER..)
        .zip(options)
        .map(|(number, option)| {
            store.set(&name(number), option);
            number
        })
        .collect()
}

/// What a Redfish boot option of the machine stands for; see the blueprint's boot options.
pub(super) fn class_of(reference: &str) -> BootClass {
    match reference {
        "Boot0000" => BootClass::Hdd,
        "Boot0001" => BootClass::Pxe,
        "Boot0002" => BootClass::UefiHttp,
        "Boot0003" => BootClass::Cd,
        _ => BootClass::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::places;
    use super::super::store::tests::blank;
    use super::super::{Bus, Disk};
    use super::*;
    use crate::identity::MacAddress;

    fn layout() -> Layout {
        Layout {
            uuid: String::new(),
            serial: String::new(),
            manufacturer: String::new(),
            product: String::new(),
            chassis_serial: String::new(),
            macs: vec![MacAddress([0x52, 0x54, 0, 0, 0, 1])],
            disks: places(
                &[
                    Disk::new(Bus::Nvme, 1),
                    Disk::new(Bus::Sata, 1),
                    Disk::new(Bus::Virtio, 1),
                ],
                &[],
                |i| format!("S{i}"),
            ),
            index: 0,
        }
    }

    fn boot(target: &str, uri: Option<&str>) -> Override {
        Override {
            target: target.to_owned(),
            uri: uri.map(str::to_owned),
            ..Override::none()
        }
    }

    #[test]
    fn an_override_is_one_boot_option_that_comes_next_and_goes_again() {
        let mut store = VariableStore::parse(blank()).unwrap();
        let untouched = store.clone();
        for target in ["Pxe", "UefiHttp", "Cd"] {
            apply_override(&mut store, Some(&boot(target, None)), &layout(), |_| false);
            assert_eq!(store.get("BootNext"), Some(&[0xC0, 0][..]), "{target}");
        }
        apply_override(&mut store, None, &layout(), |_| false);
        assert_eq!(store, untouched);
    }

    #[test]
    fn what_a_system_wants_next_stays_when_the_bmc_wants_nothing() {
        let mut store = VariableStore::parse(blank()).unwrap();
        store.set("BootNext", vec![7, 0]);
        apply_override(&mut store, None, &layout(), |_| false);
        assert_eq!(store.get("BootNext"), Some(&[7, 0][..]));
    }

    #[test]
    fn a_disk_is_the_installed_systems_or_the_first_with_partitions() {
        let mut store = VariableStore::parse(blank()).unwrap();
        apply_override(&mut store, Some(&boot("Hdd", None)), &layout(), |_| false);
        assert_eq!(store.get("BootNext"), None, "nothing to boot");
        apply_override(&mut store, Some(&boot("Hdd", None)), &layout(), |n| n == 1);
        let option = store.get("Boot00C0").unwrap().to_vec();
        assert_eq!(read_option(&option, &[]).unwrap().1, BootClass::Hdd);
        // HD(1,GPT,…)
        let mut system = vec![1, 0, 0, 0, 46, 0, 0, 0, 4, 1, 42, 0];
        system.extend([0; 38]);
        system.extend([0x7F, 0xFF, 4, 0]);
        store.set("Boot0007", system);
        store.set("BootOrder", vec![1, 0, 7, 0]);
        apply_override(&mut store, Some(&boot("Hdd", None)), &layout(), |n| n == 1);
        assert_eq!(store.get("BootNext"), Some(&[7, 0][..]));
    }

    #[test]
    fn the_order_goes_by_kind_and_keeps_what_it_does_not_know() {
        let mut store = VariableStore::parse(blank()).unwrap();
        let wanted = [BootClass::UefiHttp, BootClass::Hdd];
        apply_order(&mut store, &wanted, &layout());
        // CD C1, disks C2 to C4, PXE C5, HTTP C6.
        let order = boot_order(&store);
        assert_eq!(order, [0xC6, 0xC2, 0xC3, 0xC4, 0xC1, 0xC5]);
        store.set("Boot0001", vec![0; 3]);
        let mut data: Vec<u8> = vec![1, 0];
        data.extend(order.into_iter().flat_map(u16::to_le_bytes));
        store.set("BootOrder", data);
        apply_order(&mut store, &[BootClass::Cd], &layout());
        assert_eq!(boot_order(&store).first(), Some(&0xC1));
        assert_eq!(boot_order(&store).len(), 7);
    }
}
