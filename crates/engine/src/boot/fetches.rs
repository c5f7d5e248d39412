//! Images that are being fetched, or were: one fetch at a time for one image, and nobody waits in a worker for it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use corten_boot::image::credentials::Credentials;
use corten_kit::ObjectKey;
use corten_lifecycle::{boot::Resolution, image};
use parking_lot::Mutex;
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use crate::config::{FetchedImage, ImageFailure, Images, WantedImage};

/// A failure that may pass is tried again after this long, one that does not after [`LATER`]: a registry's tag may be pushed anew.
const SOON: Duration = Duration::from_secs(30);
const LATER: Duration = Duration::from_secs(600);
/// A tag may be pushed anew: what is asked for anew is looked up anew after this long. Files that did not change are in the cache.
const FRESH: Duration = Duration::from_secs(60);
/// What no boot configuration needs is kept for so long.
const UNUSED: Duration = Duration::from_secs(600);
/// Images that are remembered.
const REMEMBERED: usize = 10_000;

/// What is fetched, and with what. Its [`key`](Self::key) tells fetches apart: what one namespace's login opens is nobody's who has no login.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The image as the boot configuration has it.
    pub text: String,
    pub image: WantedImage,
    /// The Secret, as `namespace/name@version`, and its logins.
    pub login: Option<(String, Arc<Credentials>)>,
}

impl Wanted {
    /// The image's text on a line of its own, and all that it depends on beside it.
    pub fn key(&self) -> String {
        format!(
            "{}\n{:?}\n{}\n{}\n{}",
            self.text,
            self.image.reference,
            self.image.sha256.as_deref().unwrap_or_default(),
            self.image.architecture,
            self.login.as_ref().map_or("", |(secret, _)| secret),
        )
    }
}

/// Fetches by image.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    by_image: HashMap<String, Fetch>,
    /// What was fetched and not let go of.
    digests: HashSet<String>,
    told: Option<UnboundedSender<ObjectKey>>,
}

#[derive(Debug)]
enum Fetch {
    UnderWay {
        waiting: HashSet<ObjectKey>,
    },
    Ended {
        result: Result<FetchedImage, ImageFailure>,
        at: Instant,
    },
}

// === impl Fetches ===

impl Fetches {
    /// Whom to tell that a boot configuration is to be looked at again.
    pub(super) fn tell(&self, told: UnboundedSender<ObjectKey>) {
        self.inner.lock().told = Some(told);
    }

    /// How the fetch stands; begins it where it is due.
    pub(super) fn look(
        &self,
        images: &Arc<dyn Images>,
        key: &ObjectKey,
        wanted: Wanted,
    ) -> Result<FetchedImage, Resolution> {
        let image = wanted.key();
        let mut inner = self.inner.lock();
        match inner.by_image.get_mut(&image) {
            Some(Fetch::UnderWay { waiting }) => {
                waiting.insert(key.clone());
                return Err(Resolution::UnderWay);
            }
            Some(Fetch::Ended { result, at }) if is_fresh(result, *at) => {
                return result.clone().map_err(|failure| failed(&failure));
            }
            _ => {}
        }
        if inner.by_image.len() >= REMEMBERED {
            inner
                .by_image
                .retain(|_, fetch| matches!(fetch, Fetch::UnderWay { .. }));
        }
        let waiting = HashSet::from([key.clone()]);
        inner
            .by_image
            .insert(image.clone(), Fetch::UnderWay { waiting });
        drop(inner);
        let (shared, images) = (self.inner.clone(), images.clone());
        tokio::spawn(async move {
            let logins = wanted.login.as_ref().map(|(_, logins)| &**logins);
            let result = images.fetch(&wanted.image, logins).await;
            if let Err(failure) = &result {
                tracing::warn!(image = image::shown(&wanted.text), reason = failure.reason, message = %failure.message, "image not fetched");
            }
            let mut inner = shared.lock();
            if let Ok(found) = &result {
                inner.digests.insert(found.digest.clone());
            }
            let ended = Fetch::Ended {
                result,
                at: Instant::now(),
            };
            if let Some(Fetch::UnderWay { waiting }) = inner.by_image.insert(image, ended)
                && let Some(told) = &inner.told
            {
                for key in waiting {
                    let _ = told.send(key);
                }
            }
        });
        Err(Resolution::UnderWay)
    }

    /// Forgets what ended a while ago, and lets go of the images that are in no `use`.
    pub(super) fn sweep(&self, images: &dyn Images, used: &HashSet<String>) {
        let mut inner = self.inner.lock();
        let mut recent = HashSet::new();
        inner.by_image.retain(|_, fetch| match fetch {
            Fetch::UnderWay { .. } => true,
            Fetch::Ended { at, .. } if at.elapsed() > UNUSED => false,
            Fetch::Ended { result, .. } => {
                recent.extend(result.iter().map(|found| found.digest.clone()));
                true
            }
        });
        inner.digests.retain(|digest| {
            let stays = used.contains(digest) || recent.contains(digest);
            if !stays {
                images.forget(digest);
            }
            stays
        });
    }
}

