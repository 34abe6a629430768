//! A body of a small first part and a second one that many messages share.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

/// Bytes in two parts, sent without being copied together.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    first: Bytes,
    second: Bytes,
}

impl Parts {
    /// What is sent, in this order.
    pub fn new(first: impl Into<Bytes>, second: impl Into<Bytes>) -> Self {
        Self { first: first.into(), second: second.into() }
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.first.remaining() + self.second.remaining()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<String> for Parts {
    fn from(text: String) -> Self {
        Self::new(text, Bytes::new())
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut next = std::mem::take(&mut self.first);
        if next.is_empty() {
            next = std::mem::take(&mut self.second);
        }
        Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn both_parts_arrive() {
        for (first, second) in [("a", "bc"), ("", "abc"), ("abc", ""), ("", "")] {
            let parts = Parts::new(first, second);
            let length = parts.len();
            let all = parts.collect().await.unwrap().to_bytes();
            assert_eq!(all, format!("{first}{second}"));
            assert_eq!(all.len(), length);
        }
    }
}
