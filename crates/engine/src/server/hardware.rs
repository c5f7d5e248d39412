//! Steps as Redfish calls: what is needed is read, then exactly one request changes something.

use std::sync::Arc;

use corten_boot::links::Links;
use corten_kit::gate;
use corten_lifecycle::{identity::Identity, run::Step};
use corten_redfish::{
    Bmc, Document, GatewayError, Priority,
    document::Link,
    inventory::{Drive, LedState, SystemFacts},
    model::{Service, System},
    operations::{
        Accepted, Call, OperationError, boot, drive, led, media,
        power::{self, ResetKind},
        task::{self, TaskProgress},
    },
};
use serde_json::{Value, json};
use url::Url;

use crate::executor::{Erasure, Hardware, SendError, Sent};

/// One system behind a BMC.
pub(super) struct Redfish {
    bmc: Bmc,
    path: String,
    /// As the last inventory found them.
    drives: Arc<Vec<Drive>>,
    /// Devices by priority, as the spec wants them.
    boot_order: Vec<String>,
    /// The machine that it has to be.
    expected: Option<Identity>,
    /// Where it finds what it boots, while a run of it is open and boot services are there.
    links: Option<Links>,
    /// What is booted is needed at each start, not at the next one only.
    at_each_start: bool,
}

/// What there is to send, and where the machine that it is for was seen.
pub(super) struct Prepared {
    service: Service,
    due: Due,
    at: Url,
}

/// What there is to send.
pub(super) enum Due {
    Call(Call),
    /// The BMC is at it already, in this task.
    UnderWay(String),
    /// The end is reached already.
    Nothing(&'static str),
}

// === impl Redfish ===

impl Redfish {
    pub(super) fn new(
        bmc: Bmc,
        path: String,
        drives: Arc<Vec<Drive>>,
        boot_order: Vec<String>,
        expected: Option<Identity>,
    ) -> Self {
        Self {
            bmc,
            path,
            drives,
            boot_order,
            expected,
            links: None,
            at_each_start: false,
        }
    }

    /// With the addresses of the boot that the step is for, and whether each start needs it: a machine without a disk that restarts by itself comes
    /// back only where its boot target is still set.
    pub(super) fn booting(self, links: Option<Links>, at_each_start: bool) -> Self {
        Self {
            at_each_start: at_each_start && links.is_some(),
            links,
            ..self
        }
    }

    fn drive(&self, serial: &str) -> Option<&Drive> {
        let mut drives = self.drives.iter();
        drives.find(|drive| drive.serial_number.as_deref() == Some(serial))
    }

    fn links(&self) -> Result<&Links, OperationError> {
        self.links
            .as_ref()
            .ok_or_else(|| OperationError::NotOffered {
                what: "an address to boot from: this engine runs no boot services".into(),
                offered: Vec::new(),
            })
    }

