//! `corten demo`: a control plane, a fleet, `corten serve` as a process of its own, and a story told while it happens.

mod cluster;
mod folder;
mod play;
mod story;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use corten_controlplane::{Binaries, Progress};

use self::cluster::Cluster;
use self::folder::Folder;
use self::play::Stage;
use self::story::Story;
use crate::shutdown;

/// Shows Corten at work on simulated machines, with a Kubernetes control plane of its own.
///
/// Starts etcd, kube-apiserver and kube-controller-manager (built once, with Go), 12 machines of four vendors and
/// `corten serve`; applies Endpoints and three ServerClaims; stays up until Ctrl-C and leaves nothing but its folder
/// behind. KUBECONFIG is ignored: it may name something that matters.
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
    /// How many machines.
    #[arg(long, env = "CORTEN_DEMO_MACHINES", default_value_t = 12, value_parser = clap::value_parser!(u16).range(3..=500), value_name = "N")]
    pub machines: u16,
    /// Only build the control plane's programs, if they are not there yet.
    #[arg(long, env = "CORTEN_DEMO_PREPARE_ONLY")]
    pub prepare_only: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown::on_signal()?;
    let story = Story::begin();
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
        outcome = stage.play() => outcome.map(|()| ExitCode::SUCCESS),
        () = shutdown.cancelled() => Ok(interrupted(&story, &args)),
    };
    if let Err(error) = &outcome {
        story.say(format!("FAILED: {error:#}"));
    }
    let ended = stage.end(outcome.is_err()).await;
    match (outcome, ended) {
        (Ok(code), ended) => ended.map(|()| code),
        // Said above, where it belongs in the story; the end only has the exit code left to give.
        (Err(_), ended) => ended.map(|()| ExitCode::FAILURE),
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
