//! The site: machines, DHCP, API server, `corten serve`, and a server of images that also hears the guests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use corten_boot::Ticket;
use corten_boot::ramdisk::{self, KernelSource, Profile, RamdiskError};
use corten_boot::token::{Keys, Purpose};
use corten_controlplane::{ControlPlane, Options};
use corten_sim::{Bus, Disk, Fleet, MachineHandle, Network, Qemu, Shape};
use corten_site::{Images, Lldpd, guest};
use corten_tests::netns::{self, BRIDGE, Dhcp, SERVER, Site};
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

/// The probe, as `scripts/ramdisk` builds it.
pub fn probe() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let built = root.join("target/probe/x86_64-unknown-linux-gnu/probe/corten-probe");
    std::env::var_os("CORTEN_PROBE")
        .map(PathBuf::from)
        .or(Some(built))
        .filter(|path| path.exists())
}

/// `corten`, beside the tests.
pub fn corten() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("corten")
}

/// What is missing here for a run with such machines.
pub fn missing(qemu: &Qemu) -> Option<String> {
    netns::missing()
        .or_else(|| qemu.missing())
        .or_else(|| guest::missing().into_iter().next())
        .or_else(guest::missing_for_iso)
        .or_else(|| {
            probe()
                .is_none()
                .then(|| "the probe is not built; scripts/ramdisk builds it".to_owned())
        })
        .or_else(|| (!corten().exists()).then(|| "corten is not built beside the tests".to_owned()))
}

pub fn qemu(machines: usize) -> Qemu {
    Qemu {
        machines,
        memory_mib: 768,
        disks: vec![Disk::new(Bus::Nvme, 128), Disk::new(Bus::Virtio, 64)],
        network: Network::Bridge {
            bridge: BRIDGE.to_owned(),
            namespace: None,
        },
        longest_life: Duration::from_secs(1500),
        pxe: true,
        ..Qemu::default()
    }
}

/// The port of the boot services.
pub const BOOT_PORT: u16 = 8080;

/// Where the probes call over TLS, with [`tls`].
pub const SECURE_PORT: u16 = 8443;

/// Flags of `corten serve`: its probes call over TLS, with a certificate that nobody signed.
pub fn tls(folder: &Path) -> Vec<String> {
    let (cert, key) = (folder.join("tls.pem"), folder.join("tls.key"));
    let identity = rcgen::generate_simple_self_signed([SERVER.to_owned()]).unwrap();
    fs::write(&cert, identity.cert.pem()).unwrap();
    fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
    vec![
        format!("--boot-tls-address={SERVER}:{SECURE_PORT}"),
        format!("--boot-tls-cert={}", cert.display()),
        format!("--boot-tls-key={}", key.display()),
    ]
}

/// What every token begins with: version, purpose, and the first bytes of a time that is not after 2106.
const TOKENS: [&str; 4] = ["AQEAAAA", "AQIAAAA", "AQMAAAA", "AQQAAAA"];

/// The first line that has one of these in it, with which.
fn line_with<'a>(log: &'a str, words: &[&'a str]) -> Option<(&'a str, &'a str)> {
    log.lines().find_map(|line| {
        let word = words.iter().find(|word| line.contains(**word))?;
        Some((*word, line))
    })
}

/// Everything, running.
pub struct Running {
    pub client: Client,
    pub fleet: Fleet,
    pub images: Images,
    pub log: PathBuf,
    /// The machines are at a switch that speaks LLDP.
    pub has_switch: bool,
    begun: Instant,
    _serve: tokio::process::Child,
    _plane: ControlPlane,
}

