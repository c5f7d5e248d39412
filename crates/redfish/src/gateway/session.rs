//! The one session with a BMC: opened by whoever needs it first, shared by all, opened again when it lapsed, closed
//! when the gateway closes.
//!
//! A login runs in a task of its own: its outcome is told to the ledger, and the session it opened is used or closed,
//! even if everybody who waited for it has gone.

use super::{
    path::{SERVICE_ROOT, resolve, resolve_location},
    peer::Peer,
    request::Method,
    transport::{Answer, Auth, Wire},
};
use crate::{
    error::GatewayError,
    login::{CredentialsId, LoginAttempt, Verdict},
    queue::Place,
    target::Trust,
    tls::TlsFailure,
};
use jiff::Timestamp;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio::sync::watch;

type Outcome = Result<Arc<Grant>, GatewayError>;

#[derive(Debug, Default)]
pub(crate) struct Session {
    state: Mutex<State>,
    /// These credentials have worked in this process: a lapsed session is renewed without asking the ledger.
    known_good: AtomicBool,
    /// Where sessions are opened, learned from the service root; `Some(None)` if the BMC has no sessions.
    door: Mutex<Option<Door>>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Out,
    LoggingIn(watch::Receiver<Option<Outcome>>),
    In(Arc<Grant>),
    Closed,
}

/// What lets requests in.
#[derive(Debug)]
pub(crate) enum Grant {
    Token {
        token: SecretString,
        /// The session's own path, to close it.
        path: Option<String>,
    },
    Basic,
}

#[derive(Clone, Debug)]
struct Door {
    sessions: Option<String>,
    /// A resource that wants credentials, to try Basic on.
    guarded: String,
}

// === impl Session ===

impl Session {
    /// The session, opened if need be. `place` is kept until a login that this call starts is done.
    pub(crate) async fn ensure(&self, peer: &Arc<Peer>, place: &Arc<Place>) -> Outcome {
        let mut outcome = {
            let mut state = self.state.lock();
            match &*state {
                State::In(grant) => return Ok(grant.clone()),
                State::Closed => return Err(GatewayError::Closed),
                State::LoggingIn(outcome)
                    if outcome.has_changed().is_ok() || outcome.borrow().is_some() =>
                {
                    outcome.clone()
                }
                // Nobody is logging in, or that task is gone without a word.
                State::Out | State::LoggingIn(_) => {
                    let (tell, outcome) = watch::channel(None);
                    *state = State::LoggingIn(outcome.clone());
                    let (peer, place) = (peer.clone(), place.clone());
                    tokio::spawn(async move {
                        let result = log_in(&peer).await;
                        let result = peer.session.settle(&peer, result).await;
                        tell.send_replace(Some(result));
                        drop(place);
                    });
                    outcome
                }
            }
        };
        match outcome.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(GatewayError::Closed)),
            Err(_) => Err(GatewayError::Closed),
        }
    }

    /// The BMC no longer knows this session: the next request opens another.
    pub(crate) fn lapsed(&self, grant: &Arc<Grant>) {
        let mut state = self.state.lock();
        if matches!(&*state, State::In(current) if Arc::ptr_eq(current, grant)) {
            *state = State::Out;
        }
    }

    /// Credentials that worked under Basic do not any more: that was a failed login, and the ledger is told.
    pub(crate) fn basic_refused(&self, peer: &Arc<Peer>, grant: &Arc<Grant>) {
        self.lapsed(grant);
        self.known_good.store(false, Relaxed);
        peer.health.count(|tally| &tally.logins_refused, 1);
        let peer = peer.clone();
        tokio::spawn(async move { peer.config.ledger.rejected(&attempt(&peer)).await });
    }

    /// A service root passed by: remember what it says about sessions, and spare the login that question.
    pub(crate) fn learn(&self, root: &Value) {
        let mut door = self.door.lock();
        if door.is_none() {
            *door = Door::of(root);
        }
    }

    /// Closes for good and returns what there is to log out.
    pub(crate) fn close(&self) -> Option<Arc<Grant>> {
        match std::mem::replace(&mut *self.state.lock(), State::Closed) {
            State::In(grant) => Some(grant),
            _ => None,
        }
    }

    async fn settle(&self, peer: &Arc<Peer>, result: Outcome) -> Outcome {
        let orphan = {
            let mut state = self.state.lock();
            match (&*state, &result) {
                (State::Closed, Ok(grant)) => Some(grant.clone()),
                (State::Closed, Err(_)) => None,
                (_, Ok(grant)) => {
                    *state = State::In(grant.clone());
                    None
                }
                (_, Err(_)) => {
                    *state = State::Out;
                    None
                }
            }
        };
        match orphan {
            Some(grant) => {
                log_out(peer, &grant).await;
                Err(GatewayError::Closed)
            }
            None => result,
        }
    }
}

