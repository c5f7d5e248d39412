//! The simulated machines as a Redfish client meets them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test says what is wrong by ending"
)]

use std::time::Duration;

use corten_sim::{
    Contents, Effect, Erase, Fleet, Inventory, Limits, MachineHandle, Rule, Shape, Timing,
};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .danger_accept_invalid_certs(true)
        .no_proxy()
        .build()
        .unwrap()
}

async fn send(
    machine: &MachineHandle,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Response {
    let mut request = client()
        .request(method, format!("{}{path}", machine.url()))
        .basic_auth(machine.user(), Some(machine.password()));
    if let Some(body) = body {
        request = request.body(body.to_string());
    }
    request.send().await.unwrap()
}

async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn get(machine: &MachineHandle, path: &str) -> Value {
    let response = send(machine, Method::GET, path, None).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    json_of(response).await
}

/// All links in a document.
fn links(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, member) in map {
                match member {
                    Value::String(path) if key == "@odata.id" => {
                        found.push(path.split('#').next().unwrap().to_owned())
                    }
                    other => links(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| links(item, found)),
        _ => {}
    }
}

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..200 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}

async fn system(machine: &MachineHandle) -> Value {
    get(machine, &machine.systems()[0].path).await
}

async fn reset(machine: &MachineHandle, kind: &str) -> StatusCode {
    let path = format!("{}/Actions/ComputerSystem.Reset", machine.systems()[0].path);
    send(
        machine,
        Method::POST,
        &path,
        Some(json!({"ResetType": kind})),
    )
    .await
    .status()
}

#[tokio::test]
async fn every_link_of_every_shape_leads_somewhere_and_every_document_is_json() {
    let fleet = Fleet::builder()
        .machines(Shape::ALL.len())
        .shapes(Shape::ALL.to_vec())
        .start()
        .await
        .unwrap();
    for machine in fleet.machines() {
        let client = client();
        let mut seen = std::collections::BTreeSet::from(["/redfish/v1".to_owned()]);
        let mut open = vec!["/redfish/v1".to_owned()];
        while let Some(path) = open.pop() {
            let response = client
                .get(format!("{}{path}", machine.url()))
                .basic_auth(machine.user(), Some(machine.password()))
                .send()
                .await
                .unwrap();
            assert_eq!(
                response.status(),
                StatusCode::OK,
                "{} {path}",
                machine.shape()
            );
            let body = json_of(response).await;
            assert_eq!(body["@odata.id"], path.as_str(), "{}", machine.shape());
            let mut found = Vec::new();
            links(&body, &mut found);
            for link in found {
                if seen.insert(link.clone()) {
                    open.push(link);
                }
            }
        }
        println!(
            "{}: {} documents, {} connections",
            machine.shape(),
            seen.len(),
            machine.counts().connections
        );
    }
}

#[tokio::test]
async fn a_session_lets_in_until_it_is_deleted() {
    let fleet = Fleet::builder().start().await.unwrap();
    let machine = fleet.machine(0);
    let sessions = format!("{}/redfish/v1/SessionService/Sessions", machine.url());
    let client = client();
    let wrong = client
        .post(&sessions)
        .body(json!({"UserName": "root", "Password": "no"}).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let login = client
        .post(&sessions)
        .body(json!({"UserName": machine.user(), "Password": machine.password()}).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(login.status(), StatusCode::CREATED);
    let token = login.headers()["x-auth-token"].clone();
    let location = login.headers()["location"].to_str().unwrap().to_owned();
    let chassis = format!("{}/redfish/v1/Chassis", machine.url());
    assert_eq!(
        client.get(&chassis).send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let with =
        |request: reqwest::RequestBuilder| request.header("x-auth-token", token.clone()).send();
    assert_eq!(
        with(client.get(&chassis)).await.unwrap().status(),
        StatusCode::OK
    );
    let gone = with(client.delete(format!("{}{location}", machine.url())))
        .await
        .unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        with(client.get(&chassis)).await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let counts = machine.counts();
    assert_eq!((counts.logins, counts.failed_logins), (2, 1));
}

#[tokio::test]
async fn a_boot_override_for_once_is_used_up_by_one_boot() {
    let fleet = Fleet::builder()
        .post_time(Duration::from_millis(50))
        .start()
        .await
        .unwrap();
    let machine = fleet.machine(0);
    let path = machine.systems()[0].path.clone();
    let body =
        json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}});
    assert_eq!(
        send(&machine, Method::PATCH, &path, Some(body))
            .await
            .status(),
        StatusCode::OK
    );
    assert_eq!(machine.boot_override(), ("Once".into(), "Pxe".into()));
    assert_eq!(reset(&machine, "On").await, StatusCode::NO_CONTENT);
    assert_eq!(system(&machine).await["PowerState"], "On");
    eventually("the boot", || machine.booted().is_some()).await;
    assert_eq!(machine.booted().unwrap().target, "Pxe");
    assert_eq!(machine.boot_override().0, "Disabled");
    eventually("the operating system", || {
        machine.boot_progress() == "OSRunning"
    })
    .await;
    assert_eq!(
        reset(&machine, "ForceRestart").await,
        StatusCode::NO_CONTENT
    );
    eventually("the second boot", || {
        machine.booted().is_some_and(|boot| boot.count == 2)
    })
    .await;
    assert_eq!(machine.booted().unwrap().target, "None");
}

