//! Every recorded BMC is read without failing, and says what a person sees in the recording.
//!
//! The table of facts was written from the recordings themselves, not from what our reader makes of them.

use corten_redfish::inventory::{Inventory, PowerState, SectionState};
use corten_redfish::model::Service;
use corten_redfish::{Credentials, Gateway, GatewayConfig, Target, Trust};
use corten_tests::replay::{InMemory, Recording, ReplayServer, archives};
use corten_tests::skip;
use std::sync::Arc;

/// What a person sees in a recording. `gib` is what the modules sum up to, printed sizes of modules counting.
struct Facts {
    recording: &'static str,
    system: &'static str,
    manufacturer: Option<&'static str>,
    model: Option<&'static str>,
    serial: Option<&'static str>,
    uuid: Option<&'static str>,
    bios: Option<&'static str>,
    power: PowerState,
    cpus: usize,
    gpus: usize,
    gib: Option<u64>,
    drives: &'static [&'static str],
    macs: &'static [&'static str],
    bmc_firmware: Option<&'static str>,
    /// Drives without a serial number are counted here.
    nameless_drives: usize,
    erasable: usize,
}

const CONTOSO: Facts = Facts {
    recording: "contoso-metal-operator-mock",
    system: "437XR1138R2",
    manufacturer: Some("Contoso"),
    model: Some("3500"),
    serial: Some("437XR1138R2"),
    uuid: Some("38947555-7742-3448-3784-823347823834"),
    bios: Some("P79 v1.45 (12/06/2017)"),
    power: PowerState::On,
    cpus: 1,
    gpus: 0,
    gib: Some(96),
    drives: &[],
    macs: &["12:44:6a:3b:04:11", "aa:bb:cc:dd:ee:00"],
    bmc_firmware: Some("1.45.455b66-rev4"),
    nameless_drives: 2,
    erasable: 0,
};

const BLADE: Facts = Facts {
    recording: "dmtf-public-bladed",
    system: "529QB9450R6",
    model: Some("SX1000"),
    serial: Some("529QB9450R6"),
    uuid: None,
    bios: Some("P86 v1.58 (10/15/2015)"),
    gib: Some(64),
    macs: &[],
    bmc_firmware: Some("1.00"),
    ..CONTOSO
};

const NODE: Facts = Facts {
    recording: "hpecray-ex420-multinode",
    system: "Node0",
    manufacturer: Some("HPE"),
    model: Some("HPE Cray EX420"),
    serial: Some("EW21460041"),
    uuid: None,
    bios: Some("ex420.bios-0.3.0"),
    cpus: 2,
    gib: Some(256),
    macs: &["00:40:a6:84:d8:b7"],
    bmc_firmware: None,
    nameless_drives: 0,
    ..CONTOSO
};

