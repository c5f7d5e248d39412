//! Objects move from one engine's selector to another's: no hardware notices.

use std::time::Duration;

use corten_api::metal::{Bmc, BmcSecret, Endpoint, Server, ServerState};
use corten_api::names;
use corten_engine::EngineConfig;
use corten_tests::lab::{Lab, World, readable_drives, resets};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Changes what a machine did or was told since its counts were set to zero: everything but reading and logging in or out.
fn changes(lab: &Lab, machine: usize) -> u64 {
    let counts = lab.fleet().machine(machine).counts();
    let posts = counts.method("POST") + counts.method("PATCH") + counts.method("PUT");
    let logins = counts.by_class.get("POST SessionService").copied();
    posts - logins.unwrap_or(0)
}

/// Relabels a machine's objects as `docs/operating.md` says: what makes others first. Returns the versions that this gave BMC and Server.
async fn relabel(lab: &Lab, endpoint: &str, server: &str, shard: &str) -> [Option<String>; 2] {
    let change = json!({"metadata": {"labels": {(names::AGENT): shard}}});
    lab.edit(&lab.all::<Endpoint>(), endpoint, change.clone())
        .await;
    let bmc = lab.edit(&lab.all::<Bmc>(), endpoint, change.clone()).await;
    let server = lab.edit(&lab.all::<Server>(), server, change).await;
    [bmc.resource_version(), server.resource_version()]
}

