//! Answers [`ServerBootConfiguration`]s where no other provider does (`--boot=builtin`).
//!
//! The rules are [`corten_lifecycle::boot`]: image, server and ignition Secret are checked; the server controller sets
//! the boot target when the machine is switched on. Only the form of a Secret is looked at, and nothing of it is kept.

mod fetches;

use std::{sync::Arc, time::Duration};

use corten_api::{
    metal::{ServerBootConfiguration, ServerBootConfigurationState, ServerBootConfigurationStatus},
    names,
};
use corten_kit::{Driver, Next, ObjectKey, Reconcile, Subject, conditions};
use corten_lifecycle::boot::{Decision, Ignition, Observed, Resolution, decide};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Context, failure::Failure};
use fetches::Fetches;

/// Boot configurations that are looked at, at once.
const AT_ONCE: usize = 64;

/// What may still come (a Secret, a Server) is looked for after this time.
const PENDING: Duration = Duration::from_secs(10);

/// A Secret is looked at again after this time while nothing else changes.
const READY: Duration = Duration::from_secs(600);

/// The controller.
#[derive(Debug)]
pub struct BootController {
    context: Context,
    fetches: Fetches,
}

// === impl BootController ===

impl BootController {
    /// A controller on `context`.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            fetches: Fetches::default(),
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

    async fn ignition(&self, boot: &ServerBootConfiguration) -> Ignition {
        let Some(name) = ignition_secret(boot) else {
            return Ignition::NotWanted;
        };
        let namespace = boot.namespace().unwrap_or_default();
        match self
            .context
            .connector
            .secrets
            .ignition_form(&namespace, name)
            .await
        {
            Ok(form) => Ignition::Present(form),
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
        let noted = boot.annotations();
        if noted.get(names::IMAGE_DIGEST) == Some(digest)
            && noted
                .get(names::IMAGE_KIND)
                .is_some_and(|known| known == kind)
        {
            return Ok(());
        }
        let fields = json!({
            "apiVersion": ServerBootConfiguration::api_version(&()),
            "kind": ServerBootConfiguration::kind(&()),
            "metadata": {
                "name": boot.name_any(),
                "namespace": boot.namespace(),
                "annotations": { names::IMAGE_DIGEST: digest, names::IMAGE_KIND: kind },
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
                mode, digest, what, ..
            } => (
                ServerBootConfigurationState::Ready,
                conditions::yes(
                    kind,
                    "Validated",
                    match digest {
                        None => format!("the image can be booted, {}", mode.as_str()),
                        Some(digest) => {
                            format!("{what}, {digest}, {}", mode.as_str())
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
        Ok(())
    }
}

impl Reconcile for BootController {
    type Error = Failure;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Failure> {
        let Some(boot) = self.context.boots.store.get(key) else {
            return Ok(Next::Done);
        };
        if boot.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let operation = boot.annotations().get(names::OPERATION);
        if operation.is_some_and(|operation| operation == names::OPERATION_IGNORE) {
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
        let images = self.context.config.services.as_ref();
        let resolution = match images.and_then(|services| services.images.as_ref()) {
            Some(images) => self.fetches.look(images, key, image),
            None => Resolution::NotWanted,
        };
        // What was verified before stays so while this process, which is new, looks at it again.
        if resolution == Resolution::UnderWay && is_ready(&boot) {
            return Ok(Next::Done);
        }
        let decision = decide(&Observed {
            image,
            mode: boot.annotations().get(names::BOOT_MODE).map(String::as_str),
            server,
            server_exists,
            secret: &secret,
            ignition,
            resolution,
        });
        self.note_image(&boot, &decision).await?;
        self.record(&boot, &decision).await?;
        Ok(match decision {
            Decision::Ready { .. } if ignition == Ignition::NotWanted => Next::Done,
            Decision::Ready { .. } => Next::After(READY),
            Decision::Pending { .. } => Next::After(PENDING),
            // A Secret can be mended without the boot configuration changing.
            Decision::Error { .. } if ignition != Ignition::NotWanted => Next::After(PENDING * 3),
            Decision::Error { .. } => Next::Done,
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
    status.conditions = conditions::owned(&status.conditions, &[names::CONDITION_IMAGE_VALIDATION]);
    status
}
