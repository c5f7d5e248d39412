//! Trying the next factory credential, when the one in the BMCSecret was refused and its time has passed.
//!
//! Only a BMCSecret that still holds, to the letter, a factory credential of the MAC prefix database is touched, and
//! only at the version that was refused: what somebody put there is never overwritten.

use corten_api::{metal::Bmc, names};
use corten_kit::ObjectKey;
use jiff::Timestamp;
use kube::ResourceExt;

use super::{BmcController, LookError, Memory, look::said_auth_failed};
use crate::{
    connect::{Wanted, ledger::LOGIN_SECRET},
    endpoint::factory_secret,
    failure::Failure,
    secret::{SecretKey, from_bmc_secret},
};

impl BmcController {
    /// Puts the next factory credential into the BMCSecret, if it is due.
    pub(super) async fn rotate_factory_credentials(
        &self,
        bmc: &Bmc,
        wanted: &Wanted,
        memory: &mut Memory,
    ) -> Result<(), LookError> {
        let (Some(refused), Some(mac), SecretKey::BmcSecret(name)) =
            (due(bmc, memory), wanted.mac, &wanted.secret)
        else {
            return Ok(());
        };
        let macs = &self.context.connector.macs;
        if macs.find(mac).is_none_or(|kind| kind.credentials.len() < 2) {
            return Ok(());
        }
        let secrets = self.context.connector.secrets.bmc_secrets();
        let live = match secrets.live(&ObjectKey::cluster(name)).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(Failure::at("read BMCSecret")(error).into()),
        };
        let Ok(loaded) = from_bmc_secret(&live) else {
            return Ok(());
        };
        // As the login that was refused knew it: labels on the object make no new credentials.
        let loaded = self
            .context
            .connector
            .secrets
            .settled(&wanted.secret, loaded);
        let credentials = &loaded.credentials;
        let at = macs.factory_credential(mac, &credentials.username, &credentials.password);
        let next = at.and_then(|at| macs.find(mac)?.credentials.get(at + 1));
        let Some(next) = next.filter(|_| loaded.version == refused) else {
            return Ok(());
        };
        let mut changed = (*live).clone();
        changed.spec.data = factory_secret(name, Default::default(), next).spec.data;
        changed.spec.string_data.clear();
        let written = secrets
            .replace(&changed)
            .await
            .map_err(Failure::at("write BMCSecret"))?;
        self.context.connector.secrets.prime(&written);
        memory.held = None;
        tracing::info!(bmc = %bmc.name_any(), user = next.username, "the next factory credential is tried");
        Ok(())
    }

    /// Number of the factory credential in use and how many there are, when another one is to be tried.
    pub(super) fn next_factory(&self, memory: &Memory) -> Option<(usize, usize)> {
        let next = memory.held.as_ref()?.next_factory?;
        let known = self
            .context
            .connector
            .macs
            .find(memory.wanted.as_ref()?.mac?)?
            .credentials
            .len();
        (next < known).then_some((next, known))
    }
}

/// The version of the Secret that was refused, when its time has passed: as this process remembers it, or as the object
/// says after a restart.
fn due(bmc: &Bmc, memory: &Memory) -> Option<String> {
    let now = Timestamp::now();
    if let Some(held) = &memory.held {
        let is_due = held.until <= now && held.next_factory.is_some();
        return is_due.then(|| held.secret_version.clone());
    }
    let next = bmc
        .annotations()
        .get(names::NEXT_LOGIN_ATTEMPT)?
        .parse::<Timestamp>()
        .ok()?;
    let is_due = next <= now && said_auth_failed(bmc);
    is_due
        .then(|| bmc.annotations().get(LOGIN_SECRET).cloned())
        .flatten()
}
