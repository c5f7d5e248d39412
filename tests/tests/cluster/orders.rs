//! What people order: operations, parking, leaving alone, deleting; and machines that are not who they should be.

use std::time::Duration;

use corten_api::corten::{RunKind, ServerRun};
use corten_api::metal::{Server, ServerClaim, ServerState};
use corten_api::names;
use corten_tests::lab::{Lab, World, note, readable_drives, resets};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use kube::core::DynamicObject;
use serde_json::json;

async fn lab(machines: usize) -> Lab {
    let lab = Lab::start().small().servers(machines).idle().await;
    let wishes =
        json!({"cleaning": {"acceptReported": true}, "timeouts": {"shutdownGraceSeconds": 20}});
    lab.policy(wishes).await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == machines).await;
    lab
}

/// One machine that runs for the claim `tenant`, and the name of its Server.
async fn with_tenant() -> (Lab, String) {
    let lab = lab(1).await;
    lab.claim("tenant").await;
    let server = lab.server_of(0).await.name_any();
    lab.eventually(|world| {
        world.bound() == 1
            && world.powered_on() == 1
            && world.says(&server, "Ready", "True", "Reserved")
    })
    .await;
    lab.fleet()
        .machine(0)
        .write_drives("what the tenant lives from");
    (lab, server)
}

/// Asks for an operation and waits until it is taken up or refused: its annotation is gone.
async fn order(lab: &Lab, server: &str, operation: &str) {
    lab.annotate_server(server, names::OPERATION, operation)
        .await;
    lab.eventually(|world| {
        world
            .server(server)
            .is_some_and(|it| note(it, names::OPERATION).is_none())
    })
    .await;
}

/// Waits until no operation is under way.
async fn carried_out(lab: &Lab, count: usize) -> Vec<ServerRun> {
    let world = lab
        .eventually(|world| {
            let ended = operations(world)
                .filter(|run| {
                    run.status
                        .as_ref()
                        .is_some_and(|it| it.finished_at.is_some())
                })
                .count();
            ended == count
        })
        .await;
    operations(&world).cloned().collect()
}

fn operations(world: &World) -> impl Iterator<Item = &ServerRun> {
    let mut runs: Vec<&ServerRun> = world
        .runs
        .iter()
        .filter(|run| run.spec.kind == RunKind::Operation)
        .collect();
    runs.sort_by_key(|run| run.name_any());
    runs.into_iter()
}

