//! Computer systems, their processors, memory, firmware settings and logs.

use serde_json::{Map, Value, json};

use super::{Action, Check, Draft, Kind, MediaSlot, Store, link, links, ok, one_of};
use crate::shapes::{LedProperty, MediaPlace, ResetNames, Spec};
use crate::template::slot;

impl Spec {
    pub fn system(&self, node: usize) -> String {
        let id = self.nodes.get(node).map_or("", String::as_str);
        format!("/redfish/v1/Systems/{id}")
    }

    pub fn manager_path(&self) -> String {
        format!("/redfish/v1/Managers/{}", self.manager)
    }

    pub fn main_chassis(&self) -> String {
        format!("/redfish/v1/Chassis/{}", self.chassis)
    }

    /// The chassis that a node sits in: its own in an enclosure of several.
    pub fn node_chassis(&self, node: usize) -> String {
        match self.nodes.get(node) {
            Some(id) if self.nodes.len() > 1 => format!("/redfish/v1/Chassis/{id}"),
            _ => self.main_chassis(),
        }
    }
}

pub(super) fn write(draft: &mut Draft) {
    let spec = draft.spec.clone();
    let mut members = spec.nodes.clone();
    for node in 0..spec.nodes.len() {
        system(draft, &spec, node);
        processors(draft, &spec, node);
        memory(draft, &spec, node);
        bios(draft, &spec, node);
        boot_options(draft, &spec, node);
        logs(draft, &spec, &format!("{}/LogServices", spec.system(node)));
    }
    if let Some(id) = baseboard(draft, &spec) {
        members.push(id);
    }
    draft.collection(
        "/redfish/v1/Systems",
        "ComputerSystem",
        "Computer System Collection",
        &members,
    );
}

/// The `Reset` action in the way of the shape.
pub(super) fn reset_action(
    draft: &mut Draft,
    path: &str,
    class: &str,
    types: &[&str],
    action: Action,
) -> Value {
    let target = format!("{path}/Actions/{class}.Reset");
    draft.action(&target, action);
    let mut body = Map::new();
    body.insert("target".into(), target.into());
    let names = draft.spec.reset_names;
    if names != ResetNames::ActionInfo {
        body.insert("ResetType@Redfish.AllowableValues".into(), json!(types));
    }
    if names != ResetNames::AllowableValues {
        let info = format!("{path}/ResetActionInfo");
        body.insert("@Redfish.ActionInfo".into(), info.clone().into());
        draft.put(&info, "ActionInfo.v1_1_2.ActionInfo", json!({
            "Name": "Reset Action Info",
            "Parameters": [{"Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": types}],
        }));
    }
    Value::Object(body)
}

