//! Answers [`ServerBootConfiguration`]s where no other provider does (`--boot=builtin`).
//!
//! The rules are [`corten_lifecycle::boot`]: image, server and ignition Secret are checked; the server controller sets
//! the boot target when the machine is switched on. Only the form of a Secret is looked at, and nothing of it is kept.

mod fetches;
mod noted;
mod resolved;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use corten_api::{
    corten::{RunKind, ServerRun},
    metal::{ServerBootConfiguration, ServerBootConfigurationState, ServerBootConfigurationStatus},
    names,
};
use corten_boot::{image::credentials::Credentials, userdata};
use corten_kit::{Driver, Next, ObjectKey, Reconcile, Subject, conditions};
use corten_lifecycle::{
    annotation,
    boot::{Decision, Ignition, Observed, Pull, Resolution, UserData, decide},
    image::{BootMode, ImageReference},
    inband::BootMethod,
    run::Step,
};
use dashmap::DashMap;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Context,
    config::{FetchedImage, Images, WantedImage},
    failure::Failure,
    inband::{cloud_init, keys},
};
use fetches::{Fetches, Wanted};
pub(crate) use resolved::ResolvedImages;

/// Boot configurations that are looked at, at once.
const AT_ONCE: usize = 64;

/// What may still come (a Secret, a Server) is looked for after this time.
const PENDING: Duration = Duration::from_secs(10);

/// How often images that nobody needs are let go of.
const SWEEP: Duration = Duration::from_secs(300);

/// Reason of the condition and the Event for data that nothing tells the image of.
const UNTOLD: &str = "NothingTellsTheImage";

/// A Secret is looked at again after this time while nothing else changes.
const READY: Duration = Duration::from_secs(600);

/// The controller.
#[derive(Debug)]
pub struct BootController {
    context: Context,
    fetches: Fetches,
    /// How machines are booted, by boot configuration.
    methods: Arc<DashMap<ObjectKey, Chosen>>,
}

/// A boot method as the plan of a run has it.
#[derive(Clone, Debug)]
struct Chosen {
    method: BootMethod,
    why: String,
    at: Timestamp,
    /// UID of the claim that the run is for.
    claim: Option<String>,
}

impl Chosen {
    /// What a run that boots a claim's image has chosen; none for other runs.
    fn of(run: &ServerRun) -> Option<Self> {
        if run.spec.kind != RunKind::Provisioning {
            return None;
        }
        let at = run.metadata.creation_timestamp.as_ref()?.0;
        run.spec.plan.iter().find_map(|planned| {
            let method = match planned.step.parse::<Step>().ok()? {
                Step::BootHttpOnce => BootMethod::HttpBootUri,
                Step::InsertMedia => BootMethod::VirtualMedia,
                Step::BootUefiHttpOnce => BootMethod::UefiHttp,
                Step::BootNetworkOnce => BootMethod::Network,
                _ => return None,
            };
            let why = planned.reason.clone();
            let claim = run.spec.claim_uid.clone();
            Some(Self {
                method,
                why,
                at,
                claim,
            })
        })
    }

    /// Whether it was chosen for this boot configuration, and not for one that the server had before.
    fn is_for(&self, boot: &ServerBootConfiguration) -> bool {
        let owner = boot
            .owner_references()
            .iter()
            .find(|owner| owner.kind == "ServerClaim");
        let made = boot.metadata.creation_timestamp.as_ref();
        match (owner, &self.claim) {
            (Some(owner), Some(claim)) => owner.uid == *claim,
            _ => made.is_none_or(|made| self.at >= made.0),
        }
    }
}

// === impl BootController ===

