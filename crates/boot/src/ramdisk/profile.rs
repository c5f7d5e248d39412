//! Which hardware a ramdisk knows.

/// Which machines a ramdisk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Virtual machines: small, and starts fast.
    Virtual,
    /// Real servers: storage, network, TPM and IPMI drivers of the usual vendors, and those of virtual machines.
    Hardware,
}

impl Profile {
    /// Its name on the command line and in the index.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Virtual => "virtual",
            Profile::Hardware => "hardware",
        }
    }

    /// The distribution's kernel package for it.
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Profile::Virtual => "linux-image-cloud-amd64",
            Profile::Hardware => "linux-image-amd64",
        }
    }

    /// Module names in the order in which they are wanted: the bus, the network, the disks, the rest. What they need is found out.
    pub fn modules(self) -> impl Iterator<Item = &'static str> {
        let hardware: &[&str] = if self == Profile::Hardware {
            HARDWARE
        } else {
            &[]
        };
        VIRTUAL.iter().chain(hardware).copied()
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "virtual" => Ok(Profile::Virtual),
            "hardware" => Ok(Profile::Hardware),
            other => Err(format!(
                "{other:?} is no profile; there are virtual and hardware"
            )),
        }
    }
}

const VIRTUAL: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "af_packet",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "sr_mod",
    "sg",
    "nvme",
    "ahci",
    "ata_piix",
    "e1000",
    "e1000e",
    "vmxnet3",
    "hv_netvsc",
    "hv_storvsc",
    "vmw_pvscsi",
    "efivarfs",
    "tpm_tis",
    "tpm_crb",
    "virtio_rng",
    "virtio_console",
    "ext4",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "isofs",
];

const HARDWARE: &[&str] = &[
    // Network: Intel, Broadcom, NVIDIA/Mellanox, QLogic/Marvell, Chelsio, Emulex, AMD, Cisco, Realtek, Aquantia, Solarflare, Amazon, Pensando, Huawei.
    "igb",
    "igc",
    "ixgbe",
    "i40e",
    "ice",
    "iavf",
    "fm10k",
    "tg3",
    "bnx2",
    "bnx2x",
    "bnxt_en",
    "mlx4_en",
    "mlx5_core",
    "qede",
    "qed",
    "qlcnic",
    "cxgb4",
    "be2net",
    "amd_xgbe",
    "enic",
    "r8169",
    "atlantic",
    "sfc",
    "ena",
    "ionic",
    "hinic",
    "cdc_ether",
    "rndis_host",
    "bonding",
    "8021q",
    // Storage: SATA, SAS and RAID controllers, multi-media cards and USB, of which inventory wants to know.
    "megaraid_sas",
    "mpt3sas",
    "smartpqi",
    "hpsa",
    "aacraid",
    "arcmsr",
    "isci",
    "mvsas",
    "pm80xx",
    "mpi3mr",
    "ses",
    "enclosure",
    "vmd",
    "mmc_block",
    "sdhci_pci",
    "sdhci_acpi",
    "usb_storage",
    "uas",
    "xhci_pci",
    "ehci_pci",
    "usbhid",
    "hid_generic",
    // What the machine says about itself.
    "ipmi_si",
    "ipmi_devintf",
    "ipmi_msghandler",
    "i2c_i801",
    "coretemp",
    "k10temp",
    "mei_me",
    "dax_pmem",
    "nd_pmem",
    "nfit",
];
