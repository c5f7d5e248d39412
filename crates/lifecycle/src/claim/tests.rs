//! Claims, decided one at a time.

mod binding;
mod fits;
mod identity;
mod release;
mod which;

use std::collections::BTreeMap;

use corten_api::ObjectReference;
use corten_api::metal::{
    PowerState, ServerClaimPhase, ServerClaimSpec, ServerState, Taint, TaintEffect, Toleration,
    TolerationOperator,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time};

use super::*;

/// A claim of UID `uid` that any server may serve.
fn claim(uid: &str) -> ServerClaim {
    let mut claim = ServerClaim::new(
        "web",
        serde_json::from_value::<ServerClaimSpec>(
            serde_json::json!({ "power": "On", "image": "example.org/os:1" }),
        )
        .unwrap(),
    );
    claim.metadata.namespace = Some("shop".into());
    claim.metadata.uid = Some(uid.into());
    claim
}

fn protected(mut claim: ServerClaim) -> ServerClaim {
    claim.metadata.finalizers = Some(vec![names::FINALIZER_SERVER_CLAIM.into()]);
    claim
}

fn deleted(mut claim: ServerClaim) -> ServerClaim {
    claim.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    claim
}

fn for_server(mut claim: ServerClaim, name: &str) -> ServerClaim {
    claim.spec.server_ref = Some(name.into());
    claim
}

fn published(claim: ServerClaim, server: &Server) -> ServerClaim {
    let mut claim = for_server(claim, &name(server));
    claim.metadata.annotations = Some([(BOUND_SERVER.to_owned(), record_of(server))].into());
    claim
}

/// A server that can be bound.
fn server(name: &str) -> Server {
    let mut server = Server::new(name, Default::default());
    server.metadata.uid = Some(format!("uid-of-{name}"));
    let status = server.status.get_or_insert_default();
    status.state = Some(ServerState::Available);
    status.power_state = Some(PowerState::Off);
    server
}

fn annotate(server: &mut Server, key: &str, value: &str) {
    server
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(key.into(), value.into());
}

fn say(server: &mut Server, kind: &str, status: &str, reason: &str, message: &str) {
    server
        .status
        .get_or_insert_default()
        .conditions
        .push(Condition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: None,
        });
}

/// `server` as it is bound to the claim `shop/web` of UID `uid`.
fn bound(mut server: Server, uid: &str) -> Server {
    server.spec.server_claim_ref = Some(ObjectReference {
        name: "web".into(),
        namespace: "shop".into(),
    });
    annotate(&mut server, names::CLAIM_UID, uid);
    annotate(&mut server, names::DIRTY, uid);
    server.status.get_or_insert_default().state = Some(ServerState::Reserved);
    server
}

fn boot_for(claim: &ServerClaim, server: &str) -> ServerBootConfiguration {
    let mut boot = ServerBootConfiguration::new("web", Default::default());
    boot.spec.server_ref.name = server.into();
    boot.spec.image = Some(claim.spec.image.clone());
    boot.metadata.owner_references = Some(vec![OwnerReference {
        kind: "ServerClaim".into(),
        uid: claim.metadata.uid.clone().unwrap(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    boot
}

fn observed(claim: &ServerClaim) -> Observed<'_> {
    Observed {
        claim,
        referring: Vec::new(),
        former: None,
        chosen: None,
        boot: None,
        choice: Choice::NotAsked,
    }
}

fn report(decision: Decision) -> Report {
    match decision {
        Decision::Settled(report) => report,
        other => panic!("not settled: {other:?}"),
    }
}
