//! A call as it comes from the router, and what goes back.

use std::sync::Arc;

use bytes::Bytes;
use proto::Era;

use super::{
    failure::{CallError, CallFailure},
    health::Health,
    http::HttpConversation,
    pipe::PipeConversation,
    question::Question,
};
use crate::{
    mcp::{Capabilities, Kind, Message, Method, Version, level::Wanted},
    target::Target,
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
    /// Which log messages it wants.
    pub logs: Wanted,
    pub session: SessionKey,
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

    /// What a legacy upstream's session declares. Modern clients do not tell of changes.
    pub(crate) fn declared(&self) -> Capabilities {
        match self.client_era {
            Era::Legacy => self.capabilities,
            Era::Modern => self.capabilities.without(Capabilities::of(&["roots.listChanged"])),
        }
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
    Response(Bytes),
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
    /// The last event.
    Response(Bytes),
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
    Http(Box<HttpConversation>),
    Pipe(Box<PipeConversation>),
}

impl Source {
    async fn next(&mut self) -> Result<Event, CallFailure> {
        match self {
            Self::Http(conversation) => conversation.next().await.map(|(event, _)| event),
            Self::Pipe(conversation) => conversation.next().await,
        }
    }
}

impl Events {
    /// The next message; `None` after the response or an error. Safe to drop while waiting.
    pub async fn next(&mut self) -> Option<Result<Event, CallError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let heard = self.source.as_mut()?.next().await;
        if matches!(heard, Ok(Event::Response(_)) | Err(_)) {
            self.source = None;
            self.health.note(&heard);
        }
        let upstream = || self.upstream.clone();
        Some(heard.map_err(|failure| CallError { upstream: upstream(), failure }))
    }
}
