//! The management controllers.

use serde_json::json;

use super::system::{logs, media, reset_action};
use super::{Action, Check, Draft, link, links, ok};
use crate::shapes::MediaPlace;
use crate::template::slot;

pub(super) fn write(draft: &mut Draft) {
    let spec = draft.spec.clone();
    let path = spec.manager_path();
    let below = |name: &str| link(&format!("{path}/{name}"));
    let reset = reset_action(
        draft,
        &path,
        "Manager",
        spec.manager_reset,
        Action::ManagerReset,
    );
    let defaults = format!("{path}/Actions/Manager.ResetToDefaults");
    draft.action(&defaults, Action::ManagerResetToDefaults);
    let systems: Vec<String> = (0..spec.nodes.len())
        .map(|node| spec.system(node))
        .collect();
    let mut body = json!({
        "Name": "Manager", "Description": "BMC", "ManagerType": spec.manager_type, "Model": spec.manager_model,
        "FirmwareVersion": slot("firmware", 0), "UUID": slot("manager-uuid", 0), "ServiceEntryPointUUID": slot("service-uuid", 0),
        "DateTime": slot("now", 0), "DateTimeLocalOffset": "+00:00", "PowerState": "On", "Status": ok(),
        "EthernetInterfaces": below("EthernetInterfaces"), "NetworkProtocol": below("NetworkProtocol"), "LogServices": below("LogServices"),
        "GraphicalConsole": {"ServiceEnabled": true, "MaxConcurrentSessions": 4, "ConnectTypesSupported": ["KVMIP"]},
        "SerialConsole": {"ServiceEnabled": true, "MaxConcurrentSessions": 1, "ConnectTypesSupported": ["SSH", "IPMI"]},
        "Links": {
            "ManagerForServers": links(&systems), "ManagerForChassis": [link(&spec.main_chassis())], "ManagerInChassis": link(&spec.main_chassis()),
        },
        "Actions": {
            "#Manager.Reset": reset,
            "#Manager.ResetToDefaults": {"target": defaults, "ResetType@Redfish.AllowableValues": ["ResetAll"]},
        },
    });
    if let Some(body) = body.as_object_mut() {
        if spec.last_reset_time {
            body.insert("LastResetTime".into(), slot("manager-start", 0).into());
        }
        if matches!(spec.media_place, MediaPlace::Managers | MediaPlace::Both) {
            body.insert("VirtualMedia".into(), below("VirtualMedia"));
        }
    }
    draft.put(&path, spec.manager_schema, body);
    interface(draft, &path);
    protocol(draft, &path);
    logs(draft, &spec, &format!("{path}/LogServices"));
    if matches!(spec.media_place, MediaPlace::Managers | MediaPlace::Both) {
        let names: Vec<&str> = spec.media.iter().map(|media| media.manager_id).collect();
        media(draft, &spec, 0, &format!("{path}/VirtualMedia"), &names);
    }
    draft.collection(
        "/redfish/v1/Managers",
        "Manager",
        "Manager Collection",
        &[spec.manager.to_owned()],
    );
}

fn interface(draft: &mut Draft, manager: &str) {
    let path = format!("{manager}/EthernetInterfaces/1");
    draft.put(&path, "EthernetInterface.v1_8_0.EthernetInterface", json!({
        "Name": "Manager Ethernet Interface", "MACAddress": slot("bmc-mac", 0), "PermanentMACAddress": slot("bmc-mac", 0),
        "InterfaceEnabled": true, "LinkStatus": "LinkUp", "SpeedMbps": 1000, "FullDuplex": true, "AutoNeg": true, "HostName": "bmc",
        "DHCPv4": {"DHCPEnabled": true}, "NameServers": [], "Status": ok(),
        "IPv4Addresses": [{"Address": slot("bmc-address", 0), "SubnetMask": "255.0.0.0", "Gateway": "127.0.0.1", "AddressOrigin": "DHCP"}],
    }));
    draft.setting(&path, "/HostName", Check::Text(63));
    draft.setting(&path, "/DHCPv4/DHCPEnabled", Check::Bool);
    draft.collection(
        &format!("{manager}/EthernetInterfaces"),
        "EthernetInterface",
        "Ethernet Interface Collection",
        &["1".to_owned()],
    );
}

fn protocol(draft: &mut Draft, manager: &str) {
    let path = format!("{manager}/NetworkProtocol");
    draft.put(&path, "ManagerNetworkProtocol.v1_7_0.ManagerNetworkProtocol", json!({
        "Name": "Manager Network Protocol", "HostName": "bmc", "FQDN": "bmc.simulated.test", "Status": ok(),
        "HTTP": {"ProtocolEnabled": true, "Port": 80}, "HTTPS": {"ProtocolEnabled": true, "Port": 443},
        "SSH": {"ProtocolEnabled": true, "Port": 22}, "IPMI": {"ProtocolEnabled": false, "Port": 623},
        "NTP": {"ProtocolEnabled": false, "NTPServers": []},
    }));
    draft.setting(&path, "/IPMI/ProtocolEnabled", Check::Bool);
    draft.setting(&path, "/SSH/ProtocolEnabled", Check::Bool);
    draft.setting(&path, "/NTP/ProtocolEnabled", Check::Bool);
    draft.setting(&path, "/NTP/NTPServers", Check::Strings);
}
