//! Documents cut into ready-made text and holes, so that a GET is a few copies and no JSON tree.
//!
//! A shape's documents are written once as JSON in which a string like `slot("power", 0)` stands for a value of the
//! machine. Compiled, a document is a list of [`Segment`]s that all machines of the shape share.

use serde_json::Value;

/// A hole in a document: a value that belongs to one machine, or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    // Text inside a string.
    SystemUuid(usize),
    ServiceUuid,
    ManagerUuid,
    SystemSerial(usize),
    ChassisSerial,
    BmcMac,
    BmcAddress,
    PortMac(usize),
    Drive(usize),
    Dimm(usize),
    Part(usize),
    Now,
    ManagerStart,
    LastReset(usize),
    // Whole values.
    Power(usize),
    State(usize),
    Led(usize),
    Location(usize),
    BootEnabled(usize),
    BootTarget(usize),
    BootMode(usize),
    BootUefiTarget(usize),
    BootUri(usize),
    BootOrder(usize),
    BootProgress(usize),
    Media(usize, MediaField),
    Bios(usize),
    BiosPending(usize),
    Reading(usize),
    Watts(usize),
    Erasing(usize),
    EraseAction(usize),
    Setting(usize, usize),
    Firmware(usize),
    // Whole values with links in them.
    Members(Dynamic),
    Count(Dynamic),
}

/// Collections whose members come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dynamic {
    Sessions,
    Accounts,
    Subscriptions,
    Tasks,
    Jobs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaField {
    Image,
    ImageName,
    Inserted,
    ConnectedVia,
    WriteProtected,
    TransferMethod,
    TransferProtocolType,
    UserName,
}

/// The mark that stands in a JSON string for a hole.
pub(crate) fn slot(name: &str, index: usize) -> String {
    format!("\u{1}{name}:{index}\u{2}")
}

pub(crate) fn slot2(name: &str, index: usize, second: usize) -> String {
    format!("\u{1}{name}:{index}:{second}\u{2}")
}

impl Slot {
    fn parse(mark: &str) -> Option<Self> {
        let mut parts = mark.split(':');
        let name = parts.next()?;
        let i = parts.next().map_or(Some(0), |i| i.parse().ok())?;
        let j = parts.next().map_or(Some(0), |j| j.parse().ok())?;
        Some(match name {
            "uuid" => Self::SystemUuid(i),
            "service-uuid" => Self::ServiceUuid,
            "manager-uuid" => Self::ManagerUuid,
            "serial" => Self::SystemSerial(i),
            "chassis-serial" => Self::ChassisSerial,
            "bmc-mac" => Self::BmcMac,
            "bmc-address" => Self::BmcAddress,
            "port-mac" => Self::PortMac(i),
            "drive" => Self::Drive(i),
            "dimm" => Self::Dimm(i),
            "part" => Self::Part(i),
            "now" => Self::Now,
            "manager-start" => Self::ManagerStart,
            "last-reset" => Self::LastReset(i),
            "power" => Self::Power(i),
            "state" => Self::State(i),
            "led" => Self::Led(i),
            "location" => Self::Location(i),
            "boot-enabled" => Self::BootEnabled(i),
            "boot-target" => Self::BootTarget(i),
            "boot-mode" => Self::BootMode(i),
            "boot-uefi" => Self::BootUefiTarget(i),
            "boot-uri" => Self::BootUri(i),
            "boot-order" => Self::BootOrder(i),
            "boot-progress" => Self::BootProgress(i),
            "media-image" => Self::Media(i, MediaField::Image),
            "media-name" => Self::Media(i, MediaField::ImageName),
            "media-inserted" => Self::Media(i, MediaField::Inserted),
            "media-connected" => Self::Media(i, MediaField::ConnectedVia),
            "media-protected" => Self::Media(i, MediaField::WriteProtected),
            "media-method" => Self::Media(i, MediaField::TransferMethod),
            "media-protocol" => Self::Media(i, MediaField::TransferProtocolType),
            "media-user" => Self::Media(i, MediaField::UserName),
            "bios" => Self::Bios(i),
            "bios-pending" => Self::BiosPending(i),
            "reading" => Self::Reading(i),
            "watts" => Self::Watts(i),
            "erase-action" => Self::EraseAction(i),
            "erasing" => Self::Erasing(i),
            "setting" => Self::Setting(i, j),
            "firmware" => Self::Firmware(i),
            "sessions" => Self::Members(Dynamic::Sessions),
            "accounts" => Self::Members(Dynamic::Accounts),
            "subscriptions" => Self::Members(Dynamic::Subscriptions),
            "tasks" => Self::Members(Dynamic::Tasks),
            "jobs" => Self::Members(Dynamic::Jobs),
            "sessions-count" => Self::Count(Dynamic::Sessions),
            "accounts-count" => Self::Count(Dynamic::Accounts),
            "subscriptions-count" => Self::Count(Dynamic::Subscriptions),
            "tasks-count" => Self::Count(Dynamic::Tasks),
            "jobs-count" => Self::Count(Dynamic::Jobs),
            _ => return None,
        })
    }