impl Grant {
    pub(crate) fn auth<'a>(&'a self, peer: &'a Peer) -> Auth<'a> {
        match self {
            Self::Token { token, .. } => Auth::Token(token),
            Self::Basic => Auth::Basic(
                &peer.target.credentials.username,
                &peer.target.credentials.password,
            ),
        }
    }
}

/// Closes a session. A BMC has few (eight, on some), and keeps them for up to half an hour.
pub(crate) async fn log_out(peer: &Peer, grant: &Grant) {
    let Grant::Token {
        token,
        path: Some(path),
    } = grant
    else {
        return;
    };
    let Ok(url) = resolve(&peer.transport.base, path) else {
        return;
    };
    let deadline = tokio::time::Instant::now() + peer.config.deadlines.logout;
    let wire = Wire {
        deadline: Some(deadline),
        ..Wire::new(Method::Delete, url, Auth::Token(token))
    };
    if let Err(error) = peer.transport.exchange(wire).await {
        tracing::debug!(bmc = %peer.target.name, error = %error.chain(), "the session was left to time out");
    }
}

async fn log_in(peer: &Arc<Peer>) -> Outcome {
    let door = find_door(peer).await?;
    if peer.target.trust == Trust::FirstUse {
        // The certificate has been looked at. Whoever owns the credentials says whether it may have them.
        let failure = match peer.transport.observed() {
            Some(presented) => TlsFailure::NotTrustedYet { presented },
            None => TlsFailure::Handshake {
                what: "no certificate was seen".to_owned(),
            },
        };
        return Err(GatewayError::TlsFailed {
            authority: peer.transport.authority.clone(),
            failure,
        });
    }
    let attempt = attempt(peer);
    let ledger = &peer.config.ledger;
    let charged = !peer.session.known_good.load(Relaxed);
    if charged {
        match ledger.ask(&attempt).await {
            Ok(Verdict::Allowed) => {}
            Ok(Verdict::Held { until, why }) => {
                return Err(GatewayError::LoginHeld {
                    until,
                    why: Arc::from(why),
                });
            }
            Err(source) => return Err(GatewayError::LedgerFailed { source }),
        }
    }
    let outcome = try_doors(peer, &door).await;
    match &outcome {
        Ok(_) => {
            peer.session.known_good.store(true, Relaxed);
            if charged {
                ledger.succeeded(&attempt).await;
            }
        }
        Err(GatewayError::AuthFailed { .. }) => {
            peer.session.known_good.store(false, Relaxed);
            peer.health.count(|tally| &tally.logins_refused, 1);
            ledger.rejected(&attempt).await;
        }
        Err(_) if charged => ledger.inconclusive(&attempt).await,
        Err(_) => {}
    }
    outcome
}

fn attempt(peer: &Peer) -> LoginAttempt {
    LoginAttempt {
        bmc: Arc::from(peer.target.name.as_str()),
        credentials: CredentialsId::of(&peer.target.credentials),
        username: Arc::from(peer.target.credentials.username.as_str()),
        at: Timestamp::now(),
    }
}

/// Asks the service root, once, where sessions are opened. It also proves that the BMC is there and trusted before
/// the ledger records an attempt.
async fn find_door(peer: &Peer) -> Result<Door, GatewayError> {
    let known = peer.session.door.lock().clone();
    if let Some(door) = known {
        return Ok(door);
    }
    let url = resolve(&peer.transport.base, SERVICE_ROOT)?;
    let answer = peer
        .transport
        .exchange(Wire::new(Method::Get, url, Auth::Nobody))
        .await?;
    let root = peer.service_root(&answer)?;
    let door = Door::of(&root).unwrap_or(Door {
        sessions: None,
        guarded: SERVICE_ROOT.to_owned(),
    });
    *peer.session.door.lock() = Some(door.clone());
    Ok(door)
}

