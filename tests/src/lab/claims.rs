use std::collections::BTreeMap;

use corten_api::metal::{Server, ServerClaim};
use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::Lab;

/// What tests boot: nobody fetches it in this scope, but its text is checked.
pub const IMAGE: &str = "registry.example.com/images/debian:12";

impl Lab {
    /// Makes a claim for any server, powered on.
    pub async fn claim(&self, name: &str) -> ServerClaim {
        self.claim_with(name, json!({})).await
    }

    /// Makes a claim whose spec has `spec` beside power and image.
    pub async fn claim_with(&self, name: &str, spec: Value) -> ServerClaim {
        self.claim_annotated(name, &[], spec).await
    }

    /// The same with annotations.
    pub async fn claim_annotated(
        &self,
        name: &str,
        annotations: &[(&str, &str)],
        spec: Value,
    ) -> ServerClaim {
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        let mut whole = json!({"power": "On", "image": IMAGE});
        if let (Some(whole), Some(more)) = (whole.as_object_mut(), spec.as_object()) {
            whole.extend(more.clone());
        }
        let claim: ServerClaim = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": self.namespace(), "labels": self.labels(), "annotations": annotations},
            "spec": whole,
        }))
        .expect("a ServerClaim");
        let made = self
            .here::<ServerClaim>()
            .create(&PostParams::default(), &claim)
            .await;
        made.unwrap_or_else(|error| panic!("claim {name}: {error}"))
    }

    /// Makes `count` claims for any server, many at once. Returns their names.
    pub async fn claim_many(&self, count: usize) -> Vec<String> {
        let names: Vec<String> = (0..count)
            .map(|index| format!("claim-{index:03}"))
            .collect();
        stream::iter(names.clone())
            .for_each_concurrent(32, |name| async move { drop(self.claim(&name).await) })
            .await;
        names
    }

    /// Deletes a claim; returns at once, the claim goes when its server is confirmed off.
    pub async fn release(&self, name: &str) {
        self.delete(&self.here::<ServerClaim>(), name).await;
    }

    /// The server that a claim has, once it is bound.
    pub async fn bound_server(&self, claim: &str) -> Server {
        let world = self
            .eventually(|world| world.claim(claim).is_some_and(super::World::is_bound))
            .await;
        let name = world
            .claim(claim)
            .and_then(|claim| claim.spec.server_ref.as_ref())
            .map(|server| server.name.clone());
        let name = name.expect("a bound claim names its server");
        world
            .server(&name)
            .cloned()
            .expect("the server that the claim names")
    }

    /// Servers to which more than one claim believes to be bound, or whose claim believes otherwise, in words.
    pub async fn servers_bound_twice(&self) -> Vec<String> {
        let world = self.world().await;
        let mut claimed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for claim in &world.claims {
            if let Some(server) = &claim.spec.server_ref {
                claimed
                    .entry(&server.name)
                    .or_default()
                    .push(claim.name_any());
            }
        }
        claimed
            .into_iter()
            .filter(|(_, claims)| claims.len() > 1)
            .map(|(server, claims)| format!("{server} by {}", claims.join(" and ")))
            .collect()
    }
}
