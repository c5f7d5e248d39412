//! Our client against a service that is not ours: sushy-tools' emulator with its fake driver, which most CI systems of
//! the field use as a BMC. It has no sessions (Basic it is), no `Links` in its root, and HTTP/1.0.

use corten_redfish::inventory::PowerState;
use corten_redfish::model::{Service, System};
use corten_redfish::operations::boot::{self, BootDuration, BootOverride, BootTarget};
use corten_redfish::operations::media::{self, MediaKind, MediaSlot};
use corten_redfish::operations::power::{self, ResetKind};
use corten_redfish::{
    Bmc, Credentials, Gateway, GatewayConfig, GatewayError, Priority, Target, Trust,
};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use url::Url;

const USER: &str = "admin";
const PASSWORD: &str = "fake-password";

/// The emulator, stopped on drop; its state is in a folder that goes with it.
struct Emulator {
    url: Url,
    _process: Child,
    _folder: tempfile::TempDir,
}

/// The folder of the virtualenv's programs, or why there is none.
async fn programs() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/venv");
    let made = Command::new(script)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| format!("scripts/venv does not run: {error}"))?;
    if made.status.success() {
        Ok(PathBuf::from(String::from_utf8_lossy(&made.stdout).trim()))
    } else {
        Err(String::from_utf8_lossy(&made.stderr).trim().to_owned())
    }
}

impl Emulator {
    async fn start(programs: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hash = format!(
            "import bcrypt; print('{USER}:' + bcrypt.hashpw(b'{PASSWORD}', bcrypt.gensalt(4)).decode())"
        );
        let users = Command::new(programs.join("python"))
            .args(["-c", &hash])
            .output()
            .await
            .unwrap();
        let htpasswd = folder.path().join("htpasswd");
        std::fs::write(&htpasswd, users.stdout).unwrap();
        let config = folder.path().join("emulator.conf");
        let text = format!(
            "SUSHY_EMULATOR_AUTH_FILE = {:?}\n",
            htpasswd.display().to_string()
        );
        std::fs::write(&config, text).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = Command::new(programs.join("sushy-emulator"))
            .args([
                "--fake",
                "--interface",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--config",
            ])
            .arg(&config)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}").parse().unwrap();
        Self {
            url,
            _process: process,
            _folder: folder,
        }
    }

    fn bmc(&self, gateway: &Gateway, password: &str) -> Bmc {
        gateway.bmc(Target {
            name: "sushy".to_owned(),
            url: self.url.clone(),
            credentials: Credentials::new(USER, password),
            trust: Trust::Plain,
        })
    }

    /// Until it listens.
    async fn ready(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let host = (
                self.url.host_str().unwrap().to_owned(),
                self.url.port().unwrap(),
            );
            match tokio::net::TcpStream::connect(host).await {
                Ok(_) => return,
                Err(error) => assert!(
                    Instant::now() < until,
                    "the emulator does not start: {error}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Reads the system again until it is as wanted.
async fn until(service: &Service, system: &System, wanted: impl Fn(&System) -> bool) -> System {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = service.refresh(system, Priority::Control).await.unwrap();
        if wanted(&now) {
            return now;
        }
        assert!(Instant::now() < deadline, "{:?}", now.document());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An image to insert: the emulator fetches it.
async fn image() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/boot.iso", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 2048]).await;
            let body = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 4\r\nConnection: close\r\n\r\nboot";
            let _ = stream.write_all(body.as_bytes()).await;
        }
    });
    (url, serving)
}

async fn slot(service: &Service, system: &System, path: Option<&str>) -> MediaSlot {
    let slots = media::list(service, system).await.unwrap();
    match path {
        None => media::choose(&slots, MediaKind::Cd).unwrap().clone(),
        Some(path) => slots.into_iter().find(|slot| slot.path() == path).unwrap(),
    }
}

#[tokio::test]
async fn sushys_emulator_is_driven_through_power_boot_and_virtual_media() {
    let programs = match programs().await {
        Ok(programs) => programs,
        Err(reason) => corten_tests::skip!("{reason}"),
    };
    let emulator = Emulator::start(&programs).await;
    emulator.ready().await;

    // A wrong password costs one failed login, under Basic too.
    let stranger = Gateway::new(GatewayConfig::default());
    let bmc = emulator.bmc(&stranger, "wrong");
    let service = Service::open(&bmc).await.unwrap();
    assert!(matches!(
        service.systems().await,
        Err(GatewayError::AuthFailed { .. })
    ));
    assert!(matches!(
        service.systems().await,
        Err(GatewayError::LoginHeld { .. })
    ));

    let gateway = Gateway::new(GatewayConfig::default());
    let service = Service::open(&emulator.bmc(&gateway, PASSWORD))
        .await
        .unwrap();
    let systems = service.systems().await.unwrap();
    assert_eq!(systems.len(), 1);
    let system = until(&service, &systems[0], |system| {
        system.power_state() == Some(PowerState::Off)
    })
    .await;
    assert!(system.facts().uuid.is_some());
    let inventory = service.inventory(&system).await.unwrap();
    assert_eq!(
        inventory.system.manufacturer.as_deref(),
        Some("Sushy Emulator")
    );
    assert!(!service.manager_facts().await.unwrap().is_empty());

    // Boot device.
    for (target, duration, name) in [
        (BootTarget::Pxe, BootDuration::Once, "Pxe"),
        (BootTarget::Cd, BootDuration::Continuous, "Cd"),
    ] {
        let wanted = BootOverride::Enabled {
            target,
            duration,
            mode: None,
        };
        let system = service.refresh(&system, Priority::Control).await.unwrap();
        boot::prepare(&service, &system, &wanted)
            .await
            .unwrap()
            .send(&service)
            .await
            .unwrap();
        // Whatever was set, the emulator says Continuous: only the target can be compared.
        let shown = |system: &System| {
            let boot = system.document().root().object("Boot");
            boot.text("BootSourceOverrideTarget")
        };
        until(&service, &system, |system| {
            shown(system).as_deref() == Some(name)
        })
        .await;
    }

    // Virtual media.
    let (url, _serving) = image().await;
    let cd = slot(&service, &system, None).await;
    media::insert(&cd, None, service.product(), &url)
        .unwrap()
        .send(&service)
        .await
        .unwrap();
    let inserted = slot(&service, &system, Some(cd.path())).await;
    assert!(inserted.is_inserted(), "{inserted:?}");
    assert_eq!(inserted.image().as_deref(), Some(url.as_str()));
    media::eject(&inserted)
        .unwrap()
        .send(&service)
        .await
        .unwrap();
    assert!(!slot(&service, &system, Some(cd.path())).await.is_inserted());

    // Power.
    for (kind, state) in [
        (ResetKind::On, PowerState::On),
        (ResetKind::ForceRestart, PowerState::On),
        (ResetKind::ForceOff, PowerState::Off),
    ] {
        let system = service.refresh(&system, Priority::Power).await.unwrap();
        power::prepare(&service, &system, kind)
            .await
            .unwrap()
            .send(&service)
            .await
            .unwrap();
        until(&service, &system, |system| {
            system.power_state() == Some(state.clone())
        })
        .await;
    }
    let counters = gateway.counters();
    assert_eq!(
        (counters.logins, counters.logins_refused, counters.silences),
        (1, 0, 0)
    );
    gateway.close().await;
}
