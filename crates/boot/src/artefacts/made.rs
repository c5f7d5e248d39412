//! Forms of an image that it does not come in: one EFI file of a kernel with its ramdisk, an ISO of an EFI file. Made when one is first asked for, kept
//! in the cache, and served with each boot's command line laid over its slot.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use tokio::sync::Mutex;

use crate::cache::Held;
use crate::image::Images;
use crate::image::resolved::{Kind, Resolved};
use crate::links::name;
use crate::server::artefacts::Piece;
use crate::uki::{self, pe};
use crate::{Refusal, iso};

/// Largest image that is made into another form, in bytes: it is done in memory.
const LARGEST: u64 = 1 << 30;
/// Made images that are remembered before those that nobody needs any more go.
const MANY: usize = 32;

/// A file in the cache, and where a boot's command line goes in it.
#[derive(Clone, Debug)]
pub(super) struct Made {
    held: Held,
    slot: Option<u64>,
}

impl Made {
    /// Its bytes with a command line of [`uki::SLOT`] bytes, and an ETag for both.
    pub(super) fn pieces(&self, line: Option<Vec<u8>>) -> (Vec<Piece>, String) {
        let part = |offset, length| Piece::File {
            path: self.held.path.clone(),
            offset,
            length,
        };
        let (Some(slot), Some(line)) = (self.slot, line) else {
            return (vec![part(0, self.held.length)], self.held.sha256.clone());
        };
        let etag = crate::ramdisk::index::sha256(&[self.held.sha256.as_bytes(), &line].concat());
        let end = slot + line.len() as u64;
        let pieces = vec![
            part(0, slot),
            Piece::Bytes(Bytes::from(line)),
            part(end, self.held.length.saturating_sub(end)),
        ];
        (pieces, etag)
    }
}

/// Makes them, one at a time: what is under way has the image in memory. What is made already waits for nobody.
#[derive(Debug, Default)]
pub(super) struct Workshop {
    made: parking_lot::Mutex<HashMap<(String, &'static str), Made>>,
    bench: Mutex<()>,
}

impl Workshop {
    /// `image` as `wanted` ([`name::EFI`] or [`name::ISO`]).
    pub(super) async fn make(
        &self,
        images: &Arc<Images>,
        image: &Resolved,
        wanted: &'static str,
    ) -> Result<Made, Refusal> {
        let key = (image.digest.clone(), wanted);
        let known = || self.made.lock().get(&key).cloned();
        if let Some(known) = known() {
            return Ok(known);
        }
        let _bench = self.bench.lock().await;
        // Who was before us may have made it.
        if let Some(known) = known() {
            return Ok(known);
        }
        let mut files = Vec::new();
        let parts: &[&str] = match image.kind {
            Kind::Linux => &[name::KERNEL, name::INITRD],
            _ => &[name::EFI],
        };
        for part in parts {
            let part = image
                .part(part)
                .ok_or_else(|| Refusal::Nothing(format!("the image has no {part}")))?;
            if part.length > LARGEST {
                return Err(Refusal::Nothing(format!(
                    "the image is too large to be made into {wanted}"
                )));
            }
            let held = images.cache().get(&part.sha256).await;
            let held = held
                .map_err(|error| Refusal::NotNow(error.to_string()))?
                .ok_or_else(|| Refusal::NotNow("the image is no longer in the cache".into()))?;
            files.push(held);
        }
        let kind = image.kind;
        let paths: Vec<PathBuf> = files.iter().map(|held| held.path.clone()).collect();
        let done = tokio::task::spawn_blocking(move || build(kind, &paths, wanted)).await;
        let (bytes, slot) = done
            .map_err(|error| Refusal::NotNow(error.to_string()))?
            .map_err(Refusal::Nothing)?;
        let limit = bytes.len() as u64;
        let held = images
            .cache()
            .store(None, None, limit, stream::iter([Ok(Bytes::from(bytes))]))
            .await
            .map_err(|error| Refusal::NotNow(error.to_string()))?;
        let mut made = self.made.lock();
        if made.len() >= MANY {
            made.retain(|(digest, _), _| images.get(digest).is_some());
        }
        let new = Made { held, slot };
        made.insert(key, new.clone());
        Ok(new)
    }
}

/// The bytes, and where the command line's slot is in them.
fn build(kind: Kind, files: &[PathBuf], wanted: &str) -> Result<(Vec<u8>, Option<u64>), String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| error.to_string());
    let mut contents = files.iter().map(|path| read(path));
    let mut next = || {
        contents
            .next()
            .unwrap_or_else(|| Err("a file is missing".into()))
    };
    let first = next()?;
    let (efi, slot) = match kind {
        Kind::Linux => {
            let machine = pe::Image::read(&first).map_err(|error| error.to_string())?;
            let stub = stub(machine.machine())?;
            let made = uki::build(&uki::Parts {
                stub: &read(&stub).map_err(|error| {
                    format!(
                        "{}, of the package systemd-boot-efi: {error}",
                        stub.display()
                    )
                })?,
                os_release: "ID=image\n",
                release: "",
                command_line: "",
                kernel: &first,
                initrd: &next()?,
            })
            .map_err(|error| error.to_string())?;
            (made.bytes, Some(made.slot))
        }
        _ => (first, None),
    };
    if wanted != name::ISO {
        return Ok((efi, slot));
    }
    let iso = iso::bootable(&efi, 0).map_err(|error| error.to_string())?;
    let offset = iso.offset;
    Ok((iso.bytes, slot.map(|slot| offset + slot)))
}

fn stub(machine: u16) -> Result<PathBuf, String> {
    let name = match machine {
        0x8664 => "linuxx64.efi.stub",
        0xaa64 => "linuxaa64.efi.stub",
        other => {
            return Err(format!(
                "no EFI stub for machine type {other:#06x} is known"
            ));
        }
    };
    Ok(Path::new("/usr/lib/systemd/boot/efi").join(name))
}
