//! What a look says on the BMC object: status, conditions, Events; nothing when nothing changed.

use std::{sync::Arc, time::Duration};

use corten_api::{
    metal::{Bmc, BmcState, BmcStatus},
    names,
};
use corten_kit::{ObjectKey, Subject, conditions};
use corten_lifecycle::bmc::watch;
use corten_redfish::{GatewayError, inventory::SystemFacts};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{BmcController, LookError, Memory, jittered, look::Seen};
use crate::{
    connect::{ConnectError, Connected},
    failure::Failure,
    fleet::{Access, Link},
    inventory,
};

/// The conditions of a BMC that this controller owns.
const OWNED: [&str; 4] = [
    names::CONDITION_READY,
    names::CONDITION_IDENTITY_DISPUTED,
    names::CONDITION_HELD,
    names::CONDITION_ENDPOINT_MISSING,
];

impl BmcController {
    /// The BMC answered.
    pub(super) async fn record_seen(
        &self,
        bmc: &Bmc,
        seen: Seen,
        memory: &Memory,
    ) -> Result<Duration, Failure> {
        let wait = watch::wait(0, rand::random());
        // Our own writes during the look are in the cache.
        let Some(bmc) = self.context.bmcs.store.get(&ObjectKey::of(bmc)) else {
            return Ok(wait);
        };
        let current = owned(&bmc);
        let before = conditions::get(&current.conditions, names::CONDITION_READY).cloned();
        let mut status = current.clone();
        let mut message = before
            .as_ref()
            .map(|ready| ready.message.clone())
            .unwrap_or_default();
        let mut note = String::new();
        if let Seen::All {
            manager,
            system,
            systems,
            url,
        } = &seen
        {
            if let Some(manager) = manager {
                status = inventory::bmc_status(manager, system.as_deref());
                status.conditions = current.conditions.clone();
            }
            message = answers(url);
            let what = [
                &status.manufacturer,
                &status.model,
                &status.firmware_version,
            ];
            let what = what
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ");
            note = format!("{message}: {what}, {}", counted(*systems));
        }
        self.add_address(&mut status, memory);
        status.state = Some(BmcState::Enabled);
        status.last_seen = None;
        let now = Timestamp::now();
        let generation = bmc.metadata.generation;
        conditions::set(
            &mut status.conditions,
            conditions::yes(names::CONDITION_READY, "Connected", message),
            generation,
            now,
        );
        self.set_disputes(&bmc, &mut status, now);
        self.set_endpoint(&bmc, &mut status, now).await?;
        let objects = &self.context.bmcs.objects;
        objects
            .apply_status_if_changed(&bmc, Some(&current), &status)
            .await
            .map_err(Failure::at("record"))?;
        self.say_up(&bmc, before.as_ref(), note);
        Ok(wait)
    }

    /// The BMC let us in, and the reading of its machines begins: Ready, with what is known so far.
    pub(super) async fn record_login(
        &self,
        bmc: &Bmc,
        connected: &Connected,
        system: Option<&SystemFacts>,
        systems: usize,
    ) -> Result<(), Failure> {
        let Some(bmc) = self.context.bmcs.store.get(&ObjectKey::of(bmc)) else {
            return Ok(());
        };
        let current = owned(&bmc);
        if conditions::is_true(&current.conditions, names::CONDITION_READY) {
            return Ok(());
        }
        let mut status = current.clone();
        if let Some(maker) = system.and_then(|system| system.manufacturer.clone()) {
            status.manufacturer.get_or_insert(maker);
        }
        status.last_seen = None;
        status.state = Some(BmcState::Enabled);
        let message = answers(connected.url.as_str());
        let condition = conditions::yes(names::CONDITION_READY, "Connected", message.clone());
        conditions::set(
            &mut status.conditions,
            condition,
            bmc.metadata.generation,
            Timestamp::now(),
        );
        let objects = &self.context.bmcs.objects;
        objects
            .apply_status_if_changed(&bmc, Some(&current), &status)
            .await
            .map_err(Failure::at("record"))?;
        let what = system
            .and_then(|system| system.manufacturer.as_deref())
            .unwrap_or("a machine");
        let note = format!("{message}: {what}, {}", counted(systems));
        self.say_up(
            &bmc,
            conditions::get(&current.conditions, names::CONDITION_READY),
            note,
        );
        Ok(())
    }

    fn say_up(&self, bmc: &Arc<Bmc>, before: Option<&Condition>, note: String) {
        let subject = Subject::of(&**bmc);
        match before {
            Some(before) if before.status == "True" => {}
            Some(before) => {
                self.context.events.normal(
                    &subject,
                    "Recovered",
                    format!("{note} (was {})", before.reason),
                );
            }
            None => self.context.events.normal(&subject, "Connected", note),
        }
    }

