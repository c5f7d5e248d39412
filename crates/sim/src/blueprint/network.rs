//! Network cards and the PCIe devices.

use serde_json::{Value, json};

use super::{Draft, link, links, ok};
use crate::shapes::{Adapter, Shape, Spec};
use crate::template::slot;

pub(super) fn write(draft: &mut Draft) {
    let spec = draft.spec.clone();
    let mut port = 0;
    for node in 0..spec.nodes.len() {
        let system = spec.system(node);
        let mut interfaces = Vec::new();
        let mut names = Vec::new();
        for adapter in &spec.adapters {
            let first = port;
            for name in &adapter.ports {
                draft.ports.push((node, port));
                interface(draft, &spec, node, adapter, name, port);
                interfaces.push(name.clone());
                port += 1;
            }
            card(draft, &spec, node, adapter, first);
            names.push(adapter.id.to_owned());
        }
        draft.collection(
            &format!("{system}/EthernetInterfaces"),
            "EthernetInterface",
            "Ethernet Interface Collection",
            &interfaces,
        );
        draft.collection(
            &format!("{system}/NetworkInterfaces"),
            "NetworkInterface",
            "Network Interface Collection",
            &names,
        );
        draft.collection(
            &format!("{}/NetworkAdapters", spec.node_chassis(node)),
            "NetworkAdapter",
            "Network Adapter Collection",
            &names,
        );
        pcie(draft, &spec, node);
    }
}

fn interface(
    draft: &mut Draft,
    spec: &Spec,
    node: usize,
    adapter: &Adapter,
    name: &str,
    port: usize,
) {
    draft.put(&format!("{}/EthernetInterfaces/{name}", spec.system(node)), "EthernetInterface.v1_8_0.EthernetInterface", json!({
        "Name": format!("{} {name}", adapter.model), "MACAddress": slot("port-mac", port), "PermanentMACAddress": slot("port-mac", port),
        "SpeedMbps": adapter.gbps * 1000, "FullDuplex": true, "AutoNeg": true, "InterfaceEnabled": true, "LinkStatus": "LinkUp", "Status": ok(),
    }));
}

fn card(draft: &mut Draft, spec: &Spec, node: usize, adapter: &Adapter, first: usize) {
    let path = format!("{}/NetworkAdapters/{}", spec.node_chassis(node), adapter.id);
    let serial = draft.part();
    let (mut ports, mut functions) = (Vec::new(), Vec::new());
    for (i, name) in adapter.ports.iter().enumerate() {
        let mac = slot("port-mac", first + i);
        let port = (i + 1).to_string();
        draft.put(&format!("{path}/Ports/{port}"), "Port.v1_6_0.Port", json!({
            "Name": format!("Port {port}"), "PortId": port, "PortProtocol": "Ethernet", "PortType": "UpstreamPort", "LinkStatus": "LinkUp",
            "CurrentSpeedGbps": adapter.gbps, "MaxSpeedGbps": adapter.gbps, "Ethernet": {"AssociatedMACAddresses": [mac]}, "Status": ok(),
        }));
        ports.push(port);
        draft.put(&format!("{path}/NetworkDeviceFunctions/{name}"), "NetworkDeviceFunction.v1_8_0.NetworkDeviceFunction", json!({
            "Name": name, "DeviceEnabled": true, "NetDevFuncType": "Ethernet", "NetDevFuncCapabilities": ["Ethernet"],
            "Ethernet": {"MACAddress": mac, "PermanentMACAddress": mac, "MTUSize": 1500}, "Status": ok(),
        }));
        functions.push(name.clone());
    }
    draft.collection(&format!("{path}/Ports"), "Port", "Ports", &ports);
    draft.collection(
        &format!("{path}/NetworkDeviceFunctions"),
        "NetworkDeviceFunction",
        "Network Device Functions",
        &functions,
    );
    let device = format!("{}/PCIeDevices/{}", devices_parent(spec, node), adapter.id);
    draft.put(&path, "NetworkAdapter.v1_9_0.NetworkAdapter", json!({
        "Name": adapter.model, "Manufacturer": adapter.maker, "Model": adapter.model, "SerialNumber": serial, "PartNumber": "0XKPPC",
        "Ports": link(&format!("{path}/Ports")), "NetworkDeviceFunctions": link(&format!("{path}/NetworkDeviceFunctions")), "Status": ok(),
        "Controllers": [{
            "FirmwarePackageVersion": "22.31.6",
            "ControllerCapabilities": {"NetworkPortCount": adapter.ports.len(), "NetworkDeviceFunctionCount": adapter.ports.len()},
            "Links": {"PCIeDevices": [link(&device)]},
        }],
    }));
    let interface = format!("{}/NetworkInterfaces/{}", spec.system(node), adapter.id);
    draft.put(&interface, "NetworkInterface.v1_2_1.NetworkInterface", json!({
        "Name": adapter.model, "Status": ok(), "Ports": link(&format!("{path}/Ports")),
        "NetworkDeviceFunctions": link(&format!("{path}/NetworkDeviceFunctions")), "Links": {"NetworkAdapter": link(&path)},
    }));
}

