use super::*;
use crate::{CaBundle, Fingerprint, TlsFailure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn bundle(&self) -> CaBundle {
        CaBundle::from_pem(self.0.pem().as_bytes()).unwrap()
    }

    fn issue(&self, params: CertificateParams) -> (Arc<rustls::ServerConfig>, Fingerprint) {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        server_config(cert.der().clone(), &key)
    }
}

type Shown = (Arc<rustls::ServerConfig>, Fingerprint);
type Expected = fn(&TlsFailure) -> bool;

fn named(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

fn self_signed() -> (Arc<rustls::ServerConfig>, Fingerprint) {
    let key = KeyPair::generate().unwrap();
    let cert = named(&["bmc.example"]).self_signed(&key).unwrap();
    server_config(cert.der().clone(), &key)
}

fn server_config(
    cert: CertificateDer<'static>,
    key: &KeyPair,
) -> (Arc<rustls::ServerConfig>, Fingerprint) {
    let fingerprint = Fingerprint::of(&cert);
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    (Arc::new(config), fingerprint)
}

fn secure(server: &Server, trust: Trust) -> Target {
    Target {
        trust,
        ..target(server)
    }
}

fn failure(error: GatewayError) -> TlsFailure {
    match error {
        GatewayError::TlsFailed { failure, .. } => failure,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn on_first_use_the_certificate_is_looked_at_and_no_credential_is_sent() {
    let (tls, presented) = self_signed();
    let server = Server::conforming_over(tls).await;
    let gateway = gateway();
    let bmc = gateway.bmc(secure(&server, Trust::FirstUse));
    assert_eq!(bmc.observed_pin(), None);
    bmc.service_root().await.unwrap();
    assert_eq!(bmc.observed_pin(), Some(presented));
    let error = bmc.get(SYSTEM, Priority::Control).await.unwrap_err();
    assert_eq!(error.presented_pin(), Some(presented));
    assert_eq!(failure(error), TlsFailure::NotTrustedYet { presented });
    assert!(
        server
            .received()
            .iter()
            .all(|request| request.path == "/redfish/v1/")
    );
    // Recorded by the caller, and only then trusted.
    gateway.bmc(secure(&server, Trust::Pinned(presented)));
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    // One handshake: the connection that showed the certificate is the one that is used.
    assert_eq!(bmc.counters().connections, 1);
}

#[tokio::test]
async fn what_was_opened_on_first_use_is_not_kept_for_another_pin() {
    let (tls, presented) = self_signed();
    let server = Server::conforming_over(tls).await;
    let gateway = gateway();
    let bmc = gateway.bmc(secure(&server, Trust::FirstUse));
    bmc.service_root().await.unwrap();
    let pinned = Fingerprint::of(b"another one");
    gateway.bmc(secure(&server, Trust::Pinned(pinned)));
    let error = bmc.get(SYSTEM, Priority::Control).await.unwrap_err();
    assert_eq!(
        failure(error),
        TlsFailure::PinMismatch { pinned, presented }
    );
    assert!(server.received().iter().all(|r| r.path == "/redfish/v1/"));
}

#[tokio::test]
async fn a_changed_certificate_is_refused_before_anything_is_sent_and_both_are_named() {
    let ((tls, presented), pinned) = (self_signed(), Fingerprint::of(b"the old one"));
    let server = Server::conforming_over(tls).await;
    let bmc = gateway().bmc(secure(&server, Trust::Pinned(pinned)));
    let error = bmc.get(SYSTEM, Priority::Control).await.unwrap_err();
    assert!(
        error.to_string().contains(&pinned.to_string())
            && error.to_string().contains(&presented.to_string())
    );
    assert_eq!(error.reason(), "TLSFailed");
    assert_eq!(
        failure(error),
        TlsFailure::PinMismatch { pinned, presented }
    );
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_changed_certificate_that_chains_to_the_ca_is_a_renewed_one() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (tls, presented) = authority.issue(named(&["127.0.0.1"]));
    let server = Server::conforming_over(tls).await;
    let pinned = Fingerprint::of(b"the old one");
    let gateway = gateway();
    let bmc = gateway.bmc(secure(
        &server,
        Trust::PinnedOrCa(pinned, stranger.bundle()),
    ));
    assert!(matches!(
        failure(bmc.service_root().await.unwrap_err()),
        TlsFailure::PinMismatch { .. }
    ));
    gateway.bmc(secure(
        &server,
        Trust::PinnedOrCa(pinned, authority.bundle()),
    ));
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    assert_eq!(bmc.observed_pin(), Some(presented));
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_apart() {
    let authority = Authority::new();
    let mut expired = named(&["127.0.0.1"]);
    expired.not_before = rcgen::date_time_ymd(2001, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let cases: Vec<(Shown, Expected, &str)> = vec![
        (
            authority.issue(named(&["bmc-7.example"])),
            |f| matches!(f, TlsFailure::NameMismatch { .. }),
            "bmc-7.example",
        ),
        (
            authority.issue(expired),
            |f| matches!(f, TlsFailure::Expired { .. }),
            "expired",
        ),
        (
            Authority::new().issue(named(&["127.0.0.1"])),
            |f| matches!(f, TlsFailure::UnknownIssuer { .. }),
            "CA",
        ),
    ];
    for ((tls, presented), expected, word) in cases {
        let server = Server::conforming_over(tls).await;
        let bmc = gateway().bmc(secure(&server, Trust::Ca(authority.bundle())));
        let failure = failure(bmc.get(SYSTEM, Priority::Control).await.unwrap_err());
        assert!(
            expected(&failure) && failure.to_string().contains(word),
            "{failure}"
        );
        assert_eq!(failure.presented(), Some(presented));
        assert!(server.received().is_empty());
    }
}

#[tokio::test]
async fn a_ca_signed_certificate_with_the_right_name_is_trusted() {
    let authority = Authority::new();
    let server = Server::conforming_over(authority.issue(named(&["127.0.0.1"])).0).await;
    let bmc = gateway().bmc(secure(&server, Trust::Ca(authority.bundle())));
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
}

#[tokio::test]
async fn unverified_tls_and_plain_http_only_by_an_explicit_choice() {
    let server = Server::conforming_over(self_signed().0).await;
    gateway()
        .bmc(secure(&server, Trust::Insecure))
        .get(SYSTEM, Priority::Control)
        .await
        .unwrap();
    let plain = Server::conforming().await;
    let pinned = Trust::Pinned(Fingerprint::of(b""));
    for trust in [Trust::Insecure, Trust::FirstUse, pinned] {
        let error = gateway()
            .bmc(secure(&plain, trust))
            .service_root()
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "InvalidAddress", "{error}");
    }
    let error = gateway()
        .bmc(secure(&server, Trust::Plain))
        .service_root()
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "InvalidAddress", "{error}");
    assert_eq!(plain.connections(), 0);
}

#[tokio::test]
async fn a_port_that_does_not_speak_tls_says_so() {
    let plain = Server::start(|_| Answer::Cut).await;
    let url = format!("https://127.0.0.1:{}", plain.port).parse().unwrap();
    let bmc = Gateway::new(config()).bmc(Target {
        url,
        ..secure(&plain, Trust::Insecure)
    });
    let error = bmc.service_root().await.unwrap_err();
    // It hangs reading our handshake as a request, or closes: silence, or a failed handshake, never a login.
    assert!(matches!(error.reason(), "TLSFailed" | "Timeout"), "{error}");
}

#[tokio::test]
async fn no_credential_appears_in_any_debug_or_error_text() {
    let server =
        mostly_conforming(|request| (request.method == "PATCH").then(|| Answer::status(500))).await;
    let gateway = gateway();
    let target = target(&server);
    let bmc = gateway.bmc(target.clone());
    bmc.get(SYSTEM, Priority::Control).await.unwrap();
    let error = bmc
        .patch(SYSTEM, &json!({}), IfMatch::Auto, Priority::Control)
        .await
        .unwrap_err();
    let reply = bmc.post("/x", &json!({}), Priority::Control).await.unwrap();
    let shown = format!(
        "{gateway:?} {target:?} {bmc:?} {:?} {error:?} {error} {reply:?}",
        bmc.peer()
    );
    for secret in [PASSWORD, "token-1", "cm9vdDpjYWx2aW4tc2VjcmV0"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