    /// Whether the hole is a piece of text within a JSON string, rather than a whole value.
    fn is_text(self) -> bool {
        matches!(
            self,
            Self::SystemUuid(_)
                | Self::ServiceUuid
                | Self::ManagerUuid
                | Self::SystemSerial(_)
                | Self::ChassisSerial
                | Self::BmcMac
                | Self::BmcAddress
                | Self::PortMac(_)
                | Self::Drive(_)
                | Self::Dimm(_)
                | Self::Part(_)
                | Self::Now
                | Self::ManagerStart
                | Self::LastReset(_)
        )
    }
}

/// Which `$expand` kinds follow a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// A subordinate resource: `.` and `*`.
    Below,
    /// Under `Links`: `~` and `*`.
    Related,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Text(Box<str>),
    Hole(Slot),
    /// `{"@odata.id": path}`, which `$expand` may replace by the document.
    Link(Box<str>, Follow),
}

/// Compiles a document.
pub(crate) fn compile(document: &Value) -> Box<[Segment]> {
    let mut compiler = Compiler::default();
    compiler.value(document, Follow::Below);
    compiler.flush();
    compiler.segments.into()
}

#[derive(Default)]
struct Compiler {
    segments: Vec<Segment>,
    text: String,
}

impl Compiler {
    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.segments
                .push(Segment::Text(std::mem::take(&mut self.text).into()));
        }
    }

    fn push(&mut self, segment: Segment) {
        self.flush();
        self.segments.push(segment);
    }

    fn value(&mut self, value: &Value, follow: Follow) {
        match value {
            Value::Object(map) => {
                if let (1, Some(Value::String(path))) = (map.len(), map.get("@odata.id"))
                    && !path.contains('#')
                {
                    self.push(Segment::Link(path.as_str().into(), follow));
                    return;
                }
                self.text.push('{');
                for (i, (key, member)) in map.iter().enumerate() {
                    if i > 0 {
                        self.text.push(',');
                    }
                    self.text.push_str(&quoted(key));
                    self.text.push(':');
                    let follow = if key == "Links" {
                        Follow::Related
                    } else {
                        follow
                    };
                    self.value(member, follow);
                }
                self.text.push('}');
            }
            Value::Array(items) => {
                self.text.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.text.push(',');
                    }
                    self.value(item, follow);
                }
                self.text.push(']');
            }
            Value::String(text) => self.string(text),
            other => self.text.push_str(&other.to_string()),
        }
    }

    fn string(&mut self, text: &str) {
        if let Some(mark) = text
            .strip_prefix('\u{1}')
            .and_then(|rest| rest.strip_suffix('\u{2}'))
            && let Some(slot) = Slot::parse(mark)
            && !slot.is_text()
        {
            self.push(Segment::Hole(slot));
            return;
        }
        self.text.push('"');
        let mut rest = text;
        while let Some((before, tail)) = rest.split_once('\u{1}') {
            let Some((mark, after)) = tail.split_once('\u{2}') else {
                break;
            };
            self.text.push_str(&escaped(before));
            if let Some(slot) = Slot::parse(mark).filter(|slot| slot.is_text()) {
                self.push(Segment::Hole(slot));
            } else {
                debug_assert!(false, "unknown slot {mark}");
            }
            rest = after;
        }
        self.text.push_str(&escaped(rest));
        self.text.push('"');
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn escaped(text: &str) -> String {
    let quoted = quoted(text);
    quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_holes_and_links_are_told_apart() {
        let compiled = compile(&json!({
            "A": format!("id-{}-\"x\"", slot("uuid", 1)),
            "B": slot("power", 0),
            "Links": {"Chassis": [{"@odata.id": "/c"}]},
            "Z": {"@odata.id": "/z"},
        }));
        assert_eq!(
            &*compiled,
            &[
                Segment::Text(r#"{"A":"id-"#.into()),
                Segment::Hole(Slot::SystemUuid(1)),
                Segment::Text(r#"-\"x\"","B":"#.into()),
                Segment::Hole(Slot::Power(0)),
                Segment::Text(r#","Links":{"Chassis":["#.into()),
                Segment::Link("/c".into(), Follow::Related),
                Segment::Text(r#"]},"Z":"#.into()),
                Segment::Link("/z".into(), Follow::Below),
                Segment::Text("}".into()),
            ]
        );
    }
}
