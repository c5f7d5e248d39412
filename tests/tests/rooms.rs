//! Who may depend on whom (`docs/architecture.md`), held against what Cargo knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Each room with the rooms that it may use. Rooms that are not here may use anything: the binary, tests, benchmarks.
const RULES: [(&str, &[&str]); 13] = [
    ("corten-api", &[]),
    ("corten-lifecycle", &["corten-api"]),
    ("corten-kit", &["corten-api"]),
    ("corten-redfish", &[]),
    ("corten-sim", &["corten-wire"]),
    ("corten-wire", &[]),
    // The few system calls of the probe that need `unsafe` stand in a room of their own.
    ("corten-probe-ioctl", &[]),
    ("corten-probe", &["corten-probe-ioctl", "corten-wire"]),
    ("corten-boot", &["corten-api", "corten-kit", "corten-wire"]),
    ("corten-controlplane", &[]),
    ("corten-site", &["corten-boot"]),
    (
        "corten-claims",
        &["corten-api", "corten-lifecycle", "corten-kit"],
    ),
    (
        "corten-engine",
        &[
            "corten-api",
            "corten-lifecycle",
            "corten-kit",
            "corten-redfish",
            "corten-boot",
            "corten-wire",
        ],
    ),
];

const FREE: [&str; 3] = ["corten", "corten-tests", "corten-benches"];

/// What a room depends on when it is built, not what its tests use.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let used = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| text(&dependency["name"]))
                .collect();
            (text(&package["name"]), used)
        })
        .collect()
}

#[test]
fn rooms_use_only_what_the_architecture_allows() {
    let uses = uses();
    let ours: BTreeSet<&str> = uses.keys().map(String::as_str).collect();
    let mut wrong = Vec::new();
    for (room, allowed) in RULES {
        for used in uses
            .get(room)
            .into_iter()
            .flatten()
            .filter(|used| ours.contains(used.as_str()))
        {
            if !allowed.contains(&used.as_str()) {
                wrong.push(format!("{room} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_room_has_a_rule() {
    let ruled: BTreeSet<&str> = RULES.iter().map(|(room, _)| *room).chain(FREE).collect();
    let unruled: Vec<_> = uses()
        .into_keys()
        .filter(|room| !ruled.contains(room.as_str()))
        .collect();
    assert!(
        unruled.is_empty(),
        "no rule says what these may use: {unruled:?}"
    );
}

/// `kube` is allowed for its object types; a client, a clock or a future is not.
#[test]
fn the_thinking_has_no_client_no_clock_and_no_future() {
    let uses = uses();
    let impure = [
        "tokio",
        "reqwest",
        "hyper",
        "futures",
        "async-trait",
        "corten-kit",
    ];
    let mut found: Vec<String> = impure
        .into_iter()
        .filter(|name| uses["corten-lifecycle"].contains(*name))
        .map(str::to_owned)
        .collect();
    let words = [
        "Client",
        "kube::Api",
        "kube::api::Api",
        "Timestamp::now",
        "SystemTime::now",
        "Instant::now",
        "std::fs",
        "TcpStream",
        "UdpSocket",
        "ToSocketAddrs",
        "async fn",
        "Zoned::now",
        "std::env",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/lifecycle/src");
    for file in rust_files(&root) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            found.extend(
                words
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{}:{}: {word}", file.display(), number + 1)),
            );
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
