//! The metadata service: `/v1/…` as the original's metaldata, `/latest/…` in the basic form of EC2. Below `/boot/{token}`, with a bearer token, or for a
//! machine that the desk recognises.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value;

use super::boot::private;
use super::{Peer, Refused, Services};
use crate::token::Purpose;
use crate::{Caller, Refusal, Ticket, UserData};

type Shared = State<Arc<Services>>;

pub(super) async fn index(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let ticket = caller(&services, peer, &headers).await?;
    v1(&services, &ticket, "").await
}

pub(super) async fn field(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(field): Path<String>,
) -> Result<Response, Refused> {
    let ticket = caller(&services, peer, &headers).await?;
    v1(&services, &ticket, &field).await
}

pub(super) async fn latest(
    State(services): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(path): Path<String>,
) -> Result<Response, Refused> {
    let ticket = caller(&services, peer, &headers).await?;
    ec2(&services, &ticket, &path).await
}

pub(super) async fn index_by_token(
    State(services): Shared,
    Path(token): Path<String>,
) -> Result<Response, Refused> {
    let shown = services.shown(&token, Purpose::UserData)?;
    v1(&services, &shown.ticket, "").await
}

pub(super) async fn field_by_token(
    State(services): Shared,
    Path((token, field)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let shown = services.shown(&token, Purpose::UserData)?;
    v1(&services, &shown.ticket, &field).await
}

pub(super) async fn latest_by_token(
    State(services): Shared,
    Path((token, path)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let shown = services.shown(&token, Purpose::UserData)?;
    ec2(&services, &shown.ticket, &path).await
}

async fn caller(services: &Services, peer: Peer, headers: &HeaderMap) -> Result<Ticket, Refused> {
    services.paced(peer)?;
    if headers.contains_key(AUTHORIZATION) {
        return Ok(services.bearer(headers, &[Purpose::UserData])?.ticket);
    }
    // A browser or a proxy that was led here brings no such header, or brings the other one.
    if headers.contains_key("x-forwarded-for") {
        return Err(Refusal::NotDue("the request was forwarded".into()).into());
    }
    Ok(services
        .desk
        .recognise(&Caller {
            address: Some(peer.address),
            ..Caller::default()
        })
        .await?)
}

async fn v1(services: &Services, ticket: &Ticket, field: &str) -> Result<Response, Refused> {
    let data = services.user_data(ticket).await?;
    let meta = meta(&data);
    let mut response = match field.trim_end_matches('/') {
        "" => {
            let mut fields: Vec<&str> = meta.iter().map(|(key, _)| key.as_str()).collect();
            if data.user_data.is_some() {
                fields.push("user-data");
            }
            private(Bytes::from(fields.join("\n")), "text/plain")
        }
        "user-data" => user_data(&data)?,
        name => value(&meta, name)?,
    };
    response.headers_mut().insert(
        "metadata-flavor",
        http::HeaderValue::from_static("IronCore Metal"),
    );
    Ok(response)
}

async fn ec2(services: &Services, ticket: &Ticket, path: &str) -> Result<Response, Refused> {
    let data = services.user_data(ticket).await?;
    let meta = meta(&data);
    match path.trim_end_matches('/') {
        "user-data" => user_data(&data),
        "meta-data" => Ok(private(
            Bytes::from(
                meta.iter()
                    .map(|(key, _)| key.as_str())
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
            "text/plain",
        )),
        other => match other.strip_prefix("meta-data/") {
            // EC2's name for it.
            Some("hostname") => value(&meta, "local-hostname"),
            Some(name) => value(&meta, name),
            None => Err(Refusal::Nothing("no such metadata".into()).into()),
        },
    }
}

fn user_data(data: &UserData) -> Result<Response, Refused> {
    let found = data
        .user_data
        .clone()
        .ok_or_else(|| Refusal::Nothing("this boot has no user data".into()))?;
    Ok(private(found, "application/octet-stream"))
}

/// The top level of the meta-data; what is no mapping has no fields.
fn meta(data: &UserData) -> Vec<(String, Value)> {
    let read = serde_saphyr::from_slice::<serde_json::Map<String, Value>>(&data.meta_data);
    read.map(|fields| fields.into_iter().collect())
        .unwrap_or_default()
}

fn value(meta: &[(String, Value)], name: &str) -> Result<Response, Refused> {
    let (_, value) = meta
        .iter()
        .find(|(key, _)| key == name)
        .ok_or_else(|| Refusal::Nothing("no such metadata".into()))?;
    Ok(match value {
        Value::String(text) => private(Bytes::from(text.clone()), "text/plain"),
        other => private(Bytes::from(other.to_string()), "application/json").into_response(),
    })
}