impl BootController {
    /// A controller on `context`.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            fetches: Fetches::default(),
            methods: Arc::default(),
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let (sender, changes) = mpsc::unbounded_channel();
        self.fetches.tell(sender.clone());
        let mut pumps = JoinSet::new();
        let mut boots = self.context.boots.store.subscribe();
        let to = sender.clone();
        pumps.spawn(async move {
            while let Some(key) = boots.recv().await {
                let _ = to.send(key);
            }
        });
        // How a machine boots is decided with its run.
        let mut runs = self.context.runs.store.subscribe();
        let (known_runs, known_servers, methods) = (
            self.context.runs.store.clone(),
            self.context.servers.store.clone(),
            self.methods.clone(),
        );
        let to = sender.clone();
        pumps.spawn(async move {
            while let Some(key) = runs.recv().await {
                let Some((run, chosen)) = known_runs
                    .get(&key)
                    .and_then(|run| Some((run.clone(), Chosen::of(&run)?)))
                else {
                    continue;
                };
                let server = known_servers.get(&ObjectKey::cluster(&run.spec.server_ref.name));
                let Some(boot) = server.and_then(|s| s.spec.boot_configuration_ref.clone()) else {
                    continue;
                };
                let boot = ObjectKey::namespaced(&boot.namespace, &boot.name);
                let is_older = methods.get(&boot).is_some_and(
                    |known: dashmap::mapref::one::Ref<'_, _, Chosen>| known.at > chosen.at,
                );
                if !is_older {
                    methods.insert(boot.clone(), chosen);
                    let _ = to.send(boot);
                }
            }
        });
        if let Some(images) = self.images() {
            let this = self.clone();
            pumps.spawn(async move {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    this.fetches
                        .sweep(&*images, &this.context.resolved.digests());
                }
            });
        }
        // A Server that appears may be the one that a boot configuration waits for; the server names it.
        let mut servers = self.context.servers.store.subscribe();
        let known = self.context.servers.store.clone();
        pumps.spawn(async move {
            while let Some(key) = servers.recv().await {
                let boot = known
                    .get(&key)
                    .and_then(|server| server.spec.boot_configuration_ref.clone());
                if let Some(boot) = boot {
                    let _ = sender.send(ObjectKey::namespaced(&boot.namespace, &boot.name));
                }
            }
        });
        Driver::new("boot", AT_ONCE)
            .run(self, changes, shutdown)
            .await;
    }

    fn images(&self) -> Option<Arc<dyn Images>> {
        let services = self.context.config.services.as_ref()?;
        services.images.clone()
    }

    /// The logins of the Secret that the annotation names.
    async fn pull(
        &self,
        boot: &ServerBootConfiguration,
    ) -> (Pull, Option<(String, Arc<Credentials>)>) {
        let name = boot.annotations().get(names::IMAGE_PULL_SECRET);
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return (Pull::Fine, None);
        };
        let namespace = boot.namespace().unwrap_or_default();
        let at = format!("{namespace}/{name}");
        match self.context.connector.secrets.core(&namespace, name).await {
            Ok(secret) => {
                let value = secret
                    .data
                    .as_ref()
                    .and_then(|data| data.get(".dockerconfigjson"));
                match value.and_then(|bytes| Credentials::read(&bytes.0)) {
                    Some(logins) => {
                        let version = secret.resource_version().unwrap_or_default();
                        (
                            Pull::Fine,
                            Some((format!("{at}@{version}"), Arc::new(logins))),
                        )
                    }
                    None => (Pull::Invalid(at), None),
                }
            }
            Err(error) if error.is_not_found() => (Pull::Missing(at), None),
            Err(error) => {
                tracing::debug!(boot = %boot.name_any(), %error, "pull Secret not read");
                (Pull::Unknown(at), None)
            }
        }
    }

    /// The claim's Secret with user data.
    async fn user_data(&self, boot: &ServerBootConfiguration) -> UserData {
        let namespace = boot.namespace().unwrap_or_default();
        let mut owners = boot.owner_references().iter();
        let claim = owners
            .find(|owner| owner.kind == "ServerClaim")
            .and_then(|owner| {
                let key = ObjectKey::namespaced(&namespace, &owner.name);
                let claim = self.context.claims.store.get(&key)?;
                (claim.uid().as_ref() == Some(&owner.uid)).then_some(claim)
            });
        let reference = claim
            .as_ref()
            .and_then(|claim| claim.spec.user_data_ref.as_ref());
        let Some(name) = reference
            .map(|reference| &reference.name)
            .filter(|name| !name.is_empty())
        else {
            return UserData::NotWanted;
        };
        let at = format!("{namespace}/{name}");
        match self.context.connector.secrets.core(&namespace, name).await {
            Ok(secret) => match cloud_init(&secret) {
                Ok(_) => UserData::Present,
                Err(why) => UserData::Invalid(at, why),
            },
            Err(error) if error.is_not_found() => UserData::Missing(at),
            Err(error) => {
                tracing::debug!(boot = %boot.name_any(), %error, "user data not read");
                UserData::Unknown(at)
            }
        }
    }

    /// What the image is, or how its fetch stands.
    fn resolve(
        &self,
        images: &Arc<dyn Images>,
        key: &ObjectKey,
        boot: &ServerBootConfiguration,
        login: Option<(String, Arc<Credentials>)>,
    ) -> Result<FetchedImage, Resolution> {
        let text = boot.spec.image.clone().unwrap_or_default();
        let Ok(reference) = ImageReference::parse(&text) else {
            // The text says what is wrong.
            return Err(Resolution::NotWanted);
        };
        let sha256 = boot.annotations().get(names::IMAGE_SHA256).cloned();
        if let (Some(sha256), ImageReference::Url(_)) = (&sha256, &reference)
            && !(sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(Resolution::Failed {
                reason: "ImageDigestInvalid",
                message: format!(
                    "the annotation {} is no SHA-256 of 64 hexadecimal digits",
                    names::IMAGE_SHA256
                ),
                passing: false,
            });
        }
        let wanted = Wanted {
            text,
            image: WantedImage {
                reference,
                sha256,
                architecture: self.architecture(&boot.spec.server_ref.name),
            },
            login,
        };
        let resolved = &self.context.resolved;
        if let Some(known) = resolved.of(key, &wanted.key()) {
            return Ok(known);
        }
        let found = noted::look(&self.fetches, images, key, boot, wanted.clone());
        if let Ok(fetched) = &found {
            resolved.note(key, &wanted.key(), fetched.clone());
        }
        found
    }

    /// The machine's architecture, as OCI names it; what is not known is the usual one.
    fn architecture(&self, server: &str) -> &'static str {
        let server = self.context.servers.store.get(&ObjectKey::cluster(server));
        let is_arm = server.is_some_and(|server| {
            let processors = server.status.iter().flat_map(|status| &status.processors);
            processors
                .filter_map(|processor| processor.architecture.as_deref())
                .any(|word| {
                    let word = word.to_ascii_lowercase();
                    word.starts_with("arm") || word.starts_with("aarch")
                })
        });
        if is_arm { "arm64" } else { "amd64" }
    }

    /// What is wrong with the root-device hints that the image would be written by.
    fn hints(&self, server: &str) -> Option<String> {
        let server = self
            .context
            .servers
            .store
            .get(&ObjectKey::cluster(server))?;
        self.context.root_device_hints(&server).err()
    }

    /// How the machine is booted for this image, as its run has it.
    fn method(&self, key: &ObjectKey, boot: &ServerBootConfiguration) -> Option<Condition> {
        let chosen = self.methods.get(key)?;
        if !chosen.is_for(boot) {
            return None;
        }
        Some(conditions::yes(
            names::CONDITION_BOOT_METHOD,
            chosen.method.as_str(),
            chosen.why.clone(),
        ))
    }

    async fn ignition(&self, boot: &ServerBootConfiguration) -> Ignition {
        let Some(name) = ignition_secret(boot) else {
            return Ignition::NotWanted;
        };
        let namespace = boot.namespace().unwrap_or_default();
        match self.context.connector.secrets.core(&namespace, name).await {
            // Judged by what will be served, so that Ready means that it is.
            Ok(secret) => match userdata::served(&keys(&secret)) {
                Ok(_) => Ignition::Present,
                Err(error) => Ignition::Invalid(error.to_string()),
            },
            Err(error) if error.is_not_found() => Ignition::Missing,
            Err(error) => {
                tracing::debug!(boot = %boot.name_any(), %error, "ignition Secret not read");
                Ignition::Unknown
            }
        }
    }

    /// Digest and kind of the image, by which it is booted from now on, are written before the state that says so.
    async fn note_image(
        &self,
        boot: &ServerBootConfiguration,
        decision: &Decision,
    ) -> Result<(), Failure> {
        let Decision::Ready {
            digest: Some(digest),
            is_disk_image,
            ..
        } = decision
        else {
            return Ok(());
        };
        let kind = if *is_disk_image {
            names::IMAGE_KIND_DISK
        } else {
            names::IMAGE_KIND_BOOT
        };
        let reference = boot.spec.image.as_deref().unwrap_or_default();
        let wanted = [
            (names::IMAGE_DIGEST, digest.as_str()),
            (names::IMAGE_KIND, kind),
            (names::IMAGE_REFERENCE, reference),
        ];
        let noted = boot.annotations();
        if wanted
            .iter()
            .all(|(name, value)| noted.get(*name).is_some_and(|known| known == value))
        {
            return Ok(());
        }
        let fields = json!({
            "apiVersion": ServerBootConfiguration::api_version(&()),
            "kind": ServerBootConfiguration::kind(&()),
            "metadata": {
                "name": boot.name_any(),
                "namespace": boot.namespace(),
                "annotations": BTreeMap::from(wanted),
            },
        });
        let objects = &self.context.boots.objects;
        let written = objects.apply(&ObjectKey::of(boot), &fields).await;
        written.map(drop).map_err(Failure::at("note the image"))
    }

    async fn record(
        &self,
        boot: &ServerBootConfiguration,
        decision: &Decision,
    ) -> Result<(), Failure> {
        let current = owned(boot);
        let mut status = current.clone();
        let kind = names::CONDITION_IMAGE_VALIDATION;
        let (state, condition) = match decision {
            Decision::Ready {
                mode,
                digest,
                what,
                is_disk_image,
                ..
            } => (
                ServerBootConfigurationState::Ready,
                conditions::yes(
                    kind,
                    "Validated",
                    match digest {
                        None => {
                            format!("the image can be booted, {}", later(*mode, *is_disk_image))
                        }
                        Some(digest) => {
                            format!("{what}, {digest}, {}", later(*mode, *is_disk_image))
                        }
                    },
                ),
            ),
            Decision::Pending { reason, message } => (
                ServerBootConfigurationState::Pending,
                conditions::no(kind, reason, message.clone()),
            ),
            Decision::Error { reason, message } => (
                ServerBootConfigurationState::Error,
                conditions::no(kind, reason, message.clone()),
            ),
        };
        status.state = Some(state);
        conditions::set(
            &mut status.conditions,
            condition,
            boot.metadata.generation,
            Timestamp::now(),
        );
        if let Some(method) = self.method(&ObjectKey::of(boot), boot) {
            conditions::set(
                &mut status.conditions,
                method,
                boot.metadata.generation,
                Timestamp::now(),
            );
        }
        let untold = match decision {
            Decision::Ready { untold, .. } => untold.as_ref(),
            _ => None,
        };
        let kind = names::CONDITION_DATA_FOUND;
        let was_untold = conditions::get(&status.conditions, kind).is_some();
        if let Some(message) = untold {
            conditions::set(
                &mut status.conditions,
                conditions::unknown(kind, UNTOLD, message.clone()),
                boot.metadata.generation,
                Timestamp::now(),
            );
        } else {
            conditions::remove(&mut status.conditions, kind);
        }
        let objects = &self.context.boots.objects;
        let written = objects
            .apply_status_if_changed(boot, Some(&current), &status)
            .await;
        let written = written.map_err(Failure::at("record"))?;
        if let (Decision::Error { reason, message }, Some(_)) = (decision, written) {
            self.context
                .events
                .warning(&Subject::of(boot), reason, message.clone());
        }
        if let (Some(message), false) = (untold, was_untold) {
            self.context
                .events
                .warning(&Subject::of(boot), UNTOLD, message.clone());
        }
        Ok(())
    }
}

