//! Against real sockets on loopback.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use corten_wire::{Hello, Progress, Registration, Report, Task, Verdict, Welcome};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::links::name;
use crate::piece::Piece;
use crate::service::{Config, bind};
use crate::token::{Keys, Token};
use crate::windows::{Window, Windows};
use crate::{Caller, Refusal, Target, UserData};

mod bounds;

const UUID: &str = "4c4c4544-0042-3510-8053-b4c04f583132";
pub(crate) const MAC: &str = "52:54:00:00:00:01";
pub(crate) const SIZE: usize = 3_000_000;

/// More than the kernel buffers for a connection.
const LARGE: usize = 64 * 1024 * 1024;

#[derive(Default)]
pub(crate) struct TestDesk {
    pub(crate) windows: Windows,
    registered: Mutex<Vec<String>>,
    booted: Mutex<Vec<Option<String>>>,
    local: bool,
    image: bool,
    fetched: Mutex<Vec<Result<(), String>>>,
    /// How often it was asked what a boot boots.
    asked: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl Desk for TestDesk {
    async fn admit(&self, caller: &Caller) -> Result<Ticket, Refusal> {
        self.windows.admit(caller, jiff::Timestamp::now())
    }
    async fn target(&self, ticket: &Ticket) -> Result<Target, Refusal> {
        self.asked
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match ticket.nonce.as_str() {
            "over" => Err(Refusal::NotDue("that boot is over".into())),
            "standby" => Err(Refusal::NotNow("standby".into())),
            _ if self.local => Ok(Target::LocalDisk),
            _ if self.image => Ok(Target::Image {
                reference: "http://images.test/a".into(),
                digest: "d".into(),
            }),
            _ => Ok(Target::Probe),
        }
    }
    async fn fetched(&self, _: &Ticket, served: Result<(), String>) -> Result<(), Refusal> {
        self.fetched.lock().push(served);
        Ok(())
    }
    async fn user_data(&self, ticket: &Ticket) -> Result<UserData, Refusal> {
        self.target(ticket).await?;
        Ok(UserData {
            ignition: Some("{\"ignition\":{\"version\":\"3.4.0\"}}".into()),
            user_data: Some("#cloud-config\n".into()),
            meta_data: "instance-id: i-1\nlocal-hostname: node1\n".into(),
            network_config: None,
        })
    }
    async fn hello(&self, _: &Ticket, hello: &Hello) -> Result<Welcome, Refusal> {
        if hello.machine.system_uuid != UUID {
            return Err(Refusal::NotDue("another machine".into()));
        }
        Ok(Welcome {
            task: Task::Wait,
            again_seconds: 5,
        })
    }
    async fn progress(&self, _: &Ticket, _: &Progress) -> Result<Verdict, Refusal> {
        Ok(Verdict::Continue)
    }
    async fn report(&self, _: &Ticket, _: &Report) -> Result<(), Refusal> {
        Err(Refusal::Conflict("no such grant".into()))
    }
    async fn register(&self, _: &Ticket, registration: &Registration) -> Result<(), Refusal> {
        if registration.system_uuid != UUID {
            return Err(Refusal::NotDue("another machine".into()));
        }
        self.registered
            .lock()
            .push(registration.system_uuid.clone());
        Ok(())
    }
    async fn booted(&self, _: &Ticket, system_uuid: Option<&str>) -> Result<(), Refusal> {
        self.booted.lock().push(system_uuid.map(Into::into));
        Ok(())
    }
}

struct TestArtefacts {
    file: tempfile::NamedTempFile,
}

#[async_trait]
impl Artefacts for TestArtefacts {
    async fn bootable(&self, boot: Boot<'_>) -> Result<Bootable, Refusal> {
        Ok(Bootable::Linux {
            kernel: name::KERNEL.into(),
            initrds: vec![name::INITRD.into()],
            command_line: boot.links.probe_command_line(),
        })
    }
    async fn open(
        &self,
        _: Boot<'_>,
        name: &str,
        data: Option<&UserData>,
    ) -> Result<Artefact, Refusal> {
        let pieces = match name {
            name::KERNEL | name::EFI => vec![Piece::File {
                path: self.file.path().into(),
                offset: 0,
                length: SIZE as u64,
            }],
            name::IMAGE => vec![Piece::Zeros(LARGE as u64)],
            name::CONFIG_DRIVE => vec![Piece::Bytes(
                data.map(|data| data.meta_data.clone()).unwrap_or_default(),
            )],
            _ => return Err(Refusal::Nothing("no such artefact".into())),
        };
        Ok(Artefact {
            pieces,
            etag: "digest".into(),
            media_type: "application/octet-stream",
            modified: None,
        })
    }
}

pub(crate) fn data() -> Vec<u8> {
    (0..SIZE as u32).map(|n| (n % 253) as u8).collect()
}

struct Running {
    address: SocketAddr,
    desk: Arc<TestDesk>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    http: reqwest::Client,
}

fn keys() -> Keys {
    Keys::new([[9u8; 32]]).unwrap()
}

fn ticket() -> Ticket {
    Ticket {
        server: "node1".into(),
        server_uid: "uid-1".into(),
        nonce: "run-1".into(),
    }
}

pub(crate) fn token(purpose: Purpose) -> Token {
    keys().sign(&ticket(), purpose, None).unwrap()
}

/// Services without a server, for TFTP.
pub(crate) fn services() -> (Arc<Services>, Arc<TestDesk>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&data()).unwrap();
    let desk = Arc::new(TestDesk::default());
    let address = PublicAddress {
        base: "http://boot.test".parse().unwrap(),
        registry: None,
    };
    (
        Arc::new(Services::new(
            address,
            KeyRing::new(keys()),
            desk.clone(),
            Arc::new(TestArtefacts { file }),
            vec![],
            Limits::default(),
        )),
        desk,
    )
}

