//! A call as it comes from the router, and what goes back.

use std::sync::Arc;

use bytes::Bytes;
use proto::Era;

use super::{
    active::Active,
    failure::{CallError, CallFailure},
    fetch::Bounds,
    followed::Followed,
    health::Health,
    http::HttpConversation,
    pipe::PipeConversation,
    question::Question,
    rounds::Rounds,
};
use crate::{
    mcp::{
        Capabilities, Declared, Kind, Message, Method, Pieces, Version, elicitation::Askers,
        extension::Hears, input, level::Wanted,
    },
    target::Target,
    tasks::Passage,
};

/// One request of a client.
#[derive(Clone, Debug)]
pub struct Call {
    pub message: Message,
    pub target: Target,
    pub client_era: Era,
    pub client_version: Version,
    /// What the client can be asked for; its upstream session declares the same.
    pub capabilities: Capabilities,
    /// All that a legacy client declares, if that is more.
    pub written: Option<Arc<str>>,
    /// What it is told of extensions.
    pub hears: Hears,
    /// Who may ask its user.
    pub askers: Askers,
    /// Which log messages it wants.
    pub logs: Wanted,
    pub session: SessionKey,
    /// Who makes it.
    pub subject: Arc<str>,
    /// How often it was made before, with less input: each time is a request of its own.
    pub round: u32,
    /// How its tasks are translated, if it may have to do with some.
    pub(crate) tasks: Option<Arc<Passage>>,
}

impl Call {
    /// The method, as the client named it.
    pub(crate) fn method(&self) -> &str {
        self.message.method().map_or("", Method::as_str)
    }

    /// Whether it may be sent again after the connection broke.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.target.is_repeatable()
    }

    /// What the upstream is told that its client can be asked for. In the modern era nobody
    /// tells of changes.
    pub(crate) fn declared(&self, upstream: Era) -> Capabilities {
        match (self.client_era, upstream) {
            (Era::Legacy, Era::Legacy) => self.capabilities,
            (Era::Modern, _) | (_, Era::Modern) => {
                let declared = self.capabilities.without(Capabilities::of(&["roots.listChanged"]));
                match &self.tasks {
                    Some(tasks) => declared.or(tasks.declared()),
                    None => declared,
                }
            }
        }
    }

    /// The same towards a session of its own, as its client wrote it.
    pub(crate) fn declared_by_session(&self) -> Declared {
        Declared { known: self.declared(Era::Legacy), written: self.written.clone() }
    }

    /// Whether its client can be asked and has no stream of its own for that.
    pub(crate) fn may_be_asked_aside(&self) -> bool {
        matches!(self.session, SessionKey::Principal { .. })
            && self.capabilities != Capabilities::NONE
            && self.target.may_want_input()
    }

    /// The request's id, raw JSON.
    pub(crate) fn id(&self) -> Bytes {
        match &self.message.kind {
            Kind::Request(request) => self.message.slice(request.id),
            Kind::Notification(_) | Kind::Response(_) => Bytes::from_static(b"null"),
        }
    }
}

/// Whose upstream session a call belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionKey {
    /// One legacy client session.
    Client([u8; 16]),
    /// All modern calls of one principal that declare the same capabilities.
    Principal { subject: Arc<str>, capabilities: u64 },
}

/// What an upstream answers, in the client's era and with the client's id.
#[derive(Debug)]
pub enum Reply {
    /// One complete JSON-RPC response.
    Response(Pieces),
    /// The same, which the client may have only once it was looked at: see [`Event`]. The gateway
    /// makes it of what it has read; what upstreams say so comes as [`Self::Events`].
    InputRequired(Box<Message>),
    /// Notifications first, the response last.
    Events(Events),
}

/// What an upstream says during a call.
#[derive(Debug)]
pub enum Event {
    Notification(Bytes),
    /// It asks for something; dropped, it is told that nobody answers.
    Request(Question),
    /// It takes back its request with this id (raw JSON).
    Withdrawn(Bytes),
    /// It wants input first (MCP 2026-07-28, MRTR), or tells of an error that may mean so. A
    /// legacy client does not understand it as it is. The last event.
    InputRequired(Box<Message>),
    /// The last event.
    Response(Pieces),
}

impl Event {
    /// The answer, if this is the last event.
    pub(crate) fn into_answer(self) -> Option<Bytes> {
        match self {
            Self::Response(body) => Some(body.into_bytes()),
            Self::InputRequired(message) => Some(message.into_body()),
            Self::Notification(_) | Self::Request(_) | Self::Withdrawn(_) => None,
        }
    }
}