const FACTS: &[Facts] = &[
    CONTOSO,
    Facts {
        recording: "dell-r750-idrac9-6.00.30",
        system: "System.Embedded.1",
        manufacturer: Some("Dell Inc."),
        model: Some("PowerEdge R750"),
        serial: Some("CNIVC0014M0388"),
        uuid: Some("4c4c4544-0035-3410-8050-c6c04f314733"),
        bios: Some("1.8.2"),
        power: PowerState::On,
        cpus: 2,
        gpus: 1,
        gib: Some(512),
        drives: &["61P0A06CTCD8", "61M0A08ZTCD8", "61X0A002TCD8"],
        macs: &[
            "70:b5:e8:f0:52:dc",
            "e4:3d:1a:13:27:f1",
            "e4:3d:1a:13:27:f0",
            "70:b5:e8:f0:52:dd",
            "b8:3f:d2:90:97:c4",
            // Of the InfiniBand card, which the system's own list leaves out.
            "b8:3f:d2:a4:1b:d3",
        ],
        bmc_firmware: Some("6.00.30.00"),
        nameless_drives: 0,
        erasable: 3,
    },
    BLADE,
    Facts {
        system: "529QB9451R6",
        serial: Some("529QB9451R6"),
        ..BLADE
    },
    Facts {
        system: "529QB9452R6",
        serial: Some("529QB9452R6"),
        ..BLADE
    },
    Facts {
        system: "529QB9453R6",
        serial: Some("529QB9453R6"),
        ..BLADE
    },
    Facts {
        recording: "dmtf-public-catfish",
        system: "1",
        manufacturer: Some("CatfishManufacturer"),
        model: Some("YellowCat1000"),
        serial: Some("2M220100SL"),
        uuid: Some("00000000-0000-0000-0000-000000000000"),
        bios: Some("X00.1.2.3.4(build-23)"),
        cpus: 0,
        gib: None,
        macs: &[],
        bmc_firmware: Some("1.00"),
        nameless_drives: 0,
        ..CONTOSO
    },
    Facts {
        recording: "dmtf-public-liquid-cooled-server",
        ..CONTOSO
    },
    Facts {
        recording: "dmtf-public-localstorage",
        model: Some("3500RX"),
        bios: Some("P79 v1.33 (02/28/2015)"),
        drives: &["1234567", "1234568", "1234569", "1234570"],
        bmc_firmware: Some("1.00"),
        nameless_drives: 0,
        erasable: 4,
        ..CONTOSO
    },
    Facts {
        recording: "dmtf-public-rackmount1",
        ..CONTOSO
    },
    Facts {
        recording: "dmtf-public-telemetry",
        system: "1",
        manufacturer: Some("Manufacturer Name"),
        model: Some("Model Name"),
        serial: Some("2M220100SL"),
        uuid: Some("00000000-0000-0000-0000-000000000000"),
        bios: Some("P79 v1.00 (09/20/2013)"),
        cpus: 2,
        gib: Some(16),
        macs: &[],
        bmc_firmware: Some("1.00"),
        nameless_drives: 0,
        ..CONTOSO
    },
    Facts {
        recording: "dmtf-public-tower",
        system: "437XR1238R2",
        serial: Some("437XR1238R2"),
        bios: Some("P79 v1.95 (12/06/2019)"),
        cpus: 8,
        gpus: 2,
        gib: Some(1024),
        macs: &[
            "fb:aa:1d:4e:d0:7a",
            "fb:aa:1d:4e:d0:7c",
            "00:0c:29:9a:98:ed",
            "00:0c:29:9a:98:ef",
        ],
        // 2 M.2 and 4 in each cage; the other bays are marked absent.
        nameless_drives: 10,
        ..CONTOSO
    },
    Facts {
        recording: "gigabyte-h262z63-ami-12.84",
        system: "Self",
        manufacturer: Some("GIGABYTE"),
        model: Some("H262-Z63-00"),
        serial: Some("GJG9NF512A000302"),
        uuid: Some("e9184000-7983-11ec-8000-b42e99bade15"),
        bios: Some("C27"),
        cpus: 2,
        // 16 modules of 16 GiB (M393A2K43DB2-CWE); the BMC writes 15,625 MiB each, and 244 GiB in all.
        gib: Some(256),
        drives: &["S455NY0M831393"],
        macs: &["b4:2e:99:ba:de:16", "b4:2e:99:ba:de:15"],
        bmc_firmware: Some("12.84.13"),
        nameless_drives: 0,
        ..CONTOSO
    },
    Facts {
        recording: "hpe-dl360gen12-ilo7-1.14",
        system: "1",
        manufacturer: Some("HPE"),
        model: Some("HPE ProLiant Compute DL360 Gen12 -- SIMULATED"),
        serial: Some("3M1D2V13TW"),
        uuid: Some("31323750-3637-4d33-3144-325631335457"),
        bios: Some("U68 v1.40 (05/22/2025)"),
        cpus: 2,
        gib: Some(256),
        drives: &["5F90A0810UG3", "5F90A08R0UG3"],
        // The Fibre Channel adapter's World Wide Names are no MACs.
        macs: &["58:a2:e1:48:93:ae", "58:a2:e1:48:93:af"],
        bmc_firmware: Some("1.14.00 May 28 2025"),
        nameless_drives: 0,
        erasable: 2,
        ..CONTOSO
    },
    Facts {
        recording: "hpe-dl380agen11-ilo6-1.66",
        system: "1",
        manufacturer: Some("HPE"),
        model: Some("ProLiant DL380a Gen11 -- SIMULATED"),
        serial: Some("2M2D2J00L4"),
        uuid: Some("39343550-3330-4d32-3244-324a30304c34"),
        bios: Some("U58 v2.44 (01/17/2025)"),
        cpus: 2,
        gpus: 2,
        gib: Some(512),
        drives: &[
            "S70XNN0XC13973",
            "S70XNN0XC14056",
            "S70XNN0XC14051",
            "S70XNN0XC14012",
            "S70XNN0XC14054",
            "8E10A08401C3",
            "8E10A08901C3",
        ],
        macs: &["58:a2:e1:03:96:f2", "58:a2:e1:03:96:f3"],
        bmc_firmware: Some("iLO 6 v1.66"),
        nameless_drives: 0,
        // The other two are members of a volume; an absent bay is listed as a drive.
        erasable: 5,
        ..CONTOSO
    },
    Facts {
        recording: "hpe-dl385gen10plusv2-ilo5-2.72",
        system: "1",
        manufacturer: Some("HPE"),
        model: Some("ProLiant DL385 Gen10 Plus v2"),
        serial: Some("MXQ302099S"),
        uuid: Some("34383350-3131-584d-5133-303230393953"),
        bios: Some("A42 v2.60 (08/11/2022)"),
        cpus: 2,
        gib: Some(1024),
        drives: &[
            "S6C1NA0TA01511",
            "S6C1NA0TA00991",
            "S6C1NA0TA01436",
            "S6C1NA0TA01510",
            "S6C1NA0TA00962",
            "S6C1NA0TA01474",
            "S6C1NA0TA00957",
            "S6C1NA0TA01508",
            "S6C1NA0TA04201",
            "S6C1NA0TA04203",
            "S6C1NA0TA04221",
            "S6C1NA0TA04214",
            "S6C1NA0TA01473",
            "S6C1NA0TA01470",
            "S6C1NA0TA04209",
            "S6C1NA0TA04222",
            "S6MPNE0T802701",
            "S6MPNE0T802706",
        ],
        macs: &[
            "50:7c:6f:11:f2:a6",
            "50:7c:6f:11:f2:a7",
            "50:7c:6f:11:f2:a8",
            "50:7c:6f:11:f2:a9",
            "88:e9:a4:87:42:c8",
            "88:e9:a4:80:9d:a2",
            "b8:3f:d2:d7:f7:4a",
            "b8:3f:d2:d7:f7:4c",
            "b8:3f:d2:d7:f7:4d",
        ],
        bmc_firmware: Some("iLO 5 v2.72"),
        nameless_drives: 0,
        ..CONTOSO
    },
    NODE,
    Facts {
        system: "Node1",
        macs: &["00:40:a6:84:d8:b8"],
        ..NODE
    },
    Facts {
        recording: "intel-s2600bpb-1.93",
        system: "QSBP74100021",
        manufacturer: Some("Intel Corporation"),
        model: Some("S2600BPB"),
        serial: Some("QSBP74100021"),
        uuid: Some("3504bf7d-ae5b-11e7-ab21-a4bf012890a8"),
        bios: Some("SE5C620.86B.02.01.0008.C0001.031920191559"),
        cpus: 2,
        gib: Some(48),
        macs: &[],
        bmc_firmware: Some("1.93.870cf4f0"),
        // 32 bays are linked and none of them is in the recording.
        nameless_drives: 0,
        ..CONTOSO
    },
    Facts {
        recording: "lenovo-sr670v2-xcc-2.83",
        system: "1",
        manufacturer: Some("Lenovo"),
        model: Some("ThinkSystem SR670 V2"),
        serial: Some("J105958B"),
        uuid: Some("6173ecec-6ef5-11ee-834a-0a8fc3a58a71"),
        bios: Some("U8E122J"),
        cpus: 2,
        gpus: 8,
        gib: Some(1024),
        drives: &[
            "233442ABA3AB",
            "233442ABA28A",
            "233242BE0C46",
            "233242BE0C5A",
        ],
        // ToManager, the host's end of the link to the BMC, is no interface of the machine.
        macs: &[
            "00:62:0b:4c:28:4e",
            "00:62:0b:4c:28:4f",
            "00:62:0b:4c:28:50",
            "00:62:0b:4c:28:51",
        ],
        bmc_firmware: Some("TGBT42S 2.83 2023-07-05"),
        nameless_drives: 0,
        ..CONTOSO
    },
    Facts {
        recording: "nvidia-dgxh100-ami-23.11",
        system: "DGX",
        manufacturer: Some("NVIDIA"),
        model: Some("DGXH100"),
        serial: Some("1662923610124"),
        uuid: Some("b11dd4f2-bfde-1000-02bc-5cff35fbe6e9"),
        bios: Some("1.1.3"),
        cpus: 2,
        // On the HGX baseboard, which is a ComputerSystem of its own and no machine.
        gpus: 8,
        gib: Some(2048),
        macs: &[
            "5c:ff:35:fe:04:b1",
            "6c:fe:54:41:15:78",
            "6c:fe:54:41:15:79",
            "94:6d:ae:aa:2a:19",
            "a0:88:c2:82:6e:52",
        ],
        bmc_firmware: Some("23.11.20"),
        // 2 + 8 NVMe; the five virtual USB devices of the BMC are no drives.
        nameless_drives: 10,
        ..CONTOSO
    },
    Facts {
        recording: "openbmc-2.15-stock",
        system: "system",
        manufacturer: None,
        model: None,
        serial: None,
        uuid: None,
        bios: None,
        power: PowerState::Off,
        cpus: 0,
        gib: None,
        macs: &[],
        bmc_firmware: Some("2.15.0-dev-686-g100c36de90"),
        nameless_drives: 0,
        ..CONTOSO
    },
    Facts {
        recording: "supermicro-sys821ge-tnhr-11.01.01",
        system: "1",
        manufacturer: Some("Supermicro"),
        model: Some("SYS-821GE-TNHR"),
        serial: Some("S889914X3710910"),
        uuid: Some("00000000-0000-0000-0000-7cc25550a8ff"),
        bios: Some("1.4"),
        cpus: 2,
        // In PCIeDevices only.
        gpus: 8,
        gib: Some(2048),
        drives: &[
            "S6CKNN0W502286",
            "S6CKNN0W502114",
            "S6CKNN0W502287",
            "S6CKNN0W502288",
            "S6CKNN0W502111",
            "S6CKNN0W502373",
            "S6CKNN0W501980",
            "S6CKNN0W502279",
        ],
        macs: &[
            "94:6d:ae:91:fb:22",
            "94:6d:ae:91:09:c2",
            "94:6d:ae:91:6a:9a",
            "94:6d:ae:91:67:6a",
            "94:6d:ae:91:dd:1a",
            "94:6d:ae:91:75:9a",
            "94:6d:ae:91:75:ba",
            "94:6d:ae:91:73:8a",
            "7c:c2:55:79:3f:8e",
            "7c:c2:55:79:3f:8f",
            "94:6d:ae:b2:b1:4e",
        ],
        bmc_firmware: Some("11.01.01"),
        nameless_drives: 0,
        ..CONTOSO
    },
];

