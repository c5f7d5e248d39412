//! What Redfish says of a machine with a real firmware: the shape's way of saying it, QEMU's hardware.

use crate::shapes::{Adapter, Controller, Cpu, MediaSpec, Spec};

use super::{Bus, Qemu};

impl Spec {
    /// Puts the machine's real parts in place of the shape's.
    pub fn become_real(&mut self, qemu: &Qemu) {
        self.nodes.truncate(1);
        self.cpus = vec![Cpu {
            id: self
                .cpus
                .first()
                .map_or_else(|| "CPU.1".to_owned(), |cpu| cpu.id.clone()),
        }];
        self.cores = 1;
        self.cpu_model = "QEMU TCG CPU version 2.5+";
        self.dimms.truncate(1);
        self.dimm_gib = qemu.memory_mib.div_ceil(1024);
        self.gpus = None;
        self.bridges = 0;
        self.firmware.truncate(3);
        // One controller a bus, in the order in which the drives are numbered: see `Qemu::disks_in_order`.
        self.controllers = Bus::ALL
            .into_iter()
            .filter_map(|bus| controller(bus, qemu))
            .collect();
        self.adapters = vec![Adapter {
            id: "NIC.1",
            maker: "Red Hat, Inc.",
            model: "Virtio network device",
            gbps: 1,
            ports: (1..=qemu.cards)
                .map(|card| format!("NIC.1-{card}"))
                .collect(),
        }];
        // One CD drive stands for all virtual media.
        self.media = self
            .media
            .iter()
            .find(|media| media.types.contains(&"CD"))
            .map(|media| MediaSpec {
                types: &["CD", "DVD"],
                ..media.clone()
            })
            .into_iter()
            .collect();
        if !self.boot_targets.is_empty() {
            self.boot_progress = true;
        }
    }
}

fn controller(bus: Bus, qemu: &Qemu) -> Option<Controller> {
    let disks: Vec<u64> = qemu
        .disks
        .iter()
        .filter(|disk| disk.bus == bus)
        .map(|disk| disk.bytes)
        .collect();
    let bytes = *disks.first()?;
    let (id, name, model, protocol, media, drive_model) = match bus {
        Bus::Nvme => (
            "NVMe.1",
            "NVMe",
            "QEMU NVMe Ctrl",
            "NVMe",
            "SSD",
            "QEMU NVMe Ctrl",
        ),
        Bus::Sata => ("AHCI.1", "AHCI", "ICH9 AHCI", "SATA", "HDD", SATA_MODEL),
        Bus::Virtio => (
            "Virtio.1",
            "Virtio",
            "Virtio block device",
            "SCSI",
            "HDD",
            "Virtio block device",
        ),
        Bus::Scsi => ("SCSI.1", "SCSI", "Virtio SCSI", "SCSI", "HDD", SATA_MODEL),
    };
    Some(Controller {
        id,
        name,
        model,
        protocol,
        media,
        drive_model,
        drive_maker: "QEMU",
        drive_bytes: bytes,
        drives: (0..disks.len())
            .map(|i| format!("{name}.Disk.{i}"))
            .collect(),
        volumes: 0,
        // Erasing is the probe's work here.
        erasable: false,
    })
}

pub(super) const SATA_MODEL: &str = "QEMU HARDDISK";

impl Qemu {
    /// The disks in the order of the Redfish drives: by bus, then as given.
    pub(crate) fn disks_in_order(&self) -> Vec<super::Disk> {
        Bus::ALL
            .into_iter()
            .flat_map(|bus| {
                self.disks
                    .iter()
                    .filter(move |disk| disk.bus == bus)
                    .copied()
            })
            .collect()
    }
}
