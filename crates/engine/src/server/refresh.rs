//! Machines that rest are read whole again once in a while: what was swapped or updated behind our back is recorded and said.
//!
//! When, and who rests, is [`corten_lifecycle::refresh`]. Nothing that was read is kept, and nothing is written unless something changed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use corten_api::{
    corten::ServerInventoryStatus,
    metal::{NetworkInterface, Server, ServerState, ServerStatus},
};
use corten_kit::{ObjectKey, Subject};
use corten_lifecycle::{refresh as rules, server as lifecycle};
use corten_redfish::inventory::Inventory as Found;
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    Controller, ServerError,
    act::{path, with_links},
    observe::{Seen, for_rules, identity, is_known, recorded_hash},
};
use crate::inventory::{contents, server_status, with_drives_of};

/// Machines read at once: nobody waits for this.
const AT_ONCE: usize = 4;

/// What became of one server's turn.
enum Turn {
    /// Over, whether it was read or not.
    Over,
    /// Something is under way: it is tried at the next look.
    Later,
}

/// Reads whose turn it is, until the end of the term.
pub(super) async fn keep(controller: Arc<Controller>, every: Duration, term: CancellationToken) {
    let period = SignedDuration::try_from(every).unwrap_or(SignedDuration::MAX);
    let look = (every / 100).clamp(Duration::from_millis(100), Duration::from_secs(60));
    let mut from = Timestamp::now();
    let mut due: BTreeSet<ObjectKey> = BTreeSet::new();
    let looking = async {
        loop {
            tokio::time::sleep(look).await;
            let until = Timestamp::now();
            let all = controller.ctx.servers.store.all();
            let now_due = all.iter().filter(|server| {
                rules::is_due(
                    server.metadata.uid.as_deref().unwrap_or_default(),
                    period,
                    from,
                    until,
                )
            });
            due.extend(now_due.map(|server| ObjectKey::of(&**server)));
            from = until;
            let turns = stream::iter(std::mem::take(&mut due)).map(|key| {
                let controller = &controller;
                async move {
                    let turn = controller.turn(&key).await;
                    (key, turn)
                }
            });
            let ended: Vec<_> = turns.buffer_unordered(AT_ONCE).collect().await;
            for (key, turn) in ended {
                match turn {
                    Ok(Turn::Over) => {}
                    Ok(Turn::Later) => {
                        due.insert(key);
                    }
                    Err(error) => {
                        tracing::debug!(server = %key, %error, "inventory not refreshed; it is at its next turn");
                    }
                }
            }
        }
    };
    term.run_until_cancelled(looking).await;
}

impl Controller {
    async fn turn(&self, key: &ObjectKey) -> Result<Turn, ServerError> {
        let Some(server) = self.ctx.servers.store.get(key) else {
            return Ok(Turn::Over);
        };
        let uid = server.uid().unwrap_or_default();
        let state = server.status.as_ref().and_then(|s| s.state.as_ref());
        let stands = matches!(state, Some(ServerState::Available | ServerState::Reserved));
        // A look costs nothing as long as it needs no look at the claim.
        if !stands || self.runs.of(&uid).open.is_some() {
            return Ok(Turn::Later);
        }
        let Some(seen) = self.at_rest(key).await? else {
            return Ok(Turn::Over);
        };
        let (Some(bmc), Some(path)) = (&seen.machine.bmc, path(&seen)) else {
            return Ok(Turn::Over);
        };
        let found = match self.read_all(bmc, &path).await {
            (Ok(found), _) => found,
            (Err(error), _) => {
                tracing::debug!(server = %key, error = %error.chain(), "inventory not refreshed");
                return Ok(Turn::Over);
            }
        };
        // Reading takes its time, and what was read during a run or a change of hands is nobody's standing inventory.
        match self.at_rest(key).await? {
            Some(seen) if seen.observed.record.uid == uid => {
                self.renew(&seen, &found).await?;
                Ok(Turn::Over)
            }
            _ => Ok(Turn::Later),
        }
    }

