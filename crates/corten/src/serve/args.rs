//! The flags of `corten serve`, and what they mean for the controllers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use corten_claims::ClaimsConfig;
use corten_engine::connect::address::Cidr;
use corten_engine::macdb::MacDatabase;
use corten_engine::retention::Limits;
use corten_engine::{BootProvider, EngineConfig, LEAST_LEASE};
use corten_kit::Lease;
use jiff::SignedDuration;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::duration;

/// Runs the controllers for the servers of a cluster.
///
/// The cluster is the one of --kubeconfig, else of KUBECONFIG or ~/.kube/config, else the one whose pod this runs in.
/// Nothing is installed unless --install-crds says so. It refuses to act while another operator of these kinds is active.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The cluster's kubeconfig.
    #[arg(
        long,
        env = "CORTEN_KUBECONFIG",
        value_name = "FILE",
        help_heading = "Cluster"
    )]
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; its current one if absent.
    #[arg(
        long,
        env = "CORTEN_CONTEXT",
        value_name = "NAME",
        help_heading = "Cluster"
    )]
    pub context: Option<String>,
    /// Namespace of Corten's Leases.
    #[arg(
        long,
        env = "CORTEN_NAMESPACE",
        default_value = "corten-system",
        value_name = "NAME",
        help_heading = "Cluster"
    )]
    pub namespace: String,
    /// Install or update the CustomResourceDefinitions and the namespace first.
    #[arg(long, env = "CORTEN_INSTALL_CRDS", help_heading = "Cluster")]
    pub install_crds: bool,
    /// Act although another operator of these kinds seems active: only if the two share no server.
    #[arg(long, env = "CORTEN_DESPITE_OTHER_OPERATORS", help_heading = "Cluster")]
    pub despite_other_operators: bool,
    /// How long a replica that went silent keeps its standby waiting; at least 10s.
    #[arg(long, env = "CORTEN_LEASE_DURATION", default_value = "15s", value_parser = duration::parse, value_name = "TIME", help_heading = "Cluster")]
    pub lease_duration: Duration,

    /// Only Endpoints, BMCs and Servers with these labels, as in `corten.dev/agent=site-a`; all if empty.
    #[arg(
        long,
        env = "CORTEN_LABEL_SELECTOR",
        default_value = "",
        value_name = "SELECTOR",
        help_heading = "Scope"
    )]
    pub label_selector: String,
    /// Only ServerClaims with these labels; all if empty.
    #[arg(
        long,
        env = "CORTEN_CLAIM_SELECTOR",
        default_value = "",
        value_name = "SELECTOR",
        help_heading = "Scope"
    )]
    pub claim_selector: String,

    /// MAC prefixes and factory credentials beside the built-in ones, in metal-operator's format.
    #[arg(
        long,
        env = "CORTEN_MAC_PREFIXES",
        value_name = "FILE",
        help_heading = "Machines"
    )]
    pub mac_prefixes: Option<PathBuf>,
    /// Who answers ServerBootConfigurations: Corten, or another controller such as boot-operator.
    #[arg(
        long,
        env = "CORTEN_BOOT",
        value_enum,
        default_value = "builtin",
        value_name = "PROVIDER",
        help_heading = "Machines"
    )]
    pub boot: Boot,
    /// Addresses at which a BMC without a scheme means plain HTTP, as it did for metal-operator; may be repeated.
    #[arg(
        long,
        env = "CORTEN_ASSUME_HTTP_FOR",
        value_name = "CIDR",
        value_delimiter = ',',
        help_heading = "Machines"
    )]
    pub assume_http_for: Vec<Cidr>,

    /// BMCs looked at, at once.
    #[arg(
        long,
        env = "CORTEN_CONCURRENCY",
        default_value_t = 1024,
        value_name = "N",
        help_heading = "Limits"
    )]
    pub concurrency: usize,
    /// BMCs whose inventory is read at once, at first contact.
    #[arg(
        long,
        env = "CORTEN_ONBOARDING",
        default_value_t = 64,
        value_name = "N",
        help_heading = "Limits"
    )]
    pub onboarding: usize,
    /// ServerClaims worked on at once.
    #[arg(
        long,
        env = "CORTEN_CLAIM_CONCURRENCY",
        default_value_t = 16,
        value_name = "N",
        help_heading = "Limits"
    )]
    pub claim_concurrency: usize,
    /// Ended ServerRuns kept for each Server; tombstones and the last run of each kind stay in any case.
    #[arg(
        long,
        env = "CORTEN_KEEP_RUNS",
        default_value_t = 50,
        value_name = "N",
        help_heading = "Limits"
    )]
    pub keep_runs: usize,
    /// How many days ended ServerRuns are kept.
    #[arg(
        long,
        env = "CORTEN_KEEP_RUNS_DAYS",
        default_value_t = 90,
        value_name = "DAYS",
        help_heading = "Limits"
    )]
    pub keep_runs_days: u16,
    /// How often the inventory of each server that rests is read again, as in `24h`; `0` means never.
    #[arg(long, env = "CORTEN_INVENTORY_REFRESH", default_value = "24h", value_parser = duration::parse_or_zero, value_name = "TIME", help_heading = "Limits")]
    pub inventory_refresh: Duration,
    /// How long a BMC may take to accept a connection, TLS included.
    #[arg(long, env = "CORTEN_BMC_CONNECT_TIMEOUT", default_value = "10s", value_parser = duration::parse, value_name = "TIME", help_heading = "Limits")]
    pub bmc_connect_timeout: Duration,
    /// How long one request to a BMC and its answer may take.
    #[arg(long, env = "CORTEN_BMC_REQUEST_TIMEOUT", default_value = "60s", value_parser = duration::parse, value_name = "TIME", help_heading = "Limits")]
    pub bmc_request_timeout: Duration,
    /// How long work under way may take to end at shutdown.
    #[arg(long, env = "CORTEN_SHUTDOWN_GRACE", default_value = "20s", value_parser = duration::parse, value_name = "TIME", help_heading = "Limits")]
    pub shutdown_grace: Duration,

    #[command(flatten)]
    pub services: super::boot::Args,

    /// Where /healthz, /readyz and /metrics are served, over plain HTTP.
    #[arg(
        long,
        env = "CORTEN_ADMIN_ADDRESS",
        default_value = "127.0.0.1:8081",
        value_name = "IP:PORT",
        help_heading = "Observation"
    )]
    pub admin_address: SocketAddr,
}

