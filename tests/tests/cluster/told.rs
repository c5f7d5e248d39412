//! What Corten says of machines is so: the inventory, the reasons of failures, Events, generations; and at rest it says nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use corten_api::Quantity;
use corten_api::corten::ServerInventory;
use corten_api::metal::{
    Bmc, PowerState, Server, ServerBootConfiguration, ServerClaim, ServerState,
};
use corten_sim::{Effect, MachineHandle, Rule, Shape};
use corten_tests::lab::{Lab, World};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::onboarding::{bmc_by_address, create, fails_by, is_ready, ready, secret};

/// A dead BMC is asked less and less often, so its return may be noticed late.
const NOTICED: Duration = Duration::from_secs(180);

/// A document of a machine's Redfish service, by a plain GET: the engine's own client is what is judged here.
async fn get(machine: &MachineHandle, path: &str) -> Value {
    let login = format!("{}:{}", machine.user(), machine.password());
    // As Base64, which is how a Secret has it too.
    let login = serde_json::to_value(ByteString(login.into_bytes())).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {}\r\nConnection: close\r\n\r\n",
        machine.address(),
        login.as_str().unwrap(),
    );
    let mut stream = TcpStream::connect(machine.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    serde_json::from_str(body).unwrap()
}

fn link(value: &Value) -> &str {
    let link = value["@odata.id"].as_str();
    link.unwrap_or_else(|| panic!("{value} is no link"))
}

async fn linked(machine: &MachineHandle, links: &Value) -> Vec<Value> {
    let mut documents = Vec::new();
    for to in links.as_array().into_iter().flatten() {
        documents.push(get(machine, link(to)).await);
    }
    documents
}

async fn members(machine: &MachineHandle, parent: &Value, collection: &str) -> Vec<Value> {
    let list = get(machine, link(&parent[collection])).await;
    linked(machine, &list["Members"]).await
}

/// A line for each document, sorted: what stands under `names`, in lower case. A slash leads deeper.
fn lines(documents: &[Value], names: &[&str]) -> Vec<String> {
    let word = |document: &Value, name: &str| {
        let value = name.split('/').fold(document, |value, part| &value[part]);
        assert!(!value.is_null(), "no {name} in {document}");
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_lowercase)
    };
    let line = |document: &Value| {
        let words: Vec<String> = names.iter().map(|name| word(document, name)).collect();
        words.join(" ")
    };
    let mut lines: Vec<String> = documents.iter().map(line).collect();
    lines.sort();
    lines
}

fn sorted<T: Ord>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort();
    all
}

