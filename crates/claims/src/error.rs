//! What can go wrong in a reconcile of a claim, by step.

use corten_kit::ReconcileError;

/// A reconcile could not go on. It is tried again; whether that helps by itself says the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The step that was decided on could not be carried out.
    #[error("cannot {step}")]
    Act {
        /// The step, a few fixed words.
        step: &'static str,
        /// What the API server said.
        #[source]
        source: corten_kit::Error,
    },
    /// The status could not be written.
    #[error("cannot record how the claim stands")]
    Record(#[source] corten_kit::Error),
}

impl ReconcileError for Error {
    fn label(&self) -> &'static str {
        match self {
            Self::Act { step, .. } => step,
            Self::Record(_) => "record",
        }
    }

    fn is_conflict(&self) -> bool {
        match self {
            // What is gone is observed anew like what was changed.
            Self::Act { source, .. } | Self::Record(source) => {
                source.is_conflict() || source.is_not_found()
            }
        }
    }
}
