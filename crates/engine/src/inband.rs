//! The engine's answers to the boot services: who may boot what, and what a probe may do.
//!
//! [`EngineDesk`] implements [`corten_boot::Desk`]. It looks objects up live, lets [`corten_lifecycle::inband`] decide, and records leave before it
//! is given. A replica that does not act answers "not now".

mod answers;
mod boots;
mod data;
mod images;

pub(crate) use data::{cloud_init, keys};

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use corten_boot::{Caller, Desk, Refusal, Target, Ticket, UserData};
use corten_wire::{Hello, Progress, Registration, Report, Verdict, Welcome};
use parking_lot::RwLock;

use crate::server::Controller;

/// The controller that answers, while this replica acts. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct DeskSlot(Arc<RwLock<Weak<Controller>>>);

// === impl DeskSlot ===

impl DeskSlot {
    /// `controller` answers as long as it lives.
    pub(crate) fn opened(&self, controller: &Arc<Controller>) {
        *self.0.write() = Arc::downgrade(controller);
    }

    fn controller(&self) -> Result<Arc<Controller>, Refusal> {
        let controller = self.0.read().upgrade();
        controller
            .filter(|controller| controller.ctx.lease.is_held())
            .ok_or_else(|| Refusal::NotNow("this replica stands by".into()))
    }
}

/// Answers from live objects.
#[derive(Clone, Debug)]
pub struct EngineDesk {
    slot: DeskSlot,
}

// === impl EngineDesk ===

impl EngineDesk {
    /// A desk at which the engine of `slot` answers.
    pub fn new(slot: DeskSlot) -> Self {
        Self { slot }
    }
}

#[async_trait]
impl Desk for EngineDesk {
    async fn admit(&self, caller: &Caller) -> Result<Ticket, Refusal> {
        self.slot.controller()?.admit(caller).await
    }

    async fn target(&self, ticket: &Ticket) -> Result<Target, Refusal> {
        self.slot.controller()?.target(ticket).await
    }

    async fn fetched(&self, ticket: &Ticket, served: Result<(), String>) -> Result<(), Refusal> {
        self.slot.controller()?.fetched(ticket, served).await
    }

    async fn user_data(&self, ticket: &Ticket) -> Result<UserData, Refusal> {
        self.slot.controller()?.user_data(ticket).await
    }

    async fn hello(&self, ticket: &Ticket, hello: &Hello) -> Result<Welcome, Refusal> {
        self.slot.controller()?.hello(ticket, hello).await
    }

    async fn progress(&self, ticket: &Ticket, progress: &Progress) -> Result<Verdict, Refusal> {
        self.slot.controller()?.progress(ticket, progress).await
    }

    async fn report(&self, ticket: &Ticket, report: &Report) -> Result<(), Refusal> {
        self.slot.controller()?.report(ticket, report).await
    }

    async fn register(&self, ticket: &Ticket, registration: &Registration) -> Result<(), Refusal> {
        self.slot.controller()?.register(ticket, registration).await
    }

    async fn booted(&self, ticket: &Ticket, system_uuid: Option<&str>) -> Result<(), Refusal> {
        self.slot.controller()?.booted(ticket, system_uuid).await
    }
}
