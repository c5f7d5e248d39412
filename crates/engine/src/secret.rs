//! Credentials from the cluster: a BMCSecret in the original's shape, or a core Secret.
//!
//! [`Secrets::load`] reads one object by its name when a BMC is connected to and keeps nothing: no credentials of the
//! fleet lie in a cache, and the right to read may be given object by object.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use corten_api::metal::BmcSecret;
use corten_kit::{ObjectKey, Objects};
use corten_redfish::{CaBundle, Credentials};
use dashmap::DashMap;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Client, Resource, ResourceExt};
use secrecy::ExposeSecret;

/// Which object holds the credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretKey {
    /// A BMCSecret.
    BmcSecret(String),
    /// A core Secret.
    Core {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What such an object says. Printing it shows no secret.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// User name and password.
    pub credentials: Credentials,
    /// The CA that signs the BMC's certificate (key `ca.crt`), where there is one.
    pub ca: Option<CaBundle>,
    /// UID of the object and its version when its credentials were first seen: another one is another secret.
    pub version: String,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no such object. Trying again helps once somebody creates it.
    #[error("{key} does not exist: create it with the keys username and password")]
    Missing {
        /// The object.
        key: SecretKey,
    },
    /// The object lacks something. Trying again helps once it is changed.
    #[error("{key}: {what}")]
    Invalid {
        /// The object.
        key: SecretKey,
        /// What is wrong, and the remedy.
        what: String,
    },
    /// It could not be read; a retry can help.
    #[error("{key} could not be read")]
    Unread {
        /// The object.
        key: SecretKey,
        /// The API server's answer.
        #[source]
        source: Box<corten_kit::Error>,
    },
}

/// Reads secrets. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Secrets {
    bmc: Objects<BmcSecret>,
    core: Objects<Secret>,
    /// What was just written, for whoever reads it next.
    primed: Arc<DashMap<SecretKey, Loaded>>,
    versions: Arc<Versions>,
}

/// Tells a change of the credentials from one of the object around them: a label on a Secret is no reason for a login.
#[derive(Debug, Default)]
struct Versions {
    /// Keyed with a number of this process, so that what is kept tells nothing of a password.
    hasher: RandomState,
    known: DashMap<SecretKey, (u64, String)>,
}

impl Versions {
    /// The version that the same credentials of the same object had before, else the present one.
    fn settle(&self, key: &SecretKey, mut loaded: Loaded) -> Loaded {
        let uid = loaded.version.split('/').next().unwrap_or_default();
        let credentials = &loaded.credentials;
        let mark = self.hasher.hash_one((
            uid,
            &credentials.username,
            credentials.password.expose_secret(),
        ));
        let mut known = self
            .known
            .entry(key.clone())
            .or_insert_with(|| (mark, loaded.version.clone()));
        if known.0 == mark {
            loaded.version.clone_from(&known.1);
        } else {
            *known = (mark, loaded.version.clone());
        }
        drop(known);
        loaded
    }
}

// === impl Secrets ===

impl Secrets {
    /// Reads through `client`.
    pub fn new(client: Client, manager: &str) -> Self {
        Self {
            bmc: Objects::uncached(client.clone(), manager),
            core: Objects::uncached(client, manager),
            primed: Arc::default(),
            versions: Arc::default(),
        }
    }

    /// BMCSecrets, for the controller that makes them.
    pub fn bmc_secrets(&self) -> &Objects<BmcSecret> {
        &self.bmc
    }

    /// Saves the next reader a request: this was just written.
    pub fn prime(&self, secret: &BmcSecret) {
        if let Ok(loaded) = from_bmc_secret(secret) {
            self.primed
                .insert(SecretKey::BmcSecret(secret.name_any()), loaded);
        }
    }

    /// Reads one object.
    ///
    /// # Errors
    /// [`SecretError`], with the object's name and the remedy.
    pub async fn load(&self, key: &SecretKey) -> Result<Loaded, SecretError> {
        let loaded = self.read(key).await?;
        Ok(self.versions.settle(key, loaded))
    }

    /// `loaded`, read in another way, with the version that its credentials have here.
    pub(crate) fn settled(&self, key: &SecretKey, loaded: Loaded) -> Loaded {
        self.versions.settle(key, loaded)
    }

    async fn read(&self, key: &SecretKey) -> Result<Loaded, SecretError> {
        if let Some((_, loaded)) = self.primed.remove(key) {
            return Ok(loaded);
        }
        let unread = |source: corten_kit::Error| {
            if source.is_not_found() {
                SecretError::Missing { key: key.clone() }
            } else {
                SecretError::Unread {
                    key: key.clone(),
                    source: Box::new(source),
                }
            }
        };
        match key {
            SecretKey::BmcSecret(name) => {
                let secret = self
                    .bmc
                    .live(&ObjectKey::cluster(name))
                    .await
                    .map_err(unread)?;
                from_bmc_secret(&secret)
            }
            SecretKey::Core { namespace, name } => {
                let secret = self
                    .core
                    .live(&ObjectKey::namespaced(namespace, name))
                    .await
                    .map_err(unread)?;
                let none = BTreeMap::new();
                read(
                    key,
                    &version(&*secret),
                    secret.data.as_ref().unwrap_or(&none),
                    &BTreeMap::new(),
                )
            }
        }
    }

