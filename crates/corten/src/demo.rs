//! `corten demo`: a control plane, a fleet, `corten serve` as a process of its own, and a story told while it happens.
//!
//! Two plays: [`play`] with clockwork machines, [`firmware`] with QEMU and a real firmware, in a network namespace that [`site`] makes.

mod cluster;
mod firmware;
mod folder;
mod play;
mod site;
mod stage;
mod story;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use corten_controlplane::{Binaries, Progress};

use self::cluster::Cluster;
use self::folder::Folder;
use self::site::Site;
use self::stage::Stage;
use self::story::Story;
use crate::shutdown;

/// Shows Corten at work on simulated machines, with a Kubernetes control plane of its own.
///
/// Starts etcd, kube-apiserver and kube-controller-manager (built once, with Go), 12 machines of four vendors and
/// `corten serve`; applies Endpoints and three ServerClaims; stays up until Ctrl-C and leaves nothing but its folder
/// behind. KUBECONFIG is ignored: it may name something that matters. With --qemu the machines are QEMU with a real UEFI
/// firmware, in a network namespace: they boot the probe, are installed, run their image, and are erased for certain.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Release the claims too, wait until their servers are clean and Available again, print what happened, and exit.
    #[arg(long, env = "CORTEN_DEMO_ONCE")]
    pub once: bool,
    /// Use this cluster instead of a control plane of the demo's own. Refused where these kinds are installed by somebody else.
    #[arg(long, env = "CORTEN_DEMO_CLUSTER_KUBECONFIG", value_name = "FILE")]
    pub cluster_kubeconfig: Option<PathBuf>,
    /// The folder for everything that the demo writes.
    #[arg(
        long,
        env = "CORTEN_DEMO_FOLDER",
        default_value = ".demo",
        value_name = "FOLDER"
    )]
    pub folder: PathBuf,
    /// How many machines: 3 to 500, 12 if absent; with --qemu 1 to 6, 3 if absent.
    #[arg(long, env = "CORTEN_DEMO_MACHINES", value_name = "N")]
    pub machines: Option<u16>,
    /// Machines with a real firmware: QEMU with OVMF. Needs root and what scripts/e2e-setup installs.
    #[arg(
        long,
        env = "CORTEN_DEMO_QEMU",
        requires = "ramdisk",
        conflicts_with = "cluster_kubeconfig"
    )]
    pub qemu: bool,
    /// The discovery ramdisk that they boot, as scripts/ramdisk builds it.
    #[arg(
        long,
        env = "CORTEN_DEMO_RAMDISK",
        value_name = "FOLDER",
        requires = "qemu"
    )]
    pub ramdisk: Option<PathBuf>,
    /// Only build the control plane's programs, if they are not there yet.
    #[arg(long, env = "CORTEN_DEMO_PREPARE_ONLY")]
    pub prepare_only: bool,
}

// === impl Args ===

impl Args {
    /// How many machines there are to be.
    fn machines(&self) -> usize {
        self.machines
            .unwrap_or(if self.qemu { 3 } else { 12 })
            .into()
    }

    fn check(&self) -> anyhow::Result<()> {
        let allowed = if self.qemu { 1..=6 } else { 3..=500 };
        if !allowed.contains(&self.machines()) {
            bail!(
                "--machines {}: {} to {} are possible{}",
                self.machines(),
                allowed.start(),
                allowed.end(),
                if self.qemu { " with --qemu" } else { "" }
            );
        }
        Ok(())
    }
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.check()?;
    let story = Story::begin();
    let site = Site::here().filter(|_| args.qemu);
    if args.qemu && !args.prepare_only && site.is_none() {
        return site::enclose(&args, &story).await;
    }
    let shutdown = shutdown::on_signal()?;
    if site.is_some() {
        site::end_with_maker(&shutdown);
    }
    if args.prepare_only {
        Binaries::find_or_build(&progress(&story)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = Folder::open(&args.folder)?;
    let cluster = tokio::select! {
        cluster = cluster(&args, &folder, &story) => cluster?,
        () = shutdown.cancelled() => return Ok(interrupted(&story, &args)),
    };
    let mut stage = Stage::new(args.clone(), cluster, folder, story.clone());
    let outcome = tokio::select! {
        outcome = perform(&mut stage, site.as_ref()) => outcome.map(|()| ExitCode::SUCCESS),
        () = shutdown.cancelled() => Ok(interrupted(&story, &args)),
    };
    if let Err(error) = &outcome {
        story.say(format!("FAILED: {error:#}"));
    }
    let ended = stage.end(outcome.is_err()).await;
    if site.is_some() {
        // Where the one outside was killed, nobody else does.
        corten_site::remove_leftovers();
    }
    match (outcome, ended) {
        (Ok(code), ended) => ended.map(|()| code),
        // Said above, where it belongs in the story; the end only has the exit code left to give.
        (Err(_), ended) => ended.map(|()| ExitCode::FAILURE),
    }
}

async fn perform(stage: &mut Stage, site: Option<&Site>) -> anyhow::Result<()> {
    match site {
        Some(site) => firmware::play(stage, site).await,
        None => stage.play().await,
    }
}

async fn cluster(args: &Args, folder: &Folder, story: &Story) -> anyhow::Result<Cluster> {
    match &args.cluster_kubeconfig {
        Some(kubeconfig) => Cluster::existing(kubeconfig, story).await,
        None => Cluster::own(folder, progress(story), story)
            .await
            .context("the demo's control plane"),
    }
}

/// Ctrl-C is how the demo is meant to end, unless it was to end by itself.
fn interrupted(story: &Story, args: &Args) -> ExitCode {
    story.say("interrupted, cleaning up (again: at once)");
    if args.once {
        ExitCode::from(130)
    } else {
        ExitCode::SUCCESS
    }
}

fn progress(story: &Story) -> Progress {
    let story = story.clone();
    Progress::new(move |line| story.say(line))
}
