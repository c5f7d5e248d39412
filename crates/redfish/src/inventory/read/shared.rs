//! Which drives another machine of the same service reaches too.
//!
//! Told by three links, each of which is enough: another system's `Storage` lists the drive or its unit; the drive names a Storage of another
//! system (`Drive.Links.Storage`); or a chassis that holds it (`Drive.Links.Chassis`, `Storage.Links.Enclosures`) lists another machine. In doubt
//! a drive counts as shared: it is then never written, and named.
//!
//! What another BMC's machine reaches is in nobody's links; that shows as `Multipath` at most.

use super::Pass;
use super::storage::STORAGE;
use crate::GatewayError;
use crate::document::{Document, Link};
use crate::model::{Service, System};
use std::collections::{BTreeMap, BTreeSet};

/// Where a drive is, by its own links and those of its storage unit.
#[derive(Debug, Default)]
pub(super) struct Housing {
    /// The drive.
    pub(super) drive: Option<Link>,
    /// The storage unit that listed it.
    pub(super) unit: String,
    /// Chassis that hold it.
    pub(super) chassis: Vec<Link>,
    /// Storage units that it says it belongs to.
    pub(super) storage: Vec<Link>,
}

// === impl Housing ===

impl Housing {
    pub(super) fn of(drive: &Document, at: &Link, unit: &Document) -> Self {
        let links = drive.root().object("Links");
        let mut chassis = links.links("Chassis");
        chassis.extend(unit.root().object("Links").links("Enclosures"));
        Self {
            drive: Some(at.clone()),
            unit: key(unit.path()),
            chassis,
            storage: links.links("Storage"),
        }
    }
}

/// Marks the drives that another machine reaches. A service with one machine costs no request where its systems were listed before, and one where not.
pub(super) async fn mark(
    pass: &mut Pass<'_>,
    service: &Service,
    system: &System,
    housings: &[Housing],
) -> Result<(), GatewayError> {
    if housings.is_empty() {
        return Ok(());
    }
    let own = key(system.path());
    let others: Vec<Document> = match service.machines_known() {
        Some(paths) if paths.iter().all(|path| key(path) == own) => return Ok(()),
        _ => machines(pass, service).await?,
    }
    .into_iter()
    .filter(|machine| key(machine.path()) != own)
    .collect();
    if others.is_empty() {
        return Ok(());
    }
    let theirs: Vec<String> = others.iter().map(|other| key(other.path())).collect();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    for other in &others {
        for unit in pass
            .members(other.root().link("Storage"), 1, STORAGE)
            .await?
        {
            reached.insert(key(unit.path()));
            reached.extend(
                unit.root()
                    .links("Drives")
                    .iter()
                    .map(|link| key(link.path())),
            );
        }
    }
    let mut holding: BTreeMap<String, bool> = BTreeMap::new();
    for housing in housings {
        for chassis in &housing.chassis {
            if holding.contains_key(&key(chassis.path())) {
                continue;
            }
            let several = match pass.reader.get(chassis).await {
                Ok(document) => document
                    .root()
                    .object("Links")
                    .links("ComputerSystems")
                    .iter()
                    .any(|link| theirs.contains(&key(link.path()))),
                Err(error) => {
                    pass.settle(chassis.path(), error, STORAGE)?;
                    false
                }
            };
            holding.insert(key(chassis.path()), several);
        }
    }
    for housing in housings {
        let Some(at) = &housing.drive else { continue };
        let belongs_elsewhere = housing.storage.iter().any(|unit| {
            let unit = key(unit.path());
            theirs.iter().any(|other| {
                unit.strip_prefix(other.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
            })
        });
        let in_shared_chassis = housing
            .chassis
            .iter()
            .any(|chassis| holding.get(&key(chassis.path())) == Some(&true));
        let is_shared = belongs_elsewhere
            || in_shared_chassis
            || reached.contains(&key(at.path()))
            || reached.contains(&housing.unit);
        if is_shared
            && let Some(drive) = pass
                .inventory
                .drives
                .iter_mut()
                .find(|drive| drive.path.as_ref() == Some(at))
        {
            drive.shared = true;
        }
    }
    Ok(())
}

/// Every system of the service that is a machine of its own. A list that cannot be read leaves the section of drives unread.
async fn machines(pass: &mut Pass<'_>, service: &Service) -> Result<Vec<Document>, GatewayError> {
    let Some(link) = service.root().root().link("Systems") else {
        return Ok(Vec::new());
    };
    let documents = pass.members(Some(link), 1, STORAGE).await?;
    Ok(documents.into_iter().filter(System::is_machine).collect())
}

fn key(path: &str) -> String {
    path.trim_end_matches('/').to_ascii_lowercase()
}
