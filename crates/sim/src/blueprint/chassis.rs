//! Chassis, sensors, power supplies and fans.

use serde_json::{Value, json};

use super::system::led;
use super::{Check, Draft, link, links, ok};
use crate::shapes::{LedProperty, Spec};
use crate::template::slot;

pub(super) fn write(draft: &mut Draft) {
    let spec = draft.spec.clone();
    let mut members = vec![spec.chassis.to_owned()];
    main(draft, &spec);
    if spec.nodes.len() > 1 {
        for (node, name) in spec.nodes.iter().enumerate() {
            blade(draft, &spec, node, name);
            members.push(name.clone());
        }
    }
    draft.collection(
        "/redfish/v1/Chassis",
        "Chassis",
        "Chassis Collection",
        &members,
    );
}

fn main(draft: &mut Draft, spec: &Spec) {
    let path = spec.main_chassis();
    let several = spec.nodes.len() > 1;
    let systems: Vec<String> = (0..spec.nodes.len())
        .map(|node| spec.system(node))
        .collect();
    let mut body = json!({
        "Name": "Computer System Chassis", "ChassisType": if several { "Enclosure" } else { "RackMount" },
        "Manufacturer": spec.manufacturer, "Model": spec.model, "SKU": spec.sku, "SerialNumber": slot("chassis-serial", 0), "PartNumber": "0P4XKJA01",
        "AssetTag": "", "PowerState": if several { json!("On") } else { json!(slot("power", 0)) }, "Status": ok(),
        "Sensors": link(&format!("{path}/Sensors")),
        "Links": {"ComputerSystems": links(&systems), "ManagedBy": [link(&spec.manager_path())], "ManagersInChassis": [link(&spec.manager_path())]},
    });
    if let Some(body) = body.as_object_mut() {
        if spec.led != LedProperty::Location {
            body.insert("IndicatorLED".into(), slot("led", 0).into());
        }
        if spec.led != LedProperty::Indicator {
            body.insert("LocationIndicatorActive".into(), slot("location", 0).into());
        }
        if several {
            let blades: Vec<String> = (0..spec.nodes.len())
                .map(|node| spec.node_chassis(node))
                .collect();
            if let Some(links_map) = body.get_mut("Links").and_then(Value::as_object_mut) {
                links_map.insert("Contains".into(), links(&blades).into());
            }
        } else {
            body.insert(
                "NetworkAdapters".into(),
                link(&format!("{path}/NetworkAdapters")),
            );
            body.insert("PCIeDevices".into(), link(&format!("{path}/PCIeDevices")));
        }
        let (power, thermal) = if spec.old_sensors {
            ("Power", "Thermal")
        } else {
            ("PowerSubsystem", "ThermalSubsystem")
        };
        body.insert(power.into(), link(&format!("{path}/{power}")));
        body.insert(thermal.into(), link(&format!("{path}/{thermal}")));
    }
    draft.put(&path, "Chassis.v1_15_0.Chassis", body);
    draft.setting(&path, "/AssetTag", Check::Text(63));
    led(draft, &path, 0);
    sensors(draft, spec, &path);
    if spec.old_sensors {
        old_power(draft, spec, &path);
    } else {
        power(draft, spec, &path);
        thermal(draft, spec, &path);
    }
}

fn blade(draft: &mut Draft, spec: &Spec, node: usize, name: &str) {
    let path = spec.node_chassis(node);
    draft.put(&path, "Chassis.v1_15_0.Chassis", json!({
        "Name": name, "ChassisType": "Blade", "Manufacturer": spec.manufacturer, "Model": spec.model, "SerialNumber": slot("serial", node),
        "PowerState": slot("power", node), "Status": ok(), "NetworkAdapters": link(&format!("{path}/NetworkAdapters")),
        "PCIeDevices": link(&format!("{path}/PCIeDevices")),
        "Links": {
            "ComputerSystems": [link(&spec.system(node))], "ManagedBy": [link(&spec.manager_path())],
            "ContainedBy": link(&spec.main_chassis()),
        },
    }));
}

fn sensors(draft: &mut Draft, spec: &Spec, path: &str) {
    let mut names = Vec::new();
    for i in 0..spec.sensors {
        let name = format!("TempSensor{i}");
        draft.put(&format!("{path}/Sensors/{name}"), "Sensor.v1_5_0.Sensor", json!({
            "Name": format!("Temperature {i}"), "ReadingType": "Temperature", "ReadingUnits": "Cel", "Reading": slot("reading", i),
            "ReadingRangeMin": 0, "ReadingRangeMax": 127, "PhysicalContext": if i < 2 { "CPU" } else { "SystemBoard" }, "Status": ok(),
            "Thresholds": {"UpperCaution": {"Reading": 85}, "UpperCritical": {"Reading": 95}},
        }));
        names.push(name);
    }
    draft.collection(&format!("{path}/Sensors"), "Sensor", "Sensors", &names);
}

