//! From an Endpoint or a BMC object to Servers, and everything that can be wrong on the way.

use std::time::{Duration, Instant};

use corten_api::metal::{Bmc, BmcSecret, Endpoint, Server, ServerBootConfiguration};
use corten_engine::macdb::MacDatabase;
use corten_sim::{Effect, MachineHandle, Rule, Shape};
use corten_tests::lab::{Lab, World};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Api, PostParams},
};
use serde_json::{Value, json};

/// A BMC is noticed to be dead within a minute; the test's own machine may be slow.
pub(super) const A_MINUTE: Duration = Duration::from_secs(75);

pub(super) async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: serde::de::DeserializeOwned + Clone + std::fmt::Debug + serde::Serialize,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

/// A BMC object for `machine` with its address inline, and credentials from the Secret `secret` of the laboratory.
pub(super) async fn bmc_by_address(
    lab: &Lab,
    name: &str,
    machine: &MachineHandle,
    scheme: Option<&str>,
    secret: &str,
) -> Bmc {
    let object = json!({
        "metadata": { "name": name, "labels": lab.labels() },
        "spec": {
            "access": { "ip": machine.ip().to_string(), "macAddress": machine.mac().to_string() },
            "protocol": { "name": "Redfish", "port": machine.port(), "scheme": scheme },
            "secretRef": { "namespace": lab.namespace(), "name": secret },
        },
    });
    create(&lab.all(), object).await
}

pub(super) async fn secret(lab: &Lab, name: &str, user: &str, password: &str) {
    let object = json!({
        "metadata": { "name": name },
        "stringData": { "username": user, "password": password },
    });
    create::<Secret>(&lab.here(), object).await;
}

pub(super) fn ready<'a>(world: &'a World, bmc: &str) -> (&'a str, &'a str, &'a str) {
    let ready = world.bmc_condition(bmc, "Ready");
    ready.map_or(("", "", ""), |ready| {
        (
            ready.status.as_str(),
            ready.reason.as_str(),
            ready.message.as_str(),
        )
    })
}

pub(super) fn is_ready(world: &World, bmc: &str) -> bool {
    ready(world, bmc).0 == "True"
}