/// Recordings of things that are no machines.
const NO_SYSTEMS: &[&str] = &["dmtf-public-pdu", "dmtf-public-power-shelf"];

/// Most requests that reading a machine may take where the BMC expands.
const BUDGET: u32 = 40;

impl Facts {
    fn check(&self, inventory: &Inventory) {
        let name = format!("{} {}", self.recording, self.system);
        let system = &inventory.system;
        assert_eq!(
            system.manufacturer.as_deref(),
            self.manufacturer,
            "{name}: manufacturer"
        );
        assert_eq!(system.model.as_deref(), self.model, "{name}: model");
        assert_eq!(
            system.serial_number.as_deref(),
            self.serial,
            "{name}: serial number"
        );
        assert_eq!(
            system.uuid.as_ref().map(|uuid| uuid.as_str()),
            self.uuid,
            "{name}: UUID"
        );
        assert_eq!(
            system.bios_version.as_deref(),
            self.bios,
            "{name}: BIOS version"
        );
        assert_eq!(
            system.power_state.as_ref(),
            Some(&self.power),
            "{name}: power state"
        );
        assert_eq!(inventory.cpus().count(), self.cpus, "{name}: CPUs");
        assert_eq!(inventory.gpus().count(), self.gpus, "{name}: GPUs");
        assert_eq!(
            inventory.memory_mib(),
            self.gib.map(|gib| gib * 1024),
            "{name}: memory"
        );
        let mut serials: Vec<&str> = inventory
            .drives
            .iter()
            .filter_map(|drive| drive.serial_number.as_deref())
            .collect();
        let mut expected = self.drives.to_vec();
        serials.sort_unstable();
        expected.sort_unstable();
        assert_eq!(serials, expected, "{name}: drives");
        let nameless = inventory
            .drives
            .iter()
            .filter(|drive| drive.serial_number.is_none())
            .count();
        assert_eq!(
            nameless, self.nameless_drives,
            "{name}: drives without a serial number"
        );
        let erasable = inventory
            .drives
            .iter()
            .filter(|drive| drive.secure_erase.is_some())
            .count();
        assert_eq!(erasable, self.erasable, "{name}: drives with SecureErase");
        let mut macs: Vec<String> = inventory.macs().map(|mac| mac.to_string()).collect();
        let mut expected: Vec<String> = self.macs.iter().map(ToString::to_string).collect();
        macs.sort_unstable();
        expected.sort_unstable();
        assert_eq!(macs, expected, "{name}: MACs");
        let firmware = inventory
            .managers
            .first()
            .and_then(|manager| manager.firmware_version.as_deref());
        assert_eq!(firmware, self.bmc_firmware, "{name}: BMC firmware");
        for (section, result) in inventory.sections.named() {
            assert!(
                !matches!(result.state, SectionState::Failed(_)),
                "{name}: {section}: {result:?}"
            );
        }
    }
}

