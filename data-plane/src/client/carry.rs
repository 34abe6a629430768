//! From event streams and JSON answers to the client, across broken connections.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::{
    bridge::{is_subscription, say, wants_headers},
    remote::{BACKOFF_MAX, BACKOFF_MIN, Ended, Remote, Session, whole},
};
use crate::{
    mcp::{Kind, Message, message::parse, subscription::cancelled},
    upstream::{Bounds, CallFailure, error_of, fetch, sse::Decoder},
};

/// How often one stream is resumed in a row without a message.
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
    pub(super) out: &'a mpsc::Sender<Bytes>,
    pub(super) bounds: &'a Bounds,
}

impl Carrier<'_> {
    /// Carries the answer, from one stream or from several.
    pub(super) async fn carry(&self, response: Response<Incoming>) -> Result<Step, CallFailure> {
        let Self { remote, session, bounds, .. } = *self;
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() || fetch::media_type(&head.headers) != "text/event-stream" {
            return match whole(head.status, body, session, bounds).await? {
                None => Ok(Step::Ended(Ended::SessionLost)),
                Some(answer) => Ok(self.last(answer).await),
            };
        }
        let mut decoder = Decoder::new(bounds.message_max);
        let mut resumes = 0;
        loop {
            let broken = match fetch::next_chunk(&mut body, bounds).await {
                Ok(Some(chunk)) => {
                    decoder.push(chunk);
                    resumes = 0;
                    match self.read(&mut decoder).await? {
                        Some(step) => return Ok(step),
                        None => continue,
                    }
                }
                Ok(None) => CallFailure::NoResponse,
                Err(failure @ CallFailure::Broken(_)) => failure,
                Err(failure) => return Err(failure),
            };
            let (Some(session), Some(last)) = (session, decoder.last_id().cloned()) else {
                return Err(broken);
            };
            resumes += 1;
            if resumes > RESUMES_MAX {
                return Err(broken);
            }
            tokio::time::sleep(pause(&decoder, resumes)).await;
            decoder = decoder.reopened();
            body = remote.open(session, Some(&last), bounds).await?.ok_or(broken)?;
        }
    }

    /// Hands out what the stream has brought so far; something, if it was the response.
    async fn read(&self, decoder: &mut Decoder) -> Result<Option<Step>, CallFailure> {
        while let Some(data) = next_data(decoder, self.bounds)? {
            let event = read(data)?;
            if is_response_to(self.message, &event) {
                return Ok(Some(self.last(event).await));
            }
            say(self.out, event.body).await;
        }
        Ok(None)
    }

    async fn last(&self, answer: Message) -> Step {
        if wants_headers(&answer) {
            return Step::WantsHeaders(Box::new(answer));
        }
        if is_subscription(self.message) && error_of(&answer).is_none() {
            // On a pipe the end of a subscription is told twice.
            say(self.out, cancelled(self.message.id().unwrap_or(b"null"))).await;
        }
        say(self.out, answer.body).await;
        Step::Ended(Ended::Answered)
    }
}

impl Remote {
    /// Carries what the server says outside of requests; returns when it will say no more in
    /// this session.
    pub(super) async fn listen(&self, session: &Session, out: &mpsc::Sender<Bytes>) -> Ended {
        let mut decoder = Decoder::new(self.limits.message_max);
        let mut failures = 0;
        loop {
            let bounds = Bounds::of_call(&self.limits);
            let last = decoder.last_id().cloned();
            match self.open(session, last.as_deref(), &bounds).await {
                Err(CallFailure::SessionLost) if session.has_id() => return Ended::SessionLost,
                Ok(None) | Err(CallFailure::SessionLost) => return Ended::Answered,
                Ok(Some(body)) => {
                    decoder = decoder.reopened();
                    match carry_all(body, &mut decoder, out, &bounds).await {
                        Ok(0) | Err(_) => {}
                        Ok(_) => failures = 0,
                    }
                }
                Err(failure) => tracing::debug!(%failure, "no stream of the server"),
            }
            failures += 1;
            tokio::time::sleep(pause(&decoder, failures)).await;
        }
    }
}

/// Hands out every message of a stream until its end: how many there were.
pub(super) async fn carry_all(
    mut body: Incoming,
    decoder: &mut Decoder,
    out: &mpsc::Sender<Bytes>,
    bounds: &Bounds,
) -> Result<u64, CallFailure> {
    let mut count = 0;
    while let Some(chunk) = fetch::next_chunk(&mut body, bounds).await? {
        decoder.push(chunk);
        while let Some(data) = next_data(decoder, bounds)? {
            count += 1;
            say(out, data).await;
        }
    }
    Ok(count)
}

/// The response to a request of which nothing else is expected.
pub(super) async fn response_to(
    message: &Message,
    response: Response<Incoming>,
    bounds: &Bounds,
) -> Result<Message, CallFailure> {
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() || fetch::media_type(&head.headers) != "text/event-stream" {
        return whole(head.status, body, None, bounds).await?.ok_or(CallFailure::SessionLost);
    }
    let mut decoder = Decoder::new(bounds.message_max);
    while let Some(chunk) = fetch::next_chunk(&mut body, bounds).await? {
        decoder.push(chunk);
        while let Some(data) = next_data(&mut decoder, bounds)? {
            let event = read(data)?;
            if is_response_to(message, &event) {
                return Ok(event);
            }
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

/// The data of the next event that has some.
fn next_data(decoder: &mut Decoder, bounds: &Bounds) -> Result<Option<Bytes>, CallFailure> {
    let limit = bounds.message_max;
    while let Some(event) = decoder.next().map_err(|_| CallFailure::TooLarge { limit })? {
        if !event.data.is_empty() {
            return Ok(Some(event.data));
        }
    }
    Ok(None)
}

/// How long to wait before a stream is opened again.
fn pause(decoder: &Decoder, failures: u32) -> Duration {
    let backoff = BACKOFF_MIN.saturating_mul(1 << failures.min(8)).min(BACKOFF_MAX);
    let asked = decoder.retry_ms.map(Duration::from_millis);
    asked.map_or(backoff, |asked| asked.min(BACKOFF_MAX).max(BACKOFF_MIN))
}
