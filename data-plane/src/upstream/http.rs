//! MCP over Streamable HTTP: requests built from scratch, in the upstream's own era.

mod aside;
mod conversation;
mod endpoint;
mod listening;
mod owner;
mod probe;
mod repair;
mod session;
mod whole;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, Response};
use proto::Era;
use tokio::runtime::Handle;

use self::{
    conversation::Cancel,
    endpoint::mirror_into,
    whole::{Whole, read_whole},
};
pub(crate) use self::{
    conversation::HttpConversation,
    endpoint::Endpoint,
    session::Session,
    whole::{is_of_call, is_session_lost},
};
use super::{
    Call, Event, SessionKey,
    era::Handshake,
    failure::CallFailure,
    fetch::{self, Bounds},
    relay::Relay,
    sessions::Sessions,
    shared::Slot,
};
use crate::egress::OriginBody;
use crate::mcp::{Message, Pieces, code};

/// How long a goodbye may take: DELETE, cancellations, answers to upstream requests.
pub(crate) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// One upstream behind a URL.
#[derive(Debug)]
pub(crate) struct HttpUpstream {
    endpoint: Arc<Endpoint>,
    spoken: Slot<Handshake>,
    sessions: Sessions<Session>,
    /// It speaks the modern era, and opened no session for a legacy client.
    is_modern_only: AtomicBool,
    wanted: repair::Wanted,
}

/// What a call got.
pub(crate) enum Answer {
    Whole(Pieces),
    /// The upstream wants input that its client has to be asked for, or answers with an error that
    /// may mean so.
    Input(Box<Message>),
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
        let is_modern_only = AtomicBool::new(false);
        let (sessions, wanted) = (Sessions::default(), repair::Wanted::default());
        Self { endpoint, spoken, sessions, is_modern_only, wanted }
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
    async fn spoken(&self, bounds: Bounds) -> Result<Arc<Handshake>, CallFailure> {
        if let Some(known) = self.spoken.filled() {
            return Ok(known);
        }
        let endpoint = Arc::clone(&self.endpoint);
        let probe = || async move { probe::probe(&endpoint).await.map(Arc::new) };
        // Boxed, as all that few calls need: each call holds as much as its largest step.
        Box::pin(bounds.within(self.spoken.get(Handle::current, probe))).await?
    }

    /// Finds out anew what the upstream speaks.
    pub(crate) async fn probe(&self) -> Result<Handshake, CallFailure> {
        let spoken = probe::probe(&self.endpoint).await?;
        self.spoken.put(Arc::new(spoken.clone()));
        self.is_modern_only.store(false, Relaxed);
        Ok(spoken)
    }

    /// Sends a call; once more in the other era if the upstream changed it.
    pub(crate) async fn call(&self, call: &Call, bounds: Bounds) -> Result<Answer, CallFailure> {
        let spoken = self.spoken(bounds).await?;
        let contradiction = match self.attempt(&spoken, call, bounds).await {
            Ok(Attempt::Answered(answer)) => return Ok(answer),
            Ok(Attempt::OtherEra(answer)) => Ok(answer),
            Ok(Attempt::SessionLost) => return Err(CallFailure::SessionLost),
            Err(failure @ (CallFailure::Initialize(_) | CallFailure::Incompatible(_))) => {
                Err(failure)
            }
            Err(failure) if repair::is_mismatch(&failure) && spoken.era == Era::Modern => {
                return Box::pin(self.repair(call, bounds, &spoken, failure)).await;
            }
            Err(failure) => return Err(failure),
        };
        Box::pin(self.call_again(call, bounds, &spoken, contradiction)).await
    }

