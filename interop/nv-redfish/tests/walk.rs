//! A strict client, generated from DMTF's schemas and written by others, walks our simulator and drives it.
//!
//! It fails a whole document for one bad field, which our own reader never would: what it reads is what the schemas say.

use std::sync::Arc;

use corten_sim::{Fleet, MachineHandle, Shape};
use nv_redfish::ServiceRoot;
use nv_redfish::bmc_http::reqwest::Client;
use nv_redfish::bmc_http::{BmcCredentials, CacheSettings, HttpBmc};
use nv_redfish::schema::computer_system::{BootSource, BootSourceOverrideEnabled};
use nv_redfish::schema::resource::{PowerState, ResetType};

type Strict = HttpBmc<Client>;

async fn open(machine: &MachineHandle) -> ServiceRoot<Strict> {
    let credentials = BmcCredentials::username_password(machine.user(), Some(machine.password()));
    let client = Client::new().unwrap();
    let bmc = HttpBmc::new(
        client,
        machine.url().parse().unwrap(),
        credentials,
        CacheSettings::default(),
    );
    ServiceRoot::new(Arc::new(bmc))
        .await
        .unwrap_or_else(|error| panic!("{:?}: root: {error}", machine.shape()))
}

async fn fleet(shape: Shape) -> Fleet {
    Fleet::builder().shape(shape).start().await.unwrap()
}

#[tokio::test]
async fn every_shape_is_read_by_a_reader_that_forgives_nothing() {
    for shape in Shape::ALL {
        let fleet = fleet(shape).await;
        let machine = fleet.machine(0);
        let root = open(&machine).await;
        let what = |part: &str| format!("{shape:?}: {part}");

        let systems = root
            .systems()
            .await
            .expect(&what("systems"))
            .expect(&what("no systems"));
        let systems = systems.members().await.expect(&what("members of systems"));
        let known: Vec<String> = machine
            .systems()
            .into_iter()
            .map(|system| system.serial)
            .collect();
        let mut matched = 0;
        for system in &systems {
            let serial = system
                .hardware_id()
                .serial_number
                .map(|serial| serial.to_string());
            matched += usize::from(serial.is_some_and(|serial| known.contains(&serial)));
            system.processors().await.expect(&what("processors"));
            system.memory_modules().await.expect(&what("memory"));
            for storage in system
                .storage_controllers()
                .await
                .expect(&what("storage"))
                .unwrap_or_default()
            {
                storage.drives().await.expect(&what("drives"));
                if let Some(volumes) = storage.volumes() {
                    volumes.members().await.expect(&what("volumes"));
                }
            }
            if let Some(interfaces) = system
                .ethernet_interfaces()
                .await
                .expect(&what("interfaces"))
            {
                interfaces
                    .members()
                    .await
                    .expect(&what("members of interfaces"));
            }
            if let Some(options) = system.boot_options().await.expect(&what("boot options")) {
                options
                    .members()
                    .await
                    .expect(&what("members of boot options"));
            }
        }
        assert_eq!(matched, known.len(), "{}", what("systems by serial number"));

        let chassis = root
            .chassis()
            .await
            .expect(&what("chassis"))
            .expect(&what("no chassis"));
        for chassis in chassis.members().await.expect(&what("members of chassis")) {
            chassis
                .network_adapters()
                .await
                .expect(&what("network adapters"));
        }
        let managers = root
            .managers()
            .await
            .expect(&what("managers"))
            .expect(&what("no managers"));
        for manager in managers
            .members()
            .await
            .expect(&what("members of managers"))
        {
            if let Some(interfaces) = manager
                .ethernet_interfaces()
                .await
                .expect(&what("manager's interfaces"))
            {
                interfaces
                    .members()
                    .await
                    .expect(&what("members of a manager's interfaces"));
            }
        }
        if let Some(update) = root.update_service().await.expect(&what("update service")) {
            update
                .firmware_inventories()
                .await
                .expect(&what("firmware inventory"));
        }
    }
}

#[tokio::test]
async fn the_four_vendors_are_powered_and_told_what_to_boot() {
    for shape in Shape::MIXED {
        let fleet = fleet(shape).await;
        let machine = fleet.machine(0);
        let root = open(&machine).await;
        let systems = root
            .systems()
            .await
            .unwrap()
            .unwrap()
            .members()
            .await
            .unwrap();
        let system = &systems[0];
        assert_eq!(system.power_state(), Some(PowerState::Off), "{shape:?}");
        let _done = system
            .set_boot_source_override(BootSource::Pxe, BootSourceOverrideEnabled::Once, None, None)
            .await
            .unwrap_or_else(|error| panic!("{shape:?}: boot override: {error}"));
        let _done = system
            .reset(Some(ResetType::On))
            .await
            .unwrap_or_else(|error| panic!("{shape:?}: reset: {error}"));
        for _ in 0..100 {
            if machine.booted().is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(
            machine.booted().map(|boot| boot.target),
            Some("Pxe".to_owned()),
            "{shape:?}"
        );
    }
}
