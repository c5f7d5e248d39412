//! The handle to one BMC: every call to it goes through here.

use super::{
    counters::Counters,
    health::{Health, Leave},
    manners::Manners,
    path::{SERVICE_ROOT, is_service_root, resolve, resolve_location},
    peer::Peer,
    request::{IfMatch, Method, Query, Reply, Request, Seen},
    session::{Grant, log_out},
    transport::{Answer, Auth, Wire},
};
use crate::{
    document::Document,
    error::{GatewayError, Phase},
    queue::Priority,
    target::Target,
    tls::Fingerprint,
};
use parking_lot::Mutex;
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use url::Url;

/// Redirects followed within one call; conforming BMCs need one.
const MOST_REDIRECTS: u8 = 3;
/// A `Retry-After` up to this is waited for within a call.
const SHORT_WAIT: Duration = Duration::from_secs(5);

/// A handle to one BMC, shared by everything in the process that speaks to it. Cheap to clone.
#[derive(Clone)]
pub struct Bmc(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    name: Arc<str>,
    peer: Mutex<Arc<Peer>>,
    health: Arc<Health>,
    manners: Arc<Mutex<Manners>>,
}

// === impl Bmc ===

impl Bmc {
    pub(crate) fn new(
        target: Target,
        config: Arc<super::GatewayConfig>,
        health: Arc<Health>,
    ) -> Self {
        let manners = Arc::new(Mutex::new(Manners::default()));
        Self(Arc::new(Shared {
            name: Arc::from(target.name.as_str()),
            peer: Mutex::new(Peer::new(target, config, health.clone(), manners.clone())),
            health,
            manners,
        }))
    }

    /// The target's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The address in use.
    #[must_use]
    pub fn url(&self) -> Url {
        self.peer().transport.base.clone()
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// Any [`GatewayError`]; [`GatewayError::is_transient`] says whether trying again helps.
    pub async fn get(&self, path: &str, priority: Priority) -> Result<Document, GatewayError> {
        self.send(Request::new(Method::Get, path, priority))
            .await
            .map(Reply::into_document)
    }

    /// Reads a resource with query parameters.
    ///
    /// # Errors
    /// As [`Self::get`]; a BMC that does not know a parameter answers 400 or 501.
    pub async fn get_with(
        &self,
        path: &str,
        query: &Query,
        priority: Priority,
    ) -> Result<Document, GatewayError> {
        self.get(&query.apply(path), priority).await
    }

    /// Reads a resource if it is not as it was `seen`; `None` if it is. For polling: costs the BMC least where it
    /// knows ETags, and the caller nothing where nothing changed.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_if_changed(
        &self,
        path: &str,
        seen: Option<&Seen>,
        priority: Priority,
    ) -> Result<Option<(Document, Seen)>, GatewayError> {
        let mut request = Request::new(Method::Get, path, priority);
        request.if_none_match = seen
            .and_then(|seen| seen.etag.as_deref())
            .map(str::to_owned);
        let reply = self.send(request).await?;
        // Not every BMC that has ETags heeds them, and some change them though nothing else changed.
        if reply.status == 304 || seen.is_some_and(|seen| seen.digest == reply.digest) {
            return Ok(None);
        }
        let seen = reply.seen();
        Ok(Some((reply.into_document(), seen)))
    }

