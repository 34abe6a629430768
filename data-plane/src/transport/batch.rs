//! The answers to a batch: an array, or an event stream once one of them takes long or has more
//! to say.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{future::join_all, stream};
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::{body::Body, headers::Accepts, response, sse};
use crate::{
    exchange::{Event, Exchange},
    mcp::Pieces,
};

/// What was answered at once, and what upstreams work on.
#[derive(Default)]
pub(crate) struct Batch {
    ready: VecDeque<Bytes>,
    running: Vec<Exchange>,
}

impl Batch {
    pub(crate) fn answer(&mut self, response: Bytes) {
        self.ready.push_back(response);
    }

    pub(crate) fn run(&mut self, exchange: Exchange) {
        self.running.push(exchange);
    }

    /// Whether nothing will be answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.running.is_empty()
    }

    /// The next message of any of them; `None` after the last response.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(response) = self.ready.pop_front() {
            return Poll::Ready(Some(Event::Response(response.into())));
        }
        let mut index = 0;
        while let Some(exchange) = self.running.get_mut(index) {
            match exchange.poll_next(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(Some(Event::Message(message))) => {
                    return Poll::Ready(Some(Event::Message(message)));
                }
                Poll::Ready(Some(Event::Response(response))) => {
                    self.running.swap_remove(index);
                    return Poll::Ready(Some(Event::Response(response)));
                }
                Poll::Ready(None) => drop(self.running.swap_remove(index)),
            }
        }
        if self.running.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }

    async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

/// The answer to a batch in the form that the client takes.
pub(crate) async fn render(
    mut batch: Batch,
    accepts: Accepts,
    interval: Duration,
) -> Response<Body> {
    let mut responses = Vec::from(std::mem::take(&mut batch.ready));
    match accepts {
        Accepts::Json => {
            let rest = join_all(batch.running.iter_mut().map(Exchange::response)).await;
            responses.extend(rest.into_iter().flatten().map(Pieces::into_bytes));
            array(&responses)
        }
        Accepts::Events => events(responses, batch, interval),
        Accepts::Both => {
            let end = Instant::now() + interval;
            loop {
                match tokio::time::timeout_at(end, batch.next()).await {
                    Ok(Some(Event::Response(response))) => responses.push(response.into_bytes()),
                    Ok(None) => return array(&responses),
                    Ok(Some(Event::Message(message))) => {
                        responses.push(message);
                        return events(responses, batch, interval);
                    }
                    Err(_silence) => return events(responses, batch, interval),
                }
            }
        }
    }
}

fn array(responses: &[Bytes]) -> Response<Body> {
    response::json(StatusCode::OK, joined(responses))
}

/// Responses as one array.
pub(crate) fn joined(responses: &[Bytes]) -> Bytes {
    let length: usize = responses.iter().map(|response| response.len() + 1).sum();
    let mut out = BytesMut::with_capacity(length + 1);
    for (index, response) in responses.iter().enumerate() {
        out.put_u8(if index == 0 { b'[' } else { b',' });
        out.put_slice(response);
    }
    out.put_u8(b']');
    out.freeze()
}

/// A stream of what is there already and of all that follows, with comments while it is silent.
fn events(first: Vec<Bytes>, batch: Batch, interval: Duration) -> Response<Body> {
    let chunks =
        stream::unfold((VecDeque::from(first), batch), move |(mut first, mut batch)| async move {
            if let Some(message) = first.pop_front() {
                return Some((sse::encode(&message), (first, batch)));
            }
            let chunk = match tokio::time::timeout(interval, batch.next()).await {
                Ok(Some(event)) => sse::encode(&event.into_bytes()),
                Ok(None) => return None,
                Err(_silence) => sse::COMMENT,
            };
            Some((chunk, (first, batch)))
        });
    response::event_stream(Body::Open(Box::pin(chunks)))
}
