//! Recorded BMCs, served again: in memory for speed, over HTTP on loopback for truth.
//!
//! An archive holds one machine as a tree of `…/index.json`. What is missing is answered 404, as the machines' own
//! firmware sometimes does. `$expand` is computed as far as the recorded service root advertises it.

use corten_redfish::model::Access;
use corten_redfish::{Document, GatewayError, IfMatch, Priority, Reply};
use flate2::read::GzDecoder;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Largest document that a recording may hold.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Where the archives are: beside the repository, never in it.
#[must_use]
pub fn archives() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/mockups")
}

/// One recorded BMC.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Name of the archive, without extension.
    pub name: String,
    documents: BTreeMap<String, Value>,
}

/// A recording as the model reaches it, without a network; counts requests.
#[derive(Debug)]
pub struct InMemory {
    recording: Arc<Recording>,
    expand: bool,
    requests: AtomicU32,
}

/// A recording served over plain HTTP on loopback, until dropped.
#[derive(Debug)]
pub struct ReplayServer {
    address: SocketAddr,
    requests: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    accepting: tokio::task::JoinHandle<()>,
}

// === impl Recording ===

impl Recording {
    /// Unpacks an archive into memory.
    ///
    /// # Errors
    /// If it is no such archive. Documents in it that are no JSON are left out, as they are in two recordings.
    pub fn load(archive: &Path) -> anyhow::Result<Self> {
        let name = archive
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .trim_end_matches(".tar.gz")
            .to_owned();
        let mut documents = BTreeMap::new();
        for entry in tar::Archive::new(GzDecoder::new(std::fs::File::open(archive)?)).entries()? {
            let entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let Some((_, inside)) = path.split_once("/redfish/") else {
                continue;
            };
            let Some(resource) = inside.strip_suffix("/index.json") else {
                continue;
            };
            let mut text = Vec::new();
            entry.take(LARGEST).read_to_end(&mut text)?;
            if let Ok(body) = serde_json::from_slice(&text) {
                documents.insert(format!("/redfish/{resource}"), body);
            }
        }
        anyhow::ensure!(
            documents.contains_key("/redfish/v1"),
            "{} holds no service root",
            archive.display()
        );
        Ok(Self { name, documents })
    }

    /// Every archive of the folder, or `None` where the folder is absent.
    ///
    /// # Errors
    /// If one cannot be loaded.
    pub fn load_all() -> anyhow::Result<Option<Vec<Self>>> {
        let folder = archives();
        if !folder.is_dir() {
            return Ok(None);
        }
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.retain(|path| path.to_string_lossy().ends_with(".tar.gz"));
        paths.sort();
        Ok(Some(
            paths
                .iter()
                .map(|path| Self::load(path))
                .collect::<anyhow::Result<_>>()?,
        ))
    }

    /// Paths of all documents.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.documents.keys().map(String::as_str)
    }

    /// A document, by path with or without trailing slash.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.documents.get(path.trim_end_matches('/'))
    }

    /// A document, for tests that change it.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut Value> {
        self.documents.get_mut(path.trim_end_matches('/'))
    }

    /// Every document, for tests that change them.
    pub fn documents_mut(&mut self) -> impl Iterator<Item = (&String, &mut Value)> {
        self.documents.iter_mut()
    }

    /// What a GET of `target` (path and query) answers.
    #[must_use]
    pub fn answer(&self, target: &str, expand: bool) -> Option<Value> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = self.get(path)?.clone();
        let Some(wanted) = query
            .split('&')
            .find_map(|part| part.strip_prefix("$expand="))
            .filter(|_| expand)
        else {
            return Some(body);
        };
        let offered = self
            .get("/redfish/v1")
            .and_then(|root| root.pointer("/ProtocolFeaturesSupported/ExpandQuery"));
        let deepest = offered
            .and_then(|query| query.get("MaxLevels"))
            .and_then(Value::as_u64)
            .unwrap_or(1);
        let levels = wanted
            .split_once("$levels=")
            .and_then(|(_, rest)| rest.trim_end_matches(')').parse().ok())
            .unwrap_or(1_u64);
        let links = wanted.starts_with('*');
        Some(self.expanded(body, levels.min(deepest), links))
    }

    fn expanded(&self, mut body: Value, levels: u64, links: bool) -> Value {
        if levels > 0 {
            self.expand_parts(&mut body, levels, links);
        }
        body
    }

    fn expand_parts(&self, value: &mut Value, levels: u64, links: bool) {
        match value {
            Value::Array(items) => items
                .iter_mut()
                .for_each(|item| self.expand_link(item, levels, links)),
            Value::Object(map) => {
                for (key, item) in map.iter_mut() {
                    if links || key != "Links" {
                        self.expand_link(item, levels, links);
                    }
                }
            }
            _ => {}
        }
    }

    fn expand_link(&self, value: &mut Value, levels: u64, links: bool) {
        let link = value
            .as_object()
            .filter(|map| map.len() == 1)
            .and_then(|map| map.get("@odata.id"))
            .and_then(Value::as_str);
        match link.map(|link| self.get(link).cloned()) {
            Some(Some(document)) => *value = self.expanded(document, levels - 1, links),
            Some(None) => {}
            None => self.expand_parts(value, levels, links),
        }
    }
}