    /// A core Secret, whole, for whoever passes it on at once.
    ///
    /// # Errors
    /// As [`Secrets::load`].
    pub(crate) async fn core(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Secret>, corten_kit::Error> {
        self.core
            .live(&ObjectKey::namespaced(namespace, name))
            .await
    }
}

/// What a BMCSecret says.
///
/// # Errors
/// [`SecretError::Invalid`].
pub fn from_bmc_secret(secret: &BmcSecret) -> Result<Loaded, SecretError> {
    let key = SecretKey::BmcSecret(secret.name_any());
    read(
        &key,
        &version(secret),
        &secret.spec.data,
        &secret.spec.string_data,
    )
}

/// UID and version of an object.
fn version<K: Resource>(object: &K) -> String {
    let meta = object.meta();
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&meta.uid), part(&meta.resource_version))
}

fn read(
    key: &SecretKey,
    version: &str,
    data: &BTreeMap<String, ByteString>,
    plain: &BTreeMap<String, String>,
) -> Result<Loaded, SecretError> {
    let invalid = |what: String| SecretError::Invalid {
        key: key.clone(),
        what,
    };
    // As in a core Secret, stringData stands before data; a CRD does not merge them by itself.
    let bytes = |name: &str| -> Option<&[u8]> {
        let from_plain = plain.get(name).map(String::as_bytes);
        from_plain.or_else(|| data.get(name).map(|bytes| bytes.0.as_slice()))
    };
    let text = |name: &str| -> Result<&str, SecretError> {
        let bytes =
            bytes(name).ok_or_else(|| invalid(format!("the key {name} is missing: add it")))?;
        std::str::from_utf8(bytes)
            .map_err(|_| invalid(format!("the key {name} is not UTF-8: mend it")))
    };
    let username = text("username")?;
    if username.is_empty() {
        return Err(invalid("the key username is empty: fill it".to_owned()));
    }
    let credentials = Credentials::new(username, text("password")?.to_owned());
    let ca = match bytes("ca.crt") {
        None => None,
        Some(pem) => Some(
            CaBundle::from_pem(pem).map_err(|error| invalid(format!("the key ca.crt: {error}")))?,
        ),
    };
    Ok(Loaded {
        credentials,
        ca,
        version: version.to_owned(),
    })
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BmcSecret(name) => write!(f, "BMCSecret {name}"),
            Self::Core { namespace, name } => write!(f, "Secret {namespace}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())))
            .collect()
    }

    fn key() -> SecretKey {
        SecretKey::Core {
            namespace: "site".into(),
            name: "r1".into(),
        }
    }

    #[test]
    fn credentials_are_read_from_data_and_string_data() {
        let loaded = read(
            &key(),
            "u/1",
            &data(&[("username", "root"), ("password", "hunter2")]),
            &BTreeMap::new(),
        )
        .unwrap();
        assert_eq!(
            loaded.credentials,
            Credentials::new("root", "hunter2".to_owned())
        );
        let plain = BTreeMap::from([("password".to_owned(), "newer".to_owned())]);
        let loaded = read(
            &key(),
            "u/2",
            &data(&[("username", "root"), ("password", "hunter2")]),
            &plain,
        )
        .unwrap();
        assert_eq!(
            loaded.credentials,
            Credentials::new("root", "newer".to_owned())
        );
        assert!(!format!("{loaded:?}").contains("newer"));
    }

    #[test]
    fn a_secret_whose_metadata_was_touched_is_the_same_secret_and_one_with_another_password_is_not()
    {
        let versions = Versions::default();
        let settled = |version: &str, password: &str| {
            let data = data(&[("username", "root"), ("password", password)]);
            let loaded = read(&key(), version, &data, &BTreeMap::new()).unwrap();
            versions.settle(&key(), loaded).version
        };
        assert_eq!(settled("u/1", "hunter2"), "u/1");
        assert_eq!(settled("u/2", "hunter2"), "u/1");
        assert_eq!(settled("u/3", "newer"), "u/3");
        assert_eq!(settled("u/4", "newer"), "u/3");
        assert_eq!(settled("v/5", "newer"), "v/5", "created anew");
    }

    #[test]
    fn what_is_missing_is_named_with_object_and_key() {
        let error = read(
            &key(),
            "u/1",
            &data(&[("username", "root")]),
            &BTreeMap::new(),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("site/r1") && error.contains("password"),
            "{error}"
        );
        let error = read(
            &key(),
            "u/1",
            &data(&[("username", ""), ("password", "x")]),
            &BTreeMap::new(),
        )
        .unwrap_err();
        assert!(error.to_string().contains("empty"));
        let bad_ca = data(&[
            ("username", "root"),
            ("password", "x"),
            ("ca.crt", "no pem"),
        ]);
        let error = read(&key(), "u/1", &bad_ca, &BTreeMap::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains("ca.crt"), "{error}");
    }
}
