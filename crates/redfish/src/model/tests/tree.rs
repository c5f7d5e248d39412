//! A service in memory, and its misbehaviour.

use crate::document::Document;
use crate::gateway::{IfMatch, Reply};
use crate::model::Access;
use crate::{GatewayError, Priority};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) type Documents = BTreeMap<String, Value>;

/// Answers from `documents`; expands links one level at a time where asked to.
pub(super) struct Tree {
    documents: Documents,
    expand: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: u32,
    expanded: u32,
    failing: BTreeMap<String, u16>,
    failing_expand: Option<u16>,
    left_out: Vec<String>,
    silent: bool,
    silent_at: Vec<String>,
    refusing: bool,
    sent: Vec<(&'static str, String, Value)>,
}

impl Tree {
    pub(super) fn new(documents: Documents, expand: bool) -> Arc<Self> {
        Arc::new(Self {
            documents,
            expand,
            state: Mutex::default(),
        })
    }

    pub(super) fn requests(&self) -> u32 {
        self.state.lock().requests
    }

    pub(super) fn expanded_requests(&self) -> u32 {
        self.state.lock().expanded
    }

    pub(super) fn sent(&self) -> Vec<(&'static str, String, Value)> {
        self.state.lock().sent.clone()
    }

    pub(super) fn fail(&self, path: &str, code: u16) {
        self.state.lock().failing.insert(path.to_owned(), code);
    }

    pub(super) fn fail_expand(&self, code: u16) {
        self.state.lock().failing_expand = Some(code);
    }

    pub(super) fn leave_out_of_expand(&self, path: &str) {
        self.state.lock().left_out.push(path.to_owned());
    }

    pub(super) fn go_silent(&self) {
        self.state.lock().silent = true;
    }

    pub(super) fn silence_at(&self, path: &str) {
        self.state.lock().silent_at.push(path.to_owned());
    }

    pub(super) fn refuse_login(&self) {
        self.state.lock().refusing = true;
    }

    fn answer(&self, target: &str) -> Result<Document, GatewayError> {
        let mut state = self.state.lock();
        state.requests += 1;
        let (path, query) = match self.documents.contains_key(target) {
            true => (target, ""),
            false => target.split_once('?').unwrap_or((target, "")),
        };
        if state.refusing {
            return Err(GatewayError::AuthFailed {
                username: "admin".into(),
                status: 401,
            });
        }
        if state.silent || state.silent_at.iter().any(|silent| silent == path) {
            return Err(GatewayError::Timeout {
                authority: "bmc".into(),
                phase: crate::error::Phase::Headers,
                after: Duration::from_secs(30),
            });
        }
        let status = |code| GatewayError::Status {
            code,
            method: "GET",
            path: target.into(),
            message: "no".into(),
            message_id: None,
            retry_after: None,
        };
        let wants_expand = query.starts_with("$expand");
        if wants_expand {
            state.expanded += 1;
            if let Some(code) = state.failing_expand {
                return Err(status(code));
            }
        }
        if let Some(code) = state.failing.get(path) {
            return Err(status(*code));
        }
        let key = if path.len() > 1 {
            path.trim_end_matches('/')
        } else {
            path
        };
        let mut body = self
            .documents
            .get(key)
            .or_else(|| self.documents.get(path))
            .cloned()
            .ok_or_else(|| status(404))?;
        if wants_expand && self.expand {
            let levels = query
                .split_once("$levels=")
                .and_then(|(_, rest)| rest.trim_end_matches(')').parse().ok())
                .unwrap_or(1);
            self.expand_in(&mut body, levels, &state.left_out);
        }
        Ok(Document::new(path, None, body))
    }

    fn expand_in(&self, value: &mut Value, levels: u8, left_out: &[String]) {
        match value {
            Value::Array(items) => items
                .iter_mut()
                .for_each(|item| self.expand_at(item, levels, left_out)),
            Value::Object(map) => map
                .iter_mut()
                .filter(|(key, _)| *key != "Links")
                .for_each(|(_, item)| self.expand_at(item, levels, left_out)),
            _ => {}
        }
    }

    fn expand_at(&self, value: &mut Value, levels: u8, left_out: &[String]) {
        let link = value
            .as_object()
            .filter(|map| map.len() == 1)
            .and_then(|map| map.get("@odata.id"))
            .and_then(Value::as_str);
        let Some(link) = link else {
            return self.expand_in(value, levels, left_out);
        };
        if left_out.iter().any(|path| path == link) {
            return;
        }
        if let Some(mut body) = self.documents.get(link).cloned() {
            if levels > 1 {
                self.expand_in(&mut body, levels - 1, left_out);
            }
            *value = body;
        }
    }

