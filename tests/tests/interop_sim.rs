//! Foreign judges on the simulated machines: DMTF's validators and checkers, and clients that others wrote.
//!
//! By default each judges one shape. `CORTEN_TEST_FULL=1` has them judge all shapes with inventories as large as real
//! ones, which takes minutes. Deviations that are meant are in the table of `docs/simulator.md`, and here in
//! [`Deviation`], so that one that nobody explained fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test says what is wrong by ending"
)]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use corten_sim::{Builder, Fleet, Inventory, MachineHandle, Shape, Timing};
use tokio::process::Command;

/// The folder of the virtualenv's programs; says why the test is skipped where there is none.
async fn programs() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/venv");
    let made = Command::new(script).stdin(Stdio::null()).output().await;
    let reason = match made {
        Ok(made) if made.status.success() => {
            return Some(PathBuf::from(String::from_utf8_lossy(&made.stdout).trim()));
        }
        Ok(made) => String::from_utf8_lossy(&made.stderr).trim().to_owned(),
        Err(error) => format!("scripts/venv does not run: {error}"),
    };
    println!("skipped: {reason}");
    None
}

fn full() -> bool {
    std::env::var_os("CORTEN_TEST_FULL").is_some_and(|value| value == "1")
}

/// The shapes to judge: `usual`, or all.
fn shapes(usual: &[Shape]) -> Vec<Shape> {
    if full() {
        Shape::ALL.to_vec()
    } else {
        usual.to_vec()
    }
}

fn builder(shapes: &[Shape]) -> Builder {
    Fleet::builder()
        .machines(shapes.len())
        .shapes(shapes.to_vec())
        .inventory(if full() {
            Inventory::Realistic
        } else {
            Inventory::Small
        })
}

