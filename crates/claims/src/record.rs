//! How a claim stands, into its status and Events, if it has changed.

use corten_api::{
    metal::{ServerClaim, ServerClaimPhase, ServerClaimStatus},
    names,
};
use corten_kit::{Next, Subject, conditions};
use corten_lifecycle::claim::{Report, Verdict};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{Allocator, Error};

/// The conditions that are ours; others' entries are left alone.
const OURS: [&str; 2] = [names::CONDITION_BOUND, names::CONDITION_RELEASED];

impl Allocator {
    /// Writes the status if it differs, says what an operator acts on as Events, and tells when to look again.
    pub(crate) async fn record(&self, claim: &ServerClaim, report: Report) -> Result<Next, Error> {
        let observed = claim.status.clone().unwrap_or_default();
        let current = ServerClaimStatus {
            conditions: conditions::owned(&observed.conditions, &OURS),
            ..observed
        };
        let mut wanted = current.clone();
        wanted.phase = Some(if report.bound_phase {
            ServerClaimPhase::Bound
        } else {
            ServerClaimPhase::Unbound
        });
        let verdicts = [
            (names::CONDITION_BOUND, Some(&report.bound)),
            (names::CONDITION_RELEASED, report.released.as_ref()),
        ];
        for (kind, verdict) in verdicts {
            match verdict {
                Some(verdict) => {
                    let condition = condition(kind, verdict);
                    conditions::set(
                        &mut wanted.conditions,
                        condition,
                        claim.metadata.generation,
                        Timestamp::now(),
                    );
                }
                None => {
                    conditions::remove(&mut wanted.conditions, kind);
                }
            }
        }
        self.claims
            .apply_status_if_changed(claim, Some(&current), &wanted)
            .await
            .map_err(Error::Record)?;
        for (kind, verdict) in verdicts {
            if let Some(verdict) = verdict
                && is_news(&current.conditions, kind, verdict)
            {
                self.announce(claim, kind, verdict);
            }
        }
        // A claim that waits is woken when a server fits; what it is told about the others is brought up to date at leisure.
        Ok(if report.bound_phase {
            Next::Done
        } else {
            Next::After(self.config.refresh)
        })
    }

    fn announce(&self, claim: &ServerClaim, kind: &str, verdict: &Verdict) {
        let subject = Subject::of(claim);
        let usual = [
            "Bound",
            "Releasing",
            "PoweringOff",
            "ShuttingDown",
            "TidyingUp",
            "ReleaseDue",
        ];
        // That the release has begun is said where it begins.
        if kind == names::CONDITION_BOUND && verdict.reason == "Releasing" {
            return;
        }
        if usual.contains(&verdict.reason.as_str()) {
            self.events
                .normal(&subject, &verdict.reason, verdict.message.clone());
        } else {
            self.events
                .warning(&subject, &verdict.reason, verdict.message.clone());
        }
    }
}

fn condition(kind: &str, verdict: &Verdict) -> Condition {
    if verdict.status {
        conditions::yes(kind, &verdict.reason, verdict.message.clone())
    } else {
        conditions::no(kind, &verdict.reason, verdict.message.clone())
    }
}

fn is_news(before: &[Condition], kind: &str, verdict: &Verdict) -> bool {
    conditions::get(before, kind)
        .is_none_or(|old| old.reason != verdict.reason || (old.status == "True") != verdict.status)
}
