//! Corten among others: who else writes its objects, other boot providers, addresses that change, a site's own CA, and people in the aisle.

use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use corten_api::metal::{
    Bmc, BmcSecret, IndicatorLed, PowerState, Server, ServerBootConfiguration,
    ServerBootConfigurationState, ServerClaim,
};
use corten_api::{names, samples::merge};
use corten_engine::BootProvider;
use corten_sim::{Fleet, Shape};
use corten_tests::lab::{Lab, World, note, resets};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::onboarding::{A_MINUTE, bmc_by_address, create, fails_by, is_ready, ready, secret};

/// What `manager` says of an object, in its status or beside it, by server-side apply.
async fn apply<K>(api: &Api<K>, name: &str, manager: &str, part: Value)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut fields = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": { "name": name },
    });
    merge(&mut fields, &part);
    let (params, patch) = (PatchParams::apply(manager), Patch::Apply(fields));
    let answer = if part.get("status").is_some() {
        api.patch_status(name, &params, &patch).await
    } else {
        api.patch(name, &params, &patch).await
    };
    answer.unwrap_or_else(|error| panic!("{manager} applies {name}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_on_a_server_and_its_bmc_is_there_after_a_claims_whole_life() {
    const CHECKED: &str = "example.com/Checked";
    const RACK: &str = "example.com/rack";
    let lab = Lab::start().small().servers(1).idle().await;
    lab.policy(json!({ "cleaning": { "acceptReported": true } }))
        .await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    let (server, bmc) = (lab.server_of(0).await.name_any(), lab.endpoint(0));
    let condition = json!({
        "type": CHECKED, "status": "True", "reason": "BurnedIn", "message": "for three days",
        "lastTransitionTime": "2026-11-21T09:00:00Z",
    });
    let checked = json!({ "status": { "conditions": [condition] } });
    let kept = json!({
        "metadata": { "labels": { RACK: "r1" }, "annotations": { CHECKED: "by alice" } },
        "spec": { "taints": [{ "key": RACK, "value": "r1", "effect": "NoBind" }] },
    });
    apply(&lab.all::<Bmc>(), bmc, "checker", checked.clone()).await;
    apply(&lab.all::<Server>(), &server, "checker", checked).await;
    apply(&lab.all::<Server>(), &server, "checker", kept).await;
    let foreign = |world: &World| {
        let read = world.server(&server).unwrap();
        (
            world.bmc_condition(bmc, CHECKED).cloned(),
            world.server_condition(&server, CHECKED).cloned(),
            read.spec.taints.clone(),
            read.labels().get(RACK).cloned(),
            note(read, CHECKED).map(str::to_owned),
        )
    };
    let before = foreign(&lab.world().await);
    assert!(before.0.is_some() && before.1.is_some() && before.2.len() == 1);

    let tolerant = json!({ "tolerations": [{ "key": RACK, "operator": "Exists" }] });
    lab.claim_with("tenant", tolerant).await;
    lab.eventually(|world| {
        world.powered_on() == 1 && world.says(&server, "Ready", "True", "Reserved")
    })
    .await;
    // A BMC at rest is not written; this is a reason to, and looked at once.
    let change = json!({ "spec": { "protocol": { "insecureSkipTLSVerify": true } } });
    let changed = lab.edit(&lab.all::<Bmc>(), bmc, change).await;
    let generation = changed.metadata.generation;
    lab.eventually(|world| {
        let ready = world.bmc_condition(bmc, names::CONDITION_READY);
        ready.is_some_and(|ready| ready.observed_generation >= generation)
    })
    .await;
    lab.release("tenant").await;
    let world = lab
        .eventually(|world| world.claims.is_empty() && world.available() == 1)
        .await;
    assert_eq!(note(world.server(&server).unwrap(), names::DIRTY), None);
    assert_eq!(foreign(&world), before);
}

/// Another address at which what listens at `to` is reached.
async fn relay(to: SocketAddrV4) -> SocketAddr {
    // The fleets' own addresses begin at 127.16.
    let listener = TcpListener::bind((Ipv4Addr::new(127, 1, 0, 1), 0))
        .await
        .unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    at
}

async fn point(lab: &Lab, bmc: &str, at: SocketAddr) {
    let change = json!({
        "spec": { "access": { "ip": at.ip().to_string() }, "protocol": { "port": at.port() } },
    });
    lab.edit(&lab.all::<Bmc>(), bmc, change).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_whose_address_changes_is_followed_and_another_machine_that_is_there_is_not_touched()
{
    let lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(2).shape(Shape::Dell))
        .idle()
        .await;
    let (machine, other) = (lab.fleet().machine(0), lab.fleet().machine(1));
    secret(&lab, "own", &machine.user(), &machine.password()).await;
    let name = format!("{}-moves", lab.name());
    bmc_by_address(&lab, &name, &machine, Some("http"), "own").await;
    lab.eventually(|world| world.available() == 1).await;
    let server = lab.server_of(0).await;

    let moved = relay(machine.address()).await;
    point(&lab, &name, moved).await;
    let world = lab
        .eventually(|world| {
            let (status, reason, message) = ready(world, &name);
            assert_eq!(status, "True", "{reason}: {message}");
            message.contains(&moved.to_string())
        })
        .await;
    let status = world.bmc(&name).unwrap().status.clone().unwrap();
    assert_eq!(status.ip, Some(moved.ip().to_string()));

    other.record(true);
    point(&lab, &name, other.address().into()).await;
    let world = lab.eventually(fails_by(&name, "IdentityMismatch")).await;
    let message = ready(&world, &name).2;
    assert!(message.contains(&server.spec.system_uuid), "{message}");
    let wish = json!({ "spec": { "indicatorLED": "Blinking" } });
    lab.edit(&lab.all::<Server>(), &server.name_any(), wish)
        .await;
    lab.stays(Duration::from_secs(3), |world| {
        world.servers.len() == 1 && !is_ready(world, &name)
    })
    .await;
    let changes: Vec<String> = other
        .journal()
        .into_iter()
        .filter(|line| !line.starts_with("GET ") && !line.contains("/Sessions"))
        .collect();
    assert_eq!(changes, [""; 0]);
    assert!(resets(&other).is_empty());

    point(&lab, &name, machine.address().into()).await;
    lab.eventually(|world| is_ready(world, &name) && machine.led() == "Blinking")
        .await;
    assert_eq!(other.led(), "Off");
}

/// Who says whether the server may be switched on.
fn writers_of_state(boot: &ServerBootConfiguration) -> Vec<&str> {
    boot.managed_fields()
        .iter()
        .filter(|entry| {
            let fields = entry.fields_v1.as_ref();
            fields.is_some_and(|fields| fields.0.pointer("/f:status/f:state").is_some())
        })
        .filter_map(|entry| entry.manager.as_deref())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_boot_provider_alone_says_when_a_server_may_be_switched_on() {
    let lab = Lab::start()
        .small()
        .servers(1)
        .engine(|config| config.boot = BootProvider::External)
        .available()
        .await;
    let machine = lab.fleet().machine(0);
    lab.claim("tenant").await;
    let world = lab
        .eventually(|world| {
            let server = &world.servers[0];
            world.bound() == 1
                && world.boots.len() == 1
                && server.spec.boot_configuration_ref.is_some()
        })
        .await;
    let (server, boot) = (world.servers[0].name_any(), world.boots[0].name_any());
    assert_eq!(world.boots[0].spec.server_ref.name, server);
    lab.stays(Duration::from_secs(3), |world| {
        let status = world.boots[0].status.as_ref();
        status.is_none_or(|status| status.state.is_none()) && resets(&machine).is_empty()
    })
    .await;

    let boots = lab.here::<ServerBootConfiguration>();
    let why = "the image's manifest was not found";
    let answer = json!({ "status": { "state": "Error", "conditions": [{
        "type": "ImageValidation", "status": "False", "reason": "ValidationFailed", "message": why,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } });
    apply(&boots, &boot, "boot-operator", answer).await;
    let waits = |world: &World| {
        world.says(&server, "Ready", "False", "BootConfigurationError")
            && world
                .server_condition(&server, "Ready")
                .is_some_and(|said| said.message.contains(why))
            && resets(&machine).is_empty()
    };
    lab.eventually(waits).await;
    lab.stays(Duration::from_secs(3), waits).await;

    let answer = json!({ "status": { "state": "Ready" } });
    apply(&boots, &boot, "boot-operator", answer).await;
    lab.eventually(|world| {
        world.powered_on() == 1 && world.says(&server, "Ready", "True", "Reserved")
    })
    .await;
    // It is reconciled for another reason, and for none.
    let off = json!({ "spec": { "power": "Off" } });
    lab.edit(&lab.here::<ServerClaim>(), "tenant", off).await;
    lab.eventually(|world| World::power(&world.servers[0]) == Some(&PowerState::Off))
        .await;
    lab.stays(Duration::from_secs(3), |world| {
        let boot = &world.boots[0];
        let state = boot
            .status
            .as_ref()
            .and_then(|status| status.state.as_ref());
        state == Some(&ServerBootConfigurationState::Ready)
            && writers_of_state(boot) == ["boot-operator"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_secrets_ca_is_believed_and_another_gets_no_password() {
    let lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(2).signed_tls())
        .idle()
        .await;
    let elsewhere = Fleet::builder().signed_tls().start().await.unwrap();
    let authorities = [
        ("right", lab.fleet().authority_pem()),
        ("wrong", elsewhere.authority_pem()),
    ];
    let bmc = |name: &str| format!("{}-{name}", lab.name());
    for (machine, (name, authority)) in lab.fleet().machines().zip(authorities) {
        let object = json!({
            "metadata": { "name": name },
            "stringData": {
                "username": machine.user(), "password": machine.password(), "ca.crt": authority,
            },
        });
        create::<Secret>(&lab.here(), object).await;
        bmc_by_address(&lab, &bmc(name), &machine, None, name).await;
    }
    let (right, wrong) = (bmc("right"), bmc("wrong"));
    let world = lab
        .eventually(|world| is_ready(world, &right) && fails_by(&wrong, "TLSFailed")(world))
        .await;
    assert_eq!(note(world.bmc(&right).unwrap(), names::TLS_PIN), None);
    let counts = lab.fleet().machine(1).counts();
    let passwords = (counts.logins, counts.failed_logins, counts.basic);
    assert_eq!(passwords, (0, 0, 0), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_there_before_the_endpoint_goes_to_no_certificate_that_just_came() {
    let lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(1).tls(true))
        .idle()
        .await;
    let (bmc, machine) = (lab.endpoint(0).to_owned(), lab.fleet().machine(0));
    machine.set_password("the-sites-own");
    let object = json!({
        "metadata": { "name": bmc, "labels": lab.labels() },
        "stringData": { "username": machine.user(), "password": "the-sites-own" },
    });
    create::<BmcSecret>(&lab.all(), object).await;
    lab.plug_in().await;
    let world = lab.eventually(fails_by(&bmc, "TLSFailed")).await;
    assert_eq!(note(world.bmc(&bmc).unwrap(), names::TLS_PIN), None);
    let counts = machine.counts();
    let passwords = (counts.logins, counts.failed_logins, counts.basic);
    assert_eq!(passwords, (0, 0, 0), "{counts:?}");
    let (_, _, message) = ready(&world, &bmc);
    let pin = message
        .split_whitespace()
        .find_map(|word| word.strip_prefix("sha256:"))
        .expect("the fingerprint");
    let pin = format!("sha256:{}", pin.trim_end_matches(','));
    let vouched = json!({ "metadata": { "annotations": { (names::TLS_PIN): pin } } });
    lab.edit(&lab.all::<Bmc>(), &bmc, vouched).await;
    lab.eventually(|world| is_ready(world, &bmc) && world.available() == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_bmc_nobody_knows_says_so_and_goes_on_when_it_comes() {
    let lab = Lab::start().small().idle().await;
    let (machine, bmc) = (lab.fleet().machine(0), format!("{}-late", lab.name()));
    let server = format!("{bmc}-system-0");
    let object = json!({
        "metadata": { "name": server, "labels": lab.labels() },
        "spec": { "systemUUID": machine.uuid(), "bmcRef": { "name": bmc } },
    });
    create::<Server>(&lab.all(), object).await;
    let world = lab
        .within(A_MINUTE, |world| {
            world.says(&server, "Ready", "False", "BMCUnreachable")
        })
        .await;
    let said = world.server_condition(&server, "Ready").unwrap();
    assert!(
        said.message.contains(&format!("{bmc:?}")),
        "{}",
        said.message
    );
    secret(&lab, "own", &machine.user(), &machine.password()).await;
    bmc_by_address(&lab, &bmc, &machine, Some("http"), "own").await;
    lab.eventually(|world| is_ready(world, &bmc) && world.available() == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_bmc_is_asked_nothing_and_its_server_says_why_until_it_is_back() {
    let lab = Lab::start().small().available().await;
    let (machine, bmc) = (lab.fleet().machine(0), lab.endpoint(0).to_owned());
    let server = lab.server_of(0).await.name_any();
    let ignore = |value: Value| json!({"metadata": {"annotations": {(names::OPERATION): value}}});
    lab.edit(&lab.all::<Bmc>(), &bmc, ignore(json!("ignore")))
        .await;
    let world = lab
        .within(A_MINUTE, |world| {
            world.says(&server, "Ready", "False", "BMCUnreachable")
        })
        .await;
    let said = world.server_condition(&server, "Ready").unwrap();
    assert!(said.message.contains("is ignored"), "{}", said.message);

    // Its session ends. Then neither it nor its machine is spoken to for longer than between two polls, whoever wants what.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = machine.counts().requests;
    lab.claim("tenant").await;
    let wish = json!({ "spec": { "indicatorLED": "Blinking" } });
    lab.edit(&lab.all::<Server>(), &server, wish).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(machine.counts().requests, before);
    assert_eq!(machine.power_state(), "Off");

    lab.edit(&lab.all::<Bmc>(), &bmc, ignore(Value::Null)).await;
    lab.within(A_MINUTE, |world| {
        world.bound() == 1 && machine.power_state() == "On" && machine.led() == "Blinking"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_ends_while_its_bmc_is_dead_says_what_it_waits_for() {
    let lab = Lab::start().small().available().await;
    lab.claim("tenant").await;
    let machine = lab.fleet().machine(0);
    lab.eventually(|world| world.bound() == 1 && machine.booted().is_some())
        .await;
    machine.hang(true);
    lab.release("tenant").await;
    let says = |world: &World, kind: &str| {
        let server = &world.servers[0].name_any();
        world
            .server_condition(server, kind)
            .map(|said| said.reason.clone())
    };
    let world = lab
        .within(A_MINUTE, |world| {
            let said = world.claim_condition("tenant", names::CONDITION_RELEASED);
            said.is_some_and(|said| said.reason == "BMCUnreachable")
        })
        .await;
    let of_server = says(&world, names::CONDITION_POWERED_OFF);
    assert_eq!(of_server.as_deref(), Some("BMCUnreachable"));
    machine.hang(false);
    lab.within(A_MINUTE, |world| world.claims.is_empty()).await;
    assert_eq!(machine.power_state(), "Off");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_locator_light_blinks_and_goes_off_as_the_spec_says_by_either_property() {
    let shapes = vec![Shape::Dell, Shape::Hpe, Shape::Lenovo];
    let lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(shapes.len()).shapes(shapes))
        .available()
        .await;
    for (wish, wanted) in [
        ("Blinking", IndicatorLed::Blinking),
        ("Off", IndicatorLed::Off),
    ] {
        for server in lab.world().await.servers {
            let change = json!({ "spec": { "indicatorLED": wish } });
            lab.edit(&lab.all::<Server>(), &server.name_any(), change)
                .await;
        }
        lab.eventually(|world| {
            let is_seen = |server: &Server| {
                let status = server.status.as_ref();
                status.and_then(|status| status.indicator_led.as_ref()) == Some(&wanted)
            };
            lab.fleet().machines().all(|machine| machine.led() == wish)
                && world.servers.iter().all(is_seen)
        })
        .await;
    }
}
