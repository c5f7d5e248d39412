use corten_api::Condition;
use corten_api::corten::ServerRun;
use corten_api::metal::{
    Bmc, Endpoint, PowerState, Server, ServerBootConfiguration, ServerClaim, ServerClaimPhase,
    ServerState,
};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

/// Everything of one laboratory at one moment.
#[derive(Clone, Debug)]
pub struct World {
    /// Its Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Its BMCs.
    pub bmcs: Vec<Bmc>,
    /// Its servers.
    pub servers: Vec<Server>,
    /// Its claims.
    pub claims: Vec<ServerClaim>,
    /// The boot configurations in its namespace.
    pub boots: Vec<ServerBootConfiguration>,
    /// The runs of its servers.
    pub runs: Vec<ServerRun>,
}

// === impl World ===

impl World {
    pub(super) async fn read(
        client: &Client,
        namespace: &str,
        selector: &str,
    ) -> kube::Result<Self> {
        let ours = ListParams::default().labels(selector);
        let (endpoints, bmcs, servers, claims, boots, runs) = (
            Api::<Endpoint>::all(client.clone()),
            Api::<Bmc>::all(client.clone()),
            Api::<Server>::all(client.clone()),
            Api::<ServerClaim>::namespaced(client.clone(), namespace),
            Api::<ServerBootConfiguration>::namespaced(client.clone(), namespace),
            Api::<ServerRun>::all(client.clone()),
        );
        let all = ListParams::default();
        let (endpoints, bmcs, servers, claims, boots, runs) = tokio::try_join!(
            endpoints.list(&ours),
            bmcs.list(&ours),
            servers.list(&ours),
            claims.list(&all),
            boots.list(&all),
            runs.list(&all),
        )?;
        let servers = servers.items;
        let runs = runs
            .into_iter()
            .filter(|run| {
                servers
                    .iter()
                    .any(|server| server.name_any() == run.spec.server_ref.name)
            })
            .collect();
        Ok(Self {
            endpoints: endpoints.items,
            bmcs: bmcs.items,
            servers,
            claims: claims.items,
            boots: boots.items,
            runs,
        })
    }

    /// Servers in a state.
    pub fn in_state(&self, state: &ServerState) -> usize {
        self.servers
            .iter()
            .filter(|server| Self::state(server) == Some(state))
            .count()
    }

    /// Servers that are Available.
    pub fn available(&self) -> usize {
        self.in_state(&ServerState::Available)
    }

    /// Claims that have a server.
    pub fn bound(&self) -> usize {
        self.claims
            .iter()
            .filter(|claim| Self::is_bound(claim))
            .count()
    }

    /// Claims that have none, and say why.
    pub fn waiting(&self) -> usize {
        let waits = |claim: &&ServerClaim| {
            !Self::is_bound(claim)
                && claim
                    .status
                    .as_ref()
                    .is_some_and(|status| condition(&status.conditions, "Bound").is_some())
        };
        self.claims.iter().filter(waits).count()
    }

    /// Servers that are on.
    pub fn powered_on(&self) -> usize {
        self.servers
            .iter()
            .filter(|server| Self::power(server) == Some(&PowerState::On))
            .count()
    }

    /// Whether a claim has a server.
    pub fn is_bound(claim: &ServerClaim) -> bool {
        claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_ref())
            == Some(&ServerClaimPhase::Bound)
    }

    /// A server's state.
    pub fn state(server: &Server) -> Option<&ServerState> {
        server.status.as_ref()?.state.as_ref()
    }

    /// A server's power state.
    pub fn power(server: &Server) -> Option<&PowerState> {
        server.status.as_ref()?.power_state.as_ref()
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.name_any() == name)
    }

    /// The claim of that name.
    pub fn claim(&self, name: &str) -> Option<&ServerClaim> {
        self.claims.iter().find(|claim| claim.name_any() == name)
    }

    /// The BMC of that name.
    pub fn bmc(&self, name: &str) -> Option<&Bmc> {
        self.bmcs.iter().find(|bmc| bmc.name_any() == name)
    }

    /// A condition of the server of that name.
    pub fn server_condition(&self, server: &str, kind: &str) -> Option<&Condition> {
        condition(&self.server(server)?.status.as_ref()?.conditions, kind)
    }

    /// A condition of the claim of that name.
    pub fn claim_condition(&self, claim: &str, kind: &str) -> Option<&Condition> {
        condition(&self.claim(claim)?.status.as_ref()?.conditions, kind)
    }

    /// A condition of the BMC of that name.
    pub fn bmc_condition(&self, bmc: &str, kind: &str) -> Option<&Condition> {
        condition(&self.bmc(bmc)?.status.as_ref()?.conditions, kind)
    }
}

fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}
