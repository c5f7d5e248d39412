//! Inventories are read again once in a while: nothing is written when nothing changed, and what changed is recorded and said.

use std::time::Duration;

use corten_api::corten::ServerInventory;
use corten_api::metal::ServerState;
use corten_tests::lab::{Lab, World, readable_drives, resets};
use kube::ResourceExt as _;
use serde_json::json;

const EVERY: Duration = Duration::from_secs(2);

/// Versions of all objects that a refresh might write.
async fn versions(lab: &Lab) -> Vec<(String, Option<String>)> {
    let world = lab.world().await;
    let mut all = Vec::new();
    for server in &world.servers {
        let inventory = inventory(lab, &server.name_any()).await;
        all.push((server.name_any(), server.resource_version()));
        all.push((inventory.name_any(), inventory.resource_version()));
    }
    all
}

async fn inventory(lab: &Lab, server: &str) -> ServerInventory {
    let inventories = lab.all::<ServerInventory>();
    inventories.get(server).await.expect("its inventory")
}

/// Waits until the recorded firmware has this version.
async fn shows(lab: &Lab, server: &str, version: &str) {
    let mut last = String::new();
    for _ in 0..150 {
        let status = inventory(lab, server).await.status.unwrap_or_default();
        last = serde_json::to_string(&status.firmware).unwrap();
        if last.contains(version) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{server} does not show firmware {version}: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resting_server_is_read_again_and_only_what_changed_is_written_and_said() {
    let lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(2).shape(corten_sim::Shape::Dell))
        .engine(|engine| engine.inventory_refresh = EVERY)
        .idle()
        .await;
    lab.policy(
        json!({"cleaning": {"acceptReported": true}, "timeouts": {"shutdownGraceSeconds": 20}}),
    )
    .await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 2).await;
    tokio::time::sleep(EVERY).await;

    // Several periods in which nothing changes: everything is read, nothing is written.
    let before = versions(&lab).await;
    lab.fleet().reset_counts();
    tokio::time::sleep(EVERY * 3).await;
    for machine in lab.fleet().machines() {
        let counts = machine.counts();
        println!("at rest: {:?}", counts.by_class);
        assert!(counts.method("GET") > 10, "it was read: {counts:?}");
        assert_eq!(counts.method("PATCH"), 0);
    }
    assert_eq!(versions(&lab).await, before);

    // Somebody updates one machine by hand.
    let machine = lab.fleet().machine(0);
    let server = lab.server_of(0).await.name_any();
    let other = lab.server_of(1).await.name_any();
    machine.set_firmware(0, "9.99.01");
    shows(&lab, &server, "9.99.01").await;
    lab.hears(&server, "InventoryChanged").await;
    assert!(
        !lab.reasons(&other)
            .await
            .contains(&"InventoryChanged".to_owned())
    );

    // A machine that runs for somebody is read as well, and nothing else happens to it.
    lab.claim_with("tenant", json!({"serverRef": {"name": server}}))
        .await;
    let runs = |world: &World| {
        world.bound() == 1
            && world.powered_on() == 1
            && world.says(&server, "Ready", "True", "Reserved")
    };
    lab.eventually(runs).await;
    machine.write_drives("what the tenant lives from");
    machine.set_firmware(0, "9.99.02");
    shows(&lab, &server, "9.99.02").await;
    lab.stays(Duration::from_secs(2), |world| {
        world.server(&server).and_then(World::state) == Some(&ServerState::Reserved)
    })
    .await;
    assert_eq!(resets(&machine), ["On"]);
    assert_eq!(readable_drives(&machine).len(), machine.drives().len());
    // And it is cleaned as ever: what was read is not in the way.
    lab.release("tenant").await;
    lab.eventually(|world| world.available() == 2 && world.claims.is_empty())
        .await;
    assert_eq!(readable_drives(&machine), [""; 0]);
}
