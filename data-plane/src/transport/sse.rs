//! Event streams: encoding of events, and the body that relays one exchange.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::time::{Instant, Sleep};

use crate::exchange::{Event, Exchange};

/// Keeps proxies on the way from closing a silent stream; clients ignore it (HTML, SSE §9.2.6).
pub(crate) const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// One event that carries a JSON-RPC message.
pub(crate) fn encode(message: &[u8]) -> Bytes {
    const HEAD: &[u8] = b"event: message\ndata: ";
    let mut out = BytesMut::with_capacity(HEAD.len() + message.len() + 16);
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

/// The rest of an exchange as an event stream, with comments while it is silent.
pub(crate) struct Stream {
    exchange: Option<Exchange>,
    /// An event that was awaited before the answer was committed to a stream.
    first: Option<Bytes>,
    interval: Duration,
    silence: Pin<Box<Sleep>>,
}

impl Stream {
    pub(crate) fn new(exchange: Exchange, first: Option<Bytes>, interval: Duration) -> Self {
        Self {
            exchange: Some(exchange),
            first,
            interval,
            silence: Box::pin(tokio::time::sleep(interval)),
        }
    }

    /// A stream of one event.
    pub(crate) fn of(message: &[u8]) -> Self {
        let silence = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { exchange: None, first: Some(encode(message)), interval: Duration::MAX, silence }
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        match exchange.poll_next(cx) {
            Poll::Ready(Some(event)) => {
                let (Event::Message(message) | Event::Response(message)) = &event;
                let chunk = encode(message);
                if matches!(event, Event::Response(_)) {
                    self.exchange = None;
                } else {
                    self.silence.as_mut().reset(Instant::now() + self.interval);
                }
                Poll::Ready(Some(chunk))
            }
            Poll::Ready(None) => {
                self.exchange = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(cx));
                self.silence.as_mut().reset(Instant::now() + self.interval);
                Poll::Ready(Some(COMMENT))
            }
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
