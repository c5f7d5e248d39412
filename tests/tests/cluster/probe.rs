//! What the engine answers to a probe that forgets, repeats and lies: played by the test, at the desk that the boot services ask.

use std::sync::Arc;
use std::time::Duration;

use corten_api::corten::{RunPhase, ServerInventory, ServerRun};
use corten_boot::server::{Artefact, Artefacts, Boot, Bootable, Limits};
use corten_boot::token::{KeyRing, Keys, Purpose};
use corten_boot::{Config, Desk as _, Refusal, Ticket, UserData, links::PublicAddress};
use corten_engine::{BootServices, EngineDesk, Images};
use corten_sim::MachineHandle;
use corten_tests::{lab::Lab, skip};
use corten_wire::{
    DriveName, DriveResult, EraseClass, EraseGrant, Hello, Machine, Outcome, Registration, Report,
    Task,
};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

fn keys() -> Keys {
    Keys::new([[7; 32]]).unwrap()
}

fn address() -> PublicAddress {
    PublicAddress {
        base: "http://192.0.2.1:8083".parse().unwrap(),
        registry: None,
    }
}

/// Boot services which nobody serves.
pub fn services(images: Option<Arc<dyn Images>>) -> BootServices {
    BootServices {
        address: address(),
        keys: KeyRing::new(keys()),
        images,
    }
}

/// A laboratory whose engine has boot services, which nobody serves: the test is the machine.
async fn lab() -> Lab {
    let lab = Lab::start().small().servers(1).engine(|config| {
        config.services = Some(services(None));
    });
    let lab = lab.idle().await;
    lab.policy(json!({"discovery": "InBand", "cleaning": {"clearTPM": true}}))
        .await;
    lab.plug_in().await;
    lab
}

/// A machine's probe, played by the test.
pub struct Probe {
    pub desk: EngineDesk,
    pub ticket: Ticket,
    pub hello: Hello,
}

impl Probe {
    /// The probe of a machine in the run that is open for `step`.
    pub async fn of(lab: &Lab, step: &str) -> Self {
        let run = run_with(lab, step).await;
        let machine = lab.fleet().machine(0);
        Self {
            desk: lab.desk(),
            ticket: Ticket {
                server: run.spec.server_ref.name.clone(),
                server_uid: run.spec.server_ref.uid.clone(),
                nonce: run.name_any(),
            },
            hello: Hello {
                machine: Machine {
                    system_uuid: machine.uuid(),
                    serial_number: machine.serial(),
                    macs: Vec::new(),
                    drives: drives(&machine),
                    unseen: Vec::new(),
                },
                boot_id: "start-1".into(),
                version: "test".into(),
                architecture: "x86_64".into(),
            },
        }
    }

