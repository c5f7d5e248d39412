//! Running it all: [`serve`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::Desk;
use crate::links::PublicAddress;
use crate::server::gate::Gate;
use crate::server::{Artefacts, Limits, Services, listen, router};
use crate::token::KeyRing;

/// What is served, and where.
pub struct Config {
    /// Address of HTTP.
    pub http: SocketAddr,
    /// Address of HTTPS, and its configuration (rustls with ring); none without one.
    pub https: Option<(SocketAddr, Arc<rustls::ServerConfig>)>,
    /// How machines reach it.
    pub public: PublicAddress,
    /// Keys of the tokens.
    pub keys: KeyRing,
    /// Neighbours whose `X-Forwarded-For` is believed.
    pub forwarders: Vec<IpAddr>,
    /// Limits.
    pub limits: Limits,
}

/// Why the boot services do not start. Trying again helps if an address is in use for now.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// Boot services that listen already; [`Bound::run`] serves.
pub struct Bound {
    /// Address of HTTP, with its port.
    pub http: SocketAddr,
    /// Address of HTTPS, with its port.
    pub https: Option<SocketAddr>,
    plain: TcpListener,
    secure: Option<(TcpListener, TlsAcceptor)>,
    services: Arc<Services>,
    limits: Limits,
}

/// Listens.
///
/// # Errors
/// An address cannot be listened on.
pub async fn bind(
    config: Config,
    desk: Arc<dyn Desk>,
    artefacts: Arc<dyn Artefacts>,
) -> Result<Bound, ServeError> {
    let listen =
        |address: SocketAddr| listener(address).map_err(|error| ServeError::Listen(address, error));
    let plain = listen(config.http)?;
    let secure = match config.https {
        Some((address, tls)) => Some((listen(address)?, TlsAcceptor::from(tls))),
        None => None,
    };
    let services = Services::new(
        config.public,
        config.keys,
        desk,
        artefacts,
        config.forwarders,
        config.limits,
    );
    Ok(Bound {
        http: plain
            .local_addr()
            .map_err(|error| ServeError::Listen(config.http, error))?,
        https: secure
            .as_ref()
            .and_then(|(listener, _)| listener.local_addr().ok()),
        plain,
        secure,
        services: Arc::new(services),
        limits: config.limits,
    })
}

/// Bytes that the kernel keeps for a connection on their way out. Bounded, since a slow reader shows only when a good part of them is gone: with buffers
/// that grow to megabytes it would look like one that takes nothing.
const SEND_BUFFER: u32 = 256 * 1024;

fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(1024)
}

impl Bound {
    /// The services, for TFTP to share.
    #[must_use]
    pub fn services(&self) -> Arc<Services> {
        self.services.clone()
    }

    /// Serves until `shutdown`; when it returns, no task of it runs any more.
    pub async fn run(self, shutdown: CancellationToken) {
        let router = router(self.services);
        let gate = Gate::new(self.limits.connections, self.limits.per_address);
        let plain = listen::serve(
            self.plain,
            None,
            router.clone(),
            gate.clone(),
            self.limits,
            shutdown.clone(),
        );
        match self.secure {
            None => plain.await,
            Some((listener, tls)) => {
                tokio::join!(
                    plain,
                    listen::serve(listener, Some(tls), router, gate, self.limits, shutdown)
                );
            }
        }
    }
}

/// Listens and serves until `shutdown`.
///
/// # Errors
/// An address cannot be listened on.
pub async fn serve(
    config: Config,
    desk: Arc<dyn Desk>,
    artefacts: Arc<dyn Artefacts>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    bind(config, desk, artefacts).await?.run(shutdown).await;
    Ok(())
}
