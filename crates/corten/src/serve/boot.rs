//! The boot services of `corten serve`: flags, key, and how they are put together.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use corten_boot::artefacts::{Ramdisk, Store};
use corten_boot::cache::Cache;
use corten_boot::image::{Images, Options, networks::Networks};
use corten_boot::links::{PublicAddress, SecureAddress};
use corten_boot::server::Limits;
use corten_boot::tftp::TftpConfig;
use corten_boot::token::{KeyRing, Keys};
use corten_engine::{BootServices, EngineDesk};
use ipnet::IpNet;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Bytes of the key that boot tokens are signed with.
const KEY: usize = 32;
/// Keys in the Secret: the one that signs, and one that is still accepted while it is changed.
const CURRENT: &str = "key";
const PREVIOUS: &str = "previous-key";

/// Boot services: what machines boot, and what their probes say.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "boot_services")]
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
    /// Where probes speak to the registry over TLS; without it they speak HTTP at --boot-address.
    #[arg(
        long,
        env = "CORTEN_BOOT_TLS_ADDRESS",
        value_name = "IP:PORT",
        requires_all = ["boot_address", "boot_tls_cert", "boot_tls_key"],
        help_heading = "Boot services"
    )]
    pub boot_tls_address: Option<SocketAddr>,
    /// How machines reach --boot-tls-address; that address itself if absent.
    #[arg(
        long,
        env = "CORTEN_BOOT_TLS_URL",
        value_name = "URL",
        requires = "boot_tls_address",
        help_heading = "Boot services"
    )]
    pub boot_tls_url: Option<Url>,
    /// The certificate for it, with its chain (PEM). Probes are handed its fingerprint when they boot and accept no other.
    #[arg(
        long,
        env = "CORTEN_BOOT_TLS_CERT",
        value_name = "FILE",
        requires = "boot_tls_address",
        help_heading = "Boot services"
    )]
    pub boot_tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(
        long,
        env = "CORTEN_BOOT_TLS_KEY",
        value_name = "FILE",
        requires = "boot_tls_address",
        help_heading = "Boot services"
    )]
    pub boot_tls_key: Option<PathBuf>,
    /// Where TFTP is served (UDP, usually port 69), for firmware that boots by PXE: first-stage files, and nothing else without a token.
    #[arg(
        long,
        env = "CORTEN_BOOT_TFTP_ADDRESS",
        value_name = "IP:PORT",
        requires = "boot_address",
        help_heading = "Boot services"
    )]
    pub boot_tftp_address: Option<SocketAddr>,
    /// Folder with first-stage files of the site's own, served before those of the distribution's packages.
    #[arg(
        long,
        env = "CORTEN_BOOT_TFTP_FOLDER",
        value_name = "FOLDER",
        requires = "boot_tftp_address",
        help_heading = "Boot services"
    )]
    pub boot_tftp_folder: Option<PathBuf>,
    /// Names in --boot-tftp-folder that are served; no other is. May be repeated.
    #[arg(
        long,
        env = "CORTEN_BOOT_TFTP_FILE",
        value_name = "NAME",
        value_delimiter = ',',
        requires = "boot_tftp_folder",
        help_heading = "Boot services"
    )]
    pub boot_tftp_file: Vec<String>,
    /// Refuse images at a URL without the annotation corten.dev/image-sha256.
    #[arg(
        long,
        env = "CORTEN_REQUIRE_IMAGE_SHA256",
        requires = "boot_address",
        help_heading = "Boot services"
    )]
    pub require_image_sha256: bool,
    /// Certificates of authorities (PEM) that registries and image servers are believed by, beside the public ones.
    #[arg(
        long,
        env = "CORTEN_IMAGE_CA",
        value_name = "FILE",
        requires = "boot_address",
        help_heading = "Boot services"
    )]
    pub image_ca: Option<PathBuf>,
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
    /// Networks that images and what registries redirect to may come from, each checked after its name was resolved; may be repeated. Without it all but
    /// this host itself and its link: a claim's author says what is fetched from here, so name those of your registries where BMCs can be reached. What goes by a proxy of
    /// the environment (HTTPS_PROXY) the proxy resolves, and its rules hold.
    #[arg(
        long,
        env = "CORTEN_IMAGE_NETWORK",
        value_name = "CIDR",
        value_delimiter = ',',
        requires = "boot_address",
        help_heading = "Boot services"
    )]
    pub image_network: Vec<IpNet>,
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
    secure: Option<(SocketAddr, Arc<rustls::ServerConfig>)>,
    tftp: Option<(SocketAddr, TftpConfig)>,
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
        let mut roots = rustls::RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        if let Some(file) = &self.image_ca {
            let said = || format!("--image-ca {}", file.display());
            for certificate in certificates(file).with_context(said)? {
                roots.add(certificate).with_context(said)?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let options = Options {
            insecure: self.insecure_registry.clone(),
            require_sha256: self.require_image_sha256,
            networks: Networks::only(self.image_network.clone()).with_proxies_of_the_environment(),
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
        let (secure, registry) = match self.secure()? {
            Some((listener, registry)) => (Some(listener), Some(registry)),
            None => (None, None),
        };
        let tftp = self.boot_tftp_address.map(|address| {
            let config = TftpConfig {
                folder: self.boot_tftp_folder.clone(),
                allowed: self.boot_tftp_file.clone(),
                ..TftpConfig::default()
            };
            (address, config)
        });
        Ok(Some(Prepared {
            address,
            public: PublicAddress { base, registry },
            secure,
            tftp,
            keys: KeyRing::new(keys),
            images,
            artefacts: Arc::new(artefacts),
            forwarders: self.boot_forwarder.clone(),
        }))
    }
}

type Secure = ((SocketAddr, Arc<rustls::ServerConfig>), SecureAddress);

impl Args {
    /// The listener with TLS, and what probes recognise it by.
    fn secure(&self) -> anyhow::Result<Option<Secure>> {
        let (Some(address), Some(cert), Some(key)) = (
            self.boot_tls_address,
            &self.boot_tls_cert,
            &self.boot_tls_key,
        ) else {
            return Ok(None);
        };
        let base = match &self.boot_tls_url {
            Some(url) => url.clone(),
            None if address.ip().is_unspecified() => bail!(
                "--boot-tls-address {address} is no address that a machine could ask: say with --boot-tls-url how it is reached"
            ),
            None => format!("https://{address}")
                .parse()
                .context("--boot-tls-address")?,
        };
        if base.scheme() != "https" {
            bail!("--boot-tls-url {base}: https is expected");
        }
        let said = || format!("--boot-tls-cert {}", cert.display());
        let chain = certificates(cert).with_context(said)?;
        let leaf = chain
            .first()
            .context("no certificate in it")
            .with_context(said)?;
        let pin = hex(ring::digest::digest(&ring::digest::SHA256, leaf).as_ref());
        let private = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("--boot-tls-key {}", key.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS")?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .context("--boot-tls-cert and --boot-tls-key")?;
        Ok(Some((
            (address, Arc::new(config)),
            SecureAddress { base, pin },
        )))
    }
}

fn certificates(file: &std::path::Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .context("cannot be read")?
        .collect();
    let all = all.context("is not PEM")?;
    if all.is_empty() {
        bail!("no certificate in it (expected -----BEGIN CERTIFICATE-----)");
    }
    Ok(all)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
            https: self.secure,
            public: self.public,
            keys: self.keys,
            forwarders: self.forwarders,
            limits: Limits::default(),
        };
        let desk = Arc::new(EngineDesk::new(context.desk.clone()));
        let bound = corten_boot::service::bind(config, desk, self.artefacts)
            .await
            .context("--boot-address")?;
        tracing::info!(address = %bound.http, tls = ?bound.https, "boot services");
        let Some((address, files)) = self.tftp else {
            bound.run(stop).await;
            return Ok(());
        };
        let socket = tokio::net::UdpSocket::bind(address)
            .await
            .with_context(|| format!("--boot-tftp-address {address}"))?;
        tracing::info!(address = ?socket.local_addr().ok(), "TFTP");
        let services = bound.services();
        tokio::join!(
            bound.run(stop.clone()),
            corten_boot::tftp::serve(socket, files, services, stop)
        );
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
