//! The `corten sim` subcommand.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::fault::Rule;
use crate::fleet::{Fleet, FleetError};
use crate::settings::{Limits, Timing};
use crate::shapes::{Inventory, Shape};

mod qemu;

pub use qemu::QemuArgs;

/// Runs a fleet of simulated machines that speak Redfish, on loopback addresses.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many machines with clockwork [default: 12, or 0 with --qemu]
    #[arg(long, env = "CORTEN_SIM_MACHINES")]
    pub machines: Option<usize>,
    /// Machines with a real firmware
    #[command(flatten)]
    pub qemu: QemuArgs,
    /// Shapes that machines take in turn: dell, hpe, lenovo, supermicro, openbmc, multinode, dgx
    #[arg(
        long,
        env = "CORTEN_SIM_SHAPES",
        value_delimiter = ',',
        default_value = "dell,hpe,lenovo,supermicro"
    )]
    pub shapes: Vec<Shape>,
    /// Address of the first machine, in 127.0.0.0/8; the others follow it
    #[arg(long, env = "CORTEN_SIM_ADDRESS", default_value = "127.18.0.1")]
    pub address: Ipv4Addr,
    /// Port of all machines; 0 takes a free one for each shape
    #[arg(long, env = "CORTEN_SIM_PORT", default_value_t = 8000)]
    pub port: u16,
    /// Port of the machines of one shape (repeatable): dell=8001
    #[arg(long = "port-of", env = "CORTEN_SIM_PORT_OF", value_name = "SHAPE=PORT", value_parser = port_of)]
    pub ports: Vec<(Shape, u16)>,
    /// HTTPS, each machine with a self-signed certificate of its own
    #[arg(long, env = "CORTEN_SIM_TLS")]
    pub tls: bool,
    /// Lists only a few parts per machine instead of a real machine's number
    #[arg(long, env = "CORTEN_SIM_SMALL")]
    pub small: bool,
    /// Machines start powered on
    #[arg(long, env = "CORTEN_SIM_ON")]
    pub on: bool,
    /// Operating systems ignore a graceful shutdown
    #[arg(long, env = "CORTEN_SIM_IGNORE_SHUTDOWN")]
    pub ignore_shutdown: bool,
    /// User of all machines, in place of the factory's
    #[arg(long, env = "CORTEN_SIM_USERNAME", requires = "password_file")]
    pub username: Option<String>,
    /// File with the password that goes with --username
    #[arg(
        long,
        env = "CORTEN_SIM_PASSWORD_FILE",
        requires = "username",
        value_name = "FILE"
    )]
    pub password_file: Option<PathBuf>,
    /// Seconds from power on to the boot target
    #[arg(long, env = "CORTEN_SIM_POST_SECONDS", default_value_t = 5.0, value_parser = seconds)]
    pub post_seconds: f64,
    /// Seconds of a graceful shutdown
    #[arg(long, env = "CORTEN_SIM_SHUTDOWN_SECONDS", default_value_t = 3.0, value_parser = seconds)]
    pub shutdown_seconds: f64,
    /// Seconds of erasing a drive
    #[arg(long, env = "CORTEN_SIM_ERASE_SECONDS", default_value_t = 3.0, value_parser = seconds)]
    pub erase_seconds: f64,
    /// Sessions that a BMC allows at a time
    #[arg(long, env = "CORTEN_SIM_SESSION_LIMIT")]
    pub session_limit: Option<usize>,
    /// Failed logins until an account is locked for a minute
    #[arg(long, env = "CORTEN_SIM_LOCKOUT_AFTER")]
    pub lockout_after: Option<u32>,
    /// YAML file with a list of fault rules for all machines
    #[arg(long, env = "CORTEN_SIM_FAULTS", value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Where the admin API listens (loopback only); none without it
    #[arg(long, env = "CORTEN_SIM_ADMIN", value_name = "IP:PORT")]
    pub admin: Option<SocketAddr>,
    /// Writes a MAC prefix database for the fleet there
    #[arg(long, env = "CORTEN_SIM_MAC_DATABASE", value_name = "FILE")]
    pub mac_database: Option<PathBuf>,
    /// Writes Endpoint manifests for the fleet there
    #[arg(long, env = "CORTEN_SIM_ENDPOINTS", value_name = "FILE")]
    pub endpoints: Option<PathBuf>,
}

