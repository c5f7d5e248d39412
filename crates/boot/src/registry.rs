//! The registry: what probes and booted systems say. The original's paths, with a token; what is said is bounded in size, time and rate, and goes to the
//! [`crate::Desk`] together with the token's ticket, so that nobody speaks for another server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use corten_wire::{Hello, Progress, Registration, Report};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::server::{Peer, Refused, Services};
use crate::token::Purpose;
use crate::{Refusal, Ticket, machine};

/// Largest registration. A machine with hundreds of drives and neighbours needs a few hundred KiB.
const REGISTRATION: usize = 2 * 1024 * 1024;
/// Largest other body.
const OTHER: usize = 64 * 1024;
/// Longest hello or report: with a line for each of 512 drives, failed attempts in words.
const DRIVES: usize = 2 * 1024 * 1024;
/// A probe that was silent for so long may be at another address.
const SEAT: Duration = Duration::from_secs(120);
/// How many probes' addresses are remembered.
const SEATS: usize = 65_536;

/// From which address each token was last used: one that turns up elsewhere while its machine is at work was carried off.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<HashMap<Ticket, (IpAddr, Instant)>>);

impl Seats {
    pub(crate) fn sit(
        &self,
        ticket: &Ticket,
        address: IpAddr,
        now: Instant,
    ) -> Result<(), Refused> {
        let mut seats = self.0.lock();
        if let Some((at, last)) = seats.get_mut(ticket) {
            if *at != address && now.saturating_duration_since(*last) < SEAT {
                tracing::warn!(server = ticket.server, %address, machine = %at, "boot.token_elsewhere");
                return Err(Refused::Elsewhere);
            }
            (*at, *last) = (address, now);
            return Ok(());
        }
        if seats.len() >= SEATS {
            seats.retain(|_, (_, last)| now.saturating_duration_since(*last) < SEAT);
            if seats.len() >= SEATS {
                return Err(Refused::TooMany);
            }
        }
        seats.insert(ticket.clone(), (address, now));
        Ok(())
    }
}

type Shared = State<Arc<Services>>;

fn probe(services: &Services, peer: Peer, headers: &HeaderMap) -> Result<Ticket, Refused> {
    services.paced(peer)?;
    let ticket = services.bearer(headers, &[Purpose::Probe])?.ticket;
    seated(services, peer, ticket)
}

fn seated(services: &Services, peer: Peer, ticket: Ticket) -> Result<Ticket, Refused> {
    services.paced_token(&ticket)?;
    services.seats.sit(&ticket, peer.address, Instant::now())?;
    Ok(ticket)
}

async fn read<T: DeserializeOwned>(
    services: &Services,
    body: Body,
    limit: usize,
) -> Result<T, Refused> {
    let read = tokio::time::timeout(services.limits.request, axum::body::to_bytes(body, limit))
        .await
        .map_err(|_| Refused::TooSlow)?;
    let bytes = read.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if too_large {
            Refused::TooLarge(limit)
        } else {
            Refused::Bad("the body broke off")
        }
    })?;
    // The parser's words could quote what was sent.
    serde_json::from_slice(&bytes)
        .map_err(|_| Refused::Bad("the body is not the JSON that belongs here"))
}

/// The desk's answer, within the time limit.
async fn within<T>(
    services: &Services,
    answer: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refused> {
    match tokio::time::timeout(services.limits.request, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Refusal::NotNow("the answer took too long".into()).into()),
    }
}

pub(crate) async fn hello(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let ticket = probe(&services, peer, &headers)?;
    let hello: Hello = read(&services, body, DRIVES).await?;
    Ok(Json(within(&services, services.desk.hello(&ticket, &hello)).await?).into_response())
}

pub(crate) async fn progress(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let ticket = probe(&services, peer, &headers)?;
    let progress: Progress = read(&services, body, OTHER).await?;
    Ok(Json(within(&services, services.desk.progress(&ticket, &progress)).await?).into_response())
}

pub(crate) async fn report(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refused> {
    let ticket = probe(&services, peer, &headers)?;
    let report: Report = read(&services, body, DRIVES).await?;
    within(&services, services.desk.report(&ticket, &report)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn register(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refused> {
    let ticket = probe(&services, peer, &headers)?;
    registered(&services, &ticket, body).await
}

/// The same for the original's probe, which sends no headers of ours: the token is in the URL that it is given as `--registry-url`.
pub(crate) async fn register_by_token(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    Path(token): Path<String>,
    body: Body,
) -> Result<StatusCode, Refused> {
    services.paced(peer)?;
    let ticket = services.shown(&token, Purpose::Probe)?.ticket;
    let ticket = seated(&services, peer, ticket)?;
    registered(&services, &ticket, body).await
}

async fn registered(
    services: &Services,
    ticket: &Ticket,
    body: Body,
) -> Result<StatusCode, Refused> {
    let mut registration: Registration = read(services, body, REGISTRATION).await?;
    registration.system_uuid = uuid(&registration.system_uuid)?;
    within(services, services.desk.register(ticket, &registration)).await?;
    Ok(StatusCode::CREATED)
}

/// The original's `POST /bootstate`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct BootState {
    #[serde(default, rename = "systemUUID")]
    system_uuid: Option<String>,
    #[serde(default)]
    booted: bool,
}

pub(crate) async fn boot_state(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refused> {
    services.paced(peer)?;
    let ticket = services
        .bearer(&headers, &[Purpose::UserData, Purpose::Probe])?
        .ticket;
    services.paced_token(&ticket)?;
    let state: BootState = read(&services, body, OTHER).await?;
    let system_uuid = state.system_uuid.as_deref().map(uuid).transpose()?;
    if state.booted {
        within(
            &services,
            services.desk.booted(&ticket, system_uuid.as_deref()),
        )
        .await?;
    }
    Ok(StatusCode::OK)
}

pub(crate) async fn system(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(system_uuid): Path<String>,
) -> Result<Json<Registration>, Refused> {
    services.paced(peer)?;
    let ticket = services.bearer(&headers, &[Purpose::Operator])?.ticket;
    Ok(Json(
        within(
            &services,
            services.desk.registration(&ticket, &uuid(&system_uuid)?),
        )
        .await?,
    ))
}

pub(crate) async fn delete(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(system_uuid): Path<String>,
) -> Result<StatusCode, Refused> {
    services.paced(peer)?;
    let ticket = services.bearer(&headers, &[Purpose::Operator])?.ticket;
    within(
        &services,
        services.desk.forget(&ticket, &uuid(&system_uuid)?),
    )
    .await?;
    Ok(StatusCode::OK)
}

fn uuid(text: &str) -> Result<String, Refused> {
    machine::system_uuid(text).ok_or(Refused::Bad("the system UUID is none"))
}
