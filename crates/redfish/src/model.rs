//! A BMC's resources as a client meets them: the service, its systems, managers and chassis.
//!
//! Start with [`Service::open`]. All is found by following links from the service root; no path is ever composed.

mod access;
mod expand;
mod reader;

pub use access::Access;
pub use expand::Expand;

pub(crate) use reader::Reader;

use crate::document::{Document, Link};
use crate::gateway::Bmc;
use crate::inventory::{Inventory, ManagerFacts, PowerState, SystemFacts};
use crate::operations::action;
use crate::quirks::Product;
use crate::{GatewayError, Priority};
use std::sync::{Arc, OnceLock};

/// Where every Redfish service begins (DSP0266 6.2). The one path that is known beforehand.
const SERVICE_ROOT: &str = "/redfish/v1/";

/// A BMC's Redfish service. Cheap to clone; keeps the service root and what was learnt about `$expand`.
#[derive(Clone)]
pub struct Service {
    access: Arc<dyn Access>,
    root: Document,
    expand: Arc<Expand>,
    product: Product,
    /// Paths of the machines, once they were listed.
    machines: Arc<OnceLock<Vec<String>>>,
}

/// A `ComputerSystem`, as read last.
#[derive(Clone, Debug)]
pub struct System {
    document: Document,
    /// Systems of the same service that are no machines of their own but parts of this one (NVIDIA's HGX baseboard).
    parts: Vec<Document>,
}

/// A `Manager`, as read last.
#[derive(Clone, Debug)]
pub struct Manager {
    document: Document,
}

/// A `Chassis`, as read last.
#[derive(Clone, Debug)]
pub struct Chassis {
    document: Document,
}

// === impl Service ===

impl Service {
    /// Reads the service root: one request.
    ///
    /// # Errors
    /// Whatever the gateway says; [`GatewayError::is_transient`] tells if trying again can help.
    pub async fn open(bmc: &Bmc) -> Result<Self, GatewayError> {
        let service = Self::over(Arc::new(bmc.clone())).await?;
        bmc.set_manners(service.product.manners());
        Ok(service)
    }

    /// As [`Service::open`], over any way to reach a service.
    ///
    /// # Errors
    /// As [`Service::open`].
    pub async fn over(access: Arc<dyn Access>) -> Result<Self, GatewayError> {
        let root = access.get(SERVICE_ROOT, Priority::Control).await?;
        let product = Product::of_root(&root);
        let expand = Arc::new(Expand::offered(&root));
        Ok(Self {
            access,
            root,
            expand,
            product,
            machines: Arc::default(),
        })
    }

    /// The service root.
    #[must_use]
    pub fn root(&self) -> &Document {
        &self.root
    }

    /// Who made the service, as far as the root says.
    #[must_use]
    pub fn product(&self) -> &Product {
        &self.product
    }

    /// Redfish version of the service.
    #[must_use]
    pub fn redfish_version(&self) -> Option<String> {
        self.root.root().text("RedfishVersion")
    }

    /// The way to the BMC, for operations.
    #[must_use]
    pub fn access(&self) -> &dyn Access {
        self.access.as_ref()
    }

    pub(crate) fn expand(&self) -> &Expand {
        &self.expand
    }

    /// Paths of the service's machines, if they were listed since it was opened.
    pub(crate) fn machines_known(&self) -> Option<&[String]> {
        self.machines.get().map(Vec::as_slice)
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::new(self, Priority::Inventory)
    }

    /// Every `ComputerSystem` of the service that is a machine of its own: several in a multi-node chassis.
    ///
    /// A system without a `Reset` action beside one that has it is a part of that one, and comes with it; a DPU's own system is left out.
    ///
    /// # Errors
    /// Whatever the gateway says about the collection. A single member that cannot be read is left out and logged.
    pub async fn systems(&self) -> Result<Vec<System>, GatewayError> {
        let documents = self.members_of_root("Systems").await?;
        let (machines, parts): (Vec<Document>, Vec<Document>) =
            documents.into_iter().partition(System::is_machine);
        if machines.is_empty() {
            return Ok(parts
                .into_iter()
                .map(|document| System {
                    document,
                    parts: Vec::new(),
                })
                .collect());
        }
        let paths = machines.iter().map(|machine| machine.path().to_owned());
        let _ = self.machines.set(paths.collect());
        let alone = machines.len() == 1;
        let parts: Vec<Document> = parts
            .into_iter()
            .filter(|part| alone && !System::is_dpu(part))
            .collect();
        Ok(machines
            .into_iter()
            .map(|document| System {
                document,
                parts: parts.clone(),
            })
            .collect())
    }

    /// Every `Manager`.
    ///
    /// # Errors
    /// As [`Service::systems`].
    pub async fn managers(&self) -> Result<Vec<Manager>, GatewayError> {
        Ok(self
            .members_of_root("Managers")
            .await?
            .into_iter()
            .map(|document| Manager { document })
            .collect())
    }

