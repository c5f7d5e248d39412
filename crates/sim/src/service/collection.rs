//! Members that are created, changed and deleted: sessions, accounts, subscriptions, tasks.

use http::StatusCode;
use serde_json::{Map, Value};

use super::{Context, Request, object};
use crate::blueprint::Kind;
use crate::machine::account::Account;
use crate::machine::event::Subscription;
use crate::message::{Failure, message_about};
use crate::reply::Answer;
use crate::template::Dynamic;

/// A fixed account slot that nobody uses.
pub(super) fn empty_slot(id: &str) -> Account {
    let mut account = Account::new(id.to_owned(), String::new(), String::new(), String::new());
    account.enabled = false;
    account
}

impl Context<'_> {
    pub(super) fn create(&mut self, request: &Request) -> Result<Answer, Failure> {
        let Some((_, document)) = self.machine.blueprint.find(self.path) else {
            // `Collection/Members` takes what the collection takes (Redfish specification, 7.7).
            if let Some(parent) = self.path.strip_suffix("/Members")
                && self.machine.blueprint.find(parent).is_some()
            {
                let mut context = Context {
                    machine: self.machine,
                    state: self.state,
                    now: self.now,
                    caller: self.caller.clone(),
                    path: parent,
                };
                return context.create(request);
            }
            return Err(self.not_allowed());
        };
        let slots = self.machine.blueprint.spec.account_slots.is_some();
        match document.kind {
            Kind::Upload => {
                self.administrator()?;
                self.upload()
            }
            Kind::Collection(Dynamic::Accounts) if !slots => {
                self.administrator()?;
                self.create_account(&object(&request.body)?)
            }
            Kind::Collection(Dynamic::Subscriptions) => {
                self.administrator()?;
                self.subscribe(&object(&request.body)?)
            }
            _ => Err(self.not_allowed()),
        }
    }

    fn administrator(&self) -> Result<(), Failure> {
        if self.caller.is_administrator() {
            Ok(())
        } else {
            Err(Failure::new(
                StatusCode::FORBIDDEN,
                "InsufficientPrivilege",
                &[],
            ))
        }
    }

    fn create_account(&mut self, body: &Map<String, Value>) -> Result<Answer, Failure> {
        let mut problems = Vec::new();
        for name in ["UserName", "Password", "RoleId"] {
            match body.get(name) {
                Some(Value::String(_)) => {}
                Some(other) => problems.push(message_about(
                    "PropertyValueTypeError",
                    &[&other.to_string(), name],
                    Some(&format!("/{name}")),
                )),
                None => problems.push(message_about(
                    "PropertyMissing",
                    &[name],
                    Some(&format!("/{name}")),
                )),
            }
        }
        if !problems.is_empty() {
            return Err(Failure::of(problems));
        }
        let text = |name: &str| {
            body.get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (user, password, role) = (text("UserName"), text("Password"), text("RoleId"));
        check_user(&user)?;
        check_password(&password)?;
        check_role(&role)?;
        if self
            .state
            .accounts
            .iter()
            .any(|account| account.user == user)
        {
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "ResourceAlreadyExists",
                &["ManagerAccount", "UserName", &user],
            ));
        }
        if self.state.accounts.len() >= 32 {
            return Err(Failure::bad("CreateLimitReachedForResource", &[]));
        }
        let last = self
            .state
            .accounts
            .iter()
            .filter_map(|account| account.id.parse::<u64>().ok())
            .max()
            .unwrap_or(0);
        let mut account = Account::new((last + 1).to_string(), user, password, role);
        account.enabled = body.get("Enabled").and_then(Value::as_bool).unwrap_or(true);
        self.state.accounts.push(account);
        self.created(&format!("/redfish/v1/AccountService/Accounts/{}", last + 1))
    }

    fn subscribe(&mut self, body: &Map<String, Value>) -> Result<Answer, Failure> {
        let destination = match body.get("Destination") {
            Some(Value::String(destination)) => destination,
            Some(other) => {
                return Err(Failure::bad(
                    "PropertyValueTypeError",
                    &[&other.to_string(), "Destination"],
                ));
            }
            None => return Err(Failure::bad("PropertyMissing", &["Destination"])),
        };
        if url::Url::parse(destination).is_err() {
            return Err(Failure::bad(
                "PropertyValueFormatError",
                &[destination, "Destination"],
            ));
        }
        if let Some(protocol) = body
            .get("Protocol")
            .filter(|protocol| *protocol != "Redfish")
        {
            return Err(Failure::bad(
                "PropertyValueNotInList",
                &[protocol.as_str().unwrap_or_default(), "Protocol"],
            ));
        }
        if self.state.subscriptions.len() >= 20 {
            return Err(Failure::bad("CreateLimitReachedForResource", &[]));
        }
        let id = self.state.next_subscription;
        self.state.next_subscription += 1;
        self.state.subscriptions.push(Subscription {
            id,
            destination: destination.clone(),
            context: body.get("Context").cloned().unwrap_or(Value::Null),
        });
        self.created(&format!("/redfish/v1/EventService/Subscriptions/{id}"))
    }

    fn created(&self, path: &str) -> Result<Answer, Failure> {
        let body = self
            .machine
            .member(self.state, path, self.now)
            .ok_or_else(|| Failure::missing(path))?;
        Ok(Answer::value(StatusCode::CREATED, &body).location(path))
    }

    pub(super) fn change_member(&mut self, request: &Request) -> Result<Answer, Failure> {
        let account = self
            .path
            .strip_prefix("/redfish/v1/AccountService/Accounts/")
            .map(str::to_owned);
        let exists = self
            .machine
            .member(self.state, self.path, self.now)
            .is_some();
        match account {
            Some(id) if exists && request.parts.method == "PATCH" => {
                let own = self
                    .state
                    .accounts
                    .iter()
                    .any(|account| account.id == id && account.user == self.caller.user);
                let body = object(&request.body)?;
                let only_password = body
                    .keys()
                    .all(|key| key == "Password" || key.contains('@'));
                let allowed = self.caller.is_administrator() || (own && only_password);
                if !allowed {
                    return Err(Failure::new(
                        StatusCode::FORBIDDEN,
                        "InsufficientPrivilege",
                        &[],
                    ));
                }
                self.check_etag(request)?;
                self.change_account(&id, &body)
            }
            _ => Err(self.not_allowed()),
        }
    }

    fn change_account(&mut self, id: &str, body: &Map<String, Value>) -> Result<Answer, Failure> {
        let mut problems = Vec::new();
        let mut known = 0;
        for (name, value) in body.iter().filter(|(name, _)| !name.contains('@')) {
            known += 1;
            let fits = match name.as_str() {
                "UserName" | "Password" | "RoleId" => value.is_string(),
                "Enabled" | "Locked" => value.is_boolean(),
                "Id" | "Name" | "Links" | "AccountTypes" => {
                    problems.push(message_about(
                        "PropertyNotWritable",
                        &[name],
                        Some(&format!("/{name}")),
                    ));
                    continue;
                }
                _ => {
                    problems.push(message_about(
                        "PropertyUnknown",
                        &[name],
                        Some(&format!("/{name}")),
                    ));
                    continue;
                }
            };
            if !fits {
                problems.push(message_about(
                    "PropertyValueTypeError",
                    &[&value.to_string(), name],
                    Some(&format!("/{name}")),
                ));
            }
        }
        if known == 0 {
            return Err(super::patch::nothing(body));
        }
        if !problems.is_empty() && problems.len() == known {
            return Err(Failure::of(problems));
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        if let Some(user) = text("UserName").filter(|user| !user.is_empty()) {
            check_user(user)?;
            if self
                .state
                .accounts
                .iter()
                .any(|account| account.user == user && account.id != id)
            {
                return Err(Failure::new(
                    StatusCode::CONFLICT,
                    "ResourceAlreadyExists",
                    &["ManagerAccount", "UserName", user],
                ));
            }
        }
        if let Some(password) = text("Password") {
            check_password(password)?;
        }
        if let Some(role) = text("RoleId") {
            check_role(role)?;
        }
        if !self.state.accounts.iter().any(|account| account.id == id) {
            self.state.accounts.push(empty_slot(id));
        }
        if let Some(account) = self
            .state
            .accounts
            .iter_mut()
            .find(|account| account.id == id)
        {
            apply(account, body);
        }
        // An emptied slot is a free one.
        self.state
            .accounts
            .retain(|account| !account.user.is_empty());
        if problems.is_empty() {
            return self.present();
        }
        let mut document = self
            .machine
            .member(self.state, self.path, self.now)
            .ok_or_else(|| Failure::missing(self.path))?;
        if let Some(map) = document.as_object_mut() {
            map.insert("@Message.ExtendedInfo".into(), problems.into());
        }
        Ok(Answer::value(StatusCode::OK, &document))
    }

    pub(super) fn delete(&mut self, request: &Request) -> Result<Answer, Failure> {
        let name = self.path.rsplit('/').next().unwrap_or_default().to_owned();
        if self
            .machine
            .member(self.state, self.path, self.now)
            .is_none()
            || !self.member_allow().contains("DELETE")
        {
            return Err(self.not_allowed());
        }
        if self.path.contains("/Sessions/") {
            let own =
                self.state.sessions.iter().any(|session| {
                    session.id.to_string() == name && session.user == self.caller.user
                });
            if !own {
                self.administrator()?;
            }
            self.state
                .sessions
                .retain(|session| session.id.to_string() != name);
            return Ok(Answer::empty(StatusCode::NO_CONTENT));
        }
        self.administrator()?;
        if request.parts.headers.contains_key(http::header::IF_MATCH) {
            self.check_etag(request)?;
        }
        if self.path.contains("/Accounts/") {
            if self.state.accounts.len() == 1 {
                return Err(Failure::new(
                    StatusCode::CONFLICT,
                    "ResourceCannotBeDeleted",
                    &[],
                ));
            }
            self.state.accounts.retain(|account| account.id != name);
        } else if self.path.contains("/Subscriptions/") {
            self.state
                .subscriptions
                .retain(|subscription| subscription.id.to_string() != name);
        } else {
            let machine = self.machine;
            self.state
                .tasks
                .retain(|task| machine.task_name(task.id) != name);
        }
        Ok(Answer::empty(StatusCode::NO_CONTENT))
    }
}