    /// Reads what the step needs and plans its call.
    async fn due(
        &self,
        service: &Service,
        system: &System,
        step: &Step,
    ) -> Result<Due, OperationError> {
        let reset = match step {
            Step::RequestShutdown => Some(ResetKind::GracefulShutdown),
            Step::ForceOff => Some(ResetKind::ForceOff),
            Step::PowerOn => Some(ResetKind::On),
            Step::GracefulRestart => Some(ResetKind::GracefulRestart),
            Step::ForceRestart => Some(ResetKind::ForceRestart),
            Step::PowerCycle => Some(ResetKind::PowerCycle),
            _ => None,
        };
        if let Some(kind) = reset {
            return Ok(Due::Call(power::prepare(service, system, kind).await?));
        }
        match step {
            Step::BootNetworkOnce => {
                let state = boot::BootState::read(system.document());
                self.boot(service, system, by_network(&state)).await
            }
            Step::BootHttpOnce => {
                let at = boot::BootTarget::HttpBootUri(self.links()?.http_boot());
                self.boot(service, system, at).await
            }
            Step::BootUefiHttpOnce => self.boot(service, system, boot::BootTarget::UefiHttp).await,
            Step::BootMediaOnce => self.boot(service, system, boot::BootTarget::Cd).await,
            Step::InsertMedia => insert(service, system, &self.links()?.iso()).await,
            Step::ClearBootOverride => {
                if boot::BootState::read(system.document()).is_overridden() {
                    Ok(Due::Call(
                        boot::prepare(service, system, &boot::BootOverride::Disabled).await?,
                    ))
                } else {
                    Ok(Due::Nothing("no boot override is set"))
                }
            }
            Step::EjectMedium(path) => {
                let document = service.access().get(path, Priority::Power).await?;
                let slot = media::MediaSlot::new(document.at(path));
                if slot.is_inserted() {
                    Ok(Due::Call(media::eject(&slot)?))
                } else {
                    Ok(Due::Nothing("no medium is inserted"))
                }
            }
            Step::SetIndicatorLed(wanted) => {
                let wanted = match wanted.as_str() {
                    "Lit" => LedState::Lit,
                    "Blinking" => LedState::Blinking,
                    _ => LedState::Off,
                };
                Ok(Due::Call(led::plan(system.document(), &wanted)?))
            }
            Step::SetBootOrder => boot_order(system, &self.boot_order),
            Step::EraseDrive(serial) => {
                let Some(found) = self.drive(serial) else {
                    return Err(OperationError::NotOffered {
                        what: format!("a drive {serial}"),
                        offered: Vec::new(),
                    });
                };
                if drive::may_be_shared(found) {
                    return Err(OperationError::NotOffered {
                        what: format!("erasing {serial}, which may be shared"),
                        offered: Vec::new(),
                    });
                }
                self.erase(service, found, serial).await
            }
            _ => Err(OperationError::NotOffered {
                what: step.to_string(),
                offered: Vec::new(),
            }),
        }
    }

    /// From `target`, at the next start only, or at each where that is needed and the BMC says that it can.
    async fn boot(
        &self,
        service: &Service,
        system: &System,
        target: boot::BootTarget,
    ) -> Result<Due, OperationError> {
        let state = boot::BootState::read(system.document());
        let can_last = state.durations.iter().any(|word| word == "Continuous");
        let wanted = boot::BootOverride::Enabled {
            target,
            duration: if self.at_each_start && can_last {
                boot::BootDuration::Continuous
            } else {
                boot::BootDuration::Once
            },
            mode: None,
        };
        Ok(Due::Call(boot::prepare(service, system, &wanted).await?))
    }

    /// The bay is looked at again: what it holds now must be the drive that is meant.
    async fn erase(
        &self,
        service: &Service,
        found: &Drive,
        serial: &str,
    ) -> Result<Due, OperationError> {
        if let Some(link) = &found.path {
            let document = service.access().get(link.path(), Priority::Control).await?;
            let now = document.root().text("SerialNumber");
            if now.as_deref() != Some(serial) {
                return Err(OperationError::NotOffered {
                    what: format!(
                        "drive {serial}: its bay now holds {}",
                        now.as_deref()
                            .unwrap_or("none that tells its serial number")
                    ),
                    offered: Vec::new(),
                });
            }
            // Asked for before, by us or by somebody, and not over: it is followed where that is possible, and not asked for twice.
            match drive::under_way(&document) {
                drive::UnderWay::Nothing => {}
                drive::UnderWay::Erasure(Some(task)) => {
                    return Ok(Due::UnderWay(task.path().to_owned()));
                }
                drive::UnderWay::Erasure(None) => {
                    return Err(OperationError::NotOffered {
                        what: format!(
                            "erasing {serial} again: the drive shows an erasure under way, which names no task"
                        ),
                        offered: Vec::new(),
                    });
                }
                drive::UnderWay::Other(what) => {
                    return Err(OperationError::NotOffered {
                        what: format!(
                            "erasing {serial} now: the drive shows an operation under way ({what})"
                        ),
                        offered: Vec::new(),
                    });
                }
            }
        }
        Ok(Due::Call(drive::secure_erase(found)?))
    }

