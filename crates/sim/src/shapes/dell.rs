use super::{
    Adapter, Controller, Cpu, Expand, LedProperty, MediaPlace, MediaSpec, Redundant, ResetNames,
    Shape, Spec, numbered,
};

pub(super) fn spec() -> Spec {
    let nic = |id: &str| id.to_owned();
    Spec {
        shape: Shape::Dell,
        vendor: Some("Dell"),
        product: Some("Integrated Dell Remote Access Controller"),
        manufacturer: "Dell Inc.",
        model: "PowerEdge R750",
        sku: "R750S01",
        redfish_version: "1.13.1",
        root_schema: "ServiceRoot.v1_11_0.ServiceRoot",
        system_schema: "ComputerSystem.v1_16_0.ComputerSystem",
        manager_schema: "Manager.v1_12_0.Manager",
        oui: [0xD0, 0x94, 0x66],
        user: "root",
        password: "calvin",
        nodes: vec!["System.Embedded.1".into()],
        manager: "iDRAC.Embedded.1",
        manager_model: "15G Monolithic",
        manager_type: "BMC",
        firmware_version: "6.10.30.00",
        chassis: "System.Embedded.1",
        bios_version: "1.8.2",
        context: true,
        body_etags: false,
        expand: Some(Expand {
            levels: 1,
            all: true,
            links: true,
            no_links: true,
        }),
        select: true,
        reset: &[
            "On",
            "ForceOff",
            "ForceRestart",
            "GracefulRestart",
            "GracefulShutdown",
            "PushPowerButton",
            "Nmi",
            "PowerCycle",
        ],
        reset_names: ResetNames::AllowableValues,
        manager_reset: &["GracefulRestart"],
        redundant: Redundant::Conflict,
        boot_targets: &[
            "None",
            "Pxe",
            "Floppy",
            "Cd",
            "Hdd",
            "BiosSetup",
            "Utilities",
            "UefiTarget",
            "SDCard",
            "UefiHttp",
        ],
        boot_enabled: &["Disabled", "Once", "Continuous"],
        http_boot_uri: true,
        boot_progress: true,
        last_reset_time: true,
        led: LedProperty::Both,
        media_place: MediaPlace::Both,
        media: vec![
            MediaSpec {
                system_id: "1",
                manager_id: "CD",
                types: &["CD", "DVD", "USBStick"],
            },
            MediaSpec {
                system_id: "2",
                manager_id: "RemovableDisk",
                types: &["CD", "DVD", "USBStick"],
            },
        ],
        storage: true,
        simple_storage: true,
        sse: true,
        simple_update: true,
        push_uri: Some("/redfish/v1/UpdateService/FirmwareInventory"),
        multipart_uri: Some("/redfish/v1/UpdateService/MultipartUpload"),
        account_slots: Some(16),
        jobs: true,
        session_timeout: 1800,
        old_sensors: false,
        cpus: vec![
            Cpu {
                id: "CPU.Socket.1".into(),
            },
            Cpu {
                id: "CPU.Socket.2".into(),
            },
        ],
        cpu_maker: "Intel",
        cpu_model: "Intel(R) Xeon(R) Gold 6354 CPU @ 3.00GHz",
        cores: 18,
        dimms: ["A", "B"]
            .iter()
            .flat_map(|bank| numbered(&format!("DIMM.Socket.{bank}"), 1, 8))
            .collect(),
        dimm_gib: 32,
        controllers: vec![
            Controller {
                id: "CPU.1",
                name: "PCIe SSD in Slot",
                model: "CPU.1",
                protocol: "NVMe",
                media: "SSD",
                drive_model: "Dell Ent NVMe P5600 MU U.2 1.6TB",
                drive_maker: "INTEL",
                drive_bytes: 1_600_321_314_816,
                drives: (0..8)
                    .map(|i| format!("Disk.Bay.{i}:Enclosure.Internal.0-1"))
                    .collect(),
                volumes: 0,
                erasable: true,
            },
            Controller {
                id: "AHCI.Embedded.1-1",
                name: "C620 Series Chipset Family SATA Controller",
                model: "C620",
                protocol: "SATA",
                media: "SSD",
                drive_model: "SSDSC2KB480G8R",
                drive_maker: "INTEL",
                drive_bytes: 480_103_981_056,
                drives: numbered("Disk.Direct.", 0, 2)
                    .into_iter()
                    .map(|id| format!("{id}-{id}:AHCI.Embedded.1-1"))
                    .collect(),
                volumes: 0,
                erasable: true,
            },
        ],
        shared_drives: 0,
        adapters: vec![
            Adapter {
                id: "NIC.Embedded.1",
                maker: "Broadcom Inc. and subsidiaries",
                model: "BCM5720",
                gbps: 1,
                ports: vec![nic("NIC.Embedded.1-1-1"), nic("NIC.Embedded.2-1-1")],
            },
            Adapter {
                id: "NIC.Integrated.1",
                maker: "Broadcom Inc. and subsidiaries",
                model: "BCM57414",
                gbps: 25,
                ports: vec![nic("NIC.Integrated.1-1-1"), nic("NIC.Integrated.1-2-1")],
            },
            Adapter {
                id: "NIC.Slot.5",
                maker: "Mellanox Technologies",
                model: "ConnectX-6 Dx",
                gbps: 100,
                ports: vec![nic("NIC.Slot.5-1")],
            },
        ],
        gpus: None,
        bridges: 10,
        sensors: 33,
        power_supplies: 2,
        fans: 12,
        firmware: (0..25)
            .map(|i| {
                (
                    format!("Installed-{}-1.{i}.0__Device.{i}", 107_600 + i),
                    "Device firmware",
                )
            })
            .collect(),
        logs: 40,
        bios_attributes: &[
            ("BootMode", "Uefi"),
            ("ProcVirtualization", "Enabled"),
            ("LogicalProc", "Enabled"),
            ("SriovGlobalEnable", "Disabled"),
            ("SysProfile", "PerfPerWattOptimizedDapc"),
            ("AcPwrRcvry", "Last"),
            ("EmbSata", "AhciMode"),
            ("ErrPrompt", "Enabled"),
            ("NodeInterleave", "Disabled"),
            ("SecureBoot", "Disabled"),
            ("TpmSecurity", "On"),
            ("WorkloadProfile", "NotConfigured"),
        ],
    }
}
