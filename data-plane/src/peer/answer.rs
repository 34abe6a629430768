//! The answer of another proxy on its way to the client.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Response, header};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::{
    error::{self, Failure},
    forward::{self, BoxError},
    transport::body::Body,
};

/// What ends an event.
const END: &[u8; 2] = b"\n\n";

/// Passes an answer on as it comes. `id`: of the request that it answers, raw; if the other proxy
/// dies before it has, the client is told so.
pub(crate) fn relayed(response: Response<Incoming>, id: Option<Bytes>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    forward::strip_hop_by_hop(&mut head.headers);
    let is_events = head
        .headers
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .is_some_and(|value| value.starts_with(b"text/event-stream"));
    let body = match id.filter(|_| is_events) {
        Some(id) => Events { inner: body, id, last: *END, has_ended: false }.boxed_unsync(),
        None => body.map_err(Into::into).boxed_unsync(),
    };
    Response::from_parts(head, Body::Forwarded(body))
}

/// A stream that goes on until this proxy ends; then its client comes back, which leads it to
/// another.
pub(crate) fn until_closing(
    answer: Response<Body>,
    mut closing: watch::Receiver<bool>,
) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let Body::Forwarded(body) = body else { return Response::from_parts(head, body) };
    let closed = async move {
        if closing.wait_for(|is_closing| *is_closing).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let frames = BodyStream::new(body).take_until(Box::pin(closed));
    Response::from_parts(head, Body::Forwarded(StreamBody::new(frames).boxed_unsync()))
}

/// Events of a call.
struct Events<B> {
    inner: B,
    id: Bytes,
    /// The last bytes that went out.
    last: [u8; 2],
    has_ended: bool,
}

impl<B> http_body::Body for Events<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(next) = Pin::new(&mut self.inner).poll_frame(cx) else {
            return Poll::Pending;
        };
        Poll::Ready(match next {
            Some(Ok(frame)) => {
                for byte in frame.data_ref().into_iter().flat_map(last_two) {
                    let [_, before] = self.last;
                    self.last = [before, byte];
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.has_ended = true;
                let error = error.into();
                tracing::warn!(%error, "another proxy went away during an answer");
                if self.last == *END {
                    Some(Ok(Frame::data(self.failure())))
                } else {
                    Some(Err(error))
                }
            }
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn last_two(data: &Bytes) -> impl Iterator<Item = u8> {
    data.iter().skip(data.len().saturating_sub(2)).copied()
}

impl<B> Events<B> {
    fn failure(&self) -> Bytes {
        let response = error::response(&Failure::OwnerLost, Some(&self.id));
        [b"event: message\ndata: ", &response[..], END.as_slice()].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    /// All that a client gets of these frames before the other proxy goes away.
    async fn got(frames: &[&'static str]) -> (String, bool) {
        let frames: Vec<Result<Frame<Bytes>, BoxError>> = frames
            .iter()
            .map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
            .chain([Err("reset".into())])
            .collect();
        let inner = StreamBody::new(futures_util::stream::iter(frames));
        let mut events =
            Events { inner, id: Bytes::from_static(b"\"a\""), last: *END, has_ended: false };
        let mut text = String::new();
        while let Some(frame) = events.frame().await {
            let Ok(frame) = frame else { return (text, true) };
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        (text, false)
    }

    #[tokio::test]
    async fn a_call_that_breaks_between_events_ends_with_an_error_event() {
        for frames in [&[][..], &["data: 1\n\n"], &["data: 1\n", "\n"]] {
            let (text, is_broken) = got(frames).await;
            assert!(!is_broken);
            assert!(text.starts_with(&frames.concat()), "{text}");
            assert!(text.contains(r#""id":"a","error":{"code":-32603"#), "{text}");
            assert!(text.ends_with("\n\n"));
        }
    }

    #[tokio::test]
    async fn a_call_that_breaks_inside_an_event_breaks_for_its_client_too() {
        let (text, is_broken) = got(&["data: {\"x\":"]).await;
        assert!(is_broken);
        assert_eq!(text, "data: {\"x\":");
    }
}
