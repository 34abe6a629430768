//! The events of an open stream, one after the other, wherever the stream comes from.

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use tokio::task::consume_budget;
use url::Url;

use super::{
    failure::CallFailure,
    fetch::{self, Answer, Bounds},
    sse::{Decoder, SseEvent, TooLarge},
};

/// An event stream that is being read.
#[derive(Debug)]
pub(crate) struct EventReader<B> {
    body: B,
    decoder: Decoder,
    /// Nothing has come since the stream was opened.
    is_silent: bool,
}

impl<B: Answer> EventReader<B> {
    /// Reads a body that is known to be an event stream, in events of up to `limit` bytes.
    pub(crate) fn new(body: B, limit: usize) -> Self {
        Self { body, decoder: Decoder::new(limit), is_silent: true }
    }

    /// The stream that a server gave, or why it gave none.
    pub(crate) async fn of(response: Response<B>, bounds: &Bounds) -> Result<Self, CallFailure> {
        let status = response.status();
        if matches!(status.as_u16(), 401 | 403) {
            return Err(CallFailure::Auth { status: status.as_u16() });
        }
        if status != StatusCode::OK {
            let body = fetch::read_refusal(response.into_body(), bounds).await;
            let excerpt = fetch::excerpt(&body);
            return Err(CallFailure::HttpStatus { status: status.as_u16(), excerpt });
        }
        if !fetch::is_event_stream(response.headers()) {
            let media = fetch::media_type(response.headers());
            return Err(CallFailure::ContentType(media.to_owned()));
        }
        Ok(Self::new(response.into_body(), bounds.message_max))
    }

    /// Reads the rest of the stream that `decoder` has read so far.
    pub(crate) fn going_on(decoder: &Decoder, body: B) -> Self {
        Self { body, decoder: decoder.reopened(), is_silent: true }
    }

    /// The next event, whenever it comes; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<SseEvent>, CallFailure> {
        loop {
            // One who never stops talking leaves room for others.
            consume_budget().await;
            let event = self.complete()?;
            if event.is_some() {
                return Ok(event);
            }
            let chunk = fetch::chunk(&mut self.body).await?;
            if !self.take(chunk) {
                return Ok(None);
            }
        }
    }

    /// The same within `bounds`; a comment is a sign of life, too.
    pub(crate) async fn next_within(
        &mut self,
        bounds: &Bounds,
    ) -> Result<Option<SseEvent>, CallFailure> {
        loop {
            // One who never stops talking leaves room for others.
            consume_budget().await;
            let event = self.complete()?;
            if event.is_some() {
                return Ok(event);
            }
            let chunk = fetch::next_chunk(&mut self.body, bounds).await?;
            if !self.take(chunk) {
                return Ok(None);
            }
        }
    }

    fn complete(&mut self) -> Result<Option<SseEvent>, CallFailure> {
        let limit = self.decoder.limit;
        self.decoder.next().map_err(|TooLarge| CallFailure::TooLarge { limit })
    }

    fn take(&mut self, chunk: Option<Bytes>) -> bool {
        let Some(chunk) = chunk else { return false };
        self.is_silent = false;
        self.decoder.push(chunk);
        true
    }

    /// Whether nothing has come since the stream was opened.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// What the stream says about going on with it.
    pub(crate) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Where messages are posted (HTTP+SSE of 2024-11-05): the first event says it.
    pub(crate) async fn endpoint(&mut self, stream: &Uri) -> Result<Uri, CallFailure> {
        let event = self.next().await?.ok_or(CallFailure::NoResponse)?;
        if event.name != "endpoint" {
            let problem = "the first event of its stream is not `endpoint`";
            return Err(CallFailure::Initialize(problem.to_owned()));
        }
        resolve(stream, &event.data).map_err(CallFailure::Initialize)
    }
}

/// Resolves what the `endpoint` event says; another origin gets none of our messages.
fn resolve(stream: &Uri, data: &Bytes) -> Result<Uri, String> {
    let base = Url::parse(&stream.to_string()).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(data).unwrap_or_default().trim();
    let url = base.join(text).map_err(|error| format!("its endpoint is no URL: {error}"))?;
    if url.origin() != base.origin() {
        return Err(format!(
            "its endpoint is on another origin, {}",
            url.origin().ascii_serialization()
        ));
    }
    url.as_str().parse().map_err(|_| "its endpoint is no URL".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn others_have_their_turn_while_events_come_without_end() {
        const MANY: usize = 10_000;
        let read = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&read);
        let reading = tokio::spawn(async move {
            let body = Full::from(b"data: {}\n\n".repeat(MANY));
            let mut events = EventReader::new(body.map_err(|never| match never {}), 100);
            while events.next().await.is_ok_and(|event| event.is_some()) {
                count.fetch_add(1, Relaxed);
            }
        });
        tokio::task::yield_now().await;
        assert!((1..1000).contains(&read.load(Relaxed)), "{read:?}");
        reading.await.unwrap();
        assert_eq!(read.load(Relaxed), MANY);
    }

    #[test]
    fn endpoints_are_resolved_against_the_stream_and_stay_at_home() {
        let stream: Uri = "https://h.example:8443/base/sse?x=1".parse().unwrap();
        let target =
            |data: &'static str| resolve(&stream, &Bytes::from(data)).map(|uri| uri.to_string());
        assert_eq!(target("/message?s=1").unwrap(), "https://h.example:8443/message?s=1");
        assert_eq!(target("message?s=1").unwrap(), "https://h.example:8443/base/message?s=1");
        assert_eq!(target("?s=1").unwrap(), "https://h.example:8443/base/sse?s=1");
        assert_eq!(target("https://h.example:8443/m").unwrap(), "https://h.example:8443/m");
        for foreign in ["https://h.example/m", "http://h.example:8443/m", "//evil.example/m"] {
            assert!(target(foreign).is_err(), "{foreign}");
        }
    }
}
