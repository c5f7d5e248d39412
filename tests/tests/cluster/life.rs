//! A server's whole life: from an Endpoint to a claim and back, clean, in each vendor's shape.

use std::time::Duration;

use corten_api::corten::{RunKind, ServerInventory};
use corten_api::metal::{PowerState, ServerState};
use corten_api::names;
use corten_sim::{Erase, Shape};
use corten_tests::lab::{Lab, World, note, readable_drives, resets};
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;

/// A BMC's word is all the evidence that there is out of band.
async fn take_its_word(lab: &Lab) {
    let wishes =
        json!({"cleaning": {"acceptReported": true}, "timeouts": {"shutdownGraceSeconds": 20}});
    lab.policy(wishes).await;
}

fn is(world: &World, server: &str, state: &ServerState) -> bool {
    world.server(server).and_then(World::state) == Some(state)
}

/// Claims the servers, waits until they run for their claims, gives them back and waits until they are clean.
async fn live(lab: &Lab, servers: &[String]) {
    let claim = |server: &str| format!("for-{server}");
    for server in servers {
        let named = json!({"serverRef": {"name": server}});
        lab.claim_with(&claim(server), named).await;
    }
    lab.eventually(|world| {
        servers.iter().all(|server| {
            let has = world.claim(&claim(server)).is_some_and(World::is_bound);
            let on = world.server(server).and_then(World::power) == Some(&PowerState::On);
            has && on && world.says(server, "Ready", "True", "Reserved")
        })
    })
    .await;
    for server in servers {
        lab.release(&claim(server)).await;
    }
    // A claim goes only after the machine is off and its state shows that nobody can have it.
    lab.eventually(|world| {
        for server in servers {
            let read = world.server(server).expect("the server");
            let gone = world.claim(&claim(server)).is_none();
            let is_on = World::power(read) == Some(&PowerState::On);
            assert!(
                !(gone && is_on),
                "{server} runs and the claim that was released is gone"
            );
            let free = is(world, server, &ServerState::Available);
            let dirty = note(read, names::DIRTY).is_some();
            assert!(
                !(free && dirty && gone),
                "{server} is Available and not clean"
            );
        }
        let clean = |server: &String| {
            is(world, server, &ServerState::Available)
                && note(world.server(server).expect("the server"), names::DIRTY).is_none()
        };
        world.claims.is_empty() && servers.iter().all(clean)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_goes_from_an_endpoint_to_a_claim_and_back_and_its_drives_are_really_erased() {
    let lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(Shape::ALL.len()).shapes(Shape::ALL.to_vec()))
        .idle()
        .await;
    take_its_word(&lab).await;
    lab.plug_in().await;
    let systems: usize = lab.fleet().machines().map(|it| it.systems().len()).sum();
    let world = lab.eventually(|world| world.available() == systems).await;
    let servers: Vec<String> = world.servers.iter().map(|it| it.name_any()).collect();
    for machine in lab.fleet().machines() {
        machine.write_drives("a tenant's secret");
    }
    // More than five servers given back within ten minutes engage the brake: a person looks after each handful.
    for handful in servers.chunks(5) {
        lab.acknowledge().await;
        live(&lab, handful).await;
    }
    for machine in lab.fleet().machines() {
        let shape = machine.shape();
        assert_eq!(readable_drives(&machine), [""; 0], "{shape}");
        for node in 0..machine.systems().len() {
            let kinds: Vec<String> = machine
                .resets()
                .into_iter()
                .filter(|reset| reset.node == Some(node))
                .map(|reset| reset.kind)
                .collect();
            assert_eq!(kinds.len(), 2, "{shape}/{node}: {kinds:?}");
            assert_eq!(machine.power_state_of(node), "Off", "{shape}/{node}");
        }
        assert_eq!(machine.boot_override().0, "Disabled", "{shape}");
        assert_eq!(machine.counts().logins, 1, "{shape}");
    }
    // The record says of each drive who erased it and how.
    let world = lab.world().await;
    for server in &servers {
        let cleaned = world
            .runs
            .iter()
            .find(|run| &run.spec.server_ref.name == server && run.spec.kind == RunKind::Cleaning)
            .unwrap_or_else(|| panic!("{server} has no record of its cleaning"));
        let drives = &cleaned.status.as_ref().expect("a status").drives;
        assert!(!drives.is_empty(), "{server}");
        assert_eq!(cleaned.spec.plan.len(), drives.len(), "{server}");
    }
    for reason in ["Available", "Cleanup", "ReportedErased"] {
        lab.hears(&servers[0], reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_machine_that_speaks_tls_goes_over_one_pinned_connection() {
    let lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(1).shape(Shape::Lenovo).tls(true))
        .idle()
        .await;
    take_its_word(&lab).await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    let bmc = lab.world().await.bmc(lab.endpoint(0)).cloned();
    let pin = note(bmc.as_ref().expect("the BMC"), names::TLS_PIN).map(str::to_owned);
    assert!(pin.is_some_and(|pin| pin.starts_with("sha256:")));
    let machine = lab.fleet().machine(0);
    machine.write_drives("a tenant's secret");
    live(&lab, &[lab.server_of(0).await.name_any()]).await;
    assert_eq!(readable_drives(&machine), [""; 0]);
    let counts = machine.counts();
    assert_eq!((counts.logins, counts.failed_logins), (1, 0), "{counts:?}");
    assert!(counts.connections <= 3, "{counts:?}");
    // All that anybody can read who may not read Secrets.
    let world = lab.world().await;
    let ours = ListParams::default().labels(&lab.selector());
    let inventories = lab.all::<ServerInventory>().list(&ours).await.unwrap();
    // The long inventory is there, not only its object.
    let serials = inventories.iter().flat_map(|inventory| &inventory.status);
    let serials = serials.flat_map(|status| &status.drives);
    assert!(
        serials
            .filter(|drive| drive.serial_number.is_some())
            .count()
            >= 2
    );
    let all = ListParams::default();
    let events = lab.all::<Event>().list(&all).await.unwrap();
    let said = serde_json::to_string(&(
        (&world.endpoints, &world.bmcs, &world.servers, &world.runs),
        (&world.boots, &inventories, &events),
    ))
    .unwrap();
    assert!(said.contains(&machine.serial()), "not everything is there");
    assert!(!said.contains(&machine.password()));
}

#[tokio::test(flavor = "multi_thread")]
async fn drives_that_cannot_be_erased_keep_a_server_in_cleanup_until_somebody_answers_for_it() {
    let lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(2).erase(Erase::NotOffered))
        .idle()
        .await;
    take_its_word(&lab).await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 2).await;
    lab.claim_many(2).await;
    lab.eventually(|world| world.powered_on() == 2).await;
    for machine in lab.fleet().machines() {
        machine.write_drives("a tenant's secret");
    }
    lab.release("claim-000").await;
    lab.release("claim-001").await;
    let (signed, waived) = (
        lab.server_of(0).await.name_any(),
        lab.server_of(1).await.name_any(),
    );
    let kept = |world: &World, server: &str| {
        is(world, server, &ServerState::Cleanup)
            && world.says(server, "Erased", "False", "ErasureUnavailable")
    };
    let world = lab
        .eventually(|world| kept(world, &signed) && kept(world, &waived))
        .await;
    for (machine, server) in lab.fleet().machines().zip([&signed, &waived]) {
        let erased = world.server_condition(server, "Erased").expect("Erased");
        for drive in machine.drives() {
            assert!(erased.message.contains(&drive.serial), "{}", erased.message);
        }
        assert!(
            erased.message.contains(names::CLEANED_BY),
            "{}",
            erased.message
        );
    }
    lab.hears(&signed, "ErasureUnavailable").await;
    // Nobody gets it meanwhile, and the one who waits is told that a server is being cleaned.
    lab.claim("next").await;
    lab.eventually(|world| world.waiting() == 1).await;
    lab.stays(Duration::from_secs(3), |world| {
        world.bound() == 0 && kept(world, &signed) && kept(world, &waived)
    })
    .await;
    lab.release("next").await;
    lab.eventually(|world| world.claims.is_empty()).await;

    lab.annotate_server(&signed, names::CLEANED_BY, "alice")
        .await;
    let world = lab
        .eventually(|world| is(world, &signed, &ServerState::Available))
        .await;
    assert!(kept(&world, &waived), "a sign-off is for one server");
    assert_eq!(
        note(world.server(&signed).unwrap(), names::CLEANED_BY),
        None,
        "it is used up"
    );
    assert_eq!(note(world.server(&signed).unwrap(), names::DIRTY), None);
    lab.eventually(|world| {
        world.runs.iter().any(|run| {
            run.spec.server_ref.name == signed && run.spec.actor.as_deref() == Some("alice")
        })
    })
    .await;

    lab.policy(json!({"cleaning": {"method": "Disabled"}}))
        .await;
    let world = lab
        .eventually(|world| is(world, &waived, &ServerState::Available))
        .await;
    assert!(!world.says(&waived, "Erased", "True", "ReportedErased"));
    for machine in lab.fleet().machines() {
        assert_eq!(readable_drives(&machine).len(), machine.drives().len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drives_in_an_enclosure_that_other_nodes_reach_are_never_written_and_are_named() {
    let lab = Lab::start()
        .fleet(|fleet| fleet.machines(1).shape(Shape::MultiNode).shared_drives(2))
        .idle()
        .await;
    take_its_word(&lab).await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 4).await;
    lab.claim("tenant").await;
    let server = lab.bound_server("tenant").await.name_any();
    lab.eventually(|world| world.powered_on() == 1).await;
    let machine = lab.fleet().machine(0);
    machine.write_drives("everybody's data");
    let is_shared = |path: &str| path.starts_with("/redfish/v1/Storage/");
    let shared: Vec<String> = machine
        .drives()
        .into_iter()
        .filter(|drive| is_shared(&drive.path))
        .map(|drive| drive.serial)
        .collect();
    assert_eq!(shared.len(), 2);
    lab.release("tenant").await;
    let kept = |world: &World| {
        is(world, &server, &ServerState::Cleanup)
            && world.says(&server, "Erased", "False", "DrivesNeverWritten")
    };
    let world = lab.eventually(kept).await;
    let said = &world.server_condition(&server, "Erased").unwrap().message;
    assert!(shared.iter().all(|serial| said.contains(serial)), "{said}");
    let readable = readable_drives(&machine);
    assert!(
        shared.iter().all(|serial| readable.contains(serial)),
        "a shared drive was erased: {readable:?}"
    );
    // One drive of its own was erased; those of the other nodes and of the enclosure were not.
    assert_eq!(readable.len(), machine.drives().len() - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_whose_erasure_fails_keeps_its_server_in_cleanup_and_is_named() {
    let lab = Lab::start().small().servers(1).idle().await;
    take_its_word(&lab).await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    let machine = lab.fleet().machine(0);
    machine.set_erase(Erase::Fails);
    lab.claim("tenant").await;
    lab.eventually(|world| world.powered_on() == 1).await;
    machine.write_drives("a tenant's secret");
    lab.release("tenant").await;
    let server = lab.server_of(0).await.name_any();
    let failed = |world: &World| {
        world.runs.iter().any(|run| {
            run.status
                .iter()
                .flat_map(|status| &status.drives)
                .any(|drive| drive.outcome.as_str() == "Failed")
        })
    };
    lab.eventually(failed).await;
    lab.stays(Duration::from_secs(2), |world| {
        is(world, &server, &ServerState::Cleanup)
    })
    .await;
    assert!(!readable_drives(&machine).is_empty());
    // Mended, it goes on by itself.
    machine.set_erase(Erase::Works);
    lab.eventually(|world| is(world, &server, &ServerState::Available))
        .await;
    assert_eq!(readable_drives(&machine), [""; 0]);
    assert_eq!(
        lab.all::<ServerInventory>()
            .get(&server)
            .await
            .unwrap()
            .name_any(),
        server
    );
    assert_eq!(resets(&machine).len(), 2, "{:?}", resets(&machine));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_servers_given_back_at_once_than_is_usual_wait_until_somebody_has_looked() {
    let lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(8))
        .idle()
        .await;
    take_its_word(&lab).await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 8).await;
    let claims = lab.claim_many(8).await;
    lab.eventually(|world| world.powered_on() == 8).await;
    for claim in &claims {
        lab.release(claim).await;
    }
    let braked = |world: &World| {
        let all = world.servers.iter();
        all.filter(|it| world.says(&it.name_any(), "Ready", "False", "BrakeEngaged"))
            .map(|it| it.name_any())
            .collect::<Vec<_>>()
    };
    let world = lab.eventually(|world| !braked(world).is_empty()).await;
    let stopped = braked(&world)[0].clone();
    let said = world.server_condition(&stopped, "Ready").unwrap();
    assert!(
        said.message.contains(names::BRAKE_ACKNOWLEDGED),
        "{}",
        said.message
    );
    lab.hears(&stopped, "BrakeEngaged").await;
    lab.stays(Duration::from_secs(4), |world| {
        !braked(world).is_empty() && world.available() < 6
    })
    .await;
    let still_on = |lab: &Lab| {
        let on = lab.fleet().machines();
        on.filter(|it| it.power_state() == "On").count()
    };
    assert!(still_on(&lab) >= 1, "nobody was spared");
    // Each acknowledgement is good for as many again.
    for _ in 0..30 {
        lab.acknowledge().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        if lab.world().await.available() == 8 {
            break;
        }
    }
    lab.eventually(|world| world.available() == 8 && world.claims.is_empty())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_servers_given_back_at_once_no_more_than_the_brakes_limit_are_touched_until_somebody_acknowledges()
 {
    let lab = Lab::start().small().servers(50).idle().await;
    take_its_word(&lab).await;
    lab.policy(json!({"rates": {"powerOnsPerMinute": 600, "powerOffsPerMinute": 600, "erasuresPerMinute": 600}}))
        .await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 50).await;
    let claims = lab.claim_many(50).await;
    lab.eventually(|world| world.bound() == 50 && world.powered_on() == 50)
        .await;
    for machine in lab.fleet().machines() {
        machine.write_drives("somebody's data");
    }
    for claim in &claims {
        lab.release(claim).await;
    }
    let paused = |world: &World| {
        let all = world.servers.iter();
        all.filter(|it| world.says(&it.name_any(), "Ready", "False", "BrakeEngaged"))
            .count()
    };
    // The sixth start is the one that is more than five, and engages it.
    lab.eventually(|world| paused(world) >= 44 && world.claims.len() >= 44)
        .await;
    let touched = || {
        let all = lab.fleet().machines();
        all.filter(|it| resets(it).len() > 1 || it.power_state() != "On")
            .count()
    };
    let wiped = || {
        let all = lab.fleet().machines();
        all.filter(|it| readable_drives(it).len() < it.drives().len())
            .count()
    };
    lab.stays(Duration::from_secs(10), |world| {
        paused(world) >= 44 && touched() <= 6 && wiped() <= 5
    })
    .await;
    println!(
        "before anybody looked: {} touched, {} wiped",
        touched(),
        wiped()
    );
    lab.acknowledge().await;
    lab.eventually(|_| touched() > 6).await;
    // Each acknowledgement is good for as many again, and no more.
    let mut asked = 1;
    while lab.world().await.available() < 50 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(touched() <= 6 * (asked + 1), "{} after {asked}", touched());
        assert!(asked < 40, "{asked} acknowledgements did not do");
        lab.acknowledge().await;
        asked += 1;
    }
    println!("{asked} acknowledgements");
    let world = lab.eventually(|world| world.claims.is_empty()).await;
    assert_eq!(world.available(), 50);
    assert_eq!(wiped(), 50);
    for machine in lab.fleet().machines() {
        assert_eq!(readable_drives(&machine), [""; 0]);
    }
}