/// Who answers ServerBootConfigurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Boot {
    Builtin,
    External,
}

// === impl Args ===

impl Args {
    /// A client of the cluster that the flags or the environment name.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let mut config = if let Some(path) = &self.kubeconfig {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .with_context(|| format!("cannot use {}", path.display()))?
        } else if self.context.is_some() {
            Config::from_kubeconfig(&options)
                .await
                .context("cannot use the kubeconfig")?
        } else {
            Config::infer()
                .await
                .context("no cluster: give --kubeconfig, set KUBECONFIG, or run in a pod")?
        };
        // A proxied or frozen API server must not hold a write for ever.
        config.connect_timeout = Some(Duration::from_secs(10));
        tracing::info!(server = %config.cluster_url, "cluster");
        Client::try_from(config).context("cannot make a client for the cluster")
    }

    /// This process, unique among all: a pod's name, or host, and a word of its own. Two pods may have one name for a while, and each is
    /// process 1.
    pub fn instance(&self) -> String {
        static WORD: OnceLock<u32> = OnceLock::new();
        let word = WORD.get_or_init(rand::random);
        let host = std::env::var("HOSTNAME")
            .ok()
            .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "corten".to_owned());
        format!("{host}-{word:08x}")
    }

    /// One Lease a shard: engines with different selectors do not wait for each other.
    pub fn engine_lease(&self) -> String {
        let shard: String = self
            .label_selector
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .collect();
        let shard = shard.trim_matches('-');
        if shard.is_empty() {
            super::ENGINE_LEASE.to_owned()
        } else {
            format!("{}-{shard}", super::ENGINE_LEASE)
        }
    }

    /// The engine's configuration; its Lease's name is the caller's.
    pub fn engine(&self) -> anyhow::Result<EngineConfig> {
        long_enough(self.lease_duration)?;
        let macs = match &self.mac_prefixes {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("--mac-prefixes: cannot read {}", path.display()))?;
                MacDatabase::with_file(&path.display().to_string(), &text)
                    .context("--mac-prefixes")?
            }
            None => MacDatabase::builtin(),
        };
        let mut config = EngineConfig {
            selector: Some(self.label_selector.clone()).filter(|selector| !selector.is_empty()),
            macs: Arc::new(macs),
            boot: match self.boot {
                Boot::Builtin => BootProvider::Builtin,
                Boot::External => BootProvider::External,
            },
            assume_http_for: self.assume_http_for.clone(),
            namespace: self.namespace.clone(),
            instance: self.instance(),
            lease_duration: self.lease_duration,
            concurrency: self.concurrency,
            onboarding: self.onboarding,
            inventory_refresh: self.inventory_refresh,
            retention: Limits {
                count: self.keep_runs,
                age: SignedDuration::from_hours(i64::from(self.keep_runs_days) * 24),
            },
            ..EngineConfig::default()
        };
        config.gateway.deadlines.connect = self.bmc_connect_timeout;
        config.gateway.deadlines.exchange = self.bmc_request_timeout;
        Ok(config)
    }

    /// The allocator's configuration.
    pub fn claims(&self, lease: Lease) -> ClaimsConfig {
        let scope = EngineConfig {
            selector: Some(self.label_selector.clone()),
            ..EngineConfig::default()
        };
        ClaimsConfig {
            claims: self.claim_selector.clone(),
            // What is made for a scope carries its labels, or its engine would not see it.
            labels: scope.demanded_labels(),
            servers: self.label_selector.clone(),
            concurrency: self.claim_concurrency,
            ..ClaimsConfig::new(lease)
        }
    }
}

/// A lease that ends before any call would is refused at start, not found out when a server does not power on.
fn long_enough(lease: Duration) -> anyhow::Result<()> {
    anyhow::ensure!(
        lease >= LEAST_LEASE,
        "--lease-duration {lease:?} is too short: nothing is sent to a BMC unless the lease outlasts the call. Take at least {LEAST_LEASE:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_shorter_than_a_call_to_a_bmc_is_refused_with_what_to_take_instead() {
        let refused = long_enough(Duration::from_secs(6)).unwrap_err().to_string();
        assert!(
            refused.starts_with("--lease-duration 6s is too short"),
            "{refused}"
        );
        assert!(refused.ends_with("at least 10s"), "{refused}");
        assert!(long_enough(Duration::from_millis(9_999)).is_err());
        assert!(long_enough(Duration::from_secs(10)).is_ok());
    }
}
