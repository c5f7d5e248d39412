//! `corten crds`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;

/// Prints the CustomResourceDefinitions, ready for `kubectl apply --server-side -f -`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The form of the output: YAML documents, or one JSON List.
    #[arg(
        short,
        long,
        env = "CORTEN_CRDS_OUTPUT",
        value_enum,
        default_value = "yaml",
        value_name = "FORMAT"
    )]
    output: Output,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    Yaml,
    Json,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let crds = corten_api::crds();
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Yaml => {
            for crd in crds {
                let document =
                    serde_saphyr::to_string(&crd).context("cannot write a CRD as YAML")?;
                writeln!(out, "---\n{}", document.trim_end())?;
            }
        }
        Output::Json => {
            let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": crds });
            writeln!(out, "{list:#}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
