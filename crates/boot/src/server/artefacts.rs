//! How the server finds the bytes of what a machine boots.

use std::time::SystemTime;

use async_trait::async_trait;

use crate::links::Links;
use crate::piece::{self, Piece};
use crate::{Refusal, Target, Ticket};

/// One boot, as artefacts are found for it.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// Who boots.
    pub ticket: &'a Ticket,
    /// What.
    pub target: &'a Target,
    /// The URLs of this boot, for command lines and scripts.
    pub links: &'a Links,
}

/// How a target is started by a boot loader.
#[derive(Clone, PartialEq, Eq)]
pub enum Bootable {
    /// One EFI file at [`crate::links::name::EFI`]; all that it needs is in it.
    Efi,
    /// A Linux kernel.
    Linux {
        /// Name of the kernel's artefact.
        kernel: String,
        /// Names of the initial ramdisks' artefacts, in their order.
        initrds: Vec<String>,
        /// The kernel's command line, tokens and all.
        command_line: String,
    },
    /// An ISO image at [`crate::links::name::ISO`].
    Iso,
    /// What is on the disk.
    LocalDisk,
}

impl std::fmt::Debug for Bootable {
    /// Without the command line: it carries tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bootable::Efi => "Efi",
            Bootable::Linux { .. } => "Linux",
            Bootable::Iso => "Iso",
            Bootable::LocalDisk => "LocalDisk",
        })
    }
}

/// An artefact: its pieces one after the other, so that what is a server's own (a command line, a small archive) can be laid over what is
/// shared and large, without a copy of it on disk. Small ones in memory, large ones in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artefact {
    /// Its bytes.
    pub pieces: Vec<Piece>,
    /// A strong validator without quotes: the same only for the same bytes. A digest serves; where pieces are a server's own, one over all of them.
    pub etag: String,
    /// Media type.
    pub media_type: &'static str,
    /// When it was made.
    pub modified: Option<SystemTime>,
}

impl Artefact {
    /// How many bytes it has.
    #[must_use]
    pub fn length(&self) -> u64 {
        piece::length(&self.pieces)
    }
}

/// Finds artefacts. The server asks it after the token was checked and [`crate::Desk::target`] said what is due.
#[async_trait]
pub trait Artefacts: Send + Sync + 'static {
    /// How `boot` is started, for the boot script.
    async fn bootable(&self, boot: Boot<'_>) -> Result<Bootable, Refusal>;

    /// The artefact of that name ([`crate::links::name`]; others as [`Artefacts::bootable`] named them). The name comes from outside: it is a key to
    /// compare with, never a path. User data is not asked here, except for [`crate::links::name::CONFIG_DRIVE`], which comes with `data`.
    async fn open(
        &self,
        boot: Boot<'_>,
        name: &str,
        data: Option<&crate::UserData>,
    ) -> Result<Artefact, Refusal>;
}