/// iDRAC keeps PCIe devices below the system, the others below the chassis.
fn devices_parent(spec: &Spec, node: usize) -> String {
    if spec.shape == Shape::Dell {
        spec.system(node)
    } else {
        spec.node_chassis(node)
    }
}

fn pcie(draft: &mut Draft, spec: &Spec, node: usize) {
    let parent = devices_parent(spec, node);
    let mut paths = Vec::new();
    let mut functions = Vec::new();
    for (i, adapter) in spec.adapters.iter().enumerate() {
        let path = format!("{parent}/PCIeDevices/{}", adapter.id);
        functions.push(device(
            draft,
            &path,
            adapter.maker,
            adapter.model,
            "NetworkController",
            i,
        ));
        paths.push(path);
    }
    if let Some(gpus) = &spec.gpus {
        for i in 0..gpus.count {
            let path = format!("{parent}/PCIeDevices/GPU_SXM_{}", i + 1);
            functions.push(device(
                draft,
                &path,
                gpus.maker,
                gpus.model,
                "DisplayController",
                16 + i,
            ));
            paths.push(path);
        }
    }
    for i in 0..spec.bridges {
        let path = format!("{parent}/PCIeDevices/0-{}", i + 1);
        functions.push(device(
            draft,
            &path,
            "Intel Corporation",
            "C620 Series Chipset Family bridge",
            "Bridge",
            64 + i,
        ));
        paths.push(path);
    }
    let members: Vec<Value> = links(&paths);
    let collection = format!("{}/PCIeDevices", spec.node_chassis(node));
    draft.collection_of(&collection, "PCIeDevice", "PCIe Devices", members.clone());
    if let Some(system) = draft.body_mut(&spec.system(node)) {
        system.insert("PCIeDevices@odata.count".into(), members.len().into());
        system.insert("PCIeDevices".into(), members.into());
        system.insert("PCIeFunctions@odata.count".into(), functions.len().into());
        system.insert("PCIeFunctions".into(), links(&functions).into());
    }
}

fn device(
    draft: &mut Draft,
    path: &str,
    maker: &str,
    model: &str,
    class: &str,
    number: usize,
) -> String {
    let serial = draft.part();
    let function = format!("{path}/PCIeFunctions/{number}-0");
    draft.put(path, "PCIeDevice.v1_9_0.PCIeDevice", json!({
        "Name": model, "Manufacturer": maker, "Model": model, "DeviceType": "SingleFunction", "SerialNumber": serial,
        "FirmwareVersion": "22.31.6", "PCIeFunctions": link(&format!("{path}/PCIeFunctions")), "Status": ok(),
    }));
    draft.put(&function, "PCIeFunction.v1_2_3.PCIeFunction", json!({
        "Name": format!("{model} function"), "FunctionId": 0, "FunctionType": "Physical", "DeviceClass": class, "DeviceId": "0x1017", "VendorId": "0x15b3",
        "ClassCode": "0x020000", "RevisionId": "0x00", "SubsystemId": "0x0001", "SubsystemVendorId": "0x15b3",
        "Links": {"PCIeDevice": link(path)}, "Status": ok(),
    }));
    draft.collection(
        &format!("{path}/PCIeFunctions"),
        "PCIeFunction",
        "PCIe Functions",
        &[format!("{number}-0")],
    );
    function
}
