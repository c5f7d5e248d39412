//! Images as the boot services fetch them.

use async_trait::async_trait;
use corten_boot::{
    cache::CacheError,
    image::{
        ImageError, Images as Fetcher, Reference, Request,
        credentials::Credentials,
        resolved::{Kind, Packing, Resolved},
    },
    links::name,
};
use corten_lifecycle::{boot::Told, image::ImageReference};

use crate::config::{DiskImage, FetchedImage, ImageFailure, Images, WantedImage};

/// Where a reference without a registry is looked for, as everywhere.
const DEFAULT_REGISTRY: &str = "docker.io";
/// A reference without tag and digest.
const DEFAULT_TAG: &str = "latest";
#[async_trait]
impl Images for Fetcher {
    async fn fetch(
        &self,
        wanted: &WantedImage,
        logins: Option<&Credentials>,
    ) -> Result<FetchedImage, ImageFailure> {
        let reference = reference(&wanted.reference)?;
        let request = Request {
            reference: &reference,
            architecture: wanted.architecture,
            credentials: logins,
            sha256: wanted.sha256.as_deref(),
        };
        let resolved = self.resolve(&request).await.map_err(failure)?;
        Ok(FetchedImage {
            digest: resolved.digest.clone(),
            what: what(&resolved).to_owned(),
            is_disk_image: resolved.kind == Kind::Disk,
            told: Told {
                ignition: resolved.tells_ignition(),
                user_data: resolved.tells_cloud_init(),
            },
        })
    }

    fn forget(&self, digest: &str) {
        Fetcher::forget(self, digest);
    }

    fn disk(&self, digest: &str) -> Option<DiskImage> {
        let resolved = self.get(digest)?;
        let part = resolved.part(name::IMAGE)?;
        Some(DiskImage {
            sha256: part.sha256.clone(),
            packing: match resolved.packing {
                Packing::None => "none",
                Packing::Gzip => "gzip",
                Packing::Zstd => "zstd",
                Packing::Xz => "xz",
            },
        })
    }
}

fn reference(image: &ImageReference) -> Result<Reference, ImageFailure> {
    match image {
        ImageReference::Oci(oci) => Ok(Reference::Oci {
            registry: oci
                .registry
                .clone()
                .unwrap_or_else(|| DEFAULT_REGISTRY.to_owned()),
            repository: oci.repository.clone(),
            reference: oci
                .digest
                .clone()
                .or_else(|| oci.tag.clone())
                .unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        }),
        ImageReference::Url(text) => match text.parse() {
            Ok(url) => Ok(Reference::Url(url)),
            Err(error) => Err(ImageFailure {
                reason: "ImageInvalid",
                message: format!("{text} is no URL: {error}"),
                passing: false,
            }),
        },
    }
}

fn what(resolved: &Resolved) -> &'static str {
    match resolved.kind {
        Kind::Efi => "an EFI program",
        Kind::Iso => "an ISO image",
        Kind::Linux => "a kernel with its initial ramdisk",
        Kind::Disk => "an image of a disk",
    }
}

fn failure(error: ImageError) -> ImageFailure {
    let reason = match &error {
        ImageError::Missing(_) => "ImageMissing",
        ImageError::Login(_) => "ImageLoginRequired",
        ImageError::NotAllowed(_) => "ImageOriginNotAllowed",
        ImageError::Away { .. } => "RegistryUnreachable",
        ImageError::Malformed(_) => "ImageMalformed",
        ImageError::Architecture { .. } => "ImageArchitecture",
        ImageError::NotBootable(_) => "ImageNotBootable",
        ImageError::NoDigest => "ImageDigestMissing",
        ImageError::Cache(CacheError::Mismatch { .. }) => "ImageDigestMismatch",
        ImageError::Cache(_) => "ImageNotKept",
        ImageError::Client(_) => "ImageClient",
    };
    let passing = error.retry_helps();
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    ImageFailure {
        reason,
        message,
        passing,
    }
}
