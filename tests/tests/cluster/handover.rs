//! A machine that runs already belongs to somebody: it is looked at and left alone until a person hands it over.

use std::time::Duration;

use corten_api::corten::ServerInventory;
use corten_api::metal::ServerState;
use corten_api::names;
use corten_tests::lab::{Lab, World, readable_drives, resets};
use kube::ResourceExt as _;
use serde_json::json;

fn found_running(world: &World, server: &str) -> bool {
    world.says(server, "RunningUnexpectedly", "True", "FoundRunning")
}

fn is_available(world: &World, server: &str) -> bool {
    world.server(server).and_then(World::state) == Some(&ServerState::Available)
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_found_running_are_inventoried_and_left_alone_until_they_are_handed_over() {
    let mut lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(3).on(true))
        .onboarding()
        .await;
    let all_found = |world: &World| {
        world.servers.len() == 3
            && world
                .servers
                .iter()
                .all(|it| found_running(world, &it.name_any()))
    };
    let world = lab.eventually(all_found).await;
    let names = [0, 1, 2].map(|index| {
        world
            .server_of(&lab.fleet().machine(index), 0)
            .unwrap()
            .name_any()
    });
    for server in &names {
        let said = world
            .server_condition(server, "RunningUnexpectedly")
            .unwrap();
        for way in [names::HANDOVER, "accepted", "ServerPolicy"] {
            assert!(said.message.contains(way), "{}", said.message);
        }
        assert!(world.says(server, "Discovered", "True", "InventoryRead"));
        let status = world.server(server).unwrap().status.clone().unwrap();
        assert!(status.manufacturer.is_some() && status.total_system_memory.is_some());
        lab.all::<ServerInventory>().get(server).await.unwrap();
        lab.hears(server, "FoundRunning").await;
    }
    // Neither a claim nor a restart changes anything about that.
    lab.claim("greedy").await;
    lab.eventually(|world| world.waiting() == 1).await;
    let versions = |world: &World| {
        let all = world.servers.iter();
        all.map(|it| it.resource_version()).collect::<Vec<_>>()
    };
    let before = versions(&lab.world().await);
    lab.stop_engine().await;
    lab.start_engine();
    lab.stays(Duration::from_secs(5), |world| {
        world.bound() == 0 && all_found(world) && versions(world) == before
    })
    .await;
    lab.release("greedy").await;
    for machine in lab.fleet().machines() {
        let counts = machine.counts();
        assert_eq!(resets(&machine), [""; 0]);
        assert_eq!(
            counts.method("PATCH") + counts.method("PUT"),
            0,
            "{counts:?}"
        );
        assert_eq!(counts.method("POST"), counts.logins, "{counts:?}");
    }

    let [first, second, third] = &names;
    lab.annotate_server(first, names::HANDOVER, names::HANDOVER_ACCEPTED)
        .await;
    let world = lab.eventually(|world| is_available(world, first)).await;
    assert!(found_running(&world, second) && found_running(&world, third));
    assert_eq!(resets(&lab.fleet().machine(0)).len(), 1);
    assert_eq!(resets(&lab.fleet().machine(1)), [""; 0]);
    // A hand on the button hands nothing over, and a later claim still does not get it.
    lab.fleet().machine(2).set_power(0, false);
    lab.policy(json!({"handover": true})).await;
    let world = lab
        .eventually(|world| is_available(world, second) && is_available(world, third))
        .await;
    assert_eq!(world.available(), 3);
    assert_eq!(resets(&lab.fleet().machine(1)).len(), 1);
    assert!(resets(&lab.fleet().machine(2)).len() <= 1);
    for machine in lab.fleet().machines() {
        // Handed over means taken as it is: nothing was asked about its disks.
        assert_eq!(readable_drives(&machine).len(), machine.drives().len());
        assert_eq!(machine.power_state(), "Off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_machine_that_somebody_switched_on_is_reported_and_not_switched_off() {
    let lab = Lab::start().small().servers(1).available().await;
    let machine = lab.fleet().machine(0);
    let server = lab.server_of(0).await.name_any();
    machine.set_power(0, true);
    let world = lab.eventually(|world| found_running(world, &server)).await;
    assert!(is_available(&world, &server));
    lab.hears(&server, "FoundRunning").await;
    lab.claim("greedy").await;
    lab.stays(Duration::from_secs(3), |world| world.bound() == 0)
        .await;
    assert_eq!(machine.power_state(), "On");
    machine.set_power(0, false);
    lab.eventually(|world| world.bound() == 1 && !resets(&machine).is_empty())
        .await;
    assert_eq!(resets(&machine), ["On"]);
}