fn recordings() -> Option<Vec<Arc<Recording>>> {
    let found = Recording::load_all().expect("the archives can be read");
    found.map(|recordings| recordings.into_iter().map(Arc::new).collect())
}

/// Reads every system of a service and compares it with the facts; gives the requests of the most expensive one.
async fn check_all(recording: &Recording, service: &Service, before: u32) -> u32 {
    let systems = service
        .systems()
        .await
        .unwrap_or_else(|error| panic!("{}: {}", recording.name, error.chain()));
    let expected: Vec<&Facts> = FACTS
        .iter()
        .filter(|facts| facts.recording == recording.name)
        .collect();
    assert_eq!(systems.len(), expected.len(), "{}: systems", recording.name);
    assert_eq!(
        expected.is_empty(),
        NO_SYSTEMS.contains(&recording.name.as_str()),
        "{}: not in the table",
        recording.name
    );
    let mut most = 0;
    for (system, facts) in systems.iter().zip(expected) {
        assert_eq!(system.facts().id, facts.system);
        let inventory = service
            .inventory(system)
            .await
            .unwrap_or_else(|error| panic!("{}: {}", recording.name, error.chain()));
        facts.check(&inventory);
        most = most.max(before + inventory.requests);
    }
    most
}

#[tokio::test]
async fn every_recorded_bmc_says_what_a_person_sees_in_it() {
    let Some(recordings) = recordings() else {
        skip!("no recordings at {}", archives().display());
    };
    assert!(recordings.len() >= 21, "{} recordings", recordings.len());
    for recording in recordings {
        let service = Service::over(InMemory::new(Arc::clone(&recording), true))
            .await
            .unwrap();
        let expands =
            service.systems().await.is_ok() && format!("{service:?}").contains("symbol: Some");
        let requests = check_all(&recording, &service, 2).await;
        if expands {
            assert!(
                requests <= BUDGET,
                "{}: {requests} requests",
                recording.name
            );
        }
    }
}

