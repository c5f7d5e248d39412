//! The login budget, kept on the object: asked by the gateway before each login that is not known to be good.
//!
//! The time before which no further login may be tried and the Secret's version stand as annotations on the BMC (or on
//! the Server that has the access inline), written with resourceVersion *before* the login. That the last attempt
//! succeeded is told by the object's own Ready condition, so that a restart need not wait ten minutes for a BMC whose
//! login worked, and a success costs no write.

use std::sync::Arc;

use async_trait::async_trait;
use corten_api::{
    metal::{Bmc, Server},
    names,
};
use corten_kit::{ObjectKey, conditions};
use corten_lifecycle::login;
use corten_redfish::login::{LoginAttempt, LoginLedger, Verdict};
use dashmap::DashMap;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde_json::{Value, json};

use crate::context::Kind;

pub use corten_api::names::LOGIN_SECRET;

/// The ledger of all BMCs of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    bmcs: Kind<Bmc>,
    servers: Kind<Server>,
    memory: Arc<DashMap<Arc<str>, Memory>>,
}

#[derive(Clone, Debug, Default)]
struct Memory {
    /// Version of the Secret that the credentials in use come from.
    secret: String,
    /// Refusals in a row.
    refusals: u32,
    /// The budget was charged when the object was created; the login that it pays for was not made yet.
    paid: bool,
    /// A refusal that could not be written yet.
    refused_until: Option<Timestamp>,
}

/// What the object says about logins.
struct Record {
    next_attempt: Option<Timestamp>,
    secret: Option<String>,
    next_exception: Option<Timestamp>,
    ready: Option<Condition>,
    is_inline: bool,
}

type Error = Arc<dyn std::error::Error + Send + Sync>;

/// The object that an attempt is charged to is gone.
#[derive(Debug, thiserror::Error)]
#[error("{0} does not exist any more")]
struct Gone(Arc<str>);

// === impl Ledger ===

impl Ledger {
    /// A ledger on these objects.
    pub fn new(bmcs: Kind<Bmc>, servers: Kind<Server>) -> Self {
        Self {
            bmcs,
            servers,
            memory: Arc::default(),
        }
    }

    /// Tells which version of which Secret the credentials of `target` come from, before they are used.
    pub fn uses(&self, target: &str, secret: &str) {
        let mut memory = self.memory.entry(target.into()).or_default();
        if memory.secret != secret {
            // A changed Secret is tried at once: what was refused is no longer asked for.
            *memory = Memory {
                secret: secret.to_owned(),
                paid: memory.paid,
                ..Memory::default()
            };
        }
    }

    /// Tells that the object was created with the next attempt's time in it, so that the first login is paid for.
    pub fn paid_at_creation(&self, target: &str) {
        self.memory.entry(target.into()).or_default().paid = true;
    }

    /// Until when refused credentials are not tried again, as far as this process knows.
    pub fn held_until(&self, target: &str) -> Option<Timestamp> {
        self.memory.get(target)?.refused_until
    }

    /// Forgets a BMC that is gone.
    pub fn forget(&self, target: &str) {
        self.memory.remove(target);
    }

    fn record(&self, target: &str) -> Option<Record> {
        match target.strip_prefix("server/") {
            Some(server) => {
                let server = self.servers.store.get(&ObjectKey::cluster(server))?;
                // A Server's Ready tells of more than its BMC, so a success is told by taking the hold back.
                Some(Record {
                    is_inline: true,
                    ..Record::of(&server.metadata, &[])
                })
            }
            None => {
                let bmc = self.bmcs.store.get(&ObjectKey::cluster(target))?;
                let conditions = bmc
                    .status
                    .as_ref()
                    .map(|status| status.conditions.as_slice());
                Some(Record::of(&bmc.metadata, conditions.unwrap_or_default()))
            }
        }
    }

