//! One arm for each decision, one write in each (two where somebody else's annotation goes).

use std::time::Duration;

use corten_api::{
    metal::{ServerBootConfiguration, ServerClaim},
    names,
};
use corten_kit::{Next, ObjectKey, Subject};
use corten_lifecycle::claim::{
    self, BOOT_ANNOTATIONS, BOUND_SERVER, CHOSEN_SERVER, Decision, Farewell,
};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::{Allocator, Error, allocator::Done, observe::World};

/// How long a server that our caches do not show is waited for.
const UNSEEN: Duration = Duration::from_secs(5);

impl Allocator {
    pub(crate) async fn act(&self, world: &World, decision: Decision) -> Result<Done, Error> {
        let step = |step: &'static str| move |source| Error::Act { step, source };
        match decision {
            Decision::Choose { server: _, record } => {
                let change = json!({ "metadata": {
                    "finalizers": with_ours(&world.claim),
                    "annotations": { CHOSEN_SERVER: record },
                }});
                self.claims
                    .merge(&*world.claim, change, true)
                    .await
                    .map_err(step("choose"))?;
                Ok(Done::Step)
            }
            Decision::Protect => {
                let change = json!({ "metadata": { "finalizers": with_ours(&world.claim) } });
                self.claims
                    .merge(&*world.claim, change, true)
                    .await
                    .map_err(step("protect"))?;
                Ok(Done::Step)
            }
            Decision::Bind { server } => self.bind(world, &server).await.map_err(step("bind")),
            Decision::Reconsider { server } => {
                self.note_server(&ObjectKey::cluster(&server));
                Ok(Done::Step)
            }
            Decision::ClearBoot => {
                if let Some(boot) = world.boot() {
                    self.boots
                        .delete(&**boot)
                        .await
                        .map_err(step("clear-boot"))?;
                }
                Ok(Done::Step)
            }
            Decision::PrepareBoot { server } => {
                let key = ObjectKey::of(&*world.claim);
                let boot = self.boot_for(&world.claim, &server);
                let applied = self
                    .boots
                    .apply(&key, &boot)
                    .await
                    .map_err(step("prepare-boot"))?;
                // What somebody else wrote there outlives an apply.
                let strange: serde_json::Map<_, _> = BOOT_ANNOTATIONS
                    .into_iter()
                    .filter(|name| applied.annotations().contains_key(*name))
                    .filter(|name| !world.claim.annotations().contains_key(*name))
                    .map(|name| (name.to_owned(), Value::Null))
                    .collect();
                if !strange.is_empty() {
                    let change = json!({ "metadata": { "annotations": strange } });
                    self.boots
                        .merge(&*applied, change, true)
                        .await
                        .map_err(step("prepare-boot"))?;
                }
                Ok(Done::Step)
            }
            Decision::Publish {
                server,
                record,
                reference,
            } => {
                let metadata =
                    json!({ "annotations": { BOUND_SERVER: record, CHOSEN_SERVER: null } });
                // It cannot change once it is set, so it is only ever added.
                let change = if reference {
                    json!({ "metadata": metadata, "spec": { "serverRef": { "name": server } } })
                } else {
                    json!({ "metadata": metadata })
                };
                self.claims
                    .merge(&*world.claim, change, true)
                    .await
                    .map_err(step("publish"))?;
                Ok(Done::Step)
            }
            Decision::BeginRelease { server } => self
                .begin_release(world, &server)
                .await
                .map_err(step("release")),
            Decision::LetGo { released } => self.let_go(world, released).await,
            Decision::Settled(report) => {
                self.binding.lock().remove(&ObjectKey::of(&*world.claim));
                self.record(&world.claim, report).await.map(Done::Rest)
            }
            Decision::Gone | Decision::Ignored => Ok(Done::Rest(Next::Done)),
        }
    }

