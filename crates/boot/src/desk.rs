//! Who may boot what: the questions that the boot services ask. The engine answers them from live objects, by the rules of `lifecycle`.

use async_trait::async_trait;
use corten_wire::{Hello, Progress, Registration, Report, Verdict, Welcome};

/// One boot of one server: what a token stands for. It says who, never what may be done; that is looked up when it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Name of the Server.
    pub server: String,
    /// UID of the Server object.
    pub server_uid: String,
    /// The occasion: UID of the run or of the claim that the boot is for.
    pub nonce: String,
}

/// A machine that comes without a token, by DHCP and the chain URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// SMBIOS UUID that it says it has, lower case.
    pub system_uuid: Option<String>,
    /// MAC address that it says it boots from, lower case with colons.
    pub mac: Option<String>,
    /// Address that it comes from.
    pub address: Option<std::net::IpAddr>,
}

/// What a machine boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The probe's ramdisk.
    Probe,
    /// An image that [`crate`] has resolved before, by the SHA-256 of its manifest in the cache.
    Image {
        /// The reference, as the claim has it.
        reference: String,
        /// Digest of what the reference was resolved to.
        digest: String,
    },
    /// What is on its disk.
    LocalDisk,
}

/// Ignition or cloud-init data. Its `Debug` shows nothing of it.
#[derive(Clone, Default)]
pub struct UserData {
    /// The claim's ignition as JSON, translated where it was Butane, or what its owner wrote for another provisioner; none without one.
    pub ignition: Option<bytes::Bytes>,
    /// cloud-init user-data; none without one.
    pub user_data: Option<bytes::Bytes>,
    /// cloud-init meta-data (YAML), which Corten makes; at least `instance-id`.
    pub meta_data: bytes::Bytes,
    /// cloud-init network-config; none without one.
    pub network_config: Option<bytes::Bytes>,
}

impl std::fmt::Debug for UserData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserData(redacted)")
    }
}

/// Why a machine is not served. The caller is told the status and a short word; the log gets the whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 403: no such boot is due, or the machine is another one. Trying again does not help before something changes.
    #[error("not due: {0}")]
    NotDue(String),
    /// 404: there is nothing of that name for it.
    #[error("nothing there: {0}")]
    Nothing(String),
    /// 409: a grant was given already, or a report does not fit the run.
    #[error("conflict: {0}")]
    Conflict(String),
    /// 503: it cannot be looked up for now (standby, API server away). Trying again helps.
    #[error("not now: {0}")]
    NotNow(String),
}

/// Answers from live objects.
#[async_trait]
pub trait Desk: Send + Sync + 'static {
    /// A machine asks the chain URL: whether a boot window is open for it, and for which boot. Each window lets it in once.
    async fn admit(&self, caller: &Caller) -> Result<Ticket, Refusal>;

    /// What the boot of `ticket` boots, as long as it is due.
    async fn target(&self, ticket: &Ticket) -> Result<Target, Refusal>;

    /// The machine of `ticket` came for what it boots and is being sent it, or why it is not.
    async fn fetched(&self, ticket: &Ticket, served: Result<(), String>) -> Result<(), Refusal>;

    /// Ignition and cloud-init data of the claim that the boot is for.
    async fn user_data(&self, ticket: &Ticket) -> Result<UserData, Refusal>;

    /// A probe calls. The one place from which grants come.
    async fn hello(&self, ticket: &Ticket, hello: &Hello) -> Result<Welcome, Refusal>;

    /// A probe is at work.
    async fn progress(&self, ticket: &Ticket, progress: &Progress) -> Result<Verdict, Refusal>;

    /// A probe's work has ended.
    async fn report(&self, ticket: &Ticket, report: &Report) -> Result<(), Refusal>;

    /// A probe's inventory.
    async fn register(&self, ticket: &Ticket, registration: &Registration) -> Result<(), Refusal>;

    /// The booted system says that it runs (`POST /bootstate`), and which machine it is, where it does. Another machine's UUID is refused.
    async fn booted(&self, ticket: &Ticket, system_uuid: Option<&str>) -> Result<(), Refusal>;

    /// Which boot a machine without a token runs, told by its address (the metadata service). Whoever answers this trusts the network with user
    /// data, so nobody does unless it is written.
    async fn recognise(&self, _caller: &Caller) -> Result<Ticket, Refusal> {
        Err(Refusal::NotDue(
            "machines are not recognised by their address".into(),
        ))
    }

    /// `GET /systems/{uuid}`: what was registered. The ticket is an operator's ([`crate::token::Purpose::Operator`]).
    async fn registration(
        &self,
        _ticket: &Ticket,
        _system_uuid: &str,
    ) -> Result<Registration, Refusal> {
        Err(Refusal::Nothing("registrations are not kept".into()))
    }

    /// `DELETE /delete/{uuid}`: forget it. The ticket is an operator's.
    async fn forget(&self, _ticket: &Ticket, _system_uuid: &str) -> Result<(), Refusal> {
        Err(Refusal::Nothing("registrations are not kept".into()))
    }
}
