//! `metal.ironcore.dev/operation: graceful-restart-bmc`: restarts the BMC, once; its machines run on.
//!
//! The annotation is exchanged for an intent, with resourceVersion, before the call goes out. An intent that is found
//! without an outcome is settled by the Manager's `LastResetTime` or called unknown; the call is never sent again.

use std::{sync::Arc, time::Duration};

use corten_api::{metal::Bmc, names};
use corten_kit::{ObjectKey, Subject, gate};
use corten_redfish::{
    GatewayError,
    model::{Manager, Service},
    operations::{Call, power::prepare_manager},
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;

use super::{BmcController, Memory, open::greet};
use crate::{connect::Connected, failure::Failure};

/// The annotation of an intent: when it was written.
const INTENT: &str = names::BMC_RESTART_INTENT;

/// The call is answered after this time, or its outcome is unknown. Less than a Lease is good for between two renewals.
const CALL: SignedDuration = SignedDuration::from_secs(6);

impl BmcController {
    /// Does what the annotation asks for, or settles what was begun. The BMC has just answered.
    pub(super) async fn operate(&self, bmc: &Bmc, memory: &mut Memory) -> Result<(), Failure> {
        let Some(bmc) = self.context.bmcs.store.get(&ObjectKey::of(bmc)) else {
            return Ok(());
        };
        let Some(connected) = memory.connected.clone() else {
            return Ok(());
        };
        if let Some(intent) = bmc.annotations().get(INTENT) {
            return self.settle(&bmc, &connected, intent.parse().ok()).await;
        }
        match bmc.annotations().get(names::OPERATION).map(String::as_str) {
            None | Some(names::OPERATION_IGNORE) => Ok(()),
            Some(names::OPERATION_GRACEFUL_RESTART_BMC) => {
                let restarted = self.restart(&bmc, &connected).await?;
                if restarted {
                    // It is about to go away: all of it is read again when it is back.
                    memory.opened_at = None;
                }
                Ok(())
            }
            Some(other) => {
                let note = format!(
                    "the operation {other:?} is none of a BMC's: {} is",
                    names::OPERATION_GRACEFUL_RESTART_BMC
                );
                self.context
                    .events
                    .warning(&Subject::of(&*bmc), "UnsupportedOperation", note);
                self.note(&bmc, json!({ names::OPERATION: null }))
                    .await
                    .map(drop)
            }
        }
    }

    async fn restart(&self, bmc: &Arc<Bmc>, connected: &Connected) -> Result<bool, Failure> {
        let (service, call) = match plan(connected).await {
            Ok(planned) => planned,
            Err(cause) => {
                let note = format!("the BMC was not restarted: {cause}");
                self.context
                    .events
                    .warning(&Subject::of(&**bmc), "OperationFailed", note);
                self.note(bmc, json!({ names::OPERATION: null })).await?;
                return Ok(false);
            }
        };
        let written = Timestamp::now();
        if !self.context.lease.outlives(written + CALL) {
            // A successor could act meanwhile; the next look tries again.
            return Ok(false);
        }
        let bmc = self
            .note(
                bmc,
                json!({ names::OPERATION: null, INTENT: written.to_string() }),
            )
            .await?;
        // Writing may have taken long: the time left, and the lease, are looked at again.
        let held = self.context.lease.outlives(written + CALL);
        let Some(left) = left(written, Timestamp::now()).filter(|_| held) else {
            // It surely was not sent, so it is asked for again.
            let anew =
                json!({ names::OPERATION: names::OPERATION_GRACEFUL_RESTART_BMC, INTENT: null });
            return self.note(&bmc, anew).await.map(|_| false);
        };
        gate::pass().await;
        let sent = tokio::time::timeout(left, call.send(&service)).await;
        gate::pass().await;
        let subject = Subject::of(&*bmc);
        let gone = match sent {
            Ok(Ok(_)) => {
                self.context.events.normal(
                    &subject,
                    "BMCRestarting",
                    "the BMC accepted its restart",
                );
                true
            }
            Ok(Err(error)) if !error.outcome_unknown() => {
                let note = format!("the BMC was not restarted: {}", error.chain());
                self.context
                    .events
                    .warning(&subject, "OperationFailed", note);
                false
            }
            // The intent stays, for the next look to settle.
            _ => return Ok(true),
        };
        self.note(&bmc, json!({ INTENT: null })).await?;
        Ok(gone)
    }

    async fn settle(
        &self,
        bmc: &Arc<Bmc>,
        connected: &Connected,
        intent: Option<Timestamp>,
    ) -> Result<(), Failure> {
        let written = intent.unwrap_or(Timestamp::UNIX_EPOCH);
        if written + CALL > Timestamp::now() {
            return Ok(());
        }
        let reset = match greet(connected).await {
            Ok(service) => service
                .manager_facts()
                .await
                .ok()
                .and_then(|all| all.first().and_then(|facts| facts.last_reset)),
            Err(_) => return Ok(()),
        };
        let subject = Subject::of(&**bmc);
        // BMCs keep whole seconds, and clocks of their own.
        if reset.is_some_and(|reset| reset + SignedDuration::from_secs(2) >= written) {
            self.context.events.normal(
                &subject,
                "BMCRestarted",
                "the BMC's last reset is newer than the intent",
            );
        } else {
            let note = "the BMC may or may not have been restarted; it is not asked again. Set the annotation again if it is still wanted";
            self.context
                .events
                .warning(&subject, "OperationOutcomeUnknown", note);
        }
        self.note(bmc, json!({ INTENT: null })).await.map(drop)
    }

    async fn note(
        &self,
        bmc: &Arc<Bmc>,
        annotations: serde_json::Value,
    ) -> Result<Arc<Bmc>, Failure> {
        let patch = json!({ "metadata": { "annotations": annotations } });
        self.context
            .bmcs
            .objects
            .merge(bmc, patch, true)
            .await
            .map_err(Failure::at("operate"))
    }
}

/// What is left of an intent's time; none when it must not be sent any more.
fn left(written: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = (written + CALL).duration_since(now);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

async fn plan(connected: &Connected) -> Result<(Service, Call), String> {
    let told = |error: GatewayError| error.chain();
    let service = greet(connected).await.map_err(told)?;
    let managers: Vec<Manager> = service.managers().await.map_err(told)?;
    let manager = managers
        .iter()
        .find(|manager| manager.facts().is_bmc())
        .or(managers.first());
    let manager = manager.ok_or_else(|| "it shows no Manager".to_owned())?;
    let call = prepare_manager(&service, manager)
        .await
        .map_err(|error| error.to_string())?;
    Ok((service, call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_that_took_its_time_to_be_written_leaves_less_for_the_call_and_then_none() {
        let written = Timestamp::UNIX_EPOCH;
        let after = |seconds| written + SignedDuration::from_secs(seconds);
        assert_eq!(left(written, after(0)), Some(Duration::from_secs(6)));
        assert_eq!(left(written, after(4)), Some(Duration::from_secs(2)));
        assert_eq!(left(written, after(6)), None);
        assert_eq!(left(written, after(60)), None);
    }
}
