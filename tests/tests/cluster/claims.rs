//! The allocator against a real API server. The engine's part is played here, so that each test says what the machines do.

use std::{collections::BTreeMap, time::Duration};

use corten_api::{
    metal::{Server, ServerBootConfiguration, ServerClaim},
    names,
};
use corten_claims::ClaimsConfig;
use corten_kit::Lease;
use corten_tests::control_plane;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LABEL: &str = "corten.dev/test";

/// A corner of the shared cluster: a namespace for claims, and servers with a label of their own.
struct Corner {
    client: Client,
    name: String,
    stop: CancellationToken,
}

impl Corner {
    async fn new() -> Self {
        let client = control_plane::client().await;
        let name = control_plane::unique("claims");
        let namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        Self {
            client,
            name,
            stop: CancellationToken::new(),
        }
    }

    fn servers(&self) -> Api<Server> {
        Api::all(self.client.clone())
    }

    fn claims(&self) -> Api<ServerClaim> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    fn server_name(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    async fn add_server(&self, name: &str, labels: &[(&str, &str)], taints: Value) {
        let mut all: BTreeMap<_, _> = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        all.insert(LABEL.into(), self.name.clone());
        let full = self.server_name(name);
        let server = json!({
            "metadata": { "name": full, "labels": all },
            "spec": { "systemUUID": format!("uuid-of-{full}"), "taints": taints },
        });
        let server = serde_json::from_value(server).unwrap();
        self.servers()
            .create(&PostParams::default(), &server)
            .await
            .unwrap();
        self.say(name, json!({ "state": "Available", "powerState": "Off" }))
            .await;
    }

    async fn add_servers(&self, count: usize) {
        stream::iter(0..count)
            .for_each_concurrent(16, |i| async move {
                self.add_server(&format!("s{i}"), &[], json!([])).await
            })
            .await;
    }

    /// Writes a server's status.
    async fn say(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.servers()
            .patch_status(&self.server_name(name), &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    async fn claim(&self, name: &str, spec: Value) {
        let mut whole = json!({ "power": "On", "image": "example.org/os:1" });
        whole
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        let claim =
            json!({ "metadata": { "name": name, "labels": { LABEL: self.name } }, "spec": whole });
        let claim = serde_json::from_value(claim).unwrap();
        self.claims()
            .create(&PostParams::default(), &claim)
            .await
            .unwrap();
    }

    async fn delete(&self, claim: &str) {
        let _ = self.claims().delete(claim, &DeleteParams::default()).await;
    }

    fn allocator(&self, seed: u64) -> JoinHandle<()> {
        let ours = format!("{LABEL}={}", self.name);
        let config = ClaimsConfig {
            claims: ours.clone(),
            servers: ours,
            seed,
            ..ClaimsConfig::new(Lease::alone("test"))
        };
        tokio::spawn(corten_claims::run(
            self.client.clone(),
            config,
            self.stop.clone(),
        ))
    }

    async fn all_servers(&self) -> Vec<Server> {
        self.servers()
            .list(&ListParams::default().labels(&format!("{LABEL}={}", self.name)))
            .await
            .unwrap()
            .items
    }

    async fn all_claims(&self) -> Vec<ServerClaim> {
        self.claims()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    }

    /// The claim of each bound server. Fails when a claim has two.
    async fn bindings(&self) -> BTreeMap<String, String> {
        let mut bound = BTreeMap::new();
        for server in self.all_servers().await {
            if let Some(claim) = &server.spec.server_claim_ref {
                let first = bound.insert(claim.name.clone(), server.name_any());
                assert_eq!(first, None, "claim {} has two servers", claim.name);
            }
        }
        bound
    }

    /// Plays the engine: what is released goes off, and is clean at once.
    fn engine(&self) -> JoinHandle<()> {
        let (servers, stop) = (self.servers(), self.stop.clone());
        let ours = ListParams::default().labels(&format!("{LABEL}={}", self.name));
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                for server in servers
                    .list(&ours)
                    .await
                    .map(|list| list.items)
                    .unwrap_or_default()
                {
                    let notes = server.annotations();
                    if notes.contains_key(names::CLAIM_UID)
                        && notes.get(names::RELEASE) == notes.get(names::CLAIM_UID)
                    {
                        let change = json!({
                            "metadata": {
                                "resourceVersion": server.resource_version(),
                                "annotations": { names::CLAIM_UID: null, names::RELEASE: null, names::DIRTY: null },
                            },
                            "spec": { "serverClaimRef": null, "bootConfigurationRef": null },
                        });
                        let _ = servers
                            .patch(
                                &server.name_any(),
                                &PatchParams::default(),
                                &Patch::Merge(change),
                            )
                            .await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    }

    async fn eventually<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        mut look: impl FnMut() -> F,
    ) -> T {
        for _ in 0..600 {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!(
            "not within a minute: {what}; claims: {:#?}",
            self.states().await
        );
    }

    async fn states(&self) -> Vec<(String, Option<String>)> {
        let claims = self.all_claims().await;
        claims
            .iter()
            .map(|claim| (claim.name_any(), reason(claim, names::CONDITION_BOUND)))
            .collect()
    }

    async fn eventually_bound(&self, count: usize) -> BTreeMap<String, String> {
        self.eventually(&format!("{count} claims bound"), || async {
            let bound = self.bindings().await;
            (bound.len() == count).then_some(bound)
        })
        .await
    }

    async fn eventually_says(&self, claim: &str, kind: &str, wanted: &str) -> ServerClaim {
        self.eventually(&format!("{claim} says {kind}: {wanted}"), || async {
            let claim = self.claims().get_opt(claim).await.unwrap()?;
            (reason(&claim, kind).as_deref() == Some(wanted)).then_some(claim)
        })
        .await
    }

    async fn eventually_gone(&self, claim: &str) {
        self.eventually(&format!("{claim} is gone"), || async {
            self.claims()
                .get_opt(claim)
                .await
                .unwrap()
                .is_none()
                .then_some(())
        })
        .await;
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn reason(claim: &ServerClaim, kind: &str) -> Option<String> {
    let conditions = &claim.status.as_ref()?.conditions;
    conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map(|condition| condition.reason.clone())
}

fn phase(claim: &ServerClaim) -> Option<&str> {
    claim
        .status
        .as_ref()?
        .phase
        .as_ref()
        .map(|phase| phase.as_str())
}

#[tokio::test]
async fn two_hundred_claims_at_once_bind_a_hundred_servers_and_the_rest_get_theirs_as_servers_come_free()
 {
    let corner = Corner::new().await;
    corner.add_servers(100).await;
    corner.allocator(0);
    stream::iter(0..200)
        .for_each_concurrent(32, |i| {
            let corner = &corner;
            async move { corner.claim(&format!("c{i}"), json!({})).await }
        })
        .await;
    let first = corner.eventually_bound(100).await;
    corner
        .eventually("all claims say how they stand", || async {
            let claims = corner.all_claims().await;
            let count = |wanted: &str| {
                claims
                    .iter()
                    .filter(|claim| phase(claim) == Some(wanted))
                    .count()
            };
            (count("Bound") == 100 && count("Unbound") == 100).then_some(())
        })
        .await;
    for claim in corner.all_claims().await {
        // Third parties read the server from the claim.
        let named = claim
            .spec
            .server_ref
            .as_ref()
            .map(|server| server.name.clone());
        assert_eq!(
            named.as_ref(),
            first.get(&claim.name_any()),
            "{}",
            claim.name_any()
        );
    }

    corner.engine();
    for claim in first.keys() {
        corner.delete(claim).await;
    }
    let second = corner.eventually_bound(100).await;
    corner
        .eventually("the first hundred are gone", || async {
            (corner.all_claims().await.len() == 100).then_some(())
        })
        .await;
    let second = if second.keys().any(|claim| first.contains_key(claim)) {
        corner.eventually_bound(100).await
    } else {
        second
    };
    assert!(second.keys().all(|claim| !first.contains_key(claim)));
}

#[tokio::test]
async fn two_allocators_that_both_think_they_act_bind_nothing_twice() {
    let corner = Corner::new().await;
    corner.add_servers(20).await;
    corner.allocator(1);
    corner.allocator(2);
    corner.engine();
    stream::iter(0..40)
        .for_each_concurrent(16, |i| {
            let corner = &corner;
            async move { corner.claim(&format!("c{i}"), json!({})).await }
        })
        .await;
    let bound = corner.eventually_bound(20).await;
    for claim in bound.keys().take(10) {
        corner.delete(claim).await;
        corner.eventually_gone(claim).await;
        corner.bindings().await;
    }
    corner.eventually_bound(20).await;
    corner
        .eventually("thirty claims, twenty of them bound", || async {
            let claims = corner.all_claims().await;
            let bound = claims
                .iter()
                .filter(|claim| phase(claim) == Some("Bound"))
                .count();
            (claims.len() == 30 && bound == 20).then_some(())
        })
        .await;
}

#[tokio::test]
async fn an_allocator_that_is_killed_again_and_again_loses_no_claim_and_binds_none_twice() {
    let corner = Corner::new().await;
    corner.add_servers(12).await;
    for i in 0..16 {
        corner.claim(&format!("c{i}"), json!({})).await;
    }
    for pause in [40, 60, 80, 110, 150, 200, 260] {
        let running = corner.allocator(pause);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        running.abort();
        corner.bindings().await;
    }
    corner.allocator(0);
    corner.eventually_bound(12).await;
    corner
        .eventually("each bound claim says so", || async {
            let claims = corner.all_claims().await;
            let bound = claims
                .iter()
                .filter(|claim| phase(claim) == Some("Bound"))
                .count();
            let boots: Api<ServerBootConfiguration> =
                Api::namespaced(corner.client.clone(), &corner.name);
            let boots = boots
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .len();
            (bound == 12 && boots == 12).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_deleted_claim_stays_until_its_server_is_confirmed_off_and_says_what_keeps_it() {
    let corner = Corner::new().await;
    corner.add_server("s", &[], json!([])).await;
    corner.allocator(0);
    corner
        .claim(
            "c",
            json!({ "serverRef": { "name": corner.server_name("s") } }),
        )
        .await;
    let bound = corner
        .eventually_says("c", names::CONDITION_BOUND, "Bound")
        .await;
    corner
        .say("s", json!({ "state": "Reserved", "powerState": "On" }))
        .await;
    corner.delete("c").await;
    corner
        .eventually("the release is on the server", || async {
            let server = corner
                .servers()
                .get(&corner.server_name("s"))
                .await
                .unwrap();
            (server.annotations().get(names::RELEASE) == bound.metadata.uid.as_ref()).then_some(())
        })
        .await;
    let unreachable = json!({ "type": "PoweredOff", "status": "False", "reason": "BMCUnreachable",
        "message": "BMC b has not answered since 10:00", "lastTransitionTime": "2026-11-21T10:00:00Z" });
    corner
        .say("s", json!({ "conditions": [unreachable] }))
        .await;
    corner
        .eventually_says("c", names::CONDITION_RELEASED, "BMCUnreachable")
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(corner.claims().get_opt("c").await.unwrap().is_some());
    corner.engine();
    corner.eventually_gone("c").await;
}

#[tokio::test]
async fn claims_deleted_while_they_are_being_bound_leave_nothing_behind() {
    let corner = Corner::new().await;
    corner.add_servers(10).await;
    corner.allocator(0);
    corner.engine();
    stream::iter(0..30_u64)
        .for_each_concurrent(10, |i| {
            let corner = &corner;
            async move {
                let name = format!("c{i}");
                corner.claim(&name, json!({})).await;
                tokio::time::sleep(Duration::from_millis(i * 7 % 60)).await;
                corner.delete(&name).await;
            }
        })
        .await;
    corner
        .eventually("no claim and no binding is left", || async {
            (corner.all_claims().await.is_empty() && corner.bindings().await.is_empty())
                .then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_claim_made_anew_under_the_same_name_neither_inherits_the_server_nor_releases_it() {
    let corner = Corner::new().await;
    corner.add_server("s", &[], json!([])).await;
    corner.allocator(0);
    corner.claim("c", json!({})).await;
    corner
        .eventually_says("c", names::CONDITION_BOUND, "Bound")
        .await;
    corner
        .say("s", json!({ "state": "Reserved", "powerState": "On" }))
        .await;
    // Somebody takes the finalizer off a claim that is being deleted, and makes it again.
    let strip = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    let deleted = async {
        corner
            .claims()
            .delete("c", &DeleteParams::default())
            .await
            .unwrap();
        let _ = corner
            .claims()
            .patch("c", &PatchParams::default(), &strip)
            .await;
    };
    corner.stop.cancel();
    deleted.await;
    corner.eventually_gone("c").await;
    let before = corner
        .servers()
        .get(&corner.server_name("s"))
        .await
        .unwrap();
    let again = Corner {
        client: corner.client.clone(),
        name: corner.name.clone(),
        stop: CancellationToken::new(),
    };
    again.claim("c", json!({})).await;
    again.allocator(0);
    let anew = again
        .eventually_says("c", names::CONDITION_BOUND, "ServerHeld")
        .await;
    assert_eq!(phase(&anew), Some("Unbound"));
    again.delete("c").await;
    again.eventually_gone("c").await;
    let after = corner
        .servers()
        .get(&corner.server_name("s"))
        .await
        .unwrap();
    assert_eq!(
        before.metadata.resource_version, after.metadata.resource_version,
        "the server was not written"
    );
}

#[tokio::test]
async fn a_claim_for_a_server_that_does_not_exist_says_so_and_is_bound_when_it_does() {
    let corner = Corner::new().await;
    corner.allocator(0);
    corner
        .claim(
            "c",
            json!({ "serverRef": { "name": corner.server_name("late") } }),
        )
        .await;
    corner
        .eventually_says("c", names::CONDITION_BOUND, "ServerNotFound")
        .await;
    corner.add_server("late", &[], json!([])).await;
    corner
        .eventually_says("c", names::CONDITION_BOUND, "Bound")
        .await;
}

#[tokio::test]
async fn a_tainted_server_goes_only_to_a_claim_that_tolerates_it() {
    let corner = Corner::new().await;
    corner
        .add_server(
            "kept",
            &[("zone", "a")],
            json!([{ "key": "team", "value": "red", "effect": "NoBind" }]),
        )
        .await;
    corner.allocator(0);
    let zone_a = json!({ "matchLabels": { "zone": "a" } });
    corner
        .claim("blue", json!({ "serverSelector": zone_a }))
        .await;
    let blue = corner
        .eventually_says("blue", names::CONDITION_BOUND, "NoServerFits")
        .await;
    let conditions = blue.status.unwrap().conditions;
    assert!(
        conditions[0]
            .message
            .contains("1 with the taint team=red:NoBind"),
        "{}",
        conditions[0].message
    );
    let tolerations =
        json!([{ "key": "team", "operator": "Equal", "value": "red", "effect": "NoBind" }]);
    corner
        .claim(
            "red",
            json!({ "serverSelector": zone_a, "tolerations": tolerations }),
        )
        .await;
    corner
        .eventually_says("red", names::CONDITION_BOUND, "Bound")
        .await;
    assert_eq!(corner.bindings().await.len(), 1);
}
