//! Reading a service, and what becomes of the reading when the service misbehaves.

mod mutation;
mod tree;

use super::*;
use crate::inventory::SectionState;
use crate::operations::media;
use serde_json::{Value, json};
use tree::{Tree, machine};

async fn open(tree: &Arc<Tree>) -> Service {
    let access: Arc<dyn Access> = Arc::clone(tree) as Arc<dyn Access>;
    Service::over(access).await.unwrap()
}

async fn only_system(service: &Service) -> System {
    service.systems().await.unwrap().remove(0)
}

#[tokio::test]
async fn a_machine_is_read_whole_with_and_without_expand() {
    let mut seen = Vec::new();
    for expand in [true, false] {
        let tree = Tree::new(machine(), expand);
        let service = open(&tree).await;
        let mut inventory = service
            .inventory(&only_system(&service).await)
            .await
            .unwrap();
        assert_eq!(
            (
                inventory.cpus().count(),
                inventory.gpus().count(),
                inventory.memory_mib()
            ),
            (2, 1, Some(65_536))
        );
        assert_eq!(
            (
                inventory.drives.len(),
                inventory.volumes.len(),
                inventory.controllers.len()
            ),
            (3, 1, 1)
        );
        assert_eq!(
            inventory
                .macs()
                .map(|mac| mac.to_string())
                .collect::<Vec<_>>(),
            [
                "02:00:00:00:00:01",
                "02:00:00:00:00:02",
                "02:00:00:00:00:03"
            ]
        );
        assert_eq!(
            (
                inventory.firmware.len(),
                inventory.pcie_devices.len(),
                inventory.managers.len()
            ),
            (2, 1, 1)
        );
        assert!(
            inventory
                .sections
                .named()
                .iter()
                .all(|(_, section)| section.is_settled()),
            "{:?}",
            inventory.sections
        );
        inventory.requests = 0;
        seen.push((inventory, tree.requests()));
    }
    let [(expanded, few), (plain, many)] = <[_; 2]>::try_from(seen).unwrap();
    assert_eq!(
        expanded, plain,
        "expanding changes nothing but the number of requests"
    );
    assert!(few < 22 && many > few, "{few} requests against {many}");
}

#[tokio::test]
async fn a_section_that_fails_is_named_and_costs_only_itself() {
    let tree = Tree::new(machine(), true);
    tree.fail("/redfish/v1/Systems/1/Memory", 500);
    let service = open(&tree).await;
    let inventory = service
        .inventory(&only_system(&service).await)
        .await
        .unwrap();
    assert!(
        matches!(&inventory.sections.memory.state, SectionState::Failed(why) if why.contains("500"))
    );
    assert!(!inventory.sections.memory.is_settled());
    assert_eq!(
        inventory.memory_mib(),
        Some(65_536),
        "the summary stands in"
    );
    assert_eq!(inventory.drives.len(), 3);
}

#[tokio::test]
async fn what_is_not_linked_or_not_found_is_unsupported() {
    let mut documents = machine();
    documents
        .get_mut("/redfish/v1/Systems/1")
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove("Processors");
    documents.remove("/redfish/v1/UpdateService");
    let service = open(&Tree::new(documents, true)).await;
    let inventory = service
        .inventory(&only_system(&service).await)
        .await
        .unwrap();
    assert_eq!(
        inventory.sections.processors.state,
        SectionState::Unsupported
    );
    assert_eq!(inventory.sections.firmware.state, SectionState::Unsupported);
    assert!(inventory.sections.processors.is_settled());
}

#[tokio::test]
async fn a_member_that_cannot_be_read_is_listed_and_the_others_are_read() {
    let tree = Tree::new(machine(), false);
    tree.fail("/redfish/v1/Systems/1/Storage/1/Drives/2", 500);
    let service = open(&tree).await;
    let inventory = service
        .inventory(&only_system(&service).await)
        .await
        .unwrap();
    assert_eq!(inventory.drives.len(), 2);
    assert_eq!(
        (
            inventory.sections.storage.unread_count,
            inventory.sections.storage.is_settled()
        ),
        (1, false)
    );
}

