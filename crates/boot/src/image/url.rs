//! Images by URL: one file, or a small manifest (JSON or YAML) that names kernel, initial ramdisk and command line.

use std::path::Path;

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use url::Url;

use super::resolved::{Kind, Packing, Part, Resolved, recognise};
use super::{ImageError, Images, Request, fetch};
use crate::cache::{Held, Place};
use crate::links::name;
use crate::uki::pe;

/// Longest manifest, in bytes.
const MANIFEST: u64 = 64 << 10;
/// As many first bytes as tell what a file is: ISO 9660's magic is the last.
const START: usize = 0x8006;

/// A manifest; URLs may be relative to its own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    kernel: File,
    initrd: File,
    #[serde(default)]
    squashfs: Option<File>,
    #[serde(default, alias = "cmdline")]
    command_line: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: String,
    sha256: String,
}

pub(super) async fn resolve(
    images: &Images,
    request: &Request<'_>,
    url: &Url,
) -> Result<(Resolved, Vec<Held>), ImageError> {
    let file = file(images, url, request.sha256).await?;
    let start = start(&file.path).await?;
    if let Some((kind, packing, name)) = recognise(&start) {
        if kind == Kind::Efi {
            check_machine(&file.path, request.architecture).await?;
        }
        let parts = vec![Part {
            name,
            sha256: file.sha256.clone(),
            length: file.length,
        }];
        return Ok((
            Resolved {
                digest: file.sha256.clone(),
                kind,
                parts,
                command_line: None,
                packing,
            },
            vec![file],
        ));
    }
    let manifest = manifest(&file, &start)?;
    if let Some(found) = manifest
        .architecture
        .filter(|found| found != request.architecture)
    {
        return Err(ImageError::Architecture {
            wanted: request.architecture.to_owned(),
            found,
        });
    }
    let (mut parts, mut held) = (Vec::new(), Vec::new());
    let files = [
        (name::KERNEL, Some(manifest.kernel)),
        (name::INITRD, Some(manifest.initrd)),
        (name::SQUASHFS, manifest.squashfs),
    ];
    for (name, named) in files
        .into_iter()
        .filter_map(|(name, named)| Some((name, named?)))
    {
        let place = url
            .join(&named.url)
            .map_err(|_| ImageError::Malformed(format!("the manifest's {name} has no URL")))?;
        let part = self::file(images, &place, Some(&named.sha256)).await?;
        if name == name::KERNEL {
            check_machine(&part.path, request.architecture).await?;
        }
        parts.push(Part {
            name,
            sha256: part.sha256.clone(),
            length: part.length,
        });
        held.push(part);
    }
    Ok((
        Resolved {
            digest: file.sha256.clone(),
            kind: Kind::Linux,
            parts,
            command_line: manifest.command_line,
            packing: Packing::None,
        },
        held,
    ))
}

fn manifest(file: &Held, start: &[u8]) -> Result<Manifest, ImageError> {
    let unknown =
        || ImageError::NotBootable("it is no EFI file, ISO image, disk image or manifest".into());
    if file.length > MANIFEST || file.length > start.len() as u64 {
        return Err(unknown());
    }
    let text = std::str::from_utf8(start).map_err(|_| unknown())?;
    // JSON is YAML.
    serde_saphyr::from_str(text).map_err(|error| {
        // The parser's words quote what was sent, which may be anybody's answer.
        let place = error.location().map_or_else(String::new, |at| format!(", line {}", at.line()));
        ImageError::NotBootable(format!(
            "as a manifest it cannot be read{place}: kernel and initrd, each with url and sha256, and squashfs, commandLine and architecture if need be, are what it may have"
        ))
    })
}

async fn file(images: &Images, url: &Url, sha256: Option<&str>) -> Result<Held, ImageError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ImageError::Malformed(format!(
            "{} is no scheme for images",
            url.scheme()
        )));
    }
    let source = async || {
        let answer = fetch::get(&images.client, url, "*/*", None).await?;
        if answer.status() == http::StatusCode::UNAUTHORIZED {
            Err(ImageError::Login(fetch::place(url)))
        } else {
            Ok(fetch::stream(answer))
        }
    };
    let (place, limit) = (Place::of(url), images.options.limit);
    match sha256 {
        Some(sha256) => {
            let sha256 = sha256.to_ascii_lowercase();
            images.cache.fetch(&sha256, &place, limit, source).await
        }
        None if images.options.require_sha256 => Err(ImageError::NoDigest),
        None => Ok(images
            .cache
            .store(None, Some(&place), limit, source().await?)
            .await?),
    }
}

async fn start(path: &Path) -> Result<Vec<u8>, ImageError> {
    let failed = |source| crate::cache::CacheError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    tokio::fs::File::open(path)
        .await
        .map_err(failed)?
        .take(START as u64)
        .read_to_end(&mut bytes)
        .await
        .map_err(failed)?;
    Ok(bytes)
}

/// Whether an EFI file (Linux kernels are such) is for this architecture.
pub(super) async fn check_machine(path: &Path, architecture: &str) -> Result<(), ImageError> {
    let found = pe::machine(&start(path).await?)
        .map_err(|error| ImageError::NotBootable(error.to_string()))?;
    let found = match found {
        pe::AMD64 => "amd64".to_owned(),
        pe::ARM64 => "arm64".to_owned(),
        other => format!("machine type {other:#06x}"),
    };
    if found == architecture {
        Ok(())
    } else {
        Err(ImageError::Architecture {
            wanted: architecture.to_owned(),
            found,
        })
    }
}
