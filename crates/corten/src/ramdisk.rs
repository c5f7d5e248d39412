//! `corten ramdisk`: the discovery ramdisk that `corten serve --boot-ramdisk` hands out.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use corten_boot::ramdisk::{self, COMMAND_LINE, Index, KernelSource, Options, Profile, STUB};

/// Name of the probe's program.
const PROBE: &str = "corten-probe";
/// The reproducible builds' variable for the time of everything that is made.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Makes what machines boot for discovery, cleaning and installation.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Build(Build),
}

/// Builds the ramdisk: a distribution's kernel with the drivers of a profile, and the static probe as /init.
///
/// Needs a Debian-like system: the kernel's package is downloaded with apt-get and unpacked with dpkg-deb. Nothing is installed and root is not needed.
/// The same input makes the same bytes; the time of all files is SOURCE_DATE_EPOCH, or 1970.
#[derive(Debug, clap::Args)]
struct Build {
    /// The machines it is for: `virtual` (small), or `hardware` (the drivers of real servers as well).
    #[arg(
        long,
        env = "CORTEN_RAMDISK_PROFILE",
        default_value = "hardware",
        value_name = "PROFILE"
    )]
    profile: Profile,
    /// A folder with boot/vmlinuz-* and lib/modules, from which the kernel is taken; `/` is this system's own.
    #[arg(long, env = "CORTEN_KERNEL_ROOT", value_name = "DIR", conflicts_with_all = ["kernel_deb", "kernel_package"])]
    kernel_root: Option<PathBuf>,
    /// A kernel's .deb file.
    #[arg(
        long,
        env = "CORTEN_KERNEL_DEB",
        value_name = "FILE",
        conflicts_with = "kernel_package"
    )]
    kernel_deb: Option<PathBuf>,
    /// A kernel's package, or one that depends on it. Default: linux-image-amd64, for the virtual profile linux-image-cloud-amd64.
    #[arg(long, env = "CORTEN_KERNEL_PACKAGE", value_name = "NAME")]
    kernel_package: Option<String>,
    /// Which kernel (as `uname -r` says it) where there are several; the newest if absent.
    #[arg(long, env = "CORTEN_KERNEL_RELEASE", value_name = "RELEASE")]
    release: Option<String>,
    /// The probe, linked statically; `corten-probe` beside this program if absent.
    #[arg(long, env = "CORTEN_PROBE", value_name = "FILE")]
    probe: Option<PathBuf>,
    /// systemd's EFI stub, of the package systemd-boot-efi.
    #[arg(long, env = "CORTEN_EFI_STUB", default_value = STUB, value_name = "FILE")]
    stub: PathBuf,
    /// The kernel's command line, without what belongs to one boot.
    #[arg(long, env = "CORTEN_RAMDISK_COMMAND_LINE", default_value = COMMAND_LINE, value_name = "TEXT")]
    command_line: String,
    /// The folder that it is made in.
    #[arg(long, env = "CORTEN_RAMDISK_OUT", value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Build(build) => build.run(),
    }
}

// === impl Build ===

impl Build {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let epoch = match std::env::var(EPOCH) {
            Ok(text) => time(&text)?,
            Err(std::env::VarError::NotPresent) => 0,
            Err(error) => return Err(error).context(EPOCH),
        };
        let options = self.options(&own, epoch)?;
        say(format_args!(
            "profile {}, kernel from {}, probe {}",
            options.profile.name(),
            origin(&options.kernel),
            options.probe.display()
        ));
        let index = ramdisk::build(&options).context("the ramdisk is not built")?;
        say(format_args!(
            "built in {:.1} s; serve it with: corten serve --boot-ramdisk {}",
            started.elapsed().as_secs_f32(),
            self.out.display()
        ));
        let mut out = std::io::stdout().lock();
        write!(out, "{}", Made(&index))?;
        Ok(ExitCode::SUCCESS)
    }

    fn options(&self, own: &Path, time: u32) -> anyhow::Result<Options> {
        Ok(Options {
            kernel: self.kernel(),
            release: self.release.clone(),
            profile: self.profile,
            probe: self.probe(own)?,
            stub: self.stub.clone(),
            command_line: self.command_line.clone(),
            time,
            out: self.out.clone(),
        })
    }

    fn kernel(&self) -> KernelSource {
        match (&self.kernel_root, &self.kernel_deb, &self.kernel_package) {
            (Some(root), _, _) => KernelSource::Root(root.clone()),
            (_, Some(file), _) => KernelSource::Deb(file.clone()),
            (_, _, Some(name)) => KernelSource::Package(name.clone()),
            (None, None, None) => KernelSource::Package(self.profile.package().to_owned()),
        }
    }

    /// The probe that was named, else the one beside this program.
    fn probe(&self, own: &Path) -> anyhow::Result<PathBuf> {
        if let Some(named) = &self.probe {
            return Ok(named.clone());
        }
        let beside = own.with_file_name(PROBE);
        if !beside.is_file() {
            bail!(
                "there is no {}: name the probe with --probe. scripts/ramdisk builds it and the ramdisk; alone it is built by\n  \
                 RUSTFLAGS='-C target-feature=+crt-static' CARGO_TARGET_DIR=target/probe cargo build --profile probe --target x86_64-unknown-linux-gnu -p {PROBE}",
                beside.display()
            );
        }
        Ok(beside)
    }
}