/// The messages of one call. Dropping it cancels the call at the upstream.
#[derive(Debug)]
pub struct Events {
    pub(super) upstream: String,
    pub(super) health: Arc<Health>,
    pub(super) first: Option<Event>,
    /// `None` after the last event.
    pub(super) source: Option<Source>,
}

/// Where the messages come from.
#[derive(Debug)]
pub(super) enum Source {
    Plain(Conversation),
    Rounds(Box<Rounds>),
    Followed(Box<Followed>),
}

/// One exchange with an upstream.
#[derive(Debug)]
pub(super) enum Conversation {
    Http(Box<HttpConversation>),
    Pipe(Box<PipeConversation>),
}

impl Conversation {
    pub(super) async fn next(&mut self) -> Result<Event, CallFailure> {
        match self {
            Self::Http(conversation) => conversation.next().await.map(|(event, _)| event),
            Self::Pipe(conversation) => conversation.next().await,
        }
    }

    fn era(&self) -> Era {
        match self {
            Self::Http(conversation) => conversation.era(),
            Self::Pipe(conversation) => conversation.era(),
        }
    }
}

impl Source {
    async fn next(&mut self) -> Result<Event, CallFailure> {
        match self {
            Self::Plain(conversation) => conversation.next().await,
            // Boxed, so that other calls do not carry its size.
            Self::Rounds(rounds) => Box::pin(rounds.next()).await,
            Self::Followed(followed) => Box::pin(followed.next()).await,
        }
    }
}

impl Reply {
    /// An answer of the upstream that nobody has looked at.
    pub(crate) fn of(answer: Message) -> Self {
        if input::may_ask(&answer) {
            Self::InputRequired(Box::new(answer))
        } else {
            Self::Response(answer.into_body().into())
        }
    }

    /// The answer; what comes before it is for nobody.
    pub(crate) async fn into_answer(self) -> Result<Bytes, CallError> {
        let mut events = match self {
            Self::Response(body) => return Ok(body.into_bytes()),
            Self::InputRequired(message) => return Ok(message.into_body()),
            Self::Events(events) => events,
        };
        while let Some(event) = events.next().await {
            if let Some(answer) = event?.into_answer() {
                return Ok(answer);
            }
        }
        Err(CallError { upstream: events.upstream, failure: CallFailure::NoResponse })
    }

    /// The same reply; if its upstream may want input that its client has to be asked for, that
    /// happens on the way.
    pub(super) fn over_rounds(self, by: (Arc<Active>, Bounds), call: &Call) -> Self {
        let is_asked = call.client_era == Era::Legacy
            && matches!(call.session, SessionKey::Client(_))
            && call.target.may_want_input();
        match self {
            Self::Events(events) if is_asked && events.is_modern() => {
                Self::Events(events.over_rounds(by, call.clone()))
            }
            Self::Response(_) | Self::InputRequired(_) | Self::Events(_) => self,
        }
    }
}

impl Events {
    fn is_modern(&self) -> bool {
        match &self.source {
            Some(Source::Plain(conversation)) => conversation.era() == Era::Modern,
            Some(Source::Rounds(_) | Source::Followed(_)) | None => true,
        }
    }

    fn over_rounds(self, by: (Arc<Active>, Bounds), call: Call) -> Self {
        let (upstream, health) = (self.upstream.clone(), Arc::clone(&self.health));
        let (first, conversation) = self.into_parts();
        let rounds = Rounds::new(by, call, first, conversation);
        Self { upstream, health, first: None, source: Some(Source::Rounds(Box::new(rounds))) }
    }

    pub(super) fn into_parts(self) -> (Option<Event>, Option<Conversation>) {
        let conversation = match self.source {
            Some(Source::Plain(conversation)) => Some(conversation),
            // Rounds are not followed within rounds.
            Some(Source::Rounds(_) | Source::Followed(_)) | None => None,
        };
        (self.first, conversation)
    }

    /// The next message; `None` after the response or an error. Safe to drop while waiting.
    pub async fn next(&mut self) -> Option<Result<Event, CallError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let heard = self.source.as_mut()?.next().await;
        if matches!(heard, Ok(Event::Response(_) | Event::InputRequired(_)) | Err(_)) {
            self.source = None;
            self.health.note(&heard);
        }
        let upstream = || self.upstream.clone();
        Some(heard.map_err(|failure| CallError { upstream: upstream(), failure }))
    }
}
