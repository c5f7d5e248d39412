//! The play with a real firmware: QEMU machines that boot the probe, get an image, run it, and are erased for certain.

mod progress;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use corten_api::corten::{ServerInventory, ServerPolicy, ServerRun, StepOutcome};
use corten_api::metal::{Bmc, Server, ServerClaim, ServerState};
use corten_api::names;
use corten_sim::{Bus, Disk, Fleet, MachineHandle, Network, Qemu, QemuHandle, Shape};
use corten_site::{BRIDGE, Dhcp, Dnsmasq, Images, Lldpd, SERVER, guest};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::json;

use self::progress::Goal;
use super::Args;
use super::cluster::{NAMESPACE, labels, selector};
use super::site::Site;
use super::stage::Stage;
use super::view;

/// How machines are declared to boot, in turn; none: as Corten chooses, which is by the address that it tells the BMC.
const METHODS: [Option<&str>; 3] = [None, Some("VirtualMedia"), Some("Network")];
const BOOT_PORT: u16 = 8080;
const IMAGE: &str = "disk.raw.gz";
/// Each is many times what it takes on two cores without KVM; beyond it something is wrong.
const AVAILABLE_WITHIN: Duration = Duration::from_secs(900);
const INSTALLED_WITHIN: Duration = Duration::from_secs(900);
const CALLED_WITHIN: Duration = Duration::from_secs(480);
const CLEAN_WITHIN: Duration = Duration::from_secs(1200);

/// What the machines are, with their files in `folder`.
pub fn machines(args: &Args, folder: &Path) -> Qemu {
    Qemu {
        machines: args.machines(),
        memory_mib: 768,
        disks: vec![Disk::new(Bus::Nvme, 128), Disk::new(Bus::Virtio, 64)],
        network: Network::Bridge {
            bridge: BRIDGE.to_owned(),
            namespace: None,
        },
        directory: Some(folder.join("machines")),
        pxe: true,
        longest_life: Duration::from_secs(24 * 3600),
        ..Qemu::default()
    }
}

/// From nothing to machines that run their images, and with --once back again. Without, it ends only with an error: Ctrl-C drops it.
pub async fn play(stage: &mut Stage, site: &Site) -> anyhow::Result<()> {
    let begun = Instant::now();
    let qemu = machines(&stage.args, &site.folder);
    let fleet = Fleet::builder().shape(Shape::Dell).tls(true).qemu(qemu);
    let fleet = fleet.start().await.context("the machines")?;
    stage.story.reached(
        format!("machines: {} QEMU (without KVM) with UEFI firmware and two drives each, a simulated BMC before each", fleet.len()),
        begun,
    );
    stage.fleet = Some(fleet);

    let begun = Instant::now();
    let folder = site.folder.clone();
    let disk = tokio::task::spawn_blocking(move || guest::disk(&folder))
        .await?
        .context("the image to install")?;
    stage.story.reached(
        format!(
            "a disk image to install: a small Linux, {:.1} MiB packed",
            disk.len() as f64 / f64::from(1 << 20)
        ),
        begun,
    );
    let images = Images::serve(vec![(IMAGE, disk)]).await?;
    let _dhcp = Dnsmasq::start(&Dhcp::pxe(BOOT_PORT), &site.folder)?;
    // Without one the machines listen for a switch half a minute long, and hear none.
    let has_switch = Lldpd::missing().is_none();
    let _switch = has_switch.then(|| Lldpd::start(&site.folder)).transpose()?;
    stage
        .story
        .say("dnsmasq is the site's DHCP; a web server has the image");

    stage.cluster.install().await?;
    stage.apply_probing_policy().await?;
    stage.start_serve(boot_flags(stage, site)?).await?;
    stage.introduce().await?;
    stage.discovered().await?;
    stage.install(&images).await?;
    if stage.args.once {
        stage.erase().await?;
        return stage.summary().await;
    }
    stage.how_to_look_inside(site);
    stage.stay().await
}

fn boot_flags(stage: &Stage, site: &Site) -> anyhow::Result<Vec<String>> {
    let ramdisk: &PathBuf = stage.args.ramdisk.as_ref().context("no ramdisk")?;
    Ok(vec![
        format!("--boot-address={SERVER}:{BOOT_PORT}"),
        format!("--boot-tftp-address={SERVER}:69"),
        format!("--boot-ramdisk={}", ramdisk.display()),
        format!("--boot-cache={}", site.folder.join("cache").display()),
    ])
}

/// `m0` for the first machine.
fn name(number: usize) -> String {
    format!("m{number}")
}

/// The Server of a machine.
fn server_name(number: usize) -> String {
    format!("{}-system-0", name(number))
}

// === impl Stage ===

