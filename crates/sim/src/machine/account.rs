//! Accounts, sessions and who may come in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::clock::Moment;
use crate::counters::Counters;
use crate::machine::{Machine, State};
use crate::message::Failure;
use crate::shapes::Spec;

pub(crate) struct Account {
    pub id: String,
    pub user: String,
    pub password: String,
    pub role: String,
    pub enabled: bool,
    pub failures: u32,
    pub locked_until: Option<Moment>,
}

pub(crate) struct Session {
    pub id: u64,
    pub token: String,
    pub user: String,
    pub created: Moment,
    pub used: Moment,
}

/// Who sends a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub user: String,
    pub role: String,
}

impl Caller {
    /// May change anything.
    pub fn is_administrator(&self) -> bool {
        self.role == "Administrator"
    }

    /// May operate the machine.
    pub fn is_operator(&self) -> bool {
        self.role != "ReadOnly"
    }
}

impl Account {
    pub fn first(spec: &Spec, user: String, password: String) -> Self {
        let id = if spec.account_slots.is_some() {
            "2"
        } else {
            "1"
        };
        Self::new(id.into(), user, password, "Administrator".into())
    }

    pub fn new(id: String, user: String, password: String, role: String) -> Self {
        Self {
            id,
            user,
            password,
            role,
            enabled: true,
            failures: 0,
            locked_until: None,
        }
    }
}

impl State {
    /// The lockout threshold and duration that hold now.
    fn lockout(&self, machine: &Machine) -> (u32, u64) {
        let setting = |pointer: &str| {
            machine
                .setting(self, "/redfish/v1/AccountService", pointer)
                .and_then(|value| value.as_u64())
                .unwrap_or(0)
        };
        let limits = self.behaviour.limits;
        let after = limits
            .lockout_after
            .unwrap_or_else(|| u32::try_from(setting("/AccountLockoutThreshold")).unwrap_or(0));
        let seconds = setting("/AccountLockoutDuration") * 1000;
        (
            after,
            limits.lockout_for.map_or(seconds, |span| {
                u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
            }),
        )
    }

    /// Checks a name and a password; counts and, beyond the limit, locks.
    pub fn check_password(
        &mut self,
        user: &str,
        password: &str,
        now: Moment,
        machine: &Machine,
    ) -> Option<Caller> {
        let (after, lock_ms) = self.lockout(machine);
        let account = self
            .accounts
            .iter_mut()
            .find(|account| account.user == user && !user.is_empty())?;
        if account.locked_until.is_some_and(|until| now < until) {
            return None;
        }
        if account.locked_until.take().is_some() {
            account.failures = 0;
        }
        if !account.enabled {
            return None;
        }
        if account.password != password {
            account.failures += 1;
            if after > 0 && account.failures >= after {
                account.locked_until = Some(Moment(now.0.saturating_add(lock_ms)));
            }
            return None;
        }
        account.failures = 0;
        Some(Caller {
            user: account.user.clone(),
            role: account.role.clone(),
        })
    }

    pub fn session_timeout(&self, machine: &Machine) -> u64 {
        machine
            .setting(self, "/redfish/v1/SessionService", "/SessionTimeout")
            .and_then(|value| value.as_u64())
            .unwrap_or(machine.blueprint.spec.session_timeout)
    }

    pub fn expire_sessions(&mut self, now: Moment, machine: &Machine) {
        if self.sessions.is_empty() {
            return;
        }
        let timeout = self.session_timeout(machine) * 1000;
        self.sessions
            .retain(|session| now.0.saturating_sub(session.used.0) < timeout);
    }

