//! The HTTP server: its routes and what they share. [`router`] makes them, [`crate::serve`] runs them.

pub mod artefacts;
mod boot;
pub(crate) mod chain;
mod decided;
pub mod gate;
pub mod listen;
mod metadata;
pub mod range;
pub mod refused;
pub mod stream;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::routing::{get, post};

pub use artefacts::{Artefact, Artefacts, Boot, Bootable};
pub use listen::{Limits, Peer};
pub use refused::Refused;

use crate::links::{Links, PublicAddress};
use crate::token::{KeyRing, Purpose, Shown};
use crate::{Desk, Refusal, Target, Ticket, UserData, registry};

/// What all routes share.
pub struct Services {
    /// How machines reach this server.
    pub address: PublicAddress,
    /// Keys of the tokens.
    pub keys: KeyRing,
    /// Who may have what.
    pub desk: Arc<dyn Desk>,
    /// Where it is.
    pub artefacts: Arc<dyn Artefacts>,
    /// Neighbours whose `X-Forwarded-For` is believed (a DHCP server that asks `/httpboot` for its clients).
    pub forwarders: Vec<IpAddr>,
    /// Limits on requests.
    pub limits: Limits,
    arrivals: chain::Arrivals,
    decided: decided::Decided,
    pub(crate) seats: registry::Seats,
    by_address: gate::Pace<IpAddr>,
    by_token: gate::Pace<Ticket>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Services {
    /// Services at `address`.
    #[must_use]
    pub fn new(
        address: PublicAddress,
        keys: KeyRing,
        desk: Arc<dyn Desk>,
        artefacts: Arc<dyn Artefacts>,
        forwarders: Vec<IpAddr>,
        limits: Limits,
    ) -> Self {
        Self {
            address,
            keys,
            desk,
            artefacts,
            forwarders,
            limits,
            arrivals: chain::Arrivals::default(),
            decided: decided::Decided::default(),
            seats: registry::Seats::default(),
            by_address: gate::Pace::new(20.0, 200.0),
            by_token: gate::Pace::new(5.0, 50.0),
        }
    }

    /// Checks a token.
    pub(crate) fn shown(&self, token: &str, purpose: Purpose) -> Result<Shown, Refused> {
        Ok(self
            .keys
            .current()
            .check(token, purpose, jiff::Timestamp::now())?)
    }

    /// Checks the token in `Authorization: Bearer`.
    pub(crate) fn bearer(
        &self,
        headers: &HeaderMap,
        purposes: &[Purpose],
    ) -> Result<Shown, Refused> {
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Refused::NoToken)?;
        let mut last = Refused::NoToken;
        for purpose in purposes {
            match self.shown(token, *purpose) {
                Ok(shown) => return Ok(shown),
                Err(refused) => last = refused,
            }
        }
        Err(last)
    }

    pub(crate) fn links(&self, shown: &Shown) -> Result<Links, Refused> {
        self.address
            .links(&self.keys.current(), &shown.ticket, shown.end)
            .map_err(|error| Refused::Broken(error.to_string()))
    }

    /// What a ticket boots, by the desk's word of now or a moment ago.
    pub(crate) async fn target(&self, ticket: &Ticket) -> Result<Target, Refusal> {
        let target = self.decided.target(&*self.desk, ticket).await;
        if let Err(Refusal::NotNow(why)) = &target {
            self.fetched(ticket, Err(why.clone())).await;
        }
        target
    }

    /// What a boot fetches by `name`. The desk is told once it is there to be sent, and why where it is not.
    pub(crate) async fn open(&self, boot: Boot<'_>, name: &str) -> Result<Artefact, Refusal> {
        let found = self.artefacts.open(boot, name, None).await;
        let served = found.as_ref().map(drop);
        let served = served.map_err(|refusal| format!("{name}: {refusal}"));
        if served.is_err() || matches!(boot.target, Target::Image { .. }) {
            self.fetched(boot.ticket, served).await;
        }
        found
    }

    /// What a boot loader is to start. A boot that cannot be put into its words is told to the desk.
    pub(crate) async fn said<T, E: std::fmt::Display>(
        &self,
        boot: Boot<'_>,
        say: impl FnOnce(&Bootable) -> Result<T, E>,
    ) -> Result<T, Refused> {
        let said = match self.artefacts.bootable(boot).await {
            Ok(bootable) => say(&bootable).map_err(|error| Refused::Broken(error.to_string())),
            Err(refusal) => Err(refusal.into()),
        };
        if let Err(refused) = &said {
            self.fetched(boot.ticket, Err(refused.to_string())).await;
        }
        said
    }

    async fn fetched(&self, ticket: &Ticket, served: Result<(), String>) {
        // No reason to keep the machine waiting: it asks more than once.
        if let Err(refusal) = self.decided.fetched(&*self.desk, ticket, served).await {
            tracing::debug!(server = ticket.server, %refusal, "not recorded that its image is being fetched");
        }
    }

    /// Ignition and user data, by the desk's word of now or a moment ago.
    pub(crate) async fn user_data(&self, ticket: &Ticket) -> Result<UserData, Refusal> {
        self.decided.user_data(&*self.desk, ticket).await
    }

    /// Bounds how often an address asks what costs a look-up.
    pub(crate) fn paced(&self, peer: Peer) -> Result<(), Refused> {
        if self.by_address.allows(peer.address, Instant::now()) {
            Ok(())
        } else {
            Err(Refused::TooMany)
        }
    }

    /// Bounds how often a machine calls.
    pub(crate) fn paced_token(&self, ticket: &Ticket) -> Result<(), Refused> {
        if self.by_token.allows(ticket.clone(), Instant::now()) {
            Ok(())
        } else {
            Err(Refused::TooMany)
        }
    }
}

/// All routes.
pub fn router(services: Arc<Services>) -> Router {
    use corten_wire::path;
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/boot/{token}/{artefact}", get(boot::artefact))
        .route("/boot/{token}/cloud-init/{file}", get(boot::cloud_init))
        .route("/boot/{token}/v1", get(metadata::index_by_token))
        .route("/boot/{token}/v1/", get(metadata::index_by_token))
        .route("/boot/{token}/v1/{*field}", get(metadata::field_by_token))
        .route(
            "/boot/{token}/latest/{*path}",
            get(metadata::latest_by_token),
        )
        .route("/v1", get(metadata::index))
        .route("/v1/", get(metadata::index))
        .route("/v1/{*field}", get(metadata::field))
        .route("/latest/{*path}", get(metadata::latest))
        .route("/ipxe", get(chain::first))
        .route("/ipxe/", get(chain::first))
        .route("/ipxe/{uuid}", get(chain::second))
        .route("/httpboot", get(chain::http_boot))
        .route("/httpboot/boot.efi", get(chain::http_boot_file))
        .route(path::HELLO, post(registry::hello))
        .route(path::PROGRESS, post(registry::progress))
        .route(path::REPORT, post(registry::report))
        .route(path::REGISTER, post(registry::register))
        .route(
            "/registry/{token}/register",
            post(registry::register_by_token),
        )
        .route(path::BOOT_STATE, post(registry::boot_state))
        .route("/systems/{uuid}", get(registry::system))
        .route("/delete/{uuid}", axum::routing::delete(registry::delete))
        .with_state(services)
}

#[cfg(test)]
pub(crate) mod tests;
