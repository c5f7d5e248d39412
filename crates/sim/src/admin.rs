//! The admin API: the fleet over HTTP, for those who are not in its process.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::counters::Counts;
use crate::fault::Rule;
use crate::fleet::{Fleet, MachineHandle, SystemIdentity};
use crate::qemu::QemuHandle;
use crate::settings::Erase;

type Shared = State<Arc<Fleet>>;
type Answer<T> = Result<T, (StatusCode, String)>;

/// All routes. See `docs/simulator.md`.
pub(crate) fn router(fleet: Arc<Fleet>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/machines", get(list))
        .route("/machines/{index}", get(one).patch(change))
        .route(
            "/machines/{index}/faults",
            get(faults).post(add_fault).delete(clear_faults),
        )
        .route("/machines/{index}/journal", get(journal))
        .route("/machines/{index}/console", get(console).post(type_text))
        .route("/machines/{index}/replace-identity", post(replace_identity))
        .route(
            "/faults",
            post(add_fault_everywhere).delete(clear_faults_everywhere),
        )
        .route(
            "/counters",
            get(async |State(fleet): Shared| Json(fleet.counts())).delete(reset_counters),
        )
        .route(
            "/endpoints",
            get(async |State(fleet): Shared| Json(fleet.endpoints())),
        )
        .route(
            "/mac-database",
            get(async |State(fleet): Shared| fleet.mac_database()),
        )
        .with_state(fleet)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    index: usize,
    shape: String,
    url: String,
    mac: String,
    user: String,
    password: String,
    power_state: Vec<&'static str>,
    plugged: bool,
    hung: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(flatten)]
    summary: Summary,
    systems: Vec<SystemIdentity>,
    boot_override: Value,
    boot_progress: &'static str,
    booted: Option<Value>,
    led: &'static str,
    media: Vec<String>,
    resets: Vec<Value>,
    drives: Vec<Value>,
    sessions: usize,
    subscriptions: Vec<String>,
    counters: Counts,
    faults: Vec<Rule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qemu: Option<Value>,
}

fn summary(machine: &MachineHandle) -> Summary {
    Summary {
        index: machine.index(),
        shape: machine.shape().to_string(),
        url: machine.url(),
        mac: machine.mac().to_string(),
        user: machine.user(),
        password: machine.password(),
        power_state: (0..machine.systems().len())
            .map(|node| machine.power_state_of(node))
            .collect(),
        plugged: machine.is_plugged(),
        hung: machine.is_hung(),
    }
}

fn find(fleet: &Fleet, index: usize) -> Answer<MachineHandle> {
    fleet.get(index).ok_or_else(|| {
        (
            StatusCode::NOT_FOUND,
            format!(
                "the fleet has {} machines, none is number {index}\n",
                fleet.len()
            ),
        )
    })
}

async fn list(State(fleet): Shared) -> Json<Vec<Summary>> {
    Json(fleet.machines().map(|machine| summary(&machine)).collect())
}

async fn one(State(fleet): Shared, Path(index): Path<usize>) -> Answer<Json<Detail>> {
    let machine = find(&fleet, index)?;
    let (enabled, target) = machine.boot_override();
    Ok(Json(Detail {
        summary: summary(&machine),
        systems: machine.systems(),
        boot_override: json!({"enabled": enabled, "target": target}),
        boot_progress: machine.boot_progress(),
        booted: machine.booted().map(|boot| {
            json!({"atMs": boot.at.as_millis() as u64, "target": boot.target, "mode": boot.mode, "image": boot.image, "uri": boot.uri, "count": boot.count})
        }),
        led: machine.led(),
        media: machine.media(0),
        resets: machine.resets().iter().map(|reset| json!({"atMs": reset.at.as_millis() as u64, "node": reset.node, "type": reset.kind})).collect(),
        drives: machine
            .drives()
            .iter()
            .map(|drive| json!({"node": drive.node, "serial": drive.serial, "path": drive.path, "contents": format!("{:?}", drive.contents)}))
            .collect(),
        sessions: machine.sessions(),
        subscriptions: machine.subscriptions(),
        counters: machine.counts(),
        faults: machine.faults(),
        qemu: machine.qemu().map(|qemu| {
            json!({
                "directory": qemu.directory(), "pid": qemu.pid(), "disks": qemu.disks(),
                "qmpSocket": qemu.qmp_socket(),
            })
        }),
    }))
}