impl Door {
    fn of(root: &Value) -> Option<Self> {
        let link = |pointer: &str| {
            root.pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let guarded = [
            "/Systems/@odata.id",
            "/Managers/@odata.id",
            "/Chassis/@odata.id",
            "/SessionService/@odata.id",
        ]
        .into_iter()
        .find_map(link)?;
        let sessions = link("/Links/Sessions/@odata.id").or_else(|| {
            // Without the link, the service's own collection is the only place it can be (DSP0266 section 13.3.4).
            link("/SessionService/@odata.id")
                .map(|service| format!("{}/Sessions", service.trim_end_matches('/')))
        });
        Some(Self { sessions, guarded })
    }
}

async fn try_doors(peer: &Arc<Peer>, door: &Door) -> Outcome {
    peer.health.count(|tally| &tally.logins, 1);
    if let Some(sessions) = door
        .sessions
        .as_deref()
        .filter(|_| !peer.manners.lock().basic_only)
        && let Some(grant) = open_session(peer, sessions).await?
    {
        return Ok(Arc::new(grant));
    }
    // Basic is tried on something harmless first, by one request: a wrong password costs one failure, not two.
    let url = resolve(&peer.transport.base, &door.guarded)?;
    let credentials = &peer.target.credentials;
    let auth = Auth::Basic(&credentials.username, &credentials.password);
    let answer = peer
        .transport
        .exchange(Wire::new(Method::Get, url, auth))
        .await?;
    match answer.status {
        200..=399 | 404 | 405 => Ok(Arc::new(Grant::Basic)),
        401 | 403 => Err(peer.refused(answer.status)),
        _ => Err(peer.status(Method::Get, &answer)),
    }
}

/// Opens a session; `None` if the BMC has none to give and Basic is the way.
async fn open_session(peer: &Arc<Peer>, sessions: &str) -> Result<Option<Grant>, GatewayError> {
    let base = &peer.transport.base;
    let mut url = resolve(base, sessions)?;
    let body = json!({
        "UserName": peer.target.credentials.username,
        "Password": peer.target.credentials.password.expose_secret(),
    });
    let mut answer = peer
        .transport
        .exchange(login_wire(url.clone(), &body))
        .await?;
    if matches!(answer.status, 307 | 308)
        && let Some(location) = answer.header(http::header::LOCATION)
    {
        url = resolve_location(base, &url, location)?;
        answer = peer
            .transport
            .exchange(login_wire(url.clone(), &body))
            .await?;
    }
    match answer.status {
        200..=299 => {}
        401 | 403 if !sessions_exhausted(&answer) => return Err(peer.refused(answer.status)),
        400 if says_unauthorized(&answer) => return Err(peer.refused(answer.status)),
        404 | 405 | 501 => return Ok(None),
        _ if sessions_exhausted(&answer) => {
            tracing::warn!(bmc = %peer.target.name, "the BMC has no session left, Basic is used");
            return Ok(None);
        }
        _ => return Err(peer.status(Method::Post, &answer)),
    }
    let (body, asked) = (answer.json().unwrap_or(Value::Null), answer.url.clone());
    let reply = answer.into_reply(None);
    // The body's own link is the better one where `Location` names a host that the BMC believes itself to be.
    let path = reply
        .location
        .as_deref()
        .and_then(|location| resolve_location(base, &asked, location).ok())
        .map(|url| url.path().to_owned())
        .or_else(|| {
            body.get("@odata.id")
                .and_then(Value::as_str)
                .map(str::to_owned)
        });
    Ok(reply.token.map(|token| Grant::Token { token, path }))
}

fn login_wire(url: url::Url, body: &Value) -> Wire<'_> {
    Wire {
        body: Some(body),
        ..Wire::new(Method::Post, url, Auth::Nobody)
    }
}

/// `SessionLimitExceeded` of the Base registry, `RAC0218` of iDRAC.
fn sessions_exhausted(answer: &Answer) -> bool {
    mentions(answer, &["SessionLimitExceeded", "RAC0218"])
}

/// iLO answers a wrong password with 400 `UnauthorizedLoginAttempt`. Its counter counts it, so ours must.
fn says_unauthorized(answer: &Answer) -> bool {
    mentions(answer, &["UnauthorizedLoginAttempt"])
}

fn mentions(answer: &Answer, ids: &[&str]) -> bool {
    let text = String::from_utf8_lossy(&answer.body);
    ids.iter().any(|id| text.contains(id))
}