#[tokio::test]
async fn a_graceful_shutdown_takes_time_and_some_ignore_it() {
    let fleet = Fleet::builder().machines(2).on(true).start().await.unwrap();
    let (polite, stubborn) = (fleet.machine(0), fleet.machine(1));
    stubborn.ignore_shutdown(true);
    for machine in [&polite, &stubborn] {
        assert_eq!(
            reset(machine, "GracefulShutdown").await,
            StatusCode::NO_CONTENT
        );
    }
    assert_eq!(polite.power_state(), "PoweringOff");
    eventually("the shutdown", || polite.power_state() == "Off").await;
    assert_eq!(stubborn.power_state(), "On");
    assert_eq!(reset(&stubborn, "ForceOff").await, StatusCode::NO_CONTENT);
    assert_eq!(stubborn.power_state(), "Off");
    // iDRAC refuses what is so already.
    assert_eq!(reset(&stubborn, "ForceOff").await, StatusCode::CONFLICT);
    assert_eq!(
        stubborn
            .resets()
            .iter()
            .map(|reset| reset.kind.as_str())
            .collect::<Vec<_>>(),
        ["GracefulShutdown", "ForceOff"]
    );
}

#[tokio::test]
async fn a_secure_erase_is_a_task_and_only_a_working_one_erases() {
    let timing = Timing {
        erase: Duration::from_millis(80),
        ..Timing::default()
    };
    let fleet = Fleet::builder()
        .shape(Shape::Hpe)
        .timing(timing)
        .start()
        .await
        .unwrap();
    let machine = fleet.machine(0);
    let drives = machine.drives();
    for (drive, how, state, contents) in [
        (&drives[0], Erase::Works, "Completed", Contents::Erased),
        (
            &drives[1],
            Erase::Fails,
            "Exception",
            Contents::Data("factory".into()),
        ),
        (
            &drives[2],
            Erase::Lies,
            "Completed",
            Contents::Data("factory".into()),
        ),
    ] {
        machine.set_erase(how);
        let body = get(&machine, &drive.path).await;
        let target = body["Actions"]["#Drive.SecureErase"]["target"]
            .as_str()
            .unwrap()
            .to_owned();
        let accepted = send(&machine, Method::POST, &target, Some(json!({}))).await;
        assert_eq!(accepted.status(), StatusCode::ACCEPTED);
        let monitor = accepted.headers()["location"].to_str().unwrap().to_owned();
        let task = json_of(accepted).await["@odata.id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            send(&machine, Method::GET, &monitor, None).await.status(),
            StatusCode::ACCEPTED
        );
        tokio::time::sleep(Duration::from_millis(120)).await;
        assert_eq!(get(&machine, &task).await["TaskState"], state);
        let now = machine
            .drives()
            .into_iter()
            .find(|now| now.serial == drive.serial)
            .unwrap();
        assert_eq!(now.contents, contents);
    }
    machine.set_erase(Erase::NotOffered);
    assert_eq!(get(&machine, &drives[3].path).await["Actions"], json!({}));
}

#[tokio::test]
async fn virtual_media_is_one_device_seen_in_two_places_on_dell() {
    let fleet = Fleet::builder().start().await.unwrap();
    let machine = fleet.machine(0);
    let insert =
        "/redfish/v1/Managers/iDRAC.Embedded.1/VirtualMedia/CD/Actions/VirtualMedia.InsertMedia";
    let image = json!({"Image": "http://127.0.0.1/boot.iso"});
    assert_eq!(
        send(&machine, Method::POST, insert, Some(image))
            .await
            .status(),
        StatusCode::NO_CONTENT
    );
    let other = get(
        &machine,
        "/redfish/v1/Systems/System.Embedded.1/VirtualMedia/1",
    )
    .await;
    assert_eq!(
        (&other["Inserted"], &other["Image"], &other["ConnectedVia"]),
        (
            &json!(true),
            &json!("http://127.0.0.1/boot.iso"),
            &json!("URI")
        )
    );
    assert_eq!(machine.media(0), ["http://127.0.0.1/boot.iso"]);
}

