//! Actions.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Context, Request, object};
use crate::blueprint::{Action, Kind};
use crate::machine::node::ResetOutcome;
use crate::machine::task::Work;
use crate::machine::{Contents, Happened, Medium, Reset};
use crate::message::Failure;
use crate::qemu::chassis::Order;
use crate::reply::Answer;
use crate::settings::Erase;
use crate::shapes::Redundant;

impl Context<'_> {
    pub(super) fn post(&mut self, request: &Request) -> Result<Answer, Failure> {
        let Some(action) = self.machine.blueprint.action(self.path) else {
            return self.create(request);
        };
        if !self.caller.is_operator() {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "InsufficientPrivilege",
                &[],
            ));
        }
        let body = if request.body.is_empty() {
            Map::new()
        } else {
            object(&request.body)?
        };
        match action {
            Action::Reset(node) => self.reset(node, &body),
            Action::ManagerReset => self.manager_reset(&body),
            Action::ManagerResetToDefaults => self.manager_defaults(&body),
            Action::InsertMedia(index) => self.insert(index, &body),
            Action::EjectMedia(index) => self.eject(index),
            Action::SecureErase(drive) => self.erase(drive),
            Action::BiosReset(node) => {
                if let Some(node) = self.state.nodes.get_mut(node) {
                    node.bios_reset = true;
                }
                Ok(done())
            }
            Action::SimpleUpdate => self.simple_update(&body),
            Action::TestEvent => self.test_event(&body),
            Action::ClearLog => {
                self.state.logs_cleared = true;
                Ok(done())
            }
        }
    }

    fn reset(&mut self, node: usize, body: &Map<String, Value>) -> Result<Answer, Failure> {
        let spec = &self.machine.blueprint.spec;
        let kind = choice("ComputerSystem.Reset", "ResetType", body, spec.reset)?;
        // A drive that is being erased needs its power, but nobody stops a real machine from pulling it either.
        match self.state.reset(node, kind, self.now, self.machine) {
            ResetOutcome::Accepted => Ok(done()),
            ResetOutcome::Unsupported => Err(Failure::bad(
                "ActionNotSupported",
                &["ComputerSystem.Reset"],
            )),
            ResetOutcome::Redundant => match spec.redundant {
                Redundant::Accept => Ok(done()),
                Redundant::Conflict => {
                    Err(Failure::new(StatusCode::CONFLICT, "ResourceInUse", &[]))
                }
                Redundant::Refuse => Err(Failure::bad("ResourceInUse", &[])),
            },
        }
    }

    fn manager_reset(&mut self, body: &Map<String, Value>) -> Result<Answer, Failure> {
        let spec = &self.machine.blueprint.spec;
        let kind = choice("Manager.Reset", "ResetType", body, spec.manager_reset)?.to_owned();
        let at = std::time::Duration::from_millis(self.now.0);
        self.state.resets.push(Reset {
            at,
            node: None,
            kind,
        });
        self.restart_manager();
        Ok(done())
    }

    fn manager_defaults(&mut self, body: &Map<String, Value>) -> Result<Answer, Failure> {
        choice("Manager.ResetToDefaults", "ResetType", body, &["ResetAll"])?;
        self.state.settings.clear();
        self.state.subscriptions.clear();
        self.state.accounts.truncate(1);
        self.restart_manager();
        Ok(done())
    }

    /// The BMC goes away and comes back without its sessions and media; the host does not notice.
    fn restart_manager(&mut self) {
        let back = self.now.after(self.machine.timing.bmc_reset);
        self.state.manager_back = Some(back);
        self.state.manager_start = back;
        self.state.sessions.clear();
        self.state.media.clear();
        self.order(Order::Eject);
    }

    /// Tells the process behind the BMC, if there is one.
    fn order(&self, order: Order) {
        if let Some(chassis) = &self.machine.real
            && let Err(error) = chassis.orders.try_send(order)
        {
            tracing::warn!(machine = self.machine.index, %error, "too many orders at once");
        }
    }

    fn insert(&mut self, index: usize, body: &Map<String, Value>) -> Result<Answer, Failure> {
        const ACTION: &str = "VirtualMedia.InsertMedia";
        let Some(slot) = self.machine.blueprint.media.get(index) else {
            return Err(Failure::missing(self.path));
        };
        let image = match body.get("Image") {
            Some(Value::String(image)) => image,
            Some(other) => {
                return Err(Failure::bad(
                    "ActionParameterValueTypeError",
                    &[&other.to_string(), "Image", ACTION],
                ));
            }
            None => return Err(Failure::bad("ActionParameterMissing", &[ACTION, "Image"])),
        };
        let scheme = image
            .split_once("://")
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !matches!(
            scheme.as_deref(),
            Some("http" | "https" | "nfs" | "cifs" | "smb")
        ) && !image.starts_with("//")
        {
            return Err(Failure::bad(
                "ActionParameterValueNotInList",
                &[image, "Image", ACTION],
            ));
        }
        let key = (slot.node, slot.device);
        if self.state.media.contains_key(&key) {
            // Real ones differ: iDRAC refuses, others replace. All refuse here, so that a client ejects first.
            return Err(Failure::new(StatusCode::CONFLICT, "ResourceInUse", &[]));
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let medium = Medium {
            image: image.clone(),
            write_protected: body
                .get("WriteProtected")
                .and_then(Value::as_bool)
                .unwrap_or(true),
            user: text("UserName"),
            method: text("TransferMethod").or_else(|| Some("Stream".into())),
            protocol: text("TransferProtocolType")
                .or_else(|| scheme.map(|scheme| scheme.to_ascii_uppercase())),
        };
        self.order(Order::Insert {
            image: medium.image.clone(),
            key,
        });
        self.state.media.insert(key, medium);
        Ok(done())
    }

    fn eject(&mut self, index: usize) -> Result<Answer, Failure> {
        let Some(slot) = self.machine.blueprint.media.get(index) else {
            return Err(Failure::missing(self.path));
        };
        if self.state.media.remove(&(slot.node, slot.device)).is_some() {
            self.order(Order::Eject);
        }
        Ok(done())
    }

    fn erase(&mut self, drive: usize) -> Result<Answer, Failure> {
        let how = self.state.behaviour.erase;
        let erasable = self
            .machine
            .blueprint
            .drives
            .get(drive)
            .is_some_and(|drive| drive.erasable);
        if !erasable || how == Erase::NotOffered {
            return Err(Failure::bad("ActionNotSupported", &["Drive.SecureErase"]));
        }
        if self.state.erasing(drive).is_some() {
            return Err(Failure::new(StatusCode::CONFLICT, "ResourceInUse", &[]));
        }
        if how == Erase::NoTask {
            self.state.drives.insert(drive, Contents::Erased);
            return Ok(done());
        }
        let ends = self.now.after(self.machine.timing.erase);
        let id = self
            .state
            .start_task(Work::Erase { drive, how }, self.now, ends, None);
        Ok(self.accepted(id))
    }

    /// 202 with the task, its monitor in `Location`; iDRAC puts the task itself there.
    pub(super) fn accepted(&self, id: u64) -> Answer {
        let task = self.state.tasks.iter().find(|task| task.id == id);
        let body = task
            .map(|task| self.machine.task_document(task, self.now))
            .unwrap_or_default();
        let location = if self.machine.blueprint.spec.jobs {
            self.machine.task_location(id)
        } else {
            format!(
                "/redfish/v1/TaskService/TaskMonitors/{}",
                self.machine.task_name(id)
            )
        };
        Answer::value(StatusCode::ACCEPTED, &body)
            .location(location)
            .header(http::header::RETRY_AFTER, "1")
    }

    fn simple_update(&mut self, body: &Map<String, Value>) -> Result<Answer, Failure> {
        const ACTION: &str = "UpdateService.SimpleUpdate";
        let Some(image) = body.get("ImageURI") else {
            return Err(Failure::bad(
                "ActionParameterMissing",
                &[ACTION, "ImageURI"],
            ));
        };
        let Some(image) = image.as_str() else {
            return Err(Failure::bad(
                "ActionParameterValueTypeError",
                &[&image.to_string(), "ImageURI", ACTION],
            ));
        };
        let targets: Vec<&str> = body
            .get("Targets")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let row = self.firmware_row(image, &targets);
        Ok(self.update(row, version_of(image)))
    }

    /// The inventory row that an image is for: a named target, else the BIOS when the name says so, else the BMC.
    fn firmware_row(&self, image: &str, targets: &[&str]) -> usize {
        let named = targets.iter().find_map(|target| {
            let name = target.rsplit('/').next()?;
            self.machine
                .blueprint
                .firmware
                .iter()
                .position(|(id, _)| id == name)
        });
        named.unwrap_or_else(|| usize::from(image.to_ascii_lowercase().contains("bios")))
    }

    pub(super) fn update(&mut self, firmware: usize, version: String) -> Answer {
        let ends = self.now.after(self.machine.timing.update);
        let id = self
            .state
            .start_task(Work::Update { firmware }, self.now, ends, Some(version));
        self.accepted(id)
    }

    /// An image that was pushed; its contents do not matter.
    pub(super) fn upload(&mut self) -> Result<Answer, Failure> {
        debug_assert!(
            self.machine
                .blueprint
                .find(self.path)
                .is_some_and(|(_, document)| document.kind == Kind::Upload)
        );
        Ok(self.update(0, "uploaded".to_owned()))
    }

    fn test_event(&mut self, body: &Map<String, Value>) -> Result<Answer, Failure> {
        let message_id = body
            .get("MessageId")
            .and_then(Value::as_str)
            .unwrap_or("ResourceEvent.1.3.TestMessage")
            .to_owned();
        self.state
            .pending_events
            .push(Happened::Test { message_id });
        Ok(done())
    }
}

