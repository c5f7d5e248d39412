//! Forms of an image that it does not come in: one EFI file of a kernel with its ramdisk, an ISO of an EFI file. They are laid out when they are first
//! asked for and never made: what is sent is the format's own bytes, each boot's command line, and the cached files.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use tokio::sync::Mutex;

use crate::image::Images;
use crate::image::resolved::{Kind, Resolved};
use crate::links::name;
use crate::piece::Piece;
use crate::ramdisk::index::{hexadecimal, sha256};
use crate::uki::{self, pe};
use crate::{Refusal, iso};

/// Forms that are remembered. One costs some kilobytes, in an ISO two FATs: at most 4 MiB.
const MANY: usize = 32;
/// How much of a kernel is read for its headers.
const HEAD: u64 = 64 << 10;

/// How a form lies over an image's files.
#[derive(Debug)]
pub(super) struct Form {
    pieces: Vec<Piece>,
    etag: String,
    /// Which of the pieces is the command line.
    slot: Option<usize>,
}

// === impl Form ===

impl Form {
    fn new(pieces: Vec<Piece>, slot: Option<u64>) -> Result<Self, String> {
        let mut end = 0;
        let place = pieces.iter().position(|piece| {
            let begin = end;
            end += piece.length();
            slot == Some(begin) && piece.length() == uki::SLOT as u64
        });
        if place.is_some() != slot.is_some() {
            return Err("the command line has no place in it".into());
        }
        Ok(Self {
            etag: etag(&pieces),
            pieces,
            slot: place,
        })
    }

    /// Its bytes with a command line of [`uki::SLOT`] bytes, and an ETag for both.
    pub(super) fn pieces(&self, line: Option<Vec<u8>>) -> (Vec<Piece>, String) {
        let mut pieces = self.pieces.clone();
        let place = self.slot.and_then(|slot| pieces.get_mut(slot));
        let (Some(place), Some(line)) = (place, line) else {
            return (pieces, self.etag.clone());
        };
        let etag = sha256(&[self.etag.as_bytes(), &line].concat());
        *place = Piece::from(line);
        (pieces, etag)
    }
}

/// The same for the same bytes, in each replica: a file in the cache is named by its digest.
fn etag(pieces: &[Piece]) -> String {
    let mut context = Context::new(&SHA256);
    for piece in pieces {
        context.update(&piece.length().to_le_bytes());
        match piece {
            Piece::Bytes(bytes) => context.update(bytes),
            Piece::Zeros(_) => context.update(b"0"),
            Piece::File { path, offset, .. } => {
                context.update(path.file_name().unwrap_or_default().as_encoded_bytes());
                context.update(&offset.to_le_bytes());
            }
        }
    }
    hexadecimal(context.finish().as_ref())
}

