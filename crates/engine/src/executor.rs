//! The one place from which hardware is changed.
//!
//! A step goes through four stations: its **intent** is written into the ServerRun, at the observed version, so that a replica that lost its
//! lease gets a conflict; it is **sent** only while the lease outlives the intent's deadline; what became of it is **recorded**; and where that
//! is not known, the intent stays, and whoever comes next waits its deadline out and **settles** it by evidence. Nothing is ever sent because
//! an intent is there.
//!
//! The tests drop this future after its n-th input or output for every n, fail each step in turn and repeat each: see `executor/tests.rs`.

use std::{future::Future, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use corten_api::{
    corten::{
        DriveErasure, EraseClass, Intent, Observation, RunPhase, ServerRun, ServerRunStatus,
        StepOutcome, StepProgress, StepResult,
    },
    names,
};
use corten_kit::Lease;
use corten_lifecycle::run::{self, Before, Phase, Settlement, Step};
use kube::ResourceExt;

pub(crate) mod hardware;
#[cfg(test)]
mod tests;

pub use hardware::{Erasure, Hardware, SendError, Sent};

/// How long the reading before a step may take: what was decided is not carried out on the ground of what was true long ago.
const READING: Duration = Duration::from_secs(30);

/// Progress is written no more often than this.
const SHOWN: SignedDuration = SignedDuration::from_secs(2);

/// Where runs are recorded. In production the API server; every write carries the observed version.
pub trait Records: Send + Sync {
    /// Records a new run. Fails if one of its name exists.
    fn create(
        &self,
        run: &ServerRun,
    ) -> impl Future<Output = Result<Arc<ServerRun>, corten_kit::Error>> + Send;

    /// Replaces a run's status, at the version that `run` carries.
    fn replace_status(
        &self,
        run: &ServerRun,
    ) -> impl Future<Output = Result<Arc<ServerRun>, corten_kit::Error>> + Send;
}

impl Records for corten_kit::Objects<ServerRun> {
    async fn create(&self, run: &ServerRun) -> Result<Arc<ServerRun>, corten_kit::Error> {
        corten_kit::Objects::create(self, run).await
    }

    async fn replace_status(&self, run: &ServerRun) -> Result<Arc<ServerRun>, corten_kit::Error> {
        corten_kit::Objects::replace_status(self, run).await
    }
}

/// Whether this replica may act. In production the shard's Lease.
pub trait Right: Send + Sync {
    /// True while nobody else may act before `deadline`.
    fn outlives(&self, deadline: Timestamp) -> bool;
    /// This replica.
    fn holder(&self) -> String;
}

impl Right for Lease {
    fn outlives(&self, deadline: Timestamp) -> bool {
        Lease::outlives(self, deadline)
    }

    fn holder(&self) -> String {
        Lease::holder(self).to_owned()
    }
}

/// Why a step was not carried through. Whatever it is, the run says how far it came.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The run could not be written; observe again.
    #[error("the run could not be recorded")]
    Record(#[from] corten_kit::Error),
    /// This replica's lease does not last long enough. Try again when it was renewed.
    #[error("the lease ends before the step would")]
    LeaseTooShort,
    /// An intent is open already: it has to be settled first.
    #[error("the run has an open intent")]
    Unsettled,
}

/// Sends steps. One for each shard.
#[derive(Clone, Debug)]
pub struct Executor<R, L> {
    records: R,
    right: L,
    clock: fn() -> Timestamp,
}

// === impl Executor ===

impl<R: Records, L: Right> Executor<R, L> {
    /// An executor that records in `records` and acts while `right` lasts.
    pub fn new(records: R, right: L) -> Self {
        Self {
            records,
            right,
            clock: Timestamp::now,
        }
    }

    #[cfg(test)]
    pub(crate) fn with_clock(mut self, clock: fn() -> Timestamp) -> Self {
        self.clock = clock;
        self
    }

    /// Where runs are recorded.
    pub fn records(&self) -> &R {
        &self.records
    }

    /// Reads what `step` needs, writes the intent, sends it, records what became of it. Returns the run as recorded last.
    ///
    /// # Errors
    /// See [`ExecutorError`]; after each of them the recorded run is the truth.
    pub async fn send(
        &self,
        run: &ServerRun,
        step: &Step,
        before: Before,
        hardware: &impl Hardware,
    ) -> Result<Arc<ServerRun>, ExecutorError> {
        let status = run.status.clone().unwrap_or_default();
        if status.intent.is_some() {
            return Err(ExecutorError::Unsettled);
        }
        // Reading takes its time on a slow BMC; the deadline is for the one request that changes something.
        let prepared = tokio::time::timeout(READING, hardware.prepare(step))
            .await
            .unwrap_or_else(|_| {
                let why = format!("what it needs could not be read within {READING:?}");
                Err(SendError::NotSent(why))
            });
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let (outcome, why) = match error {
                    SendError::Refused(why) => (StepOutcome::Failed, why),
                    SendError::NotSent(why) | SendError::Unknown(why) => {
                        (StepOutcome::NotSent, why)
                    }
                };
                return self.end(run, step, outcome, why, None).await;
            }
        };
        let written_at = (self.clock)();
        let deadline = written_at.checked_add(run::CALL).unwrap_or(Timestamp::MAX);
        if !self.right.outlives(deadline) {
            return Err(ExecutorError::LeaseTooShort);
        }
        let intent = Intent {
            id: format!("{}-{}", run.name_any(), status.results.len()),
            step: step.to_string(),
            observed: Observation {
                power_state: before.power,
                last_reset_time: before.last_reset,
                task: None,
            },
            written_at,
            deadline,
            holder: self.right.holder(),
        };
        let recorded = self
            .records
            .replace_status(&with_status(
                run,
                ServerRunStatus {
                    phase: Some(RunPhase::Running),
                    current_step: Some(step.to_string()),
                    intent: Some(intent.clone()),
                    ..status
                },
            ))
            .await?;
        // Writing may have taken long: the time left, and the lease, are looked at again.
        let left = Duration::try_from(deadline.duration_since((self.clock)())).unwrap_or_default();
        let (outcome, evidence, task) = if left.is_zero() || !self.right.outlives(deadline) {
            (
                StepOutcome::NotSent,
                "the time to send it had passed".to_owned(),
                None,
            )
        } else {
            match tokio::time::timeout(left, hardware.send(step, prepared)).await {
                Ok(Ok(sent)) => match sent {
                    Sent::Done { evidence } => (StepOutcome::Succeeded, evidence, None),
                    Sent::Task { uri } => (StepOutcome::Accepted, format!("task {uri}"), Some(uri)),
                },
                Ok(Err(SendError::Refused(why))) => (StepOutcome::Failed, why, None),
                Ok(Err(SendError::NotSent(why))) => (StepOutcome::NotSent, why, None),
                // Nobody knows: the intent stays, and evidence decides after its deadline.
                Ok(Err(SendError::Unknown(why))) => {
                    tracing::warn!(run = %recorded.name_any(), %step, %why, "outcome unknown; it is settled by evidence");
                    return Ok(recorded);
                }
                Err(_) => {
                    tracing::warn!(run = %recorded.name_any(), %step, "no answer before the deadline; it is settled by evidence");
                    return Ok(recorded);
                }
            }
        };
        self.end(&recorded, step, outcome, evidence, task).await
    }

    /// Records what evidence says of the open intent.
    ///
    /// # Errors
    /// See [`ExecutorError`].
    pub async fn settle(
        &self,
        run: &ServerRun,
        settlement: &Settlement,
    ) -> Result<Arc<ServerRun>, ExecutorError> {
        let step = run
            .status
            .as_ref()
            .and_then(|status| status.intent.as_ref())
            .and_then(|intent| intent.step.parse::<Step>().ok());
        let Some(step) = step else {
            return Ok(Arc::new(run.clone()));
        };
        self.end(
            run,
            &step,
            settlement.outcome.into(),
            settlement.evidence.clone(),
            None,
        )
        .await
    }

    /// Records the end of a drive's task.
    ///
    /// # Errors
    /// See [`ExecutorError`].
    pub async fn erased(
        &self,
        run: &ServerRun,
        serial: &str,
        ended: &Erasure,
    ) -> Result<Arc<ServerRun>, ExecutorError> {
        let (outcome, evidence) = match ended {
            Erasure::Running { .. } => return Ok(Arc::new(run.clone())),
            Erasure::Done { evidence } => (StepOutcome::Succeeded, evidence.clone()),
            Erasure::Failed { why } => (StepOutcome::Failed, why.clone()),
        };
        self.end(
            run,
            &Step::EraseDrive(serial.to_owned()),
            outcome,
            evidence,
            None,
        )
        .await
    }

    /// Records that leave was given to a probe, before it hears of it: whoever asks again finds it given.
    ///
    /// # Errors
    /// See [`ExecutorError`]; a conflict means that nothing was given.
    pub async fn granted(
        &self,
        run: &ServerRun,
        step: &Step,
        evidence: String,
        drives: Vec<DriveErasure>,
        message: String,
    ) -> Result<Arc<ServerRun>, ExecutorError> {
        let now = (self.clock)();
        let deadline = now.checked_add(run::CALL).unwrap_or(Timestamp::MAX);
        if !self.right.outlives(deadline) {
            return Err(ExecutorError::LeaseTooShort);
        }
        let mut status = run.status.clone().unwrap_or_default();
        if status.intent.is_some() {
            return Err(ExecutorError::Unsettled);
        }
        status.phase = Some(RunPhase::Running);
        status.current_step = Some(step.to_string());
        status.progress = None;
        status.drives = drives;
        status.results.push(StepResult {
            step: step.to_string(),
            started_at: now,
            finished_at: Some(now),
            outcome: StepOutcome::Accepted,
            evidence,
            message,
        });
        Ok(self
            .records
            .replace_status(&with_status(run, status))
            .await?)
    }

    /// Shows how far a probe's work is: once for each tenth, and not after its end.
    ///
    /// # Errors
    /// See [`ExecutorError`].
    pub async fn progressed(
        &self,
        run: &ServerRun,
        what: &str,
        percent: u8,
    ) -> Result<(), ExecutorError> {
        let now = (self.clock)();
        let mut status = run.status.clone().unwrap_or_default();
        let is_shown = status.progress.as_ref().is_some_and(|shown| {
            let is_near = shown.what == what && percent < shown.percent.saturating_add(10);
            is_near || shown.at.is_some_and(|at| now.duration_since(at) < SHOWN)
        });
        if is_shown || status.current_step.is_none() || status.finished_at.is_some() {
            return Ok(());
        }
        status.progress = Some(StepProgress {
            what: what.to_owned(),
            percent,
            at: Some(now),
        });
        self.records
            .replace_status(&with_status(run, status))
            .await?;
        Ok(())
    }

    /// Records how a probe's work ended, with what it says of each drive.
    ///
    /// # Errors
    /// See [`ExecutorError`].
    pub async fn reported(
        &self,
        run: &ServerRun,
        step: &Step,
        outcome: StepOutcome,
        evidence: String,
        drives: Vec<DriveErasure>,
    ) -> Result<Arc<ServerRun>, ExecutorError> {
        let mut run = run.clone();
        let status = run.status.get_or_insert_default();
        // What may have been sent is settled first; a probe says it again.
        if status.intent.is_some() {
            return Err(ExecutorError::Unsettled);
        }
        for told in drives {
            let known = status
                .drives
                .iter_mut()
                .find(|drive| drive.serial_number == told.serial_number);
            match known {
                Some(drive) => {
                    let started_at = drive.started_at;
                    *drive = DriveErasure { started_at, ..told };
                }
                None => status.drives.push(told),
            }
        }
        self.end(&run, step, outcome, evidence, None).await
    }

    /// Records the run's end.
    ///
    /// # Errors
    /// See [`ExecutorError`].
    pub async fn finish(
        &self,
        run: &ServerRun,
        phase: Phase,
        message: &str,
    ) -> Result<Arc<ServerRun>, ExecutorError> {
        let now = (self.clock)();
        let mut status = run.status.clone().unwrap_or_default();
        status.phase = Some(phase.into());
        status.current_step = None;
        status.progress = None;
        status.finished_at = Some(now);
        if let Some(intent) = status.intent.take() {
            status.results.push(StepResult {
                step: intent.step,
                started_at: intent.written_at,
                finished_at: Some(now),
                outcome: StepOutcome::Unknown,
                evidence: String::new(),
                message: message.to_owned(),
            });
        }
        corten_kit::conditions::set(
            &mut status.conditions,
            match phase {
                Phase::Succeeded => {
                    corten_kit::conditions::yes(names::CONDITION_SUCCEEDED, "Done", message)
                }
                Phase::OutcomeUnknown => corten_kit::conditions::unknown(
                    names::CONDITION_SUCCEEDED,
                    "OutcomeUnknown",
                    message,
                ),
                _ => corten_kit::conditions::no(names::CONDITION_SUCCEEDED, "NotDone", message),
            },
            run.metadata.generation,
            now,
        );
        Ok(self
            .records
            .replace_status(&with_status(run, status))
            .await?)
    }

    async fn end(
        &self,
        run: &ServerRun,
        step: &Step,
        outcome: StepOutcome,
        evidence: String,
        task: Option<String>,
    ) -> Result<Arc<ServerRun>, ExecutorError> {
        let now = (self.clock)();
        let mut status = run.status.clone().unwrap_or_default();
        let started_at = status.intent.take().map_or(now, |intent| intent.written_at);
        status.phase = Some(RunPhase::Running);
        status.progress = None;
        if let Step::EraseDrive(serial) = step {
            report(
                &mut status.drives,
                serial,
                &outcome,
                &evidence,
                task,
                started_at,
                now,
            );
        }
        status.results.push(StepResult {
            step: step.to_string(),
            started_at,
            finished_at: Some(now),
            outcome,
            evidence,
            message: String::new(),
        });
        Ok(self
            .records
            .replace_status(&with_status(run, status))
            .await?)
    }
}

