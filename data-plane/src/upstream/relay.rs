//! Puts one call into its upstream's terms, and what the upstream says back into the client's:
//! era, request id, progress token.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use proto::Era;

use super::{
    Call,
    era::{self, Handshake},
    failure::CallFailure,
};
use crate::{
    mcp::{
        Kind, Level, Message, Notice, Pieces, Version, code,
        elicitation::Askers,
        extension::Hears,
        input,
        level::Wanted,
        message::{Notification, Response, parse},
        object,
        response::{self, empty_completion},
        task,
        translate::{self, Audience, Terms, content},
        uri::Uris,
    },
    target::Asked,
    tasks::Passage,
};

/// The two ends of one call.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    client_era: Era,
    client_version: Version,
    /// Who may ask the client's user.
    askers: Askers,
    /// Raw JSON.
    client_id: Bytes,
    /// What stands for id and progress token at the upstream; `None` if they pass verbatim.
    ours: Option<Bytes>,
    client_token: Option<Bytes>,
    logs: Wanted,
    /// The URI that was asked for, as the client wrote it.
    asked_uri: Option<Box<str>>,
    /// How the client is shown URIs of the upstream.
    uris: Option<Arc<Uris>>,
    is_completion: bool,
    hears: Hears,
    tasks: Option<Arc<Passage>>,
}

/// A message, sorted.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The answer, with its error code if it is an error.
    Response {
        body: Pieces,
        code: Option<i64>,
    },
    Notification(Bytes),
    /// The upstream asks for something.
    Request(Box<Message>),
    /// The upstream takes back its request with this id (raw JSON).
    Withdrawn(Bytes),
    ListChanged(Notice),
    /// The answer, with its error code if it is an error: the upstream wants input first, or
    /// tells of an error that may mean so. A legacy client's is as the upstream wrote it.
    InputRequired {
        message: Box<Message>,
        code: Option<i64>,
    },
    /// It belongs to no call.
    ResourceUpdated(Box<Message>),
    /// It is of a task that another call made, under its upstream's id.
    TaskStatus(Box<Message>),
    Nothing,
}

impl Relay {
    /// A call whose id and token may be used as they are.
    pub(crate) fn verbatim(call: &Call) -> Self {
        let token = call.message.params().and_then(|params| params.meta.progress_token);
        Self {
            client_era: call.client_era,
            client_version: call.client_version,
            askers: call.askers,
            client_id: call.id(),
            ours: None,
            client_token: token.map(|token| call.message.slice(token)),
            logs: call.logs,
            asked_uri: asked_uri(call),
            uris: call.target.uris.clone(),
            is_completion: matches!(call.target.asked, Asked::Completion { .. }),
            hears: call.hears,
            tasks: call.tasks.clone(),
        }
    }

    /// A call that shares its connection or session with others: `id` is ours.
    pub(crate) fn remapped(call: &Call, id: u64) -> Self {
        let ours = Some(Bytes::from(id.to_string()));
        Self { ours, ..Self::verbatim(call) }
    }

    /// The id under which the upstream knows the call, raw JSON.
    pub(crate) fn upstream_id(&self) -> &Bytes {
        self.ours.as_ref().unwrap_or(&self.client_id)
    }

    /// How tasks are translated, if the call may have to do with some.
    pub(crate) fn tasks(&self) -> Option<&Arc<Passage>> {
        self.tasks.as_ref()
    }

    /// The request as the upstream shall see it.
    pub(crate) fn request(&self, call: &Call, upstream: &Handshake) -> Pieces {
        let ours = self.ours.as_deref();
        let token = ours.filter(|_| self.client_token.is_some());
        let terms = Terms {
            era: upstream.era,
            version: &upstream.version,
            subject: call.target.subject(),
            id: ours,
            progress_token: token,
            capabilities: call.declared(upstream.era),
            written: call.written.as_deref(),
            log_level: match (call.client_era, call.logs) {
                (Era::Modern, _) | (Era::Legacy, Wanted::Nothing) => None,
                // The server decides, and that is we.
                (Era::Legacy, Wanted::Any) => Some(Level::Info),
                (Era::Legacy, Wanted::From(level)) => Some(level),
            },
        };
        translate::request_to_upstream(&call.message, &terms)
    }

    /// Sorts and translates what an upstream said that people know as `name`.
    pub(crate) fn take(&self, message: Message, name: &str) -> Result<Taken, CallFailure> {
        let message = match &self.tasks {
            Some(tasks) => tasks.shown(message),
            None => message,
        };
        match &message.kind {
            Kind::Response(response) => self.response(&message, response, name),
            Kind::Request(_) => Ok(Taken::Request(Box::new(message))),
            Kind::Notification(notification) => Ok(self.notification(&message, notification, name)),
        }
    }