    async fn write(
        &self,
        target: &str,
        next: Option<Timestamp>,
        secret: &str,
    ) -> Result<(), corten_kit::Error> {
        self.write_notes(target, &notes(next, secret)).await
    }

    async fn write_notes(&self, target: &str, notes: &Value) -> Result<(), corten_kit::Error> {
        let patch = json!({ "metadata": { "annotations": notes } });
        let (key, gone) = match target.strip_prefix("server/") {
            Some(server) => {
                let key = ObjectKey::cluster(server);
                if let Some(server) = self.servers.store.get(&key) {
                    return self
                        .servers
                        .objects
                        .merge(&server, patch, true)
                        .await
                        .map(drop);
                }
                (key, "Server")
            }
            None => {
                let key = ObjectKey::cluster(target);
                if let Some(bmc) = self.bmcs.store.get(&key) {
                    return self.bmcs.objects.merge(&bmc, patch, true).await.map(drop);
                }
                (key, "BMC")
            }
        };
        Err(corten_kit::Error::NotFound {
            kind: gone.to_owned(),
            key,
        })
    }

    /// Reads the object anew, after somebody else wrote it.
    async fn refresh(&self, target: &str) -> Result<(), corten_kit::Error> {
        match target.strip_prefix("server/") {
            Some(server) => {
                let live = self
                    .servers
                    .objects
                    .live(&ObjectKey::cluster(server))
                    .await?;
                self.servers.store.wrote((*live).clone());
            }
            None => {
                let live = self.bmcs.objects.live(&ObjectKey::cluster(target)).await?;
                self.bmcs.store.wrote((*live).clone());
            }
        }
        Ok(())
    }
}

/// The annotations of an attempt.
pub fn notes(next: Option<Timestamp>, secret: &str) -> Value {
    let whole = next.map(|next| {
        Timestamp::from_second(next.as_second())
            .unwrap_or(next)
            .to_string()
    });
    json!({ names::NEXT_LOGIN_ATTEMPT: whole, LOGIN_SECRET: secret })
}

#[async_trait]
impl LoginLedger for Ledger {
    async fn ask(&self, attempt: &LoginAttempt) -> Result<Verdict, Error> {
        let target = &*attempt.bmc;
        for _ in 0..4 {
            let record = self
                .record(target)
                .ok_or_else(|| Arc::new(Gone(attempt.bmc.clone())) as Error)?;
            let memory = self
                .memory
                .get(target)
                .map(|memory| memory.clone())
                .unwrap_or_default();
            if record.is_known_good(&memory.secret) && memory.refusals == 0 {
                return Ok(Verdict::Allowed);
            }
            let still_charged = record.next_attempt.is_some_and(|next| next > attempt.at);
            if memory.paid && still_charged && record.secret.as_deref() == Some(&*memory.secret) {
                self.memory.entry(attempt.bmc.clone()).or_default().paid = false;
                return Ok(Verdict::Allowed);
            }
            let observed = login::Observed {
                now: attempt.at,
                next_attempt: record.pending_hold().max(memory.refused_until),
                last_secret: record.secret.as_deref(),
                secret: &memory.secret,
                next_exception: record.next_exception,
                refusals: memory.refusals,
            };
            let (next_attempt, exception) = match login::decide(&observed) {
                login::Verdict::Hold { until } => return Ok(held(until, &memory)),
                login::Verdict::Grant {
                    next_attempt,
                    next_exception,
                } => (next_attempt, next_exception),
            };
            let mut notes = notes(Some(next_attempt), &memory.secret);
            if let (Some(at), Some(notes)) = (exception, notes.as_object_mut()) {
                notes.insert(names::NEXT_LOGIN_EXCEPTION.to_owned(), json!(at));
            }
            match self.write_notes(target, &notes).await {
                Ok(()) => return Ok(Verdict::Allowed),
                Err(error) if error.is_conflict() => self
                    .refresh(target)
                    .await
                    .map_err(|e| Arc::new(e) as Error)?,
                Err(error) => return Err(Arc::new(error)),
            }
        }
        let until = attempt.at + jiff::SignedDuration::from_secs(5);
        Ok(Verdict::Held {
            until,
            why: "the object is being changed by others without a pause".to_owned(),
        })
    }

