//! The Redfish service of one machine: from a request to an answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::blueprint::{Document, Kind};
use crate::clock::Moment;
use crate::machine::account::Caller;
use crate::machine::event::EventStream;
use crate::machine::{Machine, State};
use crate::message::Failure;
use crate::render::{Expansion, Renderer};
use crate::reply::{Answer, Body, Reply};
use crate::template::Dynamic;

mod action;
mod collection;
mod patch;
mod query;

use query::Query;

/// A request with its body read.
pub(crate) struct Request {
    pub parts: Parts,
    pub body: Bytes,
}

/// What a request means to a handler: the machine's state is locked for it.
pub(crate) struct Context<'a> {
    pub machine: &'a Machine,
    pub state: &'a mut State,
    pub now: Moment,
    pub caller: Caller,
    pub path: &'a str,
}

impl Machine {
    pub fn serve(self: &Arc<Self>, request: &Request) -> Reply {
        let head = request.parts.method == Method::HEAD;
        let mut reply = match self.answer(request) {
            Ok(Outcome::Answer(answer)) => answer.finish(),
            Ok(Outcome::Stream) => self.stream(),
            Err(failure) => Answer::from(failure).finish(),
        };
        if head {
            *reply.body_mut() = Body::Whole(None);
        }
        reply
    }

    fn answer(self: &Arc<Self>, request: &Request) -> Result<Outcome, Failure> {
        let uri = &request.parts.uri;
        let path = canonical(uri.path());
        let method = &request.parts.method;
        if let Some(version) = request.parts.headers.get("odata-version")
            && version != "4.0"
        {
            return Err(Failure::new(
                StatusCode::PRECONDITION_FAILED,
                "GeneralError",
                &[],
            ));
        }
        let get = method == Method::GET || method == Method::HEAD;
        if get && let Some(answer) = self.public(path, uri.query())? {
            return Ok(Outcome::Answer(answer));
        }
        if !path.starts_with("/redfish/v1") && self.blueprint.find(path).is_none() {
            return Err(Failure::missing(path));
        }
        self.with_state(|state, now| {
            let login = method == Method::POST && (path == SESSIONS || path == SESSIONS_MEMBERS);
            if login {
                return self.login(state, now, request).map(Outcome::Answer);
            }
            let caller = state.authenticate(&request.parts.headers, now, self)?;
            let mut context = Context {
                machine: self,
                state,
                now,
                caller,
                path,
            };
            match method.as_str() {
                "GET" | "HEAD" => context.get(request),
                "PATCH" | "PUT" => context.change(request).map(Outcome::Answer),
                "POST" => context.post(request).map(Outcome::Answer),
                "DELETE" => context.delete(request).map(Outcome::Answer),
                _ => Err(context.not_allowed()),
            }
        })
    }

    fn stream(self: &Arc<Self>) -> Reply {
        let stream = futures::stream::unfold(
            EventStream::open(Arc::clone(self)),
            |mut stream| async move { stream.next().await.map(|piece| (piece, stream)) },
        );
        let first = futures::stream::once(async { Bytes::from_static(b": stream open\n\n") });
        let body = Body::Stream(Box::pin(futures::StreamExt::chain(first, stream)));
        let mut reply = Answer::text("text/event-stream", Bytes::new()).finish();
        *reply.body_mut() = body;
        reply
    }

    /// What needs no login: versions, service root, metadata.
    fn public(&self, path: &str, query: Option<&str>) -> Result<Option<Answer>, Failure> {
        Ok(Some(match path {
            "/redfish" => {
                Answer::json(StatusCode::OK, "{\"v1\":\"/redfish/v1/\"}").allow("GET, HEAD")
            }
            "/redfish/v1" => self.with_state(|state, now| {
                let (_, document) = self
                    .blueprint
                    .find(path)
                    .ok_or_else(|| Failure::missing(path))?;
                self.render(state, now, document, query)
            })?,
            "/redfish/v1/odata" => Answer::value(StatusCode::OK, &self.odata()).allow("GET, HEAD"),
            "/redfish/v1/$metadata" => Answer::text(
                "application/xml;charset=utf-8",
                self.blueprint.metadata.clone(),
            )
            .allow("GET, HEAD"),
            _ => return Ok(None),
        }))
    }