fn is_fresh(result: &Result<FetchedImage, ImageFailure>, at: Instant) -> bool {
    match result {
        Ok(_) => at.elapsed() < FRESH,
        Err(failure) if failure.passing => at.elapsed() < SOON,
        Err(_) => at.elapsed() < LATER,
    }
}

fn failed(failure: &ImageFailure) -> Resolution {
    Resolution::Failed {
        reason: failure.reason,
        message: failure.message.clone(),
        passing: failure.passing,
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use corten_lifecycle::image::ImageReference;

    use super::*;
    use crate::config::DiskImage;

    /// A registry that opens to whoever brings logins.
    #[derive(Debug, Default)]
    struct Registry {
        forgotten: Mutex<Vec<String>>,
        asked: Mutex<usize>,
    }

    #[async_trait]
    impl Images for Registry {
        async fn fetch(
            &self,
            _: &WantedImage,
            logins: Option<&Credentials>,
        ) -> Result<FetchedImage, ImageFailure> {
            *self.asked.lock() += 1;
            if logins.is_none() {
                return Err(ImageFailure {
                    reason: "ImageLoginRequired",
                    message: "login".into(),
                    passing: false,
                });
            }
            Ok(FetchedImage {
                digest: "d1".into(),
                what: "an EFI program".into(),
                is_disk_image: false,
                told: corten_lifecycle::boot::Told {
                    ignition: true,
                    user_data: true,
                },
            })
        }
        fn forget(&self, digest: &str) {
            self.forgotten.lock().push(digest.to_owned());
        }
        fn disk(&self, _: &str) -> Option<DiskImage> {
            None
        }
    }

    fn wanted(secret: Option<&str>) -> Wanted {
        let login = Credentials::read(br#"{"auths": {"r": {"username": "u", "password": "p"}}}"#);
        Wanted {
            text: "r/private:1".into(),
            image: WantedImage {
                reference: ImageReference::parse("r.example/private:1").unwrap(),
                sha256: None,
                architecture: "amd64",
            },
            login: secret.map(|at| (at.to_owned(), Arc::new(login.unwrap()))),
        }
    }

    async fn ended(
        fetches: &Fetches,
        images: &Arc<dyn Images>,
        key: &ObjectKey,
        wanted: Wanted,
    ) -> Result<FetchedImage, Resolution> {
        loop {
            match fetches.look(images, key, wanted.clone()) {
                Err(Resolution::UnderWay) => tokio::task::yield_now().await,
                ended => return ended,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_namespaces_login_opens_is_nobodys_who_has_none() {
        let (fetches, registry) = (Fetches::default(), Arc::new(Registry::default()));
        let images: Arc<dyn Images> = registry.clone();
        let (a, b) = (
            ObjectKey::namespaced("a", "x"),
            ObjectKey::namespaced("b", "x"),
        );
        assert!(
            ended(&fetches, &images, &a, wanted(Some("a/pull@1")))
                .await
                .is_ok()
        );
        let refused = ended(&fetches, &images, &b, wanted(None)).await;
        assert!(matches!(
            refused,
            Err(Resolution::Failed {
                reason: "ImageLoginRequired",
                ..
            })
        ));
        // Once for each, and not again while it is fresh.
        assert!(
            ended(&fetches, &images, &a, wanted(Some("a/pull@1")))
                .await
                .is_ok()
        );
        assert_eq!(*registry.asked.lock(), 2);
        // A tag that may have moved is looked up again for whoever asks later.
        tokio::time::advance(FRESH).await;
        assert!(
            ended(&fetches, &images, &a, wanted(Some("a/pull@1")))
                .await
                .is_ok()
        );
        assert_eq!(*registry.asked.lock(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_is_let_go_of_when_no_boot_configuration_needs_it() {
        let (fetches, registry) = (Fetches::default(), Arc::new(Registry::default()));
        let images: Arc<dyn Images> = registry.clone();
        let key = ObjectKey::namespaced("a", "x");
        assert!(
            ended(&fetches, &images, &key, wanted(Some("a/pull@1")))
                .await
                .is_ok()
        );
        let used = HashSet::from(["d1".to_owned()]);
        tokio::time::advance(UNUSED * 2).await;
        let forgotten = || registry.forgotten.lock().clone();
        fetches.sweep(&*images, &used);
        assert!(forgotten().is_empty());
        fetches.sweep(&*images, &HashSet::new());
        assert_eq!(forgotten(), ["d1"], "the last that needed it has gone");
        registry.forgotten.lock().clear();
        assert!(
            ended(&fetches, &images, &key, wanted(Some("a/pull@1")))
                .await
                .is_ok()
        );
        fetches.sweep(&*images, &HashSet::new());
        assert!(forgotten().is_empty(), "it was fetched a moment ago");
        tokio::time::advance(UNUSED * 2).await;
        fetches.sweep(&*images, &HashSet::new());
        assert_eq!(forgotten(), ["d1"]);
    }
}
