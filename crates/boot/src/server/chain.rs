//! Machines that come by DHCP, without a token: the chain URL for iPXE, and plain UEFI HTTP boot.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use parking_lot::Mutex;

use super::boot::{private, script, serve};
use super::{Boot, Peer, Refused, Services};
use crate::links::name;
use crate::token::Shown;
use crate::{Caller, Refusal, Target, Ticket, ipxe, machine};

/// How long a firmware that was let in may go on asking: it asks for the size first, then for the file, and again if that broke off.
const ARRIVAL: Duration = Duration::from_secs(120);
/// How many such are remembered.
const ARRIVALS: usize = 4096;

/// Firmware that was let in a moment ago.
#[derive(Default)]
pub(super) struct Arrivals(Mutex<HashMap<Arrival, (Ticket, Instant)>>);

/// Address, UUID, MAC.
type Arrival = (Option<IpAddr>, Option<String>, Option<String>);

impl Arrivals {
    fn get(&self, key: &Arrival) -> Option<Ticket> {
        self.0
            .lock()
            .get(key)
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(ticket, _)| ticket.clone())
    }

    fn put(&self, key: Arrival, ticket: Ticket) {
        let now = Instant::now();
        let mut arrivals = self.0.lock();
        arrivals.retain(|_, (_, until)| now < *until);
        if arrivals.len() < ARRIVALS {
            arrivals.insert(key, (ticket, now + ARRIVAL));
        }
    }
}

/// What a machine says of itself in a query.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Says {
    mac: Option<String>,
    uuid: Option<String>,
}

impl Says {
    /// What is said but is rubbish fits no machine, so it is an error and not left out.
    fn caller(&self, path_uuid: Option<&str>, address: IpAddr) -> Result<Caller, Refused> {
        let system_uuid = match path_uuid
            .or(self.uuid.as_deref())
            .filter(|uuid| !uuid.is_empty())
        {
            // The chain script's word for a machine that has none.
            None | Some("unknown") => None,
            Some(uuid) => Some(machine::system_uuid(uuid).ok_or(Refused::Bad("the UUID is none"))?),
        };
        let mac = match self.mac.as_deref().filter(|mac| !mac.is_empty()) {
            None => None,
            Some(mac) => Some(machine::mac(mac).ok_or(Refused::Bad("the MAC address is none"))?),
        };
        Ok(Caller {
            system_uuid,
            mac,
            address: Some(address),
        })
    }
}