/// How a machine with the image starts later, for people.
fn later(mode: BootMode, is_disk_image: bool) -> &'static str {
    match (mode, is_disk_image) {
        (BootMode::Diskless, _) => "diskless: booted at each start",
        (BootMode::Disk, true) => "disk",
        (BootMode::Disk, false) => {
            "booted once, later starts are from the disk (corten.dev/boot-mode: diskless where it lives in memory)"
        }
    }
}

impl Reconcile for BootController {
    type Error = Failure;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Failure> {
        let Some(boot) = self.context.boots.store.get(key) else {
            self.context.resolved.forget(key);
            self.methods.remove(key);
            return Ok(Next::Done);
        };
        if boot.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        if annotation::is_ignored(boot.annotations()) {
            return Ok(Next::Done);
        }
        let server = &boot.spec.server_ref.name;
        let server_exists = self
            .context
            .servers
            .store
            .get(&ObjectKey::cluster(server))
            .is_some();
        // A server of another shard is that shard's to answer for.
        if !server_exists && self.context.config.selector.is_some() {
            return Ok(Next::After(PENDING));
        }
        let ignition = self.ignition(&boot).await;
        let secret = format!(
            "{}/{}",
            boot.namespace().unwrap_or_default(),
            ignition_secret(&boot).unwrap_or_default()
        );
        let image = boot.spec.image.as_deref().unwrap_or_default();
        let user_data = self.user_data(&boot).await;
        let (pull, login) = self.pull(&boot).await;
        let resolution = match self.images() {
            Some(images) if pull == Pull::Fine => match self.resolve(&images, key, &boot, login) {
                Ok(found) => Resolution::Fetched {
                    digest: found.digest,
                    what: found.what,
                    is_disk_image: found.is_disk_image,
                    told: found.told,
                },
                Err(resolution) => resolution,
            },
            _ => Resolution::NotWanted,
        };
        // What was verified before stays so while this process, which is new, looks at it again.
        if resolution == Resolution::UnderWay && is_ready(&boot) {
            return Ok(Next::Done);
        }
        // Nothing is known of a Secret that cannot be read for now, so nothing new is said.
        let is_unread = ignition == Ignition::Unknown
            || matches!(pull, Pull::Unknown(_))
            || matches!(user_data, UserData::Unknown(_));
        if is_unread && is_ready(&boot) {
            return Ok(Next::After(PENDING));
        }
        let decision = decide(&Observed {
            image,
            mode: boot.annotations().get(names::BOOT_MODE).map(String::as_str),
            server,
            server_exists,
            secret: &secret,
            ignition: ignition.clone(),
            hints: self.hints(server),
            user_data: user_data.clone(),
            pull,
            resolution,
        });
        self.note_image(&boot, &decision).await?;
        self.record(&boot, &decision).await?;
        Ok(match decision {
            Decision::Ready { .. }
                if ignition == Ignition::NotWanted && user_data == UserData::NotWanted =>
            {
                Next::Done
            }
            Decision::Ready { .. } => Next::After(READY),
            Decision::Pending { .. } => Next::After(PENDING),
            // Secrets and hints can be mended without the boot configuration changing.
            Decision::Error { .. } => Next::After(PENDING * 3),
        })
    }
}