/// Runs a program of the virtualenv in `folder`. It ignores the certificates that the environment says to trust.
async fn run(program: &Path, arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(program);
    for name in [
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "SSL_CERT_FILE",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    ] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let limit = Duration::from_secs(900);
    tokio::time::timeout(limit, command.output())
        .await
        .expect("the judge ends")
        .expect("the judge starts")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The schemas of Redfish, and what Swordfish adds, in one folder as the validator wants them.
fn schemas(folder: &Path) -> PathBuf {
    let all = folder.join("csdl");
    std::fs::create_dir_all(&all).unwrap();
    // Redfish last: it has the newer of what both have.
    for source in nv_redfish_schema::glob_swordfish_xml()
        .into_iter()
        .chain(nv_redfish_schema::glob_redfish_xml())
    {
        let source = Path::new(&source);
        std::fs::copy(source, all.join(source.file_name().unwrap())).unwrap();
    }
    all
}

/// A foreign judge's assertion that a shape does not hold, on purpose.
struct Deviation {
    shape: Shape,
    assertion: &'static str,
}

fn explained(deviations: &[Deviation], shape: Shape, line: &str) -> bool {
    deviations
        .iter()
        .any(|deviation| deviation.shape == shape && line.contains(deviation.assertion))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dmtf_service_validator_finds_no_failure() {
    let Some(programs) = programs().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let schemas = schemas(folder.path());
    let fleet = builder(&shapes(&[Shape::Dell])).start().await.unwrap();
    for machine in fleet.machines() {
        let (url, user, password) = (machine.url(), machine.user(), machine.password());
        let arguments = [
            "-u",
            &user,
            "-p",
            &password,
            "-r",
            &url,
            "--authtype",
            "Session",
            "--skipschema",
            "--schema_directory",
            schemas.to_str().unwrap(),
            "--logdir",
            "logs",
        ];
        let output = run(
            &programs.join("rf_service_validator"),
            &arguments,
            folder.path(),
        )
        .await;
        let said = text(&output);
        // Only its log names what failed.
        let log = logs(&folder.path().join("logs"));
        let failures: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("- ERROR - "))
            .collect();
        let count = totals(&said).expect("the validator prints its totals");
        println!("{}: {count:?}", machine.shape());
        assert!(
            count.pass > 500,
            "{} was hardly looked at\n{said}",
            machine.shape()
        );
        assert_eq!(
            count.fail,
            0,
            "{}\n{}",
            machine.shape(),
            failures.join("\n")
        );
    }
}

/// All `.log` files in the folders below `folder`.
fn logs(folder: &Path) -> String {
    let runs = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = runs.flat_map(|run| {
        std::fs::read_dir(run.path())
            .into_iter()
            .flatten()
            .flatten()
    });
    let logs = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.filter_map(|path| std::fs::read_to_string(path).ok())
        .collect()
}

#[derive(Debug)]
struct Totals {
    pass: u64,
    fail: u64,
}

/// The numbers of the table that DMTF's tools end with, under `PASS | WARN | FAIL | NOT TESTED`.
fn totals(said: &str) -> Option<Totals> {
    let line = said
        .lines()
        .skip_while(|line| !(line.contains("PASS") && line.contains("NOT TESTED")))
        .nth(2)?;
    let numbers: Vec<u64> = line
        .split('|')
        .filter_map(|cell| {
            // Cells are coloured where they are not zero.
            let plain = cell
                .replace("\u{1b}[32m", "")
                .replace("\u{1b}[33m", "")
                .replace("\u{1b}[31m", "")
                .replace("\u{1b}[0m", "");
            plain.trim().parse().ok()
        })
        .collect();
    match numbers.as_slice() {
        [pass, _, fail, ..] => Some(Totals {
            pass: *pass,
            fail: *fail,
        }),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dmtf_protocol_validator_fails_nothing_that_is_not_explained() {
    const MEANT: &[Deviation] = &[];
    let Some(programs) = programs().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let fleet = builder(&shapes(&[Shape::Lenovo]))
        .signed_tls()
        .start()
        .await
        .unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, fleet.authority_pem().unwrap()).unwrap();
    for machine in fleet.machines() {
        let (url, user, password) = (machine.url(), machine.user(), machine.password());
        let reports = format!("reports-{}", machine.shape());
        let arguments = [
            "-u",
            &user,
            "-p",
            &password,
            "-r",
            &url,
            "--ca-bundle",
            authority.to_str().unwrap(),
            "--avoid-http-redirect",
            "--report-dir",
            &reports,
            "--report-type",
            "tsv",
        ];
        let output = run(
            &programs.join("rf_protocol_validator"),
            &arguments,
            folder.path(),
        )
        .await;
        let report = std::fs::read_dir(folder.path().join(&reports))
            .unwrap_or_else(|_| panic!("{}", text(&output)))
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "tsv"))
            .expect("a report");
        let report = std::fs::read_to_string(report).unwrap();
        let with = |result: &str| {
            report
                .lines()
                .filter(|line| line.split('\t').nth(4) == Some(result))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let failed: Vec<String> = with("FAIL")
            .into_iter()
            .filter(|line| !explained(MEANT, machine.shape(), line))
            .collect();
        println!(
            "{}: {} passed, {} not tested",
            machine.shape(),
            with("PASS").len(),
            with("NOT_TESTED").len()
        );
        assert!(
            with("PASS").len() > 200,
            "{} was hardly looked at\n{}",
            machine.shape(),
            text(&output)
        );
        assert!(
            failed.is_empty(),
            "{}\n{}",
            machine.shape(),
            failed.join("\n")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dmtf_use_case_checkers_fail_nothing_that_is_not_explained() {
    // iDRAC and iLO refuse to restart a machine that is off, which the checker does after having turned it off.
    const MEANT: &[Deviation] = &[
        Deviation {
            shape: Shape::Dell,
            assertion: "Failed to reset system",
        },
        Deviation {
            shape: Shape::Hpe,
            assertion: "Failed to reset system",
        },
    ];
    let Some(programs) = programs().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let timing = Timing {
        post: Duration::from_millis(500),
        ..Timing::default()
    };
    let fleet = builder(&shapes(&[Shape::OpenBmc]))
        .timing(timing)
        .on(true)
        .start()
        .await
        .unwrap();
    let mut judged = tokio::task::JoinSet::new();
    for machine in fleet.machines() {
        let (programs, folder) = (programs.clone(), folder.path().to_owned());
        judged.spawn(async move {
            let (url, user, password) = (machine.url(), machine.user(), machine.password());
            let reports = format!("use-cases-{}", machine.shape());
            let mut arguments = vec![
                "-u",
                &user,
                "-p",
                &password,
                "-r",
                &url,
                "--report-dir",
                &reports,
                "--test-list",
            ];
            arguments.extend([
                "AccountManagement",
                "BootOverride",
                "ManagerEthernetInterfaces",
                "QueryParameters",
            ]);
            if full() {
                // Sleeps for a minute.
                arguments.push("PowerControl");
            }
            let output = run(&programs.join("rf_use_case_checkers"), &arguments, &folder).await;
            (machine.shape(), text(&output))
        });
    }
    while let Some(result) = judged.join_next().await {
        let (shape, said) = result.unwrap();
        let count = totals(&said).unwrap_or_else(|| panic!("{shape}: no totals\n{said}"));
        println!("{shape}: {count:?}");
        // Its log names what failed, each after a line that names the test.
        let log = logs(&folder.path().join(format!("use-cases-{shape}")));
        let failures: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("- ERROR - ") && !line.contains("Failing the"))
            .collect();
        let unexplained: Vec<&&str> = failures
            .iter()
            .filter(|line| !explained(MEANT, shape, line))
            .collect();
        assert!(count.pass > 10, "{shape} was hardly looked at\n{said}");
        assert!(unexplained.is_empty(), "{shape}: {unexplained:#?}");
        assert!(
            count.fail <= failures.len() as u64,
            "{shape}: {count:?}\n{log}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ironics_client_drives_power_boot_device_and_media() {
    let Some(programs) = programs().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let fleet = builder(&Shape::ALL).start().await.unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/sushy_drive.py");
    for machine in fleet.machines() {
        let (url, user, password) = (machine.url(), machine.user(), machine.password());
        let output = run(
            &programs.join("python"),
            &[script.to_str().unwrap(), &url, &user, &password],
            folder.path(),
        )
        .await;
        assert!(
            output.status.success() && text(&output).contains("driven"),
            "{}\n{}",
            machine.shape(),
            text(&output)
        );
        assert_eq!(machine.power_state(), "Off", "{}", machine.shape());
        assert!(
            machine.resets().iter().any(|reset| reset.kind == "On"),
            "{}",
            machine.shape()
        );
    }
}

async fn tool(
    programs: &Path,
    folder: &Path,
    machine: &MachineHandle,
    name: &str,
    arguments: &[&str],
) -> String {
    let (url, user, password) = (machine.url(), machine.user(), machine.password());
    let mut all = vec!["-u", &user, "-p", &password, "-r", &url];
    all.extend(arguments);
    let output = run(&programs.join(name), &all, folder).await;
    let said = text(&output);
    assert!(
        output.status.success(),
        "{}: {name} {arguments:?}\n{said}",
        machine.shape()
    );
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_of_redfish_utilities_drive_power_boot_media_and_accounts() {
    let Some(programs) = programs().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let fleet = builder(&shapes(&[Shape::Hpe])).start().await.unwrap();
    for machine in fleet.machines() {
        let rf = async |name: &str, arguments: &[&str]| {
            tool(&programs, folder.path(), &machine, name, arguments).await
        };
        let node = machine.systems()[0].id.clone();
        if machine.shape() != Shape::MultiNode {
            rf("rf_boot_override.py", &["-s", &node, "-t", "Pxe"]).await;
            assert_eq!(
                machine.boot_override(),
                ("Once".into(), "Pxe".into()),
                "{}",
                machine.shape()
            );
            rf(
                "rf_virtual_media.py",
                &["-s", &node, "insert", "-image", "http://127.0.0.1/boot.iso"],
            )
            .await;
            assert_eq!(
                machine.media(0),
                ["http://127.0.0.1/boot.iso"],
                "{}",
                machine.shape()
            );
        }
        rf("rf_power_reset.py", &["-s", &node, "-t", "On"]).await;
        assert_eq!(machine.power_state(), "On", "{}", machine.shape());
        let inventory = rf("rf_sys_inventory.py", &[]).await;
        assert!(inventory.contains(machine.model()), "{inventory}");
        rf("rf_firmware_inventory.py", &[]).await;
        rf("rf_sensor_list.py", &[]).await;
        rf(
            "rf_accounts.py",
            &["--add", "tester", "Tester-Pw-1", "Operator"],
        )
        .await;
        rf("rf_accounts.py", &["--delete", "tester"]).await;
        rf("rf_power_reset.py", &["-s", &node, "-t", "ForceOff"]).await;
        assert_eq!(machine.power_state(), "Off", "{}", machine.shape());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redfishtool_reads_and_drives_a_system() {
    let Some(programs) = programs().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let fleet = builder(&shapes(&[Shape::Supermicro]))
        .start()
        .await
        .unwrap();
    for machine in fleet.machines() {
        let (address, user, password) = (
            machine.address().to_string(),
            machine.user(),
            machine.password(),
        );
        let id = machine.systems()[0].id.clone();
        let login = ["-r", &address, "-u", &user, "-p", &password, "-S", "Never"];
        let tool = async |arguments: &[&str]| {
            let all: Vec<&str> = login
                .iter()
                .copied()
                .chain(arguments.iter().copied())
                .collect();
            let output = run(&programs.join("redfishtool"), &all, folder.path()).await;
            assert!(
                output.status.success(),
                "{}: {arguments:?}\n{}",
                machine.shape(),
                text(&output)
            );
            text(&output)
        };
        let got = tool(&["Systems", "-I", &id, "get"]).await;
        assert!(got.contains(&machine.systems()[0].serial), "{got}");
        if machine.shape() != Shape::MultiNode {
            tool(&["Systems", "-I", &id, "setBootOverride", "Once", "Pxe"]).await;
            assert_eq!(machine.boot_override(), ("Once".into(), "Pxe".into()));
        }
        tool(&["Systems", "-I", &id, "reset", "On"]).await;
        assert_eq!(machine.power_state(), "On");
        tool(&["Chassis", "list"]).await;
        tool(&["Managers", "list"]).await;
    }
}