/// What may be done to a machine; what is not named stays.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    power: Option<bool>,
    #[serde(default)]
    node: usize,
    hang: Option<bool>,
    plugged: Option<bool>,
    ignore_shutdown: Option<bool>,
    erase: Option<Erase>,
    password: Option<String>,
    record: Option<bool>,
    write_drives: Option<String>,
}

async fn change(
    State(fleet): Shared,
    Path(index): Path<usize>,
    Json(change): Json<Change>,
) -> Answer<StatusCode> {
    let machine = find(&fleet, index)?;
    if let Some(on) = change.power {
        machine.set_power(change.node, on);
    }
    if let Some(hang) = change.hang {
        machine.hang(hang);
    }
    if let Some(ignores) = change.ignore_shutdown {
        machine.ignore_shutdown(ignores);
    }
    if let Some(erase) = change.erase {
        machine.set_erase(erase);
    }
    if let Some(password) = change.password {
        machine.set_password(password);
    }
    if let Some(record) = change.record {
        machine.record(record);
    }
    if let Some(mark) = change.write_drives {
        machine.write_drives(&mark);
    }
    match change.plugged {
        Some(true) => machine
            .replug()
            .await
            .map_err(|error| (StatusCode::CONFLICT, format!("{error}\n")))?,
        Some(false) => machine.unplug().await,
        None => {}
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn faults(State(fleet): Shared, Path(index): Path<usize>) -> Answer<Json<Vec<Rule>>> {
    Ok(Json(find(&fleet, index)?.faults()))
}

async fn add_fault(
    State(fleet): Shared,
    Path(index): Path<usize>,
    Json(rule): Json<Rule>,
) -> Answer<StatusCode> {
    add(&find(&fleet, index)?, rule)
}

fn add(machine: &MachineHandle, rule: Rule) -> Answer<StatusCode> {
    machine
        .add_fault(rule)
        .map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")))?;
    Ok(StatusCode::CREATED)
}

async fn clear_faults(State(fleet): Shared, Path(index): Path<usize>) -> Answer<StatusCode> {
    find(&fleet, index)?.clear_faults();
    Ok(StatusCode::NO_CONTENT)
}

async fn add_fault_everywhere(State(fleet): Shared, Json(rule): Json<Rule>) -> Answer<StatusCode> {
    for machine in fleet.machines() {
        add(&machine, rule.clone())?;
    }
    Ok(StatusCode::CREATED)
}

async fn clear_faults_everywhere(State(fleet): Shared) -> StatusCode {
    for machine in fleet.machines() {
        machine.clear_faults();
    }
    StatusCode::NO_CONTENT
}

async fn journal(State(fleet): Shared, Path(index): Path<usize>) -> Answer<Json<Vec<String>>> {
    Ok(Json(find(&fleet, index)?.journal()))
}

#[derive(Deserialize)]
struct Lines {
    lines: Option<usize>,
}

fn real(fleet: &Fleet, index: usize) -> Answer<QemuHandle> {
    find(fleet, index)?.qemu().ok_or_else(|| {
        (
            StatusCode::NOT_FOUND,
            format!("machine {index} has no real firmware, so no console\n"),
        )
    })
}

/// The console's text, or its last lines.
async fn console(
    State(fleet): Shared,
    Path(index): Path<usize>,
    Query(query): Query<Lines>,
) -> Answer<String> {
    let text = real(&fleet, index)?.console();
    let Some(wanted) = query.lines else {
        return Ok(text);
    };
    let mut last: Vec<&str> = text.lines().rev().take(wanted).collect();
    last.reverse();
    last.push("");
    Ok(last.join("\n"))
}

async fn type_text(
    State(fleet): Shared,
    Path(index): Path<usize>,
    text: String,
) -> Answer<StatusCode> {
    real(&fleet, index)?.type_text(&text);
    Ok(StatusCode::NO_CONTENT)
}

async fn replace_identity(State(fleet): Shared, Path(index): Path<usize>) -> Answer<StatusCode> {
    find(&fleet, index)?.replace_identity();
    Ok(StatusCode::NO_CONTENT)
}

async fn reset_counters(State(fleet): Shared) -> StatusCode {
    fleet.reset_counts();
    StatusCode::NO_CONTENT
}