    /// Calls until there is something to do.
    pub async fn task(&self) -> Task {
        let mut last = None;
        for _ in 0..300 {
            match self.desk.hello(&self.ticket, &self.hello).await {
                Ok(welcome) if welcome.task != Task::Wait => return welcome.task,
                other => last = Some(other),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nothing to do: {last:?}");
    }

    fn registration(&self, drives: &[&str]) -> Registration {
        let drives: Vec<Value> = drives
            .iter()
            .map(|serial| json!({"serial": serial, "attachment": "local"}))
            .collect();
        serde_json::from_value(json!({
            "systemUUID": self.hello.machine.system_uuid,
            "data": {
                "systemInfo": {"systemInformation": {"serialNumber": self.hello.machine.serial_number}},
                "storage": drives,
            },
        }))
        .unwrap()
    }

    fn erased(&self, grant: &EraseGrant) -> Report {
        let drives = grant.drives.iter().map(|serial| DriveResult {
            drive: DriveName {
                serial_number: serial.clone(),
                ..DriveName::default()
            },
            method: "Overwrite".into(),
            class: EraseClass::Clear,
            verified: true,
            seconds: 1,
            outcome: Outcome::Succeeded,
            message: String::new(),
        });
        Report {
            id: grant.id.clone(),
            boot_id: self.hello.boot_id.clone(),
            outcome: Outcome::Succeeded,
            drives: drives.collect(),
            ..Report::default()
        }
    }
}

fn drives(machine: &MachineHandle) -> Vec<DriveName> {
    let seen = |drive: corten_sim::Drive| DriveName {
        serial_number: drive.serial,
        attachment: "local".into(),
        ..DriveName::default()
    };
    machine.drives().into_iter().map(seen).collect()
}

/// Waits for an open run with this step.
async fn run_with(lab: &Lab, step: &str) -> ServerRun {
    let server = loop {
        let world = lab.world().await;
        if let Some(server) = world.server_of(&lab.fleet().machine(0), 0) {
            break server.name_any();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    for _ in 0..300 {
        let runs = lab.all::<ServerRun>().list(&Default::default()).await;
        let open = runs.unwrap().items.into_iter().find(|run| {
            let is_open = run.status.as_ref().is_none_or(|status| {
                status.phase.is_none() || status.phase == Some(RunPhase::Running)
            });
            is_open
                && run.spec.server_ref.name == server
                && run.spec.plan.iter().any(|planned| planned.step == step)
        });
        if let Some(run) = open {
            return run;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no run with {step}");
}

async fn recorded(lab: &Lab, server: &str) -> Value {
    let inventory = lab.all::<ServerInventory>().get(server).await.unwrap();
    let storage = inventory.status.and_then(|status| status.in_band);
    storage
        .map(|seen| seen["storage"].clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_heard_once_and_what_it_repeats_or_adds_changes_nothing() {
    let lab = lab().await;
    let probe = Probe::of(&lab, "ProbeInventory").await;
    // Before anything is asked of it, it has nothing to tell.
    assert_eq!(probe.task().await, Task::Inventory);
    let first = probe.registration(&["P1", "P2"]);
    probe.desk.register(&probe.ticket, &first).await.unwrap();
    // The answer was lost, so it tells it again; and then something else. By then its run may be over.
    for serials in [&["P1", "P2"][..], &["P9"]] {
        let again = probe.registration(serials);
        let told = probe.desk.register(&probe.ticket, &again).await;
        assert!(matches!(told, Ok(()) | Err(Refusal::NotDue(_))), "{told:?}");
    }
    let seen = recorded(&lab, &probe.ticket.server).await;
    assert_eq!(seen[0]["serial"], "P1", "{seen}");
    lab.eventually(|world| world.available() == 1).await;

    // Its disks are to be cleaned: what was recorded before the claim is what they are judged by.
    lab.claim("tenant").await;
    lab.eventually(|world| world.bound() == 1).await;
    lab.release("tenant").await;
    let probe = Probe::of(&lab, "ProbeErase").await;
    let Task::Erase(grant) = probe.task().await else {
        panic!("no grant")
    };
    assert!(grant.clear_tpm && grant.remove_boot_entries, "{grant:?}");
    let refused = probe
        .desk
        .register(&probe.ticket, &probe.registration(&["P9"]))
        .await;
    assert!(matches!(refused, Err(Refusal::NotDue(_))), "{refused:?}");
    assert_eq!(
        recorded(&lab, &probe.ticket.server).await[0]["serial"],
        "P1"
    );
    let report = probe.erased(&grant);
    probe.desk.report(&probe.ticket, &report).await.unwrap();
    // The answer was lost on the way: the same again is no other work, and something else is none that was granted.
    probe.desk.report(&probe.ticket, &report).await.unwrap();
    let other = Report {
        outcome: Outcome::Failed,
        message: "no".into(),
        ..report
    };
    let refused = probe.desk.report(&probe.ticket, &other).await;
    assert!(matches!(refused, Err(Refusal::Conflict(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_boots_as_another_registers_nothing_for_it() {
    let lab = lab().await;
    let probe = Probe::of(&lab, "ProbeInventory").await;
    // It was given the other's UUID; its own stands in its SMBIOS.
    let mut told = probe.registration(&["STRANGER"]);
    told.data.system_info.system_information.uuid = "38947555-7742-3448-3784-823347823834".into();
    for _ in 0..20 {
        let refused = probe.desk.register(&probe.ticket, &told).await;
        assert!(matches!(refused, Err(Refusal::Conflict(_))), "{refused:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let kept = lab.all::<ServerInventory>();
    let kept = kept.get_opt(&probe.ticket.server).await.unwrap();
    let seen = kept.and_then(|kept| kept.status?.in_band);
    assert_eq!(seen, None);
    assert_eq!(probe.task().await, Task::Inventory);
    let own = probe.registration(&["P1"]);
    probe.desk.register(&probe.ticket, &own).await.unwrap();
    let seen = recorded(&lab, &probe.ticket.server).await;
    assert_eq!(seen[0]["serial"], "P1", "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_only_registers_has_its_machine_discovered_and_is_granted_nothing_else() {
    let lab = lab().await;
    let probe = Probe::of(&lab, "ProbeInventory").await;
    let told = probe.registration(&["P1"]);
    // It comes up while the machine is still being started, and comes again.
    let mut last = None;
    for _ in 0..300 {
        last = Some(probe.desk.register(&probe.ticket, &told).await);
        if lab.world().await.available() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(lab.world().await.available(), 1, "{last:?}");
    let seen = recorded(&lab, &probe.ticket.server).await;
    assert_eq!(seen[0]["serial"], "P1", "{seen}");

    lab.claim("tenant").await;
    lab.eventually(|world| world.bound() == 1).await;
    lab.release("tenant").await;
    let probe = Probe::of(&lab, "ProbeErase").await;
    for _ in 0..20 {
        let refused = probe.desk.register(&probe.ticket, &told).await;
        assert!(refused.is_err(), "{refused:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The cleaning waits for a probe that can.
    assert!(matches!(probe.task().await, Task::Erase(_)));
}

/// Boot services that only take calls.
struct Nothing;

#[async_trait::async_trait]
impl Artefacts for Nothing {
    async fn bootable(&self, _: Boot<'_>) -> Result<Bootable, Refusal> {
        Ok(Bootable::LocalDisk)
    }
    async fn open(&self, _: Boot<'_>, _: &str, _: Option<&UserData>) -> Result<Artefact, Refusal> {
        Err(Refusal::Nothing("nothing is served here".into()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metal_operators_own_probe_has_a_machine_discovered() {
    let programs = match corten_tests::metal_operator().await {
        Ok(programs) => programs,
        Err(why) => skip!("{why}"),
    };
    // It would tell this machine's own UUID, and be refused.
    if std::fs::read("/sys/class/dmi/id/product_uuid").is_ok() {
        skip!(
            "interop: metalprobe reads the SMBIOS of the machine that it runs on, which is not the simulated one's"
        );
    }
    let lab = lab().await;
    let probe = Probe::of(&lab, "ProbeInventory").await;
    let config = Config {
        http: "127.0.0.1:0".parse().unwrap(),
        https: None,
        public: address(),
        keys: KeyRing::new(keys()),
        forwarders: Vec::new(),
        limits: Limits::default(),
    };
    let bound = corten_boot::service::bind(config, Arc::new(lab.desk()), Arc::new(Nothing)).await;
    let bound = bound.unwrap();
    let token = keys().sign(&probe.ticket, Purpose::Probe, None).unwrap();
    let url = format!("http://{}/registry/{}", bound.http, token.expose());
    let over = CancellationToken::new();
    let _over = over.clone().drop_guard();
    tokio::spawn(bound.run(over));
    for _ in 0..60 {
        // It ends where its first registration is refused, as before its machine was switched on; its site starts it again.
        let called = Command::new(programs.join("metalprobe"))
            .args(["--registry-url", &url])
            .args(["--server-uuid", &probe.hello.machine.system_uuid])
            .args(["--lldp-sync-duration", "1s", "--duration", "1s"])
            .kill_on_drop(true)
            .output();
        let _ = tokio::time::timeout(Duration::from_secs(5), called).await;
        if lab.world().await.available() == 1 {
            break;
        }
    }
    assert_eq!(lab.world().await.available(), 1);
    let inventory = lab.all::<ServerInventory>().get(&probe.ticket.server).await;
    let seen = inventory.unwrap().status.unwrap().in_band.unwrap();
    assert!(
        seen["cpu"][0]["totalHardwareThreads"].as_u64() > Some(0),
        "{seen:#}"
    );
}