/// A list of the inventory: its name, the properties that tell one entry from another, what is recorded, and their names in Redfish.
type Part<'a> = (&'a str, &'a [&'a str], &'a [Value], &'a [&'a str]);

/// The long inventory of `machine` against its documents, part by part.
async fn compare_inventory(machine: &MachineHandle, system: &Value, inventory: &Value) {
    let root = get(machine, "/redfish/v1/").await;
    // The accelerators of a DGX are on a baseboard that is a ComputerSystem of its own.
    let mut processors = Vec::new();
    for part in members(machine, &root, "Systems").await {
        processors.extend(members(machine, &part, "Processors").await);
    }
    let (gpus, cpus): (Vec<Value>, Vec<Value>) = processors
        .into_iter()
        .partition(|processor| processor["ProcessorType"] == "GPU");
    let modules = members(machine, system, "Memory").await;
    let (mut drives, mut volumes) = (Vec::new(), Vec::new());
    for unit in members(machine, system, "Storage").await {
        drives.extend(linked(machine, &unit["Drives"]).await);
        volumes.extend(members(machine, &unit, "Volumes").await);
    }
    let ports = members(machine, system, "EthernetInterfaces").await;
    let devices = linked(machine, &system["PCIeDevices"]).await;
    let updates = get(machine, link(&root["UpdateService"])).await;
    let firmware = members(machine, &updates, "FirmwareInventory").await;

    let shape = machine.shape();
    assert_eq!(gpus.len(), if shape == Shape::Dgx { 8 } else { 0 });
    assert_eq!(volumes.len(), if shape == Shape::Hpe { 2 } else { 0 });
    let parts: [Part<'_>; 8] = [
        (
            "processors",
            &["id", "serialNumber", "model", "cores", "threads"],
            &cpus,
            &["Id", "SerialNumber", "Model", "TotalCores", "TotalThreads"],
        ),
        (
            "gpus",
            &[
                "id",
                "serialNumber",
                "model",
                "memoryMiB",
                "firmwareVersion",
            ],
            &gpus,
            &[
                "Id",
                "SerialNumber",
                "Model",
                "MemorySummary/TotalMemorySizeMiB",
                "FirmwareVersion",
            ],
        ),
        (
            "memoryModules",
            &["id", "serialNumber", "capacityMiB"],
            &modules,
            &["Id", "SerialNumber", "CapacityMiB"],
        ),
        (
            "drives",
            &["id", "serialNumber", "model", "capacityBytes"],
            &drives,
            &["Id", "SerialNumber", "Model", "CapacityBytes"],
        ),
        (
            "volumes",
            &["id", "capacityBytes", "raidType"],
            &volumes,
            &["Id", "CapacityBytes", "RAIDType"],
        ),
        (
            "networkPorts",
            &["id", "macAddress", "speedMbps"],
            &ports,
            &["Id", "MACAddress", "SpeedMbps"],
        ),
        (
            "pcieDevices",
            &["id", "serialNumber", "model", "firmwareVersion"],
            &devices,
            &["Id", "SerialNumber", "Model", "FirmwareVersion"],
        ),
        (
            "firmware",
            &["id", "version"],
            &firmware,
            &["Id", "Version"],
        ),
    ];
    for (part, recorded, documents, shown) in parts {
        let all = inventory[part].as_array().cloned().unwrap_or_default();
        assert_eq!(
            lines(&all, recorded),
            lines(documents, shown),
            "{part} of the {shape}"
        );
    }
    assert_eq!(inventory["health"], system["Status"]["HealthRollup"]);
    let failed = |section: &Value| section["state"] == "Failed";
    let sections = inventory["sections"].as_array();
    assert!(!sections.into_iter().flatten().any(failed), "{sections:?}");
}

/// What the Server's own status says of `machine`.
async fn compare_status(machine: &MachineHandle, system: &Value, server: &Server) {
    let shown = |name: &str| system[name].as_str().map(str::to_owned);
    let status = server.status.as_ref().unwrap();
    assert_eq!(status.manufacturer.as_deref(), Some(machine.manufacturer()));
    assert_eq!(status.model.as_deref(), Some(machine.model()));
    assert_eq!(status.serial_number, Some(machine.serial()));
    assert_eq!(server.spec.system_uuid, machine.uuid().to_lowercase());
    assert_eq!(status.sku, shown("SKU"));
    assert_eq!(status.bios_version, shown("BiosVersion"));
    let power = status.power_state.as_ref().map(PowerState::as_str);
    assert_eq!(power, Some(machine.power_state()));

    let modules = members(machine, system, "Memory").await;
    let mib = modules
        .iter()
        .filter_map(|module| module["CapacityMiB"].as_u64());
    let memory = status.total_system_memory.as_ref();
    assert_eq!(
        memory.and_then(Quantity::bytes),
        Some(mib.sum::<u64>() << 20)
    );
    let cpus = status
        .processors
        .iter()
        .filter(|processor| processor.type_.as_deref() == Some("CPU"));
    assert_eq!(
        Some(cpus.count() as u64),
        system["ProcessorSummary"]["Count"].as_u64()
    );

    let macs = status.network_interfaces.iter().map(|it| &it.mac_address);
    let systems = machine.systems();
    let known = &systems[0].macs;
    assert_eq!(
        sorted(macs.cloned()),
        sorted(known.iter().map(|mac| mac.to_lowercase()))
    );
    let mut sizes = Vec::new();
    for drive in machine.drives() {
        sizes.push(get(machine, &drive.path).await["CapacityBytes"].as_u64());
    }
    let drives = status.storages.iter().flat_map(|storage| &storage.drives);
    let recorded = drives.map(|drive| drive.capacity.as_ref().and_then(Quantity::bytes));
    assert_eq!(sorted(recorded), sorted(sizes));
}

/// The HPE is there for its volumes: the other two have none.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_of_a_machine_is_what_the_machine_shows() {
    let shapes = vec![Shape::Dell, Shape::Dgx, Shape::Hpe];
    let lab = Lab::start()
        .fleet(|fleet| fleet.machines(shapes.len()).shapes(shapes))
        .available()
        .await;
    for machine in lab.fleet().machines() {
        let server = lab.server_of(machine.index()).await;
        let system = get(&machine, &machine.systems()[0].path).await;
        compare_status(&machine, &system, &server).await;

        let inventories = lab.all::<ServerInventory>();
        let inventory = inventories.get(&server.name_any()).await.unwrap();
        let inventory = inventory.status.unwrap();
        let serials = inventory
            .drives
            .iter()
            .filter_map(|drive| drive.serial_number.clone());
        let known = machine.drives().into_iter().map(|drive| drive.serial);
        assert_eq!(sorted(serials), sorted(known));
        let inventory = serde_json::to_value(inventory).unwrap();
        compare_inventory(&machine, &system, &inventory).await;

        let bmc = lab.all::<Bmc>().get(lab.endpoint(machine.index())).await;
        let bmc = bmc.unwrap().status.unwrap();
        let managers = linked(&machine, &system["Links"]["ManagedBy"]).await;
        assert_eq!(
            bmc.firmware_version.as_deref(),
            managers[0]["FirmwareVersion"].as_str()
        );
    }
}

