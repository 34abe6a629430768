//! The URL of an upstream: its connections, its header template, and our own requests to it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use tokio_util::task::TaskTracker;

use crate::{
    egress::{Origin, OriginBody, SendError},
    mcp::{
        Kind, Message, Pieces, Version,
        message::{is_batch, parse},
        mirror,
    },
    upstream::{
        Limits, batch,
        era::{self, Speech},
        event_reader::EventReader,
        failure::CallFailure,
        fetch::{self, Bounds},
        health::Health,
    },
};

pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(crate) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub(crate) const NAME: HeaderName = HeaderName::from_static("mcp-name");
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// How to reach an upstream.
#[derive(Debug)]
pub(crate) struct Endpoint {
    origin: Arc<Origin>,
    uri: Uri,
    template: HeaderMap,
    pub(crate) limits: Limits,
    pub(crate) health: Arc<Health>,
    next_id: AtomicU64,
    /// Goodbyes under way, awaited at shutdown.
    farewells: TaskTracker,
}

/// What an upstream answered to a request of our own.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The response, if the body was one.
    pub(crate) message: Result<Message, CallFailure>,
}

impl Endpoint {
    /// `secrets` are the credential's headers.
    pub(crate) fn new(
        origin: Arc<Origin>,
        uri: Uri,
        secrets: HeaderMap,
        limits: Limits,
        (health, farewells): (Arc<Health>, TaskTracker),
    ) -> Self {
        let mut template = secrets;
        template.insert(header::CONTENT_TYPE, JSON);
        template.insert(header::ACCEPT, BOTH);
        template.insert(header::ACCEPT_ENCODING, IDENTITY);
        template.insert(header::USER_AGENT, fetch::USER_AGENT);
        let next_id = AtomicU64::new(1);
        Self { origin, uri, template, limits, health, next_id, farewells }
    }

    /// The headers that every request carries.
    pub(crate) fn template(&self) -> &HeaderMap {
        &self.template
    }

    /// Where its messages are posted.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The same upstream under another URL of its origin.
    pub(crate) fn at(&self, uri: Uri) -> Self {
        Self {
            origin: Arc::clone(&self.origin),
            uri,
            template: self.template.clone(),
            limits: self.limits,
            health: Arc::clone(&self.health),
            next_id: AtomicU64::new(1),
            farewells: self.farewells.clone(),
        }
    }

    /// An id that no other request of ours has.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Headers of a modern request (MCP 2026-07-28, transports, mirroring).
    pub(crate) fn modern_headers(&self, method: &str, name: Option<&str>) -> HeaderMap {
        let mut headers = self.template.clone();
        headers.insert(VERSION, HeaderValue::from_static(era::MODERN));
        mirror_into(&mut headers, METHOD, method);
        if let Some(name) = name {
            mirror_into(&mut headers, NAME, name);
        }
        headers
    }

    /// Posts one message and waits for the head of the answer.
    pub(crate) async fn post(
        &self,
        headers: HeaderMap,
        body: impl Into<Pieces>,
        bounds: &Bounds,
    ) -> Result<Response<OriginBody>, CallFailure> {
        self.send(Method::POST, headers, body.into(), bounds).await
    }

    /// Asks for the stream that belongs to no call, after the event `last` if there was one.
    pub(crate) async fn listen(
        &self,
        mut headers: HeaderMap,
        last: Option<&[u8]>,
        bounds: &Bounds,
    ) -> Result<Response<OriginBody>, CallFailure> {
        headers.remove(header::CONTENT_TYPE);
        headers.insert(header::ACCEPT, STREAM);
        if let Some(last) = last.and_then(|last| HeaderValue::from_bytes(last).ok()) {
            headers.insert(LAST_EVENT_ID, last);
        }
        self.send(Method::GET, headers, Pieces::default(), bounds).await
    }

    /// Opens the stream that goes on after the event `last`.
    pub(crate) async fn resume(
        &self,
        mut headers: HeaderMap,
        last: &[u8],
        bounds: &Bounds,
    ) -> Result<OriginBody, CallFailure> {
        headers.remove(header::CONTENT_TYPE);
        headers.insert(header::ACCEPT, STREAM);
        let last = HeaderValue::from_bytes(last).map_err(|_| {
            CallFailure::NotJsonRpc("an event id that no header can hold".to_owned())
        })?;
        headers.insert(LAST_EVENT_ID, last);
        let response = self.send(Method::GET, headers, Pieces::default(), bounds).await?;
        if response.status() != StatusCode::OK {
            return Err(CallFailure::NoResponse);
        }
        Ok(response.into_body())
    }

