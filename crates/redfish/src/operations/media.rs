//! Virtual media: of the system (new services) or of its managers (most recorded ones).

use super::{Call, OperationError, action};
use crate::GatewayError;
use crate::document::{Document, Link};
use crate::inventory::id_of;
use crate::model::{Service, System};
use crate::quirks::{Product, Quirk};
use serde_json::{Map, Value, json};

/// What a medium is shown to the machine as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// CD or DVD.
    Cd,
    /// USB stick.
    Usb,
    /// Floppy.
    Floppy,
}

/// One `VirtualMedia` resource.
#[derive(Clone, Debug)]
pub struct MediaSlot {
    document: Document,
}

// === impl MediaKind ===

impl MediaKind {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Cd => &["CD", "DVD"],
            Self::Usb => &["USBStick"],
            Self::Floppy => &["Floppy"],
        }
    }
}

// === impl MediaSlot ===

impl MediaSlot {
    /// A slot from its document.
    #[must_use]
    pub fn new(document: Document) -> Self {
        Self { document }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.document.path()
    }

    /// Its `Id`.
    #[must_use]
    pub fn id(&self) -> String {
        id_of(&self.document)
    }

    /// Whether something is inserted. `Inserted` is believed only together with an image or a connection: some
    /// firmware leaves it true after an eject.
    #[must_use]
    pub fn is_inserted(&self) -> bool {
        let root = self.document.root();
        let image = self.image().is_some()
            || root
                .text("ImageName")
                .is_some_and(|name| !name.eq_ignore_ascii_case("none"));
        let connected = root
            .text("ConnectedVia")
            .is_some_and(|via| !via.eq_ignore_ascii_case("NotConnected"));
        match root.flag("Inserted") {
            Some(inserted) => inserted && (image || connected || !root.has("Image")),
            None => image,
        }
    }

    /// Address of the image that is inserted.
    #[must_use]
    pub fn image(&self) -> Option<String> {
        self.document
            .root()
            .text("Image")
            .filter(|image| !image.eq_ignore_ascii_case("none"))
    }

    /// Whether the machine can see it as `kind`: by `MediaTypes`, and by name where these are missing (AMI's `CD1`).
    #[must_use]
    pub fn shows(&self, kind: MediaKind) -> bool {
        let types = self.document.root().texts("MediaTypes");
        if types.is_empty() {
            let id = self.id().to_ascii_lowercase();
            return kind
                .names()
                .iter()
                .any(|name| id.contains(&name.to_ascii_lowercase()));
        }
        types.iter().any(|offered| {
            kind.names()
                .iter()
                .any(|name| offered.eq_ignore_ascii_case(name))
        })
    }

    /// Whether it is filled by uploading only: no address can be given.
    #[must_use]
    pub fn is_upload_only(&self) -> bool {
        self.document
            .root()
            .text("TransferMethod")
            .is_some_and(|method| method.eq_ignore_ascii_case("upload"))
    }

    fn action(&self, standard: &str, oem: &str) -> Option<Link> {
        let root = self.document.root();
        if let Some(link) = action::target(root, standard) {
            return Some(link);
        }
        // iLO before its firmware had the standard actions: Oem.Hpe.Actions["#HpeiLOVirtualMedia.InsertVirtualMedia"].
        root.object("Oem").entries().find_map(|(vendor, _)| {
            let actions = root.object("Oem").object(vendor).object("Actions");
            let (name, _) = actions.entries().find(|(name, _)| name.ends_with(oem))?;
            actions.object(name).uri("target")
        })
    }
}

/// The slots of a system: its own first, then those of its managers; each once.
///
/// # Errors
/// If the conversation ends. A collection that cannot be read is left out where another one can.
pub async fn list(service: &Service, system: &System) -> Result<Vec<MediaSlot>, GatewayError> {
    match collect(service, system).await? {
        (slots, Some(error)) if slots.is_empty() => Err(error),
        (slots, _) => Ok(slots),
    }
}

/// All slots of a system, as [`list`], for whoever has to know that there is no other: what is not there (403, 404, 405, 501) has none, and what
/// could not be read may have one.
///
/// # Errors
/// The first thing that could not be read.
pub async fn list_all(service: &Service, system: &System) -> Result<Vec<MediaSlot>, GatewayError> {
    match collect(service, system).await? {
        (_, Some(error)) => Err(error),
        (slots, None) => Ok(slots),
    }
}

