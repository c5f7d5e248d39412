//! How a cache holds an object: whole while somebody looks at it, as one block of text when nobody has for a while.
//!
//! A Server of a large machine is some 200 strings. As text it takes a third of the memory, in one piece: that keeps what lasts apart from
//! what comes and goes, so that pages become free again after an onboarding.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use serde::{Serialize, de::DeserializeOwned};

/// How a kind becomes text and comes back.
pub(super) struct Packing<K> {
    pack: fn(&K) -> Option<Box<[u8]>>,
    unpack: fn(&[u8]) -> Option<K>,
}

impl<K> Clone for Packing<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Packing<K> {}

// === impl Packing ===

impl<K: Serialize + DeserializeOwned> Packing<K> {
    pub(super) fn json() -> Self {
        Self { pack, unpack }
    }
}

/// None unless what comes back says exactly the same: an object that does not survive stays whole.
fn pack<K: Serialize + DeserializeOwned>(object: &K) -> Option<Box<[u8]>> {
    let text = serde_json::to_vec(object).ok()?;
    let back = serde_json::to_vec(&unpack::<K>(&text)?).ok()?;
    (back == text).then(|| text.into_boxed_slice())
}

fn unpack<K: DeserializeOwned>(text: &[u8]) -> Option<K> {
    serde_json::from_slice(text).ok()
}

/// One object.
pub(super) enum Kept<K> {
    Whole {
        object: Arc<K>,
        /// Somebody asked for it since the last look.
        asked: AtomicBool,
        /// It was tried and does not survive.
        unpackable: bool,
    },
    Packed {
        text: Box<[u8]>,
        unpack: fn(&[u8]) -> Option<K>,
    },
}

// === impl Kept ===

impl<K> Kept<K> {
    pub(super) fn new(object: Arc<K>) -> Self {
        Self::Whole {
            object,
            asked: AtomicBool::new(true),
            unpackable: false,
        }
    }

    /// None never happens: what was packed was unpacked once before.
    pub(super) fn get(&self) -> Option<Arc<K>> {
        match self {
            Self::Whole { object, asked, .. } => {
                asked.store(true, Relaxed);
                Some(object.clone())
            }
            Self::Packed { text, unpack } => unpack(text).map(Arc::new),
        }
    }

    /// The object, if nobody has asked for it since the last call and nobody holds it.
    pub(super) fn cold(&self) -> Option<Arc<K>> {
        match self {
            Self::Whole {
                object,
                asked,
                unpackable: false,
            } => (!asked.swap(false, Relaxed) && Arc::strong_count(object) == 1)
                .then(|| object.clone()),
            _ => None,
        }
    }

    /// Takes the packed form of `of` over, if that is still what is kept.
    pub(super) fn cool(&mut self, of: &Arc<K>, text: Option<Box<[u8]>>, packing: Packing<K>) {
        let Self::Whole {
            object, unpackable, ..
        } = self
        else {
            return;
        };
        if !Arc::ptr_eq(object, of) {
            return;
        }
        match text {
            Some(text) => {
                *self = Self::Packed {
                    text,
                    unpack: packing.unpack,
                }
            }
            None => *unpackable = true,
        }
    }
}

impl<K> Packing<K> {
    pub(super) fn pack(&self, object: &K) -> Option<Box<[u8]>> {
        (self.pack)(object)
    }
}
