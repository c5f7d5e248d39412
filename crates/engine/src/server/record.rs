//! What a decision leaves in the status: written by server-side apply, as a whole, and only when it differs.

use jiff::Timestamp;

use corten_api::metal::{IndicatorLed, Server, ServerState, ServerStatus};
use corten_kit::{Subject, conditions};
use corten_lifecycle::server::{Act, Decision, Finding, condition};
use kube::ResourceExt;

use super::{Controller, ServerError, observe::Seen};
use crate::inventory::power_state;

/// Conditions whose change is an Event, besides the state's.
const NOTEWORTHY: [&str; 5] = [
    condition::HELD,
    condition::RUNNING_UNEXPECTEDLY,
    condition::IDENTITY_DISPUTED,
    condition::ERASED,
    condition::POWERED_OFF,
];

impl Controller {
    /// Writes the status that `decision` calls for, if it differs, and says what changed.
    pub(super) async fn record(&self, seen: &Seen, decision: &Decision) -> Result<(), ServerError> {
        let Some(state) = &decision.state else {
            self.say(&seen.server, decision);
            return Ok(());
        };
        let now = Timestamp::now();
        let old = seen.server.status.clone().unwrap_or_default();
        let status = self.status(seen, decision, state, &old, now);
        let ours = |status: &ServerStatus| ServerStatus {
            conditions: conditions::owned(&status.conditions, &condition::ALL),
            ..status.clone()
        };
        let current = seen.server.status.as_ref().map(&ours);
        let written = self
            .ctx
            .servers
            .objects
            .apply_status_if_changed(&*seen.server, current.as_ref(), &status)
            .await
            .map_err(ServerError::Record)?;
        if let Some(mut memory) = self.memory.get_mut(&seen.key) {
            memory.status = None;
        }
        if written.is_some() {
            self.announce(&seen.server, &old, &status);
        }
        self.say(&seen.server, decision);
        Ok(())
    }

    /// What must be readable before the act that follows from it: that a server is off, or clean.
    pub(super) async fn record_before(
        &self,
        seen: &Seen,
        decision: &Decision,
    ) -> Result<(), ServerError> {
        if !matches!(decision.act, Act::Amend(_) | Act::FinishRun { .. }) {
            return Ok(());
        }
        let now_known = |finding: &Finding| {
            let shown = seen
                .server
                .status
                .as_ref()
                .and_then(|s| conditions::get(&s.conditions, finding.kind));
            shown.is_some_and(|c| c.status == word(finding.holds) && c.reason == finding.reason)
        };
        let lasting = decision
            .findings
            .iter()
            .filter(|f| matches!(f.kind, condition::ERASED | condition::POWERED_OFF));
        if lasting.clone().all(now_known) {
            return Ok(());
        }
        // The state follows the act, not the other way round.
        let decision = Decision {
            state: decision.state.as_ref().map(|_| seen.observed.shown_state()),
            ..decision.clone()
        };
        self.record(seen, &decision).await
    }

    /// Says what only an Event says.
    pub(super) fn say(&self, server: &Server, decision: &Decision) {
        let subject = Subject::of(server);
        for remark in &decision.remarks {
            if remark.warning {
                self.ctx
                    .events
                    .warning(&subject, remark.reason, remark.note.clone());
            } else {
                self.ctx
                    .events
                    .normal(&subject, remark.reason, remark.note.clone());
            }
        }
    }

    fn status(
        &self,
        seen: &Seen,
        decision: &Decision,
        state: &ServerState,
        old: &ServerStatus,
        now: Timestamp,
    ) -> ServerStatus {
        let found = self
            .memory
            .get(&seen.key)
            .and_then(|memory| memory.status.clone());
        let mut status = found.map_or_else(|| old.clone(), |found| (*found).clone());
        // What the poll has seen since is newer than the inventory, and than the status. A BMC that is silent leaves the last word standing.
        if let Some(view) = &seen.machine.system {
            if let Some(machine) = seen.observed.machine() {
                status.power_state = Some(machine.power.clone());
            } else if let Some(power) = &view.facts.power_state {
                status.power_state = Some(power_state(power));
            }
            if let Some(led) = &view.facts.led {
                status.indicator_led = Some(IndicatorLed::from(led.as_str()));
            }
        }
        status.state = Some(state.clone());
        status.conditions = conditions_after(old, decision, seen.server.metadata.generation, now);
        status
    }

    fn announce(&self, server: &Server, old: &ServerStatus, new: &ServerStatus) {
        let subject = Subject::of(server);
        let ready = conditions::get(&new.conditions, condition::READY);
        if old.state != new.state
            && let Some(state) = &new.state
        {
            let from = old
                .state
                .as_ref()
                .map_or_else(String::new, |old| format!(", was {old}"));
            let why = ready.map_or("", |ready| ready.message.as_str());
            match state {
                ServerState::Error => self.ctx.events.warning(&subject, "Error", why),
                ServerState::Available => self.ctx.events.normal(
                    &subject,
                    "Available",
                    format!("free to be claimed{from}"),
                ),
                // Passing states say nothing that the next one does not.
                ServerState::Initial | ServerState::Discovery => {}
                state => self
                    .ctx
                    .events
                    .normal(&subject, state.as_str(), format!("{why}{from}")),
            }
        }
        for kind in NOTEWORTHY {
            let after = conditions::get(&new.conditions, kind);
            let before = conditions::get(&old.conditions, kind);
            let Some(after) = after.filter(|after| {
                before.is_none_or(|b| b.status != after.status || b.reason != after.reason)
            }) else {
                continue;
            };
            let bad = match kind {
                condition::ERASED | condition::POWERED_OFF => {
                    after.status == "False"
                        && !matches!(
                            after.reason.as_str(),
                            "Erasing" | "ShuttingDown" | "ReleaseDue" | "TidyingUp"
                        )
                }
                _ => after.status == "True",
            };
            if bad {
                self.ctx
                    .events
                    .warning(&subject, &after.reason, after.message.clone());
            } else if after.status == "True" {
                self.ctx
                    .events
                    .normal(&subject, &after.reason, after.message.clone());
            }
        }
        tracing::info!(server = %server.name_any(), state = ?new.state, power = ?new.power_state, ready = ready.map(|c| c.reason.as_str()), "recorded");
    }
}

fn conditions_after(
    old: &ServerStatus,
    decision: &Decision,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let mut after = conditions::owned(&old.conditions, &condition::ALL);
    after.retain(|c| {
        condition::LASTING.contains(&c.type_.as_str())
            || decision.findings.iter().any(|f| f.kind == c.type_)
    });
    for finding in &decision.findings {
        let said = match finding.holds {
            Some(true) => conditions::yes(finding.kind, finding.reason, finding.message.clone()),
            Some(false) => conditions::no(finding.kind, finding.reason, finding.message.clone()),
            None => conditions::unknown(finding.kind, finding.reason, finding.message.clone()),
        };
        conditions::set(&mut after, said, generation, now);
    }
    after
}

fn word(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    }
}
