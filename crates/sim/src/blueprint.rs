//! All documents of a shape, shared by its machines.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use crate::shapes::Spec;
use crate::template::{Dynamic, Segment, compile, slot, slot2};

mod account;
mod chassis;
mod manager;
mod network;
mod registry;
mod root;
mod storage;
mod system;
mod task;
mod update;

/// What a value must be to be written.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    Text(usize),
    Bool,
    Whole(u64, u64),
    OneOf(Vec<String>),
    Strings,
    Nullable(Box<Check>),
}

/// Where a written value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// Kept as written, in the machine's settings.
    Setting,
    Led(usize),
    Location(usize),
    BootEnabled(usize),
    BootTarget(usize),
    BootMode(usize),
    BootUefiTarget(usize),
    BootUri(usize),
    BootOrder(usize),
}

/// A property that may be patched.
#[derive(Clone, Debug)]
pub(crate) struct Writable {
    /// JSON pointer within the document.
    pub pointer: &'static str,
    pub check: Check,
    pub store: Store,
    /// The value before anybody wrote one.
    pub default: Value,
}

/// What a document is, beyond its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Bios(usize),
    BiosSettings(usize),
    Collection(Dynamic),
    EventStream,
    LogEntries,
    /// Accepts an image by push.
    Upload,
}

/// What a POST to an action's target does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Reset(usize),
    ManagerReset,
    ManagerResetToDefaults,
    InsertMedia(usize),
    EjectMedia(usize),
    SecureErase(usize),
    BiosReset(usize),
    SimpleUpdate,
    TestEvent,
    ClearLog,
}

pub(crate) struct Document {
    pub segments: Box<[Segment]>,
    pub kind: Kind,
    pub writable: Vec<Writable>,
}

/// A drive as the clockwork knows it.
#[derive(Clone, Debug)]
pub(crate) struct DriveSlot {
    pub node: usize,
    pub path: String,
    pub erasable: bool,
}

/// A virtual medium; two documents may show the same one.
#[derive(Clone, Debug)]
pub(crate) struct MediaSlot {
    pub node: usize,
    /// Which of the node's media, where several documents show one device.
    pub device: usize,
}

/// All documents and actions of one shape.
pub(crate) struct Blueprint {
    pub spec: Spec,
    documents: Vec<Document>,
    paths: HashMap<Box<str>, usize>,
    actions: HashMap<Box<str>, Action>,
    pub drives: Vec<DriveSlot>,
    pub media: Vec<MediaSlot>,
    /// Ports of each node: node, index of the MAC.
    pub ports: Vec<(usize, usize)>,
    /// Names and versions in the firmware inventory.
    pub firmware: Vec<(String, String)>,
    pub metadata: String,
}

impl Blueprint {
    pub fn new(spec: Spec) -> Self {
        let mut draft = Draft::new(spec);
        root::write(&mut draft);
        system::write(&mut draft);
        storage::write(&mut draft);
        network::write(&mut draft);
        chassis::write(&mut draft);
        manager::write(&mut draft);
        account::write(&mut draft);
        update::write(&mut draft);
        task::write(&mut draft);
        registry::write(&mut draft);
        draft.finish()
    }

    pub fn find(&self, path: &str) -> Option<(usize, &Document)> {
        let index = *self.paths.get(path)?;
        Some((index, self.documents.get(index)?))
    }

    pub fn action(&self, path: &str) -> Option<Action> {
        self.actions.get(path).copied()
    }

    pub fn document(&self, index: usize) -> Option<&Document> {
        self.documents.get(index)
    }
}

/// A blueprint being drawn.
pub(crate) struct Draft {
    pub spec: Spec,
    documents: BTreeMap<String, (Value, Kind, Vec<Writable>)>,
    actions: HashMap<Box<str>, Action>,
    drives: Vec<DriveSlot>,
    media: Vec<MediaSlot>,
    ports: Vec<(usize, usize)>,
    firmware: Vec<(String, String)>,
    dimms: usize,
    parts: usize,
}

impl Draft {
    fn new(spec: Spec) -> Self {
        Self {
            spec,
            documents: BTreeMap::new(),
            actions: HashMap::new(),
            drives: Vec::new(),
            media: Vec::new(),
            ports: Vec::new(),
            firmware: Vec::new(),
            dimms: 0,
            parts: 0,
        }
    }

