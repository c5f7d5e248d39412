//! Outside and inside: the demo with a real firmware runs itself in a network namespace, and takes that away whatever becomes of it.
//!
//! [`enclose`] is outside: it looks whether all is there, makes the namespace and a folder, runs this program again in it, and hears
//! Ctrl-C. The one inside ends in order when its standard input does, so also when the one outside was killed.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use corten_controlplane::Binaries;
use corten_site::{BRIDGE, Namespace};
use tokio_util::sync::CancellationToken;

use super::story::Story;
use super::{Args, firmware, interrupted, progress};
use crate::shutdown;

/// What tells the one inside where it is: the namespace's name, and the folder that goes with it.
const NAMESPACE: &str = "CORTEN_DEMO_SITE_NAMESPACE";
const FOLDER: &str = "CORTEN_DEMO_SITE_FOLDER";

/// The site that this process is in.
#[derive(Debug)]
pub struct Site {
    pub namespace: String,
    pub folder: PathBuf,
}

// === impl Site ===

impl Site {
    pub fn here() -> Option<Self> {
        Some(Self {
            namespace: std::env::var(NAMESPACE).ok()?,
            folder: std::env::var_os(FOLDER)?.into(),
        })
    }
}

/// Runs the demo in a namespace of its own.
pub async fn enclose(args: &Args, story: &Story) -> anyhow::Result<ExitCode> {
    let at_once = CancellationToken::new();
    let shutdown = shutdown::on_signals({
        let at_once = at_once.clone();
        move || at_once.cancel()
    })?;
    refuse_without_what_it_needs(args)?;
    // Inside there is no way to the world.
    let progress = progress(story);
    tokio::select! {
        found = Binaries::find_or_build(&progress) => drop(found.context("the demo's control plane")?),
        () = shutdown.cancelled() => return Ok(interrupted(story, args)),
    }
    corten_site::remove_leftovers();
    let folder = tempfile::Builder::new()
        .prefix("corten-demo-")
        .tempdir()
        .context("no folder for the site")?;
    // Outlives this process, so that the disks are removed even if it is killed.
    let janitor = corten_controlplane::remove_when_gone(folder.path())?;
    let namespace = Namespace::make()?;
    story.say(format!(
        "network namespace {} with the bridge {BRIDGE}: all that follows is in there",
        namespace.name()
    ));
    let [program, place] = namespace.enter();
    let mut inside = tokio::process::Command::new(program)
        .arg(place)
        .arg(std::env::current_exe().context("cannot tell where corten is")?)
        .args(std::env::args_os().skip(1))
        .env(NAMESPACE, namespace.name())
        .env(FOLDER, folder.path())
        .stdin(Stdio::piped())
        // Ctrl-C is for this process alone, which ends things in order.
        .process_group(0)
        .spawn()
        .context("cannot enter the namespace")?;
    let mut pipe = inside.stdin.take();
    let status = loop {
        tokio::select! {
            status = inside.wait() => break Some(status.context("the demo inside")?),
            () = shutdown.cancelled(), if pipe.is_some() => pipe = None,
            () = at_once.cancelled() => break None,
        }
    };
    if status.is_none() {
        // Its children end with it; theirs is to remove what it wrote.
        let _ = inside.start_kill();
        namespace.empty_within(Duration::from_secs(3)).await;
    }
    // In this order: what still runs may be writing to the folder.
    drop(namespace);
    drop(janitor);
    Ok(match status.and_then(|status| status.code()) {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::from(130),
    })
}

/// Cancels `shutdown` when the one outside lets go, or is gone.
pub fn end_with_maker(shutdown: &CancellationToken) {
    let shutdown = shutdown.clone();
    // A thread of its own: the runtime would wait for one of its own that reads.
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        shutdown.cancel();
    });
}

/// All that is missing at once, rather than one thing after the other.
fn refuse_without_what_it_needs(args: &Args) -> anyhow::Result<()> {
    let mut missing = corten_site::missing();
    missing.extend(firmware::machines(args, Path::new("")).missing());
    missing.extend(corten_site::guest::missing());
    if let Some(ramdisk) = &args.ramdisk
        && !ramdisk.join("ramdisk.json").is_file()
    {
        missing.push(format!(
            "{} holds no ramdisk, which the machines boot; scripts/ramdisk virtual builds one and says where",
            ramdisk.display()
        ));
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "machines with a real firmware are not possible here (make demo without QEMU is):\n  - {}",
        missing.join("\n  - ")
    )
}
