//! The whole life of servers, each booted in another way.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use corten_boot::ramdisk::{KernelSource, Profile};
use corten_site::{Images, Lldpd, Registry, SERVER, guest};
use corten_tests::netns::{self, Dhcp};
use corten_tests::skip;
use serde_json::{Value, json};

use super::site::{self, Running};

const METAL: &str = "metal.ironcore.dev/v1alpha1";

/// What stands in a tenant's user data and nowhere else.
pub const USER_DATA: [&str; 2] = ["phone_home", ":8090/called"];
/// What stands in the ignition of one machine and nowhere else.
const IGNITION: &str = "ignition-of-one-machine";

fn holds_marker(disk: &Path) -> bool {
    guest::is_marked(disk).unwrap()
}

/// By an address that the BMC is told, by DHCP with TFTP and iPXE, and by a virtual drive; and one that loses its power twice. Side by side.
#[test]
fn servers_are_seen_from_inside_installed_given_back_and_proved_clean_however_they_boot() {
    if let Some(reason) = site::missing(&site::qemu(1)) {
        skip!("{reason}");
    }
    if let Some(reason) = Lldpd::missing() {
        println!("skipped: which switch a machine is at: {reason}");
    }
    let registry = Registry::missing();
    if let Some(reason) = &registry {
        println!("skipped: an image from a registry, and its ignition: {reason}");
    }
    let name = "e2e::life::servers_are_seen_from_inside_installed_given_back_and_proved_clean_however_they_boot";
    let Some(mut site) = netns::enter(name, Duration::from_secs(1800)) else {
        return;
    };
    let mut files = guest::diskless(&Images::url("diskless")).unwrap();
    files.push(("disk.raw.gz", guest::disk(site.folder()).unwrap()));
    let iso = guest::iso(site.folder(), &Images::url("diskless")).unwrap();
    files.push(("live.iso", iso));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let methods = [
            None,
            Some("Network"),
            Some("VirtualMedia"),
            Some("UefiHttp"),
        ];
        let dhcp = Dhcp::pxe(site::BOOT_PORT);
        let ramdisk = site.folder().join("ramdisk");
        site::ramdisk(Profile::Virtual, KernelSource::Root("/".into()), &ramdisk).unwrap();
        let image = match registry {
            None => Some(Pushed::of(&files, site.folder()).await),
            Some(_) => None,
        };
        let mut more = site::tls(site.folder());
        more.push(format!("--insecure-registry={}", Registry::host()));
        let qemu = site::qemu(4);
        let run = Running::start_as(&mut site, dhcp, qemu, files, &methods, &ramdisk, &more).await;
        let media = run.fleet.machine(2);
        media.record(true);
        let both = async |n: usize| {
            life(&run, n).await;
            diskless(&run, n, image.as_ref().filter(|_| n == 0)).await;
        };
        tokio::join!(both(0), life(&run, 1), both(2), outages(&run, 3));
        let secure = format!("the registry is at https://{SERVER}:{}", site::SECURE_PORT);
        for (n, machine) in run.fleet.machines().enumerate() {
            let console = machine.qemu().unwrap().console();
            let probes = console.matches("the registry is at ").count();
            let over_tls = console.matches(&secure).count();
            assert!(
                over_tls > 0 && over_tls == probes,
                "m{n}: {over_tls} of {probes}"
            );
            run.say(&format!(
                "m{n}: {over_tls} probes called, all of them over TLS"
            ));
        }
        let console = run.fleet.machine(1).qemu().unwrap().console();
        assert!(console.contains("iPXE"), "it came by PXE and iPXE");
        let journal = media.journal();
        let count = |word: &str| journal.iter().filter(|line| line.contains(word)).count();
        // For discovery, for installation, for the image without a disk, and for both cleanings; nothing is left in the drive.
        assert_eq!(count("VirtualMedia.InsertMedia"), 5, "{journal:#?}");
        assert_eq!(count("VirtualMedia.EjectMedia"), 5, "{journal:#?}");
        let login = Registry::login();
        let mut secrets = vec![IGNITION, Registry::PASSWORD, &login];
        secrets.extend(USER_DATA);
        run.no_secret_in_the_log(&secrets).await;
    });
}

