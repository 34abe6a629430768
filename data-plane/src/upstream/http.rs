//! MCP over Streamable HTTP: requests built from scratch, in the upstream's own era.

mod conversation;
mod endpoint;
mod listening;
mod probe;
mod session;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode};
use hyper::body::Incoming;
use proto::Era;
use tokio::runtime::Handle;

use self::{conversation::Cancel, endpoint::mirror_into};
pub(crate) use self::{conversation::HttpConversation, endpoint::Endpoint, session::Session};
use super::{
    Call, Event, SessionKey,
    era::Handshake,
    failure::CallFailure,
    fetch::{self, Bounds},
    relay::{Relay, Taken},
    sessions::Sessions,
    shared::Slot,
};
use crate::mcp::{code, message::parse};

/// How long a goodbye may take: DELETE, cancellations, answers to upstream requests.
pub(crate) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// One upstream behind a URL.
#[derive(Debug)]
pub(crate) struct HttpUpstream {
    endpoint: Arc<Endpoint>,
    spoken: Slot<Handshake>,
    sessions: Sessions<Session>,
}

/// What a call got.
pub(crate) enum Answer {
    Whole(Bytes),
    /// Notifications follow each other; the first is here already.
    Stream(Event, Box<HttpConversation>),
}

/// What came of sending a call once.
enum Attempt {
    Answered(Answer),
    /// An error that only the other era gives.
    OtherEra(Answer),
    /// The upstream does not know our session.
    SessionLost,
}

