//! From event streams and JSON answers to the client, across broken connections.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;

use super::{
    bridge::is_subscription,
    end::{ClientEnd, heard},
    remote::{Remote, whole},
    repeat::pause,
    session::Session,
};
use crate::{
    mcp::{Kind, Message, code, notice::cancelled},
    upstream::{Bounds, CallFailure, EventReader, error_of, fetch, sse::Decoder},
};

/// How often one stream is resumed in a row without anything coming.
const RESUMES_MAX: u32 = 20;

/// What one answer led to.
pub(super) enum Step {
    Answered(Bytes),
    /// The server wants parameters in headers, and says so in its answer.
    WantsHeaders(Bytes),
    SessionLost,
}

/// Why the stream of a session's other messages ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The server has nothing more to say.
    Silent,
    /// The server does not know the session.
    SessionLost,
}

/// One request whose answer is on its way.
pub(super) struct Carrier<'a> {
    pub(super) remote: &'a Remote,
    pub(super) message: &'a Message,
    pub(super) session: Option<&'a Arc<Session>>,
    pub(super) client: &'a ClientEnd,
    pub(super) bounds: &'a Bounds,
}

impl Carrier<'_> {
    /// Carries what comes before the answer, from one stream or from several.
    pub(super) async fn carry(&self, response: Response<Incoming>) -> Result<Step, CallFailure> {
        let Self { message, session, bounds, .. } = *self;
        let (head, body) = response.into_parts();
        if !head.status.is_success() || !fetch::is_event_stream(&head.headers) {
            let messages = whole(message, (head.status, body), session, bounds).await?;
            let Some(mut messages) = messages else { return Ok(Step::SessionLost) };
            let answer = take_answer(message, &mut messages);
            self.say(messages).await;
            return Ok(self.last(answer.ok_or(CallFailure::NoResponse)?).await);
        }
        let mut events = EventReader::new(body, bounds.message_max);
        let mut failures = 0;
        loop {
            let broken = match events.next_within(bounds).await {
                Ok(Some(event)) if !event.is_message() => continue,
                Ok(Some(event)) => match self.take(event.data).await? {
                    Some(step) => return Ok(step),
                    None => continue,
                },
                Ok(None) => CallFailure::NoResponse,
                Err(failure @ CallFailure::Broken(_)) => failure,
                Err(failure) => return Err(failure),
            };
            if !events.is_silent() {
                failures = 0;
            }
            let body = self.resume(events.decoder(), broken, &mut failures).await?;
            events = EventReader::going_on(events.decoder(), body);
        }
    }

    /// Hands messages out; something, if the response was among them.
    async fn take(&self, data: Bytes) -> Result<Option<Step>, CallFailure> {
        let (mut messages, unreadable) = heard(&data);
        let answer = messages.iter().position(|it| is_response_to(self.message, it));
        let answer = answer.and_then(|at| messages.remove(at));
        self.say(messages).await;
        match (answer, unreadable) {
            (Some(answer), _) => Ok(Some(self.last(answer).await)),
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(None),
        }
    }

    async fn say(&self, messages: VecDeque<Message>) {
        for message in messages {
            self.client.say(message.into_body()).await;
        }
    }

    /// The rest of a stream that broke after an event with an id.
    async fn resume(
        &self,
        decoder: &Decoder,
        broken: CallFailure,
        failures: &mut u32,
    ) -> Result<Incoming, CallFailure> {
        let Self { remote, session, bounds, .. } = *self;
        let (Some(session), Some(last)) = (session, decoder.last_id()) else {
            return Err(broken);
        };
        while *failures < RESUMES_MAX {
            *failures += 1;
            tokio::time::sleep(pause(decoder.retry_ms, *failures)).await;
            match remote.open(session, Some(last), bounds).await {
                Ok(Some(body)) => return Ok(body),
                Ok(None) => return Err(broken),
                Err(failure) if may_pass(&failure) => {
                    tracing::info!(%failure, "a call waits for the rest of its stream");
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(broken)
    }

    async fn last(&self, answer: Message) -> Step {
        if wants_headers(&answer) {
            return Step::WantsHeaders(answer.into_body());
        }
        if is_subscription(self.message) && error_of(&answer).is_none() {
            // On a pipe the end of a subscription is told twice.
            self.client.say(cancelled(self.message.id().unwrap_or(b"null"))).await;
        }
        Step::Answered(answer.into_body())
    }
}

impl Remote {
    /// Carries what the server says outside of requests; returns when it will say no more in
    /// this session.
    pub(super) async fn listen(&self, session: &Session, client: &ClientEnd) -> Ended {
        let mut decoder = Decoder::new(self.limits.message_max);
        let mut failures = 0;
        loop {
            let bounds = Bounds::of_call(&self.limits);
            let last = decoder.last_id().cloned();
            match self.open(session, last.as_deref(), &bounds).await {
                Err(CallFailure::SessionLost) if session.has_id() => return Ended::SessionLost,
                Ok(None) | Err(CallFailure::SessionLost) => return Ended::Silent,
                Ok(Some(body)) => {
                    let mut events = EventReader::going_on(&decoder, body);
                    carry_all(&mut events, client, &bounds).await.ok();
                    if !events.is_silent() {
                        failures = 0;
                    }
                    decoder = events.decoder().reopened();
                }
                Err(failure) => tracing::debug!(%failure, "no stream of the server"),
            }
            failures += 1;
            tokio::time::sleep(pause(decoder.retry_ms, failures)).await;
        }
    }
}

/// Hands out every message of a stream until its end.
async fn carry_all(
    events: &mut EventReader<Incoming>,
    client: &ClientEnd,
    bounds: &Bounds,
) -> Result<(), CallFailure> {
    while let Some(event) = events.next_within(bounds).await? {
        if event.is_message() {
            client.say_all(event.data).await;
        }
    }
    Ok(())
}

/// The response to a request of which nothing else is expected.
pub(super) async fn response_to(
    message: &Message,
    response: Response<Incoming>,
    bounds: &Bounds,
) -> Result<Message, CallFailure> {
    let (head, body) = response.into_parts();
    if !head.status.is_success() || !fetch::is_event_stream(&head.headers) {
        let messages = whole(message, (head.status, body), None, bounds).await?;
        let mut messages = messages.ok_or(CallFailure::SessionLost)?;
        return take_answer(message, &mut messages).ok_or(CallFailure::NoResponse);
    }
    let mut events = EventReader::new(body, bounds.message_max);
    while let Some(event) = events.next_within(bounds).await? {
        if !event.is_message() {
            continue;
        }
        let (messages, unreadable) = heard(&event.data);
        match (messages.into_iter().find(|it| is_response_to(message, it)), unreadable) {
            (Some(answer), _) => return Ok(answer),
            (None, Some(failure)) => return Err(failure),
            (None, None) => {}
        }
    }
    Err(CallFailure::NoResponse)
}

pub(super) fn is_response_to(message: &Message, event: &Message) -> bool {
    matches!(event.kind, Kind::Response(_)) && event.id() == message.id()
}

/// Takes the response out of what a server said at once: one that comes alone is meant, however
/// its id is written.
fn take_answer(message: &Message, said: &mut VecDeque<Message>) -> Option<Message> {
    let is_alone = said.len() == 1;
    let is_answer = |it: &Message| {
        let is_response = matches!(it.kind, Kind::Response(_)) && it.id().is_some();
        is_response_to(message, it) || (is_alone && is_response)
    };
    said.iter().position(is_answer).and_then(|at| said.remove(at))
}

/// Whether the rest of a stream may be there later: nobody was met, or somebody too busy. An old
/// connection that the server still takes for the reader (409) goes away, too.
fn may_pass(failure: &CallFailure) -> bool {
    match failure {
        CallFailure::HttpStatus { status, .. } => matches!(status, 409 | 429 | 500..),
        failure => matches!(failure, CallFailure::Unreachable(_) | CallFailure::Broken(_)),
    }
}

/// Whether an answer says that mirror headers are missing.
fn wants_headers(answer: &Message) -> bool {
    error_of(answer).is_some_and(|error| error.code == code::HEADER_MISMATCH)
}
