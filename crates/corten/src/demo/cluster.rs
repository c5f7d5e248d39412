//! The cluster that the demo plays in: a control plane of its own, or one that somebody gave it and that it must leave as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use corten_api::corten::{ServerInventory, ServerPolicy, ServerRun};
use corten_api::metal::{Bmc, BmcSecret, Endpoint, Server, ServerBootConfiguration, ServerClaim};
use corten_api::names;
use corten_controlplane::{ControlPlane, Options, Progress};
use corten_kit::definitions;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Client, Config, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::folder::Folder;
use super::story::Story;

/// Namespace of the demo's claims and Leases.
pub const NAMESPACE: &str = "corten-demo";
/// Value of the labels [`names::AGENT`] (which servers the demo's engine serves) and [`names::MANAGED_BY`] (who may delete).
const OURS: &str = "corten-demo";

/// Selects everything of the demo's.
pub fn selector() -> String {
    format!("{}={OURS}", names::AGENT)
}

/// Labels of everything that the demo makes.
pub fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([names::AGENT, names::MANAGED_BY].map(|key| (key.to_owned(), OURS.to_owned())))
}

pub struct Cluster {
    pub client: Client,
    pub kubeconfig: PathBuf,
    /// A kubectl that fits, if the demo brought one.
    kubectl: Option<PathBuf>,
    own: Option<ControlPlane>,
}

// === impl Cluster ===

impl Cluster {
    /// Starts a control plane in the demo's folder.
    pub async fn own(folder: &Folder, progress: Progress, story: &Story) -> anyhow::Result<Self> {
        let binaries = corten_controlplane::Binaries::find_or_build(&progress).await?;
        let begun = Instant::now();
        story.say("starting etcd, kube-apiserver and kube-controller-manager");
        let options = Options {
            binaries: Some(binaries),
            folder: Some(folder.path().to_path_buf()),
            progress: Progress::silent(),
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await?;
        story.reached("control plane ready", begun);
        Ok(Self {
            client: plane.client()?,
            kubeconfig: plane.kubeconfig().to_path_buf(),
            kubectl: Some(plane.binaries().kubectl.clone()),
            own: Some(plane),
        })
    }

    /// Takes an existing cluster, if it may be used.
    pub async fn existing(kubeconfig: &Path, story: &Story) -> anyhow::Result<Self> {
        let read = || format!("--cluster-kubeconfig {}", kubeconfig.display());
        let path = kubeconfig.canonicalize().with_context(read)?;
        let file = Kubeconfig::read_from(&path).with_context(read)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .with_context(read)?;
        story.say(format!("using the cluster at {}", config.cluster_url));
        let client = Client::try_from(config).with_context(read)?;
        refuse_what_is_not_ours(&client).await?;
        let cluster = Self {
            client,
            kubeconfig: path,
            kubectl: None,
            own: None,
        };
        if cluster.wipe(story, Duration::from_secs(5)).await? > 0 {
            story.say("removed what an earlier demo had left");
        }
        Ok(cluster)
    }

    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// How kubectl is called here.
    pub fn kubectl(&self) -> String {
        match &self.kubectl {
            Some(path) if !on_path("kubectl") => path.display().to_string(),
            _ => "kubectl".to_owned(),
        }
    }

    /// Installs the definitions and the namespace, labelled as the demo's.
    pub async fn install(&self) -> anyhow::Result<()> {
        definitions::install(&self.client, corten_api::crds(), &labels())
            .await
            .context("installing the definitions")?;
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": NAMESPACE, "labels": labels()}}))?;
        match Api::<Namespace>::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("namespace {NAMESPACE}")),
        }
    }

    /// Deletes the claims, while the controllers still run, so that their servers are released in order.
    pub async fn release(&self, within: Duration) -> anyhow::Result<()> {
        let claims: Api<ServerClaim> = Api::namespaced(self.client.clone(), NAMESPACE);
        delete_all(&claims).await?;
        let deadline = Instant::now() + within;
        while remaining(&claims).await? > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Deletes what carries the demo's label, after the controllers have stopped. `grace`: how long finalizers of others are waited for.
    /// Returns how many objects there were.
    pub async fn wipe(&self, story: &Story, grace: Duration) -> anyhow::Result<usize> {
        let client = &self.client;
        let mut found = 0;
        found += wipe_namespaced::<ServerClaim>(client, grace).await?;
        found += wipe_namespaced::<ServerBootConfiguration>(client, grace).await?;
        found += wipe_cluster_wide::<Endpoint>(client, grace).await?;
        found += wipe_cluster_wide::<Server>(client, grace).await?;
        found += wipe_cluster_wide::<Bmc>(client, grace).await?;
        found += wipe_cluster_wide::<BmcSecret>(client, grace).await?;
        found += wipe_cluster_wide::<ServerRun>(client, grace).await?;
        found += wipe_cluster_wide::<ServerInventory>(client, grace).await?;
        found += wipe_cluster_wide::<ServerPolicy>(client, grace).await?;
        found += self.remove_definitions(story).await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        if let Some(namespace) = namespaces.get_opt(NAMESPACE).await?
            && ours(&namespace)
        {
            namespaces
                .delete(NAMESPACE, &DeleteParams::default())
                .await
                .map(drop)
                .or_else(gone_is_fine)?;
            found += 1;
        }
        Ok(found)
    }

    /// A definition goes with all its objects, so one that holds somebody's object stays.
    async fn remove_definitions(&self, story: &Story) -> anyhow::Result<usize> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let ours = api.list(&ListParams::default().labels(&selector())).await?;
        for definition in &ours {
            let names = &definition.spec.names;
            let resource = ApiResource {
                group: definition.spec.group.clone(),
                version: "v1alpha1".to_owned(),
                api_version: format!("{}/v1alpha1", definition.spec.group),
                kind: names.kind.clone(),
                plural: names.plural.clone(),
            };
            let objects: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            let left = objects
                .list_metadata(&ListParams::default().limit(1))
                .await
                .map(|list| list.items)
                .or_else(absent)?;
            match left.first() {
                Some(object) => story.say(format!(
                    "{} stays: it holds {} {}, which the demo did not make",
                    definition.name_any(),
                    names.kind,
                    object.name_any()
                )),
                None => api
                    .delete(&definition.name_any(), &DeleteParams::default())
                    .await
                    .map(drop)
                    .or_else(gone_is_fine)?,
            }
        }
        Ok(ours.items.len())
    }

    /// Ends the demo's own control plane, if it has one.
    pub async fn shutdown(self) {
        if let Some(plane) = self.own {
            plane.shutdown().await;
        }
    }
}

