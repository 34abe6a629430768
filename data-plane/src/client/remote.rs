//! The HTTP side of a bridge: sessions, streams that are resumed, and tries that do no harm.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use ahash::AHashMap;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method as Verb, Request, Response, StatusCode, Uri, header,
};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use proto::Secret;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    ClientError,
    bridge::say,
    carry::{Carrier, Step, carry_all, response_to},
};
use crate::{
    egress::{Egress, HttpClient, Provenance},
    mcp::{Kind, Message, message::parse, mirror::MirrorParam},
    upstream::{
        Bounds, CallFailure, INITIALIZED, Limits, error_of, fetch, result_of, sse::Decoder,
    },
};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How long a server that cannot be reached is tried again during a request.
pub(super) const RECONNECT_FOR: Duration = Duration::from_secs(30);
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(250);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// How long a step of our own may take: the handshake, a goodbye.
pub(super) const STEP: Duration = Duration::from_secs(30);
/// A server that sends neither messages nor comments for so long is gone.
const SILENCE: Duration = Duration::from_mins(10);

/// A server behind a URL.
pub(super) struct Remote {
    pub(super) client: HttpClient,
    pub(super) uri: Uri,
    pub(super) template: HeaderMap,
    pub(super) limits: Limits,
    session: ArcSwapOption<Session>,
    /// Held while a session begins in the place of another.
    renewing: tokio::sync::Mutex<()>,
    /// Parameters of tools that travel in headers too, learned when a server asks for them.
    pub(super) mirrored: Mutex<AHashMap<String, Arc<[MirrorParam]>>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Remote").field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// A session at the server.
pub(super) struct Session {
    /// The template with the session's id and version.
    pub(super) headers: HeaderMap,
    /// The client's own `initialize`, to begin anew with.
    hello: Message,
    is_confirmed: AtomicBool,
    is_listening: AtomicBool,
    over: CancellationToken,
    _guard: DropGuard,
}

/// What came of a request or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Answered,
    /// The server does not know the session.
    SessionLost,
}

impl Session {
    /// The client has said `initialized`.
    pub(super) fn confirm(&self) {
        self.is_confirmed.store(true, Relaxed);
    }

    /// True for the first caller: there is one stream per session.
    pub(super) fn listen_once(&self) -> bool {
        !self.is_listening.swap(true, Relaxed)
    }

    /// Fires when another session took its place, or the bridge ends.
    pub(super) fn over(&self) -> CancellationToken {
        self.over.clone()
    }

    pub(super) fn has_id(&self) -> bool {
        self.headers.contains_key(SESSION_ID)
    }
}