fn system(draft: &mut Draft, spec: &Spec, node: usize) {
    let path = spec.system(node);
    let below = |name: &str| link(&format!("{path}/{name}"));
    let reset = reset_action(
        draft,
        &path,
        "ComputerSystem",
        spec.reset,
        Action::Reset(node),
    );
    let mut body = json!({
        "Name": "System",
        "SystemType": "Physical",
        "Manufacturer": spec.manufacturer,
        "Model": spec.model,
        "SKU": spec.sku,
        "SerialNumber": slot("serial", node),
        "PartNumber": format!("0{}A01", spec.sku),
        "UUID": slot("uuid", node),
        "AssetTag": "",
        "HostName": "",
        "BiosVersion": spec.bios_version,
        "PowerState": slot("power", node),
        "Status": {"State": slot("state", node), "Health": "OK", "HealthRollup": "OK"},
        "ProcessorSummary": {
            "Count": spec.cpus.len(), "Model": spec.cpu_model,
            "LogicalProcessorCount": spec.cores * 2 * spec.cpus.len() as u64, "Status": ok(),
        },
        "MemorySummary": {"TotalSystemMemoryGiB": spec.dimm_gib * spec.dimms.len() as u64, "Status": ok()},
        "Processors": below("Processors"),
        "Memory": below("Memory"),
        "EthernetInterfaces": below("EthernetInterfaces"),
        "NetworkInterfaces": below("NetworkInterfaces"),
        "Bios": below("Bios"),
        "SecureBoot": below("SecureBoot"),
        "LogServices": below("LogServices"),
        "Links": {"Chassis": [link(&spec.node_chassis(node))], "ManagedBy": [link(&spec.manager_path())]},
        "Actions": {"#ComputerSystem.Reset": reset},
    });
    if let Some(body) = body.as_object_mut() {
        if spec.storage {
            body.insert("Storage".into(), below("Storage"));
        }
        if spec.simple_storage {
            body.insert("SimpleStorage".into(), below("SimpleStorage"));
        }
        if spec.media_place == MediaPlace::Both {
            body.insert("VirtualMedia".into(), below("VirtualMedia"));
        }
        if spec.led != LedProperty::Location {
            body.insert("IndicatorLED".into(), slot("led", node).into());
        }
        if spec.led != LedProperty::Indicator {
            body.insert(
                "LocationIndicatorActive".into(),
                slot("location", node).into(),
            );
        }
        if spec.last_reset_time {
            body.insert("LastResetTime".into(), slot("last-reset", node).into());
        }
        if spec.boot_progress {
            body.insert(
                "BootProgress".into(),
                json!({"LastState": slot("boot-progress", node)}),
            );
        }
        body.insert("Boot".into(), boot(spec, node, &path));
        if let Some(oem) = oem(spec) {
            body.insert("Oem".into(), oem);
        }
    }
    draft.put(&path, spec.system_schema, body);
    draft.setting(&path, "/AssetTag", Check::Text(63));
    draft.setting(&path, "/HostName", Check::Text(255));
    led(draft, &path, node);
    if !spec.boot_targets.is_empty() {
        draft.writable(
            &path,
            "/Boot/BootSourceOverrideEnabled",
            one_of(spec.boot_enabled),
            Store::BootEnabled(node),
        );
        draft.writable(
            &path,
            "/Boot/BootSourceOverrideTarget",
            one_of(spec.boot_targets),
            Store::BootTarget(node),
        );
        draft.writable(
            &path,
            "/Boot/BootSourceOverrideMode",
            one_of(&["UEFI", "Legacy"]),
            Store::BootMode(node),
        );
        draft.writable(
            &path,
            "/Boot/UefiTargetBootSourceOverride",
            Check::Nullable(Box::new(Check::Text(1024))),
            Store::BootUefiTarget(node),
        );
        if spec.boot_targets.contains(&"UefiBootNext") {
            let name = Check::Nullable(Box::new(Check::Text(16)));
            draft.setting(&path, "/Boot/BootNext", name);
        }
        if spec.http_boot_uri {
            draft.writable(
                &path,
                "/Boot/HttpBootUri",
                Check::Nullable(Box::new(Check::Text(2048))),
                Store::BootUri(node),
            );
        }
    }
    draft.writable(
        &path,
        "/Boot/BootOrder",
        Check::Strings,
        Store::BootOrder(node),
    );
    virtual_media(draft, spec, node, &path);
}

/// Makes the LED properties that the document has writable.
pub(super) fn led(draft: &mut Draft, path: &str, node: usize) {
    if draft.spec.led != LedProperty::Location {
        draft.writable(
            path,
            "/IndicatorLED",
            one_of(&["Lit", "Blinking", "Off"]),
            Store::Led(node),
        );
    }
    if draft.spec.led != LedProperty::Indicator {
        draft.writable(
            path,
            "/LocationIndicatorActive",
            Check::Bool,
            Store::Location(node),
        );
    }
}

fn boot(spec: &Spec, node: usize, path: &str) -> Value {
    let mut boot = json!({
        "BootOptions": link(&format!("{path}/BootOptions")),
        "BootOrder": slot("boot-order", node),
    });
    if !spec.boot_targets.is_empty() {
        let more = json!({
            "BootSourceOverrideEnabled": slot("boot-enabled", node),
            "BootSourceOverrideTarget": slot("boot-target", node),
            "BootSourceOverrideMode": slot("boot-mode", node),
            "UefiTargetBootSourceOverride": slot("boot-uefi", node),
            "BootSourceOverrideTarget@Redfish.AllowableValues": spec.boot_targets,
            "BootSourceOverrideEnabled@Redfish.AllowableValues": spec.boot_enabled,
        });
        if let (Some(boot), Value::Object(more)) = (boot.as_object_mut(), more) {
            boot.extend(more);
            if spec.boot_targets.contains(&"UefiBootNext") {
                boot.insert("BootNext".into(), Value::Null);
            }
            if spec.http_boot_uri {
                boot.insert("HttpBootUri".into(), slot("boot-uri", node).into());
            }
        }
    }
    boot
}

