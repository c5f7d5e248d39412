//! A server of images, which also hears the systems that were installed from them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::namespace::SERVER;

/// A file's name with its bytes.
pub type File = (&'static str, Vec<u8>);

/// Serves files below `/image/`, whole, and remembers every other path that is asked for. Dropped, it ends.
#[derive(Debug)]
pub struct Images {
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Heard {
    paths: Vec<String>,
    /// Machines whose system is told to start again, by UUID.
    restart: Vec<String>,
}

// === impl Heard ===

impl Heard {
    /// What a system that calls at `path` is told.
    fn call(&mut self, path: &str) -> &'static [u8] {
        let path = path.to_ascii_lowercase();
        let told = self.restart.iter().position(|uuid| path.contains(uuid));
        self.paths.push(path);
        match told {
            Some(at) => {
                self.restart.swap_remove(at);
                b"restart\n"
            }
            None => b"heard\n",
        }
    }

    /// The paths below `below` that name `uuid`.
    fn of<'a>(&'a self, below: &'a str, uuid: &str) -> impl Iterator<Item = &'a str> {
        let uuid = uuid.to_ascii_lowercase();
        let paths = self.paths.iter().map(String::as_str);
        paths.filter(move |path| path.starts_with(below) && path.contains(&uuid))
    }
}

// === impl Images ===

impl Images {
    /// Where it listens, at [`SERVER`].
    pub const PORT: u16 = 8090;

    /// Begins to serve `files`.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub async fn serve(files: Vec<File>) -> Result<Self, Error> {
        let listener = TcpListener::bind((SERVER, Self::PORT))
            .await
            .map_err(|source| Error::Listen {
                address: format!("{SERVER}:{}", Self::PORT),
                source,
            })?;
        let heard = Arc::<Mutex<Heard>>::default();
        let task = tokio::spawn(accept(listener, files.into(), Arc::clone(&heard)));
        Ok(Self { heard, task })
    }

    /// The address of a path here.
    pub fn url(path: &str) -> String {
        format!("http://{SERVER}:{}/{path}", Self::PORT)
    }

    /// Whether a path was asked for that begins with `below` and names `uuid`.
    pub fn heard(&self, below: &str, uuid: &str) -> bool {
        lock(&self.heard).of(below, uuid).next().is_some()
    }

    /// How often the system of `uuid` that calls below `below` has been started: each start calls at a path of its own.
    pub fn starts(&self, below: &str, uuid: &str) -> usize {
        let heard = lock(&self.heard);
        heard.of(below, uuid).collect::<BTreeSet<_>>().len()
    }

    /// Tells the system of `uuid` to restart its machine when it calls next: by itself, with nobody outside who knows.
    pub fn restart(&self, uuid: &str) {
        lock(&self.heard).restart.push(uuid.to_ascii_lowercase());
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, files: Arc<[File]>, heard: Arc<Mutex<Heard>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (files, heard) = (Arc::clone(&files), Arc::clone(&heard));
        tokio::spawn(async move {
            // Whoever hangs up asks again.
            let _ = answer(stream, &files, &heard).await;
        });
    }
}

async fn answer(
    mut stream: TcpStream,
    files: &[File],
    heard: &Mutex<Heard>,
) -> std::io::Result<()> {
    let mut piece = [0; 8192];
    let length = stream.read(&mut piece).await?;
    let request = String::from_utf8_lossy(piece.get(..length).unwrap_or_default()).into_owned();
    let Some(path) = request.split_whitespace().nth(1) else {
        return Ok(());
    };
    let (status, body): (_, &[u8]) = match path.strip_prefix("/image/") {
        Some(name) => match files.iter().find(|(known, _)| *known == name) {
            Some((_, bytes)) => ("200 OK", bytes),
            None => ("404 Not Found", b"no such image\n"),
        },
        None => ("200 OK", lock(heard).call(path)),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}
