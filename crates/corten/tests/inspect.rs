//! `corten inspect`, the real binary, against simulated machines.

// Helpers of a test fail as the test does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::Stdio;
use std::time::Duration;

use corten_sim::{Effect, Fleet, MachineHandle, Rule, Shape};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;

mod common;

const USER: &str = "operator";
const PASSWORD: &str = "correct horse";

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs it with the password on standard input, and checks that no stream ever shows it.
async fn inspect_as(password: &str, address: &str, flags: &[&str]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_corten"))
        .args([
            "inspect",
            address,
            "--username",
            USER,
            "--password-file",
            "-",
        ])
        .args(["--log", "trace"])
        .args(flags)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A run that fails before it needs a password does not read it.
    let _ = stdin.write_all(format!("{password}\n").as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let ran = Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(
        !ran.out.contains(password) && !ran.err.contains(password),
        "{}",
        ran.err
    );
    ran
}

async fn inspect(address: &str, flags: &[&str]) -> Ran {
    inspect_as(PASSWORD, address, flags).await
}

async fn inspect_json(address: &str, flags: &[&str]) -> Value {
    let ran = inspect(address, &[flags, &["-o", "json"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

async fn machine(shape: Shape) -> (Fleet, MachineHandle) {
    let fleet = Fleet::builder()
        .shape(shape)
        .credentials(USER, PASSWORD)
        .start()
        .await
        .unwrap();
    let machine = fleet.machine(0);
    (fleet, machine)
}

/// The line that a person reads, not the log.
fn message(ran: &Ran) -> String {
    let from = ran.err.find("corten: ").unwrap_or_default();
    ran.err[from..].to_owned()
}

#[tokio::test]
async fn every_shape_is_inspected_within_forty_requests_and_leaves_no_session() {
    for shape in Shape::ALL {
        let (_fleet, machine) = machine(shape).await;
        let report = inspect_json(&machine.url(), &[]).await;
        let systems = machine.systems();
        let servers = report["servers"].as_array().unwrap();
        assert_eq!(servers.len(), systems.len(), "{shape:?}");
        for (server, system) in servers.iter().zip(&systems) {
            let uuid = system.uuid.to_ascii_lowercase();
            assert_eq!(server["systemUUID"], uuid.as_str(), "{shape:?}");
            assert_eq!(
                server["status"]["serialNumber"],
                system.serial.as_str(),
                "{shape:?}"
            );
            assert_eq!(server["status"]["powerState"], "Off", "{shape:?}");
            assert!(server.get("notRead").is_none(), "{shape:?}: {server:#}");
        }
        assert!(
            report["bmc"]["status"]["firmwareVersion"].is_string(),
            "{shape:?}"
        );
        let requests = report["requests"].as_u64().unwrap();
        assert_eq!(requests, machine.counts().requests, "{shape:?}");
        // Those two offer no `$expand`: one request for each part, then.
        let most = match shape {
            Shape::OpenBmc | Shape::MultiNode => 100,
            _ => 40,
        };
        assert!(
            requests <= most * systems.len() as u64,
            "{shape:?}: {requests}"
        );
        assert_eq!(machine.sessions(), 0, "{shape:?}");
        assert!(machine.counts().connections <= 2, "{shape:?}");
    }
}

#[tokio::test]
async fn the_same_names_stand_in_table_yaml_and_json() {
    let (_fleet, machine) = machine(Shape::Dell).await;
    let json = inspect_json(&machine.url(), &[]).await;
    let yaml = inspect(&machine.url(), &["-o", "yaml"]).await.out;
    let table = inspect(&machine.url(), &[]).await.out;
    for name in [
        "serialNumber",
        "totalSystemMemory",
        "processors",
        "networkInterfaces",
        "powerState",
    ] {
        assert!(json["servers"][0]["status"].get(name).is_some(), "{name}");
        assert!(
            yaml.contains(name) && table.contains(&format!("status.{name}")),
            "{name}\n{table}"
        );
    }
    assert!(
        table.contains("requests: ") && table.contains("status.firmwareVersion"),
        "{table}"
    );
}

#[tokio::test]
async fn an_unknown_certificate_is_shown_and_gets_no_credential_until_it_is_pinned() {
    let fleet = Fleet::builder()
        .tls(true)
        .credentials(USER, PASSWORD)
        .start()
        .await
        .unwrap();
    let machine = fleet.machine(0);
    let host = machine.url().replace("https://", "");
    let ran = inspect(&host, &[]).await;
    assert_eq!(ran.code, Some(5), "{}", ran.err);
    assert_eq!(machine.counts().logins + machine.counts().basic, 0);
    let said = message(&ran);
    let pin = said
        .split("--pin ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    let report = inspect_json(&host, &["--pin", pin]).await;
    assert_eq!(report["certificate"], pin);
    inspect_json(&host, &["--insecure"]).await;
    let wrong = format!("sha256:{}", "0".repeat(64));
    let ran = inspect(&host, &["--pin", &wrong]).await;
    assert!(
        ran.code == Some(5) && message(&ran).contains("changed from"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_certificate_of_a_given_ca_is_trusted_and_another_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut fleets = Vec::new();
    for name in ["own.pem", "other.pem"] {
        let fleet = Fleet::builder()
            .signed_tls()
            .credentials(USER, PASSWORD)
            .start()
            .await
            .unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, fleet.authority_pem().unwrap()).unwrap();
        files.push(file.to_str().unwrap().to_owned());
        fleets.push(fleet);
    }
    let url = fleets[0].machine(0).url();
    inspect_json(&url, &["--ca", &files[0]]).await;
    let ran = inspect(&url, &["--ca", &files[1]]).await;
    assert!(
        ran.code == Some(5) && message(&ran).contains("not signed by a given CA"),
        "{}",
        ran.err
    );
    let ran = inspect(&url, &["--ca", "/no/such/file"]).await;
    assert!(
        ran.code == Some(1) && message(&ran).contains("/no/such/file"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_wrong_password_costs_one_failed_login_and_says_what_to_do() {
    let (_fleet, machine) = machine(Shape::Hpe).await;
    let ran = inspect_as("wrong horse", &machine.url(), &[]).await;
    assert_eq!(ran.code, Some(4), "{}", ran.err);
    assert!(
        message(&ran).contains("refused user \"operator\""),
        "{}",
        ran.err
    );
    assert_eq!(machine.counts().failed_logins, 1);
}

#[tokio::test]
async fn each_thing_that_can_be_wrong_has_its_own_words() {
    let (_fleet, machine) = machine(Shape::Dell).await;
    let url = machine.url();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let refused = inspect(&nobody, &[]).await;
    assert!(
        refused.code == Some(3) && message(&refused).contains("connection refused"),
        "{}",
        refused.err
    );

    let https_on_http = inspect(&url.replace("http://", "https://"), &["--insecure"]).await;
    assert!(
        https_on_http.code == Some(5) && message(&https_on_http).contains("http://"),
        "{}",
        https_on_http.err
    );

    let contradiction = inspect(&url, &["--insecure"]).await;
    assert!(
        message(&contradiction).contains("no meaning for http://"),
        "{}",
        contradiction.err
    );

    let path = inspect(&format!("{url}/redfish/v1/Systems/1"), &[]).await;
    assert!(message(&path).contains("has a path"), "{}", path.err);

    machine.add_fault(Rule::new(Effect::Html)).unwrap();
    let portal = inspect(&url, &[]).await;
    assert!(
        portal.code == Some(6) && message(&portal).contains("does not speak Redfish"),
        "{}",
        portal.err
    );

    machine.clear_faults();
    machine.add_fault(Rule::new(Effect::Hang)).unwrap();
    let hung = inspect(&url, &["--timeout", "1"]).await;
    assert!(
        hung.code == Some(3) && message(&hung).contains("was not read in 1 s"),
        "{}",
        hung.err
    );
}

#[tokio::test]
async fn a_part_that_cannot_be_read_is_named_and_the_rest_is_printed() {
    let (_fleet, machine) = machine(Shape::Dell).await;
    let broken = Rule::new(Effect::Status(500)).path("/redfish/v1/Systems/*/Processors*");
    machine.add_fault(broken).unwrap();
    let report = inspect_json(&machine.url(), &[]).await;
    let server = &report["servers"][0];
    assert!(server["status"]["serialNumber"].is_string());
    assert!(
        server["notRead"][0]
            .as_str()
            .unwrap()
            .starts_with("processors: "),
        "{server:#}"
    );
}

#[tokio::test]
async fn an_interrupted_inspection_logs_its_session_out() {
    let (_fleet, machine) = machine(Shape::Dell).await;
    machine
        .add_fault(Rule::new(Effect::Hang).path("/redfish/v1/Systems/*"))
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_corten"))
        .args([
            "inspect",
            &machine.url(),
            "--username",
            USER,
            "--password-file",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{PASSWORD}\n").as_bytes())
        .await
        .unwrap();
    while machine.sessions() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    common::signal(child.id().unwrap(), "INT").await;
    assert!(!child.wait().await.unwrap().success());
    assert_eq!(machine.sessions(), 0);
}

#[tokio::test]
async fn the_report_names_the_quirks_of_the_product() {
    let (_fleet, machine) = machine(Shape::Hpe).await;
    let report = inspect_json(&machine.url(), &[]).await;
    let quirk = &report["quirks"][0];
    assert_eq!(quirk["name"], "RejectsWildcardEtag", "{report:#}");
    assert_eq!(quirk["toldBy"], "Vendor");
    let table = inspect(&machine.url(), &[]).await.out;
    assert!(table.contains("RejectsWildcardEtag, applied"), "{table}");
}
