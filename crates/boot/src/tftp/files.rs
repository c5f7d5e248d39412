//! Which file a name stands for.

use std::net::IpAddr;
use std::path::Path;

use bytes::Bytes;

use super::TftpConfig;
use crate::links::name;
use crate::piece::Piece;
use crate::server::{Boot, Bootable, Refused, Services, chain};
use crate::token::Purpose;
use crate::{Refusal, grub, ipxe, machine};

/// What a name asks for. Everything else is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A first-stage file.
    FirstStage(String),
    /// GRUB's first configuration.
    Grub,
    /// GRUB's configuration for the machine with this MAC address.
    Machine(String),
    /// A boot artefact.
    Artefact { token: String, name: String },
}

pub(super) fn wanted(path: &str) -> Option<Wanted> {
    if path.len() > 1024 || path.contains(['\\', '\0']) {
        return None;
    }
    // Firmware and GRUB put slashes in front, sometimes two.
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if parts
        .iter()
        .any(|part| part.is_empty() || part.starts_with('.'))
    {
        return None;
    }
    match parts.as_slice() {
        ["grub", "grub.cfg"] | ["grub", "x86_64-efi", "grub.cfg"] | ["grub.cfg"] => {
            Some(Wanted::Grub)
        }
        ["grub", "machine", file] => file
            .strip_suffix(".cfg")
            .and_then(machine::mac)
            .map(Wanted::Machine),
        ["boot", token, name] => Some(Wanted::Artefact {
            token: (*token).to_owned(),
            name: (*name).to_owned(),
        }),
        [name] => Some(Wanted::FirstStage((*name).to_owned())),
        _ => None,
    }
}

/// The pieces of what is wanted, for a client at `address`.
pub(super) async fn open(
    path: &str,
    address: IpAddr,
    config: &TftpConfig,
    services: &Services,
) -> Result<Vec<Piece>, Refused> {
    match wanted(path).ok_or_else(nothing)? {
        Wanted::FirstStage(name) => first_stage(&name, config).await,
        Wanted::Grub => Ok(vec![Piece::Bytes(Bytes::from(grub::first()))]),
        Wanted::Machine(mac) => {
            let (shown, _) = chain::arrive_by_mac(services, mac, address).await?;
            let (target, links) = (
                services.target(&shown.ticket).await?,
                services.links(&shown)?,
            );
            let boot = Boot {
                ticket: &shown.ticket,
                target: &target,
                links: &links,
            };
            let say = |bootable: &Bootable| grub::boot(bootable, &links);
            let config = services.said(boot, say).await?;
            Ok(vec![Piece::Bytes(Bytes::from(config))])
        }
        Wanted::Artefact { token, name } => {
            if name == name::CONFIG_DRIVE {
                return Err(nothing());
            }
            let shown = services.shown(&token, Purpose::Boot)?;
            let (target, links) = (
                services.target(&shown.ticket).await?,
                services.links(&shown)?,
            );
            let boot = Boot {
                ticket: &shown.ticket,
                target: &target,
                links: &links,
            };
            Ok(services.open(boot, &name).await?.pieces)
        }
    }
}

fn nothing() -> Refused {
    Refusal::Nothing("no such file over TFTP".into()).into()
}

async fn first_stage(name: &str, config: &TftpConfig) -> Result<Vec<Piece>, Refused> {
    if let Some(folder) = &config.folder
        && let Some(allowed) = config.allowed.iter().find(|allowed| *allowed == name)
        && let Some(piece) = whole(&folder.join(allowed)).await
    {
        return Ok(vec![piece]);
    }
    let file = ipxe::binary::named(name).ok_or_else(nothing)?;
    let path = file
        .find()
        .map_err(|missing| Refused::Broken(missing.to_string()))?;
    Ok(vec![whole(&path).await.ok_or_else(nothing)?])
}

async fn whole(path: &Path) -> Option<Piece> {
    let found = tokio::fs::metadata(path)
        .await
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    Some(Piece::File {
        path: path.to_owned(),
        offset: 0,
        length: found.len(),
    })
}