fn port_of(text: &str) -> Result<(Shape, u16), String> {
    let (shape, port) = text.split_once('=').ok_or("expected SHAPE=PORT")?;
    let shape = shape.parse::<Shape>().map_err(|error| error.to_string())?;
    Ok((
        shape,
        port.parse().map_err(|_| format!("{port:?} is no port"))?,
    ))
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=86_400.0).contains(&value) {
        Ok(value)
    } else {
        Err("expected 0 to 86400".to_owned())
    }
}

/// Why the simulator did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The fleet did not start.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The fault file is no list of rules.
    #[error("{path} is no list of fault rules: {reason}")]
    Faults {
        /// Which.
        path: PathBuf,
        /// What is wrong where.
        reason: String,
    },
    /// The admin API would be reachable from outside.
    #[error("the admin API listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The admin API cannot listen.
    #[error("the admin API cannot listen on {address}")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Args {
    /// Starts the fleet that the arguments describe.
    ///
    /// # Errors
    /// [`RunError`], each naming the argument's value.
    pub async fn start(&self) -> Result<Fleet, RunError> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|source| RunError::File {
                path: path.clone(),
                source,
            })
        };
        let defaults = Timing::default();
        let mut builder = Fleet::builder()
            .machines(
                self.machines
                    .unwrap_or(if self.qemu.count == 0 { 12 } else { 0 }),
            )
            .shapes(self.shapes.clone())
            .address(self.address)
            .tls(self.tls)
            .on(self.on)
            .ignores_shutdown(self.ignore_shutdown)
            .inventory(if self.small {
                Inventory::Small
            } else {
                Inventory::Realistic
            })
            .limits(Limits {
                sessions: self.session_limit,
                lockout_after: self.lockout_after,
                lockout_for: self.lockout_after.map(|_| Duration::from_secs(60)),
                ..Limits::default()
            })
            .timing(Timing {
                post: Duration::from_secs_f64(self.post_seconds),
                shutdown: Duration::from_secs_f64(self.shutdown_seconds),
                erase: Duration::from_secs_f64(self.erase_seconds),
                cycle: Duration::from_secs_f64(self.post_seconds / 4.0),
                update: Duration::from_secs_f64(self.erase_seconds),
                bmc_reset: Duration::from_secs_f64(self.post_seconds),
                ..defaults
            });
        if let Some(qemu) = self.qemu.machines() {
            builder = builder.qemu(qemu);
        }
        if self.port != 0 {
            builder = builder.port(self.port);
        }
        for (shape, port) in &self.ports {
            builder = builder.port_of(*shape, *port);
        }
        if let (Some(user), Some(file)) = (&self.username, &self.password_file) {
            builder = builder.credentials(user, read(file)?.trim_end_matches(['\r', '\n']));
        }
        if let Some(path) = &self.faults {
            let text = read(path)?;
            let rules: Vec<Rule> =
                serde_saphyr::from_str(&text).map_err(|error| RunError::Faults {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
            builder = builder.faults(rules);
        }
        let fleet = builder.start().await?;
        let write = |path: &Option<PathBuf>, text: String| match path {
            Some(path) => std::fs::write(path, text).map_err(|source| RunError::File {
                path: path.clone(),
                source,
            }),
            None => Ok(()),
        };
        write(&self.mac_database, fleet.mac_database())?;
        write(&self.endpoints, fleet.endpoints().to_string())?;
        Ok(fleet)
    }
}

/// Runs the fleet, and the admin API where asked for, until `shutdown`.
///
/// # Errors
/// [`RunError`] if it cannot start.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), RunError> {
    let fleet = Arc::new(args.start().await?);
    tracing::info!(machines = fleet.len(), first = %args.address, tls = args.tls, "simulated fleet runs");
    if let Some(address) = args.admin {
        if !address.ip().is_loopback() {
            return Err(RunError::NotLoopback(address));
        }
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|source| RunError::Admin { address, source })?;
        let local = listener.local_addr().unwrap_or(address);
        tracing::info!(address = %local, "admin API listens");
        let router = crate::admin::router(Arc::clone(&fleet));
        let stop = shutdown.clone();
        let serve = axum::serve(listener, router)
            .with_graceful_shutdown(async move { stop.cancelled().await });
        serve
            .await
            .map_err(|source| RunError::Admin { address, source })?;
    } else {
        shutdown.cancelled().await;
    }
    Ok(())
}