#[tokio::test]
async fn a_service_whose_expand_fails_is_read_without() {
    let tree = Tree::new(machine(), true);
    tree.fail_expand(501);
    let service = open(&tree).await;
    let inventory = service
        .inventory(&only_system(&service).await)
        .await
        .unwrap();
    assert_eq!((inventory.drives.len(), inventory.cpus().count()), (3, 2));
    assert_eq!(
        tree.expanded_requests(),
        2,
        "it is tried twice and then left"
    );
}

#[tokio::test]
async fn members_that_did_not_come_expanded_are_read_one_by_one() {
    let tree = Tree::new(machine(), true);
    tree.leave_out_of_expand("/redfish/v1/Systems/1/Processors/2");
    let service = open(&tree).await;
    assert_eq!(
        service
            .inventory(&only_system(&service).await)
            .await
            .unwrap()
            .cpus()
            .count(),
        2
    );
}

#[tokio::test]
async fn pages_are_followed_to_their_end_and_loops_are_not() {
    for next in [
        "/redfish/v1/Systems/1/Memory?$skip=1",
        "/redfish/v1/Systems/1/Memory",
    ] {
        let mut documents = machine();
        let memory = documents.get_mut("/redfish/v1/Systems/1/Memory").unwrap();
        memory["Members"] = json!([{"@odata.id": "/redfish/v1/Systems/1/Memory/1"}]);
        memory["Members@odata.nextLink"] = json!(next);
        documents.insert(
            "/redfish/v1/Systems/1/Memory?$skip=1".into(),
            json!({"Members": [{"@odata.id": "/redfish/v1/Systems/1/Memory/2"}], "Members@odata.nextLink": "/redfish/v1/Systems/1/Memory?$skip=1"}),
        );
        let service = open(&Tree::new(documents, false)).await;
        let inventory = service
            .inventory(&only_system(&service).await)
            .await
            .unwrap();
        assert_eq!(
            inventory.memory.len(),
            if next.contains("skip") { 2 } else { 1 }
        );
    }
}

#[tokio::test]
async fn two_answers_in_a_row_that_never_come_end_the_pass() {
    let tree = Tree::new(machine(), false);
    let service = open(&tree).await;
    let system = only_system(&service).await;
    let before = tree.requests();
    tree.go_silent();
    let error = service.inventory(&system).await.unwrap_err();
    assert!(error.is_silence(), "{error}");
    assert_eq!(
        tree.requests() - before,
        3,
        "the first resource, expanded and plain, and the second"
    );
}

#[tokio::test]
async fn one_answer_that_never_comes_fails_its_section_only() {
    let tree = Tree::new(machine(), false);
    tree.silence_at("/redfish/v1/Systems/1/Memory");
    let service = open(&tree).await;
    let inventory = service
        .inventory(&only_system(&service).await)
        .await
        .unwrap();
    assert!(matches!(
        inventory.sections.memory.state,
        SectionState::Failed(_)
    ));
    assert_eq!(inventory.drives.len(), 3);
}

#[tokio::test]
async fn a_login_that_is_refused_ends_the_pass_at_once() {
    let tree = Tree::new(machine(), false);
    let service = open(&tree).await;
    let system = only_system(&service).await;
    tree.refuse_login();
    let before = tree.requests();
    assert!(matches!(
        service.inventory(&system).await,
        Err(GatewayError::AuthFailed { .. })
    ));
    assert_eq!(tree.requests() - before, 1);
}