    /// Every `Chassis`.
    ///
    /// # Errors
    /// As [`Service::systems`].
    pub async fn chassis(&self) -> Result<Vec<Chassis>, GatewayError> {
        Ok(self
            .members_of_root("Chassis")
            .await?
            .into_iter()
            .map(|document| Chassis { document })
            .collect())
    }

    async fn members_of_root(&self, name: &str) -> Result<Vec<Document>, GatewayError> {
        let Some(link) = self.root.root().link(name) else {
            return Ok(Vec::new());
        };
        let members = self.reader().members(&link, 1).await?;
        for (path, error) in &members.unread {
            tracing::warn!(path, error = %error.chain(), "a member of {name} cannot be read");
        }
        Ok(members.documents)
    }

    /// Facts of every manager, its addresses included: 2 requests and one more for each manager.
    ///
    /// # Errors
    /// As [`Service::systems`].
    pub async fn manager_facts(&self) -> Result<Vec<ManagerFacts>, GatewayError> {
        let mut reader = self.reader();
        let mut facts = Vec::new();
        for manager in self.managers().await? {
            facts.push(crate::inventory::read::manager(&mut reader, &manager.document).await?);
        }
        facts.sort_by_key(|facts| !facts.is_bmc());
        Ok(facts)
    }

    /// Reads the system again, for its present state: one request.
    ///
    /// # Errors
    /// Whatever the gateway says.
    pub async fn refresh(
        &self,
        system: &System,
        priority: Priority,
    ) -> Result<System, GatewayError> {
        let document = self
            .access
            .get(system.path(), priority)
            .await?
            .at(system.path());
        Ok(System {
            document,
            parts: system.parts.clone(),
        })
    }

    /// Reads the system at `path` (as kept from [`System::path`]): one request.
    ///
    /// # Errors
    /// Whatever the gateway says.
    pub async fn system_at(&self, path: &str, priority: Priority) -> Result<System, GatewayError> {
        Ok(System {
            document: self.access.get(path, priority).await?,
            parts: Vec::new(),
        })
    }

    /// The system at `path` with the parts that are systems of their own, as [`Service::systems`] gives it: what an inventory is read of.
    ///
    /// # Errors
    /// As [`Service::systems`].
    pub async fn whole_system(&self, path: &str) -> Result<System, GatewayError> {
        let mut systems = self.systems().await?.into_iter();
        match systems.find(|system| system.document.path() == path) {
            Some(system) => Ok(system),
            None => self.system_at(path, Priority::Inventory).await,
        }
    }

    /// Reads everything about `system`, in one pass.
    ///
    /// At most 40 requests with `$expand`, the ones for root and systems included, on any machine of the size of the recorded ones;
    /// without `$expand` one for each part.
    ///
    /// # Errors
    /// Only what ends the conversation: unreachable, not authorised, two answers in a row that never came. Anything less is a failed section.
    pub async fn inventory(&self, system: &System) -> Result<Inventory, GatewayError> {
        crate::inventory::read::all(self, system).await
    }
}

// === impl System ===

impl System {
    /// A system from its document.
    #[must_use]
    pub fn new(document: Document) -> Self {
        Self {
            document,
            parts: Vec::new(),
        }
    }

    /// The resource.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.document.path()
    }

    /// Identity, health, power and totals.
    #[must_use]
    pub fn facts(&self) -> SystemFacts {
        SystemFacts::read(&self.document)
    }

    /// Power state, if the BMC says.
    #[must_use]
    pub fn power_state(&self) -> Option<PowerState> {
        PowerState::of(self.document.root())
    }

    /// Systems that are parts of this one.
    #[must_use]
    pub fn parts(&self) -> &[Document] {
        &self.parts
    }

    /// Managers of this system, by link.
    #[must_use]
    pub fn managed_by(&self) -> Vec<Link> {
        self.document.root().object("Links").links("ManagedBy")
    }

    pub(crate) fn is_machine(document: &Document) -> bool {
        action::find(document.root(), "#ComputerSystem.Reset").is_some() && !Self::is_dpu(document)
    }

    fn is_dpu(document: &Document) -> bool {
        document
            .root()
            .text("SystemType")
            .is_some_and(|kind| kind.eq_ignore_ascii_case("dpu"))
    }
}

// === impl Manager ===

impl Manager {
    /// The resource.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.document.path()
    }

    /// What it says, without its addresses (see [`Service::manager_facts`]).
    #[must_use]
    pub fn facts(&self) -> ManagerFacts {
        ManagerFacts::read(&self.document)
    }
}

// === impl Chassis ===

impl Chassis {
    /// The resource.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("product", &self.product)
            .field("expand", &self.expand)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