    fn notification(&self, message: &Message, notification: &Notification, name: &str) -> Taken {
        let method = notification.method.as_str();
        let Some(notice) = Notice::of(method) else {
            if !self.hears.takes(method) {
                return Taken::Nothing;
            }
            let body = translate::notification_to_client(message, self.client_era, None, None);
            return Taken::Notification(body);
        };
        match notice {
            Notice::Log if !self.logs.takes(log_level(message).as_deref()) => Taken::Nothing,
            Notice::Progress | Notice::Log => {
                let token = self.ours.as_ref().and(self.client_token.as_deref());
                let writer = self.asker(name).filter(|_| notice == Notice::Log);
                let body =
                    translate::notification_to_client(message, self.client_era, token, writer);
                Taken::Notification(body)
            }
            Notice::Cancelled => match notification.params.request_id {
                Some(id) => Taken::Withdrawn(message.slice(id)),
                None => Taken::Nothing,
            },
            Notice::TaskStatus if self.tasks.is_none() => {
                Taken::TaskStatus(Box::new(message.clone()))
            }
            Notice::ElicitationComplete if self.client_era == Era::Legacy => {
                Taken::Notification(message.body().clone())
            }
            // In the modern form it is for those that listen.
            Notice::TaskStatus
                if self.client_era == Era::Legacy && !task::is_modern_notice(message) =>
            {
                Taken::Notification(message.body().clone())
            }
            Notice::ToolsChanged | Notice::PromptsChanged | Notice::ResourcesChanged => {
                Taken::ListChanged(notice)
            }
            Notice::ResourceUpdated => Taken::ResourceUpdated(Box::new(message.clone())),
            Notice::ElicitationComplete | Notice::Acknowledged | Notice::TaskStatus => {
                Taken::Nothing
            }
        }
    }

    fn response(
        &self,
        message: &Message,
        response: &Response,
        name: &str,
    ) -> Result<Taken, CallFailure> {
        let error = era::error_of(message);
        let code = error.as_ref().map(|error| error.code);
        let Some(id) = response.id else {
            // An error about a request that the upstream could not read: ours.
            let (code, text) = error.map_or((0, String::new()), |e| (e.code, e.message.into()));
            return Err(CallFailure::Refused { code, message: text });
        };
        if !is_same_id(message.raw(id), self.upstream_id()) {
            return Err(CallFailure::WrongId);
        }
        match error {
            // Headers and `_meta` are ours: the client can do nothing about them.
            Some(error) if error.code == code::HEADER_MISMATCH => {
                return Err(CallFailure::Refused {
                    code: error.code,
                    message: error.message.into(),
                });
            }
            Some(_) | None => (),
        }
        // Of the first revision one cannot know whether it has completion.
        if self.is_completion && code == Some(code::METHOD_NOT_FOUND) {
            let result = empty_completion(self.client_era);
            let body = response::answer(&self.client_id, result);
            return Ok(Taken::Response { body, code: None });
        }
        if self.client_era == Era::Legacy && input::is_required(message) {
            return Ok(Taken::InputRequired { message: Box::new(message.clone()), code });
        }
        if self.client_era == Era::Legacy && input::may_name_pages(message) {
            let (body, code) =
                match translate::with_pages(message, self.asker(name), &self.audience()) {
                    Ok(named) => (named, code),
                    Err(refusal) => (refusal, Some(code::INTERNAL_ERROR)),
                };
            return Ok(Taken::Response { body, code });
        }
        let older = (self.client_version < content::ALL_SINCE)
            .then(|| parse(content::for_older(message.body().clone(), self.client_version)).ok());
        let message = older.as_ref().and_then(Option::as_ref).unwrap_or(message);
        let body = translate::response_to_client(message, &self.audience());
        if self.client_era == Era::Modern && input::may_ask(message) {
            let message = parse(body.into_bytes());
            let message = message.map_err(|error| CallFailure::NotJsonRpc(error.to_string()))?;
            return Ok(Taken::InputRequired { message: Box::new(message), code });
        }
        Ok(Taken::Response { body, code })
    }

    /// The upstream's name, if the client has to be told which of several speaks.
    fn asker<'n>(&self, name: &'n str) -> Option<&'n str> {
        self.askers.named(name)
    }

    fn audience(&self) -> Audience<'_> {
        Audience {
            era: self.client_era,
            id: &self.client_id,
            asked_uri: self.asked_uri.as_deref(),
            uris: self.uris.as_deref(),
        }
    }
}

fn asked_uri(call: &Call) -> Option<Box<str>> {
    match &call.target.asked {
        Asked::Resource { .. } => {
            let uri = call.message.params().and_then(|params| params.uri.as_ref())?;
            uri.as_str().map(Into::into)
        }
        Asked::Tool(_)
        | Asked::Prompt { .. }
        | Asked::Completion { .. }
        | Asked::Task { .. }
        | Asked::Extension { .. }
        | Asked::Tasks { .. } => None,
    }
}

/// The level of a log message, as its server wrote it.
pub(crate) fn log_level(message: &Message) -> Option<Cow<'_, str>> {
    let params = message.params()?.span?;
    object::unquote(object::member(message.text(), params, "level")?.of(message.text()))
}

/// Whether two raw ids are the same value; servers may write a string in another way.
fn is_same_id(one: &[u8], other: &[u8]) -> bool {
    let value = |raw: &[u8]| serde_json::from_slice::<serde_json::Value>(raw).ok();
    one == other || matches!((value(one), value(other)), (Some(a), Some(b)) if a == b)
}