/// Lays them out, one at a time. What is known already waits for nobody.
#[derive(Debug, Default)]
pub(super) struct Workshop {
    known: parking_lot::Mutex<HashMap<(String, &'static str), Arc<Form>>>,
    bench: Mutex<()>,
}

// === impl Workshop ===

impl Workshop {
    /// `image` as `wanted` ([`name::EFI`] or [`name::ISO`]).
    pub(super) async fn form(
        &self,
        images: &Arc<Images>,
        image: &Resolved,
        wanted: &'static str,
    ) -> Result<Arc<Form>, Refusal> {
        let mut files = Vec::new();
        let parts: &[&str] = match image.kind {
            Kind::Linux => &[name::KERNEL, name::INITRD],
            _ => &[name::EFI],
        };
        for part in parts {
            let part = image
                .part(part)
                .ok_or_else(|| Refusal::Nothing(format!("the image has no {part}")))?;
            let held = images.cache().get(&part.sha256).await;
            let held = held
                .map_err(|error| Refusal::NotNow(error.to_string()))?
                .ok_or_else(|| Refusal::NotNow("the image is no longer in the cache".into()))?;
            files.push(held);
        }
        let key = (image.digest.clone(), wanted);
        let known = || self.known.lock().get(&key).cloned();
        if let Some(known) = known() {
            return Ok(known);
        }
        let _bench = self.bench.lock().await;
        // Who was before us may have laid it out.
        if let Some(known) = known() {
            return Ok(known);
        }
        let kind = image.kind;
        let file = |held: &crate::cache::Held| (held.path.clone(), held.length);
        let paths: Vec<_> = files.iter().map(file).collect();
        let done = tokio::task::spawn_blocking(move || lay(kind, &paths, wanted)).await;
        let form = done
            .map_err(|error| Refusal::NotNow(error.to_string()))?
            .map_err(Refusal::Nothing)?;
        let form = Arc::new(form);
        let mut known = self.known.lock();
        if known.len() >= MANY {
            known.retain(|(digest, _), _| images.get(digest).is_some());
        }
        // They are laid out again for who still needs them.
        if known.len() >= MANY {
            known.clear();
        }
        known.insert(key, form.clone());
        Ok(form)
    }
}

fn lay(kind: Kind, files: &[(PathBuf, u64)], wanted: &str) -> Result<Form, String> {
    let whole = |(path, length): &(PathBuf, u64)| {
        vec![Piece::File {
            path: path.clone(),
            offset: 0,
            length: *length,
        }]
    };
    let (efi, slot) = match (kind, files) {
        (Kind::Linux, [kernel, initrd]) => {
            let head = head(&kernel.0).map_err(|error| error.to_string())?;
            let machine = pe::machine(&head).map_err(|error| error.to_string())?;
            let stub = stub(machine)?;
            let stub = std::fs::read(&stub).map_err(|error| {
                format!(
                    "{}, of the package systemd-boot-efi: {error}",
                    stub.display()
                )
            })?;
            let uki = uki::build(uki::Parts {
                stub: &stub,
                os_release: "ID=image\n",
                release: "",
                command_line: "",
                head: &head,
                kernel: whole(kernel),
                initrd: whole(initrd),
            })
            .map_err(|error| error.to_string())?;
            (uki.pieces, Some(uki.slot))
        }
        (_, [efi]) => (whole(efi), None),
        _ => return Err("a file is missing".into()),
    };
    if wanted != name::ISO {
        return Form::new(efi, slot);
    }
    let iso = iso::bootable(efi, 0).map_err(|error| error.to_string())?;
    Form::new(iso.pieces, slot.map(|slot| iso.offset + slot))
}

fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

fn stub(machine: u16) -> Result<PathBuf, String> {
    let name = match machine {
        pe::AMD64 => "linuxx64.efi.stub",
        pe::ARM64 => "linuxaa64.efi.stub",
        other => {
            return Err(format!(
                "no EFI stub for machine type {other:#06x} is known"
            ));
        }
    };
    Ok(Path::new("/usr/lib/systemd/boot/efi").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::piece;

    /// Files as the cache has them, named by their digests.
    fn files(folder: &Path, contents: &[&[u8]]) -> Vec<(PathBuf, u64)> {
        let file = |bytes: &&[u8]| {
            let path = folder.join(sha256(bytes));
            std::fs::write(&path, bytes).unwrap();
            (path, bytes.len() as u64)
        };
        contents.iter().map(file).collect()
    }

    fn in_memory(form: &Form) -> u64 {
        let bytes = |piece: &&Piece| matches!(piece, Piece::Bytes(_));
        form.pieces.iter().filter(bytes).map(Piece::length).sum()
    }

    #[test]
    fn a_kernel_and_its_ramdisk_become_an_efi_file_and_an_iso_and_stay_where_they_are() {
        if let Err(why) = stub(pe::AMD64).and_then(|stub| {
            std::fs::metadata(&stub).map_err(|error| format!("{}: {error}", stub.display()))
        }) {
            println!("skipped: {why}");
            return;
        }
        let kernel = uki::tests::small_pe(pe::AMD64, 0);
        let initrd: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let line = |text| Some(uki::slot(text).unwrap());
        let mut bytes = Vec::new();
        for wanted in [name::EFI, name::ISO] {
            let form = lay(Kind::Linux, &files(one.path(), &[&kernel, &initrd]), wanted).unwrap();
            assert!(in_memory(&form) < 500_000, "{}", in_memory(&form));
            let (pieces, etag) = form.pieces(line("quiet ip=one"));
            let whole = piece::whole(&pieces).unwrap();
            let (other, other_etag) = form.pieces(line("quiet ip=two"));
            let other = piece::whole(&other).unwrap();
            assert_ne!(etag, other_etag);
            let differ = whole.iter().zip(&other).filter(|(one, two)| one != two);
            assert_eq!((differ.count(), whole.len()), (3, other.len()));
            let elsewhere =
                lay(Kind::Linux, &files(two.path(), &[&kernel, &initrd]), wanted).unwrap();
            assert_eq!(elsewhere.pieces(line("quiet ip=one")).1, etag);
            bytes.push(whole);
        }
        let efi = pe::Image::read(&bytes[0]).unwrap();
        let section = |name: &str| {
            let found = efi.sections().iter().find(|section| section.name == name);
            let found = found.unwrap();
            &bytes[0][found.offset as usize..][..found.size as usize]
        };
        assert!(section(".linux") == kernel);
        assert!(section(".initrd") == initrd);
        assert!(section(".cmdline").starts_with(b"quiet ip=one "));
        let efi = &bytes[0];
        let begin = (0..bytes[1].len())
            .step_by(512)
            .find(|at| bytes[1][*at..].starts_with(efi));
        assert!(begin.is_some(), "the ISO has the EFI file in one piece");
    }

    #[test]
    fn an_efi_file_becomes_an_iso_whatever_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        let length = 1_500_000_000;
        std::fs::File::create(&path)
            .unwrap()
            .set_len(length)
            .unwrap();
        let form = lay(Kind::Efi, &[(path, length)], name::ISO).unwrap();
        assert!(in_memory(&form) < 8 << 20, "{}", in_memory(&form));
        assert_eq!(form.pieces(None).1, form.etag);
        let too_large = lay(Kind::Efi, &[("x".into(), 3 << 30)], name::ISO).unwrap_err();
        assert!(too_large.contains("too long"), "{too_large}");
        let too_short = lay(Kind::Efi, &[("x".into(), 2)], name::ISO).unwrap_err();
        assert_eq!(too_short, "2 bytes are no EFI file");
    }
}