    /// The claim is gone. A server that this process was binding to it is given back.
    ///
    /// The API server may end an object that it read before our finalizer was on it: its deletion compares nothing but the UID. What
    /// is known here and nowhere else is that we wrote to this very claim a moment ago, so that its absence is its deletion, and
    /// no outage, move or restore. Should this process be killed in between, the engine holds the server for a person to decide.
    pub(crate) async fn vanished(&self, key: &ObjectKey) -> Result<Next, Error> {
        let step = |source| Error::Act {
            step: "vanished",
            source,
        };
        let Some((uid, name)) = self.binding.lock().get(key).cloned() else {
            return Ok(Next::Done);
        };
        match self.claims.live(key).await {
            Ok(live) if live.metadata.uid.as_deref() == Some(uid.as_str()) => {
                return Ok(Next::After(Duration::ZERO));
            }
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(step(error)),
        }
        let server = match self.servers.live(&ObjectKey::cluster(&name)).await {
            Ok(server) => server,
            Err(error) if error.is_not_found() => {
                self.binding.lock().remove(key);
                return Ok(Next::Done);
            }
            Err(error) => return Err(step(error)),
        };
        let notes = server.annotations();
        if notes.get(names::CLAIM_UID) == Some(&uid) && !notes.contains_key(names::RELEASE) {
            let release = json!({ "metadata": { "annotations": {
                names::RELEASE: uid,
                names::SERVER_UID: server.metadata.uid,
            } } });
            self.servers
                .merge(&*server, release, true)
                .await
                .map_err(step)?;
            self.note_server(&ObjectKey::cluster(&name));
            self.events.normal(
                &Subject::of(&*server),
                "ClaimVanished",
                format!("the claim {key} was deleted while it was being bound: the server is released and cleaned"),
            );
        }
        self.binding.lock().remove(key);
        Ok(Next::Done)
    }

