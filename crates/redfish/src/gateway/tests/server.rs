//! A small HTTP(S) server on loopback: a script answers, everything that came is recorded.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
    task::JoinHandle,
};
use url::Url;

#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Say(u16, Vec<(String, String)>, Vec<u8>),
    /// These bytes, as they are; then the connection is closed.
    Raw(Vec<u8>),
    /// These bytes; then nothing, for ever.
    RawThenHang(Vec<u8>),
    Hang,
    /// The connection is closed without a word.
    Cut,
    /// Held until the test opens the gate.
    Gated(Arc<Semaphore>, Box<Answer>),
}

type Script = dyn Fn(&Received) -> Answer + Send + Sync;

pub(crate) struct Server {
    pub(crate) port: u16,
    tls: bool,
    record: Record,
    task: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Record {
    log: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    in_flight: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

// === impl Received ===

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self::Say(status, vec![], body.to_string().into_bytes())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Say(status, vec![], vec![])
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Say(_, headers, _) = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub(crate) fn gated(self, gate: &Arc<Semaphore>) -> Self {
        Self::Gated(gate.clone(), Box::new(self))
    }

    /// What a conforming BMC answers. The n-th login gets the token `token-n`; `valid` says which tokens are.
    pub(crate) fn conforming(
        request: &Received,
        logins: &AtomicUsize,
        valid: &dyn Fn(&str) -> bool,
    ) -> Self {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/redfish/v1/") => Self::json(200, root()),
            ("POST", "/redfish/v1/SessionService/Sessions") => {
                let session = format!("{}/{}", request.path, logins.fetch_add(1, SeqCst) + 1);
                Self::json(201, json!({"@odata.id": session}))
                    .with(
                        "X-Auth-Token",
                        &session.replace("/redfish/v1/SessionService/Sessions/", "token-"),
                    )
                    .with("Location", &session)
            }
            _ if !request.header("x-auth-token").is_some_and(valid) => Self::status(401),
            ("GET", path) => Self::json(200, json!({"@odata.id": path, "Id": "1"})),
            _ => Self::status(204),
        }
    }
}

pub(crate) fn root() -> Value {
    json!({
        "@odata.id": "/redfish/v1/", "RedfishVersion": "1.15.0",
        "Systems": {"@odata.id": "/redfish/v1/Systems"},
        "Links": {"Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"}},
    })
}

// === impl Server ===

impl Server {
    pub(crate) async fn start(
        script: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::serve(None, script).await
    }

    pub(crate) async fn conforming() -> Self {
        let logins = AtomicUsize::new(0);
        Self::start(move |request| Answer::conforming(request, &logins, &|_| true)).await
    }

    pub(crate) async fn conforming_over(tls: Arc<rustls::ServerConfig>) -> Self {
        let logins = AtomicUsize::new(0);
        Self::serve(Some(tls), move |request| {
            Answer::conforming(request, &logins, &|_| true)
        })
        .await
    }

    pub(crate) async fn serve(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (has_tls, record) = (tls.is_some(), Record::default());
        let script: Arc<Script> = Arc::new(script);
        let shared = record.clone();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (record, script, tls) = (shared.clone(), script.clone(), tls.clone());
                open.spawn(async move {
                    record.connections.fetch_add(1, SeqCst);
                    match tls {
                        None => record.speak(stream, &*script).await,
                        Some(tls) => {
                            if let Ok(stream) =
                                tokio_rustls::TlsAcceptor::from(tls).accept(stream).await
                            {
                                record.speak(stream, &*script).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            port,
            tls: has_tls,
            record,
            task,
        }
    }

    pub(crate) fn url(&self) -> Url {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
            .parse()
            .unwrap()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.record.log.lock().clone()
    }

    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.record
            .log
            .lock()
            .iter()
            .filter(|request| request.is(method, path))
            .count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(SeqCst)
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.record.most.load(SeqCst)
    }

    /// Waits until `n` requests are being answered.
    pub(crate) async fn until_in_flight(&self, n: usize) {
        while self.record.in_flight.load(SeqCst) != n {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Record ===

impl Record {
    async fn speak(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, script: &Script) {
        while let Some(request) = receive(&mut stream).await {
            self.log.lock().push(request.clone());
            self.most
                .fetch_max(self.in_flight.fetch_add(1, SeqCst) + 1, SeqCst);
            let flying = Flying(&self.in_flight);
            let answer = match script(&request) {
                Answer::Gated(gate, then) => {
                    gate.acquire().await.unwrap().forget();
                    *then
                }
                other => other,
            };
            let (bytes, then) = match answer {
                Answer::Say(status, headers, body) => {
                    let mut head =
                        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
                    headers
                        .iter()
                        .for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
                    head.push_str("\r\n");
                    ([head.into_bytes(), body].concat(), Then::Next)
                }
                Answer::Raw(bytes) => (bytes, Then::Close),
                Answer::RawThenHang(bytes) => (bytes, Then::Hang),
                Answer::Cut => (vec![], Then::Close),
                Answer::Hang | Answer::Gated(..) => (vec![], Then::Hang),
            };
            if then != Then::Hang {
                drop(flying);
            }
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
            match then {
                Then::Next => {}
                Then::Close => {
                    let _ = stream.shutdown().await;
                    return;
                }
                // Until the client gives up.
                Then::Hang => {
                    let _ = stream.read_u8().await;
                    return;
                }
            }
        }
    }
}

#[derive(PartialEq)]
enum Then {
    Next,
    Close,
    Hang,
}

struct Flying<'a>(&'a AtomicUsize);

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|value| value.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Received {
        method,
        path,
        headers,
        body,
    })
}