/// Makes a BMC for machine `index` of the laboratory, with its address inline and `password` in a Secret of its own. Returns the name
/// of both.
async fn bmc_for(lab: &Lab, index: usize, scheme: &str, password: &str) -> String {
    let name = format!("{}-bmc-{index}", lab.name());
    let machine = lab.fleet().machine(index);
    secret(lab, &name, &machine.user(), password).await;
    bmc_by_address(lab, &name, &machine, Some(scheme), &name).await;
    name
}

fn message<'a>(world: &'a World, bmc: &str) -> &'a str {
    ready(world, bmc).2
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_a_bmc_has_its_reason_and_says_where_it_is_and_what_helps() {
    let lab = Lab::start().small().servers(4).idle().await;
    let machines: Vec<MachineHandle> = lab.fleet().machines().collect();
    let mut passwords: Vec<String> = machines.iter().map(MachineHandle::password).collect();
    machines[0].unplug().await;
    machines[1].add_fault(Rule::new(Effect::Html)).unwrap();
    machines[2].hang(true);
    passwords[3] = "not-the-password".to_owned();
    let mut bmcs = Vec::new();
    for (index, password) in passwords.iter().enumerate() {
        bmcs.push(bmc_for(&lab, index, "http", password).await);
    }
    let address = |index: usize| machines[index].address().to_string();
    let table = [
        (
            "Unreachable",
            address(0),
            "check address, port and that the BMC's network is up",
        ),
        (
            "NotRedfish",
            address(1),
            "check the port and that Redfish is enabled",
        ),
        (
            "Timeout",
            address(2),
            "overloaded, hung or behind a firewall",
        ),
        // Here the place to go to is the Secret.
        (
            "AuthFailed",
            format!("Secret {}/{}", lab.namespace(), bmcs[3]),
            "correct the user name or password",
        ),
    ];
    let world = lab
        .eventually(|world| {
            let mut rows = table.iter().zip(&bmcs);
            rows.all(|((reason, _, _), bmc)| fails_by(bmc, reason)(world))
        })
        .await;
    for (((reason, place, remedy), bmc), machine) in table.iter().zip(&bmcs).zip(&machines) {
        let message = message(&world, bmc);
        assert!(message.contains(place.as_str()), "{reason}: {message}");
        assert!(message.contains(remedy), "{reason}: {message}");
        let status = world.bmc(bmc).unwrap().status.as_ref().unwrap();
        assert_eq!(status.ip, Some(machine.ip().to_string()), "{reason}");
    }
    assert!(!message(&world, &bmcs[3]).contains("not-the-password"));
    assert!(world.servers.is_empty());
}

