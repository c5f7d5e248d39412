//! Reading and driving simulated machines of every shape through the gateway: what it costs, and what it does.

use corten_redfish::inventory::{Inventory, LedState, PowerState};
use corten_redfish::model::{Service, System};
use corten_redfish::operations::bios::{self, Bios};
use corten_redfish::operations::boot::{self, BootDuration, BootOverride, BootState, BootTarget};
use corten_redfish::operations::events::{EventService, Wanted};
use corten_redfish::operations::media::{self, MediaKind};
use corten_redfish::operations::power::{self, ResetKind};
use corten_redfish::operations::task::{self, TaskProgress};
use corten_redfish::operations::{Call, drive, led};
use corten_redfish::{Bmc, Credentials, Gateway, GatewayConfig, Priority, Target, Trust};
use corten_sim::{Contents, Fleet, Inventory as Contained, MachineHandle, Shape};
use std::time::Duration;

/// Most requests that onboarding may take on a BMC that expands, login included.
const BUDGET: u64 = 40;

struct Lab {
    fleet: Fleet,
    gateway: Gateway,
}

impl Lab {
    async fn of(shape: Shape) -> Self {
        let fleet = Fleet::builder()
            .shape(shape)
            .inventory(Contained::Realistic)
            .start()
            .await
            .unwrap();
        Self {
            fleet,
            gateway: Gateway::new(GatewayConfig::default()),
        }
    }

    fn machine(&self) -> MachineHandle {
        self.fleet.machine(0)
    }

    fn bmc(&self) -> Bmc {
        let machine = self.machine();
        self.gateway.bmc(Target {
            name: "one".into(),
            url: machine.url().parse().unwrap(),
            credentials: Credentials::new(machine.user(), machine.password()),
            trust: Trust::Plain,
        })
    }

    async fn open(&self) -> (Service, System) {
        let service = Service::open(&self.bmc()).await.unwrap();
        let system = service.systems().await.unwrap().remove(0);
        (service, system)
    }
}

/// Sends a call and counts what it took: one request.
async fn send(lab: &Lab, service: &Service, call: &Call) -> corten_redfish::operations::Accepted {
    let before = lab.machine().counts().requests;
    let accepted = call
        .send(service)
        .await
        .unwrap_or_else(|error| panic!("{call:?}: {}", error.chain()));
    assert_eq!(lab.machine().counts().requests - before, 1, "{call:?}");
    accepted
}

