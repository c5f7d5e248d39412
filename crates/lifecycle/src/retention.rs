//! Which ServerRuns may go: the audit record is kept by count and age.
//!
//! Whatever the limits say, there stay: runs that have not ended, tombstones (they are how a machine is known again), and of each server and
//! kind the newest run, so that the last erasure report and the last provisioning can always be read.

use std::collections::{HashMap, HashSet};

use corten_api::corten::{RunKind, ServerRun};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

/// How many ended runs are kept, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ended runs kept for each server.
    pub count: usize,
    /// Ended runs older than this go.
    pub age: SignedDuration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            count: 50,
            age: SignedDuration::from_hours(90 * 24),
        }
    }
}

/// Those of `runs` that may be deleted at `now`.
pub fn expired<'a>(
    runs: impl IntoIterator<Item = &'a ServerRun>,
    limits: Limits,
    now: Timestamp,
) -> Vec<&'a ServerRun> {
    let mut by_server: HashMap<&str, Vec<(Timestamp, &ServerRun)>> = HashMap::new();
    for run in runs {
        let Some(ended) = ended(run) else { continue };
        let server = if run.spec.server_ref.uid.is_empty() {
            &run.spec.server_ref.name
        } else {
            &run.spec.server_ref.uid
        };
        by_server.entry(server).or_default().push((ended, run));
    }
    let mut gone = Vec::new();
    for runs in by_server.values_mut() {
        runs.sort_by_key(|(ended, run)| (std::cmp::Reverse(*ended), run.name_any()));
        let mut kinds: HashSet<&str> = HashSet::new();
        for (place, (ended, run)) in runs.iter().enumerate() {
            let newest_of_its_kind = kinds.insert(run.spec.kind.as_str());
            let too_many = place >= limits.count;
            let too_old = now.duration_since(*ended) > limits.age;
            if (too_many || too_old) && !newest_of_its_kind {
                gone.push(*run);
            }
        }
    }
    gone
}

/// When the run ended; none while it has not, and for what never goes.
fn ended(run: &ServerRun) -> Option<Timestamp> {
    if run.spec.kind == RunKind::Tombstone || run.metadata.deletion_timestamp.is_some() {
        return None;
    }
    run.status.as_ref()?.finished_at
}

#[cfg(test)]
mod tests {
    use corten_api::corten::{ServerReference, ServerRunSpec, ServerRunStatus};

    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    fn run(name: &str, server: &str, kind: RunKind, ended: Option<i64>) -> ServerRun {
        let mut run = ServerRun::new(
            name,
            ServerRunSpec {
                server_ref: ServerReference {
                    name: server.into(),
                    uid: String::new(),
                },
                kind,
                occasion: String::new(),
                claim_uid: None,
                actor: None,
                plan: Vec::new(),
                system_uuid: None,
                serial_number: None,
            },
        );
        run.status = Some(ServerRunStatus {
            finished_at: ended.map(at),
            ..ServerRunStatus::default()
        });
        run
    }

    fn names(gone: Vec<&ServerRun>) -> Vec<String> {
        let mut names: Vec<_> = gone.iter().map(|r| r.name_any()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_erasure_report_of_a_server_outlives_every_limit() {
        let runs = [
            run("old", "s", RunKind::Cleaning, Some(1)),
            run("older", "s", RunKind::Cleaning, Some(0)),
        ];
        assert_eq!(
            names(expired(&runs, Limits::default(), at(1_000))),
            ["older"]
        );
    }

    #[test]
    fn tombstones_and_runs_under_way_never_go() {
        let runs = [
            run("t1", "s", RunKind::Tombstone, Some(0)),
            run("t2", "s", RunKind::Tombstone, Some(1)),
            run("busy", "s", RunKind::Cleaning, None),
            run("done", "s", RunKind::Cleaning, Some(1)),
        ];
        assert!(expired(&runs, Limits::default(), at(1_000)).is_empty());
    }

    #[test]
    fn each_server_has_a_count_of_its_own() {
        let limits = Limits {
            count: 2,
            ..Limits::default()
        };
        let runs = [
            run("a1", "a", RunKind::Operation, Some(10)),
            run("a2", "a", RunKind::Operation, Some(11)),
            run("a3", "a", RunKind::Operation, Some(12)),
            run("b1", "b", RunKind::Operation, Some(10)),
        ];
        assert_eq!(names(expired(&runs, limits, at(13))), ["a1"]);
    }
}
