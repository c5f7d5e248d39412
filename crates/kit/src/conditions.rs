//! Conditions: a list by type, of which each controller owns some (Kubernetes API conventions, "Typical status properties").

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A condition that is true.
pub fn yes(kind: &str, reason: &str, message: impl Into<String>) -> Condition {
    new(kind, "True", reason, message.into())
}

/// A condition that is false.
pub fn no(kind: &str, reason: &str, message: impl Into<String>) -> Condition {
    new(kind, "False", reason, message.into())
}

/// A condition that nobody knows.
pub fn unknown(kind: &str, reason: &str, message: impl Into<String>) -> Condition {
    new(kind, "Unknown", reason, message.into())
}

fn new(kind: &str, status: &str, reason: &str, mut message: String) -> Condition {
    // The API's own limit; a message may quote a device.
    if message.len() > 32_768 {
        let end = (0..=32_768)
            .rev()
            .find(|i| message.is_char_boundary(*i))
            .unwrap_or(0);
        message.truncate(end);
    }
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

/// Puts `condition` in, with `generation` as observed and `now` as its transition if its status changed. Returns whether anything changed.
pub fn set(
    conditions: &mut Vec<Condition>,
    mut condition: Condition,
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    condition.observed_generation = generation;
    // Seconds are what the wire keeps; more would look like a change on the next reading.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    match conditions.iter_mut().find(|c| c.type_ == condition.type_) {
        Some(old) => {
            condition.last_transition_time = if old.status == condition.status {
                old.last_transition_time.clone()
            } else {
                Time(now)
            };
            let changed = *old != condition;
            *old = condition;
            changed
        }
        None => {
            condition.last_transition_time = Time(now);
            conditions.push(condition);
            true
        }
    }
}

/// The condition of type `kind`.
pub fn get<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// True when the condition is there and `True`.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    get(conditions, kind).is_some_and(|c| c.status == "True")
}

/// Takes the condition out. Returns whether it was there.
pub fn remove(conditions: &mut Vec<Condition>, kind: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.type_ != kind);
    conditions.len() != before
}

/// Those of `conditions` whose type is in `ours`: what a controller may apply without touching others' entries.
pub fn owned(conditions: &[Condition], ours: &[&str]) -> Vec<Condition> {
    conditions
        .iter()
        .filter(|c| ours.contains(&c.type_.as_str()))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_does() {
        let mut all = Vec::new();
        assert!(set(
            &mut all,
            yes("Ready", "Connected", "a"),
            Some(1),
            at(10)
        ));
        assert!(set(
            &mut all,
            yes("Ready", "Connected", "b"),
            Some(1),
            at(20)
        ));
        assert_eq!(all[0].last_transition_time.0, at(10));
        assert!(set(
            &mut all,
            no("Ready", "Unreachable", "b"),
            Some(1),
            at(30)
        ));
        assert_eq!(all[0].last_transition_time.0, at(30));
    }

    #[test]
    fn setting_the_same_condition_again_changes_nothing() {
        let mut all = Vec::new();
        set(&mut all, yes("Ready", "Connected", "a"), Some(1), at(10));
        assert!(!set(
            &mut all,
            yes("Ready", "Connected", "a"),
            Some(1),
            at(99)
        ));
    }
}