/// Waits until a machine has no session and hears nothing for a while.
async fn is_quiet(machine: &corten_sim::MachineHandle) -> bool {
    for _ in 0..30 {
        machine.reset_counts();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if machine.sessions() == 0 && machine.counts().method("GET") == 0 {
            return true;
        }
        println!("{} sessions, {:?}", machine.sessions(), machine.counts());
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_a_selector_is_let_go_and_taken_over_by_the_other_engine_without_a_touch() {
    let lab = Lab::start().small().servers(3).idle().await;
    lab.policy(json!({"cleaning": {"acceptReported": true}}))
        .await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 3).await;
    // One runs for a claim, one is free; the third stays where it is.
    let (busy, free) = (
        lab.server_of(0).await.name_any(),
        lab.server_of(1).await.name_any(),
    );
    lab.claim_with("tenant", json!({"serverRef": {"name": busy}}))
        .await;
    lab.eventually(|world| {
        world.bound() == 1
            && world.powered_on() == 1
            && world.says(&busy, "Ready", "True", "Reserved")
    })
    .await;
    let machine = lab.fleet().machine(0);
    machine.write_drives("what the tenant lives from");
    let servers: Api<Server> = lab.all();
    let bmcs: Api<Bmc> = lab.all();
    let endpoints = [lab.endpoint(0), lab.endpoint(1)];
    let moved = [busy.as_str(), free.as_str()];
    lab.fleet().reset_counts();

    let shard = format!("{}-b", lab.name());
    let mut left = Vec::new();
    for (endpoint, server) in endpoints.iter().zip(moved) {
        left.push(relabel(&lab, endpoint, server, &shard).await);
    }
    // Let go: its session is closed, nothing is deleted, nothing is written but the label.
    for (index, server) in moved.iter().enumerate() {
        assert!(is_quiet(&lab.fleet().machine(index)).await, "{server}");
    }
    assert!(lab.fleet().machine(2).sessions() > 0, "the third is kept");
    lab.fleet().reset_counts();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let unwritten = async |when: &str| {
        for (index, server) in moved.iter().enumerate() {
            let (bmc, server) = (
                bmcs.get(endpoints[index]).await.unwrap(),
                servers.get(server).await.unwrap(),
            );
            assert_eq!(
                [bmc.resource_version(), server.resource_version()],
                left[index],
                "{when}: {:?} {:?}",
                bmc.status,
                server.status
            );
            assert!(server.metadata.deletion_timestamp.is_none());
            assert!(bmc.metadata.deletion_timestamp.is_none());
        }
    };
    for index in [0, 1] {
        let counts = lab.fleet().machine(index).counts();
        assert_eq!(counts.method("GET"), 0, "it is let go");
    }
    unwritten("let go").await;

    // The other engine, whose selector they have now.
    let stop = CancellationToken::new();
    let config = EngineConfig {
        selector: Some(format!("{}={shard}", names::AGENT)),
        macs: corten_engine::macdb::MacDatabase::only_file(
            "the fleet's",
            &lab.fleet().mac_database(),
        )
        .unwrap()
        .into(),
        namespace: lab.namespace().to_owned(),
        lease_name: "corten-engine-b".into(),
        instance: shard.clone(),
        ..EngineConfig::default()
    };
    let engine = tokio::spawn(corten_engine::run(lab.client(), config, stop.clone()));
    for index in [0, 1] {
        for _ in 0..300 {
            if lab.fleet().machine(index).sessions() > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(lab.fleet().machine(index).sessions() > 0, "taken over");
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    for index in [0, 1] {
        assert_eq!(changes(&lab, index), 0, "no hardware action");
    }
    unwritten("taken over: nothing is due").await;
    assert_eq!(resets(&machine), ["On"]);
    assert_eq!(readable_drives(&machine).len(), machine.drives().len());
    // It works for its new owner: a release is carried out by the other engine.
    let spare = servers.get(&free).await.unwrap();
    assert_eq!(World::state(&spare), Some(&ServerState::Available));
    lab.annotate_server(&free, names::OPERATION, names::OPERATION_FORCE_ON_SERVER)
        .await;
    for _ in 0..100 {
        if lab.fleet().machine(1).power_state() == "On" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(resets(&lab.fleet().machine(1)), ["On"]);
    stop.cancel();
    let _ = engine.await;
}

async fn move_to<K>(lab: &Lab, name: &str, shard: &str)
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let change = json!({"metadata": {"labels": {(names::AGENT): shard}}});
    lab.edit(&lab.all::<K>(), name, change).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_whatever_order_a_machines_objects_change_their_labels_it_is_not_touched_and_keeps_its_tenant()
 {
    let lab = Lab::start().small().servers(2).idle().await;
    lab.policy(json!({"cleaning": {"acceptReported": true}}))
        .await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 2).await;
    let server = [
        lab.server_of(0).await.name_any(),
        lab.server_of(1).await.name_any(),
    ];
    for name in &server {
        lab.claim_with(
            &format!("tenant-{name}"),
            json!({"serverRef": {"name": name}}),
        )
        .await;
    }
    lab.eventually(|world| world.bound() == 2 && world.powered_on() == 2)
        .await;
    lab.fleet().reset_counts();
    let away = format!("{}-b", lab.name());
    let home = lab.server_of(0).await.labels()[names::AGENT].clone();
    for shard in [&away, &home] {
        // Server first and what makes it last; and its BMC first.
        move_to::<Server>(&lab, &server[0], shard).await;
        move_to::<Bmc>(&lab, lab.endpoint(0), shard).await;
        move_to::<Endpoint>(&lab, lab.endpoint(0), shard).await;
        move_to::<Bmc>(&lab, lab.endpoint(1), shard).await;
        move_to::<Endpoint>(&lab, lab.endpoint(1), shard).await;
        move_to::<Server>(&lab, &server[1], shard).await;
    }
    lab.eventually(|world| {
        world.bound() == 2
            && server
                .iter()
                .all(|name| world.says(name, "Ready", "True", "Reserved"))
    })
    .await;
    for index in [0, 1] {
        assert_eq!(changes(&lab, index), 0, "{}", server[index]);
        assert_eq!(resets(&lab.fleet().machine(index)), ["On"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_whose_bmc_another_engine_has_says_so_and_its_device_is_left_alone() {
    let lab = Lab::start().small().servers(1).idle().await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    let home = lab.server_of(0).await.labels()[names::AGENT].clone();
    let name = lab.endpoint(0);
    let (endpoints, secrets) = (lab.all::<Endpoint>(), lab.all::<BmcSecret>());
    let before = secrets.get(name).await.unwrap();
    let wake = async |word: &str| {
        let change = json!({"metadata": {"labels": {"metadata.metal.ironcore.dev/word": word}}});
        lab.edit(&endpoints, name, change).await
    };
    let says = async |reason: &str| {
        for _ in 0..150 {
            let endpoint = endpoints.get(name).await.unwrap();
            let conditions = endpoint.status.unwrap_or_default().conditions;
            if conditions
                .iter()
                .any(|it| it.type_ == "Ready" && it.reason == reason)
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    };

    move_to::<Bmc>(&lab, name, "elsewhere").await;
    lab.fleet().reset_counts();
    wake("one").await;
    assert!(says("BMCNotSelected").await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let counts = lab.fleet().machine(0).counts();
    assert!(counts.method("GET") <= 2, "looked at once: {counts:?}");
    assert_eq!(counts.logins, 0);
    let after = secrets.get(name).await.unwrap();
    assert_eq!(after.resource_version(), before.resource_version());

    move_to::<Bmc>(&lab, name, &home).await;
    wake("two").await;
    assert!(says("BMCCreated").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_stays_while_a_server_that_left_the_selector_refers_to_it() {
    let lab = Lab::start().small().servers(1).idle().await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    let server = lab.server_of(0).await;
    let home = server.labels()[names::AGENT].clone();
    move_to::<Server>(&lab, &server.name_any(), "elsewhere").await;
    let (bmcs, servers): (Api<Bmc>, Api<Server>) = (lab.all(), lab.all());
    lab.delete(&lab.all::<Endpoint>(), lab.endpoint(0)).await;
    let _ = bmcs.delete(lab.endpoint(0), &Default::default()).await;
    let held = async || {
        let bmc = bmcs.get_opt(lab.endpoint(0)).await.unwrap()?;
        let conditions = bmc.status.unwrap_or_default().conditions;
        let held = conditions.into_iter().find(|c| c.type_ == "Held")?;
        held.message.contains(&server.name_any()).then_some(())
    };
    for _ in 0..100 {
        if held().await.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(held().await.is_some());
    tokio::time::sleep(Duration::from_secs(6)).await;
    let kept = servers.get(&server.name_any()).await.unwrap();
    assert!(
        kept.metadata.deletion_timestamp.is_none(),
        "not ours to delete"
    );
    let of_it = format!("spec.bmcRef.name={}", lab.endpoint(0));
    let selected = servers.list(&ListParams::default().fields(&of_it)).await;
    assert_eq!(
        selected.unwrap().items.len(),
        1,
        "the API server selects by it, so that nobody reads the fleet for it"
    );
    assert!(held().await.is_some());
    // Back home, it goes with its BMC.
    move_to::<Server>(&lab, &server.name_any(), &home).await;
    for _ in 0..150 {
        let left = (
            bmcs.get_opt(lab.endpoint(0)).await.unwrap(),
            servers.get_opt(&server.name_any()).await.unwrap(),
        );
        if left == (None, None) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("not deleted");
}
