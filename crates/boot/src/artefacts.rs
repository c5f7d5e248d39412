//! Finds the bytes of what a machine boots: the server's [`Artefacts`] over the probe's ramdisk, resolved images and config drives.
//!
//! What is a boot's own (its command line, its archive of settings) is laid over what is shared, as pieces; no file is copied.

mod made;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::image::Images;
use crate::image::resolved::{CLOUD_INIT_URL, IGNITION_URL, Kind, Resolved};
use crate::links::name;
use crate::piece::{self, Piece};
use crate::ramdisk::{File, Index, RamdiskError};
use crate::server::artefacts::{Artefact, Artefacts, Boot, Bootable};
use crate::{Refusal, Target, UserData, iso, uki};

const BINARY: &str = "application/octet-stream";
const EFI: &str = "application/efi";
/// As firmware compares it (UEFI 2.10 section 24.7.3; EDK II), whatever the path ends in.
const ISO: &str = "application/vnd.efi-iso";

/// A ramdisk in its folder, checked when it was opened.
#[derive(Debug, Clone)]
pub struct Ramdisk {
    folder: PathBuf,
    index: Index,
}

impl Ramdisk {
    /// Opens what [`crate::ramdisk::build`] made; reads every file once.
    ///
    /// # Errors
    /// A file is missing, or another than was built.
    pub fn open(folder: &Path) -> Result<Self, RamdiskError> {
        Ok(Self {
            index: Index::open(folder)?,
            folder: folder.to_owned(),
        })
    }

    /// Its index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The command line of one boot.
    fn command_line(&self, boot: &Boot<'_>) -> String {
        format!(
            "{} {}",
            self.index.command_line,
            boot.links.probe_command_line()
        )
    }

    /// A file with the boot's command line in its slot.
    fn artefact(
        &self,
        file: &File,
        boot: &Boot<'_>,
        media_type: &'static str,
    ) -> Result<Artefact, Refusal> {
        let part = |offset, length| Piece::File {
            path: self.folder.join(&file.name),
            offset,
            length,
        };
        let Some(slot) = file.slot else {
            return Ok(Artefact {
                pieces: vec![part(0, file.length)],
                etag: file.sha256.clone(),
                media_type,
                modified: None,
            });
        };
        let line = uki::slot(&self.command_line(boot))
            .map_err(|error| Refusal::Nothing(error.to_string()))?;
        let end = slot.offset.saturating_add(slot.length);
        if line.len() as u64 != slot.length || end > file.length {
            return Err(Refusal::Nothing(format!(
                "the ramdisk's {} has a slot of another size",
                file.name
            )));
        }
        let etag = crate::ramdisk::index::sha256(&[file.sha256.as_bytes(), &line].concat());
        let pieces = vec![
            part(0, slot.offset),
            Piece::Bytes(Bytes::from(line)),
            part(end, file.length - end),
        ];
        Ok(Artefact {
            pieces,
            etag,
            media_type,
            modified: None,
        })
    }
}

/// All that machines boot.
#[derive(Debug)]
pub struct Store {
    ramdisk: Option<Ramdisk>,
    images: Arc<Images>,
    workshop: made::Workshop,
}

impl Store {
    /// A store over a ramdisk (without one, no probe can be booted) and the resolved images.
    #[must_use]
    pub fn new(ramdisk: Option<Ramdisk>, images: Arc<Images>) -> Self {
        Self {
            ramdisk,
            images,
            workshop: made::Workshop::default(),
        }
    }

    fn ramdisk(&self) -> Result<&Ramdisk, Refusal> {
        self.ramdisk
            .as_ref()
            .ok_or_else(|| Refusal::Nothing("no ramdisk is configured".into()))
    }

    /// How the probe is started.
    fn probe(&self, boot: &Boot<'_>) -> Result<Bootable, Refusal> {
        Ok(Bootable::Linux {
            kernel: name::KERNEL.into(),
            initrds: vec![name::INITRD.into()],
            command_line: self.ramdisk()?.command_line(boot),
        })
    }

    /// A file of the ramdisk.
    fn probe_file(&self, boot: &Boot<'_>, wanted: &str) -> Result<Artefact, Refusal> {
        let ramdisk = self.ramdisk()?;
        match wanted {
            name::KERNEL => ramdisk.artefact(&ramdisk.index.kernel, boot, BINARY),
            name::INITRD => ramdisk.artefact(&ramdisk.index.initrd, boot, BINARY),
            name::EFI => ramdisk.artefact(&ramdisk.index.efi, boot, EFI),
            name::ISO => ramdisk.artefact(&ramdisk.index.iso, boot, ISO),
            other => Err(Refusal::Nothing(format!(
                "the ramdisk has no {}",
                other.escape_debug()
            ))),
        }
    }

    fn image(&self, digest: &str) -> Result<Resolved, Refusal> {
        self.images
            .get(digest)
            .ok_or_else(|| Refusal::NotNow("the image is not resolved here yet".into()))
    }

