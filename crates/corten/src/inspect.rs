//! `corten inspect`: one BMC, no Kubernetes.

mod address;
mod password;
mod report;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use corten_engine::inventory::{bmc_status, server_status};
use corten_redfish::{
    Bmc, CaBundle, Credentials, Fingerprint, Gateway, GatewayConfig, GatewayError, Target,
    TlsFailure, Trust, model::Service,
};
use url::Url;

use crate::inspect::report::{Report, Server};

/// Reads one BMC and prints what Corten would put into BMC.status and each Server.status.
///
/// Needs no Kubernetes and changes nothing on the machine. Exit codes: 3 the BMC cannot be reached or does not answer,
/// 4 it refuses the credentials, 5 TLS (the certificate is not trusted), 6 it does not speak Redfish, 1 anything else.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the BMC is: host, host:port, or https://host[:port]. Plain HTTP only as http://host[:port].
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// The account on the BMC.
    #[arg(short, long, env = "CORTEN_USERNAME", value_name = "NAME")]
    username: String,
    /// A file whose first line is the password; `-` reads it from standard input. Without it, a prompt asks.
    #[arg(long, env = "CORTEN_PASSWORD_FILE", value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// PEM file of the certificate authorities that may vouch for the BMC.
    #[arg(long, env = "CORTEN_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The SHA-256 fingerprint of the BMC's certificate. With `--ca`, a certificate that chains to it will also do.
    #[arg(long, env = "CORTEN_PIN", value_name = "sha256:HEX")]
    pin: Option<Fingerprint>,
    /// Sends the credentials whatever certificate is shown.
    #[arg(long, env = "CORTEN_INSECURE", conflicts_with_all = ["ca", "pin"])]
    insecure: bool,
    /// The form of the output.
    #[arg(
        short,
        long,
        env = "CORTEN_INSPECT_OUTPUT",
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    output: Output,
    /// How long the whole inspection may take, in seconds.
    #[arg(
        long,
        env = "CORTEN_TIMEOUT",
        default_value_t = 180,
        value_name = "SECONDS"
    )]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    Table,
    Yaml,
    Json,
}

pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let url = address::parse(&args.address)?;
    let trust = trust(args, &url)?;
    let password = password::read(args.password_file.as_deref(), &args.username, &args.address)?;
    let gateway = Gateway::new(GatewayConfig::default());
    let bmc = gateway.bmc(Target {
        name: args.address.clone(),
        url: url.clone(),
        credentials: Credentials::new(args.username.clone(), password),
        trust,
    });
    let started = Instant::now();
    let asked = crate::shutdown::on_signal()?;
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(Duration::from_secs(args.timeout), inspect(&bmc)) => outcome,
        () = asked.cancelled() => {
            gateway.close().await;
            bail!("interrupted; the session was logged out");
        }
    };
    // Before anything is printed: a BMC has few sessions, whatever became of the inspection.
    gateway.close().await;
    let (manager, servers, service) = match outcome {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Ok(failed(&args.address, &error)),
        Err(_) => {
            let bounds = "--timeout raises the limit";
            let _ = writeln!(
                std::io::stderr(),
                "corten: {} was not read in {} s; {bounds}",
                args.address,
                args.timeout
            );
            return Ok(ExitCode::from(3));
        }
    };
    let counters = bmc.counters();
    let report = Report {
        address: url.as_str().trim_end_matches('/').to_owned(),
        redfish_version: service.redfish_version(),
        certificate: bmc.observed_pin().map(|pin| pin.to_string()),
        requests: counters.requests,
        connections: counters.connections,
        seconds: (started.elapsed().as_secs_f64() * 100.0).round() / 100.0,
        quirks: report::quirks(service.product()),
        bmc: manager,
        servers,
    };
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&report)?,
        Output::Yaml => serde_saphyr::to_string(&report)?,
        Output::Table => report.table()?,
    };
    writeln!(std::io::stdout().lock(), "{}", text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

type Found = (report::Bmc, Vec<Server>, Service);

async fn inspect(bmc: &Bmc) -> Result<Found, GatewayError> {
    let service = Box::pin(Service::open(bmc)).await?;
    let systems = Box::pin(service.systems()).await?;
    let managers = Box::pin(service.manager_facts()).await?;
    let mut servers = Vec::with_capacity(systems.len());
    for system in &systems {
        let inventory = Box::pin(service.inventory(system)).await?;
        servers.push(Server {
            system_uri: system.path().to_owned(),
            system_uuid: inventory.system.uuid.as_ref().map(ToString::to_string),
            status: server_status(&inventory),
            not_read: report::not_read(&inventory),
        });
    }
    let first = systems.first().map(corten_redfish::model::System::facts);
    let manager = report::Bmc {
        status: managers
            .first()
            .map(|manager| bmc_status(manager, first.as_ref())),
    };
    Ok((manager, servers, service))
}

fn trust(args: &Args, url: &Url) -> anyhow::Result<Trust> {
    if url.scheme() == "http" {
        if args.insecure || args.pin.is_some() || args.ca.is_some() {
            bail!(
                "--ca, --pin and --insecure have no meaning for http://; give an https:// address or leave them out"
            );
        }
        return Ok(Trust::Plain);
    }
    let ca = match &args.ca {
        None => None,
        Some(file) => {
            let pem = std::fs::read(file)
                .with_context(|| format!("cannot read the CA file {}", file.display()))?;
            Some(
                CaBundle::from_pem(&pem)
                    .with_context(|| format!("cannot use {}", file.display()))?,
            )
        }
    };
    Ok(match (args.insecure, args.pin, ca) {
        (true, ..) => Trust::Insecure,
        (_, Some(pin), Some(ca)) => Trust::PinnedOrCa(pin, ca),
        (_, Some(pin), None) => Trust::Pinned(pin),
        (_, None, Some(ca)) => Trust::Ca(ca),
        (_, None, None) => Trust::FirstUse,
    })
}

/// Says what went wrong, in the user's own flags where they are the remedy.
fn failed(address: &str, error: &GatewayError) -> ExitCode {
    let hint = match error {
        GatewayError::TlsFailed {
            failure: TlsFailure::NotTrustedYet { presented },
            ..
        } => format!(
            "\ncompare the fingerprint with the BMC's own console, then run again with --pin {presented} (or --ca FILE, or --insecure)"
        ),
        GatewayError::TlsFailed {
            failure: TlsFailure::Handshake { .. },
            ..
        } => "\nif the BMC speaks plain HTTP on this port, say so with http://".to_owned(),
        GatewayError::AuthFailed { .. } => {
            "\nonly one login was tried; BMCs lock accounts after a few".to_owned()
        }
        _ => String::new(),
    };
    let _ = writeln!(
        std::io::stderr(),
        "corten: cannot inspect {address}: {}{hint}",
        error.chain()
    );
    ExitCode::from(match error {
        GatewayError::Unreachable { .. }
        | GatewayError::Timeout { .. }
        | GatewayError::Interrupted { .. }
        | GatewayError::BreakerOpen { .. } => 3,
        GatewayError::AuthFailed { .. } | GatewayError::LoginHeld { .. } => 4,
        GatewayError::TlsFailed { .. } => 5,
        GatewayError::NotRedfish { .. } => 6,
        _ => 1,
    })
}