impl Remote {
    pub(super) fn new(
        url: &str,
        authorization: Option<&Secret<String>>,
    ) -> Result<Self, ClientError> {
        let uri: Uri = url.parse().map_err(|_| ClientError::BadUrl(url.to_owned()))?;
        if uri.host().is_none() {
            return Err(ClientError::BadUrl(url.to_owned()));
        }
        let mut template = HeaderMap::new();
        if let Some(authorization) = authorization {
            let value = HeaderValue::from_str(authorization.expose());
            let mut value = value.map_err(|_| ClientError::BadToken)?;
            value.set_sensitive(true);
            template.insert(header::AUTHORIZATION, value);
        }
        let both = HeaderValue::from_static("application/json, text/event-stream");
        template.insert(header::ACCEPT, both);
        template.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        template.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        template.insert(header::USER_AGENT, fetch::USER_AGENT);
        let limits = Limits {
            call_timeout: SILENCE,
            max_call_duration: Duration::from_hours(24),
            ..Limits::default()
        };
        Ok(Self {
            client: Egress::new().client(Provenance::Registered),
            uri,
            template,
            limits,
            session: ArcSwapOption::empty(),
            renewing: tokio::sync::Mutex::default(),
            mirrored: Mutex::default(),
        })
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    /// Runs the client's handshake; its answer, whatever it says.
    pub(super) async fn initialize(&self, hello: &Message) -> Result<Message, CallFailure> {
        let bounds = Bounds::of_step(&self.limits, STEP + RECONNECT_FOR);
        let response = self.post(self.template.clone(), hello.body.clone(), &bounds).await?;
        let id = response.headers().get(SESSION_ID).cloned();
        let answer = response_to(hello, response, &bounds).await?;
        if let Some(version) = result_of(&answer).and_then(negotiated) {
            let mut headers = self.template.clone();
            if let Some(mut id) = id {
                id.set_sensitive(true);
                headers.insert(SESSION_ID, id);
            }
            headers.insert(VERSION, version);
            let over = CancellationToken::new();
            let session = Session {
                headers,
                hello: hello.clone(),
                is_confirmed: AtomicBool::new(false),
                is_listening: AtomicBool::new(false),
                over: over.clone(),
                _guard: over.drop_guard(),
            };
            if let Some(old) = self.session.swap(Some(Arc::new(session))) {
                old.over.cancel();
            }
        }
        Ok(answer)
    }

    /// Begins a session like the lost one; callers that come meanwhile share it.
    pub(super) async fn renew(&self, lost: &Arc<Session>) -> Result<Arc<Session>, CallFailure> {
        let _renewing = self.renewing.lock().await;
        if let Some(session) = self.session().filter(|session| !Arc::ptr_eq(session, lost)) {
            return Ok(session);
        }
        tracing::info!("the server has forgotten the session: initializing again");
        let answer = self.initialize(&lost.hello).await?;
        if let Some(error) = error_of(&answer) {
            let text = format!("error {}: {}", error.code, error.message);
            return Err(CallFailure::Initialize(text));
        }
        let session = self.session().ok_or(CallFailure::SessionLost)?;
        if lost.is_confirmed.load(Relaxed) {
            session.confirm();
            let bounds = Bounds::of_step(&self.limits, STEP);
            let body = Bytes::from_static(INITIALIZED.as_bytes());
            self.post(session.headers.clone(), body, &bounds).await?;
        }
        Ok(session)
    }

    /// Sends a notification.
    pub(super) async fn send(&self, message: &Message) -> Result<(), CallFailure> {
        let session = self.session();
        let bounds = Bounds::of_step(&self.limits, STEP);
        let headers = session.map_or_else(|| self.template.clone(), |it| it.headers.clone());
        let response = self.post(headers, message.body.clone(), &bounds).await?;
        accepted(response.status())
    }

    /// Sends what the client wrote as it is, and carries whatever comes back.
    pub(super) async fn pass(
        &self,
        line: Bytes,
        out: &mpsc::Sender<Bytes>,
    ) -> Result<(), CallFailure> {
        let session = self.session();
        let bounds = Bounds::of_call(&self.limits);
        let headers = session.map_or_else(|| self.template.clone(), |it| it.headers.clone());
        let response = self.post(headers, line, &bounds).await?;
        let (head, body) = response.into_parts();
        if fetch::media_type(&head.headers) == "text/event-stream" {
            let mut decoder = Decoder::new(bounds.message_max);
            return carry_all(body, &mut decoder, out, &bounds).await.map(drop);
        }
        let body = fetch::read_all(body, &bounds).await?;
        if !body.is_empty() {
            say(out, body).await;
        }
        accepted(head.status)
    }

    /// Sends a request and carries its answers to the client.
    pub(super) async fn exchange(
        &self,
        message: &Message,
        session: Option<&Arc<Session>>,
        out: &mpsc::Sender<Bytes>,
    ) -> Result<Ended, CallFailure> {
        let bounds = Bounds::of_call(&self.limits);
        for is_last in [false, true] {
            let headers = self.headers(message, session.map(AsRef::as_ref));
            let response = self.post(headers, message.body.clone(), &bounds).await?;
            let carrier = Carrier { remote: self, message, session, out, bounds: &bounds };
            match carrier.carry(response).await? {
                Step::Ended(ended) => return Ok(ended),
                Step::WantsHeaders(_) if !is_last && self.learn(message).await? => {}
                Step::WantsHeaders(answer) => {
                    say(out, answer.body).await;
                    return Ok(Ended::Answered);
                }
            }
        }
        Ok(Ended::Answered)
    }

    /// Opens an event stream; `None` if the server has none to give.
    pub(super) async fn open(
        &self,
        session: &Session,
        last: Option<&[u8]>,
        bounds: &Bounds,
    ) -> Result<Option<Incoming>, CallFailure> {
        let mut headers = session.headers.clone();
        headers.remove(header::CONTENT_TYPE);
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = last.and_then(|last| HeaderValue::from_bytes(last).ok()) {
            headers.insert(LAST_EVENT_ID, last);
        }
        let response = self.send_request(Verb::GET, headers, Bytes::new(), bounds).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(response.into_body())),
            StatusCode::NOT_FOUND => Err(CallFailure::SessionLost),
            StatusCode::METHOD_NOT_ALLOWED => Ok(None),
            status => Err(CallFailure::HttpStatus {
                status: status.as_u16(),
                excerpt: "no event stream".to_owned(),
            }),
        }
    }

    /// Says goodbye to the server.
    pub(super) async fn end(&self) {
        let Some(session) = self.session.swap(None) else { return };
        session.over.cancel();
        if session.has_id() {
            let bounds = Bounds::of_step(&self.limits, Duration::from_secs(2));
            let headers = session.headers.clone();
            // Whether the server takes it or not, we go.
            self.send_request(Verb::DELETE, headers, Bytes::new(), &bounds).await.ok();
        }
    }

    /// Posts; tries again while nothing was sent because nobody is there.
    pub(super) async fn post(
        &self,
        headers: HeaderMap,
        body: Bytes,
        bounds: &Bounds,
    ) -> Result<Response<Incoming>, CallFailure> {
        let end = tokio::time::Instant::now() + RECONNECT_FOR;
        let mut wait = BACKOFF_MIN;
        loop {
            let sent = self.send_request(Verb::POST, headers.clone(), body.clone(), bounds).await;
            match sent {
                Err(failure @ CallFailure::Unreachable(_)) => {
                    if tokio::time::Instant::now() + wait > end {
                        return Err(failure);
                    }
                    tracing::info!(%failure, "trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(BACKOFF_MAX);
                }
                other => return other,
            }
        }
    }

    async fn send_request(
        &self,
        verb: Verb,
        headers: HeaderMap,
        body: Bytes,
        bounds: &Bounds,
    ) -> Result<Response<Incoming>, CallFailure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = verb;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        fetch::send(&self.client, request, bounds).await
    }
}