/// What the vendor adds of its own, with types that the vendor's schemas define.
fn oem(spec: &Spec) -> Option<Value> {
    let vendor = match spec.vendor? {
        "Dell" => (
            "Dell",
            json!({"DellSystem": {"BIOSReleaseDate": "09/14/2022", "ChassisServiceTag": slot("serial", 0), "NodeID": slot("serial", 0), "SystemGeneration": "15G Monolithic"}}),
        ),
        "HPE" if spec.boot_progress => (
            "Hpe",
            json!({"PostState": "FinishedPost", "PowerOnMinutes": 86_400, "IntelligentProvisioningVersion": "4.20.12"}),
        ),
        "Lenovo" => (
            "Lenovo",
            json!({"TotalPowerOnHours": 9120, "NumberOfReboots": 96, "SystemStatus": "OSBooted"}),
        ),
        _ => return None,
    };
    Some(json!({vendor.0: vendor.1}))
}

fn processors(draft: &mut Draft, spec: &Spec, node: usize) {
    let path = format!("{}/Processors", spec.system(node));
    let mut names = Vec::new();
    for (i, cpu) in spec.cpus.iter().enumerate() {
        let serial = draft.part();
        draft.put(&format!("{path}/{}", cpu.id), "Processor.v1_16_0.Processor", json!({
            "Name": format!("CPU {}", i + 1), "Socket": format!("CPU {}", i + 1), "ProcessorType": "CPU",
            "ProcessorArchitecture": "x86", "InstructionSet": "x86-64", "Manufacturer": spec.cpu_maker,
            "Model": spec.cpu_model, "MaxSpeedMHz": 4000, "OperatingSpeedMHz": 3000,
            "TotalCores": spec.cores, "TotalEnabledCores": spec.cores, "TotalThreads": spec.cores * 2, "SerialNumber": serial, "Status": ok(),
            "ProcessorId": {"EffectiveFamily": "6", "EffectiveModel": "106", "Step": "6", "VendorId": "GenuineIntel"},
        }));
        names.push(cpu.id.clone());
    }
    if let Some(gpus) = spec.gpus.as_ref().filter(|gpus| gpus.baseboard.is_none()) {
        for i in 0..gpus.count {
            let name = format!("GPU_{i}");
            gpu(draft, &format!("{path}/{name}"), spec, i);
            names.push(name);
        }
    }
    draft.collection(&path, "Processor", "Processors Collection", &names);
}

fn gpu(draft: &mut Draft, path: &str, spec: &Spec, index: usize) {
    let Some(gpus) = &spec.gpus else { return };
    let serial = draft.part();
    draft.put(path, "Processor.v1_16_0.Processor", json!({
        "Name": format!("GPU {index}"), "ProcessorType": "GPU", "Manufacturer": gpus.maker, "Model": gpus.model,
        "SerialNumber": serial, "PartNumber": "2330-885-A1", "FirmwareVersion": "96.00.74.00.01", "Status": ok(),
        "MemorySummary": {"TotalMemorySizeMiB": gpus.memory_gib * 1024},
    }));
}

fn memory(draft: &mut Draft, spec: &Spec, node: usize) {
    let path = format!("{}/Memory", spec.system(node));
    for (i, name) in spec.dimms.iter().enumerate() {
        let serial = slot("dimm", draft.dimms);
        draft.dimms += 1;
        draft.put(&format!("{path}/{name}"), "Memory.v1_16_0.Memory", json!({
            "Name": name, "DeviceLocator": name, "MemoryType": "DRAM", "MemoryDeviceType": "DDR4", "BaseModuleType": "RDIMM",
            "CapacityMiB": spec.dimm_gib * 1024, "DataWidthBits": 64, "BusWidthBits": 72, "ErrorCorrection": "MultiBitECC",
            "OperatingSpeedMhz": 3200, "AllowedSpeedsMHz": [3200], "RankCount": 2, "Manufacturer": "Hynix Semiconductor",
            "PartNumber": "HMA84GR7DJR4N-XN", "SerialNumber": serial, "Status": ok(),
            "MemoryLocation": {"Socket": i / 8, "Channel": i % 8, "Slot": 1},
        }));
    }
    draft.collection(&path, "Memory", "Memory Collection", &spec.dimms);
}

