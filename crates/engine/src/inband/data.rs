//! What is read live for an answer, and what a registration leaves.

use std::{collections::BTreeMap, sync::Arc};

use corten_api::{
    corten::{ServerInventory, ServerReference, ServerRun},
    metal::{LldpNeighbor, NetworkInterface, Server},
};
use corten_boot::{Refusal, Ticket, UserData};
use corten_kit::ObjectKey;
use corten_lifecycle::{
    run::Run,
    server::{Claim, Record},
};
use corten_wire::Registration;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::answers::unread;
use crate::server::{Controller, Seen};

/// Longest user data that is served, in bytes.
const LONGEST: usize = 1 << 20;

impl Controller {
    /// The server of a ticket and all that is decided by, live: a token outlives what it was made for.
    pub(super) async fn look_at(&self, ticket: &Ticket) -> Result<Seen, Refusal> {
        let mut seen = self.look(&ObjectKey::cluster(&ticket.server)).await?;
        if seen.observed.record.uid != ticket.server_uid {
            return Err(Refusal::NotDue("the server of the token is gone".into()));
        }
        // Its own run, whatever else the cache thinks is open.
        match self
            .ctx
            .runs
            .objects
            .live(&ObjectKey::cluster(&ticket.nonce))
            .await
        {
            Ok(run) => self.with_run(&mut seen, run),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(unread(error)),
        }
        Ok(seen)
    }

    fn with_run(&self, seen: &mut Seen, run: Arc<ServerRun>) {
        let read = Run::of(&run)
            .filter(|read| read.is_open() && run.spec.server_ref.uid == seen.observed.record.uid);
        // The oldest open run is the one that acts; a younger one has to wait.
        let acts = |read: &Run| {
            seen.observed
                .run
                .as_ref()
                .is_none_or(|open| open.name == read.name)
        };
        if let Some(read) = read.filter(acts) {
            seen.observed.run = Some(read);
            seen.run = Some(run);
        } else if seen
            .observed
            .run
            .as_ref()
            .is_some_and(|open| open.name == run.name_any())
        {
            seen.observed.run = None;
            seen.run = None;
        }
    }

    pub(super) async fn look(&self, key: &ObjectKey) -> Result<Seen, Refusal> {
        let live: Arc<Server> = self.ctx.servers.objects.live(key).await.map_err(unread)?;
        let seen = self.observe(key).await;
        let mut seen = match seen {
            Ok(Some(seen)) => seen,
            Ok(None) => {
                return Err(Refusal::NotDue(
                    "the server is not one of this engine".into(),
                ));
            }
            Err(error) => return Err(Refusal::NotNow(error.to_string())),
        };
        seen.observed.record = Record::of(&live);
        seen.observed.claim = match &seen.observed.record.claim {
            None => None,
            Some(at) => {
                let key = ObjectKey::namespaced(&at.namespace, &at.name);
                match self.ctx.claims.objects.live(&key).await {
                    Ok(claim) => {
                        let boot = self.ctx.boot_of(&live);
                        Some(Claim::of(&claim, boot.as_deref()))
                    }
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(unread(error)),
                }
            }
        };
        seen.server = live;
        Ok(seen)
    }

    /// Ignition and user data of the claim that has the server now.
    pub(crate) async fn user_data(&self, ticket: &Ticket) -> Result<UserData, Refusal> {
        let seen = self.look_at(ticket).await?;
        let record = &seen.observed.record;
        let ours = seen.observed.claim.as_ref().is_some_and(|claim| {
            record.notes.claim_uid.as_ref() == Some(&claim.uid) && !claim.deleting
        });
        let Some(at) = record.claim.as_ref().filter(|_| ours) else {
            return Err(Refusal::NotDue("no claim has this server".into()));
        };
        corten_lifecycle::inband::boots(&seen.observed, &ticket.nonce).map_err(Refusal::NotDue)?;
        let key = ObjectKey::namespaced(&at.namespace, &at.name);
        let claim = self.ctx.claims.objects.live(&key).await.map_err(unread)?;
        let secrets = &self.ctx.connector.secrets;
        let mut data = UserData {
            meta_data: corten_boot::userdata::meta_data(
                &claim.uid().unwrap_or_default(),
                &claim.name_any(),
            ),
            ..UserData::default()
        };
        if let Some(to) = claim
            .spec
            .ignition_secret_ref
            .as_ref()
            .filter(|to| !to.name.is_empty())
        {
            let secret = secrets
                .core(&at.namespace, &to.name)
                .await
                .map_err(unread)?;
            // The error says where, never what.
            let ignition = corten_boot::userdata::served(&keys(&secret)).map_err(|error| {
                Refusal::Conflict(format!("Secret {}/{}: {error}", at.namespace, to.name))
            })?;
            data.ignition = Some(ignition);
        }
        if let Some(to) = claim
            .spec
            .user_data_ref
            .as_ref()
            .filter(|to| !to.name.is_empty())
        {
            let secret = secrets
                .core(&at.namespace, &to.name)
                .await
                .map_err(unread)?;
            let found = cloud_init(&secret).map_err(|why| {
                Refusal::Conflict(format!("Secret {}/{} {why}", at.namespace, to.name))
            })?;
            (data.user_data, data.network_config) = (found.user_data, found.network_config);
        }
        Ok(data)
    }