fn apply(account: &mut Account, body: &Map<String, Value>) {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(user) = text("UserName") {
        account.user = user;
    }
    if let Some(password) = text("Password") {
        account.password = password;
    }
    if let Some(role) = text("RoleId") {
        account.role = role;
    }
    if let Some(enabled) = body.get("Enabled").and_then(Value::as_bool) {
        account.enabled = enabled;
    }
    if body.get("Locked") == Some(&Value::Bool(false)) {
        account.locked_until = None;
        account.failures = 0;
    }
}

fn check_user(user: &str) -> Result<(), Failure> {
    if user.is_empty() || user.len() > 32 || user.contains(':') {
        return Err(Failure::bad(
            "PropertyValueFormatError",
            &[user, "UserName"],
        ));
    }
    Ok(())
}

/// The value is never repeated in the answer.
fn check_password(password: &str) -> Result<(), Failure> {
    if (4..=40).contains(&password.len()) {
        Ok(())
    } else {
        Err(Failure::bad(
            "PropertyValueFormatError",
            &["******", "Password"],
        ))
    }
}

fn check_role(role: &str) -> Result<(), Failure> {
    if ["Administrator", "Operator", "ReadOnly", "None"].contains(&role) {
        Ok(())
    } else {
        Err(Failure::bad("PropertyValueNotInList", &[role, "RoleId"]))
    }
}
