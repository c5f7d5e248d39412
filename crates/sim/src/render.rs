//! Fills a document's holes with a machine's values.

use std::io::Write as _;

use serde_json::{Map, Value};

use crate::blueprint::{Blueprint, Document, Kind};
use crate::clock::Moment;
use crate::machine::{Machine, State};
use crate::settings::Erase;
use crate::template::{Dynamic, Follow, MediaField, Segment, Slot};

/// How far `$expand` goes, and along which links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expansion {
    pub levels: u8,
    pub below: bool,
    pub related: bool,
}

impl Expansion {
    pub const NONE: Self = Self {
        levels: 0,
        below: false,
        related: false,
    };

    fn follows(self, follow: Follow) -> bool {
        self.levels > 0
            && match follow {
                Follow::Below => self.below,
                Follow::Related => self.related,
            }
    }

    fn deeper(self) -> Self {
        Self {
            levels: self.levels.saturating_sub(1),
            ..self
        }
    }
}

/// No answer is longer than this; beyond it links stay links.
const LONGEST: usize = 16 << 20;

/// Writes documents of one machine into one buffer.
pub(crate) struct Renderer<'a> {
    pub machine: &'a Machine,
    pub state: &'a State,
    pub now: Moment,
    pub out: Vec<u8>,
    /// A value that changes by itself was written from here to there, and is no part of the ETag.
    volatile: Option<(usize, usize)>,
    /// ETag of the document that was sealed last, which is the outermost.
    tag: Option<String>,
}

impl<'a> Renderer<'a> {
    pub fn new(machine: &'a Machine, state: &'a State, now: Moment) -> Self {
        Self {
            machine,
            state,
            now,
            out: Vec::with_capacity(2048),
            volatile: None,
            tag: None,
        }
    }