    /// Reads what may have no body and whose status means something: a task's monitor.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn look(&self, path: &str, priority: Priority) -> Result<Reply, GatewayError> {
        let mut request = Request::new(Method::Get, path, priority);
        request.body_optional = true;
        self.send(request).await
    }

    /// Posts to an action or a collection.
    ///
    /// # Errors
    /// As [`Self::get`]; see [`GatewayError::outcome_unknown`]. A POST is never sent twice, but for a 401 or a redirect.
    pub async fn post(
        &self,
        path: &str,
        body: &Value,
        priority: Priority,
    ) -> Result<Reply, GatewayError> {
        self.send(Request::new(Method::Post, path, priority).body(body.clone()))
            .await
    }

    /// Changes properties of a resource.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn patch(
        &self,
        path: &str,
        body: &Value,
        if_match: IfMatch,
        priority: Priority,
    ) -> Result<Reply, GatewayError> {
        self.send(
            Request::new(Method::Patch, path, priority)
                .body(body.clone())
                .if_match(if_match),
        )
        .await
    }

    /// Deletes a resource.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn delete(&self, path: &str, priority: Priority) -> Result<Reply, GatewayError> {
        self.send(Request::new(Method::Delete, path, priority))
            .await
    }

    /// Reads the service root without credentials: proves that the BMC is there and speaks Redfish, and shows its
    /// certificate.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn service_root(&self) -> Result<Document, GatewayError> {
        self.get(SERVICE_ROOT, Priority::Control).await
    }

    /// The leaf certificate that the BMC showed and proved to own, in this process.
    #[must_use]
    pub fn observed_pin(&self) -> Option<Fingerprint> {
        self.peer().transport.observed()
    }

    /// What was counted for this BMC.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.health.tally.snapshot()
    }

    /// It was silent too often in a row and is asked only now and then until it answers.
    #[must_use]
    pub fn is_left_alone(&self) -> bool {
        self.0.health.is_left_alone()
    }

    /// Tells the gateway what this firmware wants done differently.
    pub fn set_manners(&self, manners: Manners) {
        if let Some(in_flight) = manners.in_flight {
            self.0.health.limit(in_flight);
        }
        *self.0.manners.lock() = manners;
    }

    /// Sends `request` and returns the answer if it is no error.
    ///
    /// Dropping the future takes the request back if it was not sent, cuts the connection if it was, and gives the
    /// place to the next.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn send(&self, request: Request) -> Result<Reply, GatewayError> {
        let peer = self.peer();
        let started = Instant::now();
        let until = started + request.deadline.unwrap_or(peer.config.deadlines.call);
        let late = |phase| GatewayError::Timeout {
            authority: peer.transport.authority.clone(),
            phase,
            after: started.elapsed(),
        };
        let leave = timeout_at(until, self.0.health.leave(request.priority))
            .await
            .unwrap_or_else(|_| Err(late(Phase::Queued)))?;
        // The target may have changed while this one waited.
        let call = Call {
            peer: self.peer(),
            leave,
            until,
            started,
        };
        Box::pin(call.run(request)).await
    }

    /// Opens a stream of events. It takes a place only until it is open.
    pub(crate) async fn open_stream(
        &self,
        path: &str,
        last_event_id: Option<&str>,
    ) -> Result<(reqwest::Response, Arc<str>), GatewayError> {
        let leave = self.0.health.leave(Priority::Control).await?;
        let peer = self.peer();
        let url = resolve(&peer.transport.base, path)?;
        let mut renewed = false;
        loop {
            let grant = peer.session.ensure(&peer, &leave.place).await?;
            let wire = Wire {
                stream: Some(last_event_id),
                ..Wire::new(Method::Get, url.clone(), grant.auth(&peer))
            };
            let response = peer.transport.stream(wire).await?;
            match response.status().as_u16() {
                200 => return Ok((response, peer.transport.authority.clone())),
                401 if !renewed && matches!(*grant, Grant::Token { .. }) => {
                    renewed = true;
                    peer.session.lapsed(&grant);
                }
                401 if matches!(*grant, Grant::Basic) => {
                    peer.session.basic_refused(&peer, &grant);
                    return Err(peer.refused(401));
                }
                _ => {
                    let now = Instant::now();
                    let until = now + peer.config.deadlines.exchange;
                    let answer = peer.transport.finish(response, url, now, until).await?;
                    return Err(peer.status(Method::Get, &answer));
                }
            }
        }
    }

    pub(crate) fn peer(&self) -> Arc<Peer> {
        self.0.peer.lock().clone()
    }

    /// Takes a new target over if it differs; returns the old peer, to be logged out.
    pub(crate) fn retarget(
        &self,
        target: Target,
        config: &Arc<super::GatewayConfig>,
    ) -> Option<Arc<Peer>> {
        let mut peer = self.0.peer.lock();
        if peer.target.same_as(&target) {
            return None;
        }
        if let Some(pinned) = peer.pinned(&target) {
            // There was no session yet: credentials are sent from now on.
            *peer = pinned;
            return None;
        }
        if !peer.target.same_address(&target) || peer.target.trust != target.trust {
            self.0.health.forget();
        }
        if !peer.target.same_address(&target) {
            *self.0.manners.lock() = Manners::default();
        }
        let new = Peer::new(
            target,
            config.clone(),
            self.0.health.clone(),
            self.0.manners.clone(),
        );
        Some(std::mem::replace(&mut *peer, new))
    }

    /// Closes the session for good.
    pub(crate) async fn close(&self) {
        close(&self.peer()).await;
    }
}

