use std::sync::Arc;

/// Where progress lines go: a person's terminal, a log, or nowhere.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&str) + Send + Sync>);

impl Progress {
    /// Calls `line` with each line of progress, without a line end.
    pub fn new(line: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(line))
    }

    /// Drops every line.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// Sends each line to `tracing` at level info.
    pub fn traced() -> Self {
        Self::new(|line| tracing::info!(target: "controlplane", "{line}"))
    }

    /// Says `line`.
    pub fn say(&self, line: impl AsRef<str>) {
        (self.0)(line.as_ref());
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::traced()
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}