/// Builds the probe's ramdisk.
pub fn ramdisk(profile: Profile, kernel: KernelSource, out: &Path) -> Result<(), RamdiskError> {
    let begun = Instant::now();
    let index = ramdisk::build(&ramdisk::Options {
        kernel,
        release: None,
        profile,
        probe: probe().unwrap(),
        stub: ramdisk::STUB.into(),
        command_line: ramdisk::COMMAND_LINE.into(),
        time: 0,
        out: out.to_owned(),
    })?;
    println!(
        "ramdisk: {} bytes of EFI program, {:.1} s",
        index.efi.length,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What the site wants of all its servers.
pub fn policy() -> Value {
    json!({
        "apiVersion": "corten.dev/v1alpha1", "kind": "ServerPolicy", "metadata": {"name": "site"},
        "spec": {
            "selector": {}, "discovery": "Both",
            "timeouts": {"shutdownGraceSeconds": 30, "probeSeconds": 600, "eraseSeconds": 900, "writeSeconds": 900},
        },
    })
}

impl Running {
    /// Starts it all inside the namespace of `site`. `methods` says how each machine is declared to boot: none is found by its BMC and boots as
    /// Corten chooses.
    pub async fn start(
        site: &mut Site,
        dhcp: Dhcp,
        qemu: Qemu,
        files: Vec<(&'static str, Vec<u8>)>,
        methods: &[Option<&str>],
    ) -> Self {
        let out = site.folder().join("ramdisk");
        ramdisk(Profile::Virtual, KernelSource::Root("/".into()), &out).unwrap();
        Self::start_with(site, dhcp, qemu, files, methods, &out).await
    }

    /// The same with another ramdisk for the probe.
    pub async fn start_with(
        site: &mut Site,
        dhcp: Dhcp,
        qemu: Qemu,
        files: Vec<(&'static str, Vec<u8>)>,
        methods: &[Option<&str>],
        ramdisk: &Path,
    ) -> Self {
        Self::start_as(site, dhcp, qemu, files, methods, ramdisk, &[]).await
    }

    /// The same with more flags for `corten serve`.
    pub async fn start_as(
        site: &mut Site,
        mut dhcp: Dhcp,
        qemu: Qemu,
        files: Vec<(&'static str, Vec<u8>)>,
        methods: &[Option<&str>],
        ramdisk: &Path,
        more: &[String],
    ) -> Self {
        let begun = Instant::now();
        let folder = site.folder().to_owned();
        let has_switch = Lldpd::missing().is_none();
        if has_switch {
            site.switch();
        }
        let plane = ControlPlane::start(Options::default()).await.unwrap();
        let client = plane.client().unwrap();
        corten_kit::definitions::install(&client, corten_api::crds(), &BTreeMap::new())
            .await
            .unwrap();
        let fleet = Fleet::builder()
            .shape(Shape::Dell)
            .qemu(qemu)
            .start()
            .await
            .unwrap();
        for (number, machine) in fleet.machines().enumerate() {
            if methods.get(number) == Some(&Some("UefiHttp")) {
                let mac = machine.systems()[0].macs[0].clone();
                let url = format!("http://{SERVER}:{BOOT_PORT}/httpboot/boot.efi?mac={mac}");
                dhcp.http_boot.push((mac, url));
            }
        }
        site.dhcp(&dhcp);
        let images = Images::serve(files).await.unwrap();
        let log = folder.join("serve.log");
        let mut running = Self {
            _serve: tokio::process::Command::new(corten())
                .args(["serve", "--log=debug", "--log-format=text", "--kubeconfig"])
                .arg(plane.kubeconfig())
                .args([
                    "--admin-address=127.0.0.1:18081",
                    &format!("--boot-address={SERVER}:{BOOT_PORT}"),
                    &format!("--boot-tftp-address={SERVER}:69"),
                    "--install-crds",
                ])
                .arg(format!("--boot-ramdisk={}", ramdisk.display()))
                .arg(format!("--boot-cache={}", folder.join("cache").display()))
                .args(more)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(&log).unwrap())
                .kill_on_drop(true)
                .spawn()
                .unwrap(),
            client,
            fleet,
            images,
            log,
            has_switch,
            begun,
            _plane: plane,
        };
        running.say("control plane, machines and corten serve run");
        running.namespace("corten-system").await;
        running.namespace("team").await;
        running.apply(policy()).await;
        for (number, machine) in running.fleet.machines().enumerate() {
            let name = format!("m{number}");
            match methods.get(number).copied().flatten() {
                None => running.add_bmc(&name, &machine).await,
                Some(method) => running.declare(&name, &machine, method).await,
            }
        }
        running.begun = begun;
        running
    }

    pub fn say(&self, what: &str) {
        println!("[{:6.1} s] {what}", self.begun.elapsed().as_secs_f64());
    }

    async fn namespace(&self, name: &str) {
        self.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
            .await;
    }

    async fn secret(&self, name: &str) {
        let (user, password) = ("root", "calvin");
        self.apply(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": "corten-system"},
            "stringData": {"username": user, "password": password},
        }))
        .await;
    }

    /// A Server with its BMC inline, so that what is declared of it is there before anything begins.
    async fn declare(&self, name: &str, machine: &MachineHandle, method: &str) {
        self.secret(name).await;
        self.apply(json!({
            "apiVersion": "metal.ironcore.dev/v1alpha1", "kind": "Server",
            "metadata": {
                "name": format!("{name}-system-0"),
                "annotations": {"corten.dev/boot-method": method},
            },
            "spec": {
                "systemUUID": machine.uuid(),
                "bmc": {
                    "address": machine.ip().to_string(),
                    "protocol": {"name": "Redfish", "port": machine.port(), "scheme": machine.scheme()},
                    "secretRef": {"name": name, "namespace": "corten-system"},
                },
            },
        }))
        .await;
    }

    async fn add_bmc(&self, name: &str, machine: &MachineHandle) {
        self.secret(name).await;
        self.apply(json!({
            "apiVersion": "metal.ironcore.dev/v1alpha1", "kind": "BMC", "metadata": {"name": name},
            "spec": {
                "access": {"ip": machine.ip().to_string(), "macAddress": machine.mac().to_string()},
                "protocol": {"name": "Redfish", "port": machine.port(), "scheme": machine.scheme()},
                "secretRef": {"name": name, "namespace": "corten-system"},
            },
        }))
        .await;
    }

    fn api(&self, object: &Value) -> Api<DynamicObject> {
        let version = object["apiVersion"].as_str().unwrap();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
        let resource = match object["kind"].as_str() {
            Some("ServerPolicy") => ApiResource::from_gvk_with_plural(&kind, "serverpolicies"),
            Some("ServerInventory") => {
                ApiResource::from_gvk_with_plural(&kind, "serverinventories")
            }
            _ => ApiResource::from_gvk(&kind),
        };
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    pub async fn apply(&self, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let api = self.api(&object);
        let parameters = PatchParams::apply("e2e").force();
        api.patch(&name, &parameters, &Patch::Apply(&object))
            .await
            .unwrap();
    }

    pub async fn get(
        &self,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Value> {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = namespace.into();
        }
        let found = self.api(&object).get_opt(name).await.unwrap()?;
        Some(serde_json::to_value(found).unwrap())
    }

    pub async fn delete(&self, version: &str, kind: &str, namespace: &str, name: &str) {
        let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}});
        self.api(&object)
            .delete(name, &Default::default())
            .await
            .unwrap();
    }

    pub async fn server(&self, number: usize) -> Value {
        self.get(
            "metal.ironcore.dev/v1alpha1",
            "Server",
            None,
            &format!("m{number}-system-0"),
        )
        .await
        .unwrap_or_default()
    }

    /// Waits until the server satisfies `wanted`; on time-out everything that helps is shown.
    pub async fn until(
        &self,
        what: &str,
        number: usize,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) {
        let begun = Instant::now();
        let mut told = String::new();
        loop {
            let server = self.server(number).await;
            if wanted(&server) {
                self.say(&format!(
                    "m{number}: {what} (after {:.1} s)",
                    begun.elapsed().as_secs_f64()
                ));
                return;
            }
            let now = standing(&server);
            if now != told {
                self.say(&format!("  m{number} {now}"));
                told = now;
            }
            if begun.elapsed() > limit {
                self.show(number).await;
                panic!("{what} did not come");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until the system that machine `number` boots has called to a path below `below`.
    pub async fn called_back(&self, number: usize, below: &str) {
        let begun = Instant::now();
        let uuid = self.fleet.machine(number).systems()[0].uuid.to_string();
        while !self.images.heard(below, &uuid) {
            if begun.elapsed() > Duration::from_secs(360) {
                self.show(number).await;
                panic!("m{number}: its system did not call back to {below}");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The system of a machine restarts by itself, and is there again.
    pub async fn restarts_itself(&self, number: usize, below: &str) {
        let uuid = self.fleet.machine(number).systems()[0].uuid.to_string();
        let (begun, before) = (Instant::now(), self.images.starts(below, &uuid));
        self.images.restart(&uuid);
        while self.images.starts(below, &uuid) == before {
            if begun.elapsed() > Duration::from_secs(360) {
                self.show(number).await;
                panic!("m{number}: its system restarted and did not come back");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn runs(&self, server: &str) -> Vec<Value> {
        let object =
            json!({"apiVersion": "corten.dev/v1alpha1", "kind": "ServerRun", "metadata": {}});
        let all = self.api(&object).list(&Default::default()).await.unwrap();
        let all = all.items.into_iter();
        all.map(|run| serde_json::to_value(run).unwrap())
            .filter(|run| run["spec"]["serverRef"]["name"] == server)
            .collect()
    }

    /// Waits for a run of `server` that `wanted` holds of.
    pub async fn run_with(
        &self,
        server: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let begun = Instant::now();
        loop {
            let runs = self.runs(server).await;
            if let Some(run) = runs.iter().find(|run| wanted(run)) {
                return run.clone();
            }
            assert!(begun.elapsed() < limit, "{what} did not come: {runs:#?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until the probe of `server` was given leave for `step`.
    pub async fn granted(&self, server: &str, step: &str, limit: Duration) {
        self.run_with(server, &format!("leave for {step}"), limit, |run| {
            let open = run["status"]["phase"] == "Running";
            let last = outcome(run, step);
            open && last.as_deref() == Some("Accepted")
        })
        .await;
    }

    /// The run of `server` with `step` that has ended first.
    pub async fn ended(&self, server: &str, step: &str, limit: Duration) -> Value {
        self.run_with(server, &format!("the end of {step}"), limit, |run| {
            let over = !matches!(run["status"]["phase"].as_str(), Some("Running" | "Pending"));
            over && outcome(run, step).is_some()
        })
        .await
    }

    /// Of all that `corten serve` has said, nothing is a login of a BMC, a token or what tokens are signed with, nor one of `more`.
    pub async fn no_secret_in_the_log(&self, more: &[&str]) {
        let log = fs::read_to_string(&self.log).unwrap();
        let found = line_with(&log, &["boot services"]);
        assert!(found.is_some(), "what is there would be found");
        assert!(log.contains("DEBUG"), "it was to say everything");
        let key = self
            .get("v1", "Secret", Some("corten-system"), "corten-boot-key")
            .await
            .unwrap();
        let key = key["data"]["key"].as_str().unwrap();
        // The password, and how it stands in a header beside the user's name.
        let mut secrets = vec!["calvin", "cm9vdDpjYWx2aW4", key];
        secrets.extend(TOKENS);
        secrets.extend(more);
        assert!(secrets.iter().all(|secret| secret.len() > 5));
        if let Some((secret, line)) = line_with(&log, &secrets) {
            panic!("{secret} is in the log: {line}");
        }
        self.say(&format!(
            "none of {} secrets is in the log's {} lines",
            secrets.len(),
            log.lines().count()
        ));
    }

    /// What a person does who has mended something: the failed runs are deleted, and it is tried anew at once.
    pub async fn forget_failures(&self, server: &str) {
        for run in self.runs(server).await {
            if run["status"]["phase"] == "Failed" {
                let name = run["metadata"]["name"].as_str().unwrap();
                self.api(&run)
                    .delete(name, &Default::default())
                    .await
                    .unwrap();
            }
        }
    }

    pub async fn show(&self, number: usize) {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| !line.contains("DEBUG h"))
            .collect();
        for line in &lines[lines.len().saturating_sub(80)..] {
            println!("serve: {line}");
        }
        let console = self.fleet.machine(number).qemu().unwrap().console();
        let lines: Vec<&str> = console.lines().collect();
        for line in &lines[lines.len().saturating_sub(60)..] {
            println!("console: {line}");
        }
        println!(
            "{}",
            serde_json::to_string_pretty(&self.server(number).await["status"]).unwrap()
        );
    }
}

/// What became of a step last.
fn outcome(run: &Value, step: &str) -> Option<String> {
    let results = run["status"]["results"].as_array()?;
    let last = results.iter().rev().find(|result| result["step"] == step)?;
    last["outcome"].as_str().map(str::to_owned)
}

/// State, power and why, in a line.
fn standing(server: &Value) -> String {
    let status = &server["status"];
    let ready = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready");
    format!(
        "{} {} {} {}",
        status["state"].as_str().unwrap_or("-"),
        status["powerState"].as_str().unwrap_or("-"),
        ready.and_then(|c| c["reason"].as_str()).unwrap_or("-"),
        ready.and_then(|c| c["message"].as_str()).unwrap_or("-"),
    )
}

#[test]
fn every_token_is_known_by_how_it_begins_wherever_it_stands_in_a_log() {
    let keys = Keys::new([[7; 32]]).unwrap();
    let ticket = Ticket {
        server: "m0-system-0".to_owned(),
        server_uid: "6f1c1d6e-5a0b-4c3e-9b39-8b7f6f1f2a10".to_owned(),
        nonce: "n".to_owned(),
    };
    let end = Some(jiff::Timestamp::from_second(4_000_000_000).unwrap());
    let purposes = [
        Purpose::Boot,
        Purpose::UserData,
        Purpose::Probe,
        Purpose::Operator,
    ];
    for (purpose, end) in purposes.into_iter().flat_map(|p| [(p, None), (p, end)]) {
        let token = keys.sign(&ticket, purpose, end).unwrap();
        let log = format!("first\nGET /boot/{}/boot.efi\nlast", token.expose());
        assert!(line_with(&log, &TOKENS).is_some(), "{}", token.expose());
    }
    assert_eq!(line_with("first\nGET /boot/…/boot.efi", &TOKENS), None);
}
