//! What the probe and the registry say to each other. Serde only: no I/O, no rule.
//!
//! The probe begins with [`Hello`]: who it is. The registry answers with [`Welcome`]: what to do. Whatever erases or writes comes as a one-time
//! grant ([`EraseGrant`], [`WriteGrant`]) that names the drives; nothing of the kind is ever in a boot artefact. What was learnt goes as a
//! [`registration::Registration`], whose JSON contains that of the original metalprobe.
//!
//! Every property is optional on reading where the design allows it, and unknown ones are skipped: probe and registry may differ in version.

pub mod registration;
pub mod work;

pub use registration::Registration;
pub use work::{
    BurnIn, BurnInResult, DriveName, DriveResult, EraseClass, EraseGrant, EraseMethod, Hello,
    Machine, Outcome, Progress, Report, RootDeviceHints, Task, Verdict, Welcome, WriteGrant,
    WriteResult,
};

/// Paths of the registry, below the boot server's address. All want `Authorization: Bearer <boot token>`.
pub mod path {
    /// `POST` [`crate::Hello`] → [`crate::Welcome`].
    pub const HELLO: &str = "/probe/v1/hello";
    /// `POST` [`crate::Progress`] → [`crate::Verdict`].
    pub const PROGRESS: &str = "/probe/v1/progress";
    /// `POST` [`crate::Report`] → 204.
    pub const REPORT: &str = "/probe/v1/report";
    /// `POST` [`crate::Registration`] → 201; the original's path.
    pub const REGISTER: &str = "/register";
    /// `POST` `{systemUUID, booted}` → 200; the original's path.
    pub const BOOT_STATE: &str = "/bootstate";
}

/// Kernel command-line parameters by which a probe learns where to call.
pub mod cmdline {
    /// Base URL of the registry.
    pub const URL: &str = "corten.url";
    /// Boot token.
    pub const TOKEN: &str = "corten.token";
    /// SHA-256 of the registry's certificate (DER), hexadecimal, where it speaks TLS.
    pub const PIN: &str = "corten.pin";
}
