//! OCI registries (distribution-spec 1.1), as far as pulling by digest takes, and the original's image layout in them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use serde::Deserialize;
use url::Url;

use super::credentials::Login;
use super::resolved::{Kind, Packing, Part, Resolved};
use super::{ImageError, Images, Request, fetch};
use crate::cache::{CacheError, Held, Place, is_sha256};
use crate::links::name;
use crate::ramdisk::index::sha256;

/// Largest manifest, in bytes, as the specification advises.
const MANIFEST: usize = 4 << 20;
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
}

/// What a layer is, by its media type: the original's, and gardenlinux's that came before.
fn part_of(media_type: &str) -> Option<&'static str> {
    Some(
        match media_type.strip_prefix("application/vnd.ironcore.image.") {
            Some("kernel") => name::KERNEL,
            Some("initramfs") => name::INITRD,
            Some("squashfs") => name::SQUASHFS,
            Some("uki") => name::EFI,
            Some(_) => return None,
            None => match media_type {
                "application/io.gardenlinux.kernel" => name::KERNEL,
                "application/io.gardenlinux.initrd" => name::INITRD,
                "application/io.gardenlinux.squashfs" => name::SQUASHFS,
                "application/io.gardenlinux.uki" => name::EFI,
                _ => return None,
            },
        },
    )
}

struct Registry<'a> {
    images: &'a Images,
    name: &'a str,
    base: Url,
    login: Option<&'a Login>,
    authorization: tokio::sync::Mutex<Option<String>>,
}