#[tokio::test]
async fn expand_puts_members_in_place_and_select_picks_properties() {
    let fleet = Fleet::builder()
        .machines(2)
        .shapes(vec![Shape::Dell, Shape::OpenBmc])
        .start()
        .await
        .unwrap();
    let dell = fleet.machine(0);
    let memory = format!("{}/Memory", dell.systems()[0].path);
    let expanded = get(&dell, &format!("{memory}?$expand=.($levels=1)")).await;
    assert_eq!(expanded["Members"].as_array().unwrap().len(), 16);
    assert_eq!(expanded["Members"][0]["MemoryDeviceType"], "DDR4");
    let selected = get(
        &dell,
        &format!("{}?$select=PowerState,Boot", dell.systems()[0].path),
    )
    .await;
    assert!(selected["SerialNumber"].is_null() && selected["PowerState"] == "Off");
    let paged = get(&dell, &format!("{memory}?$top=3&$skip=2")).await;
    assert_eq!(paged["Members"].as_array().unwrap().len(), 3);
    let refused = send(
        &fleet.machine(1),
        Method::GET,
        "/redfish/v1/Systems?$expand=.",
        None,
    )
    .await;
    assert_eq!(refused.status(), StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn etags_guard_changes_and_spare_bodies() {
    let fleet = Fleet::builder().shape(Shape::Lenovo).start().await.unwrap();
    let machine = fleet.machine(0);
    let path = machine.systems()[0].path.clone();
    let first = send(&machine, Method::GET, &path, None).await;
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(json_of(first).await["@odata.etag"], tag.as_str());
    let client = client();
    let url = format!("{}{path}", machine.url());
    let request = |method: Method, name: &'static str, tag: &str| {
        client
            .request(method, &url)
            .basic_auth(machine.user(), Some(machine.password()))
            .header(name, tag)
    };
    let same = request(Method::GET, "if-none-match", &tag)
        .send()
        .await
        .unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    let lit = json!({"IndicatorLED": "Lit"}).to_string();
    let refused = request(Method::PATCH, "if-match", "\"stale\"")
        .body(lit.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), StatusCode::PRECONDITION_FAILED);
    let done = request(Method::PATCH, "if-match", &tag)
        .body(lit)
        .send()
        .await
        .unwrap();
    assert_eq!(done.status(), StatusCode::OK);
    assert_eq!(machine.led(), "Lit");
    assert_eq!(
        request(Method::GET, "if-none-match", &tag)
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn bios_settings_wait_for_the_next_boot() {
    let fleet = Fleet::builder().start().await.unwrap();
    let machine = fleet.machine(0);
    let path = format!("{}/Bios/Settings", machine.systems()[0].path);
    let body = json!({"Attributes": {"SriovGlobalEnable": "Enabled"}});
    assert_eq!(
        send(&machine, Method::PATCH, &path, Some(body))
            .await
            .status(),
        StatusCode::OK
    );
    assert_eq!(machine.bios()["SriovGlobalEnable"], "Disabled");
    reset(&machine, "On").await;
    eventually("the boot", || {
        machine.bios()["SriovGlobalEnable"] == "Enabled"
    })
    .await;
    let unknown = json!({"Attributes": {"Nonsense": 1}});
    assert_eq!(
        send(&machine, Method::PATCH, &path, Some(unknown))
            .await
            .status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn faults_hit_what_they_are_told_to() {
    let fleet = Fleet::builder().shape(Shape::Hpe).start().await.unwrap();
    let machine = fleet.machine(0);
    let client = client();
    let url = |path: &str| format!("{}{path}", machine.url());
    machine
        .add_fault(Rule::new(Effect::Status(503)).path("/redfish/v1").times(1))
        .unwrap();
    assert_eq!(
        client
            .get(url("/redfish/v1"))
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        client
            .get(url("/redfish/v1"))
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    machine.add_fault(Rule::new(Effect::Cut).times(1)).unwrap();
    assert!(client.get(url("/redfish/v1")).send().await.is_err());
    machine
        .add_fault(Rule::new(Effect::Partial).times(1))
        .unwrap();
    assert!(
        client
            .get(url("/redfish/v1"))
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .is_err()
    );
    machine
        .add_fault(Rule::new(Effect::BrokenJson).times(1))
        .unwrap();
    let bytes = client
        .get(url("/redfish/v1"))
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert!(serde_json::from_slice::<Value>(&bytes).is_err());
    machine.hang(true);
    let waiting = tokio::spawn(client.get(url("/redfish/v1")).send());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    machine.hang(false);
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
    machine.unplug().await;
    assert!(
        client
            .get(url("/redfish/v1"))
            .send()
            .await
            .unwrap_err()
            .is_connect()
    );
    machine.replug().await.unwrap();
    assert_eq!(
        client
            .get(url("/redfish/v1"))
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_share_of_the_requests_goes_wrong_and_others_only_take_their_time() {
    let fleet = Fleet::builder().start().await.unwrap();
    let machine = fleet.machine(0);
    let url = format!("{}/redfish/v1", machine.url());
    let client = client();
    let get = async || client.get(&url).send().await.unwrap().status();
    let rule = Rule::new(Effect::Status(500)).share(0.5).times(1000);
    machine.add_fault(rule).unwrap();
    let mut wrong = 0;
    for _ in 0..200 {
        wrong += u32::from(get().await == StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert!((50..150).contains(&wrong), "{wrong}");
    machine.clear_faults();
    machine
        .add_fault(Rule::new(Effect::LatencyMs(80)).times(1))
        .unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(get().await, StatusCode::OK);
    assert!(begun.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn no_more_sessions_are_given_than_there_are() {
    let limits = Limits {
        sessions: Some(2),
        ..Limits::default()
    };
    let fleet = Fleet::builder().limits(limits).start().await.unwrap();
    let machine = fleet.machine(0);
    let body = json!({"UserName": machine.user(), "Password": machine.password()});
    let sessions = format!("{}/redfish/v1/SessionService/Sessions", machine.url());
    let client = client();
    let login = async || {
        let request = client.post(&sessions).body(body.to_string());
        request.send().await.unwrap()
    };
    let first = login().await;
    assert_eq!(first.status(), StatusCode::CREATED);
    assert_eq!(login().await.status(), StatusCode::CREATED);
    assert!(!login().await.status().is_success());
    let location = first.headers()["location"].to_str().unwrap();
    let gone = send(&machine, Method::DELETE, location, None).await;
    assert!(gone.status().is_success());
    assert_eq!(login().await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn each_machine_has_a_certificate_of_its_own() {
    let fleet = Fleet::builder()
        .machines(2)
        .tls(true)
        .start()
        .await
        .unwrap();
    let client = Client::builder()
        .danger_accept_invalid_certs(true)
        .tls_info(true)
        .no_proxy()
        .build()
        .unwrap();
    let mut shown = Vec::new();
    for machine in fleet.machines() {
        let answer = client.get(machine.url().to_string()).send().await.unwrap();
        let told = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
        shown.push(told.peer_certificate().unwrap().to_vec());
    }
    assert_ne!(shown[0], shown[1]);
}

#[tokio::test]
async fn an_account_is_locked_after_too_many_wrong_passwords() {
    let limits = Limits {
        lockout_after: Some(2),
        lockout_for: Some(Duration::from_millis(150)),
        ..Limits::default()
    };
    let fleet = Fleet::builder().limits(limits).start().await.unwrap();
    let machine = fleet.machine(0);
    let url = format!("{}/redfish/v1/Chassis", machine.url());
    let login = async |password: &str| {
        client()
            .get(&url)
            .basic_auth(machine.user(), Some(password))
            .send()
            .await
            .unwrap()
            .status()
    };
    for _ in 0..2 {
        assert_eq!(login("wrong").await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(login(&machine.password()).await, StatusCode::UNAUTHORIZED);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(login(&machine.password()).await, StatusCode::OK);
    assert_eq!(machine.counts().failed_logins, 3);
}

#[tokio::test]
async fn a_replaced_machine_shows_another_identity_and_certificate() {
    let fleet = Fleet::builder().signed_tls().start().await.unwrap();
    let machine = fleet.machine(0);
    let (uuid, serial) = (machine.uuid(), machine.serial());
    let before = system(&machine).await;
    assert_eq!(
        (before["UUID"].as_str(), before["SerialNumber"].as_str()),
        (Some(&*uuid), Some(&*serial))
    );
    machine.replace_identity();
    let after = system(&machine).await;
    assert_ne!(after["UUID"], before["UUID"]);
    assert!(fleet.authority_pem().unwrap().contains("CERTIFICATE"));
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let fleet = Fleet::builder().start().await.unwrap();
    let machine = fleet.machine(0);
    let error = Fleet::builder()
        .address(machine.ip())
        .port(machine.port())
        .start()
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains(&machine.address().to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn a_small_machine_lists_less() {
    let fleet = Fleet::builder()
        .inventory(Inventory::Small)
        .start()
        .await
        .unwrap();
    let memory = get(
        &fleet.machine(0),
        "/redfish/v1/Systems/System.Embedded.1/Memory",
    )
    .await;
    assert_eq!(memory["Members@odata.count"], 2);
}
