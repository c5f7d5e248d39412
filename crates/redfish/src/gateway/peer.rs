//! One BMC under one target: its connections and its session. A changed target makes a new peer.

use super::{
    GatewayConfig,
    health::Health,
    manners::Manners,
    path::is_service_root,
    request::Method,
    session::Session,
    transport::{Answer, Transport},
};
use crate::{
    error::GatewayError,
    target::{Target, Trust},
};
use http::StatusCode;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use serde_json::Value;
use std::{collections::HashSet, sync::Arc};

/// Paths remembered that refuse a fresh session too.
const MOST_REFUSED: usize = 32;

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) target: Target,
    pub(crate) transport: Transport,
    pub(crate) session: Session,
    pub(crate) config: Arc<GatewayConfig>,
    pub(crate) health: Arc<Health>,
    pub(crate) manners: Arc<Mutex<Manners>>,
    /// Paths that answer 401 to a session just opened: the account may not see them, logging in again is no help.
    refused: Mutex<HashSet<String>>,
}

// === impl Peer ===

impl Peer {
    pub(crate) fn new(
        target: Target,
        config: Arc<GatewayConfig>,
        health: Arc<Health>,
        manners: Arc<Mutex<Manners>>,
    ) -> Arc<Self> {
        let transport = Transport::new(&target, config.clone(), health.clone());
        Self::over(transport, target, config, health, manners)
    }

    fn over(
        transport: Transport,
        target: Target,
        config: Arc<GatewayConfig>,
        health: Arc<Health>,
        manners: Arc<Mutex<Manners>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            transport,
            session: Session::default(),
            refused: Mutex::default(),
            target,
            config,
            health,
            manners,
        })
    }

    /// This peer under `target`, over the connections that there are, if the only difference is that the certificate seen on first use is pinned.
    pub(crate) fn pinned(&self, target: &Target) -> Option<Arc<Self>> {
        let Trust::Pinned(pin) = target.trust else {
            return None;
        };
        if self.target.trust != Trust::FirstUse || !self.target.same_address(target) {
            return None;
        }
        Some(Self::over(
            self.transport.pinned(pin)?,
            target.clone(),
            self.config.clone(),
            self.health.clone(),
            self.manners.clone(),
        ))
    }

    pub(crate) fn refuses_for_good(&self, path: &str) -> bool {
        self.refused.lock().contains(path)
    }

    pub(crate) fn remember_refusal(&self, path: &str) {
        let mut refused = self.refused.lock();
        if refused.len() < MOST_REFUSED {
            refused.insert(path.to_owned());
        }
    }

    pub(crate) fn refused(&self, status: u16) -> GatewayError {
        GatewayError::AuthFailed {
            username: Arc::from(self.target.credentials.username.as_str()),
            status,
        }
    }

    /// The service root's body, or why this is no Redfish service.
    pub(crate) fn service_root(&self, answer: &Answer) -> Result<Value, GatewayError> {
        let not_redfish = |what: String| GatewayError::NotRedfish {
            authority: self.transport.authority.clone(),
            what: Arc::from(what),
        };
        match answer.status {
            200..=299 => {}
            // A gatekeeper in front of a BMC, or a BMC in trouble: no verdict on what it speaks.
            401 | 403 | 429 | 500..=599 => return Err(self.status(Method::Get, answer)),
            status => {
                return Err(not_redfish(format!(
                    "its /redfish/v1/ was answered with {status}"
                )));
            }
        }
        let root = answer
            .json()
            .map_err(|_| not_redfish("its /redfish/v1/ is not JSON".to_owned()))?;
        let known = [
            "RedfishVersion",
            "Systems",
            "Managers",
            "Chassis",
            "SessionService",
        ];
        let kind = root
            .get("@odata.type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if known.iter().any(|name| root.get(name).is_some()) || kind.contains("ServiceRoot") {
            return Ok(root);
        }
        Err(not_redfish(
            "its /redfish/v1/ is JSON, but no service root".to_owned(),
        ))
    }

    /// The error in an answer that is one.
    pub(crate) fn status(&self, method: Method, answer: &Answer) -> GatewayError {
        let body = answer.json().unwrap_or(Value::Null);
        let (message, message_id) = explanation(&body);
        let message = message.unwrap_or_else(|| {
            let reason = StatusCode::from_u16(answer.status)
                .ok()
                .and_then(|status| status.canonical_reason());
            reason.unwrap_or("no explanation").to_owned()
        });
        GatewayError::Status {
            code: answer.status,
            method: method.as_str(),
            path: Arc::from(answer.url.path()),
            message: Arc::from(self.without_secrets(&message)),
            message_id: message_id.map(Arc::from),
            retry_after: answer.retry_after(),
        }
    }

    /// Some firmware quotes a refused property's value, and the property may be the password.
    fn without_secrets(&self, text: &str) -> String {
        let password = self.target.credentials.password.expose_secret();
        let text = if password.is_empty() {
            text.to_owned()
        } else {
            text.replace(password, "[redacted]")
        };
        text.chars().filter(|c| !c.is_control()).take(400).collect()
    }

    pub(crate) fn pass_by(&self, path: &str, body: &Value) {
        if is_service_root(path) {
            self.session.learn(body);
        }
    }
}

/// The messages of a Redfish error (DSP0266 section 8.6), with the first message's id.
fn explanation(body: &Value) -> (Option<String>, Option<String>) {
    let error = body.get("error").unwrap_or(body);
    let infos = error
        .get("@Message.ExtendedInfo")
        .or_else(|| body.get("@Message.ExtendedInfo"))
        .map_or(&[][..], |infos| {
            // iLO 4 sends an object where the schema has an array.
            infos
                .as_array()
                .map_or(std::slice::from_ref(infos), Vec::as_slice)
        });
    let text = |info: &Value, name| info.get(name).and_then(Value::as_str).map(str::to_owned);
    let messages: Vec<String> = infos
        .iter()
        .filter_map(|info| text(info, "Message").or_else(|| text(info, "MessageId")))
        .filter(|message| !message.trim().is_empty())
        .take(3)
        .collect();
    let id = infos
        .iter()
        .find_map(|info| text(info, "MessageId"))
        .or_else(|| text(error, "code"));
    let message = if messages.is_empty() {
        text(error, "message").filter(|message| !message.trim().is_empty())
    } else {
        Some(messages.join(" "))
    };
    (message, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_extended_info_explains_an_error() {
        let body = json!({"error": {"code": "Base.1.0.GeneralError", "message": "See ExtendedInfo",
            "@Message.ExtendedInfo": [{"MessageId": "Base.1.0.PropertyUnknown", "Message": "Foo is unknown."}]}});
        assert_eq!(
            explanation(&body),
            (
                Some("Foo is unknown.".to_owned()),
                Some("Base.1.0.PropertyUnknown".to_owned())
            )
        );
    }

    #[test]
    fn an_error_without_extended_info_explains_itself() {
        let body = json!({"error": {"code": "x", "message": "broken"}});
        assert_eq!(explanation(&body).0.as_deref(), Some("broken"));
        for body in [
            json!(null),
            json!({"error": 3}),
            json!({"error": {"@Message.ExtendedInfo": "x"}}),
            json!([]),
        ] {
            assert_eq!(explanation(&body).0, None, "{body}");
        }
    }
}
