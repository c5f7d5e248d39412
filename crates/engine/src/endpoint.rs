//! Drives [`Endpoint`]s: asks the device behind one who it is, and makes a BMC of it, once.
//!
//! The rules are [`corten_lifecycle::endpoint`]. The BMC is created with all that would cost another write later: the
//! finalizer, the certificate's pin, the next login attempt's time. What exists is never rewritten: not the BMC, not the
//! credentials.

mod create;

pub(crate) use create::factory_secret;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use corten_api::{
    metal::{Bmc, Endpoint, EndpointStatus},
    names,
};
use corten_kit::{Driver, Next, ObjectKey, Reconcile, conditions};
use corten_lifecycle::{
    annotation,
    endpoint::{Answer, Decision, Existing, Kind, Observed, decide, mac::MacAddress},
    trust::Scheme,
};
use corten_redfish::{Bmc as Handle, Credentials, GatewayError, Target, Trust};
use dashmap::DashMap;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{Context, connect::address, failure::Failure, macdb::DeviceKind};

/// Devices that are asked at once. A hung one costs a place for the gateway's connect and header deadlines.
const AT_ONCE: usize = 512;

/// How long a device has to show its service root.
const ASK: Duration = Duration::from_secs(15);

/// A device that has not answered after this time gives its room to the next: it may be dead, and there may be thousands of such.
const PROMPT: Duration = Duration::from_secs(1);

/// The controller.
#[derive(Debug)]
pub struct EndpointController {
    context: Context,
    by_mac: Arc<DashMap<MacAddress, BTreeSet<ObjectKey>>>,
}

/// A device that may be asked: where it is and what the MAC database says of it.
struct Device<'a> {
    ip: IpAddr,
    kind: &'a DeviceKind,
    scheme: Scheme,
}

// === impl EndpointController ===

impl EndpointController {
    /// A controller on `context`; its index is in place before the caches are fed.
    pub fn new(context: Context) -> Self {
        let by_mac: Arc<DashMap<MacAddress, BTreeSet<ObjectKey>>> = Arc::default();
        let index = by_mac.clone();
        context.endpoints.store.observe(move |key, old, new| {
            let mac = |endpoint: &Endpoint| endpoint.spec.mac_address.parse::<MacAddress>().ok();
            let (old, new) = (old.and_then(mac), new.and_then(mac));
            if old == new {
                return;
            }
            if let Some(old) = old {
                index.entry(old).or_default().remove(key);
                index.remove_if(&old, |_, keys| keys.is_empty());
            }
            if let Some(new) = new {
                index.entry(new).or_default().insert(key.clone());
            }
        });
        Self { context, by_mac }
    }

