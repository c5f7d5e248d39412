//! Trying the next factory credential, when the one in the BMCSecret was refused and its time has passed.
//!
//! Only a BMCSecret that still holds, to the letter, a factory credential of the MAC prefix database is touched, and
//! only at the version that was refused: what somebody put there is never overwritten.

use corten_api::metal::Bmc;
use corten_kit::ObjectKey;
use jiff::Timestamp;
use kube::ResourceExt;

use super::{BmcController, LookError, Memory};
use crate::{
    connect::Wanted,
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
        let Some(held) = memory
            .held
            .clone()
            .filter(|held| held.until <= Timestamp::now())
        else {
            return Ok(());
        };
        let (Some(next), Some(mac), SecretKey::BmcSecret(name)) =
            (held.next_factory, wanted.mac, &wanted.secret)
        else {
            return Ok(());
        };
        let Some(factory) = self
            .context
            .connector
            .macs
            .find(mac)
            .and_then(|kind| kind.credentials.get(next))
        else {
            return Ok(());
        };
        let secrets = self.context.connector.secrets.bmc_secrets();
        let live = match secrets.live(&ObjectKey::cluster(name)).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(Failure::at("read BMCSecret")(error).into()),
        };
        let Ok(loaded) = from_bmc_secret(&live) else {
            return Ok(());
        };
        let credentials = &loaded.credentials;
        let at = self.context.connector.macs.factory_credential(
            mac,
            &credentials.username,
            &credentials.password,
        );
        if loaded.version != held.secret_version || at.is_none_or(|at| at + 1 != next) {
            return Ok(());
        }
        let mut changed = (*live).clone();
        changed.spec.data = factory_secret(name, Default::default(), factory).spec.data;
        changed.spec.string_data.clear();
        let written = secrets
            .replace(&changed)
            .await
            .map_err(Failure::at("write BMCSecret"))?;
        self.context.connector.secrets.prime(&written);
        memory.held = None;
        tracing::info!(bmc = %bmc.name_any(), credential = next + 1, "the next factory credential is tried");
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
