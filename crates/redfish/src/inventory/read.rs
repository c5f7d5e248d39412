//! The pass: which resources are read, in which order, and what becomes of a failure.

mod network;
mod shared;
mod storage;

use super::{
    Firmware, Inventory, ManagerFacts, MemoryModule, PcieDevice, Processor, Section, Sections,
};
use crate::GatewayError;
use crate::document::{Document, Link};
use crate::model::{Reader, Service, System};
use crate::quirks;

/// Anomalies kept for one machine.
const MOST_ANOMALIES: usize = 64;

/// A pass under way.
pub(super) struct Pass<'s> {
    pub(super) reader: Reader<'s>,
    pub(super) inventory: Inventory,
}

/// Reads everything about `system`.
pub(crate) async fn all(service: &Service, system: &System) -> Result<Inventory, GatewayError> {
    let mut pass = Pass {
        reader: service.reader(),
        inventory: Inventory {
            system: system.facts(),
            ..Inventory::default()
        },
    };
    pass.inventory.sections.system.read();
    pass.note(system.document());

    pass.managers(service, system).await?;
    pass.processors(system).await?;
    pass.memory(system).await?;
    storage::read(&mut pass, service, system).await?;
    let chassis = pass.chassis(service, system).await?;
    network::interfaces(&mut pass, system).await?;
    pass.firmware(service).await?;
    pass.pcie_devices(system, &chassis).await?;
    network::adapters(&mut pass, &chassis).await?;

    pass.inventory.requests = pass.reader.requests();
    Ok(pass.inventory)
}

/// A manager with its addresses.
pub(crate) async fn manager(
    reader: &mut Reader<'_>,
    document: &Document,
) -> Result<ManagerFacts, GatewayError> {
    let mut facts = ManagerFacts::read(document);
    let Some(link) = document.root().link("EthernetInterfaces") else {
        return Ok(facts);
    };
    match reader.members(&link, 1).await {
        Ok(members) => members
            .documents
            .iter()
            .for_each(|interface| facts.add_interface(interface)),
        Err(error) if reader.is_over(&error) => return Err(error),
        Err(error) => {
            tracing::debug!(path = link.path(), error = %error, "a manager's interfaces cannot be read")
        }
    }
    Ok(facts)
}

// === impl Pass ===

