//! The in-band agent: PID 1 of the discovery ramdisk, or an ordinary process.
//!
//! It says hello to the registry ([`corten_wire`]), does what it is told and reports: inventory, burn-in, erasure, image writing, power. The loop
//! is [`agent::Agent::run`]. Nothing is erased or written but on a one-time grant that names drives by serial number, and each is checked again
//! right before ([`erase`], [`write`]).
//!
//! # What the ramdisk must hold
//! * `/init`: this binary, `corten-probe`, built with `RUSTFLAGS="-C target-feature=+crt-static"`; nothing else is executed.
//! * `/etc/corten/modules` (may be missing): one kernel module a line, **in the order of loading** (what a module depends on comes before it), as
//!   `<path>[ <parameters>]`; the path is absolute in the ramdisk and names an **unpacked** `.ko`. Empty lines and lines that begin with `#` are
//!   skipped. A module that cannot be loaded is logged and passed over.
//! * `/etc/corten/boot` (may be missing): `key=value` a line, with the keys below; `#` begins a comment line. It wins over the kernel command line,
//!   and is the better place for the token: the kernel prints its command line on the console, where it stays in logs.
//! * The directories `/proc`, `/sys`, `/dev`, `/run` and `/tmp` are made where they are missing.
//!
//! # Keys
//! `corten.url`, `corten.token`, `corten.pin` ([`corten_wire::cmdline`]); `corten.lldp=<seconds>` for how long LLDP is listened for (30 by default, 0 for
//! not at all); `corten.ip=<address>/<prefix>[,<gateway>[,<MAC>]]` for an address where there is no DHCP (a link without MAC means the first with
//! carrier). An ordinary process takes `--url`, `--pin` and `--token-file` or the environment's `CORTEN_URL`, `CORTEN_PIN`, `CORTEN_TOKEN`: a token is never an
//! argument. With metal-operator it is called as that one's own metalprobe is, by `--registry-url` and `--server-uuid`, and only registers what it sees.
//!
//! # Kernel modules that it needs, at minimum
//! Where they are not built in: the machine's network driver (`virtio_net` with `net_failover`, `failover`, `virtio_pci`, `virtio_pci_modern_dev`,
//! `virtio_pci_legacy_dev`, `virtio_ring`, `virtio` in QEMU; on hardware `igb`, `ixgbe`, `i40e`, `ice`, `bnxt_en`, `mlx5_core`, `tg3`), its storage drivers (`nvme`; `ahci`
//! with `libata`, `libahci`; `sd_mod` with `scsi_mod`, `scsi_common`, `t10_pi`, `crc*`; `virtio_blk`, `virtio_scsi`; RAID and SAS HBAs: `megaraid_sas`, `mpt3sas`, `smartpqi`), `sg` (only for
//! kernels whose block devices refuse `SG_IO`), `efivarfs` (boot entries), `tpm_tis` and `tpm_crb` (TPM), `af_packet` (DHCP and LLDP; built in at Debian).
//! No file system is needed.

pub mod agent;
pub mod burnin;
pub mod cleanup;
pub mod config;
pub mod device;
pub mod efi;
pub mod erase;
pub mod init;
pub mod inventory;
pub mod log;
pub mod net;
pub mod power;
pub mod registry;
pub mod stop;
pub mod write;
