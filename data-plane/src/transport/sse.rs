//! Event streams: encoding of events, and the body that relays one exchange.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::time::{Instant, Sleep};

use crate::{
    edge::Place,
    exchange::{Event, Exchange},
    mcp::Version,
    sessions::channel::{End, EventId, Reader},
};

/// Keeps proxies on the way from closing a silent stream; clients ignore it (HTML, SSE §9.2.6).
pub(crate) const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// After how many milliseconds a client should come back to a stream that ended.
const RETRY_MS: u32 = 1000;

/// One event that carries a JSON-RPC message.
pub(crate) fn encode(message: &[u8]) -> Bytes {
    encode_as(None, message)
}

/// The same with an id to come back to.
fn encode_as(id: Option<EventId>, message: &[u8]) -> Bytes {
    const HEAD: &[u8] = b"event: message\ndata: ";
    let mut out = BytesMut::with_capacity(HEAD.len() + message.len() + 48);
    if let Some(id) = id {
        out.put_slice(b"id: ");
        id.write(&mut out);
        out.put_u8(b'\n');
    }
    out.put_slice(HEAD);
    let mut rest = message;
    // Between JSON tokens a line end means nothing, in an event it ends the field.
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        let (line, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.put_slice(line);
        out.put_u8(b' ');
        rest = tail.get(1..).unwrap_or_default();
    }
    out.put_slice(rest);
    out.put_slice(b"\n\n");
    out.freeze()
}

/// An event without data that only gives an id to come back to. Clients of older versions take
/// it for a broken message (MCP 2025-11-25, transports).
fn priming(reader: &Reader, version: Version) -> Option<Bytes> {
    (version >= Version::V2025_11_25).then(|| {
        let mut out = BytesMut::from(&b"id: "[..]);
        reader.position().write(&mut out);
        out.put_slice(format!("\nretry: {RETRY_MS}\ndata:\n\n").as_bytes());
        out.freeze()
    })
}

/// Messages as an event stream, with comments while it is silent: the rest of an exchange, or
/// what is said on a session's stream.
pub(crate) struct Stream {
    exchange: Option<Exchange>,
    /// The session's stream, which gives events their ids.
    reader: Option<Reader>,
    /// Of a stream that belongs to no call, which its reader may lose.
    place: Option<Place>,
    /// What comes before everything else.
    first: Option<Bytes>,
    interval: Duration,
    /// Fires when it may have been silent for too long.
    silence: Pin<Box<Sleep>>,
    silent_since: Instant,
    pace: Pace,
}

/// How an exchange's messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// None is there.
    Waiting,
    /// One came after a pause: it shall be on its way before more are looked for.
    Sending,
    /// One after the other.
    Flowing,
}

impl Stream {
    /// The rest of `exchange`. `first` was awaited before the answer was committed to a stream.
    pub(crate) fn new(mut exchange: Exchange, first: Option<Event>, interval: Duration) -> Self {
        let session = exchange.stream();
        let undelivered = first.and_then(|event| exchange.deliver(event));
        let (reader, first) = match session {
            Some((reader, version)) => {
                let priming = priming(&reader, version);
                (Some(reader), priming)
            }
            None => (None, undelivered.map(|event| encode(&event.into_bytes()))),
        };
        Self { exchange: Some(exchange), reader, first, ..Self::empty(interval) }
    }

    fn empty(interval: Duration) -> Self {
        Self {
            exchange: None,
            reader: None,
            place: None,
            first: None,
            interval,
            silence: Box::pin(tokio::time::sleep(interval)),
            silent_since: Instant::now(),
            pace: Pace::Waiting,
        }
    }

    /// What is said on a stream of a session at `version`.
    pub(crate) fn of_session(
        (reader, place): (Reader, Place),
        version: Version,
        interval: Duration,
    ) -> Self {
        let first = priming(&reader, version);
        let (reader, place) = (Some(reader), Some(place));
        Self { reader, place, first, ..Self::empty(interval) }
    }

    /// A stream of one event.
    pub(crate) fn of(message: &[u8]) -> Self {
        Self { first: Some(encode(message)), ..Self::empty(Duration::MAX) }
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.place.as_ref().is_some_and(|place| place.poll_refused(cx).is_ready()) {
            return Poll::Ready(None);
        }
        if self.pace == Pace::Sending {
            // What was given is written when this returns, then we are asked again.
            self.pace = Pace::Flowing;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.poll_message(cx) {
            Poll::Ready(chunk) => {
                if chunk.is_some() {
                    self.silent_since = Instant::now();
                }
                if self.pace == Pace::Waiting && self.exchange.is_some() {
                    self.pace = Pace::Sending;
                }
                Poll::Ready(chunk)
            }
            Poll::Pending => {
                self.pace = Pace::Waiting;
                self.poll_silence(cx).map(|()| Some(COMMENT))
            }
        }
    }

    /// Ready when nothing was said for the whole interval. The timer is set anew only when it
    /// fires, since that takes a lock and most streams speak long before.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.silence.as_mut().poll(cx));
            let now = Instant::now();
            let due = self.silent_since + self.interval;
            if now >= due {
                self.silent_since = now;
                self.silence.as_mut().reset(now + self.interval);
                return Poll::Ready(());
            }
            self.silence.as_mut().reset(due);
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(reader) = &mut self.reader
                && let Poll::Ready(event) = reader.poll_next(cx)
            {
                return Poll::Ready(match event {
                    Some(Ok(event)) => Some(encode_as(Some(event.id), &event.message)),
                    Some(Err(end)) => self.last(end),
                    // The client reads it on another connection. The exchange goes on without us.
                    None => None,
                });
            }
            let Some(exchange) = &mut self.exchange else {
                return if self.reader.is_some() { Poll::Pending } else { Poll::Ready(None) };
            };
            let event = ready!(exchange.poll_next(cx));
            let is_last = matches!(event, Some(Event::Response(_)) | None);
            let undelivered = event.and_then(|event| exchange.deliver(event));
            if is_last {
                self.exchange = None;
            }
            if let Some(event) = undelivered {
                return Poll::Ready(Some(encode(&event.into_bytes())));
            }
        }
    }

    /// What is said last on a session's stream.
    fn last(&mut self, end: End) -> Option<Bytes> {
        self.reader = None;
        match end {
            End::Done => None,
            End::Leaving => Some(format!("retry: {RETRY_MS}\n\n").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_data_line_whatever_its_layout() {
        assert_eq!(encode(br#"{"a":1}"#), "event: message\ndata: {\"a\":1}\n\n");
        assert_eq!(encode(b"{\r\n\"a\":\n1}"), "event: message\ndata: {  \"a\": 1}\n\n");
    }
}