/// The slots that can be read, and the first thing that could not be.
async fn collect(
    service: &Service,
    system: &System,
) -> Result<(Vec<MediaSlot>, Option<GatewayError>), GatewayError> {
    // A licence or an account that lacks them, or a BMC that does: no claim can have used them through it.
    let is_absent = |error: &GatewayError| matches!(error.status(), Some(403..=405 | 501));
    let mut failure: Option<GatewayError> = None;
    let mut note = |error: GatewayError| {
        if !is_absent(&error) {
            failure.get_or_insert(error);
        }
    };
    let mut reader = service.reader();
    let mut collections: Vec<Link> = system
        .document()
        .root()
        .link("VirtualMedia")
        .into_iter()
        .collect();
    for manager in system.managed_by() {
        match reader.get(&manager).await {
            Ok(manager) => collections.extend(manager.root().link("VirtualMedia")),
            Err(error) if reader.is_over(&error) => return Err(error),
            Err(error) => {
                tracing::debug!(path = manager.path(), error = %error, "a manager cannot be read");
                note(error);
            }
        }
    }
    let mut slots: Vec<MediaSlot> = Vec::new();
    let mut seen: Vec<Link> = Vec::new();
    for link in collections {
        if seen.contains(&link) {
            continue;
        }
        match reader.members(&link, 1).await {
            Ok(members) => {
                slots.extend(members.documents.into_iter().map(MediaSlot::new));
                members
                    .unread
                    .into_iter()
                    .for_each(|(_, error)| note(error));
            }
            Err(error) if reader.is_over(&error) => return Err(error),
            Err(error) => note(error),
        }
        seen.push(link);
    }
    Ok((slots, failure))
}

/// The best slot for an image: free, of the kind, not upload-only, one with an action before one without.
#[must_use]
pub fn choose(slots: &[MediaSlot], kind: MediaKind) -> Option<&MediaSlot> {
    let fits =
        |slot: &&MediaSlot| slot.shows(kind) && !slot.is_upload_only() && !slot.is_inserted();
    slots.iter().filter(fits).min_by_key(|slot| {
        slot.action("#VirtualMedia.InsertMedia", "InsertVirtualMedia")
            .is_none()
    })
}

/// Plans inserting the image at `url`; `info` is the action's ActionInfo, if it was read.
///
/// # Errors
/// [`OperationError::NotOffered`] if the slot takes no address.
pub fn insert(
    slot: &MediaSlot,
    info: Option<&Document>,
    product: &Product,
    url: &str,
) -> Result<Call, OperationError> {
    if slot.is_upload_only() {
        return Err(OperationError::not_offered(
            format!("inserting by address at {}", slot.path()),
            Vec::new(),
        ));
    }
    let mut body = Map::new();
    body.insert("Image".into(), json!(url));
    let known: Vec<String> = info
        .map(|info| {
            info.root()
                .objects("Parameters")
                .into_iter()
                .filter_map(|entry| entry.text("Name"))
                .collect()
        })
        .unwrap_or_default();
    let takes = |name: &str| known.is_empty() || known.iter().any(|known| known == name);
    for name in ["Inserted", "WriteProtected"] {
        if takes(name) {
            body.insert(name.into(), json!(true));
        }
    }
    if product.has(Quirk::MediaNeedsProtocol) && takes("TransferProtocolType") {
        let protocol = url
            .split_once("://")
            .map_or("HTTP", |(scheme, _)| scheme)
            .to_ascii_uppercase();
        body.insert("TransferProtocolType".into(), json!(protocol));
    }
    match slot.action("#VirtualMedia.InsertMedia", "InsertVirtualMedia") {
        Some(target) => Ok(Call::post(target, Value::Object(body))),
        None if slot.document.root().has("Image") => Ok(Call::patch(
            own(slot)?,
            Some(&slot.document),
            Value::Object(body),
        )),
        None => Err(OperationError::not_offered(
            format!("inserting at {}", slot.path()),
            Vec::new(),
        )),
    }
}

/// Plans ejecting whatever is inserted.
///
/// # Errors
/// [`OperationError::NotOffered`] if there is no way.
pub fn eject(slot: &MediaSlot) -> Result<Call, OperationError> {
    match slot.action("#VirtualMedia.EjectMedia", "EjectVirtualMedia") {
        Some(target) => Ok(Call::post(target, json!({}))),
        // Supermicro offers the action only while something is inserted, XCC never.
        None if slot.document.root().has("Image") => Ok(Call::patch(
            own(slot)?,
            Some(&slot.document),
            json!({ "Image": null, "Inserted": false }),
        )),
        None => Err(OperationError::not_offered(
            format!("ejecting at {}", slot.path()),
            Vec::new(),
        )),
    }
}

