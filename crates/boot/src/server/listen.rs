//! Connections: how many, how long, how slow. HTTP on one address, HTTPS on another, the same routes on both.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gate::Gate;

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// It speaks TLS.
    pub secure: bool,
}

/// Limits on connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub per_address: usize,
    /// Time for a request's header, for the next request of a connection, and for a TLS handshake.
    pub header: Duration,
    /// Time for a request's body and for what is decided of it.
    pub request: Duration,
    /// A reader that takes less than [`Limits::slowest`] in this time is cut off.
    pub stall: Duration,
    /// Bytes that a reader takes in [`Limits::stall`] at least.
    pub slowest: u64,
    /// Time that connections get to end at shutdown.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            // Machines behind one relay or NAT share an address; a BMC opens a few for one medium.
            per_address: 256,
            header: Duration::from_secs(15),
            request: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            slowest: 16 * 1024,
            grace: Duration::from_secs(5),
        }
    }
}

/// Serves until `shutdown`, then lets what is under way end within the grace.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    gate: Arc<Gate>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let tracker = TaskTracker::new();
    let hard = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those in use must get a chance to end.
                tracing::warn!(%error, "boot.accept_failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let address = plain(peer);
        let Some(pass) = gate.enter(address) else {
            tracing::info!(%address, "boot.too_many_connections");
            continue;
        };
        let (tls, router, shutdown, hard) =
            (tls.clone(), router.clone(), shutdown.clone(), hard.clone());
        tracker.spawn(async move {
            tokio::select! {
                () = hard.cancelled() => {}
                () = connection(stream, tls, router, address, limits, shutdown) => {}
            }
            drop(pass);
        });
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(limits.grace, tracker.wait())
        .await
        .is_err()
    {
        hard.cancel();
        tracker.wait().await;
    }
}

/// An IPv4 address that came over an IPv6 socket is an IPv4 address.
fn plain(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    address: IpAddr,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let stream = Guarded::new(stream, limits.stall, limits.slowest);
    let outcome = match tls {
        None => {
            requests(
                stream,
                router,
                Peer {
                    address,
                    secure: false,
                },
                limits,
                shutdown,
            )
            .await
        }
        Some(tls) => match tokio::time::timeout(limits.header, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                requests(
                    stream,
                    router,
                    Peer {
                        address,
                        secure: true,
                    },
                    limits,
                    shutdown,
                )
                .await
            }
            Ok(Err(error)) => return tracing::debug!(%address, %error, "boot.tls_failed"),
            Err(_) => return tracing::debug!(%address, "boot.tls_too_slow"),
        },
    };
    if let Err(error) = outcome {
        tracing::debug!(%address, %error, "boot.connection_ended");
    }
}

async fn requests<S>(
    stream: S,
    router: Router,
    peer: Peer,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.layer(axum::Extension(peer)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(64)
        // Bounds headers, and how much of a body is queued before the socket takes it.
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// A stream that gives up when its reader takes too little for too long.
struct Guarded<S> {
    stream: S,
    stall: Duration,
    slowest: u64,
    /// Runs while the reader keeps us waiting; with what it took since it was set.
    waiting: Option<(Pin<Box<Sleep>>, u64)>,
}

impl<S> Guarded<S> {
    fn new(stream: S, stall: Duration, slowest: u64) -> Self {
        Self {
            stream,
            stall,
            slowest,
            waiting: None,
        }
    }

    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        offered: usize,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(written)) => {
                if let Some((_, taken)) = self.waiting.as_mut() {
                    *taken = taken.saturating_add(written as u64);
                    // A reader that took all there was keeps nobody waiting.
                    if *taken >= self.slowest || written >= offered {
                        self.waiting = None;
                    }
                }
                Poll::Ready(Ok(written))
            }
            Poll::Pending => {
                let stall = self.stall;
                let (sleep, _) = self.waiting.get_or_insert_with(|| {
                    (
                        Box::pin(tokio::time::sleep_until(Instant::now() + stall)),
                        0,
                    )
                });
                std::task::ready!(sleep.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the reader is too slow",
                )))
            }
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, written, bufs.iter().map(|buf| buf.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