fn bios(draft: &mut Draft, spec: &Spec, node: usize) {
    let path = format!("{}/Bios", spec.system(node));
    let settings = format!("{path}/Settings");
    let reset = format!("{path}/Actions/Bios.ResetBios");
    draft.action(&reset, Action::BiosReset(node));
    draft.put(&path, "Bios.v1_2_0.Bios", json!({
        "Name": "BIOS Configuration Current Settings", "AttributeRegistry": "BiosAttributeRegistry.v1_0_3",
        "Attributes": slot("bios", node),
        "@Redfish.Settings": {
            "@odata.type": "#Settings.v1_3_3.Settings", "SettingsObject": link(&settings),
            "SupportedApplyTimes": ["OnReset", "Immediate"],
        },
        "Actions": {"#Bios.ResetBios": {"target": reset}},
    }));
    draft.kind(&path, Kind::Bios(node));
    draft.put(&settings, "Bios.v1_2_0.Bios", json!({
        "Name": "BIOS Configuration Pending Settings", "AttributeRegistry": "BiosAttributeRegistry.v1_0_3",
        "Attributes": slot("bios-pending", node),
    }));
    draft.kind(&settings, Kind::BiosSettings(node));
    let secure = format!("{}/SecureBoot", spec.system(node));
    draft.put(&secure, "SecureBoot.v1_1_0.SecureBoot", json!({
        "Name": "UEFI Secure Boot", "SecureBootEnable": false, "SecureBootCurrentBoot": "Disabled", "SecureBootMode": "UserMode",
    }));
    draft.setting(&secure, "/SecureBootEnable", Check::Bool);
}

fn boot_options(draft: &mut Draft, spec: &Spec, node: usize) {
    let path = format!("{}/BootOptions", spec.system(node));
    let names: Vec<String> = boot_order();
    for (i, name) in names.iter().enumerate() {
        let (alias, display, device) = match i {
            0 => (
                "Hdd",
                "Operating system",
                "HD(1,GPT,6D1C7C5E-9A6B-4C2E-9F0A-0D0B3C3A1F11,0x800,0x100000)/\\EFI\\BOOT\\BOOTX64.EFI",
            ),
            1 => (
                "Pxe",
                "PXE IPv4",
                "PciRoot(0x0)/Pci(0x1,0x0)/Pci(0x0,0x0)/MAC()/IPv4(0.0.0.0)",
            ),
            2 => (
                "UefiHttp",
                "HTTP IPv4",
                "PciRoot(0x0)/Pci(0x1,0x0)/Pci(0x0,0x0)/MAC()/IPv4(0.0.0.0)/Uri()",
            ),
            _ => (
                "Cd",
                "Virtual CD",
                "PciRoot(0x0)/Pci(0x14,0x0)/USB(0x5,0x0)",
            ),
        };
        draft.put(&format!("{path}/{name}"), "BootOption.v1_0_4.BootOption", json!({
            "Name": format!("Boot option {i}"), "BootOptionReference": name, "DisplayName": display, "Alias": alias,
            "BootOptionEnabled": true, "UefiDevicePath": device,
        }));
    }
    draft.collection(&path, "BootOption", "Boot Option Collection", &names);
}

/// The boot order as delivered: the disk first.
pub(crate) fn boot_order() -> Vec<String> {
    (0..4).map(|i| format!("Boot{i:04X}")).collect()
}

fn virtual_media(draft: &mut Draft, spec: &Spec, node: usize, path: &str) {
    if spec.media_place == MediaPlace::Both {
        let path = format!("{path}/VirtualMedia");
        let names: Vec<&str> = spec.media.iter().map(|media| media.system_id).collect();
        media(draft, spec, node, &path, &names);
    }
}