impl Stage {
    /// Discovery from inside too; nothing but what was read back counts as erased.
    async fn apply_probing_policy(&self) -> anyhow::Result<()> {
        let policy: ServerPolicy = serde_json::from_value(json!({
            "metadata": {"name": NAMESPACE, "labels": labels()},
            "spec": {
                "selector": {"matchLabels": labels()}, "discovery": "Both", "trustOnFirstUse": true,
                "timeouts": {"shutdownGraceSeconds": 10, "probeSeconds": 600, "eraseSeconds": 900, "writeSeconds": 900},
            },
        }))?;
        self.create(Api::all(self.cluster.client.clone()), &policy)
            .await?;
        self.story.say(
            "applied a ServerPolicy: discovery out of band and from inside (discovery: Both), certificates of BMCs pinned at first use",
        );
        Ok(())
    }

    async fn create<K>(&self, api: Api<K>, object: &K) -> anyhow::Result<()>
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
    {
        api.create(&PostParams::default(), object)
            .await
            .map(drop)
            .with_context(|| format!("{} {}", K::kind(&()), object.name_any()))
    }

    fn all(&self) -> Vec<(usize, MachineHandle)> {
        self.fleet
            .iter()
            .flat_map(Fleet::machines)
            .enumerate()
            .collect()
    }

