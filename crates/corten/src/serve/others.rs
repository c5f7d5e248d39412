//! Is another operator of these kinds at work in the cluster? Two of them would switch the same machines.
//!
//! Three signs, each enough: a leader's Lease that is renewed; a Deployment that is to run; a status of a Server or BMC
//! that somebody else wrote a short while ago, down to the fields that only an operator of these kinds writes (others
//! add conditions, people edit specs, and both are welcome).

use std::fmt;

use anyhow::Context as _;
use corten_api::metal::{Bmc, Server};
use corten_api::names;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use super::selector;

/// metal-operator's leader election ID (its cmd/main.go).
const METAL_OPERATOR_LEASE: &str = "f26702e4.ironcore.dev";
/// Its name as label and, alone or with the suffix of its build, as image.
const METAL_OPERATOR: &str = "metal-operator";
const METAL_OPERATOR_IMAGES: [&str; 2] = ["metal-operator", "metal-operator-controller-manager"];
/// metal-operator writes each server's status at least every two minutes.
const RECENT: SignedDuration = SignedDuration::from_mins(5);
/// A sample is enough: an operator writes to all of them.
const SAMPLE: u32 = 100;

/// One sign of another operator, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign(String);

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Our own Leases and what we look after. A Lease of an engine beside ours is another Corten, unless its selector is proved apart from ours.
#[derive(Clone, Debug)]
pub struct Ours {
    pub namespace: String,
    pub claims_lease: &'static str,
    /// None for an operator without an engine, which has no rival engine.
    pub engine_lease: Option<String>,
    pub selector: String,
}

impl Ours {
    /// Name of our engine's Lease; empty without an engine.
    pub fn own_lease(&self) -> &str {
        self.engine_lease.as_deref().unwrap_or_default()
    }

    fn is_rival(&self, lease: &Lease) -> bool {
        if lease.name_any() == self.claims_lease {
            return lease.namespace().unwrap_or_default() != self.namespace;
        }
        self.is_rival_engine(lease)
    }

    /// Whether it is the Lease of an engine that may look after a server of ours.
    pub fn is_rival_engine(&self, lease: &Lease) -> bool {
        let (name, namespace) = (lease.name_any(), lease.namespace().unwrap_or_default());
        let is_engine = name == super::ENGINE_LEASE
            || name
                .strip_prefix(super::ENGINE_LEASE)
                .is_some_and(|shard| shard.starts_with('-'));
        if !is_engine {
            return false;
        }
        // Replicas of one shard take turns, and two selectors that give one name would only wait for each other.
        let Some(own) = &self.engine_lease else {
            return false;
        };
        if name == *own && namespace == self.namespace {
            return false;
        }
        // Without a recorded selector it may look after anything.
        let theirs = lease.annotations().get(names::SELECTOR);
        let theirs = theirs.map_or("", String::as_str);
        !selector::are_disjoint(&self.selector, theirs)
    }
}

/// Looks for every sign. What we may not look at is logged and passed over.
pub async fn signs(client: &Client, ours: &Ours) -> anyhow::Result<Vec<Sign>> {
    let now = Timestamp::now();
    let mut signs = Vec::new();
    let leases = permitted("leases", leases(client).await)?;
    signs.extend(
        leases
            .iter()
            .filter_map(|lease| lease_sign(lease, ours, now)),
    );
    let deployments = permitted("deployments", signs_of_deployments(client).await)?;
    signs.extend(deployments);
    let sample = ListParams::default().limit(SAMPLE);
    let servers = permitted(
        "servers",
        Api::<Server>::all(client.clone())
            .list_metadata(&sample)
            .await
            .map(|list| list.items),
    )?;
    signs.extend(
        servers
            .iter()
            .find_map(|server| writer_sign("Server", &server.metadata, now)),
    );
    let bmcs = permitted(
        "bmcs",
        Api::<Bmc>::all(client.clone())
            .list_metadata(&sample)
            .await
            .map(|list| list.items),
    )?;
    signs.extend(
        bmcs.iter()
            .find_map(|bmc| writer_sign("BMC", &bmc.metadata, now)),
    );
    Ok(signs)
}

/// The Leases of the cluster without those of its nodes: one for each, renewed every ten seconds, and never an operator's.
pub async fn leases(client: &Client) -> kube::Result<Vec<Lease>> {
    let but_nodes = ListParams::default().fields("metadata.namespace!=kube-node-lease");
    let listed = Api::<Lease>::all(client.clone()).list(&but_nodes).await;
    listed.map(|list| list.items)
}