/// [`machine`] with a baseboard that is a system of its own and lists an accelerator.
fn with_baseboard() -> tree::Documents {
    let mut documents = machine();
    documents.get_mut("/redfish/v1/Systems").unwrap()["Members"] =
        json!([{"@odata.id": "/redfish/v1/Systems/HGX"}, {"@odata.id": "/redfish/v1/Systems/1"}]);
    documents.insert("/redfish/v1/Systems/HGX".into(), json!({"@odata.id": "/redfish/v1/Systems/HGX", "Id": "HGX", "Processors": {"@odata.id": "/redfish/v1/Systems/HGX/Processors"}}));
    documents.insert(
        "/redfish/v1/Systems/HGX/Processors".into(),
        json!({"Members": [{"@odata.id": "/redfish/v1/Systems/HGX/Processors/G1"}]}),
    );
    documents.insert(
        "/redfish/v1/Systems/HGX/Processors/G1".into(),
        json!({"Id": "G1", "ProcessorType": "GPU", "Model": "H100"}),
    );
    documents
}

#[tokio::test]
async fn a_baseboard_without_reset_is_a_part_and_its_accelerators_are_the_machines() {
    let service = open(&Tree::new(with_baseboard(), false)).await;
    let systems = service.systems().await.unwrap();
    assert_eq!(
        systems
            .iter()
            .map(|system| system.facts().id)
            .collect::<Vec<_>>(),
        ["1"]
    );
    assert_eq!(
        service.inventory(&systems[0]).await.unwrap().gpus().count(),
        2
    );
}

#[tokio::test]
async fn a_machine_that_is_read_again_by_its_path_has_its_baseboards_accelerators_too() {
    let service = open(&Tree::new(with_baseboard(), false)).await;
    let again = service.whole_system("/redfish/v1/Systems/1").await.unwrap();
    assert_eq!(service.inventory(&again).await.unwrap().gpus().count(), 2);
}

#[tokio::test]
async fn several_machines_behind_one_bmc_are_several_systems() {
    let mut documents = machine();
    let mut second: Value = documents["/redfish/v1/Systems/1"].clone();
    second["@odata.id"] = json!("/redfish/v1/Systems/2");
    second["Id"] = json!("2");
    documents.insert("/redfish/v1/Systems/2".into(), second);
    documents.get_mut("/redfish/v1/Systems").unwrap()["Members"] =
        json!([{"@odata.id": "/redfish/v1/Systems/1"}, {"@odata.id": "/redfish/v1/Systems/2"}]);
    let service = open(&Tree::new(documents, true)).await;
    assert_eq!(service.systems().await.unwrap().len(), 2);
}

/// [`machine`] with a second system, whose Storage lists nothing of its own.
fn two_machines() -> tree::Documents {
    let mut documents = machine();
    let mut second: Value = documents["/redfish/v1/Systems/1"].clone();
    second["@odata.id"] = json!("/redfish/v1/Systems/2");
    second["Storage"] = json!({"@odata.id": "/redfish/v1/Systems/2/Storage"});
    let members = |links: &[&str]| json!({"Members": links.iter().map(|link| json!({"@odata.id": link})).collect::<Vec<_>>()});
    documents.insert("/redfish/v1/Systems/2".into(), second);
    documents.insert("/redfish/v1/Systems/2/Storage".into(), members(&[]));
    documents.insert(
        "/redfish/v1/Systems".into(),
        members(&["/redfish/v1/Systems/1", "/redfish/v1/Systems/2"]),
    );
    documents
}

