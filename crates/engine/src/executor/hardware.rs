//! What the executor asks of a machine, and what can become of it.

use std::future::Future;

use corten_lifecycle::run::Step;

/// A machine that can be changed.
pub trait Hardware: Send + Sync {
    /// A step's one mutating request, with all that had to be read for it.
    type Prepared: Send;

    /// Reads what a step needs. Changes nothing, and takes the time that it takes: it happens before the intent is written.
    fn prepare(
        &self,
        step: &Step,
    ) -> impl Future<Output = Result<Self::Prepared, SendError>> + Send;

    /// Sends one step: one mutating request.
    fn send(
        &self,
        step: &Step,
        prepared: Self::Prepared,
    ) -> impl Future<Output = Result<Sent, SendError>> + Send;

    /// Asks how the task of a drive's erasure stands, and the drive itself once the task has ended. Reads only.
    fn erasure(
        &self,
        serial: &str,
        task: &str,
    ) -> impl Future<Output = Result<Erasure, SendError>> + Send;
}

/// The BMC took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It says that it is done, or that there was nothing to do.
    Done {
        /// Its answer.
        evidence: String,
    },
    /// It works on it.
    Task {
        /// Where to ask.
        uri: String,
    },
}

/// How an erasure stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// Under way.
    Running {
        /// Percent, where the BMC says.
        percent: Option<u8>,
    },
    /// The BMC says that the drive is erased.
    Done {
        /// The task's own words.
        evidence: String,
    },
    /// It is not.
    Failed {
        /// Why.
        why: String,
    },
}

/// The step was not carried out, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The BMC answered that it will not. The same request again gets the same answer.
    #[error("refused: {0}")]
    Refused(String),
    /// It surely did not reach the BMC. A later try can help.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may or may not have been carried out.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}