fn state(world: &World, server: &str) -> Option<ServerState> {
    world.server(server).and_then(World::state).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_carried_out_once_and_its_annotation_goes() {
    let mut lab = lab(1).await;
    let machine = lab.fleet().machine(0);
    let server = lab.server_of(0).await.name_any();
    order(&lab, &server, names::OPERATION_FORCE_ON_SERVER).await;
    lab.eventually(|_| machine.power_state() == "On").await;
    carried_out(&lab, 1).await;
    order(&lab, &server, names::OPERATION_HARD_RESTART_SERVER).await;
    carried_out(&lab, 2).await;
    // Another engine, which knows nothing of it but what is recorded.
    lab.stop_engine().await;
    lab.start_engine();
    tokio::time::sleep(Duration::from_secs(2)).await;
    order(&lab, &server, names::OPERATION_FORCE_OFF_SERVER).await;
    carried_out(&lab, 3).await;
    lab.eventually(|world| world.available() == 1 && machine.power_state() == "Off")
        .await;
    assert_eq!(resets(&machine), ["On", "ForceRestart", "ForceOff"]);
    order(&lab, &server, "make-coffee").await;
    lab.hears(&server, "UnsupportedOperation").await;
    assert_eq!(resets(&machine).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_reserved_server_an_operation_needs_the_claims_consent_or_somebody_who_answers_for_it()
{
    let (lab, server) = with_tenant().await;
    let machine = lab.fleet().machine(0);
    let refused = [
        names::OPERATION_POWER_CYCLE_SERVER,
        names::OPERATION_FORCE_OFF_SERVER,
        names::OPERATION_PARK,
    ];
    for operation in refused {
        order(&lab, &server, operation).await;
    }
    lab.hears(&server, "OperationRefused").await;
    assert_eq!(resets(&machine), ["On"]);
    assert_eq!(operations(&lab.world().await).count(), 0);

    let claims = lab.here::<ServerClaim>();
    let consent = |value: Option<&str>| json!({"metadata": {"annotations": {(names::ALLOW_OPERATIONS): value}}});
    lab.edit(&claims, "tenant", consent(Some("true"))).await;
    // The engine's cache of claims may be behind a refusal; the consent is there first.
    tokio::time::sleep(Duration::from_secs(1)).await;
    order(&lab, &server, names::OPERATION_HARD_RESTART_SERVER).await;
    carried_out(&lab, 1).await;
    assert_eq!(resets(&machine), ["On", "ForceRestart"]);

    lab.edit(&claims, "tenant", consent(None)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    order(&lab, &server, names::OPERATION_HARD_RESTART_SERVER).await;
    assert_eq!(resets(&machine).len(), 2);
    let both = json!({"metadata": {"annotations": {
        (names::OPERATION): names::OPERATION_HARD_RESTART_SERVER,
        (names::OPERATION_ACTOR): "alice",
    }}});
    lab.edit(&lab.all::<Server>(), &server, both).await;
    let runs = carried_out(&lab, 2).await;
    assert_eq!(runs[1].spec.actor.as_deref(), Some("alice"));
    assert_eq!(resets(&machine), ["On", "ForceRestart", "ForceRestart"]);
    let read = lab.server_of(0).await;
    assert_eq!(note(&read, names::OPERATION_ACTOR), None, "it is used up");
    assert_eq!(
        readable_drives(&machine).len(),
        machine.drives().len(),
        "nothing was wiped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_server_is_nobodys_until_it_is_unparked() {
    let lab = lab(1).await;
    let machine = lab.fleet().machine(0);
    let server = lab.server_of(0).await.name_any();
    order(&lab, &server, names::OPERATION_FORCE_ON_SERVER).await;
    lab.eventually(|_| machine.power_state() == "On").await;
    carried_out(&lab, 1).await;
    order(&lab, &server, names::OPERATION_PARK).await;
    lab.eventually(|world| state(world, &server) == Some(ServerState::Parked))
        .await;
    assert_eq!(resets(&machine), ["On", "GracefulShutdown"]);
    lab.claim("patience").await;
    order(&lab, &server, names::OPERATION_FORCE_ON_SERVER).await;
    lab.hears(&server, "OperationRefused").await;
    lab.stays(Duration::from_secs(2), |world| world.bound() == 0)
        .await;
    assert_eq!(machine.power_state(), "Off");
    order(&lab, &server, names::OPERATION_UNPARK).await;
    lab.eventually(|world| world.bound() == 1 && world.powered_on() == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_server_is_left_alone_even_by_the_release_of_its_claim() {
    let (lab, server) = with_tenant().await;
    let machine = lab.fleet().machine(0);
    lab.annotate_server(&server, names::OPERATION, names::OPERATION_IGNORE)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    lab.release("tenant").await;
    lab.eventually(|world| {
        world
            .claim_condition("tenant", "Released")
            .is_some_and(|said| said.reason == "ServerIgnored")
    })
    .await;
    lab.stays(Duration::from_secs(2), |world| world.claims.len() == 1)
        .await;
    assert_eq!(resets(&machine), ["On"]);
    let heed = json!({"metadata": {"annotations": {(names::OPERATION): null}}});
    lab.edit(&lab.all::<Server>(), &server, heed).await;
    lab.eventually(|world| world.available() == 1 && world.claims.is_empty())
        .await;
    assert_eq!(readable_drives(&machine), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserved_server_is_not_deleted_and_by_force_leaves_a_tombstone_by_which_it_is_cleaned() {
    let (lab, server) = with_tenant().await;
    let machine = lab.fleet().machine(0);
    let servers = lab.all::<Server>();
    let first = lab.server_of(0).await.uid();
    lab.delete(&servers, &server).await;
    lab.hears(&server, "DeletionHeld").await;
    lab.stays(Duration::from_secs(2), |world| {
        world
            .server(&server)
            .is_some_and(|it| it.uid() == first && World::power(it).is_some())
    })
    .await;
    assert_eq!(resets(&machine), ["On"]);

    lab.annotate_server(&server, names::FORCE_DELETE, "true")
        .await;
    // The BMC is still there, so its machine is found again: as one that is to be cleaned, and that runs.
    let found = |world: &World| {
        let it = world.server_of(&machine, 0);
        it.is_some_and(|it| it.uid() != first && World::state(it) == Some(&ServerState::Cleanup))
    };
    let world = lab.eventually(found).await;
    let again = world.server_of(&machine, 0).unwrap().name_any();
    assert!(note(world.server_of(&machine, 0).unwrap(), names::DIRTY).is_some());
    lab.eventually(|world| world.says(&again, "RunningUnexpectedly", "True", "FoundRunning"))
        .await;
    assert_eq!(resets(&machine), ["On"], "nothing was done to it");
    assert_eq!(readable_drives(&machine).len(), machine.drives().len());
    let tombs = lab
        .all::<ServerRun>()
        .list(&ListParams::default().labels(&lab.selector()))
        .await
        .unwrap()
        .items
        .into_iter()
        .filter(|run| run.spec.kind == RunKind::Tombstone);
    let tombs: Vec<ServerRun> = tombs.collect();
    assert_eq!(tombs.len(), 1);
    let uuid = machine.uuid().to_lowercase();
    assert_eq!(tombs[0].spec.system_uuid.as_deref(), Some(uuid.as_str()));
    // Its claim says that its server is gone, takes no other, and goes when it is deleted.
    lab.eventually(|world| world.bound() == 0).await;
    lab.release("tenant").await;
    lab.eventually(|world| world.claims.is_empty()).await;
    lab.annotate_server(&again, names::HANDOVER, names::HANDOVER_ACCEPTED)
        .await;
    lab.eventually(|world| world.available() == 1).await;
    assert_eq!(readable_drives(&machine), [""; 0]);
    assert_eq!(resets(&machine), ["On", "GracefulShutdown"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_in_the_place_of_a_claimed_one_is_not_touched_by_its_release() {
    let (lab, server) = with_tenant().await;
    let machine = lab.fleet().machine(0);
    machine.replace_identity();
    lab.release("tenant").await;
    lab.eventually(|world| {
        world
            .server_condition(&server, "Ready")
            .is_some_and(|said| said.status == "False")
            && world
                .claim_condition("tenant", "Released")
                .is_some_and(|said| !said.message.is_empty())
    })
    .await;
    lab.stays(Duration::from_secs(4), |world| world.claims.len() == 1)
        .await;
    assert_eq!(
        resets(&machine),
        ["On"],
        "nothing was asked of the stranger"
    );
    assert_eq!(readable_drives(&machine).len(), machine.drives().len());
    lab.within(Duration::from_secs(90), |world| {
        world
            .server_condition(&server, "Ready")
            .is_some_and(|said| {
                said.message
                    .to_lowercase()
                    .contains(&lab_identity(world, &server))
            })
    })
    .await;
    assert_eq!(resets(&machine), ["On"]);
}

/// UUID of the machine that is expected behind a Server.
fn lab_identity(world: &World, server: &str) -> String {
    let server = world.server(server).expect("the server");
    server.spec.system_uuid.to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_gets_an_event_and_stops_nobody() {
    let lab = lab(1).await;
    // As the original's schema allows: without a spec.
    let kinds = [
        ("Server", "servers", None),
        ("BMC", "bmcs", None),
        ("Endpoint", "endpoints", None),
        ("ServerClaim", "serverclaims", Some(lab.namespace())),
    ];
    let mut broken = Vec::new();
    for (kind, plural, namespace) in kinds {
        let kind = kube::core::GroupVersionKind::gvk(names::METAL_GROUP, "v1alpha1", kind);
        let resource = kube::core::ApiResource::from_gvk_with_plural(&kind, plural);
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(lab.client(), namespace, &resource),
            None => Api::all_with(lab.client(), &resource),
        };
        let name = format!("{}-hollow-{plural}", lab.name());
        let mut object = DynamicObject::new(&name, &resource);
        object.metadata.labels = Some(lab.labels());
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => broken.push((api, name)),
            Err(error) => println!("{plural}: the schema refuses it: {error}"),
        }
    }
    assert!(!broken.is_empty(), "the schema refuses all of them");
    for (_, name) in &broken {
        lab.hears(name, "Unreadable").await;
    }
    lab_lives_on(&lab).await;
    for (api, name) in &broken {
        api.delete(name, &Default::default()).await.unwrap();
    }
}

/// The world cannot be read here object by object, so that the machine and its Server tell.
async fn lab_lives_on(lab: &Lab) {
    let machine = lab.fleet().machine(0);
    lab.claim("tenant").await;
    for _ in 0..300 {
        if machine.booted().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("the claim got nothing: {:?}", resets(&machine));
}