    /// Who sends a request with these headers.
    pub fn authenticate(
        &mut self,
        headers: &HeaderMap,
        now: Moment,
        machine: &Machine,
    ) -> Result<Caller, Failure> {
        if let Some(token) = headers.get("x-auth-token") {
            self.expire_sessions(now, machine);
            let session = token
                .to_str()
                .ok()
                .and_then(|token| {
                    self.sessions
                        .iter_mut()
                        .find(|session| session.token == token)
                })
                .ok_or_else(unauthorized)?;
            session.used = now;
            let user = session.user.clone();
            let account = self
                .accounts
                .iter()
                .find(|account| account.user == user)
                .ok_or_else(unauthorized)?;
            return Ok(Caller {
                user,
                role: account.role.clone(),
            });
        }
        let basic = headers
            .get(http::header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .map(|(_, rest)| rest.trim());
        let Some(basic) = basic else {
            return Err(unauthorized());
        };
        if self.behaviour.limits.no_basic {
            return Err(unauthorized());
        }
        let decoded = STANDARD
            .decode(basic)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let caller = decoded
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .and_then(|(user, password)| self.check_password(user, password, now, machine));
        Counters::add(&machine.counters.basic);
        caller.ok_or_else(|| {
            Counters::add(&machine.counters.failed_logins);
            unauthorized()
        })
    }

    /// Opens a session, the only way to get a token.
    pub fn login(
        &mut self,
        body: &Value,
        now: Moment,
        machine: &Machine,
    ) -> Result<(u64, String), Failure> {
        if self.behaviour.limits.no_sessions {
            return Err(Failure::missing("/redfish/v1/SessionService/Sessions"));
        }
        let mut missing = Vec::new();
        for name in ["UserName", "Password"] {
            if body.get(name).is_none() {
                missing.push(crate::message::message_about(
                    "PropertyMissing",
                    &[name],
                    Some(&format!("/{name}")),
                ));
            }
        }
        if !missing.is_empty() {
            return Err(Failure::of(missing));
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let (Some(user), Some(password)) = (text("UserName"), text("Password")) else {
            return Err(Failure::bad("PropertyValueTypeError", &["", "UserName"]));
        };
        Counters::add(&machine.counters.logins);
        let caller = self
            .check_password(user, password, now, machine)
            .ok_or_else(|| {
                Counters::add(&machine.counters.failed_logins);
                Failure::new(
                    StatusCode::UNAUTHORIZED,
                    "ResourceAtUriUnauthorized",
                    &[
                        "/redfish/v1/SessionService/Sessions",
                        "Invalid username or password",
                    ],
                )
            })?;
        self.expire_sessions(now, machine);
        if self.sessions.len() >= self.behaviour.limits.sessions.unwrap_or(64) {
            return Err(Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "SessionLimitExceeded",
                &[],
            ));
        }
        let id = self.next_session;
        self.next_session += 1;
        let token = format!("{:032x}", rand::random::<u128>());
        self.sessions.push(Session {
            id,
            token: token.clone(),
            user: caller.user,
            created: now,
            used: now,
        });
        Ok((id, token))
    }
}

pub(crate) fn unauthorized() -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, "NoValidSession", &[])
        .with(http::header::WWW_AUTHENTICATE, "Basic realm=\"Redfish\"")
}

impl Machine {
    /// The present value of a plain setting.
    pub fn setting(&self, state: &State, path: &str, pointer: &str) -> Option<Value> {
        let (index, document) = self.blueprint.find(path)?;
        let (i, property) = document
            .writable
            .iter()
            .enumerate()
            .find(|(_, property)| property.pointer == pointer)?;
        Some(
            state
                .settings
                .get(&(index, i))
                .unwrap_or(&property.default)
                .clone(),
        )
    }

    pub fn session_document(&self, session: &Session) -> Value {
        let path = format!("/redfish/v1/SessionService/Sessions/{}", session.id);
        json!({
            "@odata.id": path, "@odata.type": "#Session.v1_4_0.Session", "Id": session.id.to_string(), "Name": "User Session",
            "UserName": session.user, "CreatedTime": self.clock.text(session.created),
        })
    }

    pub fn account_document(&self, account: &Account, now: Moment) -> Value {
        let path = format!("/redfish/v1/AccountService/Accounts/{}", account.id);
        json!({
            "@odata.id": path, "@odata.type": "#ManagerAccount.v1_8_0.ManagerAccount", "Id": account.id, "Name": "User Account",
            "UserName": account.user, "Password": null, "RoleId": account.role, "Enabled": account.enabled,
            "Locked": account.locked_until.is_some_and(|until| now < until), "AccountTypes": ["Redfish"],
            "Links": {"Role": {"@odata.id": format!("/redfish/v1/AccountService/Roles/{}", if account.role.is_empty() { "ReadOnly" } else { &account.role })}},
        })
    }
}