    /// The BMC did not answer, or may not be spoken to. Returns the time to the next look.
    pub(super) async fn record_failure(
        &self,
        bmc: &Bmc,
        error: &LookError,
        memory: &mut Memory,
    ) -> Result<Duration, Failure> {
        let Some(bmc) = self.context.bmcs.store.get(&ObjectKey::of(bmc)) else {
            return Ok(watch::CONFIRM);
        };
        let current = owned(&bmc);
        let before = conditions::get(&current.conditions, names::CONDITION_READY).cloned();
        let was_up = before.as_ref().is_some_and(|ready| ready.status == "True");
        let is_silence = matches!(error, LookError::Connect(error) if error.is_silence());
        if is_silence {
            memory.failures = memory.failures.saturating_add(1);
            if was_up && !watch::is_lost(memory.failures) {
                return Ok(watch::wait(memory.failures, rand::random()));
            }
        }
        // When it answers again, all of it is read again: it may be another machine, or have other firmware.
        memory.opened_at = None;
        let wait = wait_after(error, memory);
        let (reason, message) = self.words(&bmc, error, memory);
        // The words of a failure vary from look to look; the same failure is no news.
        let said = before.as_ref().filter(|ready| ready.status == "False");
        let is_news = said.is_none_or(|ready| {
            ready.observed_generation != bmc.metadata.generation
                || !is_same_trouble(&ready.reason, reason)
        });
        let (reason, message) = match said {
            Some(ready) if !is_news => (ready.reason.clone(), ready.message.clone()),
            _ => (reason.to_owned(), message),
        };
        self.publish_loss(&bmc, &reason, &message);
        if !is_news {
            return Ok(wait);
        }
        let mut status = current.clone();
        self.add_address(&mut status, memory);
        status.state = Some(BmcState::Error);
        if was_up {
            let seen = memory.last_seen.or(Some(Timestamp::now()));
            status.last_seen = seen.and_then(|seen| Timestamp::from_second(seen.as_second()).ok());
        }
        let now = Timestamp::now();
        let condition = conditions::no(names::CONDITION_READY, &reason, message.clone());
        conditions::set(
            &mut status.conditions,
            condition,
            bmc.metadata.generation,
            now,
        );
        let objects = &self.context.bmcs.objects;
        objects
            .apply_status_if_changed(&bmc, Some(&current), &status)
            .await
            .map_err(Failure::at("record"))?;
        let event = if was_up && is_silence {
            "Lost"
        } else {
            &reason
        };
        self.context
            .events
            .warning(&Subject::of(&*bmc), event, message);
        Ok(wait)
    }

    /// Where the BMC is, from the objects rather than from what it believes itself.
    fn add_address(&self, status: &mut BmcStatus, memory: &Memory) {
        let Some(wanted) = &memory.wanted else { return };
        if wanted.host.parse::<std::net::IpAddr>().is_ok() {
            status.ip = Some(wanted.host.clone());
        }
        if let Some(mac) = wanted.mac {
            status.mac_address = Some(mac.to_string());
        }
    }

    fn set_disputes(&self, bmc: &Arc<Bmc>, status: &mut BmcStatus, now: Timestamp) {
        let disputes = self
            .context
            .fleet
            .disputes(&Access::Bmc(bmc.name_any().into()));
        if disputes.is_empty() {
            conditions::remove(&mut status.conditions, names::CONDITION_IDENTITY_DISPUTED);
            return;
        }
        let message = disputes.join("; ");
        let was = conditions::is_true(&status.conditions, names::CONDITION_IDENTITY_DISPUTED);
        let condition = conditions::yes(
            names::CONDITION_IDENTITY_DISPUTED,
            "SystemShownTwice",
            message.clone(),
        );
        conditions::set(
            &mut status.conditions,
            condition,
            bmc.metadata.generation,
            now,
        );
        if !was {
            self.context
                .events
                .warning(&Subject::of(&**bmc), "IdentityDisputed", message);
        }
    }

    /// Whether the Endpoint is missing that says where this BMC is. The BMC stays: a restore brings objects one by one.
    async fn set_endpoint(
        &self,
        bmc: &Arc<Bmc>,
        status: &mut BmcStatus,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let missing = match &bmc.spec.endpoint_ref {
            Some(reference) => {
                let key = ObjectKey::cluster(&reference.name);
                let endpoints = &self.context.endpoints;
                match endpoints.store.get(&key) {
                    Some(_) => None,
                    // Not in our selector, or not there.
                    None => match endpoints.objects.live(&key).await {
                        Ok(_) => None,
                        Err(error) if error.is_not_found() => Some(&reference.name),
                        Err(error) => return Err(Failure::at("read Endpoint")(error)),
                    },
                }
            }
            None => None,
        };
        let Some(endpoint) = missing else {
            conditions::remove(&mut status.conditions, names::CONDITION_ENDPOINT_MISSING);
            return Ok(());
        };
        let message = format!(
            "Endpoint {endpoint} does not exist, and nobody deleted this BMC with it: it is used at its last address. Create the Endpoint again, or delete this BMC"
        );
        let condition = conditions::yes(
            names::CONDITION_ENDPOINT_MISSING,
            "NotFound",
            message.clone(),
        );
        if conditions::set(
            &mut status.conditions,
            condition,
            bmc.metadata.generation,
            now,
        ) {
            let subject = Subject::of(&**bmc);
            self.context
                .events
                .warning(&subject, "EndpointMissing", message);
        }
        Ok(())
    }