/// The version in an image's name: the digits with dots in its last part.
fn version_of(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    let version = name
        .split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .map(|part| part.trim_matches('.'))
        .filter(|part| part.contains('.'))
        .max_by_key(|part| part.len());
    version.unwrap_or("updated").to_owned()
}

/// 204, as most actions answer.
fn done() -> Answer {
    Answer::empty(StatusCode::NO_CONTENT)
}

/// The named parameter, which must be one of `allowed`.
fn choice<'a>(
    action: &str,
    name: &str,
    body: &'a Map<String, Value>,
    allowed: &[&str],
) -> Result<&'a str, Failure> {
    match body.get(name) {
        None => Err(Failure::bad("ActionParameterMissing", &[action, name])),
        Some(Value::String(value)) if allowed.contains(&value.as_str()) => Ok(value),
        Some(Value::String(value)) => Err(Failure::bad(
            "ActionParameterValueNotInList",
            &[value, name, action],
        )),
        Some(other) => Err(Failure::bad(
            "ActionParameterValueTypeError",
            &[&json!(other).to_string(), name, action],
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn an_images_name_gives_its_version() {
        assert_eq!(version_of("http://x/BIOS_R750_1.9.2.EXE"), "1.9.2");
        assert_eq!(version_of("http://1.2.3.4/firmware.bin"), "updated");
    }
}