#[tokio::test]
async fn a_bmc_that_promises_to_expand_and_does_not_is_read_all_the_same() {
    let Some(recordings) = recordings() else {
        skip!("no recordings at {}", archives().display());
    };
    for recording in recordings {
        let service = Service::over(InMemory::new(Arc::clone(&recording), false))
            .await
            .unwrap();
        check_all(&recording, &service, 2).await;
    }
}

#[tokio::test]
async fn every_recorded_bmc_is_read_over_http_on_one_connection() {
    let Some(recordings) = recordings() else {
        skip!("no recordings at {}", archives().display());
    };
    let gateway = Gateway::new(GatewayConfig::default());
    for recording in recordings {
        let server = ReplayServer::start(Arc::clone(&recording), true)
            .await
            .unwrap();
        let bmc = gateway.bmc(Target {
            name: recording.name.clone(),
            url: server.url().parse().unwrap(),
            credentials: Credentials::new("admin", "replayed"),
            trust: Trust::Plain,
        });
        let service = Service::open(&bmc)
            .await
            .unwrap_or_else(|error| panic!("{}: {}", recording.name, error.chain()));
        check_all(&recording, &service, 2).await;
        assert_eq!(server.connections(), 1, "{}: connections", recording.name);
    }
    gateway.close().await;
}

