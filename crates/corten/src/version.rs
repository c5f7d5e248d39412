//! `corten version`.

use std::io::Write as _;
use std::process::ExitCode;

/// Prints the version, and those of the APIs it speaks.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The form of the output.
    #[arg(
        short,
        long,
        env = "CORTEN_VERSION_OUTPUT",
        value_enum,
        default_value = "text",
        value_name = "FORMAT"
    )]
    output: Output,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let apis = ["metal.ironcore.dev/v1alpha1", "corten.dev/v1alpha1"];
    match args.output {
        Output::Text => writeln!(out, "corten {VERSION} ({})", apis.join(", "))?,
        Output::Json => writeln!(
            out,
            "{}",
            serde_json::json!({ "version": VERSION, "apis": apis })
        )?,
    }
    Ok(ExitCode::SUCCESS)
}
