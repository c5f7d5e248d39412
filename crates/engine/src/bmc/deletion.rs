//! Letting a BMC go: its Servers first, then its session, then the object; all in bounded time.

use std::{sync::Arc, time::Duration};

use corten_api::{
    metal::{Bmc, Server},
    names,
};
use corten_kit::{ObjectKey, Subject, conditions};
use corten_lifecycle::{
    annotation,
    bmc::deletion::{Decision, Dependent, Observed, PATIENCE, decide},
};
use jiff::Timestamp;
use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};

use super::BmcController;
use crate::failure::Failure;

/// How far a deletion is.
pub(super) enum Outcome {
    /// The object is gone.
    Gone,
    /// Come back after this time; the BMC is looked at meanwhile, because its Servers may need it.
    Waits(Duration),
}

impl BmcController {
    /// One step of a deletion.
    pub(super) async fn delete(&self, bmc: &Arc<Bmc>) -> Result<Outcome, Failure> {
        let name = bmc.name_any();
        let servers = self.servers_of(&name);
        let now = Timestamp::now();
        let since = bmc
            .metadata
            .deletion_timestamp
            .as_ref()
            .map_or(now, |time| time.0);
        let mut observed = Observed {
            now,
            since,
            forced: annotation::is_set(bmc.annotations(), names::FORCE_DELETE),
            servers: servers.iter().map(|server| dependent(server)).collect(),
            logged_in: self.context.gateway.known(&name).is_some(),
        };
        let mut decision = decide(&observed);
        if matches!(decision, Decision::LogOut | Decision::Finish) && !observed.forced {
            // What left the selector is not in the cache, and would lose its BMC unseen.
            observed.servers = self.live_servers_of(&name).await?;
            decision = decide(&observed);
        }
        match decision {
            Decision::Hold { message } => {
                self.hold(bmc, message).await?;
                Ok(Outcome::Waits(Duration::from_secs(5)))
            }
            Decision::DeleteServers { names, forced } => {
                for server in servers
                    .iter()
                    .filter(|server| names.contains(&server.name_any()))
                {
                    self.delete_server(server, forced).await?;
                }
                Ok(Outcome::Waits(Duration::from_millis(500)))
            }
            Decision::WaitForServers => Ok(Outcome::Waits(Duration::from_secs(1))),
            Decision::LogOut => {
                let patience = Duration::try_from(PATIENCE).unwrap_or_default();
                if tokio::time::timeout(patience, self.context.gateway.forget(&name))
                    .await
                    .is_err()
                {
                    tracing::warn!(
                        bmc = name,
                        "the BMC did not end its session in time; it is left to lapse"
                    );
                }
                self.finish(bmc).await
            }
            Decision::Finish => self.finish(bmc).await,
        }
    }

    /// The Servers that refer to the BMC, whatever their labels, as the API server has them.
    async fn live_servers_of(&self, bmc: &str) -> Result<Vec<Dependent>, Failure> {
        let objects = &self.context.servers.objects;
        let live = objects
            .live_with("spec.bmcRef.name", bmc)
            .await
            .map_err(Failure::at("look for Servers"))?;
        let known = |server: &DynamicObject| {
            let key = ObjectKey::cluster(&server.name_any());
            self.context.servers.store.get(&key).is_some()
        };
        Ok(live
            .iter()
            .map(|server| Dependent {
                elsewhere: !known(server),
                ..live_dependent(server)
            })
            .collect())
    }

    async fn delete_server(&self, server: &Arc<Server>, forced: bool) -> Result<(), Failure> {
        let objects = &self.context.servers.objects;
        let mut server = server.clone();
        if forced && !server.annotations().contains_key(names::FORCE_DELETE) {
            let patch =
                json!({ "metadata": { "annotations": { names::FORCE_DELETE: "by its BMC" } } });
            server = objects
                .merge(&server, patch, false)
                .await
                .map_err(Failure::at("delete Server"))?;
        }
        match objects.delete(&server).await {
            Err(error) if !error.is_not_found() => Err(Failure::at("delete Server")(error)),
            _ => Ok(()),
        }
    }

    async fn finish(&self, bmc: &Arc<Bmc>) -> Result<Outcome, Failure> {
        let left: Vec<&String> = bmc
            .finalizers()
            .iter()
            .filter(|finalizer| *finalizer != names::FINALIZER_BMC)
            .collect();
        if left.len() < bmc.finalizers().len() {
            let patch = json!({ "metadata": { "finalizers": left } });
            match self.context.bmcs.objects.merge(bmc, patch, true).await {
                Err(error) if !error.is_not_found() => {
                    return Err(Failure::at("remove finalizer")(error));
                }
                _ => {}
            }
        }
        self.forget(&bmc.name_any()).await;
        Ok(Outcome::Gone)
    }

    async fn hold(&self, bmc: &Arc<Bmc>, message: String) -> Result<(), Failure> {
        let Some(bmc) = self.context.bmcs.store.get(&ObjectKey::of(&**bmc)) else {
            return Ok(());
        };
        let mut status = super::record::owned(&bmc);
        let current = status.clone();
        let condition = conditions::yes(names::CONDITION_HELD, "ServersInUse", message.clone());
        if conditions::set(
            &mut status.conditions,
            condition,
            bmc.metadata.generation,
            Timestamp::now(),
        ) {
            let objects = &self.context.bmcs.objects;
            objects
                .apply_status_if_changed(&bmc, Some(&current), &status)
                .await
                .map_err(Failure::at("record"))?;
            self.context
                .events
                .warning(&Subject::of(&*bmc), "DeletionHeld", message);
        }
        Ok(())
    }
}

fn dependent(server: &Server) -> Dependent {
    let claim = server.spec.server_claim_ref.as_ref();
    with_claim(
        server,
        claim.map(|claim| format!("{}/{}", claim.namespace, claim.name)),
    )
}

fn live_dependent(server: &DynamicObject) -> Dependent {
    let claim = server.data.pointer("/spec/serverClaimRef");
    let word = |claim: &Value, name: &str| claim[name].as_str().unwrap_or_default().to_owned();
    with_claim(
        server,
        claim.map(|claim| format!("{}/{}", word(claim, "namespace"), word(claim, "name"))),
    )
}

fn with_claim<K: ResourceExt>(server: &K, claim: Option<String>) -> Dependent {
    let bound = server
        .annotations()
        .get(names::CLAIM_UID)
        .map(|uid| format!("claim with UID {uid}"));
    Dependent {
        name: server.name_any(),
        claim: claim.or(bound),
        dirty: server.annotations().contains_key(names::DIRTY),
        deleting: server.meta().deletion_timestamp.is_some(),
        elsewhere: false,
    }
}
