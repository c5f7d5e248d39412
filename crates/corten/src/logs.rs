//! Structured logs on standard error: text for a person at a terminal, one JSON object a line for everybody else.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How logs look and what they hold.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Log lines as text or JSON; `auto` is text on a terminal, JSON otherwise.
    #[arg(
        long,
        global = true,
        env = "CORTEN_LOG_FORMAT",
        value_enum,
        default_value = "auto",
        value_name = "FORMAT"
    )]
    pub log_format: Format,
    /// What is logged: a level (error, warn, info, debug, trace), or one per target as in `info,corten_redfish=debug`. Default: info, for the demo warn.
    #[arg(long, global = true, env = "CORTEN_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Auto,
    Text,
    Json,
}

/// Installs the process's subscriber.
pub fn start(args: &Args, default: &str) -> anyhow::Result<()> {
    let filter = args.log.as_deref().unwrap_or(default);
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("--log {filter:?} is no filter"))?;
    let terminal = std::io::stderr().is_terminal();
    let text = match args.log_format {
        Format::Auto => terminal,
        Format::Text => true,
        Format::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if text {
        registry.with(layer.with_ansi(terminal)).try_init()
    } else {
        registry.with(layer.json().flatten_event(true)).try_init()
    }
    .context("cannot start logging")
}