    fn odata(&self) -> Value {
        let entry = |name: &str| serde_json::json!({"name": name, "kind": "Singleton", "url": format!("/redfish/v1/{}", if name == "Service" { "" } else { name })});
        let names = [
            "Service",
            "Systems",
            "Chassis",
            "Managers",
            "TaskService",
            "AccountService",
            "SessionService",
            "EventService",
            "UpdateService",
            "Registries",
            "JsonSchemas",
        ];
        serde_json::json!({"@odata.context": "/redfish/v1/$metadata", "value": names.map(entry)})
    }

    /// A document of the blueprint with the query applied.
    fn render(
        &self,
        state: &State,
        now: Moment,
        document: &Document,
        query: Option<&str>,
    ) -> Result<Answer, Failure> {
        let query = Query::parse(query, &self.blueprint.spec)?;
        let mut renderer = Renderer::new(self, state, now);
        renderer.document(document, query.expansion);
        self.finish(renderer, &query, state, allow(self, document))
    }

    fn finish(
        &self,
        mut renderer: Renderer<'_>,
        query: &Query,
        state: &State,
        allow: &str,
    ) -> Result<Answer, Failure> {
        if query.is_plain() {
            let tag = renderer.final_etag();
            let schema = schema(&renderer.out);
            return Ok(Answer::json(StatusCode::OK, renderer.out)
                .etag(tag)
                .described_by(schema.as_deref())
                .allow(allow));
        }
        let out = query.apply(renderer.out, |path| {
            let mut renderer = Renderer::new(self, state, self.clock.now());
            renderer
                .resource(path, Expansion::NONE)
                .then_some(renderer.out)
        })?;
        Ok(Answer::json(StatusCode::OK, out).allow(allow))
    }

    fn login(&self, state: &mut State, now: Moment, request: &Request) -> Result<Answer, Failure> {
        let body = object(&request.body)?;
        let (id, token) = state.login(&Value::Object(body), now, self)?;
        let session = state
            .sessions
            .iter()
            .find(|session| session.id == id)
            .map(|session| self.session_document(session));
        let mut body = session.unwrap_or_default();
        let path = body
            .get("@odata.id")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if let Some(map) = body.as_object_mut()
            && self.blueprint.spec.body_etags
        {
            map.insert("@odata.etag".into(), format!("W/\"{id:08X}\"").into());
        }
        Ok(Answer::value(StatusCode::CREATED, &body)
            .location(path)
            .header(HeaderName::from_static("x-auth-token"), token))
    }

    /// The document of a member that comes and goes: a session, an account, a subscription, a task.
    pub fn member(&self, state: &State, path: &str, now: Moment) -> Option<Value> {
        let (parent, name) = path.rsplit_once('/')?;
        if parent == "/redfish/v1/TaskService/TaskMonitors" {
            return state
                .tasks
                .iter()
                .find(|task| self.task_name(task.id) == name)
                .map(|task| self.task_document(task, now));
        }
        let (_, document) = self.blueprint.find(parent)?;
        let Kind::Collection(dynamic) = document.kind else {
            return None;
        };
        match dynamic {
            Dynamic::Sessions => state
                .sessions
                .iter()
                .find(|session| session.id.to_string() == name)
                .map(|session| self.session_document(session)),
            Dynamic::Accounts => {
                let account = state.accounts.iter().find(|account| account.id == name);
                match (account, self.blueprint.spec.account_slots) {
                    (Some(account), _) => Some(self.account_document(account, now)),
                    (None, Some(slots))
                        if name
                            .parse()
                            .is_ok_and(|slot: usize| (1..=slots).contains(&slot)) =>
                    {
                        Some(self.account_document(&collection::empty_slot(name), now))
                    }
                    _ => None,
                }
            }
            Dynamic::Subscriptions => state
                .subscriptions
                .iter()
                .find(|s| s.id.to_string() == name)
                .map(|s| self.subscription_document(s)),
            Dynamic::Tasks => state
                .tasks
                .iter()
                .find(|task| self.task_name(task.id) == name)
                .map(|task| self.task_document(task, now)),
            Dynamic::Jobs => state
                .tasks
                .iter()
                .find(|task| self.task_name(task.id) == name)
                .map(|task| self.job_document(task, now)),
        }
    }

