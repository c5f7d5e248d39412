//! Why a reconcile could not do its step, as the queue wants to know it.

use corten_kit::ReconcileError;

/// A step that the API server did not let happen. A conflict means: observe again at once.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct Failure {
    step: &'static str,
    #[source]
    source: corten_kit::Error,
}

impl Failure {
    /// For `map_err`: names the step.
    pub fn at(step: &'static str) -> impl FnOnce(corten_kit::Error) -> Self {
        move |source| Self { step, source }
    }
}

impl ReconcileError for Failure {
    fn label(&self) -> &'static str {
        self.step
    }

    fn is_conflict(&self) -> bool {
        self.source.is_conflict()
    }
}