/// Damages one document in `every`: drops, nulls or retypes some of its properties.
fn damage(recording: &mut Recording, seed: u64, every: u64) {
    let mut state = seed;
    let mut next = move || {
        // A linear congruential generator: the same damage for the same seed, everywhere.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for (path, body) in recording.documents_mut() {
        if !next().is_multiple_of(every) {
            continue;
        }
        let Some(map) = body.as_object_mut() else {
            continue;
        };
        let keys: Vec<String> = map.keys().cloned().collect();
        for key in keys {
            // The way to the systems is left, or there would be nothing to read.
            if next() % 3 != 0 || ["/redfish/v1", "/redfish/v1/Systems"].contains(&path.as_str()) {
                continue;
            }
            match next() % 5 {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(key, serde_json::Value::Null)),
                2 => drop(map.insert(
                    key,
                    serde_json::json!(["x", 1, {"@odata.id": "/redfish/v1/Nowhere"}]),
                )),
                3 => drop(map.insert(key, serde_json::json!({"@odata.id": 7, "Members": "none"}))),
                _ => drop(map.insert(key, serde_json::json!(-1.5))),
            }
        }
    }
}

#[tokio::test]
async fn no_damage_to_recorded_documents_fails_more_than_sections() {
    let Some(recordings) = recordings() else {
        skip!("no recordings at {}", archives().display());
    };
    for recording in recordings {
        for seed in 0..2 {
            let mut damaged = Recording::clone(&recording);
            damage(&mut damaged, seed, 2);
            let service = Service::over(InMemory::new(Arc::new(damaged), seed % 2 == 0))
                .await
                .unwrap();
            for system in service.systems().await.unwrap_or_default() {
                let read = service.inventory(&system).await;
                assert!(
                    read.is_ok(),
                    "{} seed {seed}: {:?}",
                    recording.name,
                    read.err()
                );
            }
        }
    }
}