/// An answer that is no stream; `None` if the session is lost.
pub(super) async fn whole(
    status: StatusCode,
    body: Incoming,
    session: Option<&Arc<Session>>,
    bounds: &Bounds,
) -> Result<Option<Message>, CallFailure> {
    if matches!(status.as_u16(), 401 | 403) {
        return Err(CallFailure::Auth { status: status.as_u16() });
    }
    let body = if status.is_success() {
        fetch::read_all(body, bounds).await?
    } else {
        fetch::read_refusal(body, bounds).await
    };
    let is_lost = match status {
        StatusCode::NOT_FOUND => true,
        StatusCode::BAD_REQUEST => {
            String::from_utf8_lossy(&body).to_ascii_lowercase().contains("session")
        }
        _ => false,
    };
    if is_lost && session.is_some_and(|session| session.has_id()) {
        return Ok(None);
    }
    match parse(body.clone()) {
        Ok(message) if matches!(message.kind, Kind::Response(_)) && message.id().is_some() => {
            Ok(Some(message))
        }
        _ if status.is_success() && body.is_empty() => Err(CallFailure::NoResponse),
        _ if status.is_success() => Err(CallFailure::NotJsonRpc(fetch::excerpt(&body))),
        _ => {
            Err(CallFailure::HttpStatus { status: status.as_u16(), excerpt: fetch::excerpt(&body) })
        }
    }
}

fn accepted(status: StatusCode) -> Result<(), CallFailure> {
    if status.is_success() {
        return Ok(());
    }
    Err(CallFailure::HttpStatus { status: status.as_u16(), excerpt: "not accepted".to_owned() })
}

/// The version in the result of `initialize`.
fn negotiated(result: &str) -> Option<HeaderValue> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Result {
        protocol_version: String,
    }
    let result: Result = serde_json::from_str(result).ok()?;
    HeaderValue::from_str(&result.protocol_version).ok()
}