/// The first Event of this reason about the object of that name, once there is one.
async fn event(lab: &Lab, name: &str, reason: &str) -> Event {
    lab.hears(name, reason).await;
    let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let events = lab.all::<Event>().list(&about).await.unwrap();
    events
        .into_iter()
        .find(|event| event.reason.as_deref() == Some(reason))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_bmc_is_a_warning_and_its_return_a_normal_event() {
    let lab = Lab::start().small().servers(1).available().await;
    let name = lab.endpoint(0).to_owned();
    let machine = lab.fleet().machine(0);
    machine.unplug().await;
    lab.eventually(|world| !is_ready(world, &name)).await;
    let lost = event(&lab, &name, "Lost").await;
    machine.replug().await.unwrap();
    let world = lab.within(NOTICED, |world| is_ready(world, &name)).await;
    let back = event(&lab, &name, "Recovered").await;

    let bmc = world.bmc(&name).unwrap();
    for (event, kind) in [(&lost, "Warning"), (&back, "Normal")] {
        assert_eq!(event.type_.as_deref(), Some(kind), "{event:?}");
        assert_eq!(event.involved_object.kind.as_deref(), Some("BMC"));
        assert_eq!(event.involved_object.uid, bmc.uid());
    }
    let note = back.message.unwrap_or_default();
    assert!(note.contains(&machine.url()), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_gets_its_server_has_an_event_that_names_it() {
    let lab = Lab::start().small().servers(1).available().await;
    let name = format!("{}-tenant", lab.name());
    let claim = lab.claim(&name).await;
    let server = lab.bound_server(&name).await.name_any();
    let bound = event(&lab, &name, "Bound").await;
    assert_eq!(bound.type_.as_deref(), Some("Normal"));
    assert_eq!(bound.involved_object.kind.as_deref(), Some("ServerClaim"));
    assert_eq!(bound.involved_object.uid, claim.uid());
    assert_eq!(bound.metadata.namespace.as_deref(), Some(lab.namespace()));
    let note = bound.message.unwrap_or_default();
    assert!(note.contains(&server), "{note}");
}

/// Whether every condition of an object speaks of its present spec; false where it has none.
fn is_current(object: &impl serde::Serialize) -> bool {
    let object = serde_json::to_value(object).unwrap();
    let generation = &object["metadata"]["generation"];
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| {
        let mut observed = all.iter().map(|it| &it["observedGeneration"]);
        !all.is_empty() && observed.all(|observed| observed == generation)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_edit_every_condition_speaks_of_the_spec_as_it_is_now() {
    let lab = Lab::start().small().servers(2).available().await;
    lab.claim("tenant").await;
    lab.bound_server("tenant").await;
    let world = lab.eventually(|world| world.available() == 1).await;
    let free = world
        .servers
        .iter()
        .find(|server| World::state(server) == Some(&ServerState::Available))
        .unwrap();
    let server = free.name_any();
    let bmc = free.spec.bmc_ref.as_ref().unwrap().name.clone();
    let image = |tag: &str| format!("registry.example.com/images/debian:{tag}");
    let own = json!({
        "metadata": { "name": "own" },
        "spec": { "serverRef": { "name": server }, "image": image("12") },
    });
    create::<ServerBootConfiguration>(&lab.here(), own).await;
    let boot = |world: &World| {
        let mut boots = world.boots.iter();
        boots.find(|boot| boot.name_any() == "own").cloned()
    };
    let current = |world: &World| {
        world.bmc(&bmc).is_some_and(is_current)
            && world.server(&server).is_some_and(is_current)
            && world.claim("tenant").is_some_and(is_current)
            && boot(world).is_some_and(|boot| is_current(&boot))
    };
    lab.eventually(current).await;

    let change = json!({ "spec": { "hostname": "bmc.example.com" } });
    lab.edit(&lab.all::<Bmc>(), &bmc, change).await;
    let change = json!({ "spec": { "unclaimable": true } });
    lab.edit(&lab.all::<Server>(), &server, change).await;
    let change = json!({ "spec": { "power": "Off" } });
    lab.edit(&lab.here::<ServerClaim>(), "tenant", change).await;
    let change = json!({ "spec": { "image": image("13") } });
    lab.edit(&lab.here::<ServerBootConfiguration>(), "own", change)
        .await;
    lab.eventually(current).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_without_a_scheme_is_spoken_to_by_http_only_where_that_is_assumed() {
    // Outside of what laboratories take by themselves, so that the range can be told before the fleet stands.
    let first = Ipv4Addr::new(127, 9, 7, 1);
    let lab = Lab::start()
        .small()
        .fleet(|fleet| fleet.machines(2).shape(Shape::Dell).address(first))
        .engine(move |config| {
            config.assume_http_for = vec![first.to_string().parse().unwrap()];
        })
        .idle()
        .await;
    let [inside, outside] = [lab.fleet().machine(0), lab.fleet().machine(1)];
    let plain = bmc_for(&lab, 0, "", &inside.password()).await;
    let secure = bmc_for(&lab, 1, "", &outside.password()).await;
    let world = lab
        .eventually(|world| is_ready(world, &plain) && fails_by(&secure, "TLSFailed")(world))
        .await;
    assert!(inside.url().starts_with("http://"));
    let said = message(&world, &plain);
    assert!(said.contains(&inside.url()), "{said}");
    let said = message(&world, &secure);
    assert!(said.contains(&outside.address().to_string()), "{said}");
    assert!(said.contains("must be the HTTPS port"), "{said}");
    let counts = outside.counts();
    assert_eq!(
        (counts.logins, counts.failed_logins),
        (0, 0),
        "no password went out: {counts:?}"
    );
}

/// The version of every object of the laboratory, of all kinds that Corten defines.
async fn versions(lab: &Lab) -> BTreeMap<String, Option<String>> {
    let ours = format!("{}-", lab.name());
    let mut all = BTreeMap::new();
    for crd in corten_api::crds() {
        let names = &crd.spec.names;
        let kind = GroupVersionKind::gvk(&crd.spec.group, &crd.spec.versions[0].name, &names.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &names.plural);
        let api = Api::<DynamicObject>::all_with(lab.client(), &resource);
        for object in api.list(&ListParams::default()).await.unwrap() {
            let is_here = object.namespace().as_deref() == Some(lab.namespace());
            if is_here || object.name_any().starts_with(&ours) {
                let name = format!("{} {}", names.kind, object.name_any());
                all.insert(name, object.resource_version());
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_no_object_of_any_kind_is_written() {
    let lab = Lab::start().small().servers(4).available().await;
    lab.claim("tenant").await;
    let server = lab.bound_server("tenant").await.name_any();
    lab.eventually(|world| {
        world.available() == 3
            && world.powered_on() == 1
            && world.says(&server, "Ready", "True", "Reserved")
    })
    .await;
    // What the start of the tenant left to do is no rest yet.
    let mut before = versions(&lab).await;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = versions(&lab).await;
        if now == before {
            break;
        }
        before = now;
    }
    // Endpoint, BMC, BMCSecret, Server and ServerInventory of each machine; the claim, its boot configuration and its run.
    assert!(before.len() >= 4 * 5 + 3, "{before:?}");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(versions(&lab).await, before);
}