pub(super) fn fails_by<'a>(bmc: &'a str, reason: &'a str) -> impl Fn(&World) -> bool + 'a {
    move |world| ready(world, bmc).1 == reason && ready(world, bmc).0 == "False"
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_becomes_a_bmc_with_its_secret_and_a_server_in_few_requests() {
    let lab = Lab::start().servers(4).available().await;
    let world = lab.world().await;
    for (index, machine) in lab.fleet().machines().enumerate() {
        let bmc = world.bmc(lab.endpoint(index)).unwrap();
        let status = bmc.status.as_ref().unwrap();
        assert_eq!(status.manufacturer.as_deref(), Some(machine.manufacturer()));
        assert_eq!(status.ip, Some(machine.ip().to_string()));
        assert!(status.firmware_version.is_some() && status.last_seen.is_none());
        assert_eq!(ready(&world, &bmc.name_any()).1, "Connected");
        let server = world
            .server(&format!("{}-system-0", bmc.name_any()))
            .unwrap();
        assert_eq!(server.spec.system_uuid, machine.uuid().to_lowercase());
        assert_eq!(server.labels()[corten_api::names::AGENT], lab.name());
        let counts = machine.counts();
        assert!(counts.requests <= 40, "{counts:?}");
        assert_eq!((counts.logins, counts.failed_logins), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chassis_of_several_nodes_becomes_a_server_for_each() {
    let lab = Lab::start()
        .fleet(|fleet| fleet.machines(1).shape(Shape::MultiNode))
        .available()
        .await;
    let world = lab.world().await;
    let machine = lab.fleet().machine(0);
    let mut uuids: Vec<String> = world
        .servers
        .iter()
        .map(|server| server.spec.system_uuid.clone())
        .collect();
    uuids.sort();
    let mut expected: Vec<String> = machine
        .systems()
        .iter()
        .map(|system| system.uuid.to_string().to_lowercase())
        .collect();
    expected.sort();
    assert_eq!(uuids, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_no_bmc_is_left_alone_and_the_condition_says_so() {
    let lab = Lab::start().servers(1).idle().await;
    let name = format!("{}-printer", lab.name());
    let machine = lab.fleet().machine(0);
    let object = json!({
        "metadata": { "name": name, "labels": lab.labels() },
        "spec": { "macAddress": "02:00:00:00:00:01", "ip": machine.ip().to_string() },
    });
    create::<Endpoint>(&lab.all(), object).await;
    let world = lab
        .eventually(|world| {
            world
                .endpoints
                .iter()
                .any(|endpoint| endpoint.status.is_some())
        })
        .await;
    let ready = &world.endpoints[0].status.as_ref().unwrap().conditions[0];
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "NotABMC")
    );
    assert!(
        ready.message.contains("02:00:00:00:00:01"),
        "{}",
        ready.message
    );
    assert_eq!((world.bmcs.len(), machine.counts().requests), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_a_bmcs_prefix_that_speaks_no_redfish_is_left_alone() {
    let lab = Lab::start().servers(1).idle().await;
    lab.fleet()
        .machine(0)
        .add_fault(Rule::new(Effect::Html))
        .unwrap();
    lab.plug_in().await;
    let world = lab
        .eventually(|world| {
            world
                .endpoints
                .iter()
                .any(|endpoint| endpoint.status.is_some())
        })
        .await;
    let ready = &world.endpoints[0].status.as_ref().unwrap().conditions[0];
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "NotRedfish")
    );
    assert!(world.bmcs.is_empty() && world.servers.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_endpoint_with_the_same_mac_creates_nothing_and_names_the_first() {
    let lab = Lab::start().servers(1).available().await;
    let second = format!("{}-twin", lab.name());
    let machine = lab.fleet().machine(0);
    let object = json!({
        "metadata": { "name": second, "labels": lab.labels() },
        "spec": { "macAddress": machine.mac().to_string().replace(':', "-"), "ip": machine.ip().to_string() },
    });
    create::<Endpoint>(&lab.all(), object).await;
    let twin = |world: &World| {
        world
            .endpoints
            .iter()
            .find(|endpoint| endpoint.name_any() == second)
            .cloned()
    };
    let world = lab
        .eventually(|world| twin(world).is_some_and(|endpoint| endpoint.status.is_some()))
        .await;
    let ready = twin(&world).unwrap().status.unwrap().conditions[0].clone();
    assert_eq!(ready.reason, "DuplicateMAC");
    assert!(ready.message.contains(lab.endpoint(0)), "{}", ready.message);
    assert_eq!((world.bmcs.len(), world.servers.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_once_and_a_corrected_secret_at_once() {
    let lab = Lab::start().servers(1).idle().await;
    let machine = lab.fleet().machine(0);
    let right = machine.password();
    machine.set_password("changed-by-the-site");
    lab.plug_in().await;
    let bmc = lab.endpoint(0).to_owned();
    let world = lab.eventually(fails_by(&bmc, "AuthFailed")).await;
    let message = ready(&world, &bmc).2;
    assert!(
        message.contains(&format!("BMCSecret {bmc}")) && !message.contains(&right),
        "{message}"
    );
    let next = world.bmc(&bmc).unwrap().annotations()["corten.dev/next-login-attempt"]
        .parse::<jiff::Timestamp>();
    assert!(next.unwrap() > jiff::Timestamp::now() + jiff::SignedDuration::from_mins(8));
    lab.stays(Duration::from_secs(20), |_| {
        machine.counts().failed_logins == 1
    })
    .await;
    let corrected = json!({ "data": null, "stringData": { "username": machine.user(), "password": "changed-by-the-site" } });
    lab.edit(&lab.all::<BmcSecret>(), &bmc, corrected).await;
    lab.eventually(|world| is_ready(world, &bmc) && world.available() == 1)
        .await;
    assert_eq!(machine.counts().failed_logins, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_login_budget_outlives_the_engine() {
    let mut lab = Lab::start().servers(1).idle().await;
    lab.fleet().machine(0).set_password("changed-by-the-site");
    lab.plug_in().await;
    let bmc = lab.endpoint(0).to_owned();
    lab.eventually(fails_by(&bmc, "AuthFailed")).await;
    lab.stop_engine().await;
    lab.start_engine();
    let machine = lab.fleet().machine(0);
    let before = machine.counts().requests;
    lab.eventually(|_| machine.counts().requests > before).await;
    lab.stays(Duration::from_secs(5), |_| {
        machine.counts().failed_logins == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_within_ten_minutes_of_a_good_login_waits_for_nothing_and_writes_nothing() {
    let mut lab = Lab::start().servers(2).available().await;
    let before = lab.world().await;
    lab.stop_engine().await;
    lab.start_engine();
    let logins = |lab: &Lab| lab.fleet().counts().logins;
    lab.eventually(|_| logins(&lab) == 4).await;
    lab.stays(Duration::from_secs(3), |world| {
        let version = |world: &World| {
            world
                .bmcs
                .iter()
                .map(ResourceExt::resource_version)
                .collect::<Vec<_>>()
        };
        version(world) == version(&before) && world.available() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_were_rotated_are_never_rewritten() {
    let lab = Lab::start().servers(1).idle().await;
    let machine = lab.fleet().machine(0);
    machine.set_password("the-sites-own");
    let bmc = lab.endpoint(0).to_owned();
    let own = json!({
        "metadata": { "name": bmc, "labels": lab.labels() },
        "stringData": { "username": machine.user(), "password": "the-sites-own" },
    });
    let before: BmcSecret = create(&lab.all(), own).await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    lab.edit(
        &lab.all::<Endpoint>(),
        &bmc,
        json!({ "metadata": { "annotations": { "touched": "yes" } } }),
    )
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = lab.all::<BmcSecret>().get(&bmc).await.unwrap();
    assert_eq!(after.resource_version(), before.resource_version());
    assert_eq!(machine.counts().failed_logins, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_factory_credential_is_tried_one_in_ten_minutes() {
    let factory = json!({ "macPrefixes": [{
        "macPrefix": "D0:94:66", "protocolScheme": "http", "port": 18443, "type": "bmc",
        "defaultCredentials": [
            { "username": "root", "password": "an-older-default" },
            { "username": "root", "password": "a-newer-default" },
        ],
    }]});
    let mut lab = Lab::start()
        .fleet(|fleet| {
            fleet
                .machines(1)
                .shape(Shape::Dell)
                .port(18443)
                .credentials("root", "a-newer-default")
        })
        .engine(move |config| {
            config.macs = MacDatabase::only_file("test", &factory.to_string())
                .unwrap()
                .into();
        })
        .onboarding()
        .await;
    let bmc = lab.endpoint(0).to_owned();
    let world = lab.eventually(fails_by(&bmc, "AuthFailed")).await;
    let message = ready(&world, &bmc).2;
    assert!(
        message.contains("factory credential 1 of 2") && !message.contains("default\""),
        "{message}"
    );
    let machine = lab.fleet().machine(0);
    lab.stays(Duration::from_secs(5), |_| {
        machine.counts().failed_logins == 1
    })
    .await;
    // Ten minutes later, after a restart.
    lab.stop_engine().await;
    let past = json!({ "metadata": { "annotations": { "corten.dev/next-login-attempt": "2026-01-01T00:00:00Z" } } });
    lab.edit(&lab.all::<Bmc>(), &bmc, past).await;
    lab.start_engine();
    lab.eventually(|world| is_ready(world, &bmc)).await;
    assert_eq!(lab.fleet().machine(0).counts().failed_logins, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_its_bmc_inline_needs_no_bmc_object() {
    let lab = Lab::start().servers(1).idle().await;
    let machine = lab.fleet().machine(0);
    secret(&lab, "own", &machine.user(), &machine.password()).await;
    let name = format!("{}-inline", lab.name());
    let object = json!({
        "metadata": { "name": name, "labels": lab.labels() },
        "spec": {
            "systemUUID": machine.uuid(),
            "bmc": {
                "address": machine.ip().to_string(),
                "protocol": { "name": "Redfish", "port": machine.port(), "scheme": "http" },
                "secretRef": { "namespace": lab.namespace(), "name": "own" },
            },
        },
    });
    create::<Server>(&lab.all(), object).await;
    let world = lab.eventually(|world| world.available() == 1).await;
    assert!(world.bmcs.is_empty());
    assert_eq!(
        world.servers[0].status.as_ref().unwrap().serial_number,
        Some(machine.serial())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_is_restarted_once_when_asked_and_its_machine_runs_on() {
    let lab = Lab::start().servers(1).available().await;
    let bmc = lab.endpoint(0).to_owned();
    let machine = lab.fleet().machine(0);
    machine.record(true);
    let asked = json!({ "metadata": { "annotations": { "metal.ironcore.dev/operation": "graceful-restart-bmc" } } });
    lab.edit(&lab.all::<Bmc>(), &bmc, asked).await;
    let consumed = |world: &World| {
        let bmc = world.bmc(&bmc).unwrap();
        bmc.annotations()
            .keys()
            .all(|key| !key.contains("operation") && !key.contains("intent"))
    };
    lab.eventually(consumed).await;
    lab.within(A_MINUTE, |world| is_ready(world, &bmc)).await;
    let restarts = |journal: &[String]| {
        journal
            .iter()
            .filter(|line| line.contains("Manager.Reset"))
            .count()
    };
    assert_eq!(restarts(&machine.journal()), 1, "{:?}", machine.journal());
    let touched = machine
        .journal()
        .iter()
        .any(|line| line.contains("ComputerSystem.Reset"));
    assert!(!touched, "{:?}", machine.journal());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_while_onboarding_ends_with_one_of_everything_and_no_failed_login()
{
    let mut lab = Lab::start()
        .servers(8)
        .engine(|config| config.lease_duration = Duration::from_secs(2))
        .onboarding()
        .await;
    for pause in [30, 90, 200, 400] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        lab.crash_engine().await;
        lab.start_engine();
        // The crashed one's Lease has to run out first.
        tokio::time::sleep(Duration::from_millis(2200)).await;
    }
    let settled = |world: &World| {
        world.bmcs.len() == 8
            && world
                .bmcs
                .iter()
                .all(|bmc| matches!(ready(world, &bmc.name_any()).1, "Connected" | "LoginHeld"))
    };
    let world = lab.eventually(settled).await;
    assert_eq!(lab.fleet().counts().failed_logins, 0);
    // A crash between a login and its record costs ten minutes, never an account; a person may shorten them.
    for bmc in world
        .bmcs
        .iter()
        .filter(|bmc| ready(&world, &bmc.name_any()).1 == "LoginHeld")
    {
        let shortened =
            json!({ "metadata": { "annotations": { "corten.dev/next-login-attempt": null } } });
        lab.edit(&lab.all::<Bmc>(), &bmc.name_any(), shortened)
            .await;
    }
    let world = lab.eventually(|world| world.available() == 8).await;
    assert_eq!((world.bmcs.len(), world.servers.len()), (8, 8));
    assert_eq!(lab.fleet().counts().failed_logins, 0);
    assert!(
        lab.fleet()
            .machines()
            .all(|machine| machine.resets().is_empty())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_that_dies_is_said_to_be_lost_within_a_minute_and_keeps_what_was_known() {
    let lab = Lab::start().servers(2).available().await;
    let (dead, alive) = (lab.endpoint(0).to_owned(), lab.endpoint(1).to_owned());
    let machine = lab.fleet().machine(0);
    let model = lab
        .world()
        .await
        .bmc(&dead)
        .unwrap()
        .status
        .clone()
        .unwrap()
        .model;
    machine.hang(true);
    let died = jiff::Timestamp::now();
    let lost =
        |world: &World| matches!(ready(world, &dead), ("False", "Timeout" | "Unreachable", _));
    let world = lab.within(A_MINUTE, lost).await;
    let status = world.bmc(&dead).unwrap().status.clone().unwrap();
    assert_eq!(status.model, model);
    assert!(status.last_seen.unwrap() <= died + jiff::SignedDuration::from_secs(2));
    assert!(is_ready(&world, &alive));
    machine.hang(false);
    let world = lab
        .within(A_MINUTE * 2, |world| is_ready(world, &dead))
        .await;
    assert_eq!(
        world.bmc(&dead).unwrap().status.as_ref().unwrap().last_seen,
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_bmcs_cost_the_others_nothing() {
    let lab = Lab::start().servers(24).idle().await;
    for machine in lab.fleet().machines().take(6) {
        machine.hang(true);
    }
    let began = Instant::now();
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 18).await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bmcs_that_answer_and_hang_at_the_login_hold_no_place_from_the_others() {
    let lab = Lab::start()
        .servers(12)
        .small()
        .engine(|config| config.onboarding = 2)
        .idle()
        .await;
    for (number, machine) in lab.fleet().machines().take(6).enumerate() {
        // Where the login is, or what it is for.
        let path = ["/redfish/v1/SessionService/Sessions", "/redfish/v1/Systems"];
        let hang = Rule::new(Effect::Hang).path(path[number % 2]);
        machine.add_fault(hang).unwrap();
    }
    lab.plug_in().await;
    // Each of them hangs for half a minute at least, and two of them would have both places.
    lab.within(Duration::from_secs(25), |world| world.available() == 6)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_pinned_at_first_sight_and_a_changed_one_refused() {
    let lab = Lab::start()
        .fleet(|fleet| fleet.machines(1).tls(true))
        .available()
        .await;
    let bmc = lab.endpoint(0).to_owned();
    let pin = lab.world().await.bmc(&bmc).unwrap().annotations()["corten.dev/tls-pin"].clone();
    assert!(pin.starts_with("sha256:"));
    let machine = lab.fleet().machine(0);
    machine.replace_certificate();
    let logins = machine.counts().logins;
    let world = lab.within(A_MINUTE, fails_by(&bmc, "TLSFailed")).await;
    let message = ready(&world, &bmc).2;
    assert!(
        message.contains(&pin) && message.contains("corten.dev/tls-pin"),
        "{message}"
    );
    assert_eq!(machine.counts().logins, logins);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sites_own_password_is_not_sent_to_an_unknown_certificate() {
    let lab = Lab::start()
        .fleet(|fleet| fleet.machines(1).tls(true))
        .idle()
        .await;
    let machine = lab.fleet().machine(0);
    machine.set_password("the-sites-own");
    secret(&lab, "own", &machine.user(), "the-sites-own").await;
    let name = format!("{}-own", lab.name());
    bmc_by_address(&lab, &name, &machine, None, "own").await;
    let world = lab.eventually(fails_by(&name, "TLSFailed")).await;
    let counts = machine.counts();
    assert_eq!((counts.logins, counts.failed_logins), (0, 0), "{counts:?}");
    let message = ready(&world, &name).2.to_owned();
    let pin = message
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"))
        .expect("the fingerprint");
    let pinned = json!({ "metadata": { "annotations": { "corten.dev/tls-pin": pin.trim_end_matches(',') } } });
    lab.edit(&lab.all::<Bmc>(), &name, pinned).await;
    lab.eventually(|world| is_ready(world, &name) && world.available() == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_needs_to_be_asked_for() {
    let lab = Lab::start().servers(1).idle().await;
    let machine = lab.fleet().machine(0);
    secret(&lab, "own", &machine.user(), &machine.password()).await;
    let name = format!("{}-plain", lab.name());
    bmc_by_address(&lab, &name, &machine, None, "own").await;
    lab.eventually(|world| ready(world, &name).0 == "False")
        .await;
    assert_eq!(machine.counts().logins, 0);
    let scheme = json!({ "spec": { "protocol": { "scheme": "http" } } });
    lab.edit(&lab.all::<Bmc>(), &name, scheme).await;
    lab.eventually(|world| is_ready(world, &name)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_and_found_when_it_comes() {
    let lab = Lab::start().servers(1).idle().await;
    let machine = lab.fleet().machine(0);
    let name = format!("{}-late", lab.name());
    bmc_by_address(&lab, &name, &machine, Some("http"), "late").await;
    let world = lab.eventually(fails_by(&name, "SecretMissing")).await;
    let message = ready(&world, &name).2;
    assert!(
        message.contains(&format!("Secret {}/late", lab.namespace())),
        "{message}"
    );
    secret(&lab, "late", &machine.user(), &machine.password()).await;
    lab.eventually(|world| world.available() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bmcs_that_show_one_machine_get_one_server_and_both_are_named() {
    let lab = Lab::start().servers(1).available().await;
    let machine = lab.fleet().machine(0);
    let first = lab.endpoint(0).to_owned();
    secret(&lab, "own", &machine.user(), &machine.password()).await;
    let second = format!("{}-again", lab.name());
    bmc_by_address(&lab, &second, &machine, Some("http"), "own").await;
    let disputed = |world: &World, bmc: &str| {
        let condition = world.bmc_condition(bmc, "IdentityDisputed").cloned();
        condition.is_some_and(|it| it.message.contains(&first) && it.message.contains(&second))
    };
    let server = format!("{first}-system-0");
    let world = lab
        .eventually(|world| {
            let on_server = world.server_condition(&server, "IdentityDisputed");
            disputed(world, &first)
                && disputed(world, &second)
                && on_server.is_some_and(|it| it.status == "True")
        })
        .await;
    assert_eq!(world.servers.len(), 1);
    lab.claim("greedy").await;
    lab.stays(Duration::from_secs(2), |world| world.bound() == 0)
        .await;
    lab.delete(&lab.all::<Bmc>(), &second).await;
    lab.eventually(|world| world.bmcs.len() == 1 && world.bound() == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_behind_the_address_is_not_taken_for_the_expected_one() {
    let mut lab = Lab::start().servers(1).available().await;
    let bmc = lab.endpoint(0).to_owned();
    let before = lab.world().await.servers[0].spec.clone();
    lab.stop_engine().await;
    lab.fleet().machine(0).replace_identity();
    lab.start_engine();
    let world = lab.eventually(fails_by(&bmc, "IdentityMismatch")).await;
    let message = ready(&world, &bmc).2;
    assert!(message.contains(&before.system_uuid), "{message}");
    assert_eq!(world.servers.len(), 1);
    assert_eq!(world.servers[0].spec.system_uuid, before.system_uuid);
    assert!(lab.fleet().machine(0).resets().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_bmc_is_deleted_in_bounded_time() {
    let lab = Lab::start().servers(1).available().await;
    let bmc = lab.endpoint(0).to_owned();
    lab.fleet().machine(0).hang(true);
    let began = Instant::now();
    lab.delete(&lab.all::<Endpoint>(), &bmc).await;
    lab.within(Duration::from_secs(45), |world| {
        world.bmcs.is_empty() && world.servers.is_empty()
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(45));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_whose_server_is_claimed_is_held() {
    let lab = Lab::start().servers(1).available().await;
    let bmc = lab.endpoint(0).to_owned();
    lab.claim("tenant").await;
    lab.eventually(|world| world.bound() == 1).await;
    lab.delete(&lab.all::<Bmc>(), &bmc).await;
    let held = |world: &World| {
        world
            .bmc_condition(&bmc, "Held")
            .is_some_and(|held| held.message.contains("tenant"))
    };
    lab.eventually(held).await;
    lab.stays(Duration::from_secs(3), |world| {
        world.bmcs.len() == 1 && world.bound() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_at_rest_is_polled_and_not_written() {
    let lab = Lab::start().servers(3).available().await;
    let version = |world: &World| {
        let bmcs = world.bmcs.iter().map(ResourceExt::resource_version);
        bmcs.chain(world.servers.iter().map(ResourceExt::resource_version))
            .collect::<Vec<_>>()
    };
    let before = version(&lab.world().await);
    lab.fleet().reset_counts();
    lab.stays(Duration::from_secs(70), |world| version(world) == before)
        .await;
    let counts = lab.fleet().counts();
    assert!((3..=12).contains(&counts.requests), "{counts:?}");
    assert_eq!(counts.logins, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_configuration_that_cannot_be_booted_says_why() {
    let lab = Lab::start().servers(1).available().await;
    let server = lab.world().await.servers[0].name_any();
    let boot = |name: &str, image: &str, ignition: Option<&str>| {
        json!({
            "metadata": { "name": name },
            "spec": {
                "serverRef": { "name": server }, "image": image,
                "ignitionSecretRef": ignition.map(|name| json!({ "name": name })),
            },
        })
    };
    let api: Api<ServerBootConfiguration> = lab.here();
    create(
        &api,
        boot(
            "good",
            "ghcr.io/ironcore-dev/os-images/gardenlinux:1443.3",
            None,
        ),
    )
    .await;
    create(&api, boot("bad", "oci://nowhere", None)).await;
    create(
        &api,
        boot("waits", "https://images.example.com/os.efi", Some("later")),
    )
    .await;
    let state = |world: &World, name: &str| {
        let boot = world.boots.iter().find(|boot| boot.name_any() == name)?;
        boot.status
            .as_ref()?
            .state
            .as_ref()
            .map(|state| state.as_str().to_owned())
    };
    let is =
        |world: &World, name: &str, wanted: &str| state(world, name).as_deref() == Some(wanted);
    lab.eventually(|world| {
        is(world, "good", "Ready") && is(world, "bad", "Error") && is(world, "waits", "Pending")
    })
    .await;
    let object = json!({ "metadata": { "name": "later" }, "stringData": { "ignition": "{\"ignition\":{\"version\":\"3.4.0\"}}" } });
    create::<Secret>(&lab.here(), object).await;
    lab.eventually(|world| is(world, "waits", "Ready")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_metal_operator_held_takes_its_bmc_along_and_goes() {
    let lab = Lab::start().small().servers(1).available().await;
    let endpoints: Api<Endpoint> = lab.all();
    let name = lab.endpoint(0);
    let held = json!({ "metadata": { "finalizers": ["metal.ironcore.dev/endpoint"] } });
    lab.edit(&endpoints, name, held).await;
    lab.delete(&endpoints, name).await;
    lab.eventually(|world| world.bmcs.is_empty() && world.servers.is_empty())
        .await;
    for _ in 0..50 {
        if endpoints.get_opt(name).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}", endpoints.get(name).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_whose_endpoint_went_while_nobody_looked_stays_and_says_so() {
    let mut lab = Lab::start().small().servers(1).available().await;
    let endpoints: Api<Endpoint> = lab.all();
    let name = lab.endpoint(0).to_owned();
    let endpoint = endpoints.get(&name).await.unwrap();
    lab.stop_engine().await;
    lab.delete(&endpoints, &name).await;
    lab.start_engine();
    let is_missing = |world: &World| world.bmc_condition(&name, "EndpointMissing").is_some();
    lab.eventually(is_missing).await;
    let world = lab.world().await;
    assert!(is_ready(&world, &name), "it is used at its last address");
    assert_eq!(world.available(), 1);
    let again = json!({
        "metadata": { "name": name, "labels": endpoint.labels() },
        "spec": endpoint.spec,
    });
    create(&endpoints, again).await;
    lab.eventually(|world| !is_missing(world)).await;
}