/// Power is lost in the middle of writing an image, and again in the middle of cleaning. Neither is taken for done; both are done again.
async fn outages(run: &Running, n: usize) {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let (server, claim) = (format!("m{n}-system-0"), format!("web{n}"));
    let machine = run.fleet.machine(n);
    let disks = machine.qemu().unwrap().disks();
    run.until("Available, seen from inside", n, minutes(10), |s| {
        s["status"]["state"] == "Available"
    })
    .await;
    fs::write(&disks[1].path, guest::marked(64 << 20)).unwrap();
    user_data(run, &claim).await;
    run.apply(json!({
        "apiVersion": METAL, "kind": "ServerClaim",
        "metadata": {"name": claim, "namespace": "team", "annotations": {
            "corten.dev/root-device-hints": json!({"serialNumber": disks[0].serial}).to_string(),
        }},
        "spec": {
            "serverRef": {"name": server}, "power": "On",
            "image": Images::url("image/disk.raw.gz"),
            "userDataRef": {"name": claim},
        },
    }))
    .await;
    run.granted(&server, "ProbeWrite", minutes(10)).await;
    // Two MiB of the image are on the drive, and the rest is not.
    until_drive(&disks[0].path, 2 << 20, |bytes| {
        bytes.iter().any(|b| *b != 0)
    })
    .await;
    machine.qemu().unwrap().cut_power();
    run.say(&format!(
        "m{n}: its power is cut while the image is written"
    ));
    let failed = run.ended(&server, "ProbeWrite", minutes(5)).await;
    assert_eq!(failed["status"]["phase"], "Failed", "{failed:#}");
    let seen = run.server(n).await;
    assert!(
        seen["metadata"]["annotations"]["corten.dev/provisioned"].is_null(),
        "a half-written image was taken for done: {seen:#}"
    );
    assert!(
        failed["status"].to_string().contains("lost power"),
        "{failed:#}"
    );
    let half = fs::read(&disks[0].path).unwrap();
    assert!(
        half[..1 << 20].iter().all(|byte| *byte == 0),
        "a half-written drive has a partition table"
    );
    run.until("installed, the second time", n, minutes(15), |s| {
        s["metadata"]["annotations"]["corten.dev/provisioned"].is_string()
    })
    .await;

    run.called_back(n, "/called/").await;
    run.say(&format!("m{n}: what was written the second time runs"));

    run.delete(METAL, "ServerClaim", "team", &claim).await;
    run.granted(&server, "ProbeErase", minutes(10)).await;
    // The first of the tenant's bytes are gone; nothing was read back yet.
    until_drive(&disks[1].path, 0, |bytes| bytes.iter().all(|b| *b == 0)).await;
    machine.qemu().unwrap().cut_power();
    run.say(&format!("m{n}: its power is cut while it is cleaned"));
    let failed = run.ended(&server, "ProbeErase", minutes(5)).await;
    assert_eq!(failed["status"]["phase"], "Failed", "{failed:#}");
    let seen = run.server(n).await;
    assert!(
        seen["metadata"]["annotations"]["corten.dev/dirty"].is_string()
            && seen["status"]["state"] == "Cleanup",
        "a half-cleaned machine was taken for clean: {seen:#}"
    );
    assert!(
        failed["status"].to_string().contains("lost power"),
        "{failed:#}"
    );
    run.until("clean at the second try", n, minutes(15), |s| {
        s["status"]["state"] == "Available"
            && s["metadata"]["annotations"]["corten.dev/dirty"].is_null()
    })
    .await;
    for disk in &disks {
        assert!(!holds_marker(&disk.path), "{} is not clean", disk.serial);
    }
}

/// Waits until 4 KiB at `offset` of the drive are as `wanted`.
pub async fn until_drive(path: &Path, offset: u64, wanted: impl Fn(&[u8]) -> bool) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::open(path).unwrap();
    let begun = Instant::now();
    let mut bytes = [0; 4096];
    loop {
        file.read_exact_at(&mut bytes, offset).unwrap();
        if wanted(&bytes) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "nothing happens to {}",
            path.display()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// User data that tells the guest whom to call.
pub async fn user_data(run: &Running, name: &str) {
    let callback = Images::url("called");
    run.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "metal.ironcore.dev/user-data",
        "metadata": {"name": name, "namespace": "team"},
        "stringData": {"user-data": format!("#cloud-config\nphone_home: {callback} \n")},
    }))
    .await;
}