impl Pass<'_> {
    /// Keeps what was wrong in a document that was parsed.
    pub(super) fn note(&mut self, document: &Document) {
        for anomaly in document.anomalies() {
            if self.inventory.anomalies.len() < MOST_ANOMALIES {
                self.inventory
                    .anomalies
                    .push((document.path().to_owned(), anomaly));
            }
        }
    }

    /// Members of a collection, for a section: a failure is the section's, unless it ends the conversation.
    pub(super) async fn members(
        &mut self,
        link: Option<Link>,
        depth: u8,
        section: fn(&mut Sections) -> &mut Section,
    ) -> Result<Vec<Document>, GatewayError> {
        let Some(link) = link else {
            return Ok(Vec::new());
        };
        match self.reader.members(&link, depth).await {
            Ok(members) => {
                let section = section(&mut self.inventory.sections);
                section.read();
                for (path, error) in members.unread {
                    // Links that lead nowhere are common (empty bays, removed cards) and no failure.
                    if error.status() != Some(404) {
                        section.missed(&path, error);
                    }
                }
                Ok(members.documents)
            }
            Err(error) => {
                self.settle(link.path(), error, section)?;
                Ok(Vec::new())
            }
        }
    }

    /// Books a failure on a section. Not found means not offered.
    pub(super) fn settle(
        &mut self,
        path: &str,
        error: GatewayError,
        section: fn(&mut Sections) -> &mut Section,
    ) -> Result<(), GatewayError> {
        if self.reader.is_over(&error) {
            return Err(error);
        }
        if !matches!(error.status(), Some(404 | 405 | 410 | 501)) {
            section(&mut self.inventory.sections).failed(path, error);
        }
        Ok(())
    }

    async fn managers(&mut self, service: &Service, system: &System) -> Result<(), GatewayError> {
        let link = service.root().root().link("Managers");
        let documents = self
            .members(link, 1, |sections| &mut sections.managers)
            .await?;
        let own = system.managed_by();
        let manages = |document: &Document| {
            let listed = document.root().object("Links").links("ManagerForServers");
            own.iter().any(|link| {
                link.path().trim_end_matches('/') == document.path().trim_end_matches('/')
            }) || listed.iter().any(|link| {
                link.path().trim_end_matches('/') == system.path().trim_end_matches('/')
            })
        };
        let linked = documents.iter().any(manages);
        for document in documents
            .iter()
            .filter(|document| !linked || manages(document))
        {
            let facts = manager(&mut self.reader, document).await?;
            self.note(document);
            self.inventory.managers.push(facts);
        }
        self.inventory.managers.sort_by_key(|facts| !facts.is_bmc());
        Ok(())
    }

    async fn processors(&mut self, system: &System) -> Result<(), GatewayError> {
        let documents = self
            .members(system.document().root().link("Processors"), 1, |sections| {
                &mut sections.processors
            })
            .await?;
        self.inventory.processors = documents.iter().filter_map(Processor::read).collect();
        documents.iter().for_each(|document| self.note(document));
        for part in system.parts() {
            // Accelerators on a baseboard that is a system of its own; its memory is theirs, not the host's.
            let documents = self
                .members(part.root().link("Processors"), 1, |sections| {
                    &mut sections.processors
                })
                .await?;
            let accelerators = documents
                .iter()
                .filter_map(Processor::read)
                .filter(|processor| processor.kind.is_accelerator());
            self.inventory.processors.extend(accelerators);
        }
        Ok(())
    }

    async fn memory(&mut self, system: &System) -> Result<(), GatewayError> {
        let documents = self
            .members(system.document().root().link("Memory"), 1, |sections| {
                &mut sections.memory
            })
            .await?;
        self.inventory.memory = documents.iter().filter_map(MemoryModule::read).collect();
        documents.iter().for_each(|document| self.note(document));
        Ok(())
    }

    /// The chassis of this system: linked from it, else those that link to it, else all of a service with one system.
    async fn chassis(
        &mut self,
        service: &Service,
        system: &System,
    ) -> Result<Vec<Document>, GatewayError> {
        let mut found = Vec::new();
        for link in system.document().root().object("Links").links("Chassis") {
            match self.reader.get(&link).await {
                Ok(document) => found.push(document),
                Err(error) => self.settle(link.path(), error, |sections| &mut sections.adapters)?,
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let all = self
            .members(service.root().root().link("Chassis"), 1, |sections| {
                &mut sections.adapters
            })
            .await?;
        // Whether a section is offered is said by its own link; that chassis could be listed says nothing about it.
        self.inventory.sections.adapters = Section::default();
        let own: Vec<Document> = all
            .iter()
            .filter(|chassis| {
                let systems = chassis.root().object("Links").links("ComputerSystems");
                systems.iter().any(|link| {
                    link.path().trim_end_matches('/') == system.path().trim_end_matches('/')
                })
            })
            .cloned()
            .collect();
        Ok(own)
    }

    async fn pcie_devices(
        &mut self,
        system: &System,
        chassis: &[Document],
    ) -> Result<(), GatewayError> {
        let section: fn(&mut Sections) -> &mut Section = |sections| &mut sections.pcie_devices;
        let mut documents = Vec::new();
        let collections: Vec<Link> = chassis
            .iter()
            .filter(|chassis| {
                chassis
                    .root()
                    .value("PCIeDevices")
                    .is_some_and(serde_json::Value::is_object)
            })
            .filter_map(|chassis| chassis.root().link("PCIeDevices"))
            .collect();
        for link in collections {
            documents.extend(self.members(Some(link), 1, section).await?);
        }
        let listed = system.document().root().links("PCIeDevices");
        if documents.is_empty() && !listed.is_empty() {
            for link in listed {
                match self.reader.get(&link).await {
                    Ok(document) => {
                        section(&mut self.inventory.sections).read();
                        documents.push(document);
                    }
                    Err(error) => self.settle(link.path(), error, section)?,
                }
            }
        }
        self.inventory.pcie_devices = documents.iter().filter_map(PcieDevice::read).collect();
        if self.inventory.gpus().next().is_none() {
            let gpus = documents
                .iter()
                .filter(|document| quirks::is_gpu(document))
                .filter_map(Processor::read_gpu);
            self.inventory.processors.extend(gpus);
        }
        documents.iter().for_each(|document| self.note(document));
        Ok(())
    }

    async fn firmware(&mut self, service: &Service) -> Result<(), GatewayError> {
        let section: fn(&mut Sections) -> &mut Section = |sections| &mut sections.firmware;
        let Some(link) = service.root().root().link("UpdateService") else {
            return Ok(());
        };
        let update = match self.reader.get(&link).await {
            Ok(document) => document,
            Err(error) => return self.settle(link.path(), error, section),
        };
        let documents = self
            .members(update.root().link("FirmwareInventory"), 1, section)
            .await?;
        self.inventory.firmware = documents.iter().filter_map(Firmware::read).collect();
        documents.iter().for_each(|document| self.note(document));
        Ok(())
    }
}