fn power(draft: &mut Draft, spec: &Spec, path: &str) {
    let subsystem = format!("{path}/PowerSubsystem");
    let mut names = Vec::new();
    for i in 1..=spec.power_supplies {
        let serial = draft.part();
        let name = format!("PSU.Slot.{i}");
        draft.put(&format!("{subsystem}/PowerSupplies/{name}"), "PowerSupply.v1_3_0.PowerSupply", json!({
            "Name": format!("Power supply {i}"), "Manufacturer": "Delta", "Model": "PWR SPLY,1400W", "SerialNumber": serial,
            "PowerCapacityWatts": 1400, "FirmwareVersion": "00.17.28", "LineInputStatus": "Normal", "Status": ok(),
        }));
        names.push(name);
    }
    draft.collection(
        &format!("{subsystem}/PowerSupplies"),
        "PowerSupply",
        "Power Supplies",
        &names,
    );
    draft.put(&subsystem, "PowerSubsystem.v1_1_0.PowerSubsystem", json!({
        "Name": "Power Subsystem", "CapacityWatts": 1400 * spec.power_supplies.max(1), "Status": ok(),
        "PowerSupplies": link(&format!("{subsystem}/PowerSupplies")),
    }));
}

fn thermal(draft: &mut Draft, spec: &Spec, path: &str) {
    let subsystem = format!("{path}/ThermalSubsystem");
    let mut names = Vec::new();
    for i in 1..=spec.fans {
        let name = format!("Fan{i}");
        draft.put(&format!("{subsystem}/Fans/{name}"), "Fan.v1_3_0.Fan", json!({
            "Name": format!("Fan {i}"), "PhysicalContext": "SystemBoard", "SpeedPercent": {"Reading": 30}, "Status": ok(),
        }));
        names.push(name);
    }
    draft.collection(&format!("{subsystem}/Fans"), "Fan", "Fans", &names);
    draft.put(
        &subsystem,
        "ThermalSubsystem.v1_0_0.ThermalSubsystem",
        json!({
            "Name": "Thermal Subsystem", "Status": ok(), "Fans": link(&format!("{subsystem}/Fans")),
        }),
    );
}

/// The model before 2020.4, which half of the machines in the field still have.
fn old_power(draft: &mut Draft, spec: &Spec, path: &str) {
    let supplies: Vec<Value> = (0..spec.power_supplies).map(|i| json!({
        "@odata.id": format!("{path}/Power#/PowerSupplies/{i}"), "MemberId": i.to_string(), "Name": format!("PSU {}", i + 1),
        "PowerCapacityWatts": 1400, "LineInputVoltage": 230, "PowerSupplyType": "AC", "Model": "PWR SPLY,1400W", "Status": ok(),
    })).collect();
    draft.put(&format!("{path}/Power"), "Power.v1_5_4.Power", json!({
        "Name": "Power", "PowerSupplies@odata.count": supplies.len(), "PowerSupplies": supplies,
        "PowerControl": [{
            "@odata.id": format!("{path}/Power#/PowerControl/0"), "MemberId": "0", "Name": "System Power Control",
            "PowerConsumedWatts": slot("watts", 0), "PowerCapacityWatts": 1400, "Status": ok(),
        }],
    }));
    let temperatures: Vec<Value> = (0..spec.sensors.min(20)).map(|i| json!({
        "@odata.id": format!("{path}/Thermal#/Temperatures/{i}"), "MemberId": i.to_string(), "Name": format!("Temp {i}"), "SensorNumber": i,
        "ReadingCelsius": slot("reading", i), "UpperThresholdCritical": 95, "PhysicalContext": "SystemBoard", "Status": ok(),
    })).collect();
    let fans: Vec<Value> = (0..spec.fans).map(|i| json!({
        "@odata.id": format!("{path}/Thermal#/Fans/{i}"), "MemberId": i.to_string(), "Name": format!("Fan {}", i + 1),
        "Reading": 5400, "ReadingUnits": "RPM", "Status": ok(),
    })).collect();
    draft.put(&format!("{path}/Thermal"), "Thermal.v1_5_3.Thermal", json!({
        "Name": "Thermal", "Temperatures@odata.count": temperatures.len(), "Temperatures": temperatures,
        "Fans@odata.count": fans.len(), "Fans": fans,
    }));
}