fn time(text: &str) -> anyhow::Result<u32> {
    text.parse()
        .with_context(|| format!("{EPOCH}={text:?} is no number of seconds since 1970 below 2^32"))
}

fn origin(kernel: &KernelSource) -> String {
    match kernel {
        KernelSource::Root(root) => root.display().to_string(),
        KernelSource::Deb(file) => file.display().to_string(),
        KernelSource::Package(name) => format!("package {name}"),
    }
}

/// Progress is for a person, and standard output for what was made.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "corten ramdisk: {line}");
}

/// What a ramdisk consists of, with sizes and digests.
struct Made<'a>(&'a Index);

impl fmt::Display for Made<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.0;
        writeln!(
            to,
            "profile {}, kernel {}, {} modules",
            index.profile,
            index.release,
            index.modules.len()
        )?;
        if !index.missing.is_empty() {
            writeln!(to, "this kernel has no {}", index.missing.join(", "))?;
        }
        for file in [&index.kernel, &index.initrd, &index.efi, &index.iso] {
            writeln!(
                to,
                "{:<10} {:>11} bytes  sha256:{}",
                file.name, file.length, file.sha256
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        build: Build,
    }

    fn parsed(flags: &[&str]) -> Result<Build, clap::Error> {
        let always = ["ramdisk", "--out", "somewhere"];
        Alone::try_parse_from(always.iter().chain(flags)).map(|alone| alone.build)
    }

    #[test]
    fn without_a_source_the_kernel_is_the_distributions_package_for_the_profile() {
        let package = |flags: &[&str]| parsed(flags).unwrap().kernel();
        assert_eq!(
            package(&[]),
            KernelSource::Package("linux-image-amd64".into())
        );
        assert_eq!(
            package(&["--profile", "virtual"]),
            KernelSource::Package("linux-image-cloud-amd64".into())
        );
        assert_eq!(
            package(&["--kernel-root", "/"]),
            KernelSource::Root("/".into())
        );
        assert_eq!(
            package(&["--kernel-deb", "a.deb"]),
            KernelSource::Deb("a.deb".into())
        );
        assert_eq!(
            package(&["--kernel-package", "mine"]),
            KernelSource::Package("mine".into())
        );
    }

    #[test]
    fn two_sources_of_a_kernel_are_refused() {
        assert!(parsed(&["--kernel-root", "/", "--kernel-deb", "a.deb"]).is_err());
        assert!(parsed(&["--kernel-root", "/", "--kernel-package", "a"]).is_err());
        assert!(parsed(&["--kernel-deb", "a.deb", "--kernel-package", "a"]).is_err());
    }

    #[test]
    fn the_probe_is_the_one_beside_the_program_or_the_error_says_how_it_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("corten");
        let mut build = parsed(&[]).unwrap();
        // Whatever this process was told by its environment.
        build.probe = None;
        let refused = build.probe(&own).unwrap_err().to_string();
        assert!(refused.contains("cargo build --profile probe"), "{refused}");
        let beside = folder.path().join(PROBE);
        std::fs::write(&beside, "").unwrap();
        assert_eq!(build.probe(&own).unwrap(), beside);
        let named = parsed(&["--probe", "other"]).unwrap();
        assert_eq!(named.probe(&own).unwrap(), PathBuf::from("other"));
    }

    #[test]
    fn the_time_of_a_reproducible_build_is_a_number_of_seconds() {
        assert_eq!(time("1700000000").unwrap(), 1_700_000_000);
        assert!(time("").is_err());
        assert!(time("4294967296").is_err());
    }
}
