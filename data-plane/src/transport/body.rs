//! Bodies: a request's, read whole within bounds, and an answer's in its forms.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::sse::Stream;
use crate::{
    deadline::{Elapsed, before},
    error::Failure,
    forward::{BoxError, ForwardedBody},
    mcp::Pieces,
    stream::Served,
};

/// Reads a whole body of at most `limit` bytes within `timeout`.
pub(crate) async fn read<B>(
    headers: &HeaderMap,
    mut body: B,
    limit: usize,
    timeout: Duration,
) -> Result<Bytes, Failure>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let announced = content_length(headers);
    if announced.is_some_and(|length| length > limit as u64) {
        Box::pin(discard(&mut body, limit)).await;
        return Err(Failure::BodyTooLarge { limit });
    }
    let end = || Instant::now() + timeout;
    match before(end, collect(&mut body, limit, announced)).await {
        Ok(Err(Failure::BodyTooLarge { limit })) => {
            Box::pin(discard(&mut body, limit)).await;
            Err(Failure::BodyTooLarge { limit })
        }
        Ok(result) => result,
        Err(Elapsed) => Err(Failure::BodyTimeout),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Gives the one frame of a small body as it is, and joins the frames of a larger one.
async fn collect<B>(body: &mut B, limit: usize, announced: Option<u64>) -> Result<Bytes, Failure>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Failure::BodyBroken)?.into_data() else { continue };
        if first.len() + joined.len() + data.len() > limit {
            return Err(Failure::BodyTooLarge { limit });
        }
        if first.is_empty() && joined.is_empty() {
            first = data;
            if body.is_end_stream() {
                break;
            }
            continue;
        }
        if joined.is_empty() {
            let announced = announced.and_then(|length| usize::try_from(length).ok());
            joined.reserve(announced.unwrap_or(0).max(first.len() + data.len()));
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// Takes in some of a body that is too large, so that the client reads our answer instead of a
/// reset connection.
async fn discard<B>(body: &mut B, limit: usize)
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut rest = limit.saturating_mul(2);
    let drain = async {
        while let Some(Ok(frame)) = body.frame().await {
            rest = rest.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if rest == 0 {
                break;
            }
        }
    };
    // Whether it ended or not, the answer is the same.
    tokio::time::timeout(Duration::from_secs(5), drain).await.ok();
}

/// The body of an answer.
pub(crate) enum Body {
    Whole(Pieces),
    Events(Box<Stream>),
    /// Whatever comes, until it ends.
    Open(Pin<Box<dyn futures_util::Stream<Item = Bytes> + Send>>),
    Forwarded(ForwardedBody),
}

/// What is longer takes time to be written: hyper holds no more than that of an answer.
pub(crate) const WRITTEN_AT_ONCE: usize = 64 * 1024;

/// A body that ends its request when it ends.
pub(crate) struct Answer {
    body: Body,
    /// hyper lets go of a body that says that it has ended, however much of it is still to be
    /// written.
    is_large: bool,
    _served: Served,
}

impl Answer {
    pub(crate) fn new(body: Body, served: Served) -> Self {
        let is_large = matches!(&body, Body::Whole(whole) if whole.len() > WRITTEN_AT_ONCE);
        Self { body, is_large, _served: served }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.body {
            Body::Whole(pieces) => Poll::Ready(pieces.pop().map(|piece| Ok(Frame::data(piece)))),
            Body::Events(events) => {
                events.poll_chunk(cx).map(|chunk| Some(Ok(Frame::data(chunk?))))
            }
            Body::Open(chunks) => {
                chunks.as_mut().poll_next(cx).map(|chunk| Some(Ok(Frame::data(chunk?))))
            }
            Body::Forwarded(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Body::Whole(pieces) => pieces.is_empty() && !self.is_large,
            Body::Events(_) | Body::Open(_) => false,
            Body::Forwarded(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Whole(pieces) => SizeHint::with_exact(pieces.len() as u64),
            Body::Events(_) | Body::Open(_) => SizeHint::default(),
            Body::Forwarded(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn chunks(sizes: &[usize]) -> impl http_body::Body<Data = Bytes, Error = BoxError> + Unpin {
        let frames: Vec<_> = sizes
            .iter()
            .map(|size| Ok::<_, BoxError>(Frame::data(Bytes::from(vec![b'x'; *size]))))
            .collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    async fn size(sizes: &[usize], limit: usize) -> Option<usize> {
        let read = read(&HeaderMap::new(), chunks(sizes), limit, Duration::from_secs(1)).await;
        read.ok().map(|bytes| bytes.len())
    }

    #[tokio::test]
    async fn bodies_are_read_up_to_the_limit_in_any_number_of_chunks() {
        assert_eq!(size(&[], 10).await, Some(0));
        assert_eq!(size(&[10], 10).await, Some(10));
        assert_eq!(size(&[3, 0, 7], 10).await, Some(10));
        assert_eq!(size(&[3, 8], 10).await, None);
        assert_eq!(size(&[11], 10).await, None);
    }

    #[tokio::test]
    async fn an_announced_length_over_the_limit_is_refused_at_once() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, "11".parse().unwrap());
        let body = Full::new(Bytes::from_static(b"short"));
        let result = read(&headers, body, 10, Duration::from_secs(1)).await;
        assert!(matches!(result, Err(Failure::BodyTooLarge { limit: 10 })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_times_out() {
        let frames = futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>();
        let result =
            read(&HeaderMap::new(), StreamBody::new(frames), 10, Duration::from_mins(1)).await;
        assert!(matches!(result, Err(Failure::BodyTimeout)));
    }
}