    pub(super) fn publish_loss(&self, bmc: &Bmc, reason: &str, message: &str) {
        let name = bmc.name_any();
        let mut is_news = false;
        self.context
            .fleet
            .change(&Access::Bmc(name.as_str().into()), |station| {
                let since = match &station.link {
                    Link::Down { since, .. } => *since,
                    _ => Timestamp::now(),
                };
                is_news = !matches!(&station.link, Link::Down { reason: known, message: said, .. } if **known == *reason && **said == *message);
                station.link = Link::Down {
                    reason: reason.into(),
                    message: message.into(),
                    since,
                };
            });
        // One that was never reached has shown no system, and its Servers wait for it nevertheless.
        if is_news {
            for server in self.servers_of(&name) {
                self.context.fleet.wake(&server.name_any());
            }
        }
    }

    /// Reason and message of a failure: object, cause and remedy.
    fn words(&self, bmc: &Bmc, error: &LookError, memory: &Memory) -> (&'static str, String) {
        let text = match error {
            LookError::Connect(ConnectError::Gateway(error)) => error.chain(),
            error => error.to_string(),
        };
        match error {
            LookError::OtherMachine { .. } => ("IdentityMismatch", text),
            LookError::Api(_) => ("Internal", text),
            LookError::Connect(error) => {
                let secret = memory
                    .wanted
                    .as_ref()
                    .map(|wanted| wanted.secret.to_string())
                    .unwrap_or_default();
                let more = match error {
                    ConnectError::Gateway(GatewayError::AuthFailed { .. }) => {
                        match self.next_factory(memory) {
                            Some((number, of)) => format!(
                                ". {secret} holds factory credential {} of {of}; the next one is tried after {}",
                                number,
                                memory
                                    .held
                                    .as_ref()
                                    .map(|held| held.until.to_string())
                                    .unwrap_or_default()
                            ),
                            None => format!(" ({secret})"),
                        }
                    }
                    ConnectError::Gateway(GatewayError::LoginHeld { .. }) => format!(
                        " ({secret}). If the credentials are known to be right, remove the annotation {} from BMC {}",
                        names::NEXT_LOGIN_ATTEMPT,
                        bmc.name_any()
                    ),
                    ConnectError::Gateway(GatewayError::TlsFailed { .. }) => {
                        format!(" (annotation {} of BMC {})", names::TLS_PIN, bmc.name_any())
                    }
                    _ => String::new(),
                };
                let reason = match error {
                    // The breaker's pause is a consequence, not the trouble.
                    ConnectError::Gateway(GatewayError::BreakerOpen { .. }) => "Unreachable",
                    error => error.reason(),
                };
                (reason, format!("{text}{more}"))
            }
        }
    }
}

fn answers(url: &str) -> String {
    format!("Redfish answers at {}", url.trim_end_matches('/'))
}

fn counted(systems: usize) -> String {
    format!("{systems} system{}", if systems == 1 { "" } else { "s" })
}

pub(super) fn owned(bmc: &Bmc) -> BmcStatus {
    let mut status = bmc.status.clone().unwrap_or_default();
    status.conditions = conditions::owned(&status.conditions, &OWNED);
    status
}

/// Silence is silence whatever phase it met, and a held login is what is left of a refused one.
fn is_same_trouble(said: &str, now: &str) -> bool {
    let class = |reason: &str| match reason {
        "Unreachable" | "Timeout" => 1,
        "AuthFailed" | "LoginHeld" => 2,
        _ => 0,
    };
    said == now || (class(said) != 0 && class(said) == class(now))
}

fn wait_after(error: &LookError, memory: &Memory) -> Duration {
    let wait = match error {
        LookError::Connect(error) if error.is_silence() => {
            return watch::wait(memory.failures, rand::random());
        }
        // What a person mends is looked at often, and costs one read of a Secret or none.
        LookError::Connect(ConnectError::Gateway(
            GatewayError::AuthFailed { .. } | GatewayError::LoginHeld { .. },
        )) => 15,
        LookError::Connect(ConnectError::Gateway(GatewayError::NotRedfish { .. })) => 120,
        LookError::Connect(ConnectError::Gateway(_)) => 30,
        LookError::Connect(_) => 20,
        LookError::OtherMachine { .. } => 60,
        LookError::Api(_) => 5,
    };
    jittered(Duration::from_secs(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_that_changes_its_phase_is_not_written_again() {
        assert!(is_same_trouble("Timeout", "Unreachable"));
        assert!(is_same_trouble("AuthFailed", "LoginHeld"));
        assert!(!is_same_trouble("Timeout", "AuthFailed"));
        assert!(!is_same_trouble("NotRedfish", "TLSFailed"));
    }
}