/// Deployments are large and may be many: no more than a page of them is held.
async fn signs_of_deployments(client: &Client) -> kube::Result<Vec<Sign>> {
    let api = Api::<Deployment>::all(client.clone());
    let mut page = ListParams::default().limit(SAMPLE);
    let mut signs = Vec::new();
    loop {
        let listed = api.list(&page).await?;
        signs.extend(listed.items.iter().filter_map(deployment_sign));
        match listed.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(signs),
        }
    }
}

fn permitted<K>(what: &str, listed: kube::Result<Vec<K>>) -> anyhow::Result<Vec<K>> {
    match listed {
        Ok(list) => Ok(list),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            tracing::warn!(
                what,
                "not permitted to list these in all namespaces, so this sign of other operators is not seen"
            );
            Ok(Vec::new())
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot look for other operators: listing {what}"))
        }
    }
}

fn lease_sign(lease: &Lease, ours: &Ours, now: Timestamp) -> Option<Sign> {
    let (name, namespace) = (lease.name_any(), lease.namespace().unwrap_or_default());
    let who = if name == METAL_OPERATOR_LEASE {
        METAL_OPERATOR
    } else if ours.is_rival(lease) {
        "another Corten"
    } else {
        return None;
    };
    let age = renewed(lease, now)?;
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    Some(Sign(format!(
        "{who} holds Lease {namespace}/{name} as {holder:?}, renewed {} s ago",
        age.as_secs().max(0)
    )))
}

/// How long ago somebody renewed it who still holds it.
pub fn renewed(lease: &Lease, now: Timestamp) -> Option<SignedDuration> {
    let spec = lease.spec.as_ref()?;
    spec.holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())?;
    let duration = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or(15).into());
    let age = now.duration_since(spec.renew_time.as_ref()?.0);
    // Twice: clocks differ, and a leader that is late is still a leader.
    (age < duration * 2).then_some(age)
}

fn deployment_sign(deployment: &Deployment) -> Option<Sign> {
    let spec = deployment.spec.as_ref()?;
    if spec.replicas == Some(0) {
        return None;
    }
    let labelled = deployment
        .labels()
        .get("app.kubernetes.io/name")
        .is_some_and(|name| name == METAL_OPERATOR)
        && deployment
            .labels()
            .get("control-plane")
            .is_none_or(|plane| plane == "controller-manager");
    let containers = spec.template.spec.iter().flat_map(|pod| &pod.containers);
    let image = containers
        .filter_map(|container| container.image.as_deref())
        .find(|image| METAL_OPERATOR_IMAGES.contains(&image_name(image)));
    let (name, namespace) = (
        deployment.name_any(),
        deployment.namespace().unwrap_or_default(),
    );
    match image {
        Some(image) => Some(Sign(format!(
            "Deployment {namespace}/{name} runs {image} and is not scaled to 0"
        ))),
        None if labelled => Some(Sign(format!(
            "Deployment {namespace}/{name} is labelled app.kubernetes.io/name={METAL_OPERATOR} and is not scaled to 0"
        ))),
        None => None,
    }
}

/// The last part of an image's path, without tag and digest.
fn image_name(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(['@', ':']).next().unwrap_or(last)
}

fn writer_sign(kind: &str, metadata: &ObjectMeta, now: Timestamp) -> Option<Sign> {
    metadata.managed_fields.iter().flatten().find_map(|entry| {
        let manager = entry.manager.as_deref()?;
        let age = now.duration_since(entry.time.as_ref()?.0);
        let foreign = ![names::MANAGER_ENGINE, names::MANAGER_CLAIMS].contains(&manager)
            && !manager.starts_with("kubectl")
            && age < RECENT
            && drives(entry);
        foreign.then(|| {
            let name = metadata.name.as_deref().unwrap_or_default();
            Sign(format!(
                "{manager:?} wrote the status of {kind} {name} {} s ago",
                age.as_secs().max(0)
            ))
        })
    })
}

