//! What a claim names and cannot boot: each ends in a condition that says what is wrong, and no machine is switched on for it.

use std::sync::Arc;
use std::time::Duration;

use corten_api::metal::{ServerBootConfiguration, ServerBootConfigurationState};
use corten_api::names;
use corten_boot::Desk as _;
use corten_boot::cache::Cache;
use corten_boot::image::networks::Networks;
use corten_boot::image::{Images, Options};
use corten_tests::lab::{Lab, World, note, resets};
use corten_wire::{Outcome, Report, Task};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::probe::{Probe, services};

/// The first bytes of an EFI program for another processor.
fn efi_of_arm() -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes[0x84..0x86].copy_from_slice(&0xaa64_u16.to_le_bytes());
    bytes
}

/// A disk's first blocks, with a partition table's mark.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

/// A site's server of images, and a registry that wants a login. Gives host and port.
async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) if request.len() < 8192 => request.push(byte),
                        _ => return,
                    }
                }
                let request = String::from_utf8_lossy(&request);
                let (status, more, body) = match request.split(' ').nth(1).unwrap_or_default() {
                    "/arm.efi" => ("200 OK", "", efi_of_arm()),
                    "/disk.raw" => ("200 OK", "", disk()),
                    "/text" => ("200 OK", "", b"hello".to_vec()),
                    path if path.starts_with("/v2/") => (
                        "401 Unauthorized",
                        "WWW-Authenticate: Basic realm=\"site\"\r\n",
                        Vec::new(),
                    ),
                    _ => ("404 Not Found", "", Vec::new()),
                };
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n"
                );
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            });
        }
    });
    host
}