impl HttpUpstream {
    /// `era` is what the configuration remembers of it.
    pub(crate) fn new(endpoint: Arc<Endpoint>, era: Option<(Era, &str)>) -> Self {
        let spoken = Slot::default();
        if let Some((era, version)) = era {
            spoken.put(Arc::new(Handshake::remembered(era, version)));
        }
        Self { endpoint, spoken, sessions: Sessions::default() }
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub(crate) fn sessions(&self) -> &Sessions<Session> {
        &self.sessions
    }

    /// Believes what the configuration says, if nothing is known yet.
    pub(crate) fn adopt(&self, era: Era, version: &str) {
        if self.spoken.peek().is_none() {
            self.spoken.put(Arc::new(Handshake::remembered(era, version)));
        }
    }

    /// What the upstream speaks; probed when nobody knows.
    async fn spoken(&self) -> Result<Arc<Handshake>, CallFailure> {
        let endpoint = Arc::clone(&self.endpoint);
        let probe = || async move { probe::probe(&endpoint).await.map(Arc::new) };
        self.spoken.get(Handle::current, probe).await
    }

    /// Finds out anew what the upstream speaks.
    pub(crate) async fn probe(&self) -> Result<Handshake, CallFailure> {
        let spoken = probe::probe(&self.endpoint).await?;
        self.spoken.put(Arc::new(spoken.clone()));
        Ok(spoken)
    }

    /// Sends a call; once more in the other era if the upstream changed it.
    pub(crate) async fn call(&self, call: &Call, bounds: Bounds) -> Result<Answer, CallFailure> {
        let spoken = bounds.within(self.spoken()).await??;
        let contradiction = match self.attempt(&spoken, call, bounds).await {
            Ok(Attempt::Answered(answer)) => return Ok(answer),
            Ok(Attempt::OtherEra(answer)) => Ok(answer),
            Ok(Attempt::SessionLost) => return Err(CallFailure::SessionLost),
            Err(failure @ (CallFailure::Initialize(_) | CallFailure::Incompatible(_))) => {
                Err(failure)
            }
            Err(failure) => return Err(failure),
        };
        self.spoken.forget(&spoken);
        let again = bounds.within(self.spoken()).await??;
        if again.era == spoken.era {
            return contradiction;
        }
        let (asked, era) = (call.target.label(), again.era.as_str());
        tracing::info!(asked, era, "an upstream changed its era");
        match self.attempt(&again, call, bounds).await? {
            Attempt::Answered(answer) | Attempt::OtherEra(answer) => Ok(answer),
            Attempt::SessionLost => Err(CallFailure::SessionLost),
        }
    }

    async fn attempt(
        &self,
        spoken: &Handshake,
        call: &Call,
        bounds: Bounds,
    ) -> Result<Attempt, CallFailure> {
        match spoken.era {
            Era::Modern => {
                let relay = Relay::verbatim(call);
                let headers = self.modern_headers(call);
                self.exchange(call, (relay, spoken, headers), None, bounds).await
            }
            Era::Legacy => match self.legacy(call, bounds).await? {
                Attempt::SessionLost => self.legacy(call, bounds).await,
                attempt => Ok(attempt),
            },
        }
    }

    async fn legacy(&self, call: &Call, bounds: Bounds) -> Result<Attempt, CallFailure> {
        let (endpoint, capabilities) = (Arc::clone(&self.endpoint), call.declared());
        let key = call.session.clone();
        let open = || async move {
            let session = Arc::new(Session::open(endpoint, capabilities).await?);
            session.listen(key);
            Ok(session)
        };
        let session = self.sessions.get(&call.session, Handle::current, open);
        let session = bounds.within(session).await??;
        if let Some(level) = call.logs.level() {
            session.want_logs(level, &call.session).await;
        }
        let relay = match (&call.session, call.client_era) {
            // The session is this client's alone, and so are its ids and tokens.
            (SessionKey::Client(_), Era::Legacy) => Relay::verbatim(call),
            (SessionKey::Client(_) | SessionKey::Principal { .. }, _) => {
                Relay::remapped(call, self.endpoint.next_id())
            }
        };
        let parts = (relay, &session.handshake, session.headers.clone());
        let attempt = self.exchange(call, parts, Some(Arc::clone(&session)), bounds).await?;
        if matches!(attempt, Attempt::SessionLost) {
            session.lose();
            self.sessions.forget(&call.session, &session);
        }
        Ok(attempt)
    }

    fn modern_headers(&self, call: &Call) -> HeaderMap {
        let mut headers = self.endpoint.modern_headers(call.method(), call.target.mirror_name());
        let arguments = call.message.params().and_then(|params| params.arguments);
        for param in call.target.mirrored() {
            let value = arguments.and_then(|span| param.value_in(call.message.text(), span));
            let name = HeaderName::from_bytes(param.header.as_bytes());
            if let (Some(value), Ok(name)) = (value, name) {
                mirror_into(&mut headers, name, &value);
            }
        }
        headers
    }

    /// One request and the beginning of its answer.
    async fn exchange(
        &self,
        call: &Call,
        (relay, upstream, headers): (Relay, &Handshake, HeaderMap),
        session: Option<Arc<Session>>,
        bounds: Bounds,
    ) -> Result<Attempt, CallFailure> {
        let body = relay.request(call, upstream);
        let mut cancel = Cancel::new(session, relay.upstream_id().clone());
        let posted = self.post(call, headers, body, &bounds).await;
        let response = posted.inspect_err(|failure| cancel.failed(failure))?;
        let is_stream = fetch::is_event_stream(response.headers());
        if response.status().is_success() && is_stream {
            let endpoint = Arc::clone(&self.endpoint);
            let body = response.into_body();
            let mut stream = HttpConversation::new(endpoint, body, relay, bounds, cancel);
            let (event, code) = stream.next().await?;
            return Ok(of_era(
                upstream.era,
                code,
                match event {
                    Event::Response(body) => Answer::Whole(body),
                    Event::Notification(_) | Event::Request(_) | Event::Withdrawn(_) => {
                        Answer::Stream(event, Box::new(stream))
                    }
                },
            ));
        }
        let whole = read_whole(response, &relay, cancel.session(), &bounds).await;
        let whole = whole.inspect_err(|failure| cancel.failed(failure))?;
        cancel.done();
        match whole {
            Some((body, code)) => Ok(of_era(upstream.era, code, Answer::Whole(body))),
            None => Ok(Attempt::SessionLost),
        }
    }

    /// Posts; once more if the connection broke and the tool may run twice.
    async fn post(
        &self,
        call: &Call,
        headers: HeaderMap,
        body: Bytes,
        bounds: &Bounds,
    ) -> Result<Response<Incoming>, CallFailure> {
        if !call.is_repeatable() {
            return self.endpoint.post(headers, body, bounds).await;
        }
        match self.endpoint.post(headers.clone(), body.clone(), bounds).await {
            Err(CallFailure::Broken(_)) => self.endpoint.post(headers, body, bounds).await,
            other => other,
        }
    }
}

/// Whether an answer speaks against the era it was asked in.
fn of_era(era: Era, code: Option<i64>, answer: Answer) -> Attempt {
    let is_other = match (era, code) {
        (_, Some(code::UNSUPPORTED_VERSION)) | (Era::Modern, Some(code::METHOD_NOT_FOUND)) => true,
        (Era::Modern | Era::Legacy, _) => false,
    };
    if is_other { Attempt::OtherEra(answer) } else { Attempt::Answered(answer) }
}

/// Reads an answer that is no stream; `None` if the session is lost.
async fn read_whole(
    response: Response<Incoming>,
    relay: &Relay,
    session: Option<&Session>,
    bounds: &Bounds,
) -> Result<Option<(Bytes, Option<i64>)>, CallFailure> {
    let status = response.status();
    let media = fetch::media_type(response.headers()).to_owned();
    if status.is_success() {
        let body = fetch::read_all(response.into_body(), bounds).await?;
        if body.is_empty() {
            return Err(CallFailure::NoResponse);
        }
        if !media.eq_ignore_ascii_case("application/json") {
            return Err(CallFailure::ContentType(media));
        }
        return take_whole(body, relay).map(Some);
    }
    let body = fetch::read_refusal(response.into_body(), bounds).await;
    let code = status.as_u16();
    if matches!(code, 401 | 403) {
        return Err(CallFailure::Auth { status: code });
    }
    if session.is_some_and(Session::has_id) && is_session_lost(status, &body) {
        return Ok(None);
    }
    // Modern upstreams answer errors with a status of its own; the body is what counts.
    take_whole(body.clone(), relay)
        .map(Some)
        .map_err(|_| CallFailure::HttpStatus { status: code, excerpt: fetch::excerpt(&body) })
}

fn take_whole(body: Bytes, relay: &Relay) -> Result<(Bytes, Option<i64>), CallFailure> {
    let message = parse(body).map_err(|error| CallFailure::NotJsonRpc(error.to_string()))?;
    match relay.take(message)? {
        Taken::Response { body, code } => Ok((body, code)),
        Taken::Notification(_)
        | Taken::Request(_)
        | Taken::Withdrawn(_)
        | Taken::CatalogChanged
        | Taken::ResourceUpdated(_)
        | Taken::Nothing => {
            Err(CallFailure::NotJsonRpc("a message that is no response".to_owned()))
        }
    }
}

/// 404, or a 400 that speaks of sessions, as server-everything answers.
pub(super) fn is_session_lost(status: StatusCode, body: &[u8]) -> bool {
    let speaks_of = |word: &str| {
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        text.contains(word) && !text.contains("\"result\"")
    };
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => true,
        StatusCode::BAD_REQUEST => speaks_of("session") || speaks_of("not initialized"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