fn own(slot: &MediaSlot) -> Result<Link, OperationError> {
    Link::parse(slot.path()).map_err(|_| {
        OperationError::not_offered(format!("a usable path at {}", slot.path()), Vec::new())
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verb;
    use super::*;

    fn slot(path: &str, body: Value) -> MediaSlot {
        MediaSlot::new(Document::new(path, None, body))
    }

    fn dell() -> MediaSlot {
        slot(
            "/m/CD",
            json!({"MediaTypes": ["CD", "DVD"], "Inserted": false, "Image": null, "ConnectedVia": "NotConnected", "Actions": {
                "#VirtualMedia.InsertMedia": {"target": "/m/CD/Actions/VirtualMedia.InsertMedia"},
                "#VirtualMedia.EjectMedia": {"target": "/m/CD/Actions/VirtualMedia.EjectMedia"}}}),
        )
    }

    fn lenovo() -> MediaSlot {
        slot(
            "/m/EXT1",
            json!({"MediaTypes": ["CD", "DVD", "Floppy", "USBStick"], "Inserted": false, "Image": null, "@odata.etag": "\"1\""}),
        )
    }

    #[test]
    fn an_action_is_used_where_there_is_one_and_a_patch_where_not() {
        let call = insert(&dell(), None, &Product::default(), "http://10.0.0.1/a.iso").unwrap();
        assert_eq!(
            (call.verb, call.link.path()),
            (Verb::Post, "/m/CD/Actions/VirtualMedia.InsertMedia")
        );
        let call = insert(
            &lenovo(),
            None,
            &Product::default(),
            "http://10.0.0.1/a.iso",
        )
        .unwrap();
        assert_eq!((call.verb, call.link.path()), (Verb::Patch, "/m/EXT1"));
        assert_eq!(
            eject(&lenovo()).unwrap().body,
            json!({"Image": null, "Inserted": false})
        );
        assert_eq!(eject(&dell()).unwrap().verb, Verb::Post);
    }

    #[test]
    fn only_parameters_that_the_action_knows_are_sent() {
        let info = Document::new(
            "/i",
            None,
            json!({"Parameters": [{"Name": "Image"}, {"Name": "Inserted"}]}),
        );
        let call = insert(
            &dell(),
            Some(&info),
            &Product::default(),
            "http://10.0.0.1/a.iso",
        )
        .unwrap();
        assert_eq!(
            call.body,
            json!({"Image": "http://10.0.0.1/a.iso", "Inserted": true})
        );
    }

    #[test]
    fn the_slot_is_chosen_by_media_type_and_by_name_where_types_are_missing() {
        let usb = slot("/m/USB", json!({"MediaTypes": ["USBStick"], "Image": null}));
        let ami = slot(
            "/m/CD1",
            json!({"Id": "CD1", "Inserted": false, "Image": "None"}),
        );
        let slots = [usb, lenovo(), dell()];
        assert_eq!(
            choose(&slots, MediaKind::Cd).unwrap().path(),
            "/m/CD",
            "an action is better than a PATCH"
        );
        assert_eq!(choose(&slots, MediaKind::Usb).unwrap().path(), "/m/USB");
        assert_eq!(choose(&[ami], MediaKind::Cd).unwrap().path(), "/m/CD1");
    }

    #[test]
    fn a_slot_in_use_or_for_uploads_is_not_chosen() {
        let used = slot(
            "/m/1",
            json!({"MediaTypes": ["CD"], "Inserted": true, "Image": "http://x/y.iso"}),
        );
        let upload = slot(
            "/m/2",
            json!({"MediaTypes": ["CD"], "Image": null, "TransferMethod": "Upload"}),
        );
        assert!(choose(&[used, upload], MediaKind::Cd).is_none());
    }

    #[test]
    fn ilo_before_the_standard_actions_is_driven_by_its_own() {
        let old = slot(
            "/m/2",
            json!({"MediaTypes": ["CD"], "Image": "", "Oem": {"Hpe": {"Actions": {
            "#HpeiLOVirtualMedia.EjectVirtualMedia": {"target": "/m/2/Actions/Oem/Hpe/HpeiLOVirtualMedia.EjectVirtualMedia"},
            "#HpeiLOVirtualMedia.InsertVirtualMedia": {"target": "/m/2/Actions/Oem/Hpe/HpeiLOVirtualMedia.InsertVirtualMedia"}}}}}),
        );
        assert!(
            insert(&old, None, &Product::default(), "http://x")
                .unwrap()
                .link
                .path()
                .ends_with("InsertVirtualMedia")
        );
        assert!(
            eject(&old)
                .unwrap()
                .link
                .path()
                .ends_with("EjectVirtualMedia")
        );
    }
}
