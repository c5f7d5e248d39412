use super::{
    Adapter, Controller, Cpu, Expand, LedProperty, MediaPlace, MediaSpec, Redundant, ResetNames,
    Shape, Spec, dell, numbered,
};

const ANY: &[&str] = &["CD", "DVD", "Floppy", "USBStick"];

pub(super) fn spec() -> Spec {
    let media = |id: &'static str| MediaSpec {
        system_id: id,
        manager_id: id,
        types: ANY,
    };
    Spec {
        shape: Shape::Supermicro,
        // X13 firmware names no vendor in its service root.
        vendor: None,
        product: None,
        manufacturer: "Supermicro",
        model: "SYS-221H-TNR",
        sku: "0x1D1415D9",
        redfish_version: "1.11.0",
        root_schema: "ServiceRoot.v1_9_0.ServiceRoot",
        system_schema: "ComputerSystem.v1_17_0.ComputerSystem",
        manager_schema: "Manager.v1_11_0.Manager",
        oui: [0x3C, 0xEC, 0xEF],
        user: "ADMIN",
        password: "ADMIN",
        nodes: vec!["1".into()],
        manager: "1",
        manager_model: "ASPEED",
        firmware_version: "01.01.01",
        chassis: "1",
        bios_version: "1.4",
        context: false,
        body_etags: true,
        expand: Some(Expand {
            levels: 2,
            all: true,
            links: true,
            no_links: true,
        }),
        reset: &[
            "On",
            "ForceOff",
            "GracefulShutdown",
            "GracefulRestart",
            "ForceRestart",
            "Nmi",
            "ForceOn",
            "PowerCycle",
        ],
        reset_names: ResetNames::ActionInfo,
        manager_reset: &["GracefulRestart", "ForceRestart"],
        redundant: Redundant::Accept,
        boot_targets: &[
            "None",
            "Pxe",
            "Floppy",
            "Cd",
            "Usb",
            "Hdd",
            "BiosSetup",
            "UefiBootNext",
            "UefiHttp",
        ],
        boot_enabled: &["Disabled", "Once", "Continuous"],
        http_boot_uri: false,
        boot_progress: true,
        last_reset_time: false,
        led: LedProperty::Both,
        media_place: MediaPlace::Managers,
        media: vec![
            media("VirtualMedia1"),
            media("VirtualMedia2"),
            media("VirtualMedia3"),
        ],
        simple_storage: true,
        sse: false,
        push_uri: None,
        multipart_uri: Some("/redfish/v1/UpdateService/upload"),
        account_slots: None,
        jobs: false,
        session_timeout: 300,
        old_sensors: true,
        cpus: numbered("", 1, 2)
            .into_iter()
            .map(|id| Cpu { id })
            .collect(),
        cpu_maker: "Intel(R) Corporation",
        cpu_model: "Intel(R) Xeon(R) Gold 6430",
        cores: 32,
        dimms: numbered("", 1, 16),
        dimm_gib: 32,
        controllers: vec![Controller {
            id: "NVMeSSD",
            name: "NVMeSSD",
            model: "NVMe",
            protocol: "NVMe",
            media: "SSD",
            drive_model: "SAMSUNG MZQL21T9HCJR-00A07",
            drive_maker: "Samsung",
            drive_bytes: 1_920_383_410_176,
            drives: (0..8).map(|i| format!("Disk.Bay.{i}")).collect(),
            volumes: 0,
            erasable: true,
        }],
        adapters: vec![
            Adapter {
                id: "1",
                maker: "Broadcom Inc. and subsidiaries",
                model: "AOC-A25G-b2SM",
                gbps: 25,
                ports: vec!["1".into(), "2".into()],
            },
            Adapter {
                id: "2",
                maker: "Mellanox Technologies",
                model: "AOC-S100GC-i2C",
                gbps: 100,
                ports: vec!["3".into(), "4".into()],
            },
        ],
        bridges: 6,
        sensors: 30,
        fans: 8,
        firmware: [
            "CPLD",
            "Motherboard_CPLD",
            "Backplane_CPLD",
            "PSU1",
            "PSU2",
            "AOC1",
            "AOC2",
        ]
        .iter()
        .map(|id| ((*id).to_owned(), "Firmware"))
        .collect(),
        logs: 20,
        bios_attributes: &[
            ("BootModeSelect_0094", "UEFI"),
            ("HyperThreading_0052", "Enabled"),
            ("SRIOVSupport_00D6", "Enabled"),
            ("IntelVirtualizationTechnology_0066", "Enabled"),
            ("RestoreonACPowerLoss_0003", "LastState"),
        ],
        ..dell::spec()
    }
}