    async fn succeeded(&self, attempt: &LoginAttempt) {
        let secret = {
            let mut memory = self.memory.entry(attempt.bmc.clone()).or_default();
            memory.refusals = 0;
            memory.refused_until = None;
            memory.paid = false;
            memory.secret.clone()
        };
        // While Ready is not true yet, the status that follows tells it. A Ready that stays true tells nothing of this
        // attempt, so the hold is taken back: else a restart within ten minutes would wait it out.
        let Some(record) = self.record(&attempt.bmc) else {
            return;
        };
        if record.will_not_tell() && record.holds(attempt.at) && !record.is_known_good(&secret) {
            let written = self.write(&attempt.bmc, None, &secret).await;
            if let Err(error) = written {
                tracing::debug!(bmc = %attempt.bmc, %error, "login hold not taken back; a restart would wait for it");
            }
        }
    }

    async fn rejected(&self, attempt: &LoginAttempt) {
        let now = Timestamp::now();
        let (until, secret) = {
            let mut memory = self.memory.entry(attempt.bmc.clone()).or_default();
            memory.refusals = memory.refusals.saturating_add(1);
            memory.paid = false;
            let until = now + login::interval(memory.refusals);
            memory.refused_until = Some(until);
            (until, memory.secret.clone())
        };
        // Credentials that were good until now were not charged before.
        let charged = self.record(&attempt.bmc).is_some_and(|record| {
            record.secret.as_deref() == Some(&*secret)
                && record
                    .next_attempt
                    .is_some_and(|next| next + jiff::SignedDuration::from_mins(1) >= until)
        });
        for _ in 0..3 {
            if charged {
                return;
            }
            match self.write(&attempt.bmc, Some(until), &secret).await {
                Ok(()) => return,
                Err(error) if error.is_conflict() => {
                    if self.refresh(&attempt.bmc).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(bmc = %attempt.bmc, %error, "refused login not recorded; held in memory");
                    return;
                }
            }
        }
    }

    async fn inconclusive(&self, attempt: &LoginAttempt) {
        // The charge stays on the object as the price of a crash; in this process the attempt counts as not made.
        let mut memory = self.memory.entry(attempt.bmc.clone()).or_default();
        memory.paid = memory.refusals == 0;
    }
}

fn held(until: Timestamp, memory: &Memory) -> Verdict {
    let why = if memory.refusals > 0 {
        "the last login was refused"
    } else {
        "the last login was refused or its outcome was not seen"
    };
    Verdict::Held {
        until,
        why: why.to_owned(),
    }
}

// === impl Record ===

impl Record {
    fn of(meta: &ObjectMeta, conditions: &[Condition]) -> Self {
        let note = |name: &str| meta.annotations.as_ref().and_then(|notes| notes.get(name));
        Self {
            next_attempt: note(names::NEXT_LOGIN_ATTEMPT).and_then(|text| text.parse().ok()),
            secret: note(LOGIN_SECRET).cloned(),
            next_exception: note(names::NEXT_LOGIN_EXCEPTION).and_then(|text| text.parse().ok()),
            ready: conditions::get(conditions, "Ready").cloned(),
            is_inline: false,
        }
    }

    fn is_ready(&self) -> bool {
        self.ready
            .as_ref()
            .is_some_and(|ready| ready.status == "True")
    }

    /// No status that follows a success will say so: Ready is true already, or there is none for the BMC.
    fn will_not_tell(&self) -> bool {
        self.is_ready() || self.is_inline
    }

    fn holds(&self, now: Timestamp) -> bool {
        self.next_attempt.is_some_and(|next| next > now)
    }

