//! A server of images, which also hears the systems that were installed from them.

use std::sync::{Arc, Mutex, PoisonError};

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
    heard: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
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
        let heard = Arc::default();
        let task = tokio::spawn(accept(listener, files.into(), Arc::clone(&heard)));
        Ok(Self { heard, task })
    }

    /// The address of a path here.
    pub fn url(path: &str) -> String {
        format!("http://{SERVER}:{}/{path}", Self::PORT)
    }

    /// Whether a path was asked for that begins with `below` and names `uuid`.
    pub fn heard(&self, below: &str, uuid: &str) -> bool {
        let uuid = uuid.to_ascii_lowercase();
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|path| path.to_ascii_lowercase())
            .any(|path| path.starts_with(below) && path.contains(&uuid))
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, files: Arc<[File]>, heard: Arc<Mutex<Vec<String>>>) {
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
    heard: &Mutex<Vec<String>>,
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
        None => {
            heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(path.to_owned());
            ("200 OK", b"heard\n")
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}