/// An image in a registry that wants a login.
struct Pushed {
    reference: String,
    _registry: Registry,
}

// === impl Pushed ===

impl Pushed {
    /// The kernel and the ramdisk of `files`, in the original's layout: nothing in it says how the kernel is started.
    async fn of(files: &[(&str, Vec<u8>)], folder: &Path) -> Self {
        let registry = Registry::start(folder).await.unwrap();
        let file = |wanted| &files.iter().find(|(name, _)| *name == wanted).unwrap().1[..];
        let layers = [
            ("application/vnd.ironcore.image.kernel", file("kernel")),
            ("application/vnd.ironcore.image.initramfs", file("initrd")),
        ];
        Self {
            reference: registry.push("site/guest", &layers).await.unwrap(),
            _registry: registry,
        }
    }

    /// `claim` asks for this image with the registry's login, and for an ignition of its own.
    async fn with_ignition(&self, run: &Running, claim: &mut Value) {
        let auths = json!({"auths": {Registry::host(): {
            "username": Registry::USER, "password": Registry::PASSWORD,
        }}});
        run.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": "registry", "namespace": "team"},
            "stringData": {".dockerconfigjson": auths.to_string()},
        }))
        .await;
        run.apply(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "ignition", "namespace": "team"},
            "stringData": {"ignition": guest::ignition(&Images::url(IGNITION))},
        }))
        .await;
        claim["metadata"]["annotations"]["corten.dev/image-pull-secret"] = "registry".into();
        claim["spec"]["image"] = self.reference.as_str().into();
        claim["spec"]["ignitionSecretRef"] = json!({"name": "ignition"});
    }
}

/// An image without a disk: a kernel with its ramdisk, which is made into the EFI file that the method takes, or an ISO image, which is booted as it is.
/// The machine has not booted it before it has fetched it.
/// From a registry, it is told by its ignition alone whom to call.
async fn diskless(run: &Running, n: usize, pushed: Option<&Pushed>) {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let (server, claim) = (format!("m{n}-system-0"), format!("live{n}"));
    let (image, expected) = if n == 2 {
        ("live.iso", "VirtualMedia")
    } else {
        ("manifest.json", "HttpBootUri")
    };
    let mut wanted = json!({
        "apiVersion": METAL, "kind": "ServerClaim",
        "metadata": {"name": claim, "namespace": "team", "annotations": {"corten.dev/boot-mode": "diskless"}},
        "spec": {
            "serverRef": {"name": server}, "power": "On",
            "image": Images::url(&format!("image/{image}")),
        },
    });
    let mut below = "/diskless/".to_owned();
    if let Some(pushed) = pushed {
        pushed.with_ignition(run, &mut wanted).await;
        below = format!("/{IGNITION}/");
    }
    run.apply(wanted).await;
    run.until("its image without a disk is booted", n, minutes(8), |s| {
        s["metadata"]["annotations"]["corten.dev/provisioned"].is_string()
    })
    .await;
    run.called_back(n, &below).await;
    run.say(&format!(
        "m{n}: the system without a disk runs, and calls to {below}"
    ));
    let machine = run.fleet.machine(n);
    assert_eq!(machine.boot_override().0, "Continuous");
    run.restarts_itself(n, &below).await;
    run.say(&format!("m{n}: it restarted by itself, and runs again"));
    let boot = run
        .get(METAL, "ServerBootConfiguration", Some("team"), &claim)
        .await
        .unwrap();
    let conditions = boot["status"]["conditions"].as_array().unwrap();
    let method = conditions.iter().find(|c| c["type"] == "BootMethod");
    assert_eq!(method.unwrap()["reason"], expected, "{boot:#}");
    run.delete(METAL, "ServerClaim", "team", &claim).await;
    run.until("in Cleanup", n, minutes(3), |s| {
        s["status"]["state"] == "Cleanup"
    })
    .await;
    assert_ne!(machine.boot_override().0, "Continuous");
    run.until("clean again, without its image", n, minutes(12), |s| {
        s["status"]["state"] == "Available"
            && s["metadata"]["annotations"]["corten.dev/dirty"].is_null()
    })
    .await;
}

