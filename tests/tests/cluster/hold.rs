//! Hold: objects that vanished, were made anew, or came back from a backup are no reason to touch a machine.

use std::time::Duration;

use corten_api::corten::{ServerInventory, ServerRun};
use corten_api::metal::{
    Bmc, BmcSecret, Endpoint, PowerState, Server, ServerBootConfiguration, ServerClaim, ServerState,
};
use corten_api::names;
use corten_sim::{Erase, MachineHandle};
use corten_tests::lab::{Lab, World, note, readable_drives, resets};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A laboratory with one machine that runs for the claim `tenant`.
async fn one_tenant() -> Lab {
    let lab = Lab::start().small().servers(1).idle().await;
    policy(&lab).await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    lab.claim("tenant").await;
    runs_for_its_claim(&lab).await;
    lab.fleet()
        .machine(0)
        .write_drives("what the tenant lives from");
    lab
}

async fn policy(lab: &Lab) {
    let wishes =
        json!({"cleaning": {"acceptReported": true}, "timeouts": {"shutdownGraceSeconds": 20}});
    lab.policy(wishes).await;
}

async fn runs_for_its_claim(lab: &Lab) {
    lab.eventually(|world| {
        let server = world.servers[0].name_any();
        world.bound() == 1
            && world.powered_on() == 1
            && world.says(&server, "Ready", "True", "Reserved")
    })
    .await;
}

/// Deletes an object whatever holds it, as `kubectl delete` with finalizers taken off.
async fn tear_out<K>(api: &Api<K>, name: &str)
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let _ = api.delete(name, &DeleteParams::default()).await;
    let free = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let _ = api.patch(name, &Default::default(), &free).await;
    for _ in 0..200 {
        if api.get_metadata_opt(name).await.expect("get").is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{name} does not go");
}

/// What changed a machine since its counts were set to zero: everything but looking and logging in.
fn touched(machine: &MachineHandle) -> u64 {
    let counts = machine.counts();
    let changing = ["POST", "PATCH", "PUT"].map(|method| counts.method(method));
    changing.iter().sum::<u64>()
        - counts
            .by_class
            .get("POST SessionService")
            .copied()
            .unwrap_or(0)
}

fn held(world: &World, server: &str, reason: &str) -> bool {
    world.says(server, "Held", "True", reason)
}

