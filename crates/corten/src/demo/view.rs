//! What the demo sees of its servers and claims: counts for progress, and why something is not as it should be.

use std::collections::BTreeMap;

use corten_api::Condition;
use corten_api::metal::{PowerState, Server, ServerClaim, ServerClaimPhase, ServerState};
use corten_api::names;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use super::cluster::{NAMESPACE, selector};

pub struct View {
    pub servers: Vec<Server>,
    pub claims: Vec<ServerClaim>,
}

// === impl View ===

impl View {
    pub async fn read(client: &Client) -> kube::Result<Self> {
        let ours = ListParams::default().labels(&selector());
        let servers = Api::<Server>::all(client.clone());
        let claims = Api::<ServerClaim>::namespaced(client.clone(), NAMESPACE);
        let (servers, claims) = tokio::try_join!(servers.list(&ours), claims.list(&ours))?;
        Ok(Self {
            servers: servers.items,
            claims: claims.items,
        })
    }

    /// Servers that a claim may have: Available, off, and clean.
    pub fn free(&self) -> usize {
        self.servers
            .iter()
            .filter(|server| state(server) == Some(&ServerState::Available) && !dirty(server))
            .count()
    }

    /// Claims that are bound.
    pub fn bound(&self) -> usize {
        self.claims.iter().filter(|claim| is_bound(claim)).count()
    }

    /// The server of each bound claim.
    pub fn claimed(&self) -> impl Iterator<Item = &Server> {
        self.claims
            .iter()
            .filter(|claim| is_bound(claim))
            .filter_map(|claim| claim.spec.server_ref.as_ref())
            .filter_map(|wanted| {
                self.servers
                    .iter()
                    .find(|server| server.name_any() == wanted.name)
            })
    }

    /// As in "2 Initial, 10 Available".
    pub fn states(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for server in &self.servers {
            *counts
                .entry(state(server).map_or("new", ServerState::as_str))
                .or_default() += 1;
        }
        let parts: Vec<String> = counts
            .into_iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        if parts.is_empty() {
            "none yet".to_owned()
        } else {
            parts.join(", ")
        }
    }

    /// What every server and claim says of itself that is not as wanted; for the reason of a failure.
    pub fn complaints(&self) -> String {
        let servers = self
            .servers
            .iter()
            .filter(|server| state(server) != Some(&ServerState::Available) || dirty(server))
            .map(|server| {
                let conditions = server
                    .status
                    .as_ref()
                    .map(|status| told(&status.conditions))
                    .unwrap_or_default();
                format!(
                    "\n  server {} is {}{conditions}",
                    server.name_any(),
                    state(server).map_or("new", ServerState::as_str)
                )
            });
        let claims = self
            .claims
            .iter()
            .filter(|claim| !is_bound(claim) || claim.metadata.deletion_timestamp.is_some())
            .map(|claim| {
                let conditions = claim
                    .status
                    .as_ref()
                    .map(|status| told(&status.conditions))
                    .unwrap_or_default();
                format!("\n  claim {}{conditions}", claim.name_any())
            });
        servers.chain(claims).take(20).collect()
    }
}

pub fn state(server: &Server) -> Option<&ServerState> {
    server.status.as_ref()?.state.as_ref()
}

/// State, power and why, in a line.
pub fn standing(server: &Server) -> String {
    let status = server.status.as_ref();
    let power = status.and_then(|status| status.power_state.as_ref());
    let ready = status
        .and_then(|status| {
            status
                .conditions
                .iter()
                .find(|condition| condition.type_ == names::CONDITION_READY)
        })
        .map(|condition| format!("; {}: {}", condition.reason, condition.message))
        .unwrap_or_default();
    format!(
        "{}, {}{ready}",
        state(server).map_or("new", ServerState::as_str),
        power.map_or("power unknown", PowerState::as_str),
    )
}

pub fn is_on(server: &Server) -> bool {
    server
        .status
        .as_ref()
        .and_then(|status| status.power_state.as_ref())
        == Some(&PowerState::On)
}

pub fn dirty(server: &Server) -> bool {
    server.annotations().contains_key(names::DIRTY)
}

fn is_bound(claim: &ServerClaim) -> bool {
    claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_ref())
        == Some(&ServerClaimPhase::Bound)
}

fn told(conditions: &[Condition]) -> String {
    conditions
        .iter()
        .map(|condition| {
            format!(
                "\n    {}={} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            )
        })
        .collect()
}
