//! Which image each boot configuration was resolved to by this process. What is booted is looked up here and nowhere else: annotations show it, and
//! whoever may edit an object could name another tenant's image in one.

use std::{collections::HashSet, sync::Arc};

use corten_kit::ObjectKey;
use dashmap::DashMap;

use crate::config::FetchedImage;

/// Clones share everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResolvedImages(Arc<DashMap<ObjectKey, Known>>);

#[derive(Clone, Debug)]
struct Known {
    /// What was asked for: the image's text and with what it was fetched.
    wanted: String,
    fetched: FetchedImage,
}

// === impl ResolvedImages ===

impl ResolvedImages {
    /// What `boot` was resolved to, if it was asked for the same.
    pub(super) fn of(&self, boot: &ObjectKey, wanted: &str) -> Option<FetchedImage> {
        let known = self.0.get(boot)?;
        (known.wanted == wanted).then(|| known.fetched.clone())
    }

    /// The digest by which `boot` with this image is served.
    pub(crate) fn digest(&self, boot: &ObjectKey, image: &str) -> Option<String> {
        let known = self.0.get(boot)?;
        let text = known.wanted.lines().next();
        (text == Some(image)).then(|| known.fetched.digest.clone())
    }

    pub(super) fn note(&self, boot: &ObjectKey, wanted: &str, fetched: FetchedImage) {
        let wanted = wanted.to_owned();
        self.0.insert(boot.clone(), Known { wanted, fetched });
    }

    pub(super) fn forget(&self, boot: &ObjectKey) {
        self.0.remove(boot);
    }

    /// Digests that some boot configuration needs.
    pub(super) fn digests(&self) -> HashSet<String> {
        let all = self.0.iter();
        all.map(|known| known.fetched.digest.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_served_for_the_object_and_the_text_that_it_was_resolved_for() {
        let resolved = ResolvedImages::default();
        let (one, other) = (
            ObjectKey::namespaced("a", "web"),
            ObjectKey::namespaced("b", "web"),
        );
        let fetched = FetchedImage {
            digest: "d1".into(),
            what: "an EFI program".into(),
            is_disk_image: false,
            told: corten_lifecycle::boot::Told {
                ignition: true,
                user_data: true,
            },
        };
        resolved.note(&one, "r/os:1\namd64", fetched);
        assert_eq!(resolved.digest(&one, "r/os:1").as_deref(), Some("d1"));
        assert_eq!(resolved.digest(&one, "r/os:2"), None, "its spec was edited");
        assert_eq!(resolved.digest(&other, "r/os:1"), None);
        assert!(resolved.of(&one, "r/os:1\narm64").is_none());
        resolved.forget(&one);
        assert!(resolved.digests().is_empty());
    }
}
