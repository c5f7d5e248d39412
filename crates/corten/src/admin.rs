//! `/healthz`, `/readyz` and `/metrics`: plain HTTP for a kubelet and a scraper, bounded in every direction.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Scrapers and probes are few; what comes beyond waits in the listener's backlog.
const CONNECTIONS: usize = 32;
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
const CONNECTION_ENDS_AFTER: Duration = Duration::from_secs(300);

/// Whether this process may be given work, and if not, why.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<State>>);

#[derive(Clone, Debug)]
enum State {
    Ready(&'static str),
    NotReady(String),
}

// === impl Readiness ===

impl Readiness {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::NotReady(
            "starting".to_owned(),
        ))))
    }

    /// Ready, in the role that `/readyz` prints.
    pub fn ready(&self, role: &'static str) {
        self.0.send_replace(State::Ready(role));
    }

    /// Not ready because of `reason`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.0.send_replace(State::NotReady(reason.into()));
    }
}

/// Listens on `address` and answers until `shutdown`. Returns the address that was bound.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (--admin-address)"))?;
    let bound = listener
        .local_addr()
        .context("cannot tell the admin address")?;
    tokio::spawn(async move {
        tokio::select! {
            () = accept(listener, readiness) => (),
            () = shutdown.cancelled() => (),
        }
    });
    Ok(bound)
}

async fn accept(listener: TcpListener, readiness: Readiness) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let readiness = readiness.clone();
                tokio::spawn(async move {
                    let _ =
                        tokio::time::timeout(CONNECTION_ENDS_AFTER, connection(stream, readiness))
                            .await;
                    drop(slot);
                });
            }
            // Out of file descriptors or a connection reset in the backlog: the next accept may succeed.
            Err(error) => {
                tracing::debug!(%error, "admin: accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, readiness: Readiness) {
    let service = service_fn(move |request| {
        let answer = answer(&request, &readiness);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin: connection");
    }
}

fn answer(request: &Request<Incoming>, readiness: &Readiness) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match &*readiness.0.borrow() {
            State::Ready(role) => plain(StatusCode::OK, format!("ready: {role}\n")),
            State::NotReady(reason) => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: {reason}\n"),
            ),
        },
        "/metrics" => typed(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            corten_kit::Metrics::encode(),
        ),
        _ => plain(
            StatusCode::NOT_FOUND,
            "/healthz, /readyz and /metrics are here\n",
        ),
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn readiness_says_why_and_liveness_does_not_depend_on_it() {
        let (readiness, shutdown) = (Readiness::new(), CancellationToken::new());
        let address = serve(
            "127.0.0.1:0".parse().unwrap(),
            readiness.clone(),
            shutdown.clone(),
        )
        .await
        .unwrap();
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(
            get(address, "/readyz")
                .await
                .contains("not ready: starting")
        );
        readiness.ready("leader");
        assert!(get(address, "/readyz").await.ends_with("ready: leader\n"));
        readiness.not_ready("the CRDs are missing");
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(get(address, "/metrics").await.contains("# EOF"));
        assert!(get(address, "/secrets").await.starts_with("HTTP/1.1 404"));
        shutdown.cancel();
    }
}
