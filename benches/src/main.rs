//! `make bench`: what Corten costs, measured from outside.
//!
//! A real control plane, a simulated fleet in this process, and `corten serve` as a process of its own, so that the operating system
//! tells what it alone used. API writes are what the API server counted, Redfish requests what the machines counted.

mod apiserver;
mod boot;
mod floor;
mod machines;
mod onboard;
mod process;
mod report;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;

/// Measures onboarding and rest at several sizes and writes the tables.
#[derive(Debug, Parser)]
struct Args {
    /// The `corten` to measure: a release build.
    #[arg(long, default_value = "target/release/corten")]
    corten: PathBuf,
    /// How many BMCs; one run each.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,5000")]
    sizes: Vec<usize>,
    /// How long to watch at rest after each onboarding.
    #[arg(long, default_value_t = 300)]
    rest_seconds: u64,
    /// Give up on an onboarding after this long.
    #[arg(long, default_value_t = 900)]
    limit_seconds: u64,
    /// Machines with inventories as large as an R750's and a DGX's instead of small ones.
    #[arg(long)]
    large: bool,
    /// HTTPS with a certificate for each machine.
    #[arg(long)]
    tls: bool,
    /// Only the boot server, against nginx where that is installed.
    #[arg(long)]
    boot_only: bool,
    /// The discovery ramdisk for whole machines in QEMU, as scripts/ramdisk built it; without it they are left out. Needs root.
    #[arg(long)]
    ramdisk: Option<PathBuf>,
    /// The static probe that is in it.
    #[arg(
        long,
        default_value = "target/probe/x86_64-unknown-linux-gnu/probe/corten-probe"
    )]
    probe: PathBuf,
    /// Only whole machines.
    #[arg(long, requires = "ramdisk")]
    machines_only: bool,
    /// Be the boot server that is measured.
    #[arg(long, hide = true)]
    serve_file: Option<PathBuf>,
    /// Where the tables go; standard output without it.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(file) = args.serve_file {
        return boot::serve(file).await;
    }
    if args.boot_only {
        return boot_tables(&args).await;
    }
    if args.machines_only {
        return machine_tables(&args).await;
    }
    anyhow::ensure!(
        args.corten.is_file(),
        "{} is missing: build it first (make bench does)",
        args.corten.display()
    );
    let mut runs = Vec::new();
    for size in &args.sizes {
        eprintln!("-- {size} BMCs");
        let run = onboard::run(&onboard::Setup {
            corten: args.corten.clone(),
            machines: *size,
            large: args.large,
            tls: args.tls,
            rest: Duration::from_secs(args.rest_seconds),
            limit: Duration::from_secs(args.limit_seconds),
        })
        .await
        .with_context(|| format!("with {size} BMCs"))?;
        eprintln!("{}", report::row(&run));
        runs.push(run);
    }
    let text = report::tables(&runs, args.large, args.tls);
    publish(&args, &text)?;
    boot_tables(&args).await?;
    machine_tables(&args).await
}

async fn machine_tables(args: &Args) -> Result<()> {
    let Some(ramdisk) = &args.ramdisk else {
        eprintln!("-- whole machines: left out, there is no --ramdisk");
        return Ok(());
    };
    eprintln!("-- whole machines");
    let text = report::machines(&machines::run(&args.corten, ramdisk, &args.probe).await?);
    publish(args, &text)
}

async fn boot_tables(args: &Args) -> Result<()> {
    eprintln!("-- the boot server");
    let text = report::boot(&boot::run().await?);
    publish(args, &text)
}

/// A section into the document, or to standard output.
fn publish(args: &Args, text: &str) -> Result<()> {
    match &args.out {
        Some(path) => report::replace_section(path, text)?,
        None => print!("{text}"),
    }
    Ok(())
}
