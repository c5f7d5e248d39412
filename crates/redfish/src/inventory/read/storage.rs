//! Storage: controllers, drives and volumes; SimpleStorage where there is nothing better.

use super::Pass;
use super::shared::{self, Housing};
use crate::GatewayError;
use crate::document::{Document, Link};
use crate::inventory::system::id_of;
use crate::inventory::{Drive, Section, Sections, StorageController, Volume};
use crate::model::{Service, System};

pub(super) const STORAGE: fn(&mut Sections) -> &mut Section = |sections| &mut sections.storage;
const VOLUMES: fn(&mut Sections) -> &mut Section = |sections| &mut sections.volumes;

/// Storage, its drives and their volumes: three levels, asked for at once where the BMC can.
const DEPTH: u8 = 3;

pub(super) async fn read(
    pass: &mut Pass<'_>,
    service: &Service,
    system: &System,
) -> Result<(), GatewayError> {
    let root = system.document().root();
    let units = pass.members(root.link("Storage"), DEPTH, STORAGE).await?;
    let mut housings = Vec::new();
    for unit in &units {
        pass.note(unit);
        unit_drives(pass, unit, &mut housings).await?;
        controllers(pass, unit).await?;
    }
    for unit in &units {
        volumes(pass, unit).await?;
    }
    shared::mark(pass, service, system, &housings).await?;
    if pass.inventory.drives.is_empty() {
        simple(pass, system).await?;
    }
    Ok(())
}

async fn unit_drives(
    pass: &mut Pass<'_>,
    unit: &Document,
    housings: &mut Vec<Housing>,
) -> Result<(), GatewayError> {
    let id = id_of(unit);
    let links = unit.root().links("Drives");
    let absent = links.iter().filter(|link| !pass.reader.has(link)).count();
    if absent > 1 && pass.reader.deepest() > 0 {
        // One request for all the drives of this controller, instead of one for each.
        if let Ok(link) = Link::parse(unit.path()) {
            match pass.reader.get_with_parts(&link, 1).await {
                Ok(_) => {}
                Err(error) => pass.settle(link.path(), error, STORAGE)?,
            }
        }
    }
    for link in links {
        match pass.reader.get(&link).await {
            Ok(document) => {
                if let Some(drive) = Drive::read(&document, Some(&id))
                    && !pass
                        .inventory
                        .drives
                        .iter()
                        .any(|known| known.is_same_as(&drive))
                {
                    housings.push(Housing::of(&document, &link, unit));
                    pass.inventory.drives.push(drive);
                }
                pass.note(&document);
            }
            Err(error) if error.status() == Some(404) => {}
            Err(error) if pass.reader.is_over(&error) => return Err(error),
            Err(error) => STORAGE(&mut pass.inventory.sections).missed(link.path(), error),
        }
    }
    Ok(())
}

async fn controllers(pass: &mut Pass<'_>, unit: &Document) -> Result<(), GatewayError> {
    let id = id_of(unit);
    let inline = unit.root().objects("StorageControllers");
    if !inline.is_empty() {
        pass.inventory.controllers.extend(
            inline
                .into_iter()
                .filter_map(|controller| StorageController::read(&id, controller)),
        );
        return Ok(());
    }
    let Some(link) = unit.root().link("Controllers") else {
        return Ok(());
    };
    let documents = pass.members(Some(link), 1, STORAGE).await?;
    pass.inventory.controllers.extend(
        documents
            .iter()
            .filter_map(|document| StorageController::read(&id, document.root())),
    );
    Ok(())
}

async fn volumes(pass: &mut Pass<'_>, unit: &Document) -> Result<(), GatewayError> {
    // Without drives there is nothing that a volume could be on (iDRAC lists empty AHCI controllers).
    if unit.root().links("Drives").is_empty() {
        return Ok(());
    }
    let Some(link) = unit.root().link("Volumes") else {
        return Ok(());
    };
    let id = id_of(unit);
    let documents = pass.members(Some(link), 1, VOLUMES).await?;
    pass.inventory.volumes.extend(
        documents
            .iter()
            .filter_map(|document| Volume::read(document, &id)),
    );
    documents.iter().for_each(|document| pass.note(document));
    Ok(())
}

async fn simple(pass: &mut Pass<'_>, system: &System) -> Result<(), GatewayError> {
    let documents = pass
        .members(system.document().root().link("SimpleStorage"), 1, STORAGE)
        .await?;
    for document in &documents {
        let id = id_of(document);
        let devices = document.root().objects("Devices");
        let drives = devices
            .into_iter()
            .enumerate()
            .filter_map(|(index, device)| Drive::read_simple(device, &id, index));
        pass.inventory.drives.extend(drives);
        pass.note(document);
    }
    Ok(())
}