    fn blueprint(&self) -> &'a Blueprint {
        &self.machine.blueprint
    }

    pub fn document(&mut self, document: &Document, expansion: Expansion) {
        let start = self.out.len();
        // Entries of a log are always written out (LogEntryCollection, AutoExpandReferences).
        let expansion = if document.kind == Kind::LogEntries {
            Expansion {
                levels: expansion.levels.max(1),
                below: true,
                ..expansion
            }
        } else {
            expansion
        };
        for segment in &document.segments {
            match segment {
                Segment::Text(text) => self.out.extend_from_slice(text.as_bytes()),
                Segment::Hole(slot) => self.slot(*slot, expansion),
                Segment::Link(path, follow) => self.link(path, *follow, expansion),
            }
        }
        self.seal(start);
    }

    /// Writes a document that exists only for this machine.
    pub fn value(&mut self, value: &Value) {
        let start = self.out.len();
        let _ = serde_json::to_writer(&mut self.out, value);
        self.seal(start);
    }

    /// Adds `@odata.etag` to what was written from `start`, where the vendor has it there.
    fn seal(&mut self, start: usize) {
        if !self.blueprint().spec.body_etags || self.out.get(start) != Some(&b'{') {
            return;
        }
        let tag = self.etag(start);
        let insert = format!("{{\"@odata.etag\":{},", Value::from(tag.as_str()));
        self.out.splice(start..=start, insert.into_bytes());
        self.volatile = None;
        self.tag = Some(tag);
    }

    /// The ETag of the whole.
    pub fn final_etag(&mut self) -> String {
        self.tag.take().unwrap_or_else(|| self.etag(0))
    }

    fn etag(&self, start: usize) -> String {
        let whole = self.out.get(start..).unwrap_or_default();
        let hash = match self.volatile {
            Some((from, to)) if from >= start => {
                let first = hash(0, self.out.get(start..from).unwrap_or_default());
                hash(first, self.out.get(to..).unwrap_or_default())
            }
            _ => hash(0, whole),
        };
        format!("W/\"{:08X}\"", (hash >> 32) ^ (hash & 0xFFFF_FFFF))
    }

    fn link(&mut self, path: &str, follow: Follow, expansion: Expansion) {
        if expansion.follows(follow)
            && self.out.len() < LONGEST
            && self.resource(path, expansion.deeper())
        {
            return;
        }
        self.out.extend_from_slice(b"{\"@odata.id\":\"");
        self.out.extend_from_slice(path.as_bytes());
        self.out.extend_from_slice(b"\"}");
    }

    /// Writes the resource at `path`, if there is one.
    pub fn resource(&mut self, path: &str, expansion: Expansion) -> bool {
        if let Some((_, document)) = self.machine.blueprint.find(path) {
            self.document(document, expansion);
            return true;
        }
        match self.machine.member(self.state, path, self.now) {
            Some(value) => {
                self.value(&value);
                true
            }
            None => false,
        }
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.out, "{value}");
    }

    fn json(&mut self, value: &Value) {
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    fn quoted(&mut self, text: &str) {
        let _ = serde_json::to_writer(&mut self.out, text);
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.quoted(text),
            None => self.text("null"),
        }
    }

    fn slot(&mut self, slot: Slot, expansion: Expansion) {
        let identity = self.state.identity;
        let node = |i: usize| self.state.nodes.get(i);
        match slot {
            Slot::SystemUuid(i) => self.display(identity.system_uuid(i)),
            Slot::ServiceUuid => self.display(identity.service_uuid()),
            Slot::ManagerUuid => self.display(identity.service_uuid()),
            Slot::SystemSerial(i) => self.text(&identity.system_serial(i)),
            Slot::ChassisSerial => {
                let serial = if self.state.nodes.len() > 1 {
                    identity.chassis_serial()
                } else {
                    identity.system_serial(0)
                };
                self.text(&serial);
            }
            Slot::BmcMac => self.display(identity.bmc_mac()),
            Slot::BmcAddress => self.display(identity.ip),
            Slot::PortMac(i) => self.display(identity.port_mac(i)),
            Slot::Drive(i) => self.text(&identity.part_serial("drive", i)),
            Slot::Dimm(i) => self.text(&identity.part_serial("dimm", i)),
            Slot::Part(i) => self.text(&identity.part_serial("part", i)),
            Slot::Now => {
                let from = self.out.len();
                self.text(&self.machine.clock.text(self.now));
                self.volatile = Some((from, self.out.len()));
            }
            Slot::ManagerStart => self.text(&self.machine.clock.text(self.state.manager_start)),
            Slot::LastReset(i) => {
                let at = node(i).map_or(Moment(0), |node| node.last_reset);
                self.text(&self.machine.clock.text(at));
            }
            Slot::Power(i) => self.quoted(node(i).map_or("Off", |node| node.power_state())),
            Slot::State(i) => {
                let on = node(i).is_some_and(|node| node.is_on());
                self.quoted(if on { "Enabled" } else { "StandbyOffline" });
            }
            Slot::Led(i) => self.quoted(node(i).map_or("Off", |node| node.led)),
            Slot::Location(i) => {
                let lit = node(i).is_some_and(|node| node.led != "Off");
                self.display(lit);
            }
            Slot::BootEnabled(i) => {
                self.quoted(node(i).map_or("Disabled", |node| &node.boot.enabled))
            }
            Slot::BootTarget(i) => self.quoted(node(i).map_or("None", |node| &node.boot.target)),
            Slot::BootMode(i) => self.quoted(node(i).map_or("UEFI", |node| &node.boot.mode)),
            Slot::BootUefiTarget(i) => {
                self.optional(node(i).and_then(|node| node.boot.uefi_target.as_deref()))
            }
            Slot::BootUri(i) => self.optional(node(i).and_then(|node| node.boot.uri.as_deref())),
            Slot::BootOrder(i) => {
                let order = node(i)
                    .and_then(|node| node.boot_order.clone())
                    .unwrap_or_else(crate::blueprint::delivered_boot_order);
                self.json(&order.into());
            }
            Slot::BootProgress(i) => {
                let progress = node(i).map_or("None", |node| {
                    node.boot_progress(self.now, &self.machine.timing)
                });
                self.quoted(progress);
            }
            Slot::Media(i, field) => self.media(i, field),
            Slot::Bios(i) => {
                let attributes = self.machine.bios(self.state, i);
                self.json(&Value::Object(attributes));
            }
            Slot::BiosPending(i) => {
                let pending: Map<String, Value> = node(i)
                    .map(|node| node.bios_pending.clone().into_iter().collect())
                    .unwrap_or_default();
                self.json(&Value::Object(pending));
            }
            Slot::Reading(i) => {
                let on = node(0).is_some_and(|node| node.is_on());
                self.display(if on { 32 + i % 30 } else { 22 + i % 3 });
            }
            Slot::Watts(i) => {
                let on = node(i).is_some_and(|node| node.is_on());
                self.display(if on { 320 } else { 14 });
            }
            Slot::Erasing(i) => self.erasing(i),
            Slot::EraseAction(i) => self.erase_action(i),
            Slot::Setting(document, property) => {
                let blueprint = &self.machine.blueprint;
                let value = self.state.settings.get(&(document, property)).or_else(|| {
                    blueprint
                        .document(document)
                        .and_then(|d| d.writable.get(property))
                        .map(|w| &w.default)
                });
                self.json(value.unwrap_or(&Value::Null));
            }
            Slot::Firmware(i) => {
                let version = self.state.firmware.get(&i).or_else(|| {
                    self.machine
                        .blueprint
                        .firmware
                        .get(i)
                        .map(|(_, version)| version)
                });
                self.quoted(version.map_or("", String::as_str));
            }
            Slot::Members(dynamic) => self.members(dynamic, expansion),
            Slot::Count(dynamic) => {
                let count = self.machine.member_paths(self.state, dynamic).len();
                self.display(count);
            }
        }
    }

    fn media(&mut self, index: usize, field: MediaField) {
        let medium = self
            .machine
            .blueprint
            .media
            .get(index)
            .and_then(|slot| self.state.media.get(&(slot.node, slot.device)));
        match (field, medium) {
            (MediaField::Image, medium) => {
                self.optional(medium.map(|medium| medium.image.as_str()))
            }
            (MediaField::ImageName, medium) => self
                .optional(medium.map(|medium| medium.image.rsplit('/').next().unwrap_or_default())),
            (MediaField::Inserted, medium) => self.display(medium.is_some()),
            (MediaField::ConnectedVia, medium) => self.quoted(if medium.is_some() {
                "URI"
            } else {
                "NotConnected"
            }),
            (MediaField::WriteProtected, medium) => {
                self.display(medium.is_none_or(|medium| medium.write_protected))
            }
            (MediaField::TransferMethod, medium) => {
                self.optional(medium.and_then(|medium| medium.method.as_deref()))
            }
            (MediaField::TransferProtocolType, medium) => {
                self.optional(medium.and_then(|medium| medium.protocol.as_deref()))
            }
            (MediaField::UserName, medium) => {
                self.optional(medium.and_then(|medium| medium.user.as_deref()))
            }
        }
    }

    /// The action, where the drive offers it.
    fn erase_action(&mut self, index: usize) {
        let drive = self.machine.blueprint.drives.get(index);
        let offered = self.state.behaviour.erase != Erase::NotOffered;
        match drive.filter(|drive| drive.erasable && offered) {
            Some(drive) => {
                let target = format!("{}/Actions/Drive.SecureErase", drive.path);
                let actions = serde_json::json!({"#Drive.SecureErase": {"target": target}});
                self.json(&actions);
            }
            None => self.text("{}"),
        }
    }

    fn erasing(&mut self, drive: usize) {
        match self.state.erasing(drive) {
            Some(task) => {
                let location = self.machine.task_location(task.id);
                let row = serde_json::json!([{
                    "OperationName": "Sanitize", "Operation": "Sanitize", "PercentageComplete": task.percent(self.now), "AssociatedTask": {"@odata.id": location},
                }]);
                self.json(&row);
            }
            None => self.text("[]"),
        }
    }

    fn members(&mut self, dynamic: Dynamic, expansion: Expansion) {
        self.out.push(b'[');
        for (i, path) in self
            .machine
            .member_paths(self.state, dynamic)
            .iter()
            .enumerate()
        {
            if i > 0 {
                self.out.push(b',');
            }
            self.link(path, Follow::Below, expansion);
        }
        self.out.push(b']');
    }
}

/// A quick hash, eight bytes at a time.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed ^ 0x9E37_79B9_7F4A_7C15 ^ bytes.len() as u64;
    let mut mix = |word: u64| {
        state = (state ^ word).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        state ^= state >> 32;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        mix(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    mix(u64::from_le_bytes(last));
    state
}
