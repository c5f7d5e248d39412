//! `corten sim`: the simulated fleet as a process of its own.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::shutdown;

pub async fn run(args: corten_sim::Args) -> anyhow::Result<ExitCode> {
    corten_sim::run(args, shutdown::on_signal()?)
        .await
        .context("sim")?;
    Ok(ExitCode::SUCCESS)
}