/// The server is held for `reason`, says what a person can do, and nothing happens to its machine.
async fn is_held(lab: &Lab, machine: usize, reason: &str, power: &str) {
    let handle = lab.fleet().machine(machine);
    let server = lab.server_of(machine).await.name_any();
    let world = lab.eventually(|world| held(world, &server, reason)).await;
    let said = world.server_condition(&server, "Held").unwrap();
    for word in [names::HOLD, "release", "adopt:"] {
        assert!(said.message.contains(word), "{}", said.message);
    }
    lab.hears(&server, reason).await;
    let drives = readable_drives(&handle);
    handle.reset_counts();
    lab.stays(Duration::from_secs(3), |world| held(world, &server, reason))
        .await;
    assert_eq!(touched(&handle), 0, "{:?}", handle.counts());
    assert_eq!(handle.power_state(), power);
    assert_eq!(readable_drives(&handle), drives);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_made_anew_under_the_same_name_neither_inherits_nor_wipes_until_it_is_adopted() {
    let mut lab = one_tenant().await;
    let machine = lab.fleet().machine(0);
    // While nobody looks, the claim goes and another comes under its name.
    lab.stop_engine().await;
    lab.stop_claims().await;
    let claims = lab.here::<ServerClaim>();
    tear_out(&claims, "tenant").await;
    let heir = lab.claim("tenant").await;
    lab.start_claims();
    lab.start_engine();
    is_held(&lab, 0, "ClaimChanged", "On").await;
    let server = lab.server_of(0).await.name_any();
    let world = lab.eventually(|world| world.waiting() == 1).await;
    assert_eq!(world.bound(), 0, "nothing is inherited");
    assert_eq!(resets(&machine), ["On"]);

    // An answer that names a claim which the server does not refer to is none.
    lab.annotate_server(
        &server,
        names::HOLD,
        "adopt:00000000-0000-0000-0000-000000000000",
    )
    .await;
    lab.eventually(|world| held(world, &server, "AdoptionMismatch"))
        .await;
    let answer = format!("adopt:{}", heir.metadata.uid.as_deref().unwrap());
    lab.annotate_server(&server, names::HOLD, &answer).await;
    runs_for_its_claim(&lab).await;
    let world = lab.world().await;
    let read = world.server(&server).unwrap();
    assert_eq!(note(read, names::CLAIM_UID), heir.metadata.uid.as_deref());
    assert_eq!(note(read, names::HOLD), None, "the answer is used up");
    assert_eq!(resets(&machine), ["On"], "it owns the machine as it is");
    // And from then on it is a claim like any other.
    lab.release("tenant").await;
    lab.eventually(|world| world.available() == 1 && world.claims.is_empty())
        .await;
    assert_eq!(readable_drives(&machine), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_vanished_releases_nothing_until_somebody_says_so() {
    let mut lab = one_tenant().await;
    let machine = lab.fleet().machine(0);
    // The engine sees it go, finalizer and all.
    lab.stop_claims().await;
    tear_out(&lab.here::<ServerClaim>(), "tenant").await;
    lab.start_claims();
    is_held(&lab, 0, "ClaimMissing", "On").await;
    let server = lab.server_of(0).await.name_any();
    assert_eq!(resets(&machine), ["On"]);
    // No operation slips in meanwhile.
    lab.annotate_server(&server, names::OPERATION, names::OPERATION_FORCE_OFF_SERVER)
        .await;
    lab.hears(&server, "OperationRefused").await;
    assert_eq!(machine.power_state(), "On");
    lab.annotate_server(&server, names::HOLD, names::HOLD_RELEASE)
        .await;
    lab.eventually(|world| world.available() == 1).await;
    assert_eq!(resets(&machine), ["On", "GracefulShutdown"]);
    assert_eq!(readable_drives(&machine), [""; 0]);
}

/// Objects of one kind as a backup has them: names, labels, annotations, finalizers and spec; no UID, no status.
async fn saved<K>(api: &Api<K>, ours: &ListParams, owners: bool) -> Vec<Value>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + Serialize + kube::Resource<DynamicType = ()>,
{
    let list = api.list(ours).await.expect("a list");
    list.items
        .into_iter()
        .map(|object| {
            let mut object = serde_json::to_value(object).expect("JSON");
            let all = object.as_object_mut().expect("an object");
            all.remove("status");
            let meta = all["metadata"].as_object_mut().expect("metadata");
            let lost = [
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "managedFields",
            ];
            meta.retain(|key, _| {
                !lost.contains(&key.as_str()) && (owners || key != "ownerReferences")
            });
            object
        })
        .collect()
}

async fn restored<K>(api: &Api<K>, objects: &[Value])
where
    K: Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    for object in objects {
        let object: K = serde_json::from_value(object.clone()).expect("as it was saved");
        api.create(&PostParams::default(), &object)
            .await
            .expect("the restored object");
    }
}

async fn torn_out<K>(api: &Api<K>, ours: &ListParams)
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    for object in api.list_metadata(ours).await.expect("a list").items {
        tear_out(api, object.metadata.name.as_deref().unwrap_or_default()).await;
    }
}

/// What a restore leaves out.
#[derive(Clone, Copy, PartialEq)]
enum Came {
    /// Deleted and made anew beside everything else: runs are still there.
    Back,
    /// Made anew in a cluster that never knew of it: no runs, no inventories.
    Moved,
}

/// Everything is saved, torn out and made anew while nobody looks; or, for a while, while the engine looks on.
async fn restore(lab: &mut Lab, came: Came, watched: bool) {
    lab.stop_claims().await;
    lab.stop_engine().await;
    let ours = ListParams::default().labels(&lab.selector());
    let all = ListParams::default();
    let (endpoints, bmcs, secrets, servers) = (
        lab.all::<Endpoint>(),
        lab.all::<Bmc>(),
        lab.all::<BmcSecret>(),
        lab.all::<Server>(),
    );
    let (claims, boots) = (
        lab.here::<ServerClaim>(),
        lab.here::<ServerBootConfiguration>(),
    );
    // Some tools keep the owners' UIDs, which are nobody's any more: the garbage collector takes the objects for orphans.
    let owners = came == Came::Back;
    let saved_endpoints = saved(&endpoints, &ours, owners).await;
    let saved_bmcs = saved(&bmcs, &ours, owners).await;
    let saved_secrets = saved(&secrets, &ours, owners).await;
    let saved_servers = saved(&servers, &ours, owners).await;
    let saved_claims = saved(&claims, &all, owners).await;
    let saved_boots = saved(&boots, &all, owners).await;
    torn_out(&claims, &all).await;
    torn_out(&boots, &all).await;
    torn_out(&servers, &ours).await;
    torn_out(&bmcs, &ours).await;
    torn_out(&endpoints, &ours).await;
    torn_out(&secrets, &ours).await;
    if came == Came::Moved {
        torn_out(&lab.all::<ServerRun>(), &ours).await;
        torn_out(&lab.all::<ServerInventory>(), &ours).await;
    }
    // Servers before their claims: the order that looks worst.
    if watched {
        lab.start_engine();
    }
    restored(&servers, &saved_servers).await;
    if watched {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    restored(&secrets, &saved_secrets).await;
    restored(&bmcs, &saved_bmcs).await;
    restored(&endpoints, &saved_endpoints).await;
    if watched {
        lab.start_claims();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    restored(&boots, &saved_boots).await;
    restored(&claims, &saved_claims).await;
    if !watched {
        lab.start_claims();
        lab.start_engine();
    }
}

/// Three machines: one runs for the claim `tenant`, one was given back and cannot be cleaned, one is free.
async fn three_standings() -> Lab {
    let lab = Lab::start().small().servers(3).idle().await;
    policy(&lab).await;
    lab.fleet().machine(1).set_erase(Erase::NotOffered);
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 3).await;
    for (claim, machine) in [("tenant", 0), ("former", 1)] {
        let server = lab.server_of(machine).await.name_any();
        lab.claim_with(claim, json!({"serverRef": {"name": server}}))
            .await;
    }
    lab.eventually(|world| world.bound() == 2 && world.powered_on() == 2)
        .await;
    for machine in lab.fleet().machines() {
        machine.write_drives("somebody's data");
    }
    lab.release("former").await;
    let former = lab.server_of(1).await.name_any();
    lab.eventually(|world| {
        world.says(&former, "Erased", "False", "ErasureUnavailable") && world.claims.len() == 1
    })
    .await;
    lab
}

async fn a_restore_touches_nothing(came: Came, watched: bool) {
    let mut lab = three_standings().await;
    let before: Vec<Vec<String>> = lab.fleet().machines().map(|it| resets(&it)).collect();
    let uids: Vec<Option<String>> = lab
        .world()
        .await
        .servers
        .iter()
        .map(|it| it.uid())
        .collect();
    // What could not be erased then could be erased now: only the hold is in the way.
    lab.fleet().machine(1).set_erase(Erase::Works);
    lab.fleet().reset_counts();
    restore(&mut lab, came, watched).await;
    is_held(&lab, 0, "ClaimChanged", "On").await;
    is_held(&lab, 1, "Restored", "Off").await;
    let free = lab.server_of(2).await.name_any();
    lab.eventually(|world| {
        world.server(&free).and_then(World::state) == Some(&ServerState::Available)
    })
    .await;
    let world = lab.world().await;
    assert!(
        world.servers.iter().all(|it| !uids.contains(&it.uid())),
        "new objects"
    );
    let after: Vec<Vec<String>> = lab.fleet().machines().map(|it| resets(&it)).collect();
    assert_eq!(before, after, "no power action");
    for machine in lab.fleet().machines() {
        assert_eq!(touched(&machine), 0, "{:?}", machine.journal());
        assert_eq!(readable_drives(&machine).len(), machine.drives().len());
    }
    assert_eq!(World::power(&lab.server_of(0).await), Some(&PowerState::On));

    // The answers of a person.
    let uid = world.claim("tenant").unwrap().uid().unwrap();
    let (tenants, former) = (
        lab.server_of(0).await.name_any(),
        lab.server_of(1).await.name_any(),
    );
    lab.annotate_server(&tenants, names::HOLD, &format!("adopt:{uid}"))
        .await;
    lab.annotate_server(&former, names::HOLD, names::HOLD_RELEASE)
        .await;
    lab.eventually(|world| {
        world.bound() == 1
            && world.available() == 2
            && world.says(&tenants, "Ready", "True", "Reserved")
    })
    .await;
    assert_eq!(resets(&lab.fleet().machine(0)), before[0]);
    assert_eq!(readable_drives(&lab.fleet().machine(1)), [""; 0]);
    lab.release("tenant").await;
    lab.eventually(|world| world.available() == 3).await;
    assert_eq!(readable_drives(&lab.fleet().machine(0)), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_releases_reboots_and_wipes_nothing_and_a_person_answers() {
    a_restore_touches_nothing(Came::Back, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_moved_to_another_cluster_release_reboot_and_wipe_nothing() {
    a_restore_touches_nothing(Came::Moved, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_object_by_object_under_the_eyes_of_the_controllers_touches_nothing() {
    a_restore_touches_nothing(Came::Moved, true).await;
}
