//! `docs/compatibility.md` names every kind, every field and every name of ours: a field is honoured, or the page says when it will be.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of this is a test"
)]

use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_field_of_the_originals_kinds_is_accounted_for() {
    let page = read("../../docs/compatibility.md");
    let mut missing = Vec::new();
    for crd in corten_api::crds()
        .iter()
        .filter(|crd| crd.spec.group == corten_api::names::METAL_GROUP)
    {
        let kind = &crd.spec.names.kind;
        let Some((_, rest)) = page.split_once(&format!("\n## {kind}\n")) else {
            missing.push(kind.clone());
            continue;
        };
        let section = rest.split("\n## ").next().unwrap();
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let parts = schema["openAPIV3Schema"]["properties"].as_object().unwrap();
        for (part, fields) in parts {
            let names: Vec<String> = match fields["properties"].as_object() {
                Some(fields) => fields
                    .keys()
                    .map(|field| format!("`{part}.{field}`"))
                    .collect(),
                None => vec![format!("`{part}`")],
            };
            missing.extend(
                names
                    .iter()
                    .filter(|name| !section.contains(*name))
                    .map(|name| format!("{kind} {name}")),
            );
        }
    }
    assert!(
        missing.is_empty(),
        "not in docs/compatibility.md: {missing:#?}"
    );
}

#[test]
fn every_annotation_label_and_finalizer_is_explained() {
    let page = read("../../docs/compatibility.md");
    let names = read("src/names.rs");
    let quoted = names
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains('/'));
    let missing: Vec<&str> = quoted
        .filter(|name| *name != corten_api::names::REASON && !page.contains(&format!("`{name}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "not in docs/compatibility.md: {missing:?}"
    );
}

#[test]
fn every_name_of_ours_stands_in_one_place() {
    let mut strays = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs")
                && !path.ends_with("api/src/names.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let constants = text.lines().filter(|line| {
                    line.contains("const ")
                        && ["corten.dev/", "metal.ironcore.dev/"]
                            .iter()
                            .any(|group| line.contains(&format!("= \"{group}")))
                });
                strays.extend(constants.map(|line| format!("{}: {}", path.display(), line.trim())));
            }
        }
    }
    assert!(
        strays.is_empty(),
        "belongs into api/src/names.rs: {strays:#?}"
    );
}