    /// Keeps the registration in the ServerInventory, and shows its links in the Server's status.
    pub(super) async fn record_registration(
        &self,
        seen: &Seen,
        registration: &Registration,
    ) -> Result<(), Refusal> {
        let data = serde_json::to_value(&registration.data)
            .map_err(|error| Refusal::Conflict(error.to_string()))?;
        let fields = json!({
            "apiVersion": ServerInventory::api_version(&()),
            "kind": ServerInventory::kind(&()),
            "metadata": { "name": seen.key.name() },
            "spec": { "serverRef": ServerReference { name: seen.key.name().to_owned(), uid: seen.observed.record.uid.clone() } },
            "status": { "inBand": data },
        });
        self.ctx
            .registrations
            .apply(&seen.key, &fields)
            .await
            .map_err(unread)?;
        self.saw_inside(&seen.key, &seen.server, interfaces(registration));
        Ok(())
    }
}

/// Links as the probe saw them, with their neighbours.
fn interfaces(registration: &Registration) -> Vec<NetworkInterface> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    registration
        .data
        .network_interfaces
        .iter()
        .map(|nic| {
            let heard = registration
                .data
                .lldp
                .iter()
                .filter(|heard| heard.name == nic.name);
            NetworkInterface {
                name: nic.name.clone(),
                mac_address: nic.mac_address.to_ascii_lowercase(),
                ips: nic.ip_addresses.clone(),
                carrier_status: text(&nic.carrier_status),
                neighbors: heard
                    .flat_map(|heard| &heard.neighbors)
                    .map(|neighbor| LldpNeighbor {
                        mac_address: text(&neighbor.chassis_id),
                        port_id: text(&neighbor.port_id),
                        port_description: text(&neighbor.port_description),
                        system_name: text(&neighbor.system_name),
                        system_description: text(&neighbor.system_description),
                    })
                    .collect(),
                ..NetworkInterface::default()
            }
        })
        .collect()
}

/// A Secret's keys.
pub(crate) fn keys(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    let keys = secret.data.iter().flatten();
    keys.map(|(key, bytes)| (key.clone(), bytes.0.clone()))
        .collect()
}

/// What a Secret with user data holds.
#[derive(Default)]
pub(crate) struct CloudInit {
    user_data: Option<bytes::Bytes>,
    network_config: Option<bytes::Bytes>,
}

/// Reads the keys of a Secret with user data.
///
/// # Errors
/// What is wrong with the Secret, and what to do.
pub(crate) fn cloud_init(secret: &Secret) -> Result<CloudInit, &'static str> {
    let value = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        Some(bytes::Bytes::copy_from_slice(&bytes.0))
    };
    let found = CloudInit {
        user_data: value("user-data").or_else(|| value("userData")),
        network_config: value("network-config"),
    };
    let parts = || found.user_data.iter().chain(&found.network_config);
    if parts().count() == 0 {
        return Err("has none of the keys user-data, userData and network-config: add one");
    }
    if parts().any(|part| part.len() > LONGEST) {
        return Err("has a key of more than 1 MiB: shorten it");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn user_data_that_cannot_be_served_is_named_and_never_left_out() {
        let secret = |key: &str, length: usize| Secret {
            data: Some(BTreeMap::from([(
                key.to_owned(),
                ByteString(vec![b'#'; length]),
            )])),
            ..Secret::default()
        };
        for key in ["user-data", "userData"] {
            let found = cloud_init(&secret(key, LONGEST)).unwrap();
            assert_eq!(found.user_data.unwrap().len(), LONGEST);
        }
        assert!(cloud_init(&secret("network-config", 3)).is_ok());
        assert!(cloud_init(&secret("user-data", LONGEST + 1)).is_err());
        assert!(cloud_init(&secret("data", 3)).is_err());
        assert!(cloud_init(&Secret::default()).is_err());
    }
}