    /// A form of the image that it does not come in.
    async fn form(
        &self,
        image: &Resolved,
        wanted: &'static str,
        boot: &Boot<'_>,
    ) -> Result<Artefact, Refusal> {
        let form = self.workshop.form(&self.images, image, wanted).await?;
        let line = match image.kind {
            Kind::Linux => Some(
                uki::slot(&live_command_line(image, boot))
                    .map_err(|error| Refusal::Nothing(error.to_string()))?,
            ),
            _ => None,
        };
        let (pieces, etag) = form.pieces(line);
        Ok(Artefact {
            pieces,
            etag,
            media_type: if wanted == name::ISO { ISO } else { EFI },
            modified: None,
        })
    }

    async fn part(&self, image: &Resolved, wanted: &str) -> Result<Artefact, Refusal> {
        let part = image
            .part(wanted)
            .ok_or_else(|| Refusal::Nothing(format!("the image has no {wanted}")))?;
        let cached = self.images.cache().get(&part.sha256).await;
        let cached = cached
            .map_err(|error| Refusal::NotNow(error.to_string()))?
            .ok_or_else(|| Refusal::NotNow("the image is no longer in the cache".into()))?;
        let media_type = match wanted {
            name::EFI => EFI,
            name::ISO => ISO,
            _ => BINARY,
        };
        let pieces = vec![Piece::File {
            path: cached.path,
            offset: 0,
            length: cached.length,
        }];
        Ok(Artefact {
            pieces,
            etag: part.sha256.clone(),
            media_type,
            modified: None,
        })
    }
}

/// Parameters of the original's images (gardenlinux's live boot), as boot-operator's script gives them.
fn live_command_line(image: &Resolved, boot: &Boot<'_>) -> String {
    if let Some(line) = &image.command_line {
        return line
            .replace(IGNITION_URL, &boot.links.ignition())
            .replace(CLOUD_INIT_URL, &boot.links.cloud_init());
    }
    let mut line = String::from("ip=any console=tty0 console=ttyS0,115200n8 consoleblank=0");
    if image.part(name::SQUASHFS).is_some() {
        line.push_str(&format!(
            " gl.ovl=/:tmpfs gl.url={} gl.live=1",
            boot.links.artefact(name::SQUASHFS)
        ));
    }
    line.push_str(&format!(
        " ignition.firstboot=1 ignition.config.url={} ignition.platform.id=metal",
        boot.links.ignition()
    ));
    line
}

#[async_trait]
impl Artefacts for Store {
    async fn bootable(&self, boot: Boot<'_>) -> Result<Bootable, Refusal> {
        match boot.target {
            Target::LocalDisk => Ok(Bootable::LocalDisk),
            Target::Probe => self.probe(&boot),
            Target::Image { digest, .. } => {
                let image = self.image(digest)?;
                match image.kind {
                    Kind::Efi => Ok(Bootable::Efi),
                    Kind::Iso => Ok(Bootable::Iso),
                    Kind::Linux => Ok(Bootable::Linux {
                        kernel: name::KERNEL.into(),
                        initrds: vec![name::INITRD.into()],
                        command_line: live_command_line(&image, &boot),
                    }),
                    // The probe writes it, so the probe is what the machine boots.
                    Kind::Disk => self.probe(&boot),
                }
            }
        }
    }

    async fn open(
        &self,
        boot: Boot<'_>,
        wanted: &str,
        data: Option<&UserData>,
    ) -> Result<Artefact, Refusal> {
        if wanted == name::CONFIG_DRIVE {
            let data = data.ok_or_else(|| {
                Refusal::Nothing("there is no user data for a config drive".into())
            })?;
            let drive =
                iso::config_drive(data).map_err(|error| Refusal::Nothing(error.to_string()))?;
            let whole = piece::whole(&drive).map_err(|error| Refusal::NotNow(error.to_string()))?;
            let etag = crate::ramdisk::index::sha256(&whole);
            return Ok(Artefact {
                pieces: drive,
                etag,
                media_type: BINARY,
                modified: None,
            });
        }
        match boot.target {
            Target::Probe => self.probe_file(&boot, wanted),
            Target::Image { digest, .. } => {
                let image = self.image(digest)?;
                if image.kind == Kind::Disk && wanted != name::IMAGE {
                    return self.probe_file(&boot, wanted);
                }
                match (image.kind, wanted) {
                    // Firmware makes a RAM disk of it.
                    (Kind::Iso, name::EFI) => self.part(&image, name::ISO).await,
                    (Kind::Linux, name::EFI) => self.form(&image, name::EFI, &boot).await,
                    (Kind::Linux | Kind::Efi, name::ISO) => {
                        self.form(&image, name::ISO, &boot).await
                    }
                    _ => self.part(&image, wanted).await,
                }
            }
            Target::LocalDisk => Err(Refusal::Nothing("the machine boots from its disk".into())),
        }
    }
}

#[cfg(test)]
mod tests;
