//! Images that are being fetched, or were: one fetch at a time for one image, and nobody waits in a worker for it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use corten_kit::ObjectKey;
use corten_lifecycle::{boot::Resolution, image::ImageReference};
use parking_lot::Mutex;
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use crate::config::{FetchedImage, ImageFailure, Images};

/// A failure that may pass is tried again after this long, one that does not after [`LATER`]: a registry's tag may be pushed anew.
const SOON: Duration = Duration::from_secs(30);
const LATER: Duration = Duration::from_secs(600);
/// Images that are remembered.
const REMEMBERED: usize = 10_000;

/// Fetches by image.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    by_image: HashMap<String, Fetch>,
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

    /// How the fetch of `image` stands; begins it where it is due.
    pub(super) fn look(
        &self,
        images: &Arc<dyn Images>,
        key: &ObjectKey,
        image: &str,
    ) -> Resolution {
        let Ok(reference) = ImageReference::parse(image) else {
            // The text says what is wrong.
            return Resolution::NotWanted;
        };
        let mut inner = self.inner.lock();
        match inner.by_image.get_mut(image) {
            Some(Fetch::UnderWay { waiting }) => {
                waiting.insert(key.clone());
                return Resolution::UnderWay;
            }
            Some(Fetch::Ended { result, at }) if is_fresh(result, *at) => {
                return told(result);
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
            .insert(image.to_owned(), Fetch::UnderWay { waiting });
        drop(inner);
        let (shared, images, image) = (self.inner.clone(), images.clone(), image.to_owned());
        tokio::spawn(async move {
            let result = images.fetch(&reference).await;
            if let Err(failure) = &result {
                tracing::warn!(image, reason = failure.reason, message = %failure.message, "image not fetched");
            }
            let mut inner = shared.lock();
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
        Resolution::UnderWay
    }
}

fn is_fresh(result: &Result<FetchedImage, ImageFailure>, at: Instant) -> bool {
    match result {
        Ok(_) => true,
        Err(failure) if failure.passing => at.elapsed() < SOON,
        Err(_) => at.elapsed() < LATER,
    }
}

fn told(result: &Result<FetchedImage, ImageFailure>) -> Resolution {
    match result {
        Ok(found) => Resolution::Fetched {
            digest: found.digest.clone(),
            what: found.what.clone(),
            is_disk_image: found.is_disk_image,
        },
        Err(failure) => Resolution::Failed {
            reason: failure.reason,
            message: failure.message.clone(),
            passing: failure.passing,
        },
    }
}
