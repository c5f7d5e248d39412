//! Against a small registry and file server on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as Incoming, State};
use axum::response::Response;
use base64::Engine as _;

use super::*;
use crate::cache::CacheError;
use crate::ramdisk::index::sha256;
use crate::uki::{pe, tests::small_pe};

/// What the server has, and what it saw.
#[derive(Default)]
struct Site {
    files: HashMap<String, Vec<u8>>,
    /// Paths that lead to another place.
    redirects: HashMap<String, String>,
    /// Wants this login, by Bearer, for everything below `/v2/`.
    login: Option<&'static str>,
    leaked: AtomicUsize,
    served: AtomicUsize,
}

async fn answer(State(site): State<Arc<Site>>, request: Incoming) -> Response {
    let path = request.uri().path().to_owned();
    let said = request
        .headers()
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    let host = request.headers()["host"].to_str().unwrap();
    let reply = |status: u16| Response::builder().status(status);
    if path == "/token" {
        let wanted = site.login.map(|login| {
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(login)
            )
        });
        return if said == wanted {
            reply(200).body(r#"{"token":"t0"}"#.into())
        } else {
            reply(401).body(Body::empty())
        }
        .unwrap();
    }
    if path.starts_with("/v2/") && site.login.is_some() && said.as_deref() != Some("Bearer t0") {
        let challenge = format!(
            r#"Bearer realm="http://{host}/token",service="here",scope="repository:os:pull""#
        );
        return reply(401)
            .header("www-authenticate", challenge)
            .body(Body::empty())
            .unwrap();
    }
    if !path.starts_with("/v2/") && said.is_some() {
        site.leaked.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(to) = site.redirects.get(&path) {
        return reply(307)
            .header("location", to)
            .body(Body::empty())
            .unwrap();
    }
    site.served.fetch_add(1, Ordering::Relaxed);
    match site.files.get(&path) {
        Some(bytes) => reply(200).body(bytes.clone().into()).unwrap(),
        None if path.contains("broken") => reply(503).body(Body::empty()).unwrap(),
        None => reply(404).body(Body::empty()).unwrap(),
    }
}

/// Where the servers of tests are.
pub(crate) fn loopback() -> Networks {
    Networks::only(vec!["127.0.0.0/8".parse().unwrap()])
}

/// One file at `/file`.
pub(crate) async fn serve_file(bytes: Vec<u8>) -> ::url::Url {
    let mut site = Site::default();
    site.files.insert("/file".into(), bytes);
    let (host, _) = serve(site).await;
    format!("http://{host}/file").parse().unwrap()
}

async fn serve(site: Site) -> (String, Arc<Site>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let site = Arc::new(site);
    let app = Router::new().fallback(answer).with_state(site.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (host, site)
}

fn images(host: &str) -> (tempfile::TempDir, Images) {
    let folder = tempfile::tempdir().unwrap();
    let images = reopened(&folder, &[host]);
    (folder, images)
}

/// As after a restart.
fn reopened(folder: &tempfile::TempDir, insecure: &[&str]) -> Images {
    within(folder, insecure, loopback())
}

/// A client's, which nobody's certificate satisfies.
pub(crate) fn tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

fn within(folder: &tempfile::TempDir, insecure: &[&str], networks: Networks) -> Images {
    let cache = Arc::new(Cache::open(folder.path(), 1 << 20).unwrap());
    let options = Options {
        insecure: insecure.iter().map(|host| (*host).to_owned()).collect(),
        networks,
        ..Options::default()
    };
    Images::new(cache, tls(), options).unwrap()
}

const KERNEL: &str = "application/vnd.ironcore.image.kernel";
const INITRD: &str = "application/vnd.ironcore.image.initramfs";

fn layer(site: &mut Site, media_type: &str, bytes: &[u8]) -> String {
    let digest = sha256(bytes);
    site.files
        .insert(format!("/v2/os/blobs/sha256:{digest}"), bytes.to_vec());
    format!(
        r#"{{"mediaType":"{media_type}","digest":"sha256:{digest}","size":{}}}"#,
        bytes.len()
    )
}

/// An image with an index; the kernel's blob path.
fn image(site: &mut Site, kernel: &[u8]) -> String {
    let layers = [
        layer(site, KERNEL, kernel),
        layer(site, INITRD, b"initrd"),
        layer(site, "text/plain", b"notes"),
    ]
    .join(",");
    let manifest = format!(r#"{{"layers":[{layers}]}}"#);
    let digest = sha256(manifest.as_bytes());
    let index = format!(
        r#"{{"manifests":[{{"mediaType":"m","digest":"sha256:{digest}","size":{},"platform":{{"architecture":"amd64","os":"linux"}}}}]}}"#,
        manifest.len()
    );
    site.files
        .insert(format!("/v2/os/manifests/sha256:{digest}"), manifest.into());
    site.files.insert("/v2/os/manifests/1".into(), index.into());
    format!("/v2/os/blobs/sha256:{}", sha256(kernel))
}

async fn pull(
    images: &Images,
    host: &str,
    architecture: &str,
    credentials: Option<&Credentials>,
) -> Result<Resolved, ImageError> {
    let reference = Reference::Oci {
        registry: host.into(),
        repository: "os".into(),
        reference: "1".into(),
    };
    images
        .resolve(&Request {
            reference: &reference,
            architecture,
            credentials,
            sha256: None,
        })
        .await
}

async fn load(
    images: &Images,
    host: &str,
    path: &str,
    sha256: Option<&str>,
) -> Result<Resolved, ImageError> {
    let reference = Reference::Url(::url::Url::parse(&format!("http://{host}{path}")).unwrap());
    images
        .resolve(&Request {
            reference: &reference,
            architecture: "amd64",
            credentials: None,
            sha256,
        })
        .await
}

#[tokio::test]
async fn nothing_is_asked_of_an_address_that_images_may_not_come_from() {
    let mut secret = Site::default();
    secret.files.insert("/secret".into(), b"secret".to_vec());
    let (place, asked) = serve(secret).await;
    let (_, port) = place.rsplit_once(':').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let images = within(&folder, &[], Networks::default());
    for host in [&place, &format!("localhost:{port}")] {
        let came = load(&images, host, "/secret", None).await;
        assert!(matches!(came, Err(ImageError::NotAllowed(_))), "{came:?}");
    }

    let mut site = Site::default();
    site.redirects
        .insert("/away".into(), format!("http://127.0.0.2:{port}/secret"));
    let (host, _) = serve(site).await;
    let only = Networks::only(vec!["127.0.0.1/32".parse().unwrap()]);
    let came = load(&within(&folder, &[], only), &host, "/away", None).await;
    assert!(matches!(came, Err(ImageError::NotAllowed(_))), "{came:?}");
    assert_eq!(asked.served.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_private_image_is_pulled_with_its_login_which_no_other_host_sees() {
    let kernel = small_pe(pe::AMD64, 0);
    let mut other = Site::default();
    other.files.insert("/store".into(), kernel.clone());
    let (elsewhere, other) = serve(other).await;
    let mut site = Site {
        login: Some("me:secret"),
        ..Site::default()
    };
    let blob = image(&mut site, &kernel);
    site.redirects
        .insert(blob, format!("http://{elsewhere}/store"));
    let (host, _) = serve(site).await;
    let (_folder, images) = images(&host);

    assert!(matches!(
        pull(&images, &host, "amd64", None).await,
        Err(ImageError::Login(_))
    ));
    let json = format!(
        r#"{{"auths":{{"http://{host}/v1/":{{"auth":"{}"}}}}}}"#,
        base64::engine::general_purpose::STANDARD.encode("me:secret")
    );
    let credentials = Credentials::read(json.as_bytes()).unwrap();
    assert!(!format!("{credentials:?}").contains("secret"));
    let resolved = pull(&images, &host, "amd64", Some(&credentials))
        .await
        .unwrap();
    assert_eq!(resolved.kind, resolved::Kind::Linux);
    assert_eq!(resolved.parts.len(), 2);
    assert_eq!(images.get(&resolved.digest), Some(resolved));
    assert_eq!(
        (
            other.served.load(Ordering::Relaxed),
            other.leaked.load(Ordering::Relaxed)
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn knowing_the_digest_of_a_private_file_does_not_open_it() {
    let kernel = small_pe(pe::AMD64, 0);
    let mut site = Site {
        login: Some("me:secret"),
        ..Site::default()
    };
    let blob = image(&mut site, &kernel);
    site.files.insert("/liar".into(), b"anything".to_vec());
    // A repository of the thief's own, whose manifest names layers that were never pushed to it.
    let mut thief = Site::default();
    image(&mut thief, &kernel);
    thief
        .files
        .retain(|path, _| path.starts_with("/v2/os/manifests/"));
    let (theirs, _) = serve(thief).await;
    let (host, _) = serve(site).await;
    let (folder, images) = images(&host);
    let json = format!(
        r#"{{"auths":{{"{host}":{{"auth":"{}"}}}}}}"#,
        base64::engine::general_purpose::STANDARD.encode("me:secret")
    );
    let credentials = Credentials::read(json.as_bytes()).unwrap();
    pull(&images, &host, "amd64", Some(&credentials))
        .await
        .unwrap();

    for images in [&images, &reopened(&folder, &[&host, &theirs])] {
        let digest = sha256(&kernel);
        // The place that has it does not give it to whoever has no login, and another place has to have it itself.
        assert!(matches!(
            load(images, &host, &blob, Some(&digest)).await,
            Err(ImageError::Login(_))
        ));
        assert!(matches!(
            load(images, &host, "/liar", Some(&digest)).await,
            Err(ImageError::Cache(CacheError::Mismatch { .. }))
        ));
    }
    let images = reopened(&folder, &[&host, &theirs]);
    assert!(matches!(
        pull(&images, &theirs, "amd64", None).await,
        Err(ImageError::Missing(_))
    ));
    // Its owner, who has proved it, is served without a second download.
    let file = folder.path().join(sha256(&kernel));
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap());
    let before = inode();
    pull(&images, &host, "amd64", Some(&credentials))
        .await
        .unwrap();
    assert_eq!(inode(), before);
}

#[tokio::test]
async fn a_blob_of_another_digest_or_cut_short_is_never_kept() {
    for change in [
        |bytes: &mut Vec<u8>| bytes[3] ^= 1,
        |bytes: &mut Vec<u8>| bytes.truncate(9),
    ] {
        let mut site = Site::default();
        let blob = image(&mut site, &small_pe(pe::AMD64, 0));
        change(site.files.get_mut(&blob).unwrap());
        let (host, _) = serve(site).await;
        let (folder, images) = images(&host);
        let error = pull(&images, &host, "amd64", None).await.unwrap_err();
        assert!(
            matches!(error, ImageError::Cache(CacheError::Mismatch { .. })),
            "{error:?}"
        );
        assert!(!error.retry_helps());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn another_architecture_is_named_whether_the_index_or_the_kernel_says_it() {
    let mut site = Site::default();
    image(&mut site, &small_pe(pe::ARM64, 0));
    let (host, _) = serve(site).await;
    let (_folder, images) = images(&host);
    assert!(
        matches!(pull(&images, &host, "arm64", None).await, Err(ImageError::Architecture { found, .. }) if found == "amd64")
    );
    assert!(
        matches!(pull(&images, &host, "amd64", None).await, Err(ImageError::Architecture { found, .. }) if found == "arm64")
    );
}

#[tokio::test]
async fn a_file_is_what_its_first_bytes_say_and_only_with_its_digest() {
    let mut site = Site::default();
    let efi = small_pe(pe::AMD64, 0);
    site.files.insert(
        "/x.iso".into(),
        crate::iso::tests::bytes(&efi)[..200_000].to_vec(),
    );
    site.files.insert("/x.efi".into(), efi.clone());
    site.files
        .insert("/disk.zst".into(), vec![0x28, 0xb5, 0x2f, 0xfd, 0]);
    site.files.insert("/text".into(), b"hello".to_vec());
    let manifest = format!(
        "kernel: {{url: x.efi, sha256: {}}}\ninitrd: {{url: text, sha256: {}}}\ncmdline: quiet\n",
        sha256(&efi),
        sha256(b"hello")
    );
    site.files.insert("/m.yaml".into(), manifest.into());
    let (host, _) = serve(site).await;
    let (_folder, images) = images(&host);
    for (path, kind) in [
        ("/x.efi", resolved::Kind::Efi),
        ("/x.iso", resolved::Kind::Iso),
        ("/disk.zst", resolved::Kind::Disk),
        ("/m.yaml", resolved::Kind::Linux),
    ] {
        assert_eq!(
            load(&images, &host, path, None).await.unwrap().kind,
            kind,
            "{path}"
        );
    }
    assert!(matches!(
        load(&images, &host, "/text", None).await,
        Err(ImageError::NotBootable(_))
    ));
    assert!(matches!(
        load(&images, &host, "/text", Some(&sha256(b"x"))).await,
        Err(ImageError::Cache(CacheError::Mismatch { .. }))
    ));
    assert!(matches!(
        load(&images, &host, "/none", None).await,
        Err(ImageError::Missing(_))
    ));
    let broken = load(&images, &host, "/broken", None).await.unwrap_err();
    assert!(broken.retry_helps(), "{broken:?}");
    let down = load(&images, "127.0.0.1:1", "/x", None).await.unwrap_err();
    assert!(down.retry_helps(), "{down:?}");
}