    /// Runs until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let changes = self.context.endpoints.store.subscribe();
        Driver::new("endpoint", AT_ONCE)
            .run(self, changes, shutdown)
            .await;
    }

    fn observe(&self, key: &ObjectKey, endpoint: &Endpoint) -> Observed {
        let mac = endpoint
            .spec
            .mac_address
            .parse::<MacAddress>()
            .map_err(|error| error.to_string());
        let kind = match mac
            .as_ref()
            .ok()
            .and_then(|mac| self.context.connector.macs.find(*mac))
        {
            None => Kind::Unknown,
            Some(kind) if !kind.is_bmc => Kind::NotBmc,
            Some(kind) => Kind::Bmc {
                manufacturer: kind.manufacturer.clone(),
            },
        };
        Observed {
            has_address: endpoint.spec.ip.parse::<IpAddr>().is_ok(),
            same_mac: mac
                .as_ref()
                .ok()
                .and_then(|mac| self.older_with(*mac, key, endpoint)),
            bmc: self.existing(key),
            answer: None,
            mac,
            kind,
        }
    }

    fn existing(&self, key: &ObjectKey) -> Existing {
        match self.context.bmcs.store.get(key) {
            None => Existing::None,
            Some(bmc) => existing(&self.context, &bmc, key.name()),
        }
    }

    /// Another Endpoint with this MAC address that goes first: it has a BMC, or it is older, or its name comes first.
    fn older_with(&self, mac: MacAddress, key: &ObjectKey, endpoint: &Endpoint) -> Option<String> {
        let others = self.by_mac.get(&mac)?.clone();
        let rank = |key: &ObjectKey, endpoint: &Endpoint| {
            let has_none = self.existing(key) != Existing::Ours;
            (
                has_none,
                endpoint.creation_timestamp().map(|time| time.0),
                key.clone(),
            )
        };
        let own = rank(key, endpoint);
        others
            .iter()
            .filter(|other| *other != key)
            .filter_map(|other| Some((other, self.context.endpoints.store.get(other)?)))
            .filter(|(other, endpoint)| rank(other, endpoint) < own)
            .map(|(other, _)| other.name().to_owned())
            .next()
    }

    fn device<'a>(&'a self, endpoint: &Endpoint) -> Option<Device<'a>> {
        let mac: MacAddress = endpoint.spec.mac_address.parse().ok()?;
        let ip: IpAddr = endpoint.spec.ip.parse().ok()?;
        let kind = self.context.connector.macs.find(mac)?;
        let scheme = address::scheme(
            kind.scheme.as_deref(),
            &ip.to_string(),
            &self.context.config.assume_http_for,
        );
        Some(Device {
            ip,
            kind,
            scheme: scheme.ok()?,
        })
    }

    /// Looks at the service root without credentials.
    async fn ask(&self, name: &str, device: &Device<'_>) -> Result<Handle, GatewayError> {
        let port = device.kind.port.unwrap_or_default();
        let url =
            address::url(device.scheme, &device.ip.to_string(), port.into()).map_err(|_| {
                GatewayError::InvalidTarget {
                    url: device.ip.to_string().into(),
                    what: "the MAC prefix database gives it an impossible port",
                }
            })?;
        let credentials = device.kind.credentials.first();
        let credentials = credentials.map_or_else(
            || Credentials::new("", String::new()),
            |factory| Credentials {
                username: factory.username.clone(),
                password: factory.password.clone(),
            },
        );
        let trust = match device.scheme {
            Scheme::Http => Trust::Plain,
            Scheme::Https => Trust::FirstUse,
        };
        let bmc = self.context.gateway.bmc(Target {
            name: name.to_owned(),
            url,
            credentials,
            trust,
        });
        match tokio::time::timeout(ASK, bmc.service_root()).await {
            Ok(root) => root.map(|_| bmc),
            Err(_) => Err(GatewayError::Timeout {
                authority: format!("{}", device.ip).into(),
                phase: corten_redfish::error::Phase::Headers,
                after: ASK,
            }),
        }
    }

    async fn record(&self, endpoint: &Endpoint, decision: &Decision) -> Result<(), Failure> {
        let generation = endpoint.metadata.generation;
        let current = endpoint.status.clone().unwrap_or_default();
        let known = conditions::get(&current.conditions, names::CONDITION_READY);
        let condition = match decision {
            // That all is well is said by the BMC; the Endpoint only takes back what it said before.
            Decision::Settled | Decision::Create
                if known.is_none_or(|ready| ready.status == "True") =>
            {
                return Ok(());
            }
            Decision::Settled | Decision::Create => conditions::yes(
                names::CONDITION_READY,
                "BMCCreated",
                format!("BMC {} stands for this device", endpoint.name_any()),
            ),
            Decision::LeaveAlone {
                reason, message, ..
            } => {
                // The words of a failure vary; the same reason is no news.
                if known.is_some_and(|ready| {
                    ready.reason == *reason && ready.observed_generation == generation
                }) {
                    return Ok(());
                }
                conditions::no(names::CONDITION_READY, reason, message.clone())
            }
            Decision::Ask => return Ok(()),
        };
        let mut owned = conditions::owned(&current.conditions, &[names::CONDITION_READY]);
        if conditions::set(&mut owned, condition, generation, Timestamp::now()) {
            let status = EndpointStatus { conditions: owned };
            self.context
                .endpoints
                .objects
                .apply_status(endpoint, &status)
                .await
                .map_err(Failure::at("record"))?;
        }
        Ok(())
    }

    /// The Endpoint is gone: so goes its BMC, unless the object only left our selector.
    async fn gone(&self, key: &ObjectKey) -> Result<Next, Failure> {
        let Some(bmc) = self
            .context
            .bmcs
            .store
            .get(key)
            .filter(|bmc| refers_to(bmc, key.name()))
        else {
            return Ok(Next::Done);
        };
        if bmc.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        match self.context.endpoints.objects.live(key).await {
            Ok(_) => Ok(Next::Done),
            Err(error) if error.is_not_found() => {
                self.delete(&bmc).await?;
                Ok(Next::Done)
            }
            Err(error) => Err(Failure::at("observe")(error)),
        }
    }

    /// The Endpoint is being deleted and something holds it. Corten puts no finalizer there; metal-operator did, and it goes
    /// when the BMC is on its way out.
    async fn leave(&self, key: &ObjectKey, endpoint: &Endpoint) -> Result<Next, Failure> {
        let left: Vec<&String> = endpoint
            .finalizers()
            .iter()
            .filter(|finalizer| *finalizer != names::FINALIZER_ENDPOINT)
            .collect();
        if left.len() == endpoint.finalizers().len() {
            return Ok(Next::Done);
        }
        let bmc = self.context.bmcs.store.get(key);
        if let Some(bmc) = bmc
            .filter(|bmc| refers_to(bmc, key.name()) && bmc.metadata.deletion_timestamp.is_none())
        {
            self.delete(&bmc).await?;
        }
        let patch = json!({ "metadata": { "finalizers": left } });
        match self
            .context
            .endpoints
            .objects
            .merge(endpoint, patch, true)
            .await
        {
            Err(error) if !error.is_not_found() => Err(Failure::at("remove finalizer")(error)),
            _ => Ok(Next::Done),
        }
    }

    async fn delete(&self, bmc: &Bmc) -> Result<(), Failure> {
        tracing::info!(bmc = %bmc.name_any(), "Endpoint deleted: its BMC goes too");
        match self.context.bmcs.objects.delete(bmc).await {
            Err(error) if !error.is_not_found() => Err(Failure::at("delete BMC")(error)),
            _ => Ok(()),
        }
    }
}