    /// The BMC took the wish to erase and gave no task: what the drive itself says afterwards is the only evidence.
    async fn without_task(
        &self,
        service: &Service,
        serial: &str,
        answer: &str,
        goes_on: bool,
    ) -> Result<Sent, SendError> {
        let at = self.drive(serial).and_then(|drive| drive.path.as_ref());
        let Some(at) = at else {
            return Err(unproved(serial, "its document has no address to read"));
        };
        let read = service.access().get(at.path(), Priority::Control).await;
        gate::pass().await;
        match read {
            Ok(document) => judge(serial, answer, goes_on, &document),
            Err(error) => Err(unproved(serial, &error.chain())),
        }
    }

    /// A task that has ended is not enough: a BMC that was restarted numbers its tasks anew, and the one at the address that was remembered may
    /// be another's. What it was asked for, and what the drive says now, may not speak against it.
    async fn proved(
        &self,
        service: &Service,
        serial: &str,
        task: &str,
        asked: Option<&str>,
    ) -> Result<Option<Erasure>, SendError> {
        let drives = self.drives.iter();
        let found = drives
            .filter(|drive| drive.serial_number.as_deref() == Some(serial))
            .find_map(|drive| Some((drive, drive.path.as_ref()?)));
        let Some((drive, at)) = found else {
            return Ok(None);
        };
        if let Some(why) = asked.and_then(|asked| is_anothers(drive, at, task, asked)) {
            return Ok(Some(Erasure::Failed { why }));
        }
        let read = service.access().get(at.path(), Priority::Control).await;
        gate::pass().await;
        match read {
            Ok(document) => Ok(contradicts(serial, task, &document)),
            Err(error) if matches!(error.status(), Some(404 | 410)) => Ok(Some(Erasure::Failed {
                why: format!(
                    "the task {task} has ended, and the bay of the drive is not there any more"
                ),
            })),
            Err(error) => Err(SendError::NotSent(error.chain())),
        }
    }

    async fn open(&self) -> Result<Service, GatewayError> {
        Service::open(&self.bmc).await
    }

    async fn system(&self) -> Result<(Service, System), GatewayError> {
        let service = self.open().await?;
        let system = service.system_at(&self.path, Priority::Power).await?;
        Ok((service, system))
    }
}

impl Hardware for Redfish {
    type Prepared = Prepared;

    async fn prepare(&self, step: &Step) -> Result<Prepared, SendError> {
        gate::pass().await;
        // Everything is read only: whatever fails, nothing was changed.
        let unread = |error| match error {
            OperationError::Gateway(error) if error.is_transient() => {
                SendError::NotSent(error.chain())
            }
            error => SendError::Refused(error.to_string()),
        };
        let at = self.bmc.url();
        let (service, system) = self.system().await.map_err(|error| unread(error.into()))?;
        is_expected(self.expected.as_ref(), &system.facts()).map_err(SendError::NotSent)?;
        let due = self.due(&service, &system, step).await.map_err(unread)?;
        Ok(Prepared { service, due, at })
    }

    async fn send(&self, step: &Step, prepared: Prepared) -> Result<Sent, SendError> {
        let Prepared { service, due, at } = prepared;
        if self.bmc.url() != at {
            let why = "the BMC's address changed after the machine there was looked at";
            return Err(SendError::NotSent(why.to_owned()));
        }
        let (done, goes_on) = deliver(&service, step, due).await?;
        if let (Step::EraseDrive(serial), Sent::Done { evidence }) = (step, &done) {
            return self.without_task(&service, serial, evidence, goes_on).await;
        }
        Ok(done)
    }

