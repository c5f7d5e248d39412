//! The `corten` binary: subcommands and wiring, no logic.

mod admin;
mod cli;
mod crds;
mod demo;
mod duration;
mod inspect;
mod logs;
mod ramdisk;
mod serve;
mod shutdown;
mod sim;
mod version;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::{Cli, Subcommand};

/// Set up by `.cargo/config.toml`; what it costs and saves stands in `docs/benchmarks.md`.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&cli::documented(Cli::command()).get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            // The whole chain on one line: what failed, and why.
            let _ = writeln!(std::io::stderr(), "corten: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // The demo tells its story itself; what its parts log is of interest only when something is wrong.
    let quiet = matches!(cli.command, Subcommand::Demo(_));
    logs::start(
        &cli.logs,
        if quiet {
            "warn,kube_client=off"
        } else {
            "info"
        },
    )?;
    // One TLS implementation for the whole process; it fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Subcommand::Serve(args) => serve::run((*args).into()).await,
        Subcommand::Operator(args) => serve::run((*args).into()).await,
        Subcommand::Agent(args) => serve::run((*args).into()).await,
        Subcommand::Demo(args) => demo::run(args).await,
        Subcommand::Sim(args) => sim::run(*args).await,
        Subcommand::Crds(args) => crds::run(&args),
        Subcommand::Inspect(args) => inspect::run(&args).await,
        Subcommand::Ramdisk(args) => ramdisk::run(&args),
        Subcommand::Version(args) => version::run(&args),
    }
}
