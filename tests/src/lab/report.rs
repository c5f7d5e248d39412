//! What a failed wait prints: every object of the laboratory on a line or two, and the latest Events.

use std::fmt::Write as _;

use corten_api::Condition;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::{Lab, World};

const LINES: usize = 40;
const EVENTS: usize = 30;

pub(super) async fn write(lab: &Lab, world: Option<&World>) -> String {
    let mut out = String::new();
    for line in lab.ended() {
        let _ = writeln!(out, "!! {line}");
    }
    match world {
        Some(world) => {
            section(
                &mut out,
                "claims",
                world.claims.iter().map(|claim| {
                    let server = claim
                        .spec
                        .server_ref
                        .as_ref()
                        .map_or("-", |server| &server.name);
                    let status = claim.status.as_ref();
                    let phase = status
                        .and_then(|status| status.phase.as_ref())
                        .map_or("-", |phase| phase.as_str());
                    let conditions = status
                        .map(|status| conditions(&status.conditions))
                        .unwrap_or_default();
                    format!(
                        "{} {phase} server={server}{}{conditions}",
                        claim.name_any(),
                        going(claim)
                    )
                }),
            );
            section(
                &mut out,
                "servers",
                world.servers.iter().map(|server| {
                    let state = World::state(server).map_or("-", |state| state.as_str());
                    let power = World::power(server).map_or("-", |power| power.as_str());
                    let claim = server
                        .spec
                        .server_claim_ref
                        .as_ref()
                        .map_or("-", |claim| &claim.name);
                    let status = server.status.as_ref();
                    let conditions = status
                        .map(|status| conditions(&status.conditions))
                        .unwrap_or_default();
                    let annotations: Vec<String> = server
                        .annotations()
                        .iter()
                        .map(|(key, value)| format!("{key}={value}"))
                        .collect();
                    format!(
                        "{} {state} {power} claim={claim}{} {}{conditions}",
                        server.name_any(),
                        going(server),
                        annotations.join(" ")
                    )
                }),
            );
            section(
                &mut out,
                "BMCs",
                world.bmcs.iter().map(|bmc| {
                    let status = bmc.status.as_ref();
                    let conditions = status
                        .map(|status| conditions(&status.conditions))
                        .unwrap_or_default();
                    format!("{}{}{conditions}", bmc.name_any(), going(bmc))
                }),
            );
            section(
                &mut out,
                "Endpoints",
                world.endpoints.iter().map(|endpoint| {
                    let status = endpoint.status.as_ref();
                    let conditions = status
                        .map(|status| conditions(&status.conditions))
                        .unwrap_or_default();
                    format!(
                        "{} {} {}{}{conditions}",
                        endpoint.name_any(),
                        endpoint.spec.mac_address,
                        endpoint.spec.ip,
                        going(endpoint)
                    )
                }),
            );
            section(
                &mut out,
                "runs",
                world.runs.iter().map(|run| {
                    let status = run.status.as_ref();
                    let phase = status
                        .and_then(|status| status.phase.as_ref())
                        .map_or("-", |phase| phase.as_str());
                    let step = status
                        .and_then(|status| status.current_step.as_deref())
                        .unwrap_or("-");
                    let results: Vec<String> = status
                        .map(|status| {
                            status
                                .results
                                .iter()
                                .map(|result| {
                                    format!("{}={}", result.step, result.outcome.as_str())
                                })
                                .collect()
                        })
                        .unwrap_or_default();
                    format!(
                        "{} {} {} {phase} step={step} {}",
                        run.name_any(),
                        run.spec.server_ref.name,
                        run.spec.kind.as_str(),
                        results.join(" ")
                    )
                }),
            );
        }
        None => out.push_str("the API server did not answer\n"),
    }
    section(
        &mut out,
        "machines",
        lab.fleet().machines().map(|machine| {
            let counts = machine.counts();
            format!(
                "{} {} {} power={} {counts:?}",
                machine.index(),
                machine.shape(),
                machine.url(),
                machine.power_state()
            )
        }),
    );
    let events = Api::<Event>::all(lab.client())
        .list(&ListParams::default())
        .await
        .map(|list| list.items)
        .unwrap_or_default();
    let mut ours: Vec<&Event> = events
        .iter()
        .filter(|event| {
            let object = &event.involved_object;
            object.namespace.as_deref() == Some(lab.namespace())
                || object
                    .name
                    .as_deref()
                    .is_some_and(|name| name.starts_with(&format!("{}-", lab.name())))
        })
        .collect();
    ours.sort_by_key(|event| {
        event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0)
    });
    let latest = ours
        .iter()
        .skip(ours.len().saturating_sub(EVENTS))
        .map(|event| {
            let object = &event.involved_object;
            format!(
                "{} {} {}: {}",
                object.kind.as_deref().unwrap_or_default(),
                object.name.as_deref().unwrap_or_default(),
                event.reason.as_deref().unwrap_or_default(),
                event.message.as_deref().unwrap_or_default(),
            )
        });
    section(&mut out, "Events", latest);
    out
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    let _ = writeln!(out, "{title} ({}):", lines.len());
    for line in lines.iter().take(LINES) {
        let _ = writeln!(out, "  {line}");
    }
    if lines.len() > LINES {
        let _ = writeln!(out, "  … and {} more", lines.len() - LINES);
    }
}

fn going(object: &impl kube::ResourceExt) -> &'static str {
    if object.meta().deletion_timestamp.is_some() {
        " (being deleted)"
    } else {
        ""
    }
}

fn conditions(all: &[Condition]) -> String {
    all.iter()
        .map(|condition| {
            format!(
                "\n      {}={} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            )
        })
        .collect()
}
