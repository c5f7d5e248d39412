//! What goes wrong, by rule.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use http::Method;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What a rule does to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Answers with a status and a Redfish error instead of doing anything.
    Status(u16),
    /// Waits so many milliseconds, then goes on as usual.
    LatencyMs(u64),
    /// Closes the connection without an answer, before the request has any effect.
    Cut,
    /// Does what was asked, then closes the connection without an answer.
    CutAfter,
    /// Answers with the right headers and half of the body, then closes.
    Partial,
    /// Answers with a complete body that is no JSON.
    BrokenJson,
    /// Answers 200 with an HTML page, as a login portal would.
    Html,
    /// Answers with JSON of the wrong shape: a list.
    WrongJson,
    /// Never answers.
    Hang,
}

/// When which requests go wrong. All conditions that are given must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Glob over the path, where `*` stays within a part and `**` crosses parts; none: every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// HTTP method; none: every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Share of the requests, 0 to 1; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// For how many requests; none: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Skips so many matching requests first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
    /// What happens.
    pub effect: Effect,
}

/// A rule that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadRule {
    /// The path is no glob.
    #[error("{0:?} is no path pattern")]
    Path(String, #[source] globset::Error),
    /// The method is none.
    #[error("{0:?} is no HTTP method")]
    Method(String),
    /// The share is not between 0 and 1.
    #[error("a share of {0} is not between 0 and 1")]
    Share(f64),
    /// The status is none.
    #[error("{0} is no HTTP status")]
    Status(u16),
}

impl Rule {
    /// A rule for every request.
    pub fn new(effect: Effect) -> Self {
        Self {
            path: None,
            method: None,
            share: None,
            times: None,
            after: None,
            effect,
        }
    }

    /// Only these paths.
    #[must_use]
    pub fn path(mut self, glob: impl Into<String>) -> Self {
        self.path = Some(glob.into());
        self
    }

    /// Only this method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Only this share of the requests.
    #[must_use]
    pub fn share(mut self, share: f64) -> Self {
        self.share = Some(share);
        self
    }

    /// Only so often.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Not the first `count`.
    #[must_use]
    pub fn after(mut self, count: u32) -> Self {
        self.after = Some(count);
        self
    }

    fn compile(self) -> Result<Armed, BadRule> {
        if let Some(share) = self.share.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(BadRule::Share(share));
        }
        if let Effect::Status(status) = self.effect
            && !(100..=599).contains(&status)
        {
            return Err(BadRule::Status(status));
        }
        let glob = match &self.path {
            Some(path) => Some(
                GlobBuilder::new(path)
                    .literal_separator(true)
                    .case_insensitive(true)
                    .build()
                    .map_err(|error| BadRule::Path(path.clone(), error))?
                    .compile_matcher(),
            ),
            None => None,
        };
        let method = match &self.method {
            Some(name) => Some(
                Method::from_bytes(name.to_ascii_uppercase().as_bytes())
                    .map_err(|_| BadRule::Method(name.clone()))?,
            ),
            None => None,
        };
        Ok(Armed {
            glob,
            method,
            skip: self.after.unwrap_or(0),
            left: self.times,
            rule: self,
        })
    }
}

struct Armed {
    rule: Rule,
    glob: Option<GlobMatcher>,
    method: Option<Method>,
    skip: u32,
    left: Option<u32>,
}

/// The rules of one machine.
#[derive(Default)]
pub(crate) struct Faults {
    any: AtomicBool,
    rules: Mutex<Vec<Armed>>,
}

/// What the rules say of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub delay: Duration,
    pub effect: Option<Effect>,
}

impl Faults {
    pub fn add(&self, rule: Rule) -> Result<(), BadRule> {
        let armed = rule.compile()?;
        self.rules.lock().push(armed);
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    pub fn clear(&self) {
        self.rules.lock().clear();
        self.any.store(false, Ordering::Release);
    }

    pub fn list(&self) -> Vec<Rule> {
        self.rules
            .lock()
            .iter()
            .map(|armed| armed.rule.clone())
            .collect()
    }

    /// Delays add up; the first other effect counts.
    pub fn judge(&self, method: &Method, path: &str) -> Verdict {
        let mut verdict = Verdict::default();
        if !self.any.load(Ordering::Acquire) {
            return verdict;
        }
        for armed in self.rules.lock().iter_mut() {
            if armed.left == Some(0)
                || armed.method.as_ref().is_some_and(|wanted| wanted != method)
                || armed.glob.as_ref().is_some_and(|glob| !glob.is_match(path))
            {
                continue;
            }
            if let Effect::LatencyMs(_) = armed.rule.effect {
            } else if verdict.effect.is_some() {
                continue;
            }
            if armed.skip > 0 {
                armed.skip -= 1;
                continue;
            }
            if armed
                .rule
                .share
                .is_some_and(|share| rand::random::<f64>() >= share)
            {
                continue;
            }
            if let Some(left) = &mut armed.left {
                *left -= 1;
            }
            match &armed.rule.effect {
                Effect::LatencyMs(ms) => verdict.delay += Duration::from_millis(*ms),
                other => verdict.effect = Some(other.clone()),
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_counts_only_what_it_matches() {
        let faults = Faults::default();
        faults
            .add(
                Rule::new(Effect::Status(503))
                    .path("/redfish/v1/Systems/**")
                    .method("get")
                    .after(1)
                    .times(2),
            )
            .unwrap();
        let hit = |method: Method, path: &str| faults.judge(&method, path).effect.is_some();
        assert!(!hit(Method::GET, "/redfish/v1/Managers/1"));
        assert!(!hit(Method::POST, "/redfish/v1/Systems/1"));
        let systems: Vec<bool> = (0..5)
            .map(|_| hit(Method::GET, "/redfish/v1/Systems/1/Bios"))
            .collect();
        assert_eq!(systems, [false, true, true, false, false]);
    }

    #[test]
    fn delays_add_up_and_the_first_other_effect_counts() {
        let faults = Faults::default();
        for effect in [
            Effect::LatencyMs(5),
            Effect::Cut,
            Effect::LatencyMs(7),
            Effect::Hang,
        ] {
            faults.add(Rule::new(effect)).unwrap();
        }
        assert_eq!(
            faults.judge(&Method::GET, "/"),
            Verdict {
                delay: Duration::from_millis(12),
                effect: Some(Effect::Cut)
            }
        );
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused() {
        let faults = Faults::default();
        assert!(faults.add(Rule::new(Effect::Cut).share(2.0)).is_err());
        assert!(faults.add(Rule::new(Effect::Cut).path("[")).is_err());
        assert!(faults.add(Rule::new(Effect::Status(7))).is_err());
    }
}