/// Kinds or a namespace that somebody else installed mean that something else works with them here.
async fn refuse_what_is_not_ours(client: &Client) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let groups = [names::METAL_GROUP, names::CORTEN_GROUP];
    let installed = definitions
        .list_metadata(&ListParams::default())
        .await
        .context("cannot list the cluster's definitions")?;
    let foreign: Vec<String> = installed
        .iter()
        .filter(|definition| {
            groups
                .iter()
                .any(|group| definition.name_any().ends_with(&format!(".{group}")))
        })
        .filter(|definition| !ours(*definition))
        .map(|definition| format!("\n  - {}", definition.name_any()))
        .collect();
    if !foreign.is_empty() {
        bail!(
            "this cluster has kinds of ours that the demo did not install, so somebody works with them; the demo leaves it alone:{}",
            foreign.concat()
        );
    }
    if let Some(namespace) = Api::<Namespace>::all(client.clone())
        .get_opt(NAMESPACE)
        .await
        .context("cannot read namespaces")?
    {
        if !ours(&namespace) {
            bail!("namespace {NAMESPACE} exists in this cluster and is not the demo's");
        }
        if namespace.metadata.deletion_timestamp.is_some() {
            bail!(
                "namespace {NAMESPACE} of an earlier demo is still being deleted; try again in a minute"
            );
        }
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    for lease in leases
        .list(&ListParams::default())
        .await
        .context("cannot read Leases")?
    {
        let held = lease.spec.as_ref().is_some_and(|spec| {
            let age = spec
                .renew_time
                .as_ref()
                .map(|time| jiff::Timestamp::now().duration_since(time.0).as_secs());
            spec.holder_identity
                .as_ref()
                .is_some_and(|holder| !holder.is_empty())
                && age.is_some_and(|age| {
                    age < i64::from(spec.lease_duration_seconds.unwrap_or(15)) * 2
                })
        });
        if held {
            bail!(
                "another demo is running on this cluster, or ended less than half a minute ago (Lease {NAMESPACE}/{})",
                lease.name_any()
            );
        }
    }
    Ok(())
}

fn ours(object: &impl kube::ResourceExt) -> bool {
    object
        .labels()
        .get(names::MANAGED_BY)
        .is_some_and(|value| value == OURS)
}

async fn wipe_namespaced<K>(client: &Client, grace: Duration) -> anyhow::Result<usize>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    wipe::<K>(Api::namespaced(client.clone(), NAMESPACE), grace).await
}

async fn wipe_cluster_wide<K>(client: &Client, grace: Duration) -> anyhow::Result<usize>
where
    K: kube::Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    wipe::<K>(Api::all(client.clone()), grace).await
}

/// Deletes the demo's objects of one kind. Their machines are simulated and gone, so nothing is left for a finalizer to do.
async fn wipe<K>(api: Api<K>, grace: Duration) -> anyhow::Result<usize>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let found = remaining(&api).await?;
    if found == 0 {
        return Ok(0);
    }
    delete_all(&api).await?;
    let deadline = Instant::now() + grace;
    loop {
        let ours = ListParams::default().labels(&selector());
        let held = api
            .list_metadata(&ours)
            .await
            .map(|list| list.items)
            .or_else(absent)?;
        if held.is_empty() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!(
                "{} of the demo's objects could not be deleted, first {}",
                held.len(),
                held.first().map(|o| o.name_any()).unwrap_or_default()
            );
        }
        for object in held {
            let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            api.patch_metadata(&object.name_any(), &PatchParams::default(), &free)
                .await
                .map(drop)
                .or_else(gone_is_fine)?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn delete_all<K: Clone + DeserializeOwned + std::fmt::Debug>(
    api: &Api<K>,
) -> anyhow::Result<()> {
    let ours = ListParams::default().labels(&selector());
    api.delete_collection(&DeleteParams::default(), &ours)
        .await
        .map(drop)
        .or_else(gone_is_fine)?;
    Ok(())
}

async fn remaining<K: Clone + DeserializeOwned + std::fmt::Debug>(
    api: &Api<K>,
) -> anyhow::Result<usize> {
    let ours = ListParams::default().labels(&selector());
    Ok(api
        .list_metadata(&ours)
        .await
        .map(|list| list.items.len())
        .or_else(|error| absent(error).map(|none: Vec<()>| none.len()))?)
}

/// A kind that is not installed has no objects.
fn absent<T>(error: kube::Error) -> kube::Result<Vec<T>> {
    match error {
        kube::Error::Api(status) if status.code == 404 => Ok(Vec::new()),
        error => Err(error),
    }
}

fn gone_is_fine(error: kube::Error) -> kube::Result<()> {
    match error {
        kube::Error::Api(status) if status.code == 404 || status.code == 405 => Ok(()),
        error => Err(error),
    }
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}