    /// A BMC for a machine that boots as Corten chooses; else a Server, with the method declared and its BMC inline.
    async fn introduce(&self) -> anyhow::Result<()> {
        let client = &self.cluster.client;
        for (number, machine) in self.all() {
            let (name, method) = (name(number), METHODS.iter().cycle().nth(number).copied());
            let secret: Secret = serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels()},
                "stringData": {"username": machine.user(), "password": machine.password()},
            }))?;
            self.create(Api::namespaced(client.clone(), NAMESPACE), &secret)
                .await?;
            let protocol =
                json!({"name": "Redfish", "port": machine.port(), "scheme": machine.scheme()});
            let secret = json!({"name": name, "namespace": NAMESPACE});
            match method.flatten() {
                None => {
                    let bmc: Bmc = serde_json::from_value(json!({
                        "metadata": {"name": name, "labels": labels()},
                        "spec": {
                            "access": {"ip": machine.ip().to_string(), "macAddress": machine.mac().to_string()},
                            "protocol": protocol, "secretRef": secret,
                        },
                    }))?;
                    self.create(Api::all(client.clone()), &bmc).await?;
                    self.story
                        .say(format!("{name}: applied a BMC with its Secret"));
                }
                Some(method) => {
                    let server: Server = serde_json::from_value(json!({
                        "metadata": {
                            "name": server_name(number), "labels": labels(),
                            "annotations": {names::BOOT_METHOD: method},
                        },
                        "spec": {
                            "systemUUID": machine.uuid(),
                            "bmc": {"address": machine.ip().to_string(), "protocol": protocol, "secretRef": secret},
                        },
                    }))?;
                    self.create(Api::all(client.clone()), &server).await?;
                    self.story.say(format!(
                        "{name}: applied a Server with its BMC's Secret, to boot by {method}"
                    ));
                }
            }
        }
        Ok(())
    }

    async fn discovered(&mut self) -> anyhow::Result<()> {
        let available = |server: &Server| view::state(server) == Some(&ServerState::Available);
        self.until_each(&[Goal {
            what: "discovered from inside, Available",
            within: AVAILABLE_WITHIN,
            reached: &available,
        }])
        .await?;
        let inventories: Api<ServerInventory> = Api::all(self.cluster.client.clone());
        for (number, _) in self.all() {
            let inventory = inventories.get(&server_name(number)).await;
            let inventory = inventory.context("the inventory")?;
            let inside = inventory
                .status
                .and_then(|status| status.in_band)
                .with_context(|| format!("{}: the probe's inventory is missing", name(number)))?;
            let drives: Vec<&str> = inside
                .get("storage")
                .and_then(serde_json::Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|drive| drive.get("serial")?.as_str())
                .collect();
            self.story.say(format!(
                "{}: its probe saw the drives {}",
                name(number),
                drives.join(", ")
            ));
        }
        Ok(())
    }

    /// A claim for each machine: the image on its first drive, and user data with the address that it is to call.
    async fn install(&mut self, images: &Images) -> anyhow::Result<()> {
        let client = self.cluster.client.clone();
        for (number, _) in self.all() {
            let name = name(number);
            let [first, second] = self.drives(number)?;
            let spare = guest::marked(64 << 20);
            std::fs::write(&second.path, spare)
                .with_context(|| format!("{}", second.path.display()))?;
            let data = format!("#cloud-config\nphone_home: {} \n", Images::url("called"));
            let secret: Secret = serde_json::from_value(json!({
                "metadata": {"name": format!("{name}-user-data"), "namespace": NAMESPACE, "labels": labels()},
                "type": "metal.ironcore.dev/user-data", "stringData": {"user-data": data},
            }))?;
            self.create(Api::namespaced(client.clone(), NAMESPACE), &secret)
                .await?;
            let claim: ServerClaim = serde_json::from_value(json!({
                "metadata": {
                    "name": name, "namespace": NAMESPACE, "labels": labels(),
                    "annotations": {names::ROOT_DEVICE_HINTS: json!({"serialNumber": first.serial}).to_string()},
                },
                "spec": {
                    "serverRef": {"name": server_name(number)}, "power": "On",
                    "image": Images::url(&format!("image/{IMAGE}")),
                    "userDataRef": {"name": secret.name_any()},
                },
            }))?;
            self.create(Api::namespaced(client.clone(), NAMESPACE), &claim)
                .await?;
            self.story.say(format!(
                "{name}: its drive {} was filled with a tenant's data; claimed, with the image for drive {} and user data",
                second.serial, first.serial
            ));
        }
        let uuids: BTreeMap<String, String> = self
            .all()
            .into_iter()
            .map(|(number, machine)| (server_name(number), machine.uuid().to_string()))
            .collect();
        let written = |server: &Server| server.annotations().contains_key(names::PROVISIONED);
        let called = |server: &Server| {
            uuids
                .get(&server.name_any())
                .is_some_and(|uuid| images.heard("/called/", uuid))
        };
        self.until_each(&[
            Goal {
                what: "image written and read back",
                within: INSTALLED_WITHIN,
                reached: &written,
            },
            Goal {
                what: "runs from its drive, has called the address in its user data",
                within: CALLED_WITHIN,
                reached: &called,
            },
        ])
        .await
    }

    async fn erase(&mut self) -> anyhow::Result<()> {
        let claims: Api<ServerClaim> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        for (number, _) in self.all() {
            for drive in self.drives(number)? {
                if !guest::is_marked(&drive.path)? {
                    bail!(
                        "{}: its drive {} holds nothing of the tenant's, so erasing it would show nothing",
                        name(number),
                        drive.serial
                    );
                }
            }
            claims
                .delete(&name(number), &DeleteParams::default())
                .await
                .with_context(|| format!("deleting claim {}", name(number)))?;
        }
        self.story
            .say("deleted the claims: the tenant's bytes are on both drives of each machine");
        let clean = |server: &Server| {
            view::state(server) == Some(&ServerState::Available) && !view::dirty(server)
        };
        self.until_each(&[Goal {
            what: "erased and Available again",
            within: CLEAN_WITHIN,
            reached: &clean,
        }])
        .await?;
        let runs = Api::<ServerRun>::all(self.cluster.client.clone())
            .list(&ListParams::default().labels(&selector()))
            .await?;
        for (number, _) in self.all() {
            let reports = runs
                .iter()
                .filter(|run| run.spec.server_ref.name == server_name(number))
                .flat_map(|run| run.status.iter().flat_map(|status| &status.drives))
                .filter(|drive| drive.outcome == StepOutcome::Succeeded);
            for report in reports {
                self.story.say(format!(
                    "{}: drive {} erased by {} ({}{})",
                    name(number),
                    report.serial_number,
                    report.method,
                    report.class.as_str(),
                    if report.verified { ", read back" } else { "" }
                ));
            }
            for drive in self.drives(number)? {
                if guest::is_marked(&drive.path)? {
                    bail!(
                        "{}: its drive {} still holds what the tenant wrote",
                        name(number),
                        drive.serial
                    );
                }
            }
        }
        self.story
            .say("read every drive's file: no byte of the tenant's is left");
        Ok(())
    }

    /// The drive that is installed to, and the other one.
    fn drives(&self, number: usize) -> anyhow::Result<[corten_sim::DiskFile; 2]> {
        self.qemu(number)
            .and_then(|qemu| qemu.disks().try_into().ok())
            .ok_or_else(|| anyhow!("{} has not two drives", name(number)))
    }

    fn qemu(&self, number: usize) -> Option<QemuHandle> {
        self.fleet.as_ref()?.machines().nth(number)?.qemu()
    }

    fn how_to_look_inside(&self, site: &Site) {
        let enter = format!(
            "nsenter --net=/run/netns/{} {} --kubeconfig {}",
            site.namespace,
            self.cluster.kubectl(),
            self.cluster.kubeconfig.display()
        );
        let console = self
            .qemu(0)
            .map(|qemu| qemu.directory().join("console.log").display().to_string())
            .unwrap_or_default();
        self.story.plain(format!(
            "\nLook at it from another terminal, as root (the API server listens in the namespace only):\n
  alias k='{enter}'
  k get servers
  k get serverclaims -n {NAMESPACE}
  k describe server {}
  k delete serverclaim {} -n {NAMESPACE}    # and watch its drives being erased
  tail -f {console}
\nCtrl-C ends everything and leaves nothing but {} behind.\n",
            server_name(0),
            name(0),
            self.folder.path().display(),
        ));
    }
}
