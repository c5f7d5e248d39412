//! What has to be true of a cluster before anything acts in it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use corten_kit::definitions;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};

use super::args::Cluster;
use crate::admin::Readiness;

const TRY_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// Waits for the API server, installs what was asked for, and checks the definitions and the namespace.
pub async fn prepare(
    client: &Client,
    cluster: &Cluster,
    readiness: &Readiness,
) -> anyhow::Result<()> {
    loop {
        match attempt(client, cluster).await {
            Ok(()) => return Ok(()),
            Err(error) if is_transient(&error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the API server is not reachable, trying again"
                );
                readiness.not_ready(format!("the API server is not reachable: {error:#}"));
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn attempt(client: &Client, cluster: &Cluster) -> anyhow::Result<()> {
    let wanted = corten_api::crds();
    if cluster.install_crds {
        definitions::install(client, wanted.clone(), &BTreeMap::new())
            .await
            .context("--install-crds")?;
        create_namespace(client, &cluster.namespace)
            .await
            .context("--install-crds")?;
    }
    let defects = definitions::defects(client, &wanted)
        .await
        .context("cannot check the definitions")?;
    if !defects.is_empty() {
        let list: Vec<String> = defects
            .iter()
            .map(|defect| format!("\n  - {defect}"))
            .collect();
        bail!(
            "the cluster's CustomResourceDefinitions do not fit:{}\nInstall them with `corten crds | kubectl apply --server-side -f -`, \
             or start with --install-crds",
            list.concat()
        );
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.get_opt(&cluster.namespace).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => bail!(
            "namespace {0} does not exist: kubectl create namespace {0}, or choose another by --namespace",
            cluster.namespace
        ),
        // Not everybody who may write Leases in a namespace may read the namespace itself.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("cannot look for namespace {}", cluster.namespace))
        }
    }
}

async fn create_namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    match Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("namespace {name}")),
    }
}

/// Whether the API server did not answer, or answered that it cannot now.
fn is_transient(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| match cause.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) => status.code == 429 || status.code >= 500,
            Some(kube::Error::HyperError(_) | kube::Error::Service(_)) => true,
            _ => false,
        })
}
