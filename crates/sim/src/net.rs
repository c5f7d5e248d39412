//! Listening, TLS, and the faults of the wire.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::fault::Effect;
use crate::machine::Machine;
use crate::reply::{Answer, Cut, Reply, broken_json, partial};
use crate::service::Request;

/// Firmware images are counted, not kept; more than this is refused.
const LARGEST_BODY: usize = 64 << 20;

/// A fleet's certificates: one key, one certificate for each machine, made when first asked for.
pub(crate) struct Certificates {
    key: rcgen::KeyPair,
    key_der: Vec<u8>,
    authority: Option<rcgen::Issuer<'static, rcgen::KeyPair>>,
    authority_pem: Option<String>,
}

impl Certificates {
    /// Self-signed ones, or such that an authority of the fleet's own has signed.
    pub fn new(signed: bool) -> Result<Self, rcgen::Error> {
        let key = rcgen::KeyPair::generate()?;
        let key_der = key.serialize_der();
        let (mut authority, mut authority_pem) = (None, None);
        if signed {
            let mut params = rcgen::CertificateParams::new(Vec::new())?;
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, "Simulated fleet");
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let own = rcgen::KeyPair::generate()?;
            authority_pem = Some(params.self_signed(&own)?.pem());
            authority = Some(rcgen::Issuer::new(params, own));
        }
        Ok(Self {
            key,
            key_der,
            authority,
            authority_pem,
        })
    }

    pub fn authority_pem(&self) -> Option<&str> {
        self.authority_pem.as_deref()
    }

    /// The certificate for a machine; another `serial` is another certificate.
    pub fn issue(
        &self,
        address: SocketAddrV4,
        serial: u16,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = rcgen::CertificateParams::new(vec![address.ip().to_string()])?;
        params.distinguished_name.push(
            rcgen::DnType::CommonName,
            format!("bmc-{}-{serial}", address.ip()),
        );
        let mut number = address.ip().octets().to_vec();
        number.extend(serial.to_be_bytes());
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&number));
        let certificate = match &self.authority {
            Some(issuer) => params.signed_by(&self.key, issuer)?,
            None => params.self_signed(&self.key)?,
        };
        Ok(certificate.der().clone())
    }

    fn acceptor(&self, certificate: CertificateDer<'static>) -> Result<TlsAcceptor, rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        // Thousands of machines, each seldom visited: nothing to resume.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// What a listener needs besides its machine.
#[derive(Clone)]
pub(crate) struct Wire {
    pub machine: Arc<Machine>,
    pub certificates: Option<Arc<Certificates>>,
    /// The certificate's serial, and the acceptor made for it.
    pub acceptor: Arc<parking_lot::Mutex<(u16, Option<TlsAcceptor>)>>,
}

impl Wire {
    fn acceptor(&self) -> Option<TlsAcceptor> {
        let certificates = self.certificates.as_ref()?;
        let mut slot = self.acceptor.lock();
        if slot.1.is_none() {
            let certificate = certificates.issue(self.machine.address, slot.0).ok()?;
            slot.1 = certificates.acceptor(certificate).ok();
        }
        slot.1.clone()
    }

    /// Serves until `stop`; then the port is closed and connections are cut.
    pub async fn listen(self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(machine = self.machine.index, %error, "cannot accept");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            self.machine
                .counters
                .connections
                .fetch_add(1, Ordering::Relaxed);
            let (wire, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = Box::pin(wire.connection(stream)) => {}
                }
            });
        }
    }

    async fn connection(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        if self.certificates.is_none() {
            return self.http(stream).await;
        }
        // A hung BMC hangs in the handshake already.
        self.machine.while_hung().await;
        let Some(acceptor) = self.acceptor() else {
            return;
        };
        if let Ok(stream) = acceptor.accept(stream).await {
            self.http(stream).await;
        }
    }

    async fn http(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let machine = self.machine;
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let machine = Arc::clone(&machine);
            async move { machine.receive(request).await }
        });
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
}

impl Machine {
    async fn while_hung(&self) {
        loop {
            let awake = self.awake.notified();
            if !self.state.lock().behaviour.hung {
                return;
            }
            awake.await;
        }
    }

    /// One request through the faults.
    async fn receive(self: Arc<Self>, request: hyper::Request<Incoming>) -> Result<Reply, Cut> {
        self.counters
            .request(request.method(), request.uri().path());
        let verdict = self.faults.judge(request.method(), request.uri().path());
        self.while_hung().await;
        self.while_resetting()?;
        if !verdict.delay.is_zero() {
            tokio::time::sleep(verdict.delay).await;
        }
        if verdict.effect.is_some() || !verdict.delay.is_zero() {
            self.counters.faults.fetch_add(1, Ordering::Relaxed);
        }
        match verdict.effect {
            Some(Effect::Cut) => return Err(Cut),
            Some(Effect::Hang) => std::future::pending::<()>().await,
            Some(Effect::Status(code)) => return Ok(status(code)),
            Some(Effect::Html) => {
                return Ok(
                    Answer::text("text/html", "<html><body>Please log in</body></html>").finish(),
                );
            }
            Some(Effect::WrongJson) => {
                return Ok(Answer::json(http::StatusCode::OK, "[1,2,3]").finish());
            }
            _ => {}
        }
        let (parts, body) = request.into_parts();
        let body = read(body).await.ok_or(Cut)?;
        let reply = self.serve(&Request { parts, body });
        match verdict.effect {
            Some(Effect::CutAfter) => Err(Cut),
            Some(Effect::Partial) => Ok(partial(reply)),
            Some(Effect::BrokenJson) => Ok(broken_json(reply)),
            _ => Ok(reply),
        }
    }

    /// While the BMC restarts, its connections break.
    fn while_resetting(&self) -> Result<(), Cut> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        match state.manager_back {
            Some(back) if now < back => Err(Cut),
            Some(_) => {
                state.manager_back = None;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn status(code: u16) -> Reply {
    let status =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let key = if code == 503 {
        "ServiceTemporarilyUnavailable"
    } else {
        "GeneralError"
    };
    let failure = crate::message::Failure::new(status, key, &["1"]);
    Answer::from(failure)
        .header(http::header::RETRY_AFTER, "1")
        .finish()
}

async fn read(mut body: Incoming) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else {
            continue;
        };
        seen += data.len();
        if seen > LARGEST_BODY {
            return None;
        }
        // Images beyond a megabyte are only counted.
        if whole.len() < 1 << 20 {
            whole.extend_from_slice(&data);
        }
    }
    Some(whole.freeze())
}
