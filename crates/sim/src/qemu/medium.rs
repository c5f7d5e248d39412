//! Images for the virtual CD drive, fetched as a BMC does: over its own network, without checking certificates.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

/// A server that says nothing for that long has lost us.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why an image is not in the drive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MediumError {
    /// Only HTTP and HTTPS are fetched here.
    #[error("images are fetched over http and https only")]
    Scheme,
    #[error("cannot fetch the image")]
    Fetch(#[source] reqwest::Error),
    #[error("the image is larger than {0} bytes")]
    TooLarge(u64),
    #[error("cannot keep the image")]
    Keep(#[source] std::io::Error),
}

/// Fetches `url` into `file`.
pub(super) async fn fetch(url: &str, file: &Path, largest: u64) -> Result<(), MediumError> {
    let result = write(url, file, largest).await;
    if result.is_err() {
        let _ = tokio::fs::remove_file(file).await;
    }
    result
}

async fn write(url: &str, file: &Path, largest: u64) -> Result<(), MediumError> {
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(MediumError::Scheme);
    }
    // Another of this process may have chosen the same already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(PATIENCE)
        .read_timeout(PATIENCE)
        .no_proxy()
        // `VirtualMedia.VerifyCertificate` is false where a BMC has no such property.
        .tls_danger_accept_invalid_certs(true)
        .build()
        .map_err(MediumError::Fetch)?;
    let mut response = client
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(MediumError::Fetch)?;
    if response
        .content_length()
        .is_some_and(|length| length > largest)
    {
        return Err(MediumError::TooLarge(largest));
    }
    let mut output = tokio::fs::File::create(file)
        .await
        .map_err(MediumError::Keep)?;
    let mut seen: u64 = 0;
    while let Some(piece) = response.chunk().await.map_err(MediumError::Fetch)? {
        seen += piece.len() as u64;
        if seen > largest {
            return Err(MediumError::TooLarge(largest));
        }
        output.write_all(&piece).await.map_err(MediumError::Keep)?;
    }
    // A drive's medium is whole sectors.
    let whole = seen.next_multiple_of(2048);
    output.set_len(whole).await.map_err(MediumError::Keep)?;
    output.flush().await.map_err(MediumError::Keep)
}
