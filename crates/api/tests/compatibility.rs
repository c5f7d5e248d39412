//! Our schema against the originals', as far as `../shared/reference/crds/metal` is there.
//!
//! Nothing that an original has may be missing, and nothing that it accepts may be refused; the exceptions are named here.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "all of this is a test"
)]

#[path = "compatibility/compare.rs"]
mod compare;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use compare::{Finding, compare};
use serde_json::{Value, json};

/// Where ours refuses what the original's schema takes, by kind, path and keyword, and why.
const TIGHTER: &[(&str, &str, &str, &str)] = &[
    (
        "Endpoint",
        "spec.ip",
        "maxLength",
        "a malformed IP is refused; the original's own client cannot decode one",
    ),
    (
        "Endpoint",
        "spec.ip",
        "rule",
        "a malformed IP is refused; the original's own client cannot decode one",
    ),
    (
        "Endpoint",
        "spec.macAddress",
        "maxLength",
        "a malformed MAC is refused",
    ),
    (
        "Endpoint",
        "spec.macAddress",
        "rule",
        "a malformed MAC is refused",
    ),
    (
        "BMC",
        "spec.access.ip",
        "maxLength",
        "a malformed IP is refused; the original's own client cannot decode one",
    ),
    (
        "BMC",
        "spec.access.ip",
        "rule",
        "a malformed IP is refused; the original's own client cannot decode one",
    ),
    (
        "BMC",
        "spec.access.macAddress",
        "maxLength",
        "a malformed MAC is refused",
    ),
    (
        "BMC",
        "spec.access.macAddress",
        "rule",
        "a malformed MAC is refused",
    ),
    (
        "Server",
        "spec.taints",
        "x-kubernetes-list-type",
        "a list-map by key and effect, so that others' taints live",
    ),
    (
        "*",
        "status.conditions",
        "x-kubernetes-list-type",
        "a list-map by type, so that others' conditions live",
    ),
    (
        "BIOSSettings",
        "status.flowState[].conditions",
        "x-kubernetes-list-type",
        "a list-map by type",
    ),
];

/// Rules of ours that the original does not have and that hold for every object that it accepts, by kind and path.
const IMPLIED: &[(&str, &str, &str)] = &[
    (
        "BMC",
        "spec",
        "bmcSecretRef is required there, secretRef unknown",
    ),
    (
        "Server",
        "spec.bmc",
        "bmcSecretRef is required there, secretRef unknown",
    ),
    (
        "BMC",
        "spec.access",
        "weaker than the original's: the MAC stands, the rest may change",
    ),
];

/// Rules of the original that ours leaves out, by kind and path.
const RELAXED: &[(&str, &str, &str)] = &[(
    "BMC",
    "spec.access",
    "IP and host may change; identity is checked instead",
)];

fn originals() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/crds/metal");
    if root.is_dir() {
        return Some(root);
    }
    // `make test` shows what passing tests print, and counts these lines.
    let test = std::thread::current();
    println!(
        "skipped: {}: no original to compare with at {}",
        test.name().unwrap_or("a test"),
        root.display()
    );
    None
}

fn ours() -> BTreeMap<String, Value> {
    let crds = corten_api::crds().into_iter();
    crds.map(|crd| {
        (
            crd.spec.names.kind.clone(),
            serde_json::to_value(crd).unwrap(),
        )
    })
    .collect()
}

fn theirs(root: &Path) -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let crd: Value =
                serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            (
                crd["spec"]["names"]["kind"].as_str().unwrap().to_owned(),
                crd,
            )
        })
        .collect()
}

fn is_named(kind: &str, finding: &Finding) -> bool {
    let at = |(k, path): (&str, &str)| (k == "*" || k == kind) && path == finding.path;
    match finding.what.as_str() {
        "extra rule" => {
            IMPLIED.iter().any(|row| at((row.0, row.1)))
                || TIGHTER
                    .iter()
                    .any(|row| at((row.0, row.1)) && row.2 == "rule")
        }
        "missing rule" => RELAXED.iter().any(|row| at((row.0, row.1))),
        what => TIGHTER
            .iter()
            .any(|row| at((row.0, row.1)) && what == format!("tighter {}", row.2)),
    }
}

fn unnamed(kind: &str, theirs: &Value, ours: &Value) -> Vec<String> {
    let findings = compare(theirs, ours).into_iter();
    findings
        .filter(|finding| !is_named(kind, finding))
        .map(|finding| format!("{kind}: {finding}"))
        .collect()
}

