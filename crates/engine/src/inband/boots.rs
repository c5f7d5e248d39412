//! Which machine comes, what it boots, and that it was sent it.

use std::collections::BTreeSet;

use corten_api::{corten::StepOutcome, metal::Server};
use corten_boot::{Caller, Refusal, Target, Ticket, machine, windows::Window};
use corten_kit::ObjectKey;
use corten_lifecycle::{
    inband::{self, Boots},
    run::{Outcome, Step},
};
use jiff::{SignedDuration, Timestamp};

use super::answers::recording;
use crate::server::{Controller, Seen};

/// That a machine was let in is remembered for so long at least: longer than what it was let in for is due.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(2);

impl Controller {
    pub(crate) async fn admit(&self, caller: &Caller) -> Result<Ticket, Refusal> {
        let server = self.whose(caller).ok_or_else(|| {
            Refusal::NotDue("no server of this engine has its UUID or MAC address".into())
        })?;
        let key = ObjectKey::of(&*server);
        let seen = self.look(&key).await?;
        let nonce = match inband::window(&seen.observed) {
            Ok(nonce) => nonce,
            Err(why) => {
                // Whoever waits for the machine says it.
                self.served(key.name(), &Err(why.clone()));
                return Err(Refusal::NotDue(why));
            }
        };
        let ticket = Ticket {
            server: key.name().to_owned(),
            server_uid: seen.observed.record.uid.clone(),
            nonce,
        };
        // What cannot be served yet does not cost the machine its one entrance.
        self.boots(&seen, &ticket)?;
        self.windows.open(self.declared(&seen, ticket));
        self.windows.admit(caller, Timestamp::now())
    }

    /// The window that is open for a boot, as the rules have it. That it was used is remembered beside it.
    fn declared(&self, seen: &Seen, ticket: Ticket) -> Window {
        let claim = seen.observed.claim.as_ref();
        let interfaces = seen.server.status.iter();
        Window {
            // An image that lives in memory is booted at each start; all else is booted once.
            renewable: claim.is_some_and(|claim| claim.diskless && claim.uid == ticket.nonce),
            ticket,
            system_uuid: machine::system_uuid(&seen.server.spec.system_uuid),
            macs: interfaces
                .flat_map(|status| &status.network_interfaces)
                .filter_map(|nic| machine::mac(&nic.mac_address))
                .collect(),
            addresses: BTreeSet::new(),
            until: Timestamp::now() + seen.observed.policy.probe_timeout.max(REMEMBERED),
        }
    }

    /// What a boot boots, as the objects are now.
    fn boots(&self, seen: &Seen, ticket: &Ticket) -> Result<Target, Refusal> {
        match inband::boots(&seen.observed, &ticket.nonce).map_err(Refusal::NotDue)? {
            // The probe that writes an image needs that too; the store serves its ramdisk beside an image of a disk.
            Boots::Probe if writes(seen) => image(self, seen),
            Boots::Probe => Ok(Target::Probe),
            Boots::Image => image(self, seen),
        }
    }

    pub(crate) async fn target(&self, ticket: &Ticket) -> Result<Target, Refusal> {
        let seen = self.look_at(ticket).await?;
        self.boots(&seen, ticket)
    }

    /// The machine that was switched on for its image is sent it: recorded once, as what shows that it boots it. Why it is not sent it is known for
    /// as long as somebody waits for that.
    pub(crate) async fn fetched(
        &self,
        ticket: &Ticket,
        served: Result<(), String>,
    ) -> Result<(), Refusal> {
        if let Err(why) = &served {
            tracing::debug!(server = ticket.server, %why, "the machine came for what it boots and was not sent it");
        }
        self.served(&ticket.server, &served);
        if served.is_err() {
            return Ok(());
        }
        let seen = self.look_at(ticket).await?;
        if writes(&seen) {
            return Ok(());
        }
        let (Some(run), Some(open)) = (&seen.run, &seen.observed.run) else {
            return Ok(());
        };
        let is_served = open
            .last(&Step::ServeImage)
            .is_some_and(|done| done.outcome == Outcome::Succeeded);
        // A machine whose power-on was not answered, and which then comes, was switched on.
        if !open.plan.contains(&Step::ServeImage) || !inband::is_up(open) || is_served {
            return Ok(());
        }
        self.executor
            .reported(
                run,
                &Step::ServeImage,
                StepOutcome::Succeeded,
                "the boot services are sending it".into(),
                Vec::new(),
            )
            .await
            .map(drop)
            .map_err(recording)
    }

    /// The one server that the caller says it is. Two that answer to it are none.
    fn whose(&self, caller: &Caller) -> Option<std::sync::Arc<Server>> {
        let uuid = caller.system_uuid.as_deref().unwrap_or_default();
        let swapped = machine::other_byte_order(uuid);
        let mac = caller.mac.as_deref().unwrap_or_default();
        let servers = self.ctx.servers.store.all();
        let has_mac = |server: &Server| {
            server
                .status
                .iter()
                .flat_map(|status| &status.network_interfaces)
                .any(|nic| nic.mac_address.eq_ignore_ascii_case(mac))
        };
        let mut matching = servers.iter().filter(|server| {
            // Firmware says the first half of its UUID in either byte order.
            let is = |uuid: &str| server.spec.system_uuid.eq_ignore_ascii_case(uuid);
            let same_uuid = !uuid.is_empty() && (is(uuid) || swapped.as_deref().is_some_and(is));
            let same_mac = !mac.is_empty() && has_mac(server);
            match (uuid.is_empty(), mac.is_empty()) {
                // Both are said: both must be its own, where the server's MAC addresses are known.
                (false, false) => {
                    same_uuid
                        && (same_mac
                            || server
                                .status
                                .as_ref()
                                .is_none_or(|status| status.network_interfaces.is_empty()))
                }
                (false, true) => same_uuid,
                _ => same_mac,
            }
        });
        let first = matching.next().cloned();
        first.filter(|_| matching.next().is_none())
    }
}

pub(super) fn image(controller: &Controller, seen: &Seen) -> Result<Target, Refusal> {
    let Some(boot) = controller.ctx.boot_of(&seen.server) else {
        return Err(Refusal::Nothing(
            "the server has no boot configuration".into(),
        ));
    };
    let reference = boot.spec.image.clone().unwrap_or_default();
    let digest = controller
        .ctx
        .resolved
        .digest(&ObjectKey::of(&*boot), &reference)
        .ok_or_else(|| Refusal::NotNow("its image was not resolved yet".into()))?;
    Ok(Target::Image { reference, digest })
}

/// True while the open run is to write an image.
fn writes(seen: &Seen) -> bool {
    let run = seen.observed.run.as_ref();
    run.and_then(inband::work) == Some(Step::ProbeWrite)
}