fn images(folder: &std::path::Path, host: &str) -> Images {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    let options = Options {
        insecure: vec![host.to_owned()],
        networks: Networks::only(vec!["127.0.0.0/8".parse().unwrap()]),
        ..Options::default()
    };
    Images::new(
        Arc::new(Cache::open(folder, 1 << 20).unwrap()),
        tls,
        options,
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_booted_says_why_and_no_machine_is_switched_on_for_it() {
    let host = serve().await;
    let at = |path: &str| format!("http://{host}/{path}");
    let (zeros, hints) = ("0".repeat(64), names::ROOT_DEVICE_HINTS);
    type Case<'a> = (&'a str, String, Vec<(&'a str, &'a str)>, Value, &'a str);
    let none = || json!({});
    let cases: Vec<Case<'_>> = vec![
        ("missing", at("none"), vec![], none(), "ImageMissing"),
        (
            "digest",
            at("disk.raw"),
            vec![(names::IMAGE_SHA256, &zeros)],
            none(),
            "ImageDigestMismatch",
        ),
        (
            "no-digest",
            at("disk.raw"),
            vec![(names::IMAGE_SHA256, "abc")],
            none(),
            "ImageDigestInvalid",
        ),
        (
            "processor",
            at("arm.efi"),
            vec![],
            none(),
            "ImageArchitecture",
        ),
        ("text", at("text"), vec![], none(), "ImageNotBootable"),
        (
            "down",
            "http://127.0.0.1:1/x".into(),
            vec![],
            none(),
            "RegistryUnreachable",
        ),
        (
            "login",
            format!("{host}/private:latest"),
            vec![],
            none(),
            "ImageLoginRequired",
        ),
        (
            "hint",
            at("disk.raw"),
            vec![(hints, r#"{"colour": "red"}"#)],
            none(),
            "RootDeviceHintsInvalid",
        ),
        (
            "hints",
            at("disk.raw"),
            vec![(hints, "the large one")],
            none(),
            "RootDeviceHintsInvalid",
        ),
        (
            "ignition",
            at("disk.raw"),
            vec![],
            json!({"ignitionSecretRef": {"name": "rubbish"}}),
            "IgnitionSecretInvalid",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let fetcher = Arc::new(images(folder.path(), &host));
    let lab = Lab::start()
        .small()
        .servers(cases.len())
        .engine(move |config| {
            config.services = Some(services(Some(fetcher.clone())));
        });
    let lab = lab.idle().await;
    lab.policy(json!({"discovery": "OutOfBand"})).await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == cases.len())
        .await;
    let rubbish = json!({
        "metadata": {"name": "rubbish", "namespace": lab.namespace()},
        "stringData": {"ignition": "{not json"},
    });
    let rubbish: Secret = serde_json::from_value(rubbish).unwrap();
    lab.here::<Secret>()
        .create(&Default::default(), &rubbish)
        .await
        .unwrap();
    for (name, image, annotations, spec, _) in &cases {
        let mut whole = json!({"image": image});
        whole
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        lab.claim_annotated(name, annotations, whole).await;
    }
    for (name, .., reason) in &cases {
        let mut said = None;
        for _ in 0..300 {
            let boot = lab.here::<ServerBootConfiguration>().get_opt(name).await;
            said = boot.unwrap().and_then(|boot| boot.status);
            let is_it = said.iter().flat_map(|status| &status.conditions);
            if is_it
                .clone()
                .any(|condition| condition.status == "False" && condition.reason == *reason)
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let said = said.unwrap_or_else(|| panic!("{name}: nothing is said"));
        let condition = said.conditions.iter().find(|said| said.reason == *reason);
        let condition = condition.unwrap_or_else(|| panic!("{name}: {said:#?}"));
        assert!(
            condition.message.len() > 20,
            "{name}: {}",
            condition.message
        );
        let expected = if *reason == "RegistryUnreachable" {
            ServerBootConfigurationState::Pending
        } else {
            ServerBootConfigurationState::Error
        };
        assert_eq!(said.state, Some(expected), "{name}: {said:#?}");
    }
    // Nobody waits for a machine that will not come up, and none was touched.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for number in 0..cases.len() {
        let machine = lab.fleet().machine(number);
        assert_eq!(machine.power_state(), "Off");
        assert!(resets(&machine).is_empty(), "{:?}", resets(&machine));
    }
    let world = lab.world().await;
    assert_eq!(world.bound(), cases.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_that_two_drives_match_are_said_and_the_machine_is_off_and_not_provisioned() {
    let host = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let fetcher = Arc::new(images(folder.path(), &host));
    let lab = Lab::start().small().servers(1).engine(move |config| {
        config.services = Some(services(Some(fetcher.clone())));
    });
    let lab = lab.idle().await;
    lab.policy(json!({"discovery": "OutOfBand"})).await;
    lab.plug_in().await;
    lab.eventually(|world| world.available() == 1).await;
    let machine = lab.fleet().machine(0);
    let hints = [(names::ROOT_DEVICE_HINTS, r#"{"minSizeGigabytes": 1}"#)];
    let image = json!({"image": format!("http://{host}/disk.raw")});
    lab.claim_annotated("tenant", &hints, image).await;

    let probe = Probe::of(&lab, "ProbeWrite").await;
    let Task::Write(grant) = probe.task().await else {
        panic!("no grant")
    };
    assert!(grant.drives.len() > 1, "{grant:?}");
    // As the probe says it, before a byte is written.
    let why = format!(
        "{} drives match the hints: {}",
        grant.drives.len(),
        grant.drives.join(", ")
    );
    let report = Report {
        id: grant.id.clone(),
        boot_id: probe.hello.boot_id.clone(),
        outcome: Outcome::Failed,
        message: why.clone(),
        ..Report::default()
    };
    probe.desk.report(&probe.ticket, &report).await.unwrap();

    let server = probe.ticket.server.clone();
    let says_why = |world: &World| {
        let said = world.server_condition(&server, "Ready");
        said.is_some_and(|said| said.status == "False" && said.message.contains(&why))
    };
    let world = lab.eventually(says_why).await;
    let said = world.server_condition(&server, "Ready").unwrap();
    assert_eq!(said.reason, "WaitingToRetry", "{}", said.message);
    // It stays off until it is tried again, and nobody is told that his image is there.
    lab.stays(Duration::from_secs(3), |world| {
        let provisioned = world.server_condition(&server, "Provisioned");
        says_why(world)
            && machine.power_state() == "Off"
            && provisioned.is_none_or(|said| said.status != "True")
            && note(world.server(&server).unwrap(), names::PROVISIONED).is_none()
    })
    .await;
    let starts = resets(&machine);
    let starts = starts.iter().filter(|reset| reset.contains("On")).count();
    assert_eq!(starts, 1, "{:?}", resets(&machine));
}