    pub fn member_paths(&self, state: &State, dynamic: Dynamic) -> Vec<String> {
        let under = |path: &str, names: Vec<String>| {
            names
                .into_iter()
                .map(|name| format!("{path}/{name}"))
                .collect()
        };
        match dynamic {
            Dynamic::Sessions => under(
                SESSIONS,
                state
                    .sessions
                    .iter()
                    .map(|session| session.id.to_string())
                    .collect(),
            ),
            Dynamic::Accounts => {
                let names = match self.blueprint.spec.account_slots {
                    Some(slots) => (1..=slots).map(|slot| slot.to_string()).collect(),
                    None => state
                        .accounts
                        .iter()
                        .map(|account| account.id.clone())
                        .collect(),
                };
                under("/redfish/v1/AccountService/Accounts", names)
            }
            Dynamic::Subscriptions => under(
                "/redfish/v1/EventService/Subscriptions",
                state
                    .subscriptions
                    .iter()
                    .map(|s| s.id.to_string())
                    .collect(),
            ),
            Dynamic::Tasks => under(
                "/redfish/v1/TaskService/Tasks",
                state
                    .tasks
                    .iter()
                    .map(|task| self.task_name(task.id))
                    .collect(),
            ),
            Dynamic::Jobs => under(
                "/redfish/v1/JobService/Jobs",
                state
                    .tasks
                    .iter()
                    .map(|task| self.task_name(task.id))
                    .collect(),
            ),
        }
    }

    /// The BIOS attributes in force.
    pub fn bios(&self, state: &State, node: usize) -> serde_json::Map<String, Value> {
        let delivered = self
            .blueprint
            .spec
            .bios_attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        let changed = state
            .nodes
            .get(node)
            .map(|node| node.bios.clone())
            .unwrap_or_default();
        delivered.chain(changed).collect()
    }
}

const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const SESSIONS_MEMBERS: &str = "/redfish/v1/SessionService/Sessions/Members";

enum Outcome {
    Answer(Answer),
    Stream,
}

impl Context<'_> {
    fn get(&mut self, request: &Request) -> Result<Outcome, Failure> {
        let query = request.parts.uri.query();
        if let Some((_, document)) = self.machine.blueprint.find(self.path) {
            if document.kind == Kind::EventStream {
                return Ok(Outcome::Stream);
            }
            if document.kind == Kind::Upload && document.segments.len() == 1 {
                return Err(self.not_allowed());
            }
            if document.kind == Kind::LogEntries && self.state.logs_cleared {
                let empty = serde_json::json!({"@odata.id": self.path, "@odata.type": "#LogEntryCollection.LogEntryCollection", "Name": "Log Entries", "Members@odata.count": 0, "Members": []});
                return Ok(Outcome::Answer(
                    Answer::value(StatusCode::OK, &empty).allow("GET, HEAD"),
                ));
            }
            let answer = self.machine.render(self.state, self.now, document, query)?;
            return Ok(Outcome::Answer(not_modified(answer, request)));
        }
        if self
            .path
            .starts_with("/redfish/v1/TaskService/TaskMonitors/")
        {
            return self.monitor().map(Outcome::Answer);
        }
        if let Some(value) = self.machine.member(self.state, self.path, self.now) {
            let query = Query::parse(query, &self.machine.blueprint.spec)?;
            let mut renderer = Renderer::new(self.machine, self.state, self.now);
            renderer.value(&value);
            let answer = self
                .machine
                .finish(renderer, &query, self.state, self.member_allow())?;
            return Ok(Outcome::Answer(not_modified(answer, request)));
        }
        if self.machine.blueprint.action(self.path).is_some() {
            return Err(
                Failure::new(StatusCode::METHOD_NOT_ALLOWED, "OperationNotAllowed", &[])
                    .with(ALLOW, "POST"),
            );
        }
        Err(Failure::missing(self.path))
    }

    /// A task monitor: 202 while the work lasts, then the result.
    fn monitor(&self) -> Result<Answer, Failure> {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let task = self
            .state
            .tasks
            .iter()
            .find(|task| self.machine.task_name(task.id) == name);
        let task = task.ok_or_else(|| Failure::missing(self.path))?;
        let document = self.machine.task_document(task, self.now);
        if !task.done {
            return Ok(Answer::value(StatusCode::ACCEPTED, &document)
                .location(self.path)
                .header(http::header::RETRY_AFTER, "1"));
        }
        if task.state() == "Exception" {
            return Err(Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                &[],
            ));
        }
        Ok(Answer::value(
            StatusCode::OK,
            &crate::message::error("Success", &[]),
        ))
    }

    /// Methods of a member that comes and goes.
    fn member_allow(&self) -> &'static str {
        if self.path.contains("/Accounts/") {
            if self.machine.blueprint.spec.account_slots.is_some() {
                "GET, HEAD, PATCH"
            } else {
                "GET, HEAD, PATCH, DELETE"
            }
        } else if self.path.contains("/Subscriptions/")
            || self.path.contains("/Sessions/")
            || self.path.contains("/Tasks/")
        {
            "GET, HEAD, DELETE"
        } else {
            "GET, HEAD"
        }
    }

    fn not_allowed(&self) -> Failure {
        let allow = match self.machine.blueprint.find(self.path) {
            Some((_, document)) => allow(self.machine, document),
            None if self.machine.blueprint.action(self.path).is_some() => "POST",
            None if self
                .machine
                .member(self.state, self.path, self.now)
                .is_some() =>
            {
                self.member_allow()
            }
            None => match self.path {
                "/redfish" | "/redfish/v1" | "/redfish/v1/odata" | "/redfish/v1/$metadata" => {
                    "GET, HEAD"
                }
                _ => return Failure::missing(self.path),
            },
        };
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, "OperationNotAllowed", &[]).with(ALLOW, allow)
    }

    /// Compares `If-Match` with what is there now.
    fn check_etag(&self, request: &Request) -> Result<(), Failure> {
        let Some(wanted) = request.parts.headers.get(IF_MATCH) else {
            if self.state.behaviour.limits.require_etag {
                return Err(Failure::new(
                    StatusCode::PRECONDITION_REQUIRED,
                    "PreconditionRequired",
                    &[],
                ));
            }
            return Ok(());
        };
        let mut renderer = Renderer::new(self.machine, self.state, self.now);
        if !renderer.resource(self.path, Expansion::NONE) {
            return Err(Failure::missing(self.path));
        }
        let tag = renderer.final_etag();
        let wanted = wanted.to_str().unwrap_or_default();
        if wanted.trim() == "*" || wanted.split(',').any(|one| bare(one) == bare(&tag)) {
            Ok(())
        } else {
            Err(Failure::new(
                StatusCode::PRECONDITION_FAILED,
                "PreconditionFailed",
                &[],
            ))
        }
    }

    /// The resource as it is now, as the answer to a change.
    fn present(&self) -> Result<Answer, Failure> {
        let mut renderer = Renderer::new(self.machine, self.state, self.now);
        if !renderer.resource(self.path, Expansion::NONE) {
            return Err(Failure::missing(self.path));
        }
        let tag = renderer.final_etag();
        Ok(Answer::json(StatusCode::OK, renderer.out).etag(tag))
    }
}

