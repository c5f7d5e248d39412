use corten_api::corten::Drive;
use serde_json::json;

use super::*;

fn drive(serial: &str) -> Drive {
    serde_json::from_value(json!({"id": format!("d-{serial}"), "serialNumber": serial})).unwrap()
}

fn with(serials: &[&str]) -> ServerInventoryStatus {
    let bare = ServerInventoryStatus {
        drives: serials.iter().map(|serial| drive(serial)).collect(),
        ..ServerInventoryStatus::default()
    };
    with_drives_of(bare, &ServerInventoryStatus::default())
}

#[test]
fn a_drive_that_is_not_seen_any_more_stays_recorded_while_the_disks_are_somebodys() {
    let kept = with_drives_of(with(&["C", "A"]), &with(&["A", "B"]));
    let serials: Vec<_> = kept
        .drives
        .iter()
        .filter_map(|drive| drive.serial_number.as_deref())
        .collect();
    assert_eq!(serials, ["A", "B", "C"]);
    assert_eq!(kept.content_hash, with(&["A", "B", "C"]).content_hash);
    assert_ne!(kept.content_hash, with(&["A", "C"]).content_hash);
}

#[test]
fn what_changed_is_named_by_its_field_and_what_the_probe_saw_is_none_of_it() {
    let mut old = with(&["A"]);
    old.in_band = Some(json!({"cpus": 2}));
    let mut new = with(&["A", "B"]);
    new.health = Some("Warning".into());
    assert_eq!(differing(&old, &new), ["drives", "health"]);
    assert_eq!(differing(&old, &old), [""; 0]);
}

#[test]
fn an_interface_that_only_the_probe_saw_stays_and_one_that_the_bmc_stopped_telling_of_goes() {
    let nic = |mac: &str| NetworkInterface {
        name: "n".into(),
        mac_address: mac.into(),
        ..NetworkInterface::default()
    };
    let old = ServerStatus {
        network_interfaces: vec![nic("02:00:00:00:00:01"), nic("02:00:00:00:00:02")],
        ..ServerStatus::default()
    };
    let before: ServerInventoryStatus = serde_json::from_value(json!({
        "networkPorts": [{"id": "1", "macAddress": "02:00:00:00:00:01"}],
    }))
    .unwrap();
    let macs: Vec<_> = renewed(&old, &Found::default(), &before)
        .network_interfaces
        .into_iter()
        .map(|nic| nic.mac_address)
        .collect();
    assert_eq!(macs, ["02:00:00:00:00:02"]);
}
