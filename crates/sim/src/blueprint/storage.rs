//! Storage controllers, drives and volumes.

use serde_json::{Value, json};

use super::{Action, Draft, DriveSlot, link, ok};
use crate::shapes::{Controller, Spec};
use crate::template::slot;

/// Where the drives are that every node of a multi-node machine reaches.
const ENCLOSURE: &str = "/redfish/v1/Storage/Enclosure";

pub(super) fn write(draft: &mut Draft) {
    let spec = draft.spec.clone();
    for node in 0..spec.nodes.len() {
        let system = spec.system(node);
        let mut names = Vec::new();
        for controller in &spec.controllers {
            storage(draft, &spec, node, controller);
            names.push(controller.id.to_owned());
        }
        let mut units: Vec<Value> = names
            .iter()
            .map(|name| link(&format!("{system}/Storage/{name}")))
            .collect();
        if spec.shared_drives > 0 {
            units.push(link(ENCLOSURE));
        }
        draft.collection_of(
            &format!("{system}/Storage"),
            "Storage",
            "Storage Collection",
            units,
        );
        if spec.simple_storage {
            simple(draft, &spec, node);
        }
    }
    if spec.shared_drives > 0 {
        enclosure(draft, &spec);
    }
}

/// A storage unit in the enclosure, which every node reaches.
fn enclosure(draft: &mut Draft, spec: &Spec) {
    let Some(like) = spec.controllers.first() else {
        return;
    };
    let mut drives = Vec::new();
    for bay in 0..spec.shared_drives {
        let path = drive(draft, spec, 0, like, ENCLOSURE, &format!("Bay{bay}"));
        if let Some(body) = draft.body_mut(&path) {
            body.insert(
                "Links".into(),
                json!({"Chassis": link(&spec.main_chassis()), "Volumes": []}),
            );
        }
        drives.push(link(&path));
    }
    draft.put(ENCLOSURE, "Storage.v1_13_0.Storage", json!({
        "Name": "Shared bays", "Status": ok(), "Drives@odata.count": drives.len(), "Drives": drives,
        "Links": {"Enclosures": [link(&spec.main_chassis())]},
    }));
    draft.collection_of(
        "/redfish/v1/Storage",
        "Storage",
        "Storage Collection",
        vec![link(ENCLOSURE)],
    );
    if let Some(root) = draft.body_mut("/redfish/v1/") {
        root.insert("Storage".into(), link("/redfish/v1/Storage"));
    }
}

fn storage(draft: &mut Draft, spec: &Spec, node: usize, controller: &Controller) {
    let path = format!("{}/Storage/{}", spec.system(node), controller.id);
    let mut drives = Vec::new();
    for name in &controller.drives {
        drives.push(link(&drive(draft, spec, node, controller, &path, name)));
    }
    let volumes: Vec<String> = (1..=controller.volumes).map(|i| i.to_string()).collect();
    let mut body = json!({
        "Name": controller.name, "Status": ok(), "Drives@odata.count": drives.len(), "Drives": drives,
        "Volumes": link(&format!("{path}/Volumes")), "Links": {"Enclosures": [link(&spec.node_chassis(node))]},
    });
    let serial = draft.part();
    let facts = json!({
        "Name": controller.name, "Manufacturer": spec.manufacturer, "Model": controller.model, "SerialNumber": serial,
        "FirmwareVersion": "51.16.0-4076", "SupportedControllerProtocols": ["PCIe"],
        "SupportedDeviceProtocols": [controller.protocol], "Status": ok(),
    });
    if let Some(body) = body.as_object_mut() {
        if spec.old_sensors {
            let mut row = facts;
            if let Some(row) = row.as_object_mut() {
                row.insert(
                    "@odata.id".into(),
                    format!("{path}#/StorageControllers/0").into(),
                );
                row.insert("MemberId".into(), "0".into());
            }
            body.insert("StorageControllers".into(), json!([row]));
        } else {
            body.insert("Controllers".into(), link(&format!("{path}/Controllers")));
            draft.put(
                &format!("{path}/Controllers/{}", controller.id),
                "StorageController.v1_5_0.StorageController",
                facts,
            );
            draft.collection(
                &format!("{path}/Controllers"),
                "StorageController",
                "Controllers",
                &[controller.id.to_owned()],
            );
        }
    }
    draft.put(&path, "Storage.v1_13_0.Storage", body);
    for (i, name) in volumes.iter().enumerate() {
        let members: Vec<Value> = controller
            .drives
            .iter()
            .take(2)
            .map(|name| link(&drive_path(&path, name)))
            .collect();
        draft.put(&format!("{path}/Volumes/{name}"), "Volume.v1_6_2.Volume", json!({
            "Name": format!("Volume {i}"), "RAIDType": "RAID1", "CapacityBytes": controller.drive_bytes, "Status": ok(),
            "Links": {"Drives": members},
        }));
    }
    draft.collection(&format!("{path}/Volumes"), "Volume", "Volumes", &volumes);
}

fn drive_path(storage: &str, name: &str) -> String {
    format!("{storage}/Drives/{name}")
}

fn drive(
    draft: &mut Draft,
    spec: &Spec,
    node: usize,
    controller: &Controller,
    storage: &str,
    name: &str,
) -> String {
    let path = drive_path(storage, name);
    let index = draft.drives.len();
    let body = json!({
        "Name": name, "Manufacturer": controller.drive_maker, "Model": controller.drive_model, "SerialNumber": slot("drive", index),
        "Revision": "1.2.0", "CapacityBytes": controller.drive_bytes, "MediaType": controller.media, "Protocol": controller.protocol,
        "BlockSizeBytes": 512, "CapableSpeedGbs": 16, "NegotiatedSpeedGbs": 16, "PredictedMediaLifeLeftPercent": 100,
        "FailurePredicted": false, "EncryptionAbility": "SelfEncryptingDrive", "HotspareType": "None", "Status": ok(),
        "PhysicalLocation": {"PartLocation": {"LocationOrdinalValue": index, "LocationType": "Bay"}},
        "Operations": slot("erasing", index),
        "Actions": slot("erase-action", index),
        "Links": {"Chassis": link(&spec.node_chassis(node)), "Volumes": []},
    });
    let target = format!("{path}/Actions/Drive.SecureErase");
    draft.action(&target, Action::SecureErase(index));
    draft.drives.push(DriveSlot {
        node,
        path: path.clone(),
        erasable: controller.erasable,
    });
    draft.put(&path, "Drive.v1_15_0.Drive", body);
    path
}

fn simple(draft: &mut Draft, spec: &Spec, node: usize) {
    let system = spec.system(node);
    let mut names = Vec::new();
    for controller in &spec.controllers {
        let devices: Vec<Value> = controller.drives.iter().map(|name| json!({
            "Name": name, "Manufacturer": controller.drive_maker, "Model": controller.drive_model,
            "CapacityBytes": controller.drive_bytes, "Status": ok(),
        })).collect();
        draft.put(
            &format!("{system}/SimpleStorage/{}", controller.id),
            "SimpleStorage.v1_3_1.SimpleStorage",
            json!({
                "Name": controller.name, "Devices": devices, "Status": ok(),
                "Links": {"Storage": link(&format!("{system}/Storage/{}", controller.id))},
            }),
        );
        names.push(controller.id.to_owned());
    }
    draft.collection(
        &format!("{system}/SimpleStorage"),
        "SimpleStorage",
        "Simple Storage Collection",
        &names,
    );
}