/// The media under `path`, a collection; device `i` is the same one wherever it is shown.
pub(super) fn media(draft: &mut Draft, spec: &Spec, node: usize, path: &str, names: &[&str]) {
    for (device, (name, media)) in names.iter().zip(&spec.media).enumerate() {
        let index = draft.media.len();
        draft.media.push(MediaSlot { node, device });
        let path = format!("{path}/{name}");
        let insert = format!("{path}/Actions/VirtualMedia.InsertMedia");
        let eject = format!("{path}/Actions/VirtualMedia.EjectMedia");
        draft.action(&insert, Action::InsertMedia(index));
        draft.action(&eject, Action::EjectMedia(index));
        draft.put(&path, "VirtualMedia.v1_4_1.VirtualMedia", json!({
            "Name": format!("Virtual Media {}", device + 1), "MediaTypes": media.types,
            "Image": slot("media-image", index), "ImageName": slot("media-name", index), "Inserted": slot("media-inserted", index),
            "ConnectedVia": slot("media-connected", index), "WriteProtected": slot("media-protected", index),
            "TransferMethod": slot("media-method", index), "TransferProtocolType": slot("media-protocol", index),
            "UserName": slot("media-user", index), "Password": null,
            "Actions": {"#VirtualMedia.InsertMedia": {"target": insert}, "#VirtualMedia.EjectMedia": {"target": eject}},
        }));
    }
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    draft.collection(path, "VirtualMedia", "Virtual Media Collection", &names);
}

/// Log services below `path`, a collection.
pub(super) fn logs(draft: &mut Draft, spec: &Spec, path: &str) {
    let entries = format!("{path}/Sel/Entries");
    let clear = format!("{path}/Sel/Actions/LogService.ClearLog");
    draft.action(&clear, Action::ClearLog);
    draft.put(&format!("{path}/Sel"), "LogService.v1_2_0.LogService", json!({
        "Name": "System Event Log", "ServiceEnabled": true, "OverWritePolicy": "WrapsWhenFull", "LogEntryType": "SEL",
        "MaxNumberOfRecords": 1024, "Entries": link(&entries), "Actions": {"#LogService.ClearLog": {"target": clear}},
    }));
    let names: Vec<String> = (1..=spec.logs).map(|i| i.to_string()).collect();
    for (i, name) in names.iter().enumerate() {
        draft.put(&format!("{entries}/{name}"), "LogEntry.v1_9_0.LogEntry", json!({
            "Name": format!("Log Entry {name}"), "EntryType": "SEL", "Severity": "OK", "MessageId": "SEL9901",
            "Created": format!("2026-01-{:02}T08:{:02}:00+00:00", 1 + i % 28, i % 60), "Message": "OEM software event.",
            "SensorType": "System Event", "EntryCode": "Assert",
        }));
    }
    draft.collection(&entries, "LogEntry", "Log Entries", &names);
    draft.kind(&entries, Kind::LogEntries);
    draft.collection(path, "LogService", "Log Services", &["Sel".to_owned()]);
}

/// The second system of a GPU machine: no reset, no boot, only its processors.
fn baseboard(draft: &mut Draft, spec: &Spec) -> Option<String> {
    let gpus = spec.gpus.as_ref()?;
    let id = gpus.baseboard?;
    let path = format!("/redfish/v1/Systems/{id}");
    let names: Vec<String> = (1..=gpus.count).map(|i| format!("GPU_SXM_{i}")).collect();
    draft.put(&path, spec.system_schema, json!({
        "Name": id, "SystemType": "Physical", "Manufacturer": gpus.maker, "UUID": slot("uuid", spec.nodes.len()),
        "PowerState": slot("power", 0), "Status": ok(), "Processors": link(&format!("{path}/Processors")),
        "MemorySummary": {"TotalSystemMemoryGiB": gpus.memory_gib * gpus.count as u64, "Status": ok()},
        "Links": {"Chassis": links(&[spec.main_chassis()]), "ManagedBy": links(&[spec.manager_path()])},
    }));
    for (i, name) in names.iter().enumerate() {
        gpu(draft, &format!("{path}/Processors/{name}"), spec, i);
    }
    draft.collection(
        &format!("{path}/Processors"),
        "Processor",
        "Processor Collection",
        &names,
    );
    Some(id.to_owned())
}
