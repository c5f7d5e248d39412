//! Why a site cannot be had.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use corten_boot::cpio::CpioError;
use corten_boot::ramdisk::RamdiskError;
use corten_boot::uki::UkiError;

/// Why a site, or what is installed there, cannot be made. A retry helps only after something was changed here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something has to be installed first.
    #[error("{0}")]
    Missing(String),
    /// A program did not start.
    #[error("cannot run {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("{command}: {said}")]
    Failed {
        /// What was run.
        command: String,
        /// What it said, or how it ended.
        said: String,
    },
    /// A file cannot be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Bytes cannot be packed.
    #[error("cannot pack an image")]
    Pack(#[source] io::Error),
    /// The image is larger than its places.
    #[error("the EFI system partition does not fit into the image")]
    Size,
    /// The guest's ramdisk cannot be made.
    #[error("the guest's ramdisk")]
    Archive(#[from] CpioError),
    /// The guest's program cannot be made.
    #[error("the guest's EFI program")]
    Program(#[from] UkiError),
    /// The kernel's modules cannot be read.
    #[error("the guest's kernel")]
    Kernel(#[from] RamdiskError),
    /// The server of images cannot listen.
    #[error("the server of images cannot listen at {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The registry does not answer. A retry may help.
    #[error("the registry of images cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The registry answers otherwise than it should.
    #[error("the registry of images answers {asked} with: {said}")]
    Registry {
        /// What it was asked.
        asked: String,
        /// Its whole answer.
        said: String,
    },
}

impl Error {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }

    pub(crate) fn start(program: &str) -> impl FnOnce(io::Error) -> Self {
        let program = program.to_owned();
        |source| Self::Start { program, source }
    }
}

/// Runs a program to its end, and gives what it said.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(Error::start(&program))?;
    checked(command, &output)
}

/// The output of a program that ended well.
pub(crate) fn checked(command: &Command, output: &Output) -> Result<String, Error> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed {
        command: words.join(" "),
        said: if said.is_empty() {
            output.status.to_string()
        } else {
            said
        },
    })
}