// === impl InMemory ===

impl InMemory {
    /// Serves `recording`; `expand` says whether `$expand` is computed or ignored.
    #[must_use]
    pub fn new(recording: Arc<Recording>, expand: bool) -> Arc<Self> {
        Arc::new(Self {
            recording,
            expand,
            requests: AtomicU32::new(0),
        })
    }

    /// Requests answered.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn not_found(method: &'static str, path: &str) -> GatewayError {
    GatewayError::Status {
        code: 404,
        method,
        path: path.into(),
        message: "not recorded".into(),
        message_id: None,
        retry_after: None,
    }
}

impl Access for InMemory {
    fn get<'a>(
        &'a self,
        path: &'a str,
        _: Priority,
    ) -> BoxFuture<'a, Result<Document, GatewayError>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let plain = path.split('?').next().unwrap_or_default();
        let answer = self
            .recording
            .answer(path, self.expand)
            .map(|body| Document::new(plain, None, body));
        Box::pin(async move { answer.ok_or_else(|| not_found("GET", path)) })
    }

    fn post<'a>(
        &'a self,
        path: &'a str,
        _: &'a Value,
        _: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(async move { Err(not_found("POST", path)) })
    }

    fn patch<'a>(
        &'a self,
        path: &'a str,
        _: &'a Value,
        _: IfMatch,
        _: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(async move { Err(not_found("PATCH", path)) })
    }

    fn delete<'a>(
        &'a self,
        path: &'a str,
        _: Priority,
    ) -> BoxFuture<'a, Result<Reply, GatewayError>> {
        Box::pin(async move { Err(not_found("DELETE", path)) })
    }
}

// === impl ReplayServer ===

impl ReplayServer {
    /// Starts serving on a free port.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(recording: Arc<Recording>, expand: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (requests, connections) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (counted, connected) = (Arc::clone(&requests), Arc::clone(&connections));
        let accepting = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connected.fetch_add(1, Ordering::Relaxed);
                let (recording, counted) = (Arc::clone(&recording), Arc::clone(&counted));
                serving
                    .spawn(async move { serve(stream, &recording, expand, &counted).await.ok() });
            }
        });
        Ok(Self {
            address,
            requests,
            connections,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests answered, logins included.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections accepted.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for ReplayServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// HTTP/1.1 on one connection: as much of it as a Redfish client uses.
async fn serve(
    stream: TcpStream,
    recording: &Recording,
    expand: bool,
    requests: &AtomicU32,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace();
        let (method, target) = (
            words.next().unwrap_or_default().to_owned(),
            words.next().unwrap_or_default().to_owned(),
        );
        let mut length = 0_u64;
        loop {
            let mut header = String::new();
            if stream.read_line(&mut header).await? == 0 || header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        tokio::io::copy(&mut (&mut stream).take(length), &mut tokio::io::sink()).await?;
        requests.fetch_add(1, Ordering::Relaxed);
        let decoded = target
            .replace("%20", " ")
            .replace("%24", "$")
            .replace("%28", "(")
            .replace("%29", ")")
            .replace("%3D", "=");
        let (status, extra, body) = respond(recording, &method, &decoded, expand);
        let body = serde_json::to_vec(&body)?;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nOData-Version: 4.0\r\n{extra}Content-Length: {}\r\n\r\n",
            body.len()
        );
        // One write: two would wait for each other's acknowledgement, 40 ms a request.
        stream
            .write_all(&[head.as_bytes(), body.as_slice()].concat())
            .await?;
        stream.flush().await?;
    }
}

fn respond(
    recording: &Recording,
    method: &str,
    target: &str,
    expand: bool,
) -> (&'static str, &'static str, Value) {
    let error = |code: &str| json!({ "error": { "code": format!("Base.1.0.{code}"), "message": "this is a recording" } });
    match method {
        "GET" => match recording.answer(target, expand) {
            Some(body) => ("200 OK", "", body),
            None => ("404 Not Found", "", error("ResourceMissingAtURI")),
        },
        // A recording knows no accounts: any login is good, and its session can be ended.
        "POST" if target.ends_with("/Sessions") => (
            "201 Created",
            "X-Auth-Token: replayed\r\nLocation: /redfish/v1/SessionService/Sessions/replayed\r\n",
            json!({ "@odata.id": "/redfish/v1/SessionService/Sessions/replayed", "Id": "replayed", "Name": "Session" }),
        ),
        "DELETE" => ("204 No Content", "", Value::Null),
        _ => ("405 Method Not Allowed", "", error("OperationNotAllowed")),
    }
}