/// A drive that a grant names, before anything is known of its erasure.
/// The erasure report: one entry a drive, the last word stands. A BMC's word is `Reported`, verified by nobody.
fn report(
    drives: &mut Vec<DriveErasure>,
    serial: &str,
    outcome: &StepOutcome,
    evidence: &str,
    task: Option<String>,
    started_at: Timestamp,
    now: Timestamp,
) {
    let old = drives
        .iter()
        .position(|drive| drive.serial_number == serial);
    let old = old.map(|at| drives.remove(at));
    let running = *outcome == StepOutcome::Accepted;
    drives.push(DriveErasure {
        serial_number: serial.to_owned(),
        model: old
            .as_ref()
            .map(|drive| drive.model.clone())
            .unwrap_or_default(),
        attachment: String::new(),
        method: "Drive.SecureErase".into(),
        class: if *outcome == StepOutcome::Succeeded {
            EraseClass::Reported
        } else {
            EraseClass::None
        },
        verified: false,
        outcome: outcome.clone(),
        message: evidence.to_owned(),
        task: task.or_else(|| old.as_ref().and_then(|drive| drive.task.clone())),
        started_at: old.and_then(|drive| drive.started_at).or(Some(started_at)),
        finished_at: (!running).then_some(now),
    });
}

fn with_status(run: &ServerRun, status: ServerRunStatus) -> ServerRun {
    ServerRun {
        status: Some(status),
        ..run.clone()
    }
}