    /// Sends one message and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Pieces,
        bounds: &Bounds,
    ) -> Result<Response<OriginBody>, CallFailure> {
        let sent = self.origin.send((method, &self.uri), headers, body);
        bounds.within(sent).await?.map_err(|error| match error {
            SendError::Unreachable(cause) => CallFailure::Unreachable(cause),
            SendError::Broken(why) => CallFailure::Broken(why),
        })
    }

    /// Sends a request of our own and waits for its response.
    pub(crate) async fn ask(
        &self,
        speech: impl Into<Speech>,
        headers: HeaderMap,
        (method, members): (&str, &str),
        bounds: &Bounds,
    ) -> Result<Asked, CallFailure> {
        let id = format!("\"lockgate-{}\"", self.next_id());
        let body = era::request(speech, &id, method, members);
        let several = Several::of(&headers);
        let response = self.post(headers, Bytes::from(body), bounds).await?;
        let (head, body) = response.into_parts();
        let message = if fetch::is_event_stream(&head.headers) {
            bounds.within(first_response(body, bounds, several)).await?
        } else {
            whole_response(head.status, body, bounds, several).await
        };
        match &message {
            Ok(message) if message.id().is_some_and(|found| found != id.as_bytes()) => {
                Err(CallFailure::WrongId)
            }
            _ => Ok(Asked { status: head.status, headers: head.headers, message }),
        }
    }

    /// Sends, in the background, what needs no answer; at most for a few seconds.
    pub(crate) fn say(self: &Arc<Self>, method: Method, headers: HeaderMap, body: Bytes) {
        // Outside of a runtime the process is about to end anyway.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let endpoint = Arc::clone(self);
        let farewell = async move {
            let bounds = Bounds::of_step(&endpoint.limits, super::FAREWELL_TIMEOUT);
            match endpoint.send(method, headers, body.into(), &bounds).await {
                // Read to the end, so that the connection can be used again.
                Ok(response) => drop(bounds.within(response.into_body().collect()).await),
                Err(failure) => tracing::debug!(%failure, "a message to an upstream was lost"),
            }
        };
        self.farewells.spawn_on(farewell, &runtime);
    }
}

/// Sets a mirror header.
pub(crate) fn mirror_into(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Encoded values are always valid.
    if let Ok(value) = HeaderValue::from_str(&mirror::encode(value)) {
        headers.insert(name, value);
    }
}

/// Whether several messages may come in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Several {
    Never,
    /// As in sessions of 2025-03-26.
    MayBe,
}

impl Several {
    /// As the headers of a session tell.
    fn of(headers: &HeaderMap) -> Self {
        let version = Version::V2025_03_26.as_str();
        let has_batches = headers.get(VERSION).is_some_and(|named| named == version);
        if has_batches { Self::MayBe } else { Self::Never }
    }

    /// The response in what came; what else is in it does not matter for our own requests.
    fn response(self, body: Bytes) -> Result<Option<Message>, CallFailure> {
        let is_response = |message: &Message| matches!(message.kind, Kind::Response(_));
        if self == Self::MayBe && is_batch(&body) {
            return Ok(batch::messages(&body)?.pop_back().filter(is_response));
        }
        let message = parse(body);
        let message = message.map_err(|error| CallFailure::NotJsonRpc(error.to_string()))?;
        Ok(Some(message).filter(is_response))
    }
}

async fn whole_response(
    status: StatusCode,
    body: OriginBody,
    bounds: &Bounds,
    several: Several,
) -> Result<Message, CallFailure> {
    let body = if status.is_success() {
        fetch::read_all(body, bounds).await?
    } else {
        fetch::read_refusal(body, bounds).await
    };
    let excerpt = || fetch::excerpt(&body);
    match several.response(body.clone()) {
        Ok(Some(message)) => Ok(message),
        _ if status.is_success() => Err(CallFailure::NotJsonRpc(excerpt())),
        _ => Err(CallFailure::HttpStatus { status: status.as_u16(), excerpt: excerpt() }),
    }
}

/// The response in a stream; what else is in it does not matter for our own requests.
async fn first_response(
    body: OriginBody,
    bounds: &Bounds,
    several: Several,
) -> Result<Message, CallFailure> {
    let mut events = EventReader::new(body, bounds.message_max);
    while let Some(event) = events.next_within(bounds).await? {
        if !event.is_message() {
            continue;
        }
        if let Some(message) = several.response(event.data)? {
            return Ok(message);
        }
    }
    Err(CallFailure::NoResponse)
}