impl Reconcile for EndpointController {
    type Error = Failure;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Failure> {
        let Some(endpoint) = self.context.endpoints.store.get(key) else {
            return self.gone(key).await;
        };
        let is_ignored = annotation::is_ignored(endpoint.annotations());
        if is_ignored {
            return Ok(Next::Done);
        }
        if endpoint.metadata.deletion_timestamp.is_some() {
            return self.leave(key, &endpoint).await;
        }
        let mut observed = self.observe(key, &endpoint);
        let mut decision = decide(&observed);
        if decision == Decision::Ask
            && let Some(device) = self.device(&endpoint)
        {
            let room = self.context.onboarding.room().await;
            // That may have taken long. What changed since is news, and comes again by itself.
            let now = self.context.endpoints.store.get(key);
            if now.is_none_or(|now| now.resource_version() != endpoint.resource_version()) {
                return Ok(Next::Done);
            }
            // Boxed: many wait for room, and each that waits is held whole.
            let mut asking = Box::pin(self.ask(key.name(), &device));
            let (asked, _room) = match tokio::time::timeout(PROMPT, &mut asking).await {
                Ok(asked) => (asked, Some(room)),
                Err(_) => {
                    drop(room);
                    (asking.await, None)
                }
            };
            observed.answer = Some(answer(&asked));
            decision = decide(&observed);
            if let (Decision::Create, Ok(handle)) = (&decision, asked) {
                let created = create::create(&self.context, &endpoint, &device, &handle);
                observed.bmc = Box::pin(created).await?;
                decision = decide(&observed);
            }
            // Nothing is kept of a device that is left alone.
            if matches!(decision, Decision::LeaveAlone { .. }) {
                self.context.gateway.forget(key.name()).await;
            }
        }
        self.record(&endpoint, &decision).await?;
        Ok(match decision {
            Decision::LeaveAlone {
                again: Some(again), ..
            } => Next::After(jittered(again)),
            _ => Next::Done,
        })
    }
}

/// Whose `bmc` is, seen from `endpoint`.
fn existing(context: &Context, bmc: &Bmc, endpoint: &str) -> Existing {
    let labels = bmc.labels();
    let demanded = context.config.demanded_labels();
    if !refers_to(bmc, endpoint) {
        Existing::Foreign
    } else if demanded
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
    {
        Existing::Ours
    } else {
        Existing::Unselected
    }
}

fn refers_to(bmc: &Bmc, endpoint: &str) -> bool {
    bmc.spec
        .endpoint_ref
        .as_ref()
        .is_some_and(|reference| reference.name == endpoint)
}

fn answer(asked: &Result<Handle, GatewayError>) -> Answer {
    match asked {
        Ok(_) => Answer::Redfish,
        // A root that wants a login is a Redfish service of the unfriendly kind.
        Err(
            GatewayError::Status {
                code: 401 | 403, ..
            }
            | GatewayError::AuthFailed { .. },
        ) => Answer::Redfish,
        Err(error @ GatewayError::TlsFailed { .. }) => Answer::Tls(error.chain()),
        Err(error) if error.is_silence() => Answer::Silence(error.chain()),
        Err(error) => Answer::Other(error.chain()),
    }
}

fn jittered(wait: jiff::SignedDuration) -> Duration {
    let wait = Duration::try_from(wait).unwrap_or(Duration::from_secs(10));
    wait.mul_f64(rand::random_range(0.8..1.2))
}