    /// Adds a document; `@odata.id`, `@odata.type`, `Id` and, where the vendor has it, `@odata.context` are filled in.
    fn put(&mut self, path: &str, schema: &str, mut body: Value) -> &mut Self {
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        if let Value::Object(map) = &mut body {
            map.entry("@odata.id").or_insert_with(|| path.into());
            map.entry("@odata.type")
                .or_insert_with(|| format!("#{schema}").into());
            let is_collection = !schema.contains(".v");
            if !is_collection {
                map.entry("Id").or_insert_with(|| id.into());
            }
            if self.spec.context {
                let name = schema.split('.').next().unwrap_or_default();
                map.entry("@odata.context")
                    .or_insert_with(|| format!("/redfish/v1/$metadata#{name}.{name}").into());
            }
        }
        self.documents
            .insert(path.to_owned(), (body, Kind::Plain, Vec::new()));
        self
    }

    /// Adds the collection of `members`, whose paths it makes from their names.
    fn collection(&mut self, path: &str, schema: &str, name: &str, members: &[String]) {
        let links: Vec<Value> = members
            .iter()
            .map(|member| link(&format!("{path}/{member}")))
            .collect();
        self.collection_of(path, schema, name, links);
    }

    fn collection_of(&mut self, path: &str, schema: &str, name: &str, links: Vec<Value>) {
        let body = json!({"Name": name, "Members@odata.count": links.len(), "Members": links});
        self.put(
            path,
            &format!("{schema}Collection.{schema}Collection"),
            body,
        );
    }

    fn dynamic(&mut self, path: &str, schema: &str, name: &str, key: &str, dynamic: Dynamic) {
        let body = json!({
            "Name": name,
            "Members@odata.count": slot(&format!("{key}-count"), 0),
            "Members": slot(key, 0),
        });
        self.put(
            path,
            &format!("{schema}Collection.{schema}Collection"),
            body,
        );
        self.kind(path, Kind::Collection(dynamic));
    }

    fn kind(&mut self, path: &str, kind: Kind) {
        if let Some(entry) = self.documents.get_mut(path) {
            entry.1 = kind;
        }
    }

    /// Makes a property of the last added document at `path` writable; a plain setting keeps what the document says as its default.
    fn writable(&mut self, path: &str, pointer: &'static str, check: Check, store: Store) {
        if let Some((body, _, writable)) = self.documents.get_mut(path) {
            let default = body.pointer(pointer).cloned().unwrap_or(Value::Null);
            writable.push(Writable {
                pointer,
                check,
                store,
                default,
            });
        }
    }

    fn setting(&mut self, path: &str, pointer: &'static str, check: Check) {
        self.writable(path, pointer, check, Store::Setting);
    }

    fn action(&mut self, target: &str, action: Action) {
        self.actions.insert(target.into(), action);
    }

    /// A serial number for the next part that nobody asks for by name.
    fn part(&mut self) -> String {
        self.parts += 1;
        slot("part", self.parts - 1)
    }

    fn body_mut(&mut self, path: &str) -> Option<&mut Map<String, Value>> {
        self.documents.get_mut(path)?.0.as_object_mut()
    }

    fn finish(mut self) -> Blueprint {
        let metadata = registry::metadata(self.documents.values().map(|entry| &entry.0));
        let mut documents = Vec::with_capacity(self.documents.len());
        let mut paths = HashMap::with_capacity(self.documents.len());
        for (index, (path, (mut body, kind, writable))) in
            std::mem::take(&mut self.documents).into_iter().enumerate()
        {
            for (i, property) in writable.iter().enumerate() {
                if property.store == Store::Setting
                    && let Some(place) = body.pointer_mut(property.pointer)
                {
                    *place = slot2("setting", index, i).into();
                }
            }
            paths.insert(path.as_str().into(), index);
            documents.push(Document {
                segments: compile(&body),
                kind,
                writable,
            });
        }
        Blueprint {
            spec: self.spec,
            documents,
            paths,
            actions: self.actions,
            drives: self.drives,
            media: self.media,
            ports: self.ports,
            firmware: self.firmware,
            metadata,
        }
    }
}

pub(crate) use system::boot_order as delivered_boot_order;

pub(crate) fn link(path: &str) -> Value {
    json!({"@odata.id": path})
}

fn links(paths: &[String]) -> Vec<Value> {
    paths.iter().map(|path| link(path)).collect()
}

fn ok() -> Value {
    json!({"State": "Enabled", "Health": "OK"})
}

fn one_of(values: &[&str]) -> Check {
    Check::OneOf(values.iter().map(|value| (*value).to_owned()).collect())
}