    async fn at_rest(&self, key: &ObjectKey) -> Result<Option<Seen>, ServerError> {
        let seen = self.observe(key).await?;
        Ok(seen.filter(|seen| rules::rests(&seen.observed, &lifecycle::decide(&seen.observed))))
    }

    /// Records and says what changed since it was last read.
    async fn renew(&self, seen: &Seen, found: &Found) -> Result<(), ServerError> {
        let notes = &seen.observed.record.notes;
        let is_other = notes
            .identity
            .as_ref()
            .is_some_and(|expected| expected.contradicts(&identity(&found.system)));
        // What could not be read says nothing of what is there.
        if is_other || !for_rules(found, Timestamp::now()).unread.is_empty() {
            return Ok(());
        }
        let mut now = contents(found);
        let meta = self.ctx.inventory_metadata.get(&seen.key);
        let hash = meta
            .as_ref()
            .and_then(|meta| recorded_hash(meta.annotations()).map(str::to_owned));
        let mut changed = BTreeSet::new();
        let mut before = None;
        if !is_known(&now, hash.as_deref()) {
            let recorded = match self.ctx.inventories.live(&seen.key).await {
                Ok(inventory) => inventory.status.clone().unwrap_or_default(),
                Err(error) if error.is_not_found() => ServerInventoryStatus::default(),
                Err(error) => return Err(ServerError::Observe(error)),
            };
            // A drive that a tenant took out is still one that is to be cleaned.
            if notes.dirty.is_some() || notes.cleaning.is_some() {
                now = with_drives_of(now, &recorded);
            }
            if !is_known(&now, hash.as_deref()) {
                changed.extend(differing(&recorded, &now));
                self.record_contents(&seen.server, &now).await?;
            }
            before = Some(recorded);
        }
        let old = seen.server.status.clone().unwrap_or_default();
        let status = renewed(&old, found, before.as_ref().unwrap_or(&now));
        if status != old {
            changed.extend(differing(&old, &status));
            self.memory.entry(seen.key.clone()).or_default().status = Some(Arc::new(status));
            self.ctx.fleet.wake(seen.key.name());
        }
        self.say_changed(&seen.server, &changed);
        Ok(())
    }

    fn say_changed(&self, server: &Server, changed: &BTreeSet<String>) {
        if changed.is_empty() {
            return;
        }
        let parts: Vec<&str> = changed.iter().map(String::as_str).collect();
        self.ctx.events.normal(
            &Subject::of(server),
            "InventoryChanged",
            format!(
                "changed since the machine was last read: {}; see ServerInventory {}",
                parts.join(", "),
                server.name_any()
            ),
        );
    }
}

/// The status with all that an inventory tells, and nothing else, as it was found. `before` is what the BMC told last time: an interface that
/// it did not tell of was seen by the probe, and stays.
fn renewed(old: &ServerStatus, found: &Found, before: &ServerInventoryStatus) -> ServerStatus {
    let new = server_status(found);
    let mut interfaces = with_links(new.network_interfaces, &old.network_interfaces);
    let same = |mac: &str, nic: &NetworkInterface| nic.mac_address.eq_ignore_ascii_case(mac);
    for nic in &old.network_interfaces {
        let is_told = interfaces.iter().any(|told| same(&told.mac_address, nic))
            || before.network_ports.iter().any(|port| {
                port.mac_address
                    .as_deref()
                    .is_some_and(|mac| same(mac, nic))
            });
        if !is_told {
            interfaces.push(nic.clone());
        }
    }
    ServerStatus {
        network_interfaces: interfaces,
        state: old.state.clone(),
        conditions: old.conditions.clone(),
        power_state: old.power_state.clone(),
        indicator_led: old.indicator_led.clone(),
        ..new
    }
}

/// Names of the fields in which two of a kind differ.
fn differing<T: Serialize>(old: &T, new: &T) -> Vec<String> {
    let fields = |of: &T| match serde_json::to_value(of) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (fields(old), fields(new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| !matches!(key.as_str(), "contentHash" | "inBand"))
        .filter(|key| old.get(*key) != new.get(*key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