#[test]
fn whatever_the_original_has_and_accepts_ours_has_and_accepts() {
    let Some(root) = originals() else { return };
    let (theirs, ours) = (theirs(&root), ours());
    assert_eq!(theirs.len(), 17, "kinds of the original");
    let findings: Vec<String> = theirs
        .iter()
        .flat_map(|(kind, original)| match ours.get(kind) {
            Some(ours) => unnamed(kind, original, ours),
            None => vec![format!("{kind}: missing")],
        })
        .collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn each_named_exception_is_still_one() {
    let Some(root) = originals() else { return };
    let ours = ours();
    let findings: Vec<(String, Finding)> = theirs(&root)
        .iter()
        .flat_map(|(kind, original)| {
            compare(original, &ours[kind])
                .into_iter()
                .map(|finding| (kind.clone(), finding))
        })
        .collect();
    let occurs = |kind: &str, path: &str, what: &str| {
        findings.iter().any(|(k, finding)| {
            (kind == "*" || k == kind) && finding.path == path && finding.what == what
        })
    };
    for (kind, path, keyword, why) in TIGHTER {
        let what = if *keyword == "rule" {
            "extra rule".to_owned()
        } else {
            format!("tighter {keyword}")
        };
        assert!(occurs(kind, path, &what), "{kind} {path} {keyword}: {why}");
    }
    for (kind, path, why) in IMPLIED {
        assert!(occurs(kind, path, "extra rule"), "{kind} {path}: {why}");
    }
    for (kind, path, why) in RELAXED {
        assert!(occurs(kind, path, "missing rule"), "{kind} {path}: {why}");
    }
}

#[test]
fn the_relaxations_that_were_promised_are_there() {
    let ours = ours();
    let schema = |kind: &str| {
        ours[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    };
    let bmc = schema("BMC");
    assert_eq!(
        bmc["properties"]["access"]["properties"]["host"]["type"],
        "string"
    );
    assert_eq!(
        bmc["required"],
        json!(["protocol"]),
        "bmcSecretRef or secretRef"
    );
    assert_eq!(bmc["properties"]["secretRef"]["type"], "object");
    let server = schema("Server");
    assert_eq!(
        server["properties"]["bmc"]["required"],
        json!(["address", "protocol"])
    );
}

/// The comparison itself: each way to break a schema is found, so that a pass means something. Needs no original.
#[test]
fn a_schema_that_lacks_or_refuses_something_is_found_out() {
    type Break = fn(&mut Value);
    let breaks: &[(&str, &str, Break)] = &[
        ("Server", "missing field", |s| {
            drop(
                s["properties"]["spec"]["properties"]
                    .as_object_mut()
                    .unwrap()
                    .remove("systemURI"),
            )
        }),
        ("Server", "type", |s| {
            s["properties"]["spec"]["properties"]["unclaimable"]["type"] = json!("string")
        }),
        ("Server", "missing enum value", |s| {
            s["properties"]["spec"]["properties"]["reclaimPolicy"]["enum"] = json!(["Recycle"])
        }),
        ("Server", "tighter enum", |s| {
            s["properties"]["spec"]["properties"]["power"]["enum"] = json!(["On", "Off"])
        }),
        ("Server", "default", |s| {
            s["properties"]["spec"]["properties"]["reclaimPolicy"]["default"] = json!("Retain")
        }),
        ("Server", "tighter required", |s| {
            s["properties"]["spec"]["required"] = json!(["systemUUID", "bmcRef"])
        }),
        ("Server", "tighter maxLength", |s| {
            s["properties"]["spec"]["properties"]["systemUUID"]["maxLength"] = json!(36)
        }),
        ("Server", "tighter pattern", |s| {
            s["properties"]["spec"]["properties"]["systemUUID"]["pattern"] = json!("^.+$")
        }),
        ("Server", "tighter format", |s| {
            s["properties"]["spec"]["properties"]["systemUUID"]["format"] = json!("uuid")
        }),
        ("Server", "extra rule", |s| {
            s["properties"]["spec"]["x-kubernetes-validations"] =
                json!([{ "rule": "has(self.bmcRef)" }]);
        }),
        ("ServerClaim", "missing rule", |s| {
            drop(
                s["properties"]["spec"]["x-kubernetes-validations"]
                    .as_array_mut()
                    .unwrap()
                    .pop(),
            )
        }),
        ("ServerMaintenance", "tighter minimum", |s| {
            s["properties"]["spec"]["properties"]["priority"]["minimum"] = json!(0)
        }),
        ("BIOSSettings", "tighter maximum", |s| {
            s["properties"]["spec"]["properties"]["retryPolicy"]["properties"]["maxAttempts"]["maximum"] =
                json!(9);
        }),
        ("Endpoint", "tighter required", |s| {
            s["required"] = json!(["spec"])
        }),
        ("ServerClaim", "tighter x-kubernetes-list-type", |s| {
            s["properties"]["spec"]["properties"]["tolerations"]["x-kubernetes-list-type"] =
                json!("set");
        }),
        ("ServerClaim", "x-kubernetes-map-type", |s| {
            drop(
                s["properties"]["spec"]["properties"]["serverRef"]
                    .as_object_mut()
                    .unwrap()
                    .remove("x-kubernetes-map-type"),
            );
        }),
        ("ServerClaim", "additional properties", |s| {
            let selector = &mut s["properties"]["spec"]["properties"]["serverSelector"];
            drop(
                selector["properties"]["matchLabels"]
                    .as_object_mut()
                    .unwrap()
                    .remove("additionalProperties"),
            );
        }),
    ];
    let ours = ours();
    for (kind, what, break_it) in breaks {
        let whole = &ours[*kind];
        assert!(
            compare(whole, whole).is_empty(),
            "{kind} differs from itself"
        );
        let mut broken = whole.clone();
        break_it(&mut broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
        let found = compare(whole, &broken);
        assert!(
            found.iter().any(|finding| finding.what == *what),
            "{kind}: {what} is not found, but {found:?}"
        );
    }
    for (what, pointer, value) in [
        ("scope", "/spec/scope", json!("Namespaced")),
        ("missing short name", "/spec/names/shortNames", json!([])),
        (
            "missing column",
            "/spec/versions/0/additionalPrinterColumns",
            json!([]),
        ),
        (
            "missing subresource",
            "/spec/versions/0/subresources",
            json!({}),
        ),
    ] {
        let mut broken = ours["Server"].clone();
        *broken.pointer_mut(pointer).unwrap() = value;
        assert!(
            compare(&ours["Server"], &broken)
                .iter()
                .any(|finding| finding.what == what),
            "{what} is not found"
        );
    }
}