/// What a tenant leaves on a drive behind the image: all of it up to the config drive, which reaches to the backup of the partition table.
fn mark_the_rest(drive: &Path) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::options().read(true).write(true).open(drive);
    let file = file.unwrap();
    // The partitions' entries: 128 bytes each, with the first block at byte 32.
    let mut entries = [0; 128 * 128];
    file.read_exact_at(&mut entries, 1024).unwrap();
    let firsts = entries.chunks(128).map(|entry| {
        let block = u64::from_le_bytes(entry[32..40].try_into().unwrap());
        usize::try_from(block * 512).unwrap()
    });
    let behind: Vec<_> = firsts.filter(|first| *first >= guest::LENGTH).collect();
    let [config_drive] = behind[..] else {
        panic!("behind the image is the config drive alone: {behind:?}");
    };
    let rest = guest::marked(config_drive - guest::LENGTH);
    file.write_all_at(&rest, guest::LENGTH as u64).unwrap();
}

pub async fn life(run: &Running, n: usize) {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let (server, claim) = (format!("m{n}-system-0"), format!("web{n}"));
    run.until("Available, seen from inside", n, minutes(10), |s| {
        s["status"]["state"] == "Available"
    })
    .await;
    let inventory = run
        .get("corten.dev/v1alpha1", "ServerInventory", None, &server)
        .await
        .unwrap();
    let inside = &inventory["status"]["inBand"];
    let machine = run.fleet.machine(n);
    let disks = machine.qemu().unwrap().disks();
    if inside.is_null() {
        run.show(n).await;
    }
    let seen: Vec<_> = inside["storage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|drive| drive["serial"].as_str().unwrap_or_default().to_owned())
        .collect();
    for disk in &disks {
        assert!(
            seen.contains(&disk.serial),
            "{} is not among {seen:?}",
            disk.serial
        );
    }
    let nics = run.server(n).await["status"]["networkInterfaces"].clone();
    assert!(
        nics.to_string().contains("10.77.0."),
        "the address that the probe had is shown: {nics}"
    );

    if run.has_switch {
        let nics = nics.to_string();
        assert!(
            nics.contains(Lldpd::NAME) && nics.contains(&format!("ctap{n}.0")),
            "the switch and its port are shown: {nics}"
        );
    }

    // What a tenant leaves on the disk that is not installed to.
    fs::write(&disks[1].path, guest::marked(64 << 20)).unwrap();
    user_data(run, &claim).await;
    run.apply(json!({
        "apiVersion": METAL, "kind": "ServerClaim",
        "metadata": {"name": claim, "namespace": "team", "annotations": {
            "corten.dev/root-device-hints": json!({"serialNumber": disks[0].serial}).to_string(),
        }},
        "spec": {
            "serverRef": {"name": server},
            "power": "On", "image": Images::url("image/disk.raw.gz"),
            "userDataRef": {"name": claim},
        },
    }))
    .await;
    run.until("installed", n, minutes(12), |s| {
        s["metadata"]["annotations"]["corten.dev/provisioned"].is_string()
    })
    .await;
    run.called_back(n, "/called/").await;
    run.say(&format!(
        "m{n}: the installed system runs from its disk and has applied its user data"
    ));
    mark_the_rest(&disks[0].path);
    assert!(holds_marker(&disks[0].path) && holds_marker(&disks[1].path));

    run.delete(METAL, "ServerClaim", "team", &claim).await;
    run.until("clean and Available again", n, minutes(15), |s| {
        s["status"]["state"] == "Available"
            && s["metadata"]["annotations"]["corten.dev/dirty"].is_null()
    })
    .await;
    for disk in &disks {
        assert!(
            !holds_marker(&disk.path),
            "{} still holds what the tenant wrote",
            disk.serial
        );
    }
    run.say(&format!("m{n}: no byte of the tenant's is on either disk"));
}