/// Whether the entry owns a status field that says what the machine does.
fn drives(entry: &ManagedFieldsEntry) -> bool {
    let Some(fields) = entry.fields_v1.as_ref() else {
        return false;
    };
    ["f:state", "f:powerState", "f:firmwareVersion"]
        .iter()
        .any(|field| fields.0.pointer(&format!("/f:status/{field}")).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ours() -> Ours {
        Ours {
            namespace: "corten-system".into(),
            claims_lease: "corten-claims",
            engine_lease: Some("corten-engine".into()),
            selector: String::new(),
        }
    }

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn lease(namespace: &str, name: &str, holder: &str, renewed: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed},
        }))
        .unwrap()
    }

    fn deployment(labels: serde_json::Value, image: &str, replicas: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"namespace": "metal", "name": "manager", "labels": labels},
            "spec": {"replicas": replicas, "selector": {}, "template": {"spec": {"containers": [{"name": "m", "image": image}]}}},
        }))
        .unwrap()
    }

    fn written(manager: &str, time: &str, fields: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(json!({"name": "s1", "managedFields": [
            {"manager": manager, "operation": "Update", "subresource": "status", "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields},
        ]}))
        .unwrap()
    }

    #[test]
    fn a_leader_that_renews_is_a_sign_and_one_that_stopped_is_none() {
        let fresh = lease(
            "metal",
            METAL_OPERATOR_LEASE,
            "manager-0",
            "2026-11-21T11:59:50.000000Z",
        );
        assert!(
            lease_sign(&fresh, &ours(), now())
                .unwrap()
                .to_string()
                .contains("metal/f26702e4.ironcore.dev")
        );
        let stale = lease(
            "metal",
            METAL_OPERATOR_LEASE,
            "manager-0",
            "2026-11-21T11:59:00.000000Z",
        );
        assert_eq!(lease_sign(&stale, &ours(), now()), None);
        let released = lease(
            "metal",
            METAL_OPERATOR_LEASE,
            "",
            "2026-11-21T11:59:59.000000Z",
        );
        assert_eq!(lease_sign(&released, &ours(), now()), None);
    }

    #[test]
    fn our_own_lease_is_no_sign_and_its_twin_in_another_namespace_is() {
        let time = "2026-11-21T11:59:59.000000Z";
        assert_eq!(
            lease_sign(
                &lease("corten-system", "corten-engine", "a", time),
                &ours(),
                now()
            ),
            None
        );
        assert!(
            lease_sign(
                &lease("elsewhere", "corten-engine", "a", time),
                &ours(),
                now()
            )
            .is_some()
        );
    }

    #[test]
    fn an_engine_in_the_same_namespace_is_a_sign_unless_its_selector_is_apart_from_ours() {
        let time = "2026-11-21T11:59:59.000000Z";
        let beside = |selector: Option<&str>| {
            let mut lease = lease("corten-system", "corten-engine-site-a", "a", time);
            lease.metadata.annotations =
                selector.map(|text| [(names::SELECTOR.to_owned(), text.to_owned())].into());
            lease
        };
        let sharded = Ours {
            engine_lease: Some("corten-engine-site-b".into()),
            selector: "corten.dev/agent=b".into(),
            ..ours()
        };
        let apart = beside(Some("corten.dev/agent=a"));
        assert!(lease_sign(&apart, &ours(), now()).is_some());
        assert_eq!(lease_sign(&apart, &sharded, now()), None);
        assert!(lease_sign(&beside(Some("rack=7")), &sharded, now()).is_some());
        assert!(lease_sign(&beside(None), &sharded, now()).is_some());
    }

    #[test]
    fn a_deployment_is_known_by_image_or_label_unless_it_is_scaled_to_0() {
        let image = "ghcr.io/ironcore-dev/metal-operator-controller-manager:v0.7.0@sha256:00";
        assert!(deployment_sign(&deployment(json!({}), image, 1)).is_some());
        assert!(
            deployment_sign(&deployment(
                json!({"app.kubernetes.io/name": "metal-operator"}),
                "own/build:1",
                1
            ))
            .is_some()
        );
        assert_eq!(deployment_sign(&deployment(json!({}), image, 0)), None);
        let companion = "ghcr.io/ironcore-dev/metal-maintenance-operator:v1";
        assert_eq!(
            deployment_sign(&deployment(
                json!({"app.kubernetes.io/name": "mmo"}),
                companion,
                1
            )),
            None
        );
    }

    #[test]
    fn who_wrote_the_state_of_a_server_lately_is_a_sign_and_who_adds_conditions_is_not() {
        let state = json!({"f:status": {"f:state": {}}});
        assert!(
            writer_sign(
                "Server",
                &written("manager", "2026-11-21T11:58:00Z", state.clone()),
                now()
            )
            .is_some()
        );
        assert_eq!(
            writer_sign(
                "Server",
                &written("manager", "2026-11-21T11:00:00Z", state.clone()),
                now()
            ),
            None
        );
        assert_eq!(
            writer_sign(
                "Server",
                &written("corten-engine", "2026-11-21T11:59:59Z", state.clone()),
                now()
            ),
            None
        );
        assert_eq!(
            writer_sign(
                "Server",
                &written("kubectl-edit", "2026-11-21T11:59:59Z", state),
                now()
            ),
            None
        );
        let condition =
            json!({"f:status": {"f:conditions": {"k:{\"type\":\"NetworkReady\"}": {}}}});
        assert_eq!(
            writer_sign(
                "Server",
                &written("readiness", "2026-11-21T11:59:59Z", condition),
                now()
            ),
            None
        );
    }
}