pub(super) async fn resolve(
    images: &Images,
    request: &Request<'_>,
    registry: &str,
    repository: &str,
    reference: &str,
) -> Result<(Resolved, Vec<Held>), ImageError> {
    let insecure = images.options.insecure.iter().any(|host| host == registry);
    let host = if registry == "docker.io" {
        "registry-1.docker.io"
    } else {
        registry
    };
    let plain = |text: &str, also: &str| {
        !text.is_empty()
            && !text.contains("..")
            && text
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || also.contains(letter))
    };
    if !plain(registry, ".-:[]") || !plain(repository, "._-/") || !plain(reference, "._-:") {
        return Err(ImageError::Malformed(
            "the reference is no OCI reference".into(),
        ));
    }
    let base = format!(
        "{}://{host}/v2/{repository}/",
        if insecure { "http" } else { "https" }
    );
    let base =
        Url::parse(&base).map_err(|_| ImageError::Malformed("the registry is no host".into()))?;
    let login = request
        .credentials
        .and_then(|credentials| credentials.of(registry));
    let registry = Registry {
        images,
        name: registry,
        base,
        login,
        authorization: tokio::sync::Mutex::default(),
    };

    let (mut manifest, mut digest) = registry.manifest(reference).await?;
    if !manifest.manifests.is_empty() {
        let of = |descriptor: &&Descriptor| {
            descriptor
                .platform
                .as_ref()
                .is_some_and(|platform| platform.architecture == request.architecture)
        };
        let fitting: Vec<_> = manifest.manifests.iter().filter(of).collect();
        // Old indexes have one manifest a flavour; the one for network boot is named so.
        let metal = fitting.iter().find(|descriptor| {
            descriptor
                .annotations
                .get("cname")
                .is_some_and(|cname| cname.starts_with("metal_pxe"))
        });
        let chosen = metal
            .or(fitting.first())
            .ok_or_else(|| ImageError::Architecture {
                wanted: request.architecture.to_owned(),
                found: manifest
                    .manifests
                    .iter()
                    .filter_map(|descriptor| {
                        Some(descriptor.platform.as_ref()?.architecture.as_str())
                    })
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        let reference = chosen.digest.clone();
        (manifest, digest) = registry.manifest(&reference).await?;
    }

    let mut parts: Vec<Part> = Vec::new();
    let mut held = Vec::new();
    let wanted: Vec<_> = manifest
        .layers
        .iter()
        .filter_map(|layer| Some((part_of(&layer.media_type)?, layer)))
        .collect();
    let has = |name| wanted.iter().any(|(part, _)| *part == name);
    let kind = if has(name::KERNEL) && has(name::INITRD) {
        Kind::Linux
    } else if has(name::EFI) {
        Kind::Efi
    } else {
        return Err(ImageError::NotBootable(
            "it has neither kernel and initramfs nor uki among its layers".into(),
        ));
    };
    for (part, layer) in wanted {
        if parts.iter().any(|known| known.name == part) {
            return Err(ImageError::Malformed(format!("it has two layers {part}")));
        }
        let file = registry.blob(layer).await?;
        if matches!(part, name::KERNEL | name::EFI) {
            super::url::check_machine(&file.path, request.architecture).await?;
        }
        parts.push(Part {
            name: part,
            sha256: file.sha256.clone(),
            length: file.length,
        });
        held.push(file);
    }
    Ok((
        Resolved {
            digest,
            kind,
            parts,
            command_line: None,
            packing: Packing::None,
        },
        held,
    ))
}

impl Registry<'_> {
    /// A manifest and its digest, which is checked where the reference says it.
    async fn manifest(&self, reference: &str) -> Result<(Manifest, String), ImageError> {
        let bytes =
            fetch::small(self.get(&format!("manifests/{reference}")).await?, MANIFEST).await?;
        let found = sha256(&bytes);
        if let Some((algorithm, wanted)) = reference.split_once(':') {
            if algorithm != "sha256" || !is_sha256(wanted) {
                return Err(ImageError::Malformed(format!(
                    "digests of {algorithm:?} are not known"
                )));
            }
            if wanted != found {
                return Err(CacheError::Mismatch {
                    wanted: wanted.to_owned(),
                    found,
                }
                .into());
            }
        }
        let manifest = serde_json::from_slice(&bytes)
            .map_err(|error| ImageError::Malformed(format!("the manifest is none: {error}")))?;
        Ok((manifest, found))
    }

    async fn blob(&self, layer: &Descriptor) -> Result<Held, ImageError> {
        let digest = layer
            .digest
            .strip_prefix("sha256:")
            .filter(|digest| is_sha256(digest));
        let digest =
            digest.ok_or_else(|| ImageError::Malformed("a layer's digest is no sha256".into()))?;
        if layer.size > self.images.options.limit {
            return Err(CacheError::TooLong {
                limit: self.images.options.limit,
            }
            .into());
        }
        let source = async || {
            Ok::<_, ImageError>(fetch::stream(
                self.get(&format!("blobs/{}", layer.digest)).await?,
            ))
        };
        let place = Place::of(&self.url(&format!("blobs/{}", layer.digest))?);
        self.images
            .cache
            .fetch(digest, &place, layer.size, source)
            .await
    }

    fn url(&self, path: &str) -> Result<Url, ImageError> {
        self.base
            .join(path)
            .map_err(|_| ImageError::Malformed("the reference makes no URL".into()))
    }

    /// A GET below the repository; a challenge is answered once.
    async fn get(&self, path: &str) -> Result<reqwest::Response, ImageError> {
        let url = self.url(path)?;
        let mut authorization = self.authorization.lock().await;
        let answer =
            fetch::get(&self.images.client, &url, ACCEPT, authorization.as_deref()).await?;
        if answer.status() != http::StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let challenge = answer
            .headers()
            .get(WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        *authorization = Some(self.answer(&challenge).await?);
        let answer =
            fetch::get(&self.images.client, &url, ACCEPT, authorization.as_deref()).await?;
        if answer.status() == http::StatusCode::UNAUTHORIZED {
            Err(ImageError::Login(self.name.to_owned()))
        } else {
            Ok(answer)
        }
    }

    /// The `Authorization` that a challenge asks for.
    async fn answer(&self, challenge: &str) -> Result<String, ImageError> {
        let refused = || ImageError::Login(self.name.to_owned());
        let (scheme, rest) = challenge.split_once(' ').ok_or_else(refused)?;
        let basic = self.login.map(|login| {
            format!(
                "Basic {}",
                STANDARD.encode(format!("{}:{}", login.user, login.password))
            )
        });
        if scheme.eq_ignore_ascii_case("basic") {
            return basic.ok_or_else(refused);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused());
        }
        let mut realm = parameter(rest, "realm")
            .and_then(|realm| Url::parse(realm).ok())
            .ok_or_else(refused)?;
        // A login must not leave in clear text because a registry says so.
        if realm.scheme() != "https" && self.base.scheme() == "https" {
            return Err(refused());
        }
        for name in ["service", "scope"] {
            if let Some(value) = parameter(rest, name) {
                realm.query_pairs_mut().append_pair(name, value);
            }
        }
        let answer = fetch::get(
            &self.images.client,
            &realm,
            "application/json",
            basic.as_deref(),
        )
        .await?;
        if answer.status() == http::StatusCode::UNAUTHORIZED {
            return Err(refused());
        }
        token(&fetch::small(answer, 1 << 16).await?)
            .map(|token| format!("Bearer {token}"))
            .ok_or_else(refused)
    }
}

fn token(answer: &Bytes) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    answer.token.or(answer.access_token)
}

/// A parameter of a challenge, `name="value"`.
fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_matches([' ', ',']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn a_scope_with_commas_is_one_parameter() {
        let text = r#"realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#;
        assert_eq!(
            super::parameter(text, "scope"),
            Some("repository:a/b:pull,push")
        );
        assert_eq!(super::parameter(text, "error"), None);
    }

    proptest! {
        #[test]
        fn no_challenge_panics(text in ".{0,60}") {
            let _ = super::parameter(&text, "realm");
        }
    }
}
