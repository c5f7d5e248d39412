//! Firmware inventory and updates.

use serde_json::{Value, json};

use super::{Action, Draft, Kind, link, ok};
use crate::template::slot;

pub(super) fn write(draft: &mut Draft) {
    let spec = draft.spec.clone();
    let path = "/redfish/v1/UpdateService";
    let inventory = format!("{path}/FirmwareInventory");
    let bmc = if spec.manager == "bmc" {
        "bmc_active"
    } else {
        "BMC"
    };
    let mut firmware = vec![
        (
            bmc.to_owned(),
            spec.firmware_version.to_owned(),
            "Management controller",
        ),
        (
            "BIOS".to_owned(),
            spec.bios_version.to_owned(),
            "System firmware",
        ),
    ];
    firmware.extend(
        spec.firmware
            .iter()
            .enumerate()
            .map(|(i, (id, name))| (id.clone(), format!("1.{i}.0"), *name)),
    );
    for (i, (id, _, name)) in firmware.iter().enumerate() {
        draft.put(&format!("{inventory}/{id}"), "SoftwareInventory.v1_4_0.SoftwareInventory", json!({
            "Name": name, "Version": slot("firmware", i), "Updateable": i < 2, "SoftwareId": (100_000 + i).to_string(), "Status": ok(),
        }));
    }
    let names: Vec<String> = firmware.iter().map(|(id, _, _)| id.clone()).collect();
    draft.collection(
        &inventory,
        "SoftwareInventory",
        "Firmware Inventory Collection",
        &names,
    );
    draft.firmware = firmware
        .into_iter()
        .map(|(id, version, _)| (id, version))
        .collect();

    let mut body = json!({
        "Name": "Update Service", "ServiceEnabled": true, "Status": ok(), "FirmwareInventory": link(&inventory), "MaxImageSizeBytes": 419_430_400_u64,
    });
    if let Some(body) = body.as_object_mut() {
        if let Some(uri) = spec.push_uri {
            body.insert("HttpPushUri".into(), uri.into());
        }
        if let Some(uri) = spec.multipart_uri {
            body.insert("MultipartHttpPushUri".into(), uri.into());
        }
        if spec.simple_update {
            let target = format!("{path}/Actions/UpdateService.SimpleUpdate");
            draft.action(&target, Action::SimpleUpdate);
            body.insert(
                "Actions".into(),
                json!({"#UpdateService.SimpleUpdate": {
                    "target": target, "TransferProtocol@Redfish.AllowableValues": ["HTTP", "HTTPS"],
                }}),
            );
        }
    }
    draft.put(path, "UpdateService.v1_8_0.UpdateService", body);
    for uri in [spec.push_uri, spec.multipart_uri].into_iter().flatten() {
        if uri == inventory {
            draft.kind(uri, Kind::Upload);
        } else {
            draft.put(uri, "", Value::Null);
            draft.kind(uri, Kind::Upload);
        }
    }
}