/// `/ipxe`: who are you?
pub(super) async fn first(
    State(services): State<Arc<Services>>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Refused> {
    services.paced(peer)?;
    let script = ipxe::chain(services.address.base.as_str())
        .map_err(|error| Refused::Broken(error.to_string()))?;
    Ok(private(Bytes::from(script), "text/plain"))
}

/// `/ipxe/{uuid}`: the boot script, once a window; afterwards the way to the disk.
pub(super) async fn second(
    State(services): State<Arc<Services>>,
    Extension(peer): Extension<Peer>,
    Path(uuid): Path<String>,
    Query(says): Query<Says>,
) -> Result<Response, Refused> {
    services.paced(peer)?;
    let caller = says.caller(Some(&uuid), peer.address)?;
    // iPXE knows both, and one alone is easily said in another's name.
    if caller.system_uuid.is_none() || caller.mac.is_none() {
        let why = "it has to say its UUID and its MAC address";
        return Err(Refusal::NotDue(why.into()).into());
    }
    let ticket = match services.desk.admit(&caller).await {
        Ok(ticket) => ticket,
        Err(Refusal::Conflict(reason)) => {
            tracing::info!(
                mac = caller.mac,
                system_uuid = caller.system_uuid,
                reason,
                "boot.sent_to_disk"
            );
            return Ok(private(Bytes::from(ipxe::exit()), "text/plain"));
        }
        Err(refusal) => return Err(refusal.into()),
    };
    tracing::info!(server = ticket.server, mac = caller.mac, "boot.admitted");
    let shown = Shown { ticket, end: None };
    let target = services.target(&shown.ticket).await?;
    let links = services.links(&shown)?;
    let script = script(
        &services,
        Boot {
            ticket: &shown.ticket,
            target: &target,
            links: &links,
        },
    )
    .await?;
    Ok(private(Bytes::from(script), "text/plain"))
}

/// `/httpboot`: the original's JSON, or the file itself for firmware.
pub(super) async fn http_boot(
    State(services): State<Arc<Services>>,
    Extension(peer): Extension<Peer>,
    Query(says): Query<Says>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let agent = headers
        .get(http::header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    if agent.starts_with("UefiHttpBoot") {
        return http_boot_file(
            State(services),
            Extension(peer),
            Query(says),
            method,
            headers,
        )
        .await;
    }
    let shown = arrive(&services, &says, client(&services, peer, &headers)?).await?;
    // The property names are those of the original boot server.
    #[derive(serde::Serialize)]
    struct Answer {
        #[serde(rename = "ClientIPs")]
        client_ips: Vec<String>,
        #[serde(rename = "UKIURL")]
        uki_url: String,
        #[serde(rename = "SystemUUID", skip_serializing_if = "Option::is_none")]
        system_uuid: Option<String>,
    }
    let (shown, caller) = shown;
    let links = services.links(&shown)?;
    let answer = Answer {
        client_ips: caller.address.iter().map(ToString::to_string).collect(),
        uki_url: links.http_boot(),
        system_uuid: caller.system_uuid,
    };
    Ok(([(http::header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

/// `/httpboot/boot.efi`: the file. Served at once, since not every firmware follows a redirect.
pub(super) async fn http_boot_file(
    State(services): State<Arc<Services>>,
    Extension(peer): Extension<Peer>,
    Query(says): Query<Says>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let address = client(&services, peer, &headers)?;
    let (shown, _) = arrive(&services, &says, address).await?;
    serve(&services, &shown, name::EFI, &method, &headers).await
}

/// As [`http_boot_file`], for GRUB, which asks by MAC address over TFTP.
pub(crate) async fn arrive_by_mac(
    services: &Services,
    mac: String,
    address: IpAddr,
) -> Result<(Shown, Caller), Refused> {
    arrive(
        services,
        &Says {
            mac: Some(mac),
            uuid: None,
        },
        address,
    )
    .await
}

async fn arrive(
    services: &Services,
    says: &Says,
    address: IpAddr,
) -> Result<(Shown, Caller), Refused> {
    services.paced(Peer {
        address,
        secure: false,
    })?;
    let caller = says.caller(None, address)?;
    let key = (
        caller.address,
        caller.system_uuid.clone(),
        caller.mac.clone(),
    );
    let known = match services.arrivals.get(&key) {
        // It comes for its next boot: the one that it was let in for is over.
        Some(ticket) if matches!(services.target(&ticket).await, Err(Refusal::NotDue(_))) => None,
        known => known,
    };
    let ticket = match known {
        Some(ticket) => ticket,
        None => {
            let ticket = services.desk.admit(&caller).await?;
            tracing::info!(server = ticket.server, mac = caller.mac, %address, "boot.admitted");
            services.arrivals.put(key, ticket.clone());
            ticket
        }
    };
    // A machine that is to boot from its disk finds nothing here, and its firmware goes on.
    if services.target(&ticket).await? == Target::LocalDisk {
        return Err(Refusal::Nothing("this boot is from the disk".into()).into());
    }
    Ok((Shown { ticket, end: None }, caller))
}

/// Whom the request is for: the peer, or whom a neighbour that is trusted says.
fn client(services: &Services, peer: Peer, headers: &HeaderMap) -> Result<IpAddr, Refused> {
    match headers.get("x-forwarded-for") {
        Some(forwarded) if services.forwarders.contains(&peer.address) => forwarded
            .to_str()
            .ok()
            .and_then(|list| list.split(',').next_back())
            .and_then(|address| address.trim().parse().ok())
            .ok_or(Refused::Bad("X-Forwarded-For has no address")),
        _ => Ok(peer.address),
    }
}