/// Ready, by the image that it has now.
fn is_ready(boot: &ServerBootConfiguration) -> bool {
    let status = boot.status.as_ref();
    let ready = status.is_some_and(|status| {
        status.state == Some(ServerBootConfigurationState::Ready)
            && conditions::get(&status.conditions, names::CONDITION_IMAGE_VALIDATION)
                .is_some_and(|known| known.observed_generation == boot.metadata.generation)
    });
    ready && boot.annotations().contains_key(names::IMAGE_DIGEST)
}

fn ignition_secret(boot: &ServerBootConfiguration) -> Option<&str> {
    let reference = boot.spec.ignition_secret_ref.as_ref();
    reference
        .map(|reference| reference.name.as_str())
        .filter(|name| !name.is_empty())
}

fn owned(boot: &ServerBootConfiguration) -> ServerBootConfigurationStatus {
    let mut status = boot.status.clone().unwrap_or_default();
    status.conditions = conditions::owned(
        &status.conditions,
        &[
            names::CONDITION_IMAGE_VALIDATION,
            names::CONDITION_BOOT_METHOD,
            names::CONDITION_DATA_FOUND,
        ],
    );
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_an_earlier_claim_was_booted_says_nothing_of_this_one() {
        let at: Timestamp = "2026-11-26T06:00:00Z".parse().unwrap();
        let chosen = |claim: Option<&str>| Chosen {
            method: BootMethod::Network,
            why: "it can".into(),
            at,
            claim: claim.map(str::to_owned),
        };
        let boot = |made: Timestamp, owner: &str| -> ServerBootConfiguration {
            serde_json::from_value(json!({
                "apiVersion": ServerBootConfiguration::api_version(&()),
                "kind": "ServerBootConfiguration",
                "metadata": {
                    "name": "web",
                    "creationTimestamp": made.to_string(),
                    "ownerReferences": [{
                        "apiVersion": "metal.ironcore.dev/v1alpha1",
                        "kind": if owner.is_empty() { "Other" } else { "ServerClaim" },
                        "name": "web",
                        "uid": owner,
                    }],
                },
                "spec": { "serverRef": { "name": "s" } },
            }))
            .unwrap()
        };
        let later = at + Duration::from_secs(5);
        let of = |claim: Option<&str>, made, owner| chosen(claim).is_for(&boot(made, owner));
        assert!(of(Some("u1"), at, "u1"));
        assert!(!of(Some("u1"), at, "u2"));
        // Without a claim to tell them apart the times do.
        assert!(of(None, at, "u1") && !of(None, later, "u1"));
        assert!(of(Some("u1"), at, "") && !of(Some("u1"), later, ""));
    }
}
