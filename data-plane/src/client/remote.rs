//! The HTTP side of a bridge: requests, streams, and tries that do no harm.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

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

use super::{
    ClientError,
    carry::{Carrier, Step, is_response_to},
    end::{ClientEnd, heard},
    repeat::Repeat,
    session::Session,
    wishes::Wishes,
};
use crate::{
    egress::{Egress, HttpClient, Provenance},
    mcp::{Message, message::parse, mirror::MirrorParam},
    upstream::{Bounds, CallFailure, Limits, fetch, is_of_call, is_session_lost},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

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
    pub(super) session: ArcSwapOption<Session>,
    /// Held while a session begins in the place of another.
    pub(super) renewing: tokio::sync::Mutex<()>,
    /// What a session that begins in the place of another is told.
    pub(super) wishes: Mutex<Wishes>,
    /// Parameters of tools that travel in headers too, learned when a server asks for them.
    pub(super) mirrored: Mutex<AHashMap<String, Arc<[MirrorParam]>>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Remote").field("uri", &self.uri).finish_non_exhaustive()
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
            wishes: Mutex::default(),
            mirrored: Mutex::default(),
        })
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    /// Sends a notification or a response; whatever comes back is nothing for the client.
    pub(super) async fn tell(&self, message: Bytes) -> Result<(), CallFailure> {
        let bounds = Bounds::of_step(&self.limits, STEP);
        let request = (self.session_headers(), message);
        let response = self.post(request, Repeat::IfBroken, &bounds).await?;
        accepted(response.status())
    }

    fn session_headers(&self) -> HeaderMap {
        self.session().map_or_else(|| self.template.clone(), |session| session.headers.clone())
    }

    /// Sends a request and carries to the client what comes before the answer; gives the answer,
    /// `None` if the session is lost.
    pub(super) async fn exchange(
        &self,
        message: &Message,
        session: Option<&Arc<Session>>,
        client: &ClientEnd,
    ) -> Result<Option<Bytes>, CallFailure> {
        let bounds = Bounds::of_call(&self.limits);
        for is_last in [false, true] {
            let headers = self.headers(message, session.map(AsRef::as_ref));
            let request = (headers, message.body().clone());
            let response = self.post(request, Repeat::IfUnsent, &bounds).await?;
            let carrier = Carrier { remote: self, message, session, client, bounds: &bounds };
            match carrier.carry(response).await? {
                Step::SessionLost => return Ok(None),
                Step::WantsHeaders(_) if !is_last && self.learn(message).await => {}
                Step::WantsHeaders(answer) | Step::Answered(answer) => return Ok(Some(answer)),
            }
        }
        Err(CallFailure::NoResponse)
    }

    /// Opens an event stream of a session; `None` if the server has none to give.
    pub(super) async fn open(
        &self,
        session: &Session,
        last: Option<&[u8]>,
        bounds: &Bounds,
    ) -> Result<Option<Incoming>, CallFailure> {
        let response = self.listen_at(session.headers.clone(), last, bounds).await?;
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

    /// Asks for an event stream, for the rest of one if there is a `last` event.
    pub(super) async fn listen_at(
        &self,
        mut headers: HeaderMap,
        last: Option<&[u8]>,
        bounds: &Bounds,
    ) -> Result<Response<Incoming>, CallFailure> {
        headers.remove(header::CONTENT_TYPE);
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = last.and_then(|last| HeaderValue::from_bytes(last).ok()) {
            headers.insert(LAST_EVENT_ID, last);
        }
        self.send(Verb::GET, &self.uri, (headers, Bytes::new()), bounds).await
    }

    /// Posts headers and body; tries again for a while as far as `repeat` allows it.
    pub(super) async fn post(
        &self,
        request: (HeaderMap, Bytes),
        repeat: Repeat,
        bounds: &Bounds,
    ) -> Result<Response<Incoming>, CallFailure> {
        self.post_at(&self.uri, request, repeat, bounds).await
    }

    /// The same to another URL of the server.
    pub(super) async fn post_at(
        &self,
        uri: &Uri,
        request: (HeaderMap, Bytes),
        repeat: Repeat,
        bounds: &Bounds,
    ) -> Result<Response<Incoming>, CallFailure> {
        repeat.until_sent(|| self.send(Verb::POST, uri, request.clone(), bounds)).await
    }

    pub(super) async fn send(
        &self,
        verb: Verb,
        uri: &Uri,
        (headers, body): (HeaderMap, Bytes),
        bounds: &Bounds,
    ) -> Result<Response<Incoming>, CallFailure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = verb;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        fetch::send(&self.client, request, bounds).await
    }
}

/// The messages of an answer that is no stream, to a request; `None` if the session is lost.
pub(super) async fn whole(
    request: &Message,
    (status, body): (StatusCode, Incoming),
    session: Option<&Arc<Session>>,
    bounds: &Bounds,
) -> Result<Option<VecDeque<Message>>, CallFailure> {
    if matches!(status.as_u16(), 401 | 403) {
        return Err(CallFailure::Auth { status: status.as_u16() });
    }
    let body = if status.is_success() {
        fetch::read_all(body, bounds).await?
    } else {
        fetch::read_refusal(body, bounds).await
    };
    let has_session = session.is_some_and(|session| session.has_id());
    let is_of_call = || is_of_call(status, &body, &request.id_bytes());
    if has_session && is_session_lost(status, &body) && !is_of_call() {
        return Ok(None);
    }
    if !status.is_success() {
        // What refuses a request may have an id of its own, which means nothing to the client.
        let answer = parse(body.clone()).ok().filter(|answer| is_response_to(request, answer));
        let excerpt = || fetch::excerpt(&body);
        return answer.map(|answer| Some(VecDeque::from([answer]))).ok_or_else(|| {
            CallFailure::HttpStatus { status: status.as_u16(), excerpt: excerpt() }
        });
    }
    if body.is_empty() {
        return Err(CallFailure::NoResponse);
    }
    match heard(&body) {
        (messages, Some(_)) if messages.is_empty() => {
            Err(CallFailure::NotJsonRpc(fetch::excerpt(&body)))
        }
        (messages, _) => Ok(Some(messages)),
    }
}

fn accepted(status: StatusCode) -> Result<(), CallFailure> {
    if status.is_success() {
        return Ok(());
    }
    Err(CallFailure::HttpStatus { status: status.as_u16(), excerpt: "not accepted".to_owned() })
}
