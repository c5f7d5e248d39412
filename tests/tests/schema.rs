//! The definitions, judged by a real API server: what it accepts, and what it refuses with which words.
//!
//! In a binary of its own: its claims and servers are nobody's, and must not meet an allocator.

use std::sync::atomic::{AtomicU32, Ordering};

use corten_api::samples::{Case, Write, cases, manifests, merge};
use corten_tests::control_plane;
use kube::{
    Api, Client, Error, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
    },
};
use serde_json::{Value, json};

const DRY_RUN: PostParams = PostParams {
    dry_run: true,
    field_manager: None,
};

/// Where an object goes: its kind's plural as the definition has it, and its namespace.
fn api(client: &Client, manifest: &Value) -> Api<DynamicObject> {
    let kind = manifest["kind"].as_str().unwrap();
    let crd = corten_api::crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind)
        .unwrap();
    let gvk = GroupVersionKind::gvk(&crd.spec.group, &crd.spec.versions[0].name, kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &crd.spec.names.plural);
    match manifest["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

fn object(manifest: &Value) -> DynamicObject {
    serde_json::from_value(manifest.clone()).unwrap()
}

/// The manifest under a name that no other case uses.
fn renamed(manifest: &Value) -> Value {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut copy = manifest.clone();
    let name = format!(
        "{}-{}",
        manifest["metadata"]["name"].as_str().unwrap(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    merge(&mut copy, &json!({ "metadata": { "name": name } }));
    copy
}

/// A ServerInventory has no status subresource: it is written whole.
fn is_whole(manifest: &Value) -> bool {
    manifest["kind"] == "ServerInventory"
}

/// Creates `manifest` and, where it has one, its status.
async fn create(api: &Api<DynamicObject>, manifest: &Value) -> Result<DynamicObject, Error> {
    let created = api
        .create(&PostParams::default(), &object(manifest))
        .await?;
    if manifest.get("status").is_none() || is_whole(manifest) {
        return Ok(created);
    }
    let mut status = object(manifest);
    status.metadata.resource_version = created.resource_version();
    api.replace_status(&created.name_any(), &PostParams::default(), &status)
        .await
}

async fn send(client: &Client, manifest: &Value, case: &Case) -> Result<DynamicObject, Error> {
    let manifest = renamed(manifest);
    let api = api(client, &manifest);
    let name = manifest["metadata"]["name"].as_str().unwrap().to_owned();
    let mut changed = manifest.clone();
    merge(&mut changed, &case.merge);
    if case.write == Write::Create {
        return api.create(&DRY_RUN, &object(&changed)).await;
    }
    let stored = create(&api, &manifest)
        .await
        .unwrap_or_else(|error| panic!("{}: the manifest itself: {error}", case.case));
    let mut changed = object(&changed);
    changed.metadata.resource_version = stored.resource_version();
    let answer = match case.write {
        Write::Status if !is_whole(&manifest) => {
            api.replace_status(&name, &PostParams::default(), &changed)
                .await
        }
        _ => api.replace(&name, &PostParams::default(), &changed).await,
    };
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    answer
}

/// Whether all of `part` is in `whole`, lists by place; what is empty may be gone.
fn is_within(part: &Value, whole: Option<&Value>) -> bool {
    match (part, whole) {
        (Value::Object(part), Some(Value::Object(whole))) => part
            .iter()
            .all(|(name, value)| is_within(value, whole.get(name))),
        (Value::Array(part), Some(Value::Array(whole))) => {
            part.len() == whole.len()
                && part
                    .iter()
                    .zip(whole)
                    .all(|(part, whole)| is_within(part, Some(whole)))
        }
        (part, whole) => Some(part) == whole,
    }
}

#[tokio::test]
async fn every_sample_is_accepted_and_nothing_of_it_is_dropped() {
    let client = control_plane::client().await;
    for manifest in manifests().unwrap() {
        let manifest = renamed(&manifest);
        let api = api(&client, &manifest);
        let stored = create(&api, &manifest)
            .await
            .unwrap_or_else(|error| panic!("{manifest}: {error}"));
        let stored = serde_json::to_value(&stored).unwrap();
        assert!(is_within(&manifest, Some(&stored)), "{manifest}\n{stored}");
        api.delete(
            manifest["metadata"]["name"].as_str().unwrap(),
            &DeleteParams::default(),
        )
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn every_valid_change_is_accepted_and_every_invalid_one_refused_in_plain_words() {
    let client = control_plane::client().await;
    let manifests = manifests().unwrap();
    let mut wrong = Vec::new();
    for case in cases().unwrap() {
        let manifest = manifests
            .iter()
            .find(|manifest| manifest["metadata"]["name"] == *case.of)
            .expect(&case.of);
        match (send(&client, manifest, &case).await, &case.refused) {
            (Ok(_), None) => {}
            (Ok(_), Some(_)) => wrong.push(format!("{} ({}): accepted", case.case, case.of)),
            (Err(Error::Api(status)), Some(words))
                if status.code == 422 && status.message.contains(words.as_str()) => {}
            (Err(error), _) => wrong.push(format!("{} ({}): {error}", case.case, case.of)),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_left_out_is_filled_in_as_the_original_does() {
    let client = control_plane::client().await;
    let manifests = manifests().unwrap();
    let sample = |name: &str| {
        manifests
            .iter()
            .find(|manifest| manifest["metadata"]["name"] == name)
            .unwrap()
            .clone()
    };
    for (name, pointer, value) in [
        ("server-minimal", "/spec/reclaimPolicy", json!("Recycle")),
        ("server-minimal", "/spec/unclaimable", json!(false)),
        (
            "server-inline-bmc-core-secret",
            "/spec/taints/0/effect",
            json!("NoBind"),
        ),
        ("maintenance-minimal", "/spec/priority", json!(0)),
        ("rule-minimal", "/spec/taint/effect", json!("NoBind")),
    ] {
        let manifest = sample(name);
        let answer = api(&client, &manifest)
            .create(&DRY_RUN, &object(&manifest))
            .await
            .unwrap();
        assert_eq!(
            serde_json::to_value(answer).unwrap().pointer(pointer),
            Some(&value),
            "{name} {pointer}"
        );
    }
}

/// What `manager` applies, and what the object then is.
async fn apply(
    api: &Api<DynamicObject>,
    name: &str,
    manager: &str,
    part: Value,
    of_status: bool,
) -> Value {
    let mut patch = json!({ "apiVersion": "metal.ironcore.dev/v1alpha1", "kind": "Server", "metadata": { "name": name } });
    merge(&mut patch, &part);
    let (params, patch) = (PatchParams::apply(manager), Patch::Apply(patch));
    let answer = if of_status {
        api.patch_status(name, &params, &patch).await
    } else {
        api.patch(name, &params, &patch).await
    };
    serde_json::to_value(answer.unwrap()).unwrap()
}

#[tokio::test]
async fn the_taints_and_conditions_of_two_writers_live_side_by_side() {
    let client = control_plane::client().await;
    let manifest = renamed(&json!({
        "apiVersion": "metal.ironcore.dev/v1alpha1",
        "kind": "Server",
        "metadata": { "name": "two-writers" },
        "spec": { "systemUUID": "38947555-7742-3448-3784-823347823899" },
    }));
    let name = manifest["metadata"]["name"].as_str().unwrap();
    let api = api(&client, &manifest);
    create(&api, &manifest).await.unwrap();

    // The second one's effect is left out, and yet it is another taint than the first's: the default is part of the key.
    let taint = |taint: Value| json!({ "spec": { "taints": [taint] } });
    apply(
        &api,
        name,
        "one",
        taint(json!({ "key": "gpu", "effect": "Evict" })),
        false,
    )
    .await;
    let server = apply(
        &api,
        name,
        "two",
        taint(json!({ "key": "gpu", "value": "h100" })),
        false,
    )
    .await;
    assert_eq!(
        server["spec"]["taints"].as_array().unwrap().len(),
        2,
        "{server}"
    );
    let server = apply(
        &api,
        name,
        "one",
        json!({ "spec": { "taints": [] } }),
        false,
    )
    .await;
    assert_eq!(
        server["spec"]["taints"],
        json!([{ "key": "gpu", "value": "h100", "effect": "NoBind" }])
    );

    let condition = |kind: &str| {
        let condition = json!({ "type": kind, "status": "True", "reason": "Test", "message": "", "lastTransitionTime": "2026-11-21T09:00:00Z" });
        json!({ "status": { "conditions": [condition] } })
    };
    apply(&api, name, "one", condition("Ready"), true).await;
    let server = apply(&api, name, "two", condition("NetworkReady"), true).await;
    assert_eq!(
        server["status"]["conditions"].as_array().unwrap().len(),
        2,
        "{server}"
    );
    api.delete(name, &DeleteParams::default()).await.unwrap();
}
