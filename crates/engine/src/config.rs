//! The settings of one engine.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use corten_api::names;
use corten_boot::{image::credentials::Credentials, links::PublicAddress, token::KeyRing};
use corten_kit::lease::LeaseConfig;
use corten_lifecycle::{boot::Told, image::ImageReference, retention::Limits};
use corten_redfish::GatewayConfig;

use crate::{connect::address::Cidr, macdb::MacDatabase};

/// The shortest lease under which a step can be sent: a call must end before the lease does, a fifth of which is kept as a margin for
/// clocks that drift, and the lease is a little old when the step is due.
pub const LEAST_LEASE: Duration = Duration::from_millis(
    corten_lifecycle::run::CALL.as_secs().unsigned_abs() * 1000 * 5 / 4 + 2500,
);

/// Who answers ServerBootConfigurations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BootProvider {
    /// Corten itself.
    #[default]
    Builtin,
    /// Another controller, such as boot-operator: their status is never written.
    External,
}

/// How machines reach the boot services, and the keys that boot tokens are signed with.
#[derive(Clone, Debug)]
pub struct BootServices {
    /// Addresses.
    pub address: PublicAddress,
    /// Keys.
    pub keys: KeyRing,
    /// Who fetches images; without it only an image's text is checked, and nothing is served.
    pub images: Option<Arc<dyn Images>>,
}

/// Fetches what claims want booted.
#[async_trait]
pub trait Images: Debug + Send + Sync {
    /// Fetches and verifies an image, or finds it in the cache. May take long, and is called once at a time for one image.
    ///
    /// # Errors
    /// [`ImageFailure`].
    async fn fetch(
        &self,
        wanted: &WantedImage,
        logins: Option<&Credentials>,
    ) -> Result<FetchedImage, ImageFailure>;

    /// No boot configuration needs this digest any more: its files may go from the cache.
    fn forget(&self, digest: &str);

    /// The disk image of this digest, if it was fetched in this process.
    fn disk(&self, digest: &str) -> Option<DiskImage>;
}

/// An image, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedImage {
    /// Where it is.
    pub reference: ImageReference,
    /// SHA-256 that the file at a URL must have, hexadecimal.
    pub sha256: Option<String>,
    /// The machine's architecture, as OCI names it.
    pub architecture: &'static str,
}

/// An image that is in the cache, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedImage {
    /// Digest of what it is, by which it is served.
    pub digest: String,
    /// What it is, for people.
    pub what: String,
    /// It is written to a disk, not booted as it is.
    pub is_disk_image: bool,
    /// What it is told of the claim's data.
    pub told: Told,
}

/// A disk image, as the probe is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskImage {
    /// SHA-256 of the bytes as they are served, hexadecimal.
    pub sha256: String,
    /// How it is packed, as [`corten_wire::WriteGrant::compression`] has it.
    pub packing: &'static str,
}

/// Why an image was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ImageFailure {
    /// CamelCase.
    pub reason: &'static str,
    /// Cause and remedy.
    pub message: String,
    /// Trying again can help without anybody changing anything.
    pub passing: bool,
}

/// The settings of one engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Label selector of the Endpoints, BMCs and Servers that this engine looks after; none means all.
    pub selector: Option<String>,
    /// MAC prefixes and factory credentials.
    pub macs: Arc<MacDatabase>,
    /// Who answers ServerBootConfigurations.
    pub boot: BootProvider,
    /// Addresses for which plain HTTP is meant when no scheme is given.
    pub assume_http_for: Vec<Cidr>,
    /// Behaviour towards BMCs. Its ledger is replaced by the one on the objects.
    pub gateway: GatewayConfig,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease: one for each shard.
    pub lease_name: String,
    /// This replica, unique among all.
    pub instance: String,
    /// How long a replica that went silent keeps others out.
    /// Shorter than [`LEAST_LEASE`], nothing that changes hardware is ever sent.
    pub lease_duration: Duration,
    /// BMCs that are looked at, at once.
    pub concurrency: usize,
    /// BMCs whose inventory is read at once, at first contact.
    pub onboarding: usize,
    /// How machines reach the boot services; none where another controller boots, or none are set up.
    pub services: Option<BootServices>,
    /// How often the inventory of a server that rests is read again; zero means never.
    pub inventory_refresh: Duration,
    /// How many ended ServerRuns are kept, and how long.
    pub retention: Limits,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            selector: None,
            macs: Arc::new(MacDatabase::builtin()),
            boot: BootProvider::Builtin,
            assume_http_for: Vec::new(),
            gateway: GatewayConfig::default(),
            namespace: "default".to_owned(),
            lease_name: "corten-engine".to_owned(),
            instance: format!("corten-{}", std::process::id()),
            lease_duration: Duration::from_secs(15),
            concurrency: 1024,
            onboarding: 64,
            services: None,
            inventory_refresh: Duration::from_secs(24 * 3600),
            retention: Limits::default(),
        }
    }
}

impl EngineConfig {
    /// The Lease that this engine holds while it acts.
    pub fn lease(&self) -> LeaseConfig {
        let selector = self.selector.clone().unwrap_or_default();
        LeaseConfig {
            namespace: self.namespace.clone(),
            name: self.lease_name.clone(),
            holder: self.instance.clone(),
            duration: self.lease_duration,
            // Another engine sees by it whether the two share a server.
            annotations: [(names::SELECTOR.to_owned(), selector)].into(),
        }
    }

    /// The labels that the selector demands by equality: objects that this engine makes carry them, or it would not
    /// see its own work.
    pub fn demanded_labels(&self) -> BTreeMap<String, String> {
        let demands = self
            .selector
            .as_deref()
            .unwrap_or_default()
            .split(',')
            .map(str::trim);
        demands
            .filter(|demand| {
                !demand.contains("!=") && !demand.contains('(') && !demand.contains(')')
            })
            .filter_map(|demand| demand.split_once("==").or_else(|| demand.split_once('=')))
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect()
    }
}

/// The labels that go along from Endpoint to BMC to Server: the shard's, Corten's and the site's metadata.
pub fn passed_on(labels: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let goes_along = |key: &str| {
        key == names::AGENT
            || key == names::MANAGED_BY
            || key.starts_with("metadata.metal.ironcore.dev/")
    };
    let labels = labels
        .into_iter()
        .flatten()
        .filter(|(key, _)| goes_along(key));
    labels
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_selector_demands_is_put_on_new_objects() {
        let config = EngineConfig {
            selector: Some("corten.dev/agent=site-a, rack==r1,a in (b,c),d!=e,f".to_owned()),
            ..EngineConfig::default()
        };
        let demanded: Vec<_> = config.demanded_labels().into_iter().collect();
        assert_eq!(
            demanded,
            [
                ("corten.dev/agent".to_owned(), "site-a".to_owned()),
                ("rack".to_owned(), "r1".to_owned())
            ]
        );
        assert!(EngineConfig::default().demanded_labels().is_empty());
    }

    #[test]
    fn the_shard_and_the_sites_metadata_go_along_and_nothing_else() {
        let labels = [
            "corten.dev/agent",
            "metadata.metal.ironcore.dev/rack",
            "app",
        ]
        .map(|key| (key.to_owned(), "x".to_owned()))
        .into();
        let passed: Vec<_> = passed_on(Some(&labels)).into_keys().collect();
        assert_eq!(
            passed,
            ["corten.dev/agent", "metadata.metal.ironcore.dev/rack"]
        );
    }
}