    async fn erasure(&self, serial: &str, task: &str) -> Result<Erasure, SendError> {
        let link =
            Link::parse(task).map_err(|_| SendError::Refused(format!("{task} is no link")))?;
        gate::pass().await;
        let progress = async {
            let service = self.open().await?;
            task::poll(&service, &link).await
        };
        let progress = progress.await;
        gate::pass().await;
        match progress {
            Ok(TaskProgress::Running { percent, .. }) => Ok(Erasure::Running { percent }),
            Ok(TaskProgress::Completed { messages, target }) => {
                // Tasks of all machines are named alike.
                let read = self.system().await;
                let (service, system) = read.map_err(|error| SendError::NotSent(error.chain()))?;
                is_expected(self.expected.as_ref(), &system.facts()).map_err(SendError::NotSent)?;
                let other = self
                    .proved(&service, serial, task, target.as_deref())
                    .await?;
                Ok(other.unwrap_or_else(|| Erasure::Done {
                    evidence: format!("task {task} completed{}", said(&messages)),
                }))
            }
            Ok(TaskProgress::Failed { state, messages }) => Ok(Erasure::Failed {
                why: format!("task {task} ended as {state}{}", said(&messages)),
            }),
            Ok(TaskProgress::Forgotten) => Ok(Erasure::Failed {
                why: format!(
                    "the BMC does not know the task {task} any more, so nothing shows that the drive was erased"
                ),
            }),
            Err(error) => Err(SendError::NotSent(error.chain())),
        }
    }
}

/// An address may have come to another machine since the decision was made: nothing is done to that one.
fn is_expected(expected: Option<&Identity>, found: &SystemFacts) -> Result<(), String> {
    let found = super::observe::identity(found);
    match expected {
        Some(expected) if expected.contradicts(&found) => Err(format!(
            "{found} answers at its address, and {expected} is expected there"
        )),
        _ => Ok(()),
    }
}

/// Sends what is due: one request. True when the BMC says that the work goes on.
async fn deliver(service: &Service, step: &Step, due: Due) -> Result<(Sent, bool), SendError> {
    let call = match due {
        Due::Call(call) => call,
        Due::Nothing(why) => {
            let evidence = why.to_owned();
            return Ok((Sent::Done { evidence }, false));
        }
        Due::UnderWay(uri) => return Ok((Sent::Task { uri }, true)),
    };
    gate::pass().await;
    let answer = call.send(service).await;
    gate::pass().await;
    match answer {
        Ok(accepted) => {
            let goes_on = accepted.under_way;
            Ok((sent(step, &call, accepted), goes_on))
        }
        Err(error) if error.outcome_unknown() => Err(SendError::Unknown(error.chain())),
        // Too busy is no refusal: it did nothing, and may do it later.
        Err(error) if matches!(error.status(), Some(code) if ![429, 503].contains(&code)) => {
            Err(SendError::Refused(error.chain()))
        }
        Err(error) => Err(SendError::NotSent(error.chain())),
    }
}

/// PXE where the machine can, and HTTP boot where it cannot.
fn by_network(state: &boot::BootState) -> boot::BootTarget {
    if state.allows(&boot::BootTarget::Pxe) {
        boot::BootTarget::Pxe
    } else {
        boot::BootTarget::UefiHttp
    }
}

/// The image at `url` into a free virtual drive. One that holds it already is left as it is.
async fn insert(service: &Service, system: &System, url: &str) -> Result<Due, OperationError> {
    let slots = media::list(service, system).await?;
    if slots
        .iter()
        .any(|slot| slot.is_inserted() && slot.image().as_deref() == Some(url))
    {
        return Ok(Due::Nothing("the image is inserted already"));
    }
    match media::choose(&slots, media::MediaKind::Cd) {
        Some(slot) => Ok(Due::Call(media::insert(
            slot,
            None,
            service.product(),
            url,
        )?)),
        None => Err(OperationError::NotOffered {
            what: "a free virtual drive that takes an image by its address".into(),
            offered: slots.iter().map(media::MediaSlot::id).collect(),
        }),
    }
}

/// The wanted devices first, the others in the order that they have.
fn boot_order(system: &System, wanted: &[String]) -> Result<Due, OperationError> {
    let has = boot::BootState::read(system.document()).order;
    if let Some(unknown) = wanted.iter().find(|device| !has.contains(device)) {
        return Err(OperationError::NotOffered {
            what: format!("a boot device {unknown}"),
            offered: has,
        });
    }
    let rest = has.iter().filter(|device| !wanted.contains(device));
    let order: Vec<&String> = wanted.iter().chain(rest).collect();
    let link = Link::parse(system.path()).map_err(|_| OperationError::NotOffered {
        what: "a path".into(),
        offered: Vec::new(),
    })?;
    Ok(Due::Call(Call::patch(
        link,
        Some(system.document()),
        json!({ "Boot": { "BootOrder": order } }),
    )))
}

fn sent(step: &Step, call: &Call, accepted: Accepted) -> Sent {
    let substitute = call
        .substitute
        .as_ref()
        .map_or_else(String::new, |other| format!(", as {other}"));
    let evidence = format!("the BMC took it{substitute}{}", said(&accepted.messages));
    match (step, accepted.monitor) {
        // A drive is erased when its task says so, not when the BMC took the wish.
        (Step::EraseDrive(_), Some(monitor)) => Sent::Task {
            uri: monitor.path().to_owned(),
        },
        _ => Sent::Done { evidence },
    }
}

/// What a drive says after a `SecureErase` that gave no task: an operation under way names its task, an empty list says that none is left
/// (Drive v1.1, `Operations`), and a drive that does not tell proves nothing. Nor does an empty list where the BMC answered that the work goes
/// on: the drive may not have begun.
fn judge(serial: &str, answer: &str, goes_on: bool, drive: &Document) -> Result<Sent, SendError> {
    let root = drive.root();
    if root.text("SerialNumber").as_deref() != Some(serial) {
        return Err(unproved(serial, "its bay does not show it any more"));
    }
    let Some(under_way) = root.value("Operations").and_then(Value::as_array) else {
        return Err(unproved(serial, "the drive does not list its Operations"));
    };
    if under_way.is_empty() {
        if goes_on {
            let why = "the BMC answered that the work goes on, and the drive lists no operation";
            return Err(unproved(serial, why));
        }
        return Ok(Sent::Done {
            evidence: format!(
                "{answer}; it gave no task, and Drive.Operations, read afterwards, lists none"
            ),
        });
    }
    let task = root
        .objects("Operations")
        .iter()
        .find_map(|operation| operation.link("AssociatedTask"));
    match task {
        Some(task) => Ok(Sent::Task {
            uri: task.path().to_owned(),
        }),
        None => Err(unproved(
            serial,
            "the drive lists an operation that names no task to follow",
        )),
    }
}

/// Why a task that was asked for `asked` is not this drive's erasure, if it surely is not.
fn is_anothers(drive: &Drive, at: &Link, task: &str, asked: &str) -> Option<String> {
    let folder = |path: &str| format!("{}/", path.trim_end_matches('/').to_ascii_lowercase());
    let asked_for = folder(asked);
    let own = [Some(at), drive.secure_erase.as_ref()];
    let mut own = own.into_iter().flatten().map(|link| folder(link.path()));
    (!own.any(|own| asked_for.contains(&own))).then(|| {
        format!("the task {task} has ended, but it was asked for {asked}: the BMC has numbered its tasks anew, and nothing shows that the drive was erased")
    })
}

/// What a drive says against the end of its task.
fn contradicts(serial: &str, task: &str, drive: &Document) -> Option<Erasure> {
    if drive.root().text("SerialNumber").as_deref() != Some(serial) {
        return Some(Erasure::Failed {
            why: format!(
                "the task {task} has ended, and the drive's bay does not show it any more"
            ),
        });
    }
    match drive::under_way(drive) {
        drive::UnderWay::Erasure(_) => Some(Erasure::Running { percent: None }),
        _ => None,
    }
}

fn unproved(serial: &str, why: &str) -> SendError {
    SendError::Refused(format!(
        "the BMC was asked to erase {serial} and gave no task to follow, and nothing shows that it was done: {why}"
    ))
}

fn said(messages: &[String]) -> String {
    if messages.is_empty() {
        String::new()
    } else {
        format!(": {}", messages.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(operations: Value) -> Result<Sent, SendError> {
        let mut body = json!({ "SerialNumber": "S1" });
        if !operations.is_null() {
            body["Operations"] = operations;
        }
        judge(
            "S1",
            "the BMC took it",
            false,
            &Document::new("/d/1", None, body),
        )
    }

    #[test]
    fn an_erasure_without_a_task_is_proved_only_by_a_drive_that_lists_no_operation() {
        assert!(matches!(after(json!([])), Ok(Sent::Done { .. })));
        assert!(matches!(after(Value::Null), Err(SendError::Refused(_))));
        let nameless = json!([{ "OperationName": "Sanitize" }]);
        assert!(matches!(after(nameless), Err(SendError::Refused(_))));
    }

    #[test]
    fn an_erasure_that_goes_on_without_a_task_is_not_done_because_the_drive_shows_nothing_yet() {
        let body = json!({ "SerialNumber": "S1", "Operations": [] });
        let drive = Document::new("/d/1", None, body);
        let judged = judge("S1", "the BMC took it", true, &drive);
        assert!(matches!(judged, Err(SendError::Refused(_))));
    }

    #[test]
    fn an_erasure_without_a_task_is_followed_by_the_task_that_the_drive_names() {
        let named =
            json!([{ "AssociatedTask": { "@odata.id": "/redfish/v1/TaskService/Tasks/7" } }]);
        let task = Sent::Task {
            uri: "/redfish/v1/TaskService/Tasks/7".into(),
        };
        assert_eq!(after(named), Ok(task));
    }

    #[test]
    fn another_machine_at_the_address_is_sent_nothing() {
        let uuid = "4c4c4544-0044-4210-8057-b4c04f325931";
        let expected = Identity::new(uuid, "4B2W2Y1");
        let found = |uuid: &str, serial: &str| SystemFacts {
            uuid: corten_redfish::inventory::SystemUuid::parse(uuid),
            serial_number: Some(serial.to_owned()),
            ..SystemFacts::default()
        };
        let other = "4c4c4544-0044-4210-8057-b4c04f325932";
        assert!(is_expected(Some(&expected), &found(other, "4B2W2Y2")).is_err());
        assert!(is_expected(Some(&expected), &SystemFacts::default()).is_err());
        assert_eq!(
            is_expected(Some(&expected), &found(uuid, "4B2W2Y1")),
            Ok(())
        );
        assert_eq!(is_expected(None, &found(other, "4B2W2Y2")), Ok(()));
    }

    #[test]
    fn a_task_that_has_ended_counts_only_where_neither_it_nor_the_drive_says_otherwise() {
        let drive = Drive {
            secure_erase: Link::parse("/d/1/Actions/Drive.SecureErase").ok(),
            ..Drive::default()
        };
        let at = Link::parse("/d/1").expect("a link");
        let asked = |asked| is_anothers(&drive, &at, "/tasks/7", asked);
        assert_eq!(asked("/d/1/Actions/Drive.SecureErase/"), None);
        let update = "/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate";
        assert!(asked(update).is_some_and(|why| why.contains(update)));
        assert!(asked("/d/10/Actions/Drive.SecureErase").is_some());

        let says = |operations: Value| {
            let body = json!({ "SerialNumber": "S1", "Operations": operations });
            contradicts("S1", "/tasks/7", &Document::new("/d/1", None, body))
        };
        assert_eq!(says(json!([])), None);
        assert_eq!(says(Value::Null), None);
        let goes_on = json!([{ "OperationName": "Sanitize" }]);
        assert_eq!(says(goes_on), Some(Erasure::Running { percent: None }));
        let other = Document::new("/d/1", None, json!({ "SerialNumber": "S2" }));
        let judged = contradicts("S1", "/tasks/7", &other);
        assert!(matches!(judged, Some(Erasure::Failed { .. })));
    }

    #[test]
    fn another_drive_in_the_bay_proves_nothing() {
        let other = json!({ "SerialNumber": "S2", "Operations": [] });
        let judged = judge("S1", "", false, &Document::new("/d/1", None, other));
        assert!(matches!(judged, Err(SendError::Refused(_))));
    }
}
