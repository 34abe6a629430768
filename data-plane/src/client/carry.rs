//! From event streams and JSON answers to the client, across broken connections.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;

use super::{
    bridge::is_subscription,
    end::ClientEnd,
    remote::{Ended, Remote, whole},
    repeat::pause,
    session::Session,
};
use crate::{
    mcp::{Kind, Message, code, message::parse, notice::cancelled},
    upstream::{Bounds, CallFailure, EventReader, error_of, fetch, sse::Decoder},
};

/// How often one stream is resumed in a row without anything coming.
const RESUMES_MAX: u32 = 20;

/// What one answer led to.
pub(super) enum Step {
    Ended(Ended),
    /// The server wants parameters in headers.
    WantsHeaders(Box<Message>),
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
    /// Carries the answer, from one stream or from several.
    pub(super) async fn carry(&self, response: Response<Incoming>) -> Result<Step, CallFailure> {
        let Self { session, bounds, .. } = *self;
        let (head, body) = response.into_parts();
        if !head.status.is_success() || !fetch::is_event_stream(&head.headers) {
            return match whole(head.status, body, session, bounds).await? {
                None => Ok(Step::Ended(Ended::SessionLost)),
                Some(answer) => Ok(self.last(answer).await),
            };
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

    /// Hands a message out; something, if it was the response.
    async fn take(&self, data: Bytes) -> Result<Option<Step>, CallFailure> {
        let message = read(data)?;
        if is_response_to(self.message, &message) {
            return Ok(Some(self.last(message).await));
        }
        self.client.say(message.body).await;
        Ok(None)
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
            return Step::WantsHeaders(Box::new(answer));
        }
        if is_subscription(self.message) && error_of(&answer).is_none() {
            // On a pipe the end of a subscription is told twice.
            self.client.say(cancelled(self.message.id().unwrap_or(b"null"))).await;
        }
        self.client.say(answer.body).await;
        Step::Ended(Ended::Answered)
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
                Ok(None) | Err(CallFailure::SessionLost) => return Ended::Answered,
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
pub(super) async fn carry_all(
    events: &mut EventReader<Incoming>,
    client: &ClientEnd,
    bounds: &Bounds,
) -> Result<(), CallFailure> {
    while let Some(event) = events.next_within(bounds).await? {
        if event.is_message() {
            client.say(event.data).await;
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
        return whole(head.status, body, None, bounds).await?.ok_or(CallFailure::SessionLost);
    }
    let mut events = EventReader::new(body, bounds.message_max);
    while let Some(event) = events.next_within(bounds).await? {
        if !event.is_message() {
            continue;
        }
        let event = read(event.data)?;
        if is_response_to(message, &event) {
            return Ok(event);
        }
    }
    Err(CallFailure::NoResponse)
}

fn is_response_to(message: &Message, event: &Message) -> bool {
    matches!(event.kind, Kind::Response(_)) && event.id() == message.id()
}

fn read(data: Bytes) -> Result<Message, CallFailure> {
    parse(data).map_err(|error| CallFailure::NotJsonRpc(error.to_string()))
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