fn not_modified(answer: Answer, request: &Request) -> Answer {
    let Some(known) = request
        .parts
        .headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
    else {
        return answer;
    };
    match answer.tag() {
        Some(tag) if known.split(',').any(|one| bare(one) == bare(tag)) => {
            Answer::empty(StatusCode::NOT_MODIFIED).etag(tag.to_owned())
        }
        _ => answer,
    }
}

/// An ETag without its weakness, for comparison.
fn bare(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix("W/").unwrap_or(tag)
}

fn allow(machine: &Machine, document: &Document) -> &'static str {
    let slots = machine.blueprint.spec.account_slots.is_some();
    match document.kind {
        Kind::Collection(Dynamic::Accounts) if slots => "GET, HEAD",
        Kind::Collection(Dynamic::Sessions | Dynamic::Accounts | Dynamic::Subscriptions) => {
            "GET, HEAD, POST"
        }
        Kind::BiosSettings(_) => "GET, HEAD, PATCH",
        // iDRAC takes images at its inventory, which its schema does not know of.
        Kind::Upload if document.segments.len() > 1 => "GET, HEAD",
        Kind::Upload => "POST",
        Kind::Plain if !document.writable.is_empty() => "GET, HEAD, PATCH",
        _ => "GET, HEAD",
    }
}

/// The schema that describes a document: `ComputerSystem.v1_16_0`.
fn schema(document: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(document.get(..document.len().min(600))?).or_else(|error| {
        std::str::from_utf8(document.get(..error.valid_up_to()).unwrap_or_default())
    });
    let (_, rest) = head.ok()?.split_once("\"@odata.type\":\"#")?;
    let (name, _) = rest.split_once('"')?;
    name.rsplit_once('.').map(|(schema, _)| schema.to_owned())
}

/// Paths with and without a trailing slash are one.
fn canonical(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
}

/// The body as a JSON object.
fn object(body: &[u8]) -> Result<serde_json::Map<String, Value>, Failure> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Failure::bad("UnrecognizedRequestBody", &[])),
        Err(_) => Err(Failure::bad("MalformedJSON", &[])),
    }
}