    /// Sends a call in another era than `spoken`, if that is what the upstream speaks now.
    async fn call_again(
        &self,
        call: &Call,
        bounds: Bounds,
        spoken: &Arc<Handshake>,
        contradiction: Result<Answer, CallFailure>,
    ) -> Result<Answer, CallFailure> {
        self.spoken.forget(spoken);
        let again = self.spoken(bounds).await?;
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

    /// Sends a call; in a new session if the upstream lost the old one.
    async fn attempt(
        &self,
        spoken: &Handshake,
        call: &Call,
        bounds: Bounds,
    ) -> Result<Attempt, CallFailure> {
        let mut is_again = false;
        loop {
            let session = self.session_for(spoken, call, bounds).await?;
            let attempt = self.exchange(call, spoken, session.as_ref(), &bounds).await?;
            let (Attempt::SessionLost, Some(session)) = (&attempt, &session) else {
                return Ok(attempt);
            };
            session.lose();
            self.sessions.forget(&call.session, session);
            if is_again {
                return Ok(attempt);
            }
            is_again = true;
        }
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
        spoken: &Handshake,
        session: Option<&Arc<Session>>,
        bounds: &Bounds,
    ) -> Result<Attempt, CallFailure> {
        let (upstream, headers) = match session {
            Some(session) => (&session.handshake, session.headers.clone()),
            None => (spoken, self.modern_headers(call)),
        };
        let is_own = match (session, &call.session, call.client_era) {
            // Each round is a request of its own, with an id of its own.
            (None, _, _) => call.round == 0,
            // The session is this client's alone, and so are its ids and tokens.
            (Some(_), SessionKey::Client(_), Era::Legacy) => true,
            (Some(_), SessionKey::Client(_) | SessionKey::Principal { .. }, _) => false,
        };
        let relay = if is_own {
            Relay::verbatim(call)
        } else {
            let id = self.endpoint.next_id();
            // The first round had the client's own id.
            let is_used = call.round > 0 && id.to_string().as_bytes() == call.id();
            Relay::remapped(call, if is_used { self.endpoint.next_id() } else { id })
        };
        let body = relay.request(call, upstream);
        let mut cancel = Cancel::new(session.cloned(), relay.upstream_id().clone());
        let posted = if session.is_some() && call.may_be_asked_aside() {
            cancel.enlist();
            Box::pin(cancel.head(self.post(call, headers, body, bounds))).await
        } else {
            self.post(call, headers, body, bounds).await
        };
        let response = posted.inspect_err(|failure| cancel.failed(failure))?;
        let is_stream = fetch::is_event_stream(response.headers());
        if response.status().is_success() && is_stream {
            let endpoint = Arc::clone(&self.endpoint);
            let body = response.into_body();
            let stream = HttpConversation::new(endpoint, body, relay, *bounds, cancel);
            return begun((upstream.era, call), Box::new(stream)).await;
        }
        cancel.unlist();
        let by = (&relay, self.endpoint.health.name());
        let whole = read_whole(response, by, cancel.session(), bounds).await;
        match whole.inspect_err(|failure| cancel.failed(failure))? {
            Some(Whole::One(answer, code)) => {
                cancel.done();
                Ok(of_era((upstream.era, call), code, answer))
            }
            Some(Whole::Several(messages)) => {
                let endpoint = Arc::clone(&self.endpoint);
                let several =
                    HttpConversation::of_several(endpoint, messages, relay, *bounds, cancel);
                begun((upstream.era, call), Box::new(several)).await
            }
            None => {
                cancel.done();
                Ok(Attempt::SessionLost)
            }
        }
    }

    /// Posts; once more if the connection broke and the tool may run twice.
    async fn post(
        &self,
        call: &Call,
        mut headers: HeaderMap,
        mut body: Pieces,
        bounds: &Bounds,
    ) -> Result<Response<OriginBody>, CallFailure> {
        let mut is_last = !call.is_repeatable();
        loop {
            let (headers, body) = if is_last {
                (std::mem::take(&mut headers), std::mem::take(&mut body))
            } else {
                (headers.clone(), body.clone())
            };
            match self.endpoint.post(headers, body, bounds).await {
                Err(CallFailure::Broken(_)) if !is_last => is_last = true,
                posted => return posted,
            }
        }
    }
}

/// The answer that begins with the first message of a stream.
async fn begun(
    by: (Era, &Call),
    mut stream: Box<HttpConversation>,
) -> Result<Attempt, CallFailure> {
    let (event, code) = Box::pin(stream.next()).await?;
    let answer = match event {
        Event::Response(body) => Answer::Whole(body),
        Event::InputRequired(message) => Answer::Input(message),
        Event::Notification(_) | Event::Request(_) | Event::Withdrawn(_) => {
            Answer::Stream(event, stream)
        }
    };
    Ok(of_era(by, code, answer))
}

/// Whether an answer speaks against the era it was asked in.
fn of_era((era, call): (Era, &Call), code: Option<i64>, answer: Answer) -> Attempt {
    let is_other = match (era, code) {
        (_, Some(code::UNSUPPORTED_VERSION)) => true,
        // Methods of extensions may be missing in any era.
        (Era::Modern, Some(code::METHOD_NOT_FOUND)) => !call.target.is_extension(),
        (Era::Modern | Era::Legacy, _) => false,
    };
    if is_other { Attempt::OtherEra(answer) } else { Attempt::Answered(answer) }
}

#[cfg(test)]
mod tests;