pub(crate) async fn close(peer: &Peer) {
    if let Some(grant) = peer.session.close() {
        log_out(peer, &grant).await;
    }
}

impl fmt::Debug for Bmc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bmc")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

/// One call under way, with a place of its own.
struct Call {
    peer: Arc<Peer>,
    leave: Leave,
    until: Instant,
    started: Instant,
}

// === impl Call ===

impl Call {
    async fn run(self, request: Request) -> Result<Reply, GatewayError> {
        let peer = &self.peer;
        let mut url = resolve(&peer.transport.base, &request.path)?;
        let anonymous = request.anonymous || is_service_root(url.path());
        let mut login_spent = anonymous;
        let mut redirects = 0;
        let mut again = request.method == Method::Get;
        let mut conditions = Conditions::of(&request, &peer.manners.lock());
        let mut needs_login = !anonymous;
        loop {
            let grant = if needs_login {
                Some(self.grant().await?)
            } else {
                None
            };
            let answer = match self
                .exchange(&request, &url, grant.as_deref(), &conditions)
                .await
            {
                Ok(answer) => answer,
                // BMCs close idle connections as we send on them; a GET may be asked twice.
                Err(GatewayError::Interrupted { .. }) if again => {
                    again = false;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let location = answer.header(http::header::LOCATION);
            match answer.status {
                301 | 302 | 303 | 307 | 308 if redirects < MOST_REDIRECTS => {
                    let Some(location) = location else {
                        return Err(peer.status(request.method, &answer));
                    };
                    if request.method != Method::Get && !matches!(answer.status, 307 | 308) {
                        return Err(peer.status(request.method, &answer));
                    }
                    redirects += 1;
                    url = resolve_location(&peer.transport.base, &url, location)?;
                }
                200..=299 | 304 => return self.reply(&request, answer),
                // A service root behind a login is a deviation, not an error.
                401 if anonymous && !request.anonymous && !needs_login => {
                    needs_login = true;
                }
                401 => match grant.as_ref() {
                    Some(grant) if matches!(**grant, Grant::Basic) => {
                        peer.session.basic_refused(peer, grant);
                        return Err(peer.refused(answer.status));
                    }
                    Some(grant) if !login_spent && !peer.refuses_for_good(url.path()) => {
                        login_spent = true;
                        peer.health.count(|tally| &tally.sessions_lapsed, 1);
                        peer.session.lapsed(grant);
                    }
                    _ => {
                        peer.remember_refusal(url.path());
                        return Err(peer.status(request.method, &answer));
                    }
                },
                412 | 428 if request.method != Method::Get => {
                    if !conditions.next() {
                        return Err(peer.status(request.method, &answer));
                    }
                    if conditions.wants_own_etag() {
                        conditions.own = self.etag(&url, grant.as_deref()).await?;
                    }
                }
                503 if again && answer.retry_after().is_some_and(|wait| wait <= SHORT_WAIT) => {
                    again = false;
                    // With the place kept: the BMC asked to be spared.
                    let wait = answer.retry_after().unwrap_or_default();
                    if Instant::now() + wait >= self.until {
                        return Err(peer.status(request.method, &answer));
                    }
                    tokio::time::sleep(wait).await;
                }
                _ if request.method == Method::Get && is_service_root(url.path()) => {
                    return peer.service_root(&answer).and(self.reply(&request, answer));
                }
                _ => return Err(peer.status(request.method, &answer)),
            }
        }
    }

    async fn grant(&self) -> Result<Arc<Grant>, GatewayError> {
        timeout_at(
            self.until,
            self.peer.session.ensure(&self.peer, &self.leave.place),
        )
        .await
        .unwrap_or_else(|_| {
            Err(GatewayError::Timeout {
                authority: self.peer.transport.authority.clone(),
                phase: Phase::LoggingIn,
                after: self.started.elapsed(),
            })
        })
    }

    async fn exchange(
        &self,
        request: &Request,
        url: &Url,
        grant: Option<&Grant>,
        conditions: &Conditions,
    ) -> Result<Answer, GatewayError> {
        let auth = grant.map_or(Auth::Nobody, |grant| grant.auth(&self.peer));
        let wire = Wire {
            body: request.body.as_ref(),
            if_match: conditions.current(),
            if_none_match: request.if_none_match.as_deref(),
            deadline: Some(self.until),
            ..Wire::new(request.method, url.clone(), auth)
        };
        self.peer.transport.exchange(wire).await
    }

    /// The resource's present ETag, from the header or, as some send it only there, from the body.
    async fn etag(&self, url: &Url, grant: Option<&Grant>) -> Result<Option<String>, GatewayError> {
        let auth = grant.map_or(Auth::Nobody, |grant| grant.auth(&self.peer));
        let wire = Wire {
            deadline: Some(self.until),
            ..Wire::new(Method::Get, url.clone(), auth)
        };
        let answer = self.peer.transport.exchange(wire).await?;
        if !(200..300).contains(&answer.status) {
            return Ok(None);
        }
        let body = answer.json().ok();
        Ok(answer
            .into_reply(body)
            .into_document()
            .etag()
            .map(str::to_owned))
    }

    fn reply(&self, request: &Request, answer: Answer) -> Result<Reply, GatewayError> {
        let path = answer.url.path().to_owned();
        if request.method == Method::Get && is_service_root(&path) && answer.status != 304 {
            let root = self.peer.service_root(&answer)?;
            self.peer.pass_by(&path, &root);
            return Ok(answer.into_reply(Some(root)));
        }
        let body = match answer.json() {
            Ok(body) => Some(body),
            // Only a GET is asked for its body; changes are answered with nothing, or with a page of HTML.
            Err(_)
                if request.method != Method::Get
                    || matches!(answer.status, 202 | 204 | 304)
                    || request.body_optional && answer.body.is_empty() =>
            {
                None
            }
            Err(what) => {
                let what = if answer.body.is_empty() {
                    "it is empty".to_owned()
                } else {
                    what
                };
                return Err(GatewayError::Malformed {
                    path: Arc::from(path),
                    what: Arc::from(what),
                });
            }
        };
        Ok(answer.into_reply(body))
    }
}

/// Which `If-Match` to send, and which next if the BMC refuses it.
struct Conditions {
    tries: std::vec::IntoIter<Condition>,
    now: Condition,
    own: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Nothing,
    This(String),
    Own,
    Any,
}

// === impl Conditions ===

impl Conditions {
    fn of(request: &Request, manners: &Manners) -> Self {
        let (now, mut then) = match &request.if_match {
            IfMatch::Never => (Condition::Nothing, vec![]),
            IfMatch::Exactly(etag) => (Condition::This(etag.clone()), vec![]),
            IfMatch::Auto => (Condition::Nothing, vec![Condition::Own, Condition::Any]),
            // DSP0266 section 6.5: where a BMC cannot compare its own ETags, sending none is what is left.
            IfMatch::Prefer(etag) if manners.rejects_own_etags => {
                let _ = etag;
                (Condition::Any, vec![Condition::Nothing])
            }
            IfMatch::Prefer(etag) => (
                Condition::This(etag.clone()),
                vec![Condition::Own, Condition::Any, Condition::Nothing],
            ),
        };
        then.retain(|condition| match condition {
            Condition::Own => !manners.rejects_own_etags,
            Condition::Any => !manners.rejects_any_etag,
            _ => true,
        });
        Self {
            tries: then.into_iter(),
            now,
            own: None,
        }
    }

    fn next(&mut self) -> bool {
        match self.tries.next() {
            Some(next) => {
                self.now = next;
                true
            }
            None => false,
        }
    }

    fn wants_own_etag(&self) -> bool {
        self.now == Condition::Own
    }

    fn current(&self) -> Option<&str> {
        match &self.now {
            Condition::Nothing => None,
            Condition::This(etag) => Some(etag),
            Condition::Own => self.own.as_deref(),
            Condition::Any => Some("*"),
        }
    }
}