    /// Whether Ready changed after the last attempt, so that it tells of its outcome.
    fn ready_is_newer(&self) -> bool {
        match (&self.ready, self.next_attempt) {
            (None, _) => false,
            (Some(_), None) => true,
            // Whole seconds are what a condition keeps.
            (Some(ready), Some(next)) => {
                ready.last_transition_time.0 + jiff::SignedDuration::from_secs(1)
                    >= next - login::BUDGET
            }
        }
    }

    /// Whether the object itself says that the last attempt, with this Secret, succeeded: Ready became true after it.
    fn is_known_good(&self, secret: &str) -> bool {
        if self.is_inline {
            return self.next_attempt.is_none() && self.secret.as_deref() == Some(secret);
        }
        self.is_ready() && self.ready_is_newer() && self.secret.as_deref() == Some(secret)
    }

    /// The hold that still counts: none when the object says that the last attempt was not refused.
    fn pending_hold(&self) -> Option<Timestamp> {
        let refused = self
            .ready
            .as_ref()
            .is_some_and(|ready| matches!(ready.reason.as_str(), "AuthFailed" | "LoginHeld"));
        if self.ready_is_newer() && !refused {
            None
        } else {
            self.next_attempt
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn record(next: Option<&str>, secret: Option<&str>, ready: Option<(&str, &str)>) -> Record {
        let ready = ready.map(|(status, since)| Condition {
            type_: "Ready".into(),
            status: status.into(),
            reason: "Connected".into(),
            message: String::new(),
            last_transition_time: Time(at(since)),
            observed_generation: None,
        });
        Record {
            next_attempt: next.map(at),
            secret: secret.map(str::to_owned),
            next_exception: None,
            ready,
            is_inline: false,
        }
    }

    #[test]
    fn a_ready_that_came_after_the_attempt_says_that_the_login_is_good() {
        let good = record(
            Some("2026-11-21T10:10:00Z"),
            Some("u/1"),
            Some(("True", "2026-11-21T10:00:03Z")),
        );
        assert!(good.is_known_good("u/1"));
        assert!(
            !good.is_known_good("u/2"),
            "another version of the Secret is not known"
        );
    }

    #[test]
    fn an_attempt_that_ready_says_nothing_about_is_not_known_to_be_good() {
        let retried = record(
            Some("2026-11-21T11:10:00Z"),
            Some("u/1"),
            Some(("True", "2026-11-21T10:00:03Z")),
        );
        assert!(!retried.is_known_good("u/1"));
        let lost = record(
            Some("2026-11-21T10:10:00Z"),
            Some("u/1"),
            Some(("False", "2026-11-21T10:00:03Z")),
        );
        assert!(!lost.is_known_good("u/1"));
        assert!(!record(None, None, None).is_known_good("u/1"));
    }

    #[test]
    fn a_bmc_that_went_silent_after_a_good_login_is_not_held() {
        let mut silent = record(
            Some("2026-11-21T10:10:00Z"),
            Some("u/1"),
            Some(("False", "2026-11-21T10:00:03Z")),
        );
        silent.ready.as_mut().unwrap().reason = "Timeout".into();
        assert_eq!(silent.pending_hold(), None);
        silent.ready.as_mut().unwrap().reason = "AuthFailed".into();
        assert_eq!(silent.pending_hold(), silent.next_attempt);
        let crashed = record(
            Some("2026-11-21T12:10:00Z"),
            Some("u/1"),
            Some(("False", "2026-11-21T10:00:03Z")),
        );
        assert_eq!(crashed.pending_hold(), crashed.next_attempt);
    }

    #[test]
    fn a_hold_that_was_taken_back_leaves_the_login_known_to_be_good() {
        assert!(
            record(None, Some("u/1"), Some(("True", "2026-11-21T10:00:03Z"))).is_known_good("u/1")
        );
    }
}
