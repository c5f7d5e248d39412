//! The first SIGTERM or SIGINT asks everything to end in order; a second one ends the process at once.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first signal; the second one ends the process.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    on_signals(|| std::process::exit(130))
}

/// A token that is cancelled by the first signal. The second one does `at_once`.
pub fn on_signals(at_once: impl Fn() + Send + 'static) -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if again {
                tracing::warn!(signal = name, "asked twice, ending at once");
                at_once();
                return;
            }
            tracing::info!(signal = name, "shutting down");
            asked.cancel();
        }
    });
    Ok(token)
}
