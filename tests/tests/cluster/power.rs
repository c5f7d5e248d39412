//! Power: taken away in time and in order, and given back from where the system is installed.

use std::time::Duration;

use corten_api::metal::PowerState;
use corten_api::names;
use corten_tests::lab::{Lab, World, readable_drives, resets};
use kube::ResourceExt as _;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_ignores_its_shutdown_is_cut_off_after_the_grace_that_a_restart_does_not_renew()
 {
    let mut lab = Lab::start().small().servers(1).idle().await;
    let grace = Duration::from_secs(12);
    lab.policy(json!({
        "timeouts": {"shutdownGraceSeconds": grace.as_secs()},
        "cleaning": {"acceptReported": true},
    }))
    .await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    lab.claim("tenant").await;
    let machine = lab.fleet().machine(0);
    lab.eventually(|world| world.powered_on() == 1).await;
    machine.ignore_shutdown(true);
    machine.write_drives("a tenant's secret");
    lab.release("tenant").await;
    lab.eventually(|_| resets(&machine).len() == 2).await;
    let server = lab.server_of(0).await.name_any();
    lab.eventually(|world| world.says(&server, "PoweredOff", "False", "ShuttingDown"))
        .await;
    let world = lab
        .eventually(|world| {
            world
                .claim_condition("tenant", "Released")
                .is_some_and(|said| said.reason == "ShuttingDown")
        })
        .await;
    assert_eq!(world.claims.len(), 1);
    lab.stop_engine().await;
    tokio::time::sleep(grace).await;
    let back = machine.elapsed();
    lab.start_engine();
    lab.eventually(|world| world.available() == 1 && world.claims.is_empty())
        .await;
    let [on, asked, cut] = machine.resets().try_into().expect("three resets");
    let kinds = [&on.kind, &asked.kind, &cut.kind];
    assert_eq!(kinds, ["On", "GracefulShutdown", "ForceOff"]);
    assert!(cut.at >= asked.at + grace);
    assert!(
        cut.at < back + grace,
        "the grace began anew with the engine"
    );
    assert_eq!(readable_drives(&machine), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn power_lost_means_the_disk_where_the_image_was_installed_and_the_network_only_where_it_has_none()
 {
    let lab = Lab::start().small().servers(2).available().await;
    let machines = [lab.fleet().machine(0), lab.fleet().machine(1)];
    for (index, mode) in [names::BOOT_MODE_DISK, names::BOOT_MODE_DISKLESS]
        .into_iter()
        .enumerate()
    {
        let server = lab.server_of(index).await.name_any();
        let named = json!({"serverRef": {"name": server}});
        let annotations = [(names::BOOT_MODE, mode)];
        lab.claim_annotated(mode, &annotations, named).await;
    }
    let ready = |world: &World| {
        world.powered_on() == 2
            && world
                .servers
                .iter()
                .all(|it| world.says(&it.name_any(), "Ready", "True", "Reserved"))
    };
    lab.eventually(ready).await;
    let booted = |count: u32| {
        let machines = machines.clone();
        move |_: &World| {
            machines
                .iter()
                .all(|it| it.booted().is_some_and(|boot| boot.count == count))
        }
    };
    lab.eventually(booted(1)).await;
    for machine in &machines {
        let boot = machine.booted().unwrap();
        assert_ne!(boot.target, "None", "an image comes from the network first");
        machine.set_power(0, false);
    }
    lab.eventually(booted(2)).await;
    let targets = machines.clone().map(|it| it.booted().unwrap().target);
    assert_eq!(targets[0], "None", "it starts from its disk");
    assert_ne!(targets[1], "None", "it has no disk");
    for machine in &machines {
        assert_eq!(resets(machine), ["On", "On"]);
    }
    let world = lab.eventually(ready).await;
    for server in &world.servers {
        assert_eq!(World::power(server), Some(&PowerState::On));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_wants_power_off_and_on_again_gets_it_from_its_disk_and_without_a_new_image() {
    let lab = Lab::start().small().servers(1).idle().await;
    lab.policy(json!({"timeouts": {"shutdownGraceSeconds": 10}}))
        .await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    // Said by name: without a word the image decides, and an OCI image is diskless.
    let disk = [(names::BOOT_MODE, names::BOOT_MODE_DISK)];
    lab.claim_annotated("tenant", &disk, json!({})).await;
    let machine = lab.fleet().machine(0);
    // Only what is on record as booted counts as installed.
    lab.eventually(|world| {
        let server = world.servers[0].name_any();
        machine.booted().is_some() && world.says(&server, "Ready", "True", "Reserved")
    })
    .await;
    machine.write_drives("a tenant's own");
    let claims = lab.here::<corten_api::metal::ServerClaim>();
    for (power, wanted) in [("Off", PowerState::Off), ("On", PowerState::On)] {
        lab.edit(&claims, "tenant", json!({"spec": {"power": power}}))
            .await;
        lab.eventually(|world| {
            let server = &world.servers[0];
            World::power(server) == Some(&wanted)
                && world.says(&server.name_any(), "Ready", "True", "Reserved")
        })
        .await;
    }
    lab.eventually(|_| machine.booted().is_some_and(|boot| boot.count == 2))
        .await;
    assert_eq!(machine.booted().unwrap().target, "None");
    assert_eq!(resets(&machine), ["On", "GracefulShutdown", "On"]);
    assert_eq!(readable_drives(&machine).len(), machine.drives().len());
}