/// Serial numbers of the first system's drives that count as shared, with its systems listed before and not.
async fn shared_drives(documents: tree::Documents) -> Vec<String> {
    let mut seen = Vec::new();
    for listed in [true, false] {
        let service = open(&Tree::new(documents.clone(), true)).await;
        if listed {
            assert_eq!(service.systems().await.unwrap().len(), 2);
        }
        let system = service
            .system_at("/redfish/v1/Systems/1", Priority::Control)
            .await
            .unwrap();
        let drives = service.inventory(&system).await.unwrap().drives;
        let shared = drives.into_iter().filter(|drive| drive.shared);
        seen.push(
            shared
                .filter_map(|drive| drive.serial_number)
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(seen[0], seen[1]);
    seen.remove(0)
}

#[tokio::test]
async fn a_drive_that_another_machine_reaches_is_shared_and_one_of_its_own_is_not() {
    let none: [&str; 0] = [];
    assert_eq!(shared_drives(two_machines()).await, none);

    const STORAGE: &str = "/redfish/v1/Systems/1/Storage/1";
    // The other system's Storage lists the very unit.
    let mut one_unit = two_machines();
    one_unit.get_mut("/redfish/v1/Systems/2/Storage").unwrap()["Members"] =
        json!([{"@odata.id": STORAGE}]);
    assert_eq!(shared_drives(one_unit).await, ["D1", "D2", "D3"]);

    // A unit of the other system lists one of the drives.
    let mut one_drive = two_machines();
    let unit = "/redfish/v1/Systems/2/Storage/X";
    one_drive.get_mut("/redfish/v1/Systems/2/Storage").unwrap()["Members"] =
        json!([{"@odata.id": unit}]);
    one_drive.insert(
        unit.into(),
        json!({"@odata.id": unit, "Id": "X", "Drives": [{"@odata.id": format!("{STORAGE}/Drives/2")}]}),
    );
    assert_eq!(shared_drives(one_drive).await, ["D2"]);

    // The drive itself names a unit of the other system.
    let mut said = two_machines();
    said.get_mut(&format!("{STORAGE}/Drives/3")).unwrap()["Links"] =
        json!({"Storage": [{"@odata.id": STORAGE}, {"@odata.id": unit}]});
    assert_eq!(shared_drives(said).await, ["D3"]);

    // Its chassis lists both machines.
    let mut housed = two_machines();
    housed.insert(
        "/redfish/v1/Chassis/Box".into(),
        json!({"@odata.id": "/redfish/v1/Chassis/Box", "Links": {"ComputerSystems": [{"@odata.id": "/redfish/v1/Systems/1"}, {"@odata.id": "/redfish/v1/Systems/2"}]}}),
    );
    housed.get_mut(&format!("{STORAGE}/Drives/1")).unwrap()["Links"] =
        json!({"Chassis": {"@odata.id": "/redfish/v1/Chassis/Box"}});
    assert_eq!(shared_drives(housed).await, ["D1"]);
}

#[tokio::test]
async fn virtual_media_are_found_at_the_manager_where_the_system_has_none() {
    let service = open(&Tree::new(machine(), true)).await;
    let slots = media::list(&service, &only_system(&service).await)
        .await
        .unwrap();
    assert_eq!(
        media::choose(&slots, media::MediaKind::Cd).unwrap().path(),
        "/redfish/v1/Managers/1/VirtualMedia/CD"
    );
}

#[tokio::test]
async fn a_virtual_drive_that_cannot_be_read_may_hold_a_medium() {
    let drive = "/redfish/v1/Managers/1/VirtualMedia/CD";
    let mut broken = machine();
    assert!(broken.remove(drive).is_some());
    let tree = Tree::new(broken, true);
    tree.fail(drive, 500);
    let service = open(&tree).await;
    let system = only_system(&service).await;
    media::list_all(&service, &system).await.unwrap_err();
    media::list(&service, &system).await.ok();
    // One that is not there has none.
    let mut without = machine();
    without.remove(drive);
    let service = open(&Tree::new(without, true)).await;
    let system = only_system(&service).await;
    assert!(
        !media::list_all(&service, &system)
            .await
            .unwrap()
            .iter()
            .any(|slot| slot.path() == drive)
    );
}

#[tokio::test]
async fn an_operation_is_one_request() {
    use crate::operations::power::{self, ResetKind};
    let tree = Tree::new(machine(), true);
    let service = open(&tree).await;
    let system = only_system(&service).await;
    let call = power::prepare(&service, &system, ResetKind::ForceOff)
        .await
        .unwrap();
    let before = tree.requests();
    let accepted = call.send(&service).await.unwrap();
    assert_eq!(tree.requests() - before, 1);
    assert!(!accepted.under_way);
    assert_eq!(
        tree.sent(),
        [(
            "POST",
            "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset".to_owned(),
            json!({"ResetType": "ForceOff"})
        )]
    );
}
