//! TFTP (RFC 1350, with options of RFC 2347, 2348, 2349 and 7440), read only: first-stage files by an allow-list, and for the Secure Boot chain what a
//! boot token opens. Names are keys to compare with; none of them becomes a path.

mod files;
mod packet;
mod session;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::Services;
use crate::server::gate::Gate;

/// What is served, and how much at once.
#[derive(Clone, Debug)]
pub struct TftpConfig {
    /// Folder with a site's own first-stage files; they are served before those of the distribution's packages.
    pub folder: Option<PathBuf>,
    /// Names in that folder that are served. No other is.
    pub allowed: Vec<String>,
    /// Transfers in all.
    pub sessions: usize,
    /// Transfers to one address.
    pub per_address: usize,
    /// Longest transfer.
    pub longest: Duration,
}

impl Default for TftpConfig {
    fn default() -> Self {
        Self {
            folder: None,
            allowed: Vec::new(),
            sessions: 256,
            per_address: 16,
            longest: Duration::from_secs(600),
        }
    }
}

/// Serves on `socket` until `shutdown`; transfers under way end then, clients ask again.
pub async fn serve(
    socket: UdpSocket,
    config: TftpConfig,
    services: Arc<Services>,
    shutdown: CancellationToken,
) {
    let config = Arc::new(config);
    let gate = Gate::new(config.sessions, config.per_address);
    let busy: Arc<Mutex<HashSet<SocketAddr>>> = Arc::default();
    let tracker = TaskTracker::new();
    // From the address that was asked where that is one, so that the answer comes from where the client expects it.
    let local: IpAddr = socket
        .local_addr()
        .map_or(IpAddr::from([0, 0, 0, 0]), |address| address.ip());
    // The longest request that is looked at; longer ones are cut off and do not parse.
    let mut buffer = vec![0u8; 2048];
    loop {
        let received = tokio::select! {
            () = shutdown.cancelled() => break,
            received = socket.recv_from(&mut buffer) => received,
        };
        let Ok((length, peer)) = received else {
            // An ICMP error of an earlier answer.
            continue;
        };
        let request = match buffer
            .get(..length)
            .ok_or(packet::Malformed)
            .and_then(packet::request)
        {
            Ok(request) => request,
            Err(packet::Malformed) => {
                let _ = socket.try_send_to(&packet::error(4, "only octet reads"), peer);
                continue;
            }
        };
        // A request that was sent again, since ours takes its time.
        if busy.lock().contains(&peer) {
            continue;
        }
        let Some(pass) = gate.enter(peer.ip().to_canonical()) else {
            let _ = socket.try_send_to(&packet::error(0, "busy"), peer);
            continue;
        };
        busy.lock().insert(peer);
        let (config, services, busy, shutdown) = (
            config.clone(),
            services.clone(),
            busy.clone(),
            shutdown.clone(),
        );
        tracker.spawn(async move {
            let transfer = session::transfer(local, peer, request, &config, &services);
            tokio::select! {
                () = shutdown.cancelled() => {}
                outcome = tokio::time::timeout(config.longest, transfer) => match outcome {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::info!(address = %peer, reason = %error, "boot.tftp_ended"),
                    Err(_) => tracing::info!(address = %peer, "boot.tftp_too_slow"),
                },
            }
            busy.lock().remove(&peer);
            drop(pass);
        });
    }
    tracker.close();
    tracker.wait().await;
}

#[cfg(test)]
mod tests;
