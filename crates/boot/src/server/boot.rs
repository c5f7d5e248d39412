//! `/boot/{token}/…`: what a machine with a token fetches.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::artefacts::{Artefact, Boot, Bootable};
use super::range::{Part, part};
use super::stream::Pieces;
use super::{Peer, Refused, Services};
use crate::links::name;
use crate::token::{Purpose, Shown};
use crate::{Refusal, Target, grub, ipxe};

/// `/boot/{token}/{artefact}`.
pub(super) async fn artefact(
    State(services): State<Arc<Services>>,
    Extension(_): Extension<Peer>,
    Path((token, artefact)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    match artefact.as_str() {
        name::IGNITION => {
            let shown = services.shown(&token, Purpose::UserData)?;
            let data = services.user_data(&shown.ticket).await?;
            let ignition = data
                .ignition
                .ok_or_else(|| Refusal::Nothing("this boot has no ignition".into()))?;
            Ok(private(ignition, "application/vnd.coreos.ignition+json"))
        }
        name::CONFIG_DRIVE => {
            let shown = services.shown(&token, Purpose::UserData)?;
            let target = services.target(&shown.ticket).await?;
            let data = services.user_data(&shown.ticket).await?;
            let links = services.links(&shown)?;
            let boot = Boot {
                ticket: &shown.ticket,
                target: &target,
                links: &links,
            };
            let found = services
                .artefacts
                .open(boot, &artefact, Some(&data))
                .await?;
            Ok(answer(found, &method, &headers))
        }
        _ => {
            let shown = services.shown(&token, Purpose::Boot)?;
            serve(&services, &shown, &artefact, &method, &headers).await
        }
    }
}

/// A boot artefact for a token that was checked.
pub(super) async fn serve(
    services: &Services,
    shown: &Shown,
    artefact: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refused> {
    let target = services.target(&shown.ticket).await?;
    let links = services.links(shown)?;
    let boot = Boot {
        ticket: &shown.ticket,
        target: &target,
        links: &links,
    };
    match artefact {
        name::SCRIPT => Ok(private(
            Bytes::from(script(services, boot).await?),
            "text/plain",
        )),
        name::GRUB => {
            let config = match &target {
                Target::LocalDisk => grub::exit(),
                _ => {
                    let say = |bootable: &Bootable| grub::boot(bootable, &links);
                    services.said(boot, say).await?
                }
            };
            Ok(private(Bytes::from(config), "text/plain"))
        }
        _ if target == Target::LocalDisk => {
            Err(Refusal::Nothing("this boot is from the disk".into()).into())
        }
        // Who only asks how large it is has not fetched it.
        _ if *method == Method::HEAD => {
            let found = services.artefacts.open(boot, artefact, None).await?;
            Ok(answer(found, method, headers))
        }
        _ => Ok(answer(
            services.open(boot, artefact).await?,
            method,
            headers,
        )),
    }
}

/// The iPXE script of a boot.
pub(super) async fn script(services: &Services, boot: Boot<'_>) -> Result<String, Refused> {
    if *boot.target == Target::LocalDisk {
        return Ok(ipxe::exit());
    }
    let say = |bootable: &Bootable| ipxe::boot(bootable, boot.links);
    services.said(boot, say).await
}

/// `/boot/{token}/cloud-init/{file}`: NoCloud.
pub(super) async fn cloud_init(
    State(services): State<Arc<Services>>,
    Path((token, file)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let shown = services.shown(&token, Purpose::UserData)?;
    let data = services.user_data(&shown.ticket).await?;
    let found = match file.as_str() {
        "meta-data" => Some(data.meta_data),
        // NoCloud wants these two to be there, empty ones will do. Corten, whose vendor-data it would be, adds nothing.
        "user-data" => Some(data.user_data.unwrap_or_default()),
        "vendor-data" => Some(Bytes::new()),
        "network-config" => data.network_config,
        _ => None,
    };
    Ok(private(
        found.ok_or_else(|| Refusal::Nothing("no such cloud-init file".into()))?,
        "text/plain",
    ))
}

/// Small things that nobody may keep.
pub(super) fn private(body: Bytes, media_type: &'static str) -> Response {
    (
        [(CONTENT_TYPE, media_type), (CACHE_CONTROL, "no-store")],
        body,
    )
        .into_response()
}

/// The answer to a conditional, ranged or plain request for an artefact.
pub(super) fn answer(artefact: Artefact, method: &Method, headers: &HeaderMap) -> Response {
    let length = artefact.length();
    let (status, start, part_length) =
        match part(headers, length, &artefact.etag, artefact.modified) {
            Part::Whole => (StatusCode::OK, 0, length),
            Part::Range { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
            Part::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
            Part::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, 0, 0),
            Part::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
        };
    let sends = status.is_success();
    // Ranges of a HEAD are not looked at (RFC 9110, 14.2).
    let (status, start, part_length) = if *method == Method::HEAD && sends {
        (StatusCode::OK, 0, length)
    } else {
        (status, start, part_length)
    };
    let body = if sends && *method != Method::HEAD {
        Body::new(Pieces::new(artefact.pieces, start, part_length))
    } else {
        Body::empty()
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", artefact.etag)) {
        headers.insert(ETAG, etag);
    }
    if let Some(modified) = artefact
        .modified
        .and_then(|modified| HeaderValue::from_str(&httpdate::fmt_http_date(modified)).ok())
    {
        headers.insert(LAST_MODIFIED, modified);
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    if sends {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(artefact.media_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(part_length));
    }
    let range = match status {
        StatusCode::PARTIAL_CONTENT => Some(format!(
            "bytes {start}-{}/{length}",
            start + part_length - 1
        )),
        StatusCode::RANGE_NOT_SATISFIABLE => Some(format!("bytes */{length}")),
        _ => None,
    };
    if let Some(range) = range.and_then(|range| HeaderValue::from_str(&range).ok()) {
        headers.insert(CONTENT_RANGE, range);
    }
    response
}