async fn until(lab: &Lab, service: &Service, system: &System, wanted: &PowerState) {
    for _ in 0..200 {
        let system = service.refresh(system, Priority::Power).await.unwrap();
        if system.power_state().as_ref() == Some(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{}: not {wanted} after 4 s", lab.machine().model());
}

fn identity(machine: &MachineHandle, node: usize, inventory: &Inventory) {
    let systems = machine.systems();
    let expected = &systems[node];
    let name = format!("{:?}", machine.shape());
    assert_eq!(
        inventory.system.uuid.as_ref().map(|uuid| uuid.to_string()),
        Some(expected.uuid.to_lowercase()),
        "{name}"
    );
    assert_eq!(
        inventory.system.serial_number.as_deref(),
        Some(expected.serial.as_str()),
        "{name}"
    );
    let mut macs: Vec<String> = expected
        .macs
        .iter()
        .map(|mac| mac.to_string().to_lowercase())
        .collect();
    let mut read: Vec<String> = inventory.macs().map(|mac| mac.to_string()).collect();
    macs.sort();
    read.sort();
    assert!(
        macs.iter().all(|mac| read.contains(mac)),
        "{name}: {macs:?} in {read:?}"
    );
    let bmc = machine.mac().to_string().to_lowercase();
    assert!(!read.contains(&bmc), "{name}: the BMC's own address {bmc}");
    let mut serials: Vec<String> = machine
        .drives()
        .into_iter()
        .filter(|drive| drive.node == node)
        .map(|drive| drive.serial)
        .collect();
    let mut found: Vec<String> = inventory
        .drives
        .iter()
        .filter_map(|drive| drive.serial_number.clone())
        .collect();
    serials.sort();
    found.sort();
    assert_eq!(found, serials, "{name}: drives");
}

#[tokio::test]
async fn onboarding_a_machine_takes_at_most_forty_requests_on_one_connection_and_one_login() {
    for shape in Shape::ALL {
        let lab = Lab::of(shape).await;
        let service = Service::open(&lab.bmc()).await.unwrap();
        let systems = service.systems().await.unwrap();
        let machine = lab.machine();
        let first = service.inventory(&systems[0]).await.unwrap();
        let counts = machine.counts();
        println!(
            "{shape:?}: {} requests for {} of {} systems",
            counts.requests,
            1,
            systems.len()
        );
        assert_eq!((counts.connections, counts.logins), (1, 1), "{shape:?}");
        // OpenBMC's stock firmware and Cray's controllers advertise no $expand.
        if !matches!(shape, Shape::OpenBmc | Shape::MultiNode) {
            assert!(
                counts.requests <= BUDGET,
                "{shape:?}: {} requests",
                counts.requests
            );
        }
        identity(&machine, 0, &first);
        for (name, section) in first.sections.named() {
            assert!(section.is_settled(), "{shape:?} {name}: {section:?}");
        }
        for (node, system) in systems.iter().enumerate().skip(1) {
            identity(&machine, node, &service.inventory(system).await.unwrap());
        }
        assert_eq!(systems.len(), machine.systems().len(), "{shape:?}");
        lab.gateway.close().await;
    }
}

#[tokio::test]
async fn power_goes_on_off_and_round_on_every_shape() {
    for shape in Shape::ALL {
        let lab = Lab::of(shape).await;
        let (service, system) = lab.open().await;
        for (kind, state) in [
            (ResetKind::On, PowerState::On),
            (ResetKind::GracefulShutdown, PowerState::Off),
            (ResetKind::On, PowerState::On),
            (ResetKind::ForceOff, PowerState::Off),
        ] {
            let system = service.refresh(&system, Priority::Power).await.unwrap();
            // Cray's nodes know On and ForceOff only.
            let kind = match (shape, kind) {
                (Shape::MultiNode, ResetKind::GracefulShutdown) => {
                    assert!(power::prepare(&service, &system, kind).await.is_err());
                    ResetKind::ForceOff
                }
                (_, kind) => kind,
            };
            let call = power::prepare(&service, &system, kind)
                .await
                .unwrap_or_else(|error| panic!("{shape:?} {kind:?}: {error}"));
            send(&lab, &service, &call).await;
            until(&lab, &service, &system, &state).await;
        }
    }
}

#[tokio::test]
async fn a_boot_override_is_set_once_and_cleared_on_every_shape_that_has_one() {
    let mut done = 0;
    for shape in Shape::ALL {
        let lab = Lab::of(shape).await;
        let (service, system) = lab.open().await;
        let wanted = BootOverride::Enabled {
            target: BootTarget::Pxe,
            duration: BootDuration::Once,
            mode: None,
        };
        let Ok(call) = boot::prepare(&service, &system, &wanted).await else {
            assert_eq!(shape, Shape::MultiNode, "Cray's nodes offer none");
            continue;
        };
        send(&lab, &service, &call).await;
        assert_eq!(
            lab.machine().boot_override(),
            ("Once".to_owned(), "Pxe".to_owned()),
            "{shape:?}"
        );
        let system = service.refresh(&system, Priority::Power).await.unwrap();
        let at = boot::written_at(&system, service.product());
        let written = service.system_at(at.path(), Priority::Power).await.unwrap();
        assert!(
            BootState::read(written.document()).matches(&wanted)
                || BootState::read(system.document()).matches(&wanted),
            "{shape:?}"
        );
        let call = boot::prepare(&service, &system, &BootOverride::Disabled)
            .await
            .unwrap();
        send(&lab, &service, &call).await;
        assert_eq!(lab.machine().boot_override().0, "Disabled", "{shape:?}");
        done += 1;
    }
    assert!(done >= 5, "{done}");
}

#[tokio::test]
async fn an_image_goes_in_and_out_wherever_the_vendor_keeps_virtual_media() {
    let mut done = 0;
    for shape in Shape::ALL {
        let lab = Lab::of(shape).await;
        let (service, system) = lab.open().await;
        let slots = media::list(&service, &system).await.unwrap();
        let Some(slot) = media::choose(&slots, MediaKind::Cd) else {
            continue;
        };
        let call = media::insert(
            slot,
            None,
            service.product(),
            "http://127.0.0.1:1/probe.iso",
        )
        .unwrap();
        send(&lab, &service, &call).await;
        assert_eq!(
            lab.machine().media(0),
            ["http://127.0.0.1:1/probe.iso"],
            "{shape:?}"
        );
        let slots = media::list(&service, &system).await.unwrap();
        let slot = slots.iter().find(|slot| slot.is_inserted()).unwrap();
        send(&lab, &service, &media::eject(slot).unwrap()).await;
        assert!(lab.machine().media(0).is_empty(), "{shape:?}");
        assert!(
            media::list(&service, &system)
                .await
                .unwrap()
                .iter()
                .all(|slot| !slot.is_inserted()),
            "{shape:?}"
        );
        done += 1;
    }
    assert!(done >= 4, "{done}");
}

#[tokio::test]
async fn the_led_is_lit_where_there_is_one() {
    let mut done = 0;
    for shape in Shape::ALL {
        let lab = Lab::of(shape).await;
        let (service, system) = lab.open().await;
        if !led::is_offered(system.document()) {
            continue;
        }
        send(
            &lab,
            &service,
            &led::plan(system.document(), &LedState::Blinking).unwrap(),
        )
        .await;
        assert_ne!(
            service
                .refresh(&system, Priority::Control)
                .await
                .unwrap()
                .facts()
                .led,
            Some(LedState::Off),
            "{shape:?}"
        );
        done += 1;
    }
    assert!(done >= 4, "{done}");
}

#[tokio::test]
async fn drives_are_erased_and_the_work_is_followed_to_its_end() {
    let mut done = 0;
    for shape in Shape::MIXED {
        let lab = Lab::of(shape).await;
        let (service, system) = lab.open().await;
        lab.machine().write_drives("tenant");
        let inventory = service.inventory(&system).await.unwrap();
        for each in &inventory.drives {
            let accepted = send(
                &lab,
                &service,
                &drive::secure_erase(each).unwrap_or_else(|error| panic!("{shape:?}: {error}")),
            )
            .await;
            let Some(monitor) = accepted.monitor else {
                continue;
            };
            let mut progress = task::poll(&service, &monitor).await.unwrap();
            for _ in 0..200 {
                if progress.is_settled() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                progress = task::poll(&service, &monitor).await.unwrap();
            }
            assert!(
                matches!(
                    progress,
                    TaskProgress::Completed { .. } | TaskProgress::Forgotten
                ),
                "{shape:?}: {progress:?}"
            );
            done += 1;
        }
        assert!(
            lab.machine()
                .drives()
                .iter()
                .all(|drive| drive.contents == Contents::Erased),
            "{shape:?}"
        );
    }
    assert!(done >= 4, "{done}");
}

#[tokio::test]
async fn bios_attributes_wait_for_the_next_reset_where_the_vendor_keeps_them() {
    let mut done = 0;
    for shape in Shape::MIXED {
        let lab = Lab::of(shape).await;
        let (service, system) = lab.open().await;
        let Some(bios) = Bios::read(&service, &system).await.unwrap() else {
            continue;
        };
        let Some((name, value)) = bios
            .attributes()
            .into_iter()
            .find(|(_, value)| value.is_string())
        else {
            continue;
        };
        let rules = bios::registry(&service, &bios).await.unwrap();
        let other = rules
            .iter()
            .find(|rule| rule.name == name)
            .and_then(|rule| {
                rule.values
                    .iter()
                    .find(|v| value.as_str() != Some(v.as_str()))
                    .cloned()
            });
        let wanted = serde_json::Map::from_iter([(
            name.clone(),
            serde_json::json!(other.unwrap_or_else(|| "Changed".into())),
        )]);
        send(&lab, &service, &bios.set(&wanted, None).unwrap()).await;
        assert_eq!(bios.pending(&service).await.unwrap(), wanted, "{shape:?}");
        done += 1;
    }
    assert!(done >= 2, "{done}");
}

#[tokio::test]
async fn event_subscriptions_are_made_listed_and_deleted() {
    let mut done = 0;
    for shape in Shape::MIXED {
        let lab = Lab::of(shape).await;
        let (service, _) = lab.open().await;
        let Some(events) = EventService::read(&service).await.unwrap() else {
            continue;
        };
        let wanted = Wanted {
            destination: "http://127.0.0.1:1/events".into(),
            context: "corten".into(),
            registry_prefixes: vec!["ResourceEvent".into()],
        };
        let accepted = send(&lab, &service, &events.subscribe(&wanted).unwrap()).await;
        assert!(accepted.created.is_some(), "{shape:?}");
        let listed = events.list(&service).await.unwrap();
        let own = listed
            .iter()
            .find(|one| one.context.as_deref() == Some("corten"))
            .unwrap();
        send(&lab, &service, &own.delete().unwrap()).await;
        assert!(events.list(&service).await.unwrap().is_empty(), "{shape:?}");
        done += 1;
    }
    assert!(done >= 2, "{done}");
}
