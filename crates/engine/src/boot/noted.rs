//! An image by the digest that it was resolved to when it was first found to be good. A tag may move and a file may change; what a machine boots does not,
//! before somebody says so.

use std::sync::Arc;

use corten_api::{metal::ServerBootConfiguration, names};
use corten_kit::ObjectKey;
use corten_lifecycle::{boot::Resolution, image::ImageReference};
use kube::ResourceExt;

use super::fetches::{Fetches, Wanted};
use crate::config::{FetchedImage, Images};

/// How the fetch of a boot configuration's image stands: by its noted digest where it has one, else by what its text names now.
pub(super) fn look(
    fetches: &Fetches,
    images: &Arc<dyn Images>,
    key: &ObjectKey,
    boot: &ServerBootConfiguration,
    wanted: Wanted,
) -> Result<FetchedImage, Resolution> {
    let Some((digest, noted)) = as_noted(boot, &wanted) else {
        return fetches.look(images, key, wanted);
    };
    match fetches.look(images, key, noted) {
        // It was noted for another machine than this is.
        Err(Resolution::Failed {
            reason: "ImageArchitecture",
            ..
        }) => fetches.look(images, key, wanted),
        Err(Resolution::Failed {
            reason,
            message,
            passing: false,
        }) if reason != "ImageLoginRequired" => Err(Resolution::Failed {
            reason: "ImageMoved",
            message: format!(
                "{} was resolved to {digest}, which is not to be had there any more ({message}): put it back, or remove the annotation {} to take what {} names now",
                wanted.text,
                names::IMAGE_DIGEST,
                wanted.text,
            ),
            passing: false,
        }),
        found => found,
    }
}

/// The digest that was noted for this very text, and what to fetch by it.
fn as_noted(boot: &ServerBootConfiguration, wanted: &Wanted) -> Option<(String, Wanted)> {
    let noted = boot.annotations();
    let digest = noted.get(names::IMAGE_DIGEST)?;
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    if noted.get(names::IMAGE_REFERENCE) != Some(&wanted.text)
        || hex.len() != 64
        || !hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return None;
    }
    let mut by_digest = wanted.clone();
    match &mut by_digest.image.reference {
        ImageReference::Oci(oci) if oci.digest.is_none() => {
            oci.tag = None;
            oci.digest = Some(format!("sha256:{hex}"));
        }
        ImageReference::Url(_) if by_digest.image.sha256.is_none() => {
            by_digest.image.sha256 = Some(hex.to_owned());
        }
        // It is pinned by its text.
        _ => return None,
    }
    Some((digest.clone(), by_digest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use async_trait::async_trait;
    use corten_api::metal::ServerBootConfigurationSpec;
    use corten_boot::image::credentials::Credentials;
    use parking_lot::Mutex;

    use super::*;
    use crate::config::{DiskImage, ImageFailure, WantedImage};

    const OLD: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
    const NEW: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";
    const TAG: &str = "r.example/os:1";
    const URL: &str = "http://r.example/os.efi";

    /// Has what its tag names, and perhaps the old manifest.
    #[derive(Debug, Default)]
    struct Registry {
        failure: Mutex<Option<(&'static str, bool)>>,
    }

    #[async_trait]
    impl Images for Registry {
        async fn fetch(
            &self,
            wanted: &WantedImage,
            _: Option<&Credentials>,
        ) -> Result<FetchedImage, ImageFailure> {
            let by_digest = match &wanted.reference {
                ImageReference::Oci(oci) => oci.digest.clone(),
                ImageReference::Url(_) => wanted.sha256.as_ref().map(|hex| format!("sha256:{hex}")),
            };
            if let (Some((reason, passing)), Some(_)) = (*self.failure.lock(), &by_digest) {
                let message = "gone".to_owned();
                return Err(ImageFailure {
                    reason,
                    message,
                    passing,
                });
            }
            Ok(FetchedImage {
                digest: by_digest.unwrap_or(NEW.to_owned()),
                what: "an EFI program".into(),
                is_disk_image: false,
                told: corten_lifecycle::boot::Told {
                    ignition: true,
                    user_data: true,
                },
            })
        }
        fn forget(&self, _: &str) {}
        fn disk(&self, _: &str) -> Option<DiskImage> {
            None
        }
    }

    fn boot(annotations: &[(&str, &str)]) -> ServerBootConfiguration {
        let mut boot = ServerBootConfiguration::new("web", ServerBootConfigurationSpec::default());
        let texts = annotations
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        boot.metadata.annotations = Some(texts.collect::<BTreeMap<_, _>>());
        boot
    }

    fn noted(text: &str) -> ServerBootConfiguration {
        boot(&[(names::IMAGE_DIGEST, OLD), (names::IMAGE_REFERENCE, text)])
    }

    async fn found(
        text: &str,
        boot: &ServerBootConfiguration,
        failure: Option<(&'static str, bool)>,
    ) -> Result<String, Resolution> {
        let images: Arc<dyn Images> = Arc::new(Registry {
            failure: Mutex::new(failure),
        });
        let wanted = Wanted {
            text: text.to_owned(),
            image: WantedImage {
                reference: ImageReference::parse(text).unwrap(),
                sha256: None,
                architecture: "amd64",
            },
            login: None,
        };
        // As after a restart: nothing was fetched yet.
        let (fetches, key) = (Fetches::default(), ObjectKey::namespaced("a", "web"));
        loop {
            match look(&fetches, &images, &key, boot, wanted.clone()) {
                Err(Resolution::UnderWay) => tokio::task::yield_now().await,
                ended => return ended.map(|found| found.digest),
            }
        }
    }

    #[tokio::test]
    async fn a_tag_that_moved_changes_nothing_for_who_was_given_the_old_image() {
        for text in [TAG, URL] {
            assert_eq!(found(text, &boot(&[]), None).await.unwrap(), NEW);
            assert_eq!(found(text, &noted(text), None).await.unwrap(), OLD);
            // Another text is another image, whatever was noted.
            let other = noted("r.example/os:0");
            assert_eq!(found(text, &other, None).await.unwrap(), NEW);
            let broken = boot(&[
                (names::IMAGE_DIGEST, "sha256:no"),
                (names::IMAGE_REFERENCE, text),
            ]);
            assert_eq!(found(text, &broken, None).await.unwrap(), NEW);
        }
    }

    #[tokio::test]
    async fn an_image_that_is_gone_is_not_replaced_by_what_its_tag_names_now() {
        for text in [TAG, URL] {
            let gone = found(text, &noted(text), Some(("ImageMissing", false))).await;
            let Err(Resolution::Failed {
                reason: "ImageMoved",
                message,
                passing: false,
            }) = gone
            else {
                panic!("{gone:?}");
            };
            assert!(message.contains(OLD) && message.contains(names::IMAGE_DIGEST));
            for (reason, passing) in [("RegistryUnreachable", true), ("ImageLoginRequired", false)]
            {
                let kept = found(text, &noted(text), Some((reason, passing))).await;
                assert!(
                    matches!(kept, Err(Resolution::Failed { reason: found, .. }) if found == reason)
                );
            }
            let other_machine = Some(("ImageArchitecture", false));
            assert_eq!(found(text, &noted(text), other_machine).await.unwrap(), NEW);
        }
    }
}
