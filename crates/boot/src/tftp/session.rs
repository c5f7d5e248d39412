//! One transfer.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::packet::{self, Reply, Request};
use super::{TftpConfig, files};
use crate::piece;
use crate::server::Services;
use crate::server::stream::Pieces;

/// How often something is sent before the client is taken for gone.
const TRIES: u32 = 6;

pub(super) async fn transfer(
    local: IpAddr,
    peer: SocketAddr,
    request: Request,
    config: &TftpConfig,
    services: &Services,
) -> io::Result<()> {
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(peer).await?;
    let pieces = match files::open(&request.name, peer.ip().to_canonical(), config, services).await
    {
        Ok(pieces) => pieces,
        Err(refused) => {
            let (status, word) = refused.told();
            // The name may have a token in it, so it is not said.
            tracing::info!(address = %peer, %status, reason = %refused, "boot.tftp_refused");
            let code = if status == StatusCode::NOT_FOUND {
                1
            } else {
                2
            };
            socket.send(&packet::error(code, word)).await?;
            return Ok(());
        }
    };
    let length = piece::length(&pieces);
    let wait = Duration::from_secs(u64::from(request.timeout.unwrap_or(1)));
    let block = usize::from(request.block.unwrap_or(512));
    let window = usize::from(request.window.unwrap_or(1));
    if let Some(acknowledgement) = packet::acknowledgement(&request, length)
        && !begin(&socket, &acknowledgement, wait).await?
    {
        return Ok(());
    }
    let mut source = Source {
        pieces: Pieces::new(pieces, 0, length),
        rest: BytesMut::new(),
        block,
        ended: false,
    };
    send(&socket, &mut source, window, wait).await
}

/// Whether the client wants the file, after it was told the options.
async fn begin(socket: &UdpSocket, acknowledgement: &[u8], wait: Duration) -> io::Result<bool> {
    let mut buffer = [0u8; 64];
    for _ in 0..TRIES {
        socket.send(acknowledgement).await?;
        if let Ok(received) = timeout(wait, socket.recv(&mut buffer)).await {
            match packet::reply(buffer.get(..received?).unwrap_or_default()) {
                Reply::Acknowledged(0) => return Ok(true),
                Reply::Ended => return Ok(false),
                _ => {}
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

async fn send(
    socket: &UdpSocket,
    source: &mut Source,
    window: usize,
    wait: Duration,
) -> io::Result<()> {
    let mut under_way: VecDeque<Bytes> = VecDeque::with_capacity(window);
    // Number of the block before the first under way; it wraps, as large files need it to.
    let mut before: u16 = 0;
    let mut tries = 0;
    let mut buffer = [0u8; 64];
    loop {
        while under_way.len() < window {
            match source.next().await? {
                Some(block) => under_way.push_back(block),
                None => break,
            }
        }
        if under_way.is_empty() {
            return Ok(());
        }
        let mut number = before;
        for block in &under_way {
            number = number.wrapping_add(1);
            socket.send(&packet::data(number, block)).await?;
        }
        tries += 1;
        // Until something moves or the time is over. What was acknowledged before is not answered, or each delay would double all that follows.
        let deadline = tokio::time::Instant::now() + wait;
        while let Ok(received) = tokio::time::timeout_at(deadline, socket.recv(&mut buffer)).await {
            match packet::reply(buffer.get(..received?).unwrap_or_default()) {
                Reply::Acknowledged(number) => {
                    let taken = usize::from(number.wrapping_sub(before));
                    if taken >= 1 && taken <= under_way.len() {
                        under_way.drain(..taken);
                        before = number;
                        tries = 0;
                        break;
                    }
                }
                Reply::Ended => return Ok(()),
                Reply::Other => {}
            }
        }
        if tries >= TRIES {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Blocks of a file. The last one is shorter than the others, if need be empty.
struct Source {
    pieces: Pieces,
    rest: BytesMut,
    block: usize,
    ended: bool,
}

impl Source {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        while self.rest.len() < self.block {
            match self.pieces.next().await {
                Some(chunk) => self.rest.extend_from_slice(&chunk?),
                None => {
                    self.ended = true;
                    return Ok(Some(self.rest.split().freeze()));
                }
            }
        }
        Ok(Some(self.rest.split_to(self.block).freeze()))
    }
}