    /// The promise of one claim a server rests on this one update at the observed version.
    async fn bind(&self, world: &World, name: &str) -> Result<Done, corten_kit::Error> {
        let Some(server) = world.server(name) else {
            return Ok(Done::Step);
        };
        let key = ObjectKey::of(&*world.claim);
        let uid = world.claim.metadata.uid.as_deref().unwrap_or_default();
        // Our finalizer may have come too late for a deletion that was under way: see `vanished`.
        let live = match self.claims.live(&key).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => return Ok(Done::Step),
            Err(error) => return Err(error),
        };
        if live.metadata.uid != world.claim.metadata.uid
            || live.metadata.deletion_timestamp.is_some()
        {
            return Ok(Done::Step);
        }
        self.binding
            .lock()
            .insert(key.clone(), (uid.to_owned(), name.to_owned()));
        let claim = json!({ "name": world.claim.name_any(), "namespace": world.claim.namespace() });
        let change = json!({
            "metadata": { "annotations": { names::CLAIM_UID: uid, names::DIRTY: uid, names::RELEASE: null, names::CLEANED_BY: null } },
            "spec": { "serverClaimRef": claim, "bootConfigurationRef": claim },
        });
        let bound = self.servers.merge(&**server, change, true).await;
        self.note_server(&ObjectKey::cluster(name));
        bound?;
        tracing::info!(claim = %key, server = name, "bound");
        Ok(Done::Step)
    }

    /// Permits the engine to power the machine off, if the claim really is on its way out.
    async fn begin_release(&self, world: &World, name: &str) -> Result<Done, corten_kit::Error> {
        let Some(server) = world.server(name) else {
            return Ok(Done::Step);
        };
        let live = self.claims.live(&ObjectKey::of(&*world.claim)).await?;
        let uid = live.metadata.uid.as_deref().unwrap_or_default();
        if live.metadata.uid != world.claim.metadata.uid
            || live.metadata.deletion_timestamp.is_none()
        {
            // A cache that says otherwise is out of date: nothing is released on its word.
            return Ok(Done::Rest(Next::After(UNSEEN)));
        }
        // Which object the release was recorded on tells a restored or moved one from this one.
        let change = json!({ "metadata": { "annotations": { names::RELEASE: uid, names::SERVER_UID: server.metadata.uid } } });
        let released = self.servers.merge(&**server, change, true).await;
        self.note_server(&ObjectKey::cluster(name));
        released?;
        self.events.normal(
            &Subject::of(&*world.claim),
            "Releasing",
            format!("server {name:?} is being released"),
        );
        Ok(Done::Step)
    }

    async fn let_go(&self, world: &World, released: Option<Farewell>) -> Result<Done, Error> {
        let step = |source| Error::Act {
            step: "let-go",
            source,
        };
        if !released
            .as_ref()
            .is_some_and(|farewell| farewell.confirmed && world.server(&farewell.server).is_some())
        {
            // A selector may hide the server, or a predecessor's last binding be younger than our cache.
            for name in world.servers_on_record() {
                let live = match self.any_server.live(&ObjectKey::cluster(&name)).await {
                    Ok(live) => live,
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(step(error)),
                };
                if live.annotations().get(names::CLAIM_UID) != world.claim.metadata.uid.as_ref() {
                    continue;
                }
                let seen = world.with(live);
                return match claim::decide(&seen.view()) {
                    Decision::LetGo { released } => self
                        .drop_finalizer(&seen.claim, released)
                        .await
                        .map_err(step),
                    Decision::BeginRelease { server } => {
                        self.begin_release(&seen, &server).await.map_err(step)?;
                        Ok(Done::Rest(Next::After(UNSEEN)))
                    }
                    Decision::Settled(report) => {
                        self.record(&world.claim, report).await?;
                        Ok(Done::Rest(Next::After(UNSEEN)))
                    }
                    _ => Ok(Done::Rest(Next::After(UNSEEN))),
                };
            }
        }
        self.drop_finalizer(&world.claim, released)
            .await
            .map_err(step)
    }

    async fn drop_finalizer(
        &self,
        claim: &ServerClaim,
        released: Option<Farewell>,
    ) -> Result<Done, corten_kit::Error> {
        let others: Vec<_> = claim
            .finalizers()
            .iter()
            .filter(|f| *f != names::FINALIZER_SERVER_CLAIM)
            .collect();
        self.claims
            .merge(claim, json!({ "metadata": { "finalizers": others } }), true)
            .await?;
        let subject = Subject::of(claim);
        match released {
            Some(Farewell { server, confirmed: true }) => {
                self.events.normal(&subject, "Released", format!("server {server:?} is off and no longer the claim's"));
            }
            Some(Farewell { server, confirmed: false }) => self.events.warning(
                &subject,
                "ServerGone",
                format!("server {server:?} no longer exists or knows of the claim: nobody has confirmed that the machine is off"),
            ),
            None => {}
        }
        Ok(Done::Step)
    }

    /// The claim's boot configuration, as our fields of it.
    fn boot_for(&self, claim: &ServerClaim, server: &str) -> Value {
        let mut annotations = serde_json::Map::new();
        for name in BOOT_ANNOTATIONS {
            if let Some(value) = claim.annotations().get(name) {
                annotations.insert(name.to_owned(), json!(value));
            }
        }
        let mut spec = serde_json::Map::new();
        spec.insert("serverRef".to_owned(), json!({ "name": server }));
        spec.insert("image".to_owned(), json!(claim.spec.image));
        if let Some(ignition) = &claim.spec.ignition_secret_ref {
            spec.insert("ignitionSecretRef".to_owned(), json!(ignition));
        }
        json!({
            "apiVersion": ServerBootConfiguration::api_version(&()),
            "kind": ServerBootConfiguration::kind(&()),
            "metadata": {
                "name": claim.name_any(),
                "namespace": claim.namespace(),
                "labels": self.config.labels,
                "annotations": annotations,
                "ownerReferences": [claim.controller_owner_ref(&())],
            },
            "spec": spec,
        })
    }
}

fn with_ours(claim: &ServerClaim) -> Vec<String> {
    let mut all = claim.finalizers().to_vec();
    if !all
        .iter()
        .any(|finalizer| finalizer == names::FINALIZER_SERVER_CLAIM)
    {
        all.push(names::FINALIZER_SERVER_CLAIM.to_owned());
    }
    all
}
