//! The flags of `corten serve`, and what they mean for the controllers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use corten_api::names;
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
    #[command(flatten)]
    pub cluster: Cluster,

    /// Only Endpoints, BMCs and Servers with these labels, as in `corten.dev/agent=site-a`; all if empty.
    #[arg(
        long,
        env = "CORTEN_LABEL_SELECTOR",
        default_value = "",
        value_name = "SELECTOR",
        help_heading = "Scope"
    )]
    pub label_selector: String,
    #[command(flatten)]
    pub claims: Claims,
    #[command(flatten)]
    pub machines: Machines,
    #[command(flatten)]
    pub process: Process,
}

/// Runs the engine and the boot services of one site, beside an operator that binds the claims of all.
///
/// It looks after the Endpoints, BMCs and Servers with the label `corten.dev/agent` of its site, and after no other. For the rest it is as `corten serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentArgs {
    /// The site, as the label `corten.dev/agent` of its Endpoints, BMCs and Servers says it.
    #[arg(
        long,
        env = "CORTEN_SITE",
        value_name = "NAME",
        value_parser = label_value,
        help_heading = "Scope"
    )]
    pub site: String,
    #[command(flatten)]
    pub cluster: Cluster,
    #[command(flatten)]
    pub machines: Machines,
    #[command(flatten)]
    pub process: Process,
}

/// Binds claims to the servers of all sites; their agents do the rest.
///
/// It speaks to no BMC. For the rest it is as `corten serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct OperatorArgs {
    #[command(flatten)]
    pub cluster: Cluster,
    #[command(flatten)]
    pub claims: Claims,
    #[command(flatten)]
    pub process: Process,
}

/// Where the objects are, and who else may be at work on them.
#[derive(Clone, Debug, clap::Args)]
pub struct Cluster {
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
}

/// Which claims are bound.
#[derive(Clone, Debug, clap::Args)]
pub struct Claims {
    /// Only ServerClaims with these labels; all if empty.
    #[arg(
        long,
        env = "CORTEN_CLAIM_SELECTOR",
        default_value = "",
        value_name = "SELECTOR",
        help_heading = "Scope"
    )]
    pub claim_selector: String,
    /// ServerClaims worked on at once.
    #[arg(
        long,
        env = "CORTEN_CLAIM_CONCURRENCY",
        default_value_t = 16,
        value_name = "N",
        help_heading = "Limits"
    )]
    pub claim_concurrency: usize,
}

/// How machines are looked after.
#[derive(Clone, Debug, clap::Args)]
pub struct Machines {
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
    #[command(flatten)]
    pub services: super::boot::Args,
}

/// What every process has.
#[derive(Clone, Debug, clap::Args)]
pub struct Process {
    /// How long work under way may take to end at shutdown.
    #[arg(long, env = "CORTEN_SHUTDOWN_GRACE", default_value = "20s", value_parser = duration::parse, value_name = "TIME", help_heading = "Limits")]
    pub shutdown_grace: Duration,

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

/// What one process does: all of it, or the part of an agent or an operator.
pub struct Job {
    pub cluster: Cluster,
    pub process: Process,
    /// Endpoints, BMCs and Servers with these labels; all if empty.
    pub selector: String,
    pub claims: Option<Claims>,
    pub machines: Option<Machines>,
}

/// Who answers ServerBootConfigurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Boot {
    Builtin,
    External,
}

// === impl Job ===

impl From<Args> for Job {
    fn from(args: Args) -> Self {
        Self {
            cluster: args.cluster,
            process: args.process,
            selector: args.label_selector,
            claims: Some(args.claims),
            machines: Some(args.machines),
        }
    }
}

impl From<AgentArgs> for Job {
    fn from(args: AgentArgs) -> Self {
        Self {
            cluster: args.cluster,
            process: args.process,
            selector: format!("{}={}", names::AGENT, args.site),
            claims: None,
            machines: Some(args.machines),
        }
    }
}

impl From<OperatorArgs> for Job {
    fn from(args: OperatorArgs) -> Self {
        Self {
            cluster: args.cluster,
            process: args.process,
            selector: String::new(),
            claims: Some(args.claims),
            machines: None,
        }
    }
}

impl Job {
    /// One Lease a shard: engines with different selectors do not wait for each other.
    pub fn engine_lease(&self) -> String {
        let shard: String = self
            .selector
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

    /// The engine's configuration.
    pub fn engine(&self, machines: &Machines) -> anyhow::Result<EngineConfig> {
        let cluster = &self.cluster;
        let macs = match &machines.mac_prefixes {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("--mac-prefixes: cannot read {}", path.display()))?;
                MacDatabase::with_file(&path.display().to_string(), &text)
                    .context("--mac-prefixes")?
            }
            None => MacDatabase::builtin(),
        };
        let mut config = EngineConfig {
            selector: Some(self.selector.clone()).filter(|selector| !selector.is_empty()),
            lease_name: self.engine_lease(),
            macs: Arc::new(macs),
            boot: match machines.boot {
                Boot::Builtin => BootProvider::Builtin,
                Boot::External => BootProvider::External,
            },
            assume_http_for: machines.assume_http_for.clone(),
            namespace: cluster.namespace.clone(),
            instance: cluster.instance(),
            lease_duration: cluster.lease_duration,
            concurrency: machines.concurrency,
            onboarding: machines.onboarding,
            inventory_refresh: machines.inventory_refresh,
            retention: Limits {
                count: machines.keep_runs,
                age: SignedDuration::from_hours(i64::from(machines.keep_runs_days) * 24),
            },
            ..EngineConfig::default()
        };
        config.gateway.deadlines.connect = machines.bmc_connect_timeout;
        config.gateway.deadlines.exchange = machines.bmc_request_timeout;
        Ok(config)
    }

    /// The allocator's configuration.
    pub fn allocator(&self, claims: &Claims, lease: Lease) -> ClaimsConfig {
        let scope = EngineConfig {
            selector: Some(self.selector.clone()),
            ..EngineConfig::default()
        };
        ClaimsConfig {
            claims: claims.claim_selector.clone(),
            // What is made for a scope carries its labels, or its engine would not see it.
            labels: scope.demanded_labels(),
            servers: self.selector.clone(),
            concurrency: claims.claim_concurrency,
            ..ClaimsConfig::new(lease)
        }
    }
}

// === impl Cluster ===

impl Cluster {
    /// What is wrong with its flags, before anything is sent.
    pub fn check(&self) -> anyhow::Result<()> {
        long_enough(self.lease_duration)
    }

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
}

/// A label's value (Kubernetes API, "Labels and Selectors"): up to 63 letters, digits, `-`, `_` and `.`, the first and the last a letter or a digit.
fn label_value(text: &str) -> Result<String, String> {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut characters = text.chars();
    let is_value = text.len() <= 63
        && text.chars().all(is_inner)
        && is_end(characters.clone().next())
        && is_end(characters.next_back());
    if is_value {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is no value of a label: up to 63 letters, digits, -, _ and ., the first and the last a letter or a digit"
        ))
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
    fn an_agents_site_is_a_labels_value_and_its_lease_is_its_own() {
        for wrong in ["", "a b", "-a", "a.", "a,b=c", "a/b", &"a".repeat(64)] {
            assert!(label_value(wrong).is_err(), "{wrong:?}");
        }
        for right in ["a", "site-a", "Rack_7.2", &"a".repeat(63)] {
            assert_eq!(label_value(right).as_deref(), Ok(right));
        }
    }

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