async fn start(desk: TestDesk, limits: Limits) -> Running {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&data()).unwrap();
    let desk = Arc::new(desk);
    let config = Config {
        http: "127.0.0.1:0".parse().unwrap(),
        https: None,
        public: PublicAddress {
            base: "http://boot.test".parse().unwrap(),
            registry: None,
        },
        keys: KeyRing::new(keys()),
        forwarders: vec![],
        limits,
    };
    let bound = bind(config, desk.clone(), Arc::new(TestArtefacts { file }))
        .await
        .unwrap();
    let (address, shutdown) = (bound.http, CancellationToken::new());
    let task = tokio::spawn(bound.run(shutdown.clone()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    Running {
        address,
        desk,
        shutdown,
        task,
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
    }
}

impl Running {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
    fn boot(&self, name: &str) -> String {
        self.url(&format!("/boot/{}/{name}", token(Purpose::Boot).expose()))
    }
    fn data(&self, name: &str) -> String {
        self.url(&format!(
            "/boot/{}/{name}",
            token(Purpose::UserData).expose()
        ))
    }
    async fn get(&self, url: String) -> (u16, String) {
        let response = self.http.get(url).send().await.unwrap();
        (
            response.status().as_u16(),
            String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned(),
        )
    }
    async fn post(
        &self,
        path: &str,
        purpose: Purpose,
        body: impl Into<reqwest::Body>,
    ) -> (u16, String) {
        let response = self
            .http
            .post(self.url(path))
            .bearer_auth(token(purpose).expose())
            .body(body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

#[tokio::test]
async fn an_image_counts_as_fetched_when_it_is_sent_and_not_when_it_is_asked_for() {
    let desk = TestDesk {
        image: true,
        ..TestDesk::default()
    };
    let server = start(desk, Limits::default()).await;
    let told = || std::mem::take(&mut *server.desk.fetched.lock());
    let head = server.http.head(server.boot("boot.efi")).send().await;
    assert_eq!(head.unwrap().status(), 200);
    assert_eq!(server.get(server.boot("boot.ipxe")).await.0, 200);
    assert_eq!(told(), []);

    assert_eq!(server.get(server.boot("boot.iso")).await.0, 404);
    let why = "boot.iso: nothing there: no such artefact".to_owned();
    assert_eq!(told(), [Err(why)]);

    for _ in 0..3 {
        assert_eq!(server.get(server.boot("boot.efi")).await.0, 200);
    }
    assert_eq!(told(), [Ok(())]);
}

pub(crate) fn window() -> Window {
    Window {
        ticket: ticket(),
        system_uuid: Some(UUID.into()),
        macs: [MAC.to_owned()].into(),
        addresses: BTreeSet::new(),
        until: jiff::Timestamp::now() + jiff::SignedDuration::from_mins(5),
        renewable: false,
    }
}

#[tokio::test]
async fn an_artefact_comes_whole_in_parts_and_not_again() {
    let server = start(TestDesk::default(), Limits::default()).await;
    let whole = server.http.get(server.boot("kernel")).send().await.unwrap();
    assert_eq!(whole.headers()["etag"], "\"digest\"");
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    assert!(whole.bytes().await.unwrap() == data());

    let part = server
        .http
        .get(server.boot("kernel"))
        .header("range", "bytes=1000000-1999999")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(
        part.headers()["content-range"],
        format!("bytes 1000000-1999999/{SIZE}")
    );
    assert!(part.bytes().await.unwrap() == data()[1_000_000..2_000_000]);

    let stale = server
        .http
        .get(server.boot("kernel"))
        .header("range", "bytes=5-")
        .header("if-range", "\"old\"")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (stale.status().as_u16(), stale.content_length()),
        (200, Some(SIZE as u64))
    );
    let known = server
        .http
        .get(server.boot("kernel"))
        .header("if-none-match", "\"digest\"")
        .send()
        .await
        .unwrap();
    assert_eq!(known.status(), 304);
    let beyond = server
        .http
        .get(server.boot("kernel"))
        .header("range", format!("bytes={SIZE}-"))
        .send()
        .await
        .unwrap();
    assert_eq!(beyond.status(), 416);
    assert_eq!(beyond.headers()["content-range"], format!("bytes */{SIZE}"));

    let head = server
        .http
        .head(server.boot("boot.efi"))
        .send()
        .await
        .unwrap();
    assert_eq!(head.headers()["content-length"], SIZE.to_string());
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_bmc_that_reads_in_many_pieces_costs_one_decision_and_a_refusal_is_asked_again_after_a_moment()
 {
    let server = start(TestDesk::default(), Limits::default()).await;
    for start in 0..50 {
        let part = server
            .http
            .get(server.boot("kernel"))
            .header("range", format!("bytes={start}-{start}"))
            .send()
            .await
            .unwrap();
        assert_eq!(part.status(), 206);
    }
    let asked = || server.desk.asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!(asked() < 5, "{}", asked());
    let over = Ticket {
        nonce: "over".into(),
        ..ticket()
    };
    let over = keys().sign(&over, Purpose::Boot, None).unwrap();
    let before = asked();
    for round in 1..3 {
        for _ in 0..20 {
            let url = server.url(&format!("/boot/{}/kernel", over.expose()));
            assert_eq!(server.get(url).await.0, 403);
        }
        assert!(
            asked() >= before + round && asked() < before + 20,
            "{}",
            asked()
        );
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
}

#[tokio::test]
async fn without_the_right_token_there_is_nothing() {
    let server = start(TestDesk::default(), Limits::default()).await;
    let foreign = Keys::new([[8u8; 32]])
        .unwrap()
        .sign(&ticket(), Purpose::Boot, None)
        .unwrap();
    let expired = keys()
        .sign(
            &ticket(),
            Purpose::Boot,
            Some(jiff::Timestamp::from_second(1).unwrap()),
        )
        .unwrap();
    for bad in [
        foreign.expose(),
        expired.expose(),
        "x",
        token(Purpose::UserData).expose(),
    ] {
        assert_eq!(
            server.get(server.url(&format!("/boot/{bad}/kernel"))).await,
            (403, "token".into())
        );
    }
    assert_eq!(
        server.get(server.boot("ignition")).await,
        (403, "token".into()),
        "a BMC's token does not open user data"
    );
    assert_eq!(server.get(server.boot("config-drive.iso")).await.0, 403);
    assert_eq!(server.get(server.boot("../../../etc/passwd")).await.0, 404);
    assert_eq!(
        server.get(server.boot("..%2f..%2fetc%2fpasswd")).await,
        (404, "nothing".into())
    );
    assert_eq!(
        server.get(server.url("/v1/user-data")).await,
        (403, "refused".into())
    );
    for (nonce, expected) in [
        ("over", (403, "refused".to_owned())),
        ("standby", (503, "later".to_owned())),
    ] {
        let token = keys()
            .sign(
                &Ticket {
                    nonce: nonce.into(),
                    ..ticket()
                },
                Purpose::Boot,
                None,
            )
            .unwrap();
        assert_eq!(
            server
                .get(server.url(&format!("/boot/{}/kernel", token.expose())))
                .await,
            expected
        );
    }
}

#[tokio::test]
async fn user_data_comes_by_ignition_nocloud_and_metadata() {
    let server = start(TestDesk::default(), Limits::default()).await;
    assert!(
        server
            .get(server.data("ignition"))
            .await
            .1
            .contains("3.4.0")
    );
    assert_eq!(
        server.get(server.data("cloud-init/meta-data")).await.1,
        "instance-id: i-1\nlocal-hostname: node1\n"
    );
    assert_eq!(
        server.get(server.data("cloud-init/user-data")).await.1,
        "#cloud-config\n"
    );
    assert_eq!(
        server.get(server.data("cloud-init/vendor-data")).await,
        (200, String::new())
    );
    assert_eq!(
        server.get(server.data("cloud-init/network-config")).await.0,
        404
    );
    assert_eq!(
        server.get(server.data("v1/local-hostname")).await.1,
        "node1"
    );
    assert_eq!(
        server.get(server.data("v1/user-data")).await.1,
        "#cloud-config\n"
    );
    assert_eq!(
        server.get(server.data("latest/meta-data/hostname")).await.1,
        "node1"
    );
    assert_eq!(
        server.get(server.data("latest/user-data")).await.1,
        "#cloud-config\n"
    );
    assert_eq!(server.get(server.data("config-drive.iso")).await.0, 200);
}

#[tokio::test]
async fn a_machine_gets_its_script_once_and_then_goes_to_its_disk() {
    let server = start(TestDesk::default(), Limits::default()).await;
    let first = server.get(server.url("/ipxe")).await;
    assert!(
        first.1.starts_with("#!ipxe\n") && first.1.contains("http://boot.test/ipxe/${uuid}?mac=")
    );
    let ask = server.url(&format!("/ipxe/{UUID}?mac=52-54-00-00-00-01&platform=efi"));
    assert_eq!(
        server.get(ask.clone()).await,
        (403, "refused".into()),
        "no window is open"
    );
    server.desk.windows.open(window());
    assert_eq!(
        server
            .get(server.url(&format!("/ipxe/{UUID}?mac=52-54-00-00-00-02")))
            .await
            .0,
        403
    );
    assert_eq!(
        server
            .get(server.url(&format!("/ipxe/{UUID}?mac=rubbish")))
            .await,
        (400, "malformed".into())
    );
    let script = server.get(ask.clone()).await.1;
    assert!(script.contains("kernel http://boot.test/boot/") && script.contains("corten.token="));
    let again = server.get(ask).await;
    assert_eq!(again, (200, crate::ipxe::exit()));
}

#[tokio::test]
async fn firmware_that_was_let_in_may_ask_for_the_size_and_then_for_the_file() {
    let server = start(TestDesk::default(), Limits::default()).await;
    server.desk.windows.open(window());
    let url = server.url(&format!("/httpboot/boot.efi?mac={MAC}"));
    let head = server.http.head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], SIZE.to_string());
    assert!(
        server
            .http
            .get(&url)
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
            == data()
    );
    let other = server.url(&format!("/httpboot?mac={MAC}&uuid={UUID}"));
    assert_eq!(
        server.get(other.clone()).await.0,
        409,
        "the window has let in one"
    );
    server.desk.windows.open(Window {
        ticket: Ticket {
            nonce: "run-2".into(),
            ..ticket()
        },
        ..window()
    });
    let (status, json) = server.get(other).await;
    assert!(
        status == 200
            && json.contains("\"UKIURL\":\"http://boot.test/boot/")
            && json.contains(UUID),
        "{json}"
    );
}

#[tokio::test]
async fn firmware_that_comes_again_for_its_next_boot_is_not_held_to_the_one_that_is_over() {
    let server = start(TestDesk::default(), Limits::default()).await;
    let url = server.url(&format!("/httpboot?mac={MAC}"));
    for (nonce, status) in [("over", 403), ("run-2", 200)] {
        server.desk.windows.open(Window {
            ticket: Ticket {
                nonce: nonce.into(),
                ..ticket()
            },
            ..window()
        });
        assert_eq!(server.get(url.clone()).await.0, status, "{nonce}");
    }
}

#[tokio::test]
async fn a_boot_from_the_disk_finds_no_file() {
    let server = start(
        TestDesk {
            local: true,
            ..TestDesk::default()
        },
        Limits::default(),
    )
    .await;
    assert_eq!(
        server.get(server.boot("boot.efi")).await,
        (404, "nothing".into())
    );
    assert_eq!(
        server.get(server.boot("boot.ipxe")).await.1,
        crate::ipxe::exit()
    );
    assert_eq!(server.get(server.boot("grub.cfg")).await.1, "exit 1\n");
}

#[tokio::test]
async fn a_probe_speaks_for_its_own_machine_only() {
    let server = start(TestDesk::default(), Limits::default()).await;
    let body = |uuid: &str| format!("{{\"systemUUID\":\"{uuid}\",\"data\":{{}}}}");
    assert_eq!(
        server
            .post("/register", Purpose::Probe, body(&UUID.to_uppercase()))
            .await
            .0,
        201
    );
    assert_eq!(*server.desk.registered.lock(), [UUID]);
    assert_eq!(
        server
            .post(
                "/register",
                Purpose::Probe,
                body("4c4c4544-0042-3510-8053-b4c04f583199")
            )
            .await,
        (403, "refused".into())
    );
    assert_eq!(
        server.post("/register", Purpose::Boot, body(UUID)).await,
        (403, "token".into())
    );
    assert_eq!(
        server.post("/register", Purpose::Probe, "{").await,
        (400, "malformed".into())
    );
    let none = server
        .http
        .post(server.url("/register"))
        .body(body(UUID))
        .send()
        .await
        .unwrap();
    assert_eq!(none.status(), 401);
    let hello = format!("{{\"machine\":{{\"systemUUID\":\"{UUID}\"}}}}");
    assert_eq!(
        server
            .post("/probe/v1/hello", Purpose::Probe, hello)
            .await
            .0,
        200
    );
    assert_eq!(
        server.post("/probe/v1/hello", Purpose::Probe, "{}").await.0,
        403
    );
    assert_eq!(
        server.post("/probe/v1/report", Purpose::Probe, "{}").await,
        (409, "conflict".into())
    );
    assert_eq!(
        server
            .post(
                "/bootstate",
                Purpose::UserData,
                format!("{{\"systemUUID\":\"{UUID}\",\"booted\":true}}")
            )
            .await
            .0,
        200
    );
    assert_eq!(*server.desk.booted.lock(), [Some(UUID.to_owned())]);
}

#[tokio::test]
async fn a_probe_s_token_from_another_machine_s_address_registers_and_takes_nothing() {
    let server = start(TestDesk::default(), Limits::default()).await;
    let client = |address: &str| {
        let address = address.parse::<std::net::IpAddr>().unwrap();
        let client = reqwest::Client::builder().no_proxy().local_address(address);
        client.build().unwrap()
    };
    let hello = format!("{{\"machine\":{{\"systemUUID\":\"{UUID}\"}}}}");
    let register = format!("{{\"systemUUID\":\"{UUID}\",\"data\":{{}}}}");
    let post = async |from: &str, path: &str, body: &str| {
        let request = client(from).post(server.url(path)).body(body.to_owned());
        let token = token(Purpose::Probe);
        let answer = request.bearer_auth(token.expose()).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(post("127.0.0.1", "/probe/v1/hello", &hello).await, 200);
    assert_eq!(post("127.0.0.2", "/probe/v1/hello", &hello).await, 429);
    assert_eq!(post("127.0.0.2", "/register", &register).await, 429);
    assert!(server.desk.registered.lock().is_empty());
    assert_eq!(post("127.0.0.1", "/register", &register).await, 201);
}

#[tokio::test]
async fn the_original_s_probe_registers_by_the_token_in_its_url() {
    let server = start(TestDesk::default(), Limits::default()).await;
    let post = async |token: &str, uuid: &str| {
        let url = server.url(&format!("/registry/{token}/register"));
        let body = format!("{{\"systemUUID\":\"{uuid}\",\"data\":{{}}}}");
        let answer = server.http.post(url).body(body).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(post(token(Purpose::Probe).expose(), UUID).await, 201);
    assert_eq!(*server.desk.registered.lock(), [UUID]);
    let other = "4c4c4544-0042-3510-8053-b4c04f583199";
    assert_eq!(post(token(Purpose::Probe).expose(), other).await, 403);
    assert_eq!(post(token(Purpose::Boot).expose(), UUID).await, 403);
    assert_eq!(post("x", UUID).await, 403);
    assert_eq!(*server.desk.registered.lock(), [UUID]);
}

#[tokio::test]
async fn the_original_s_reading_of_the_registry_wants_an_operator_s_token() {
    let server = start(TestDesk::default(), Limits::default()).await;
    let ask = async |purpose| {
        server
            .http
            .get(server.url(&format!("/systems/{UUID}")))
            .bearer_auth(token(purpose).expose())
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(ask(Purpose::Probe).await, 403);
    assert_eq!(ask(Purpose::Operator).await, 404);
}

#[tokio::test]
async fn a_token_that_turns_up_elsewhere_is_refused() {
    let seats = registry::Seats::default();
    let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let start = Instant::now();
    assert!(seats.sit(&ticket(), one, start).is_ok());
    let refused = seats.sit(&ticket(), other, start).unwrap_err();
    assert!(matches!(refused, Refused::Elsewhere));
    // The machine itself may have another address now: its probe does not give up its work for it.
    assert_eq!(refused.told().0.as_u16(), 429);
    assert!(
        seats
            .sit(&ticket(), other, start + Duration::from_secs(121))
            .is_ok()
    );
}

#[tokio::test]
async fn the_same_is_served_over_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![made.cert.der().clone()], key)
    .unwrap();
    let config = Config {
        http: "127.0.0.1:0".parse().unwrap(),
        https: Some(("127.0.0.1:0".parse().unwrap(), Arc::new(tls))),
        public: PublicAddress {
            base: "http://boot.test".parse().unwrap(),
            registry: None,
        },
        keys: KeyRing::new(keys()),
        forwarders: vec![],
        limits: Limits::default(),
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&data()).unwrap();
    let bound = bind(
        config,
        Arc::new(TestDesk::default()),
        Arc::new(TestArtefacts { file }),
    )
    .await
    .unwrap();
    let https = bound.https.unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(bound.run(shutdown.clone()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_der(made.cert.der()).unwrap()])
        .build()
        .unwrap();
    let url = format!(
        "https://localhost:{}/boot/{}/kernel",
        https.port(),
        token(Purpose::Boot).expose()
    );
    let bytes: Bytes = client.get(url).send().await.unwrap().bytes().await.unwrap();
    assert!(bytes == data());
    shutdown.cancel();
    task.await.unwrap();
}
