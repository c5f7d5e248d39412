//! The API server frozen, killed and started again while claims come and go: nothing is lost, nothing is done twice.

use std::time::Duration;

use corten_controlplane::Component;
use corten_tests::lab::{Lab, World, readable_drives, resets};
use kube::ResourceExt as _;
use serde_json::json;

const MACHINES: usize = 5;

fn all_serve(world: &World) -> bool {
    world.bound() == MACHINES
        && world.powered_on() == MACHINES
        && world
            .servers
            .iter()
            .all(|it| world.says(&it.name_any(), "Ready", "True", "Reserved"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_goes_away_under_load_loses_nothing_and_nothing_is_done_twice() {
    let mut lab = Lab::start()
        .servers(MACHINES)
        .small()
        .own_control_plane()
        .idle()
        .await;
    lab.policy(json!({
        "cleaning": {"acceptReported": true}, "timeouts": {"shutdownGraceSeconds": 20},
    }))
    .await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == MACHINES).await;

    // Frozen in the middle of binding and booting, for longer than the Lease lasts: connections stay open and nobody answers.
    lab.claim_many(MACHINES).await;
    lab.control_plane().freeze(Component::ApiServer);
    tokio::time::sleep(Duration::from_secs(20)).await;
    lab.control_plane().thaw(Component::ApiServer);
    lab.eventually(all_serve).await;
    assert_eq!(lab.servers_bound_twice().await, [""; 0]);
    for machine in lab.fleet().machines() {
        assert_eq!(resets(&machine), ["On"]);
        machine.write_drives("a tenant's secret");
    }

    // At rest, a restart is nobody's concern.
    let before: Vec<_> = lab
        .world()
        .await
        .servers
        .iter()
        .map(|it| it.resource_version())
        .collect();
    lab.control_plane()
        .restart(Component::ApiServer)
        .await
        .expect("the API server again");
    tokio::time::sleep(Duration::from_secs(5)).await;
    lab.stays(Duration::from_secs(2), |world| {
        let now: Vec<_> = world
            .servers
            .iter()
            .map(|it| it.resource_version())
            .collect();
        all_serve(world) && now == before
    })
    .await;

    // Killed in the middle of releasing and erasing, with its store.
    for index in 0..MACHINES {
        lab.release(&format!("claim-{index:03}")).await;
    }
    let begun = lab.fleet().machines().next().expect("a machine");
    for _ in 0..400 {
        if resets(&begun).len() > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.control_plane().kill(Component::ApiServer).await;
    lab.control_plane()
        .restart(Component::Etcd)
        .await
        .expect("etcd again");
    tokio::time::sleep(Duration::from_secs(3)).await;
    lab.control_plane()
        .restart(Component::ApiServer)
        .await
        .expect("the API server again");
    lab.eventually(|world| world.available() == MACHINES && world.claims.is_empty())
        .await;
    for machine in lab.fleet().machines() {
        // Where the API server took an intent and died with its answer, nobody can tell whether the machine was asked: it is not asked
        // again, and cut off after the grace.
        let kinds = resets(&machine);
        let allowed: [&[&str]; 3] = [
            &["On", "GracefulShutdown"],
            &["On", "ForceOff"],
            &["On", "GracefulShutdown", "ForceOff"],
        ];
        assert!(allowed.iter().any(|wanted| kinds == *wanted), "{kinds:?}");
        assert_eq!(readable_drives(&machine), [""; 0]);
        assert_eq!(machine.counts().failed_logins, 0);
    }
}
