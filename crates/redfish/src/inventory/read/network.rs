//! Network: the interfaces of the host, then the adapters, whose ports add addresses that the host does not list.

use super::Pass;
use crate::GatewayError;
use crate::document::Document;
use crate::inventory::{MacAddress, NetworkAdapter, NetworkInterface, Port, Section, Sections};
use crate::model::System;

const INTERFACES: fn(&mut Sections) -> &mut Section = |sections| &mut sections.interfaces;
const ADAPTERS: fn(&mut Sections) -> &mut Section = |sections| &mut sections.adapters;

/// Adapters, their port collections and the ports.
const DEPTH: u8 = 3;

pub(super) async fn interfaces(pass: &mut Pass<'_>, system: &System) -> Result<(), GatewayError> {
    let documents = pass
        .members(
            system.document().root().link("EthernetInterfaces"),
            1,
            INTERFACES,
        )
        .await?;
    for document in &documents {
        if let Some(interface) = NetworkInterface::read(document)
            && !is_managers(pass, interface.mac)
            && !is_known(pass, &interface)
        {
            pass.inventory.interfaces.push(interface);
        }
        pass.note(document);
    }
    Ok(())
}

pub(super) async fn adapters(
    pass: &mut Pass<'_>,
    chassis: &[Document],
) -> Result<(), GatewayError> {
    for enclosure in chassis {
        // Three levels bring everything in one answer, where the BMC goes so deep; two would bring nothing of use.
        let depth = if pass.reader.deepest() >= DEPTH {
            DEPTH
        } else {
            1
        };
        let documents = pass
            .members(enclosure.root().link("NetworkAdapters"), depth, ADAPTERS)
            .await?;
        for document in &documents {
            if let Some(adapter) = NetworkAdapter::read(document) {
                ports(pass, document, &adapter).await?;
                pass.inventory.adapters.push(adapter);
            }
            pass.note(document);
        }
    }
    Ok(())
}

/// Addresses of an adapter: of its ports (new or deprecated), else of its device functions (AMI has them only there).
async fn ports(
    pass: &mut Pass<'_>,
    document: &Document,
    adapter: &NetworkAdapter,
) -> Result<(), GatewayError> {
    for name in ["Ports", "NetworkPorts", "NetworkDeviceFunctions"] {
        let Some(link) = document.root().link(name) else {
            continue;
        };
        let documents = pass.members(Some(link), 1, ADAPTERS).await?;
        let ports: Vec<Port> = documents.iter().map(Port::read).collect();
        for port in &ports {
            merge(pass, port, adapter);
        }
        if ports.iter().any(|port| !port.macs.is_empty()) {
            return Ok(());
        }
    }
    Ok(())
}

/// Adds what a port knows to the interface with its address, or a new interface.
fn merge(pass: &mut Pass<'_>, port: &Port, adapter: &NetworkAdapter) {
    for address in &port.macs {
        if is_managers(pass, *address) {
            continue;
        }
        match pass
            .inventory
            .interfaces
            .iter_mut()
            .find(|interface| interface.has(*address))
        {
            Some(known) => {
                known.adapter.get_or_insert_with(|| adapter.id.clone());
                known.speed_mbps = known.speed_mbps.or(port.speed_mbps);
                known.link_up = known.link_up.or(port.link_up);
                known.technology = known.technology.take().or_else(|| port.technology.clone());
            }
            None => pass.inventory.interfaces.push(NetworkInterface {
                id: port.id.clone(),
                name: adapter.model.clone(),
                mac: *address,
                permanent_mac: None,
                speed_mbps: port.speed_mbps,
                link_up: port.link_up,
                adapter: Some(adapter.id.clone()),
                technology: port.technology.clone(),
            }),
        }
    }
}

/// The BMC's own address: a shared port, or firmware that lists it among the host's.
fn is_managers(pass: &Pass<'_>, address: MacAddress) -> bool {
    pass.inventory
        .managers
        .iter()
        .any(|manager| manager.macs.contains(&address))
}

fn is_known(pass: &Pass<'_>, interface: &NetworkInterface) -> bool {
    let burnt_in = interface.permanent_mac.unwrap_or(interface.mac);
    pass.inventory
        .interfaces
        .iter()
        .any(|known| known.has(interface.mac) || known.has(burnt_in))
}
