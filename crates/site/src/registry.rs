//! A registry of images that is not ours and wants a login: the distribution's `docker-registry`.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_boot::ramdisk::index::sha256;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::error::Error;
use crate::namespace::SERVER;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// bcrypt of [`Registry::PASSWORD`], which is all that `docker-registry` takes: `htpasswd -nbB site …`.
const LOGINS: &str = "site:$2y$05$abcdefghijklmnopqrstuuHqp4E36/xk0OkeoSRAoLwmRUFAPqvJu\n";

/// A running `docker-registry`, over plain HTTP. Dropped, it is gone, and at the latest with the thread that started it.
#[derive(Debug)]
pub struct Registry(Child);

/// Status and head of an answer.
struct Answer {
    status: String,
    head: String,
}

// === impl Registry ===

impl Registry {
    /// Where it listens, at [`SERVER`].
    pub const PORT: u16 = 5000;
    /// Who may push and pull.
    pub const USER: &str = "site";
    /// With this password.
    pub const PASSWORD: &str = "password-of-the-registry";

    /// Why there is none here, if there is none.
    pub fn missing() -> Option<String> {
        crate::absent("docker-registry", "is the registry of images")
    }

    /// Its host, with the port.
    pub fn host() -> String {
        format!("{SERVER}:{}", Self::PORT)
    }

    /// The login as it stands in a header.
    pub fn login() -> String {
        STANDARD.encode(format!("{}:{}", Self::USER, Self::PASSWORD))
    }

    /// Starts it in the namespace that this process is in, with its files in `folder`, and waits until it answers: to strangers, that they may not.
    ///
    /// # Errors
    /// If it does not start, or lets a stranger in.
    pub async fn start(folder: &Path) -> Result<Self, Error> {
        let at = |name: &str| folder.join(name);
        let (settings, logins, log) = (
            at("registry.json"),
            at("registry.htpasswd"),
            at("registry.log"),
        );
        // It reads YAML, which JSON is too.
        let wanted = json!({
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": at("registry")}},
            "http": {"addr": Self::host(), "secret": "site", "relativeurls": true},
            "auth": {"htpasswd": {"realm": "site", "path": logins}},
        });
        std::fs::write(&settings, wanted.to_string()).map_err(Error::file(&settings))?;
        std::fs::write(&logins, LOGINS).map_err(Error::file(&logins))?;
        let said = File::create(&log).map_err(Error::file(&log))?;
        let mut registry = Self(
            crate::tied_to_us()
                .args(["docker-registry", "serve"])
                .arg(&settings)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(said)
                .spawn()
                .map_err(Error::start("setpriv"))?,
        );
        let asked = "GET /v2/";
        for _ in 0..400 {
            if let Ok(answer) = ask(asked, "", &[]).await {
                return match answer.status.as_str() {
                    "401" => Ok(registry),
                    _ => Err(answer.unexpected(asked)),
                };
            }
            if let Ok(Some(status)) = registry.0.try_wait() {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::Failed {
                    command: "docker-registry".to_owned(),
                    said: format!("{status}: {said}"),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Error::Registry {
            asked: asked.to_owned(),
            said: "nothing".to_owned(),
        })
    }

    /// Pushes an image of these layers (media type and bytes) for amd64, in an index that has one for arm64 before it, whose layers are empty. Gives its
    /// reference.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub async fn push(&self, name: &str, layers: &[(&str, &[u8])]) -> Result<String, Error> {
        let nothing: Vec<_> = layers.iter().map(|(kind, _)| (*kind, &b"{}"[..])).collect();
        let mut manifests = Vec::new();
        for (architecture, layers) in [("arm64", nothing.as_slice()), ("amd64", layers)] {
            let config = blob(name, "application/vnd.oci.empty.v1+json", b"{}").await?;
            let mut pushed = Vec::new();
            for (kind, bytes) in layers {
                pushed.push(blob(name, kind, bytes).await?);
            }
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": pushed,
            });
            let bytes = manifest.to_string();
            let digest = digest(bytes.as_bytes());
            put_manifest(name, &digest, MANIFEST, bytes.as_bytes()).await?;
            manifests.push(json!({
                "mediaType": MANIFEST, "size": bytes.len(), "digest": digest,
                "platform": {"architecture": architecture, "os": "linux"},
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        put_manifest(name, "1", INDEX, index.to_string().as_bytes()).await?;
        Ok(format!("{}/{name}:1", Self::host()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// === impl Answer ===

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    fn unexpected(&self, asked: &str) -> Error {
        Error::Registry {
            asked: asked.to_owned(),
            said: self.head.clone(),
        }
    }

    fn expect(self, status: &str, asked: &str) -> Result<Self, Error> {
        if self.status == status {
            Ok(self)
        } else {
            Err(self.unexpected(asked))
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// Pushes bytes in one piece (distribution-spec 1.1, "POST then PUT"), and describes them.
async fn blob(name: &str, kind: &str, bytes: &[u8]) -> Result<Value, Error> {
    let digest = digest(bytes);
    let asked = format!("POST /v2/{name}/blobs/uploads/");
    let begun = ask(&asked, &authorization(""), &[]).await?;
    let begun = begun.expect("202", &asked)?;
    let place = begun.header("Location").unwrap_or_default();
    let asked = format!("PUT {place}&digest={digest}");
    let head = authorization("application/octet-stream");
    ask(&asked, &head, bytes).await?.expect("201", &asked)?;
    Ok(json!({"mediaType": kind, "size": bytes.len(), "digest": digest}))
}

async fn put_manifest(name: &str, tag: &str, kind: &str, bytes: &[u8]) -> Result<(), Error> {
    let asked = format!("PUT /v2/{name}/manifests/{tag}");
    let answer = ask(&asked, &authorization(kind), bytes).await?;
    answer.expect("201", &asked).map(|_| ())
}

fn authorization(kind: &str) -> String {
    let login = Registry::login();
    format!("Authorization: Basic {login}\r\nContent-Type: {kind}\r\n")
}

/// Asks once: method and path, further headers, body.
async fn ask(asked: &str, headers: &str, body: &[u8]) -> Result<Answer, Error> {
    let exchange = async || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((SERVER, Registry::PORT)).await?;
        let head = format!(
            "{asked} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            Registry::host(),
            body.len(),
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer = exchange().await.map_err(Error::Unreachable)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Ok(Answer {
        status: answer.split(' ').nth(1).unwrap_or_default().to_owned(),
        head: answer,
    })
}
