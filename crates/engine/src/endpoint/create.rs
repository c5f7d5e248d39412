//! Making a BMC and its secret of a device that answered as one.

use std::{collections::BTreeMap, sync::Arc};

use corten_api::{
    LocalObjectReference,
    metal::{
        Bmc, BmcSecret, BmcSecretContent, BmcSpec, ConsoleProtocol, ConsoleProtocolName, Endpoint,
        Protocol, ProtocolName, ProtocolScheme,
    },
    names,
};
use corten_kit::ObjectKey;
use corten_lifecycle::{endpoint::Existing, login, trust::Scheme};
use corten_redfish::Bmc as Handle;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::{ResourceExt, api::ObjectMeta};
use secrecy::ExposeSecret;

use super::Device;
use crate::{
    Context,
    config::passed_on,
    connect::ledger::LOGIN_SECRET,
    failure::Failure,
    macdb::FactoryCredential,
    secret::{Loaded, from_bmc_secret},
};

/// Creates what is missing and says whose the BMC is. Both writes may be repeated: what exists stays as it is.
pub(super) async fn create(
    context: &Context,
    endpoint: &Endpoint,
    device: &Device<'_>,
    handle: &Handle,
) -> Result<Existing, Failure> {
    let name = endpoint.name_any();
    let mut labels = passed_on(endpoint.metadata.labels.as_ref());
    labels.extend(context.config.demanded_labels());
    let (secret, is_new) = secret(context, &name, &labels, device.kind.credentials.first()).await?;
    let mut bmc = bmc(&name, labels, device);
    let may_pin = |loaded: &Loaded| {
        let mac = endpoint.spec.mac_address.parse().ok();
        mac.is_some_and(|mac| context.connector.may_pin_first(bmc.labels(), mac, loaded))
    };
    let may_pin = secret.as_ref().is_some_and(may_pin);
    let notes = bmc.annotations_mut();
    if device.scheme == Scheme::Https
        && may_pin
        && let Some(pin) = handle.observed_pin()
    {
        notes.insert(names::TLS_PIN.to_owned(), pin.to_string());
    }
    let paid = secret.map(|secret| {
        let next = Timestamp::now() + login::BUDGET;
        let next = Timestamp::from_second(next.as_second()).unwrap_or(next);
        notes.insert(names::NEXT_LOGIN_ATTEMPT.to_owned(), next.to_string());
        notes.insert(LOGIN_SECRET.to_owned(), secret.version.clone());
        secret.version
    });
    // Before the BMC controller can see the object.
    if let Some(version) = &paid {
        context.connector.ledger.uses(&name, version);
        context.connector.ledger.paid_at_creation(&name);
    }
    match context.bmcs.objects.create(&bmc).await {
        Ok(_) => return Ok(Existing::Ours),
        Err(error) if error.is_conflict() => {}
        Err(error) => {
            context.connector.ledger.forget(&name);
            return Err(Failure::at("create BMC")(error));
        }
    }
    // It exists, and our cache does not show it: it is new there, or not in our selector.
    let found = context.bmcs.objects.live(&ObjectKey::cluster(&name)).await;
    let found = found.map_err(Failure::at("read BMC"))?;
    let existing = super::existing(context, &found, &name);
    if existing != Existing::Ours {
        context.connector.ledger.forget(&name);
        if let Some(secret) = is_new {
            let secrets = context.connector.secrets.bmc_secrets();
            match secrets.delete(&secret).await {
                Err(error) if !error.is_not_found() => {
                    return Err(Failure::at("delete BMCSecret")(error));
                }
                _ => {}
            }
        }
    }
    Ok(existing)
}

/// The BMCSecret, and the object if it was created here: an existing one is kept whatever it says, because its credentials may have been rotated.
async fn secret(
    context: &Context,
    name: &str,
    labels: &BTreeMap<String, String>,
    factory: Option<&FactoryCredential>,
) -> Result<(Option<Loaded>, Option<Arc<BmcSecret>>), Failure> {
    let secrets = context.connector.secrets.bmc_secrets();
    let written = match factory {
        Some(factory) => {
            secrets
                .create(&factory_secret(name, labels.clone(), factory))
                .await
        }
        None => secrets.live(&ObjectKey::cluster(name)).await,
    };
    let (secret, is_new) = match written {
        Ok(secret) => (secret, factory.is_some()),
        Err(error) if error.is_not_found() => return Ok((None, None)),
        Err(error) if error.is_conflict() => {
            let existing = secrets.live(&ObjectKey::cluster(name)).await;
            (existing.map_err(Failure::at("read BMCSecret"))?, false)
        }
        Err(error) => return Err(Failure::at("create BMCSecret")(error)),
    };
    context.connector.secrets.prime(&secret);
    // One that lacks something is the BMC's to complain about.
    Ok((from_bmc_secret(&secret).ok(), is_new.then_some(secret)))
}

/// A BMCSecret with factory credentials.
pub(crate) fn factory_secret(
    name: &str,
    labels: BTreeMap<String, String>,
    factory: &FactoryCredential,
) -> BmcSecret {
    let data = BTreeMap::from([
        (
            names::SECRET_USERNAME.to_owned(),
            ByteString(factory.username.clone().into_bytes()),
        ),
        (
            names::SECRET_PASSWORD.to_owned(),
            ByteString(factory.password.expose_secret().as_bytes().to_vec()),
        ),
    ]);
    BmcSecret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: BmcSecretContent {
            data,
            ..BmcSecretContent::default()
        },
        status: None,
    }
}

fn bmc(name: &str, labels: BTreeMap<String, String>, device: &Device<'_>) -> Bmc {
    let (scheme, usual_port) = match device.scheme {
        Scheme::Http => (ProtocolScheme::Http, 80),
        Scheme::Https => (ProtocolScheme::Https, 443),
    };
    Bmc {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            finalizers: Some(vec![names::FINALIZER_BMC.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: BmcSpec {
            endpoint_ref: Some(LocalObjectReference::from(name)),
            bmc_secret_ref: Some(LocalObjectReference::from(name)),
            protocol: Protocol {
                name: ProtocolName::from(device.kind.protocol.as_str()),
                port: device.kind.port.unwrap_or(usual_port),
                scheme: Some(scheme),
                ..Protocol::default()
            },
            console_protocol: device
                .kind
                .console
                .as_ref()
                .map(|(name, port)| ConsoleProtocol {
                    name: ConsoleProtocolName::from(name.as_str()),
                    port: *port,
                }),
            ..BmcSpec::default()
        },
        status: None,
    }
}
