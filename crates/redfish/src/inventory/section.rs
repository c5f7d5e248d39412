//! What was read, what was not, and why.

use std::fmt;

/// How many unread resources a section keeps by name.
const KEPT: usize = 8;

/// How a part of the inventory came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SectionState {
    /// The BMC does not offer it: no link to it, or a link that leads nowhere (404).
    #[default]
    Unsupported,
    /// It was read. Single members may still be missing: see [`Section::unread`].
    Read,
    /// It is offered and could not be read. The text is for people; it holds no secret.
    Failed(String),
}

/// A resource inside a section that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Its path.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// One part of the inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// How it came out as a whole.
    pub state: SectionState,
    /// Members that could not be read, the first few by name.
    pub unread: Vec<Unread>,
    /// How many members could not be read.
    pub unread_count: u32,
}

/// All parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// The ComputerSystem itself.
    pub system: Section,
    /// Processors.
    pub processors: Section,
    /// Memory modules.
    pub memory: Section,
    /// Storage controllers and drives.
    pub storage: Section,
    /// Volumes.
    pub volumes: Section,
    /// EthernetInterfaces of the host.
    pub interfaces: Section,
    /// Network adapters and their ports.
    pub adapters: Section,
    /// PCIe devices.
    pub pcie_devices: Section,
    /// Firmware inventory.
    pub firmware: Section,
    /// Managers.
    pub managers: Section,
}

// === impl Section ===

impl Section {
    /// Whether the section was read, in whole or in part.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.state == SectionState::Read
    }

    /// Whether the section is settled: read completely, or known not to be offered. Discovery asks for this.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self.state {
            SectionState::Read => self.unread_count == 0,
            SectionState::Unsupported => true,
            SectionState::Failed(_) => false,
        }
    }

    /// Counts the section as read, unless a part of it already failed.
    pub(crate) fn read(&mut self) {
        if self.state == SectionState::Unsupported {
            self.state = SectionState::Read;
        }
    }

    /// Counts the section as failed, unless another part of it was read; then the failure is one unread member.
    pub(crate) fn failed(&mut self, path: &str, reason: impl fmt::Display) {
        if self.is_read() {
            self.missed(path, reason);
        } else {
            self.state = SectionState::Failed(format!("{path}: {reason}"));
        }
    }

    /// Notes a member that could not be read.
    pub(crate) fn missed(&mut self, path: &str, reason: impl fmt::Display) {
        self.unread_count = self.unread_count.saturating_add(1);
        if self.unread.len() < KEPT {
            self.unread.push(Unread {
                path: path.to_owned(),
                reason: reason.to_string(),
            });
        }
    }
}

impl Sections {
    /// Each section with its name, in a fixed order.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &Section); 10] {
        [
            ("system", &self.system),
            ("processors", &self.processors),
            ("memory", &self.memory),
            ("storage", &self.storage),
            ("volumes", &self.volumes),
            ("interfaces", &self.interfaces),
            ("adapters", &self.adapters),
            ("pcieDevices", &self.pcie_devices),
            ("firmware", &self.firmware),
            ("managers", &self.managers),
        ]
    }
}