    fn record(
        &self,
        method: &'static str,
        path: &str,
        body: &Value,
    ) -> Result<Reply, GatewayError> {
        let mut state = self.state.lock();
        state.requests += 1;
        state.sent.push((method, path.to_owned(), body.clone()));
        Ok(Reply::empty(204, path))
    }
}

impl Access for Tree {
    fn get<'a>(
        &'a self,
        path: &'a str,
        _: Priority,
    ) -> BoxFuture<'a, Result<Document, GatewayError>> {
        Box::pin(async move { self.answer(path) })
    }

    fn post<'a>(
        &'a self,
        path: &'a str,
        body: &'a Value,
        _: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(async move { self.record("POST", path, body) })
    }

    fn patch<'a>(
        &'a self,
        path: &'a str,
        body: &'a Value,
        _: IfMatch,
        _: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(async move { self.record("PATCH", path, body) })
    }

    fn delete<'a>(
        &'a self,
        path: &'a str,
        _: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(async move { self.record("DELETE", path, &Value::Null) })
    }
}

/// A small machine: 2 CPUs and a GPU, 2 modules, a RAID controller with 3 drives and a volume, 2 interfaces and a third
/// that only the adapter knows, a BMC with virtual media.
pub(super) fn machine() -> Documents {
    let mut documents = Documents::new();
    let mut add = |path: &str, kind: &str, mut body: Value| {
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let map = body.as_object_mut().unwrap();
        map.insert("@odata.id".into(), json!(path));
        map.insert(
            "@odata.type".into(),
            json!(format!("#{kind}.v1_0_0.{kind}")),
        );
        map.entry("Id").or_insert(json!(id));
        map.entry("Name").or_insert(json!(kind));
        documents.insert(path.to_owned(), body);
    };
    let link = |path: &str| json!({ "@odata.id": path });
    let system = "/redfish/v1/Systems/1";
    let chassis = "/redfish/v1/Chassis/1";
    let manager = "/redfish/v1/Managers/1";
    let under = |base: &str, name: &str| link(&format!("{base}/{name}"));
    add(
        "/redfish/v1",
        "ServiceRoot",
        json!({
            "Vendor": "Contoso", "RedfishVersion": "1.15.0",
            "ProtocolFeaturesSupported": {"ExpandQuery": {"NoLinks": true, "Levels": true, "MaxLevels": 1}},
            "Systems": link("/redfish/v1/Systems"), "Managers": link("/redfish/v1/Managers"), "Chassis": link("/redfish/v1/Chassis"), "UpdateService": link("/redfish/v1/UpdateService"),
        }),
    );
    let status = json!({"State": "Enabled", "Health": "OK"});
    add(
        system,
        "ComputerSystem",
        json!({
            "Manufacturer": "Contoso", "Model": "M1", "SerialNumber": "S1", "SKU": "K1", "UUID": "38947555-7742-3448-3784-823347823834", "PowerState": "On", "BiosVersion": "1.0",
            "Status": status, "MemorySummary": {"TotalSystemMemoryGiB": 64}, "ProcessorSummary": {"Count": 2}, "LocationIndicatorActive": false,
            "Processors": under(system, "Processors"), "Memory": under(system, "Memory"), "Storage": under(system, "Storage"), "EthernetInterfaces": under(system, "EthernetInterfaces"),
            "Links": {"Chassis": [link(chassis)], "ManagedBy": [link(manager)]},
            "Boot": {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"},
            "Actions": {"#ComputerSystem.Reset": {"target": format!("{system}/Actions/ComputerSystem.Reset"), "ResetType@Redfish.AllowableValues": ["On", "ForceOff"]}},
        }),
    );
    add(
        chassis,
        "Chassis",
        json!({"ChassisType": "RackMount", "NetworkAdapters": under(chassis, "NetworkAdapters"), "PCIeDevices": under(chassis, "PCIeDevices"), "Links": {"ComputerSystems": [link(system)]}}),
    );
    add(
        manager,
        "Manager",
        json!({"ManagerType": "BMC", "FirmwareVersion": "2.0", "EthernetInterfaces": under(manager, "EthernetInterfaces"), "VirtualMedia": under(manager, "VirtualMedia"), "Links": {"ManagerForServers": [link(system)]}}),
    );
    add(
        "/redfish/v1/UpdateService",
        "UpdateService",
        json!({"FirmwareInventory": link("/redfish/v1/UpdateService/FirmwareInventory")}),
    );
    type Member<'a> = (&'a str, &'a str, &'a [(&'a str, Value)]);
    let members: &[Member<'_>] = &[
        (
            system,
            "Processors",
            &[
                ("1", json!({"ProcessorType": "CPU", "TotalCores": 16})),
                ("2", json!({"ProcessorType": "CPU", "TotalCores": 16})),
                ("3", json!({"ProcessorType": "GPU"})),
                (
                    "4",
                    json!({"ProcessorType": "CPU", "Status": {"State": "Absent"}}),
                ),
            ],
        ),
        (
            system,
            "Memory",
            &[
                ("1", json!({"CapacityMiB": 32768})),
                ("2", json!({"CapacityMiB": 32768})),
                ("3", json!({"CapacityMiB": 0})),
            ],
        ),
        (
            system,
            "EthernetInterfaces",
            &[
                ("1", json!({"MACAddress": "02:00:00:00:00:01"})),
                ("2", json!({"MACAddress": "020000000002"})),
                ("ToManager", json!({"MACAddress": "02:00:00:00:00:0f"})),
            ],
        ),
        (
            manager,
            "EthernetInterfaces",
            &[(
                "1",
                json!({"MACAddress": "02:00:00:00:00:ff", "IPv4Addresses": [{"Address": "10.0.0.9"}]}),
            )],
        ),
        (
            manager,
            "VirtualMedia",
            &[
                ("USB", json!({"MediaTypes": ["USBStick"], "Image": null})),
                (
                    "CD",
                    json!({"MediaTypes": ["CD", "DVD"], "Image": null, "Inserted": false}),
                ),
            ],
        ),
        (chassis, "PCIeDevices", &[("1", json!({"Model": "X"}))]),
        (
            "/redfish/v1/UpdateService",
            "FirmwareInventory",
            &[
                ("BMC", json!({"Version": "2.0"})),
                ("BIOS", json!({"Version": "1.0"})),
            ],
        ),
    ];
    let collection = |base: &str, name: &str, ids: &[&str]| {
        let members: Vec<Value> = ids
            .iter()
            .map(|id| link(&format!("{base}/{name}/{id}")))
            .collect();
        json!({ "Members@odata.count": members.len(), "Members": members })
    };
    for (base, name, entries) in members {
        let ids: Vec<&str> = entries.iter().map(|(id, _)| *id).collect();
        add(
            &format!("{base}/{name}"),
            "Collection",
            collection(base, name, &ids),
        );
        for (id, body) in *entries {
            add(&format!("{base}/{name}/{id}"), "Member", body.clone());
        }
    }
    for (path, body) in [
        ("/redfish/v1/Systems", json!({"Members": [link(system)]})),
        ("/redfish/v1/Managers", json!({"Members": [link(manager)]})),
        ("/redfish/v1/Chassis", json!({"Members": [link(chassis)]})),
        (
            "/redfish/v1/Systems/1/Storage",
            json!({"Members": [link("/redfish/v1/Systems/1/Storage/1")]}),
        ),
        (
            "/redfish/v1/Systems/1/Storage/1/Volumes",
            json!({"Members": [link("/redfish/v1/Systems/1/Storage/1/Volumes/1")]}),
        ),
        (
            "/redfish/v1/Chassis/1/NetworkAdapters",
            json!({"Members": [link("/redfish/v1/Chassis/1/NetworkAdapters/1")]}),
        ),
        (
            "/redfish/v1/Chassis/1/NetworkAdapters/1/Ports",
            json!({"Members": [link("/redfish/v1/Chassis/1/NetworkAdapters/1/Ports/1")]}),
        ),
    ] {
        add(path, "Collection", body);
    }
    let storage = "/redfish/v1/Systems/1/Storage/1";
    let drives: Vec<Value> = (1..=3)
        .map(|n| link(&format!("{storage}/Drives/{n}")))
        .collect();
    add(
        storage,
        "Storage",
        json!({"StorageControllers": [{"MemberId": "0", "Name": "RAID", "SupportedRAIDTypes": ["RAID1"]}], "Drives": drives, "Volumes": under(storage, "Volumes")}),
    );
    for n in 1..=3 {
        let path = format!("{storage}/Drives/{n}");
        add(
            &path,
            "Drive",
            json!({"SerialNumber": format!("D{n}"), "CapacityBytes": 960_000_000_000_u64, "Protocol": "SATA", "MediaType": "SSD", "Actions": {"#Drive.SecureErase": {"target": format!("{path}/Actions/Drive.SecureErase")}}}),
        );
    }
    add(
        &format!("{storage}/Volumes/1"),
        "Volume",
        json!({"CapacityBytes": 960_000_000_000_u64, "RAIDType": "RAID1"}),
    );
    let adapter = "/redfish/v1/Chassis/1/NetworkAdapters/1";
    add(
        adapter,
        "NetworkAdapter",
        json!({"Model": "N1", "Ports": under(adapter, "Ports")}),
    );
    add(
        &format!("{adapter}/Ports/1"),
        "Port",
        json!({"LinkStatus": "LinkUp", "CurrentSpeedGbps": 25, "Ethernet": {"AssociatedMACAddresses": ["02:00:00:00:00:01", "02:00:00:00:00:03"]}}),
    );
    documents
}
