//! The boot services of `corten serve`: flags, key, and how they are put together.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use corten_boot::artefacts::{Ramdisk, Store};
use corten_boot::cache::Cache;
use corten_boot::image::{Images, Options};
use corten_boot::links::PublicAddress;
use corten_boot::server::Limits;
use corten_boot::token::{KeyRing, Keys};
use corten_engine::{BootServices, EngineDesk};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Bytes of the key that boot tokens are signed with.
const KEY: usize = 32;
/// Keys in the Secret: the one that signs, and one that is still accepted while it is changed.
const CURRENT: &str = "key";
const PREVIOUS: &str = "previous-key";

/// Boot services: what machines boot, and what their probes say.
#[derive(Clone, Debug, clap::Args)]
// clap names a group after the struct, and those of `serve` itself are `Args` too.
#[group(skip)]
pub struct Args {
    /// Where machines fetch what they boot, over HTTP; without it nothing is served, and only the text of images is checked.
    #[arg(
        long,
        env = "CORTEN_BOOT_ADDRESS",
        value_name = "IP:PORT",
        help_heading = "Boot services"
    )]
    pub boot_address: Option<SocketAddr>,
    /// How machines and BMCs reach --boot-address; that address itself if absent.
    #[arg(
        long,
        env = "CORTEN_BOOT_URL",
        value_name = "URL",
        requires = "boot_address",
        help_heading = "Boot services"
    )]
    pub boot_url: Option<Url>,
    /// The discovery ramdisk, as `corten ramdisk build` made it.
    #[arg(
        long,
        env = "CORTEN_BOOT_RAMDISK",
        value_name = "FOLDER",
        requires = "boot_address",
        help_heading = "Boot services"
    )]
    pub boot_ramdisk: Option<PathBuf>,
    /// Where images are kept, by digest.
    #[arg(
        long,
        env = "CORTEN_BOOT_CACHE",
        default_value = "/var/cache/corten/boot",
        value_name = "FOLDER",
        help_heading = "Boot services"
    )]
    pub boot_cache: PathBuf,
    /// How much of it may be used, in GiB.
    #[arg(
        long,
        env = "CORTEN_BOOT_CACHE_SIZE",
        default_value_t = 100,
        value_name = "GIB",
        help_heading = "Boot services"
    )]
    pub boot_cache_size: u64,
    /// Secret in --namespace with the key that boot tokens are signed with; made if it is not there.
    #[arg(
        long,
        env = "CORTEN_BOOT_KEY_SECRET",
        default_value = "corten-boot-key",
        value_name = "NAME",
        help_heading = "Boot services"
    )]
    pub boot_key_secret: String,
    /// Registries (host and port) that are spoken to without TLS; may be repeated.
    #[arg(
        long,
        env = "CORTEN_INSECURE_REGISTRY",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        help_heading = "Boot services"
    )]
    pub insecure_registry: Vec<String>,
    /// Neighbours whose X-Forwarded-For is believed, such as a DHCP server that asks for its clients; may be repeated.
    #[arg(
        long,
        env = "CORTEN_BOOT_FORWARDER",
        value_name = "IP",
        value_delimiter = ',',
        help_heading = "Boot services"
    )]
    pub boot_forwarder: Vec<IpAddr>,
}

/// Everything but the desk, which the engine brings.
pub struct Prepared {
    address: SocketAddr,
    public: PublicAddress,
    keys: KeyRing,
    images: Arc<Images>,
    artefacts: Arc<Store>,
    forwarders: Vec<IpAddr>,
}

// === impl Args ===

impl Args {
    /// Opens cache and ramdisk and reads the key; none without --boot-address.
    pub async fn prepare(
        &self,
        client: &Client,
        namespace: &str,
    ) -> anyhow::Result<Option<Prepared>> {
        let Some(address) = self.boot_address else {
            return Ok(None);
        };
        let base = match &self.boot_url {
            Some(url) => url.clone(),
            None if address.ip().is_unspecified() => {
                bail!(
                    "--boot-address {address} is no address that a machine could ask: say with --boot-url how it is reached"
                )
            }
            None => format!("http://{address}")
                .parse()
                .context("--boot-address")?,
        };
        let cache = Cache::open(&self.boot_cache, self.boot_cache_size << 30)
            .with_context(|| format!("--boot-cache {}", self.boot_cache.display()))?;
        let roots = rustls::RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let options = Options {
            insecure: self.insecure_registry.clone(),
            ..Options::default()
        };
        let images = Arc::new(Images::new(Arc::new(cache), tls, options).context("images")?);
        let ramdisk = match &self.boot_ramdisk {
            Some(folder) => Some(
                Ramdisk::open(folder)
                    .with_context(|| format!("--boot-ramdisk {}", folder.display()))?,
            ),
            None => None,
        };
        let artefacts = Store::new(ramdisk, images.clone());
        if self.boot_ramdisk.is_none() {
            tracing::warn!(
                "no --boot-ramdisk: nothing can be discovered, cleaned or installed from inside"
            );
        }
        let keys = keys(client, namespace, &self.boot_key_secret)
            .await
            .with_context(|| format!("Secret {namespace}/{}", self.boot_key_secret))?;
        Ok(Some(Prepared {
            address,
            public: PublicAddress {
                base,
                registry: None,
            },
            keys: KeyRing::new(keys),
            images,
            artefacts: Arc::new(artefacts),
            forwarders: self.boot_forwarder.clone(),
        }))
    }
}

// === impl Prepared ===

impl Prepared {
    /// What the engine has to know.
    pub fn services(&self) -> BootServices {
        BootServices {
            address: self.public.clone(),
            keys: self.keys.clone(),
            images: Some(self.images.clone()),
        }
    }

    /// Serves until `stop`; the engine of `context` answers.
    pub async fn serve(
        self,
        context: &corten_engine::Context,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let config = corten_boot::Config {
            http: self.address,
            https: None,
            public: self.public,
            keys: self.keys,
            forwarders: self.forwarders,
            limits: Limits::default(),
        };
        let desk = Arc::new(EngineDesk::new(context.desk.clone()));
        let bound = corten_boot::service::bind(config, desk, self.artefacts)
            .await
            .context("--boot-address")?;
        tracing::info!(address = %bound.http, "boot services");
        bound.run(stop).await;
        Ok(())
    }
}

/// The keys of the Secret; one that is not there is made, by whichever replica comes first.
async fn keys(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Keys> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = match secrets.get_opt(name).await.context("cannot be read")? {
        Some(secret) => secret,
        None => make(&secrets, name).await?,
    };
    let data = secret.data.unwrap_or_default();
    let all = [CURRENT, PREVIOUS]
        .into_iter()
        .filter_map(|key| data.get(key))
        .map(|key| &key.0);
    Keys::new(all).context("the key")
}

async fn make(secrets: &Api<Secret>, name: &str) -> anyhow::Result<Secret> {
    let mut key = vec![0_u8; KEY];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut key)
        .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let made = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([(CURRENT.to_owned(), ByteString(key))].into()),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &made).await {
        Ok(made) => Ok(made),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            secrets.get(name).await.context("cannot be read")
        }
        Err(error) => Err(error).context("cannot be made"),
    }
}
