//! One HTTP request and its answer, within bounds of time and size.

mod gathered;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::time::Instant;

use self::gathered::Gathered;
use super::{Limits, failure::CallFailure};
use crate::{
    deadline::before,
    egress::{self, HttpClient},
    mcp::Span,
};

/// How much of an error page is shown, in characters.
const EXCERPT_CHARS: usize = 300;
/// How much of an error page is read, in bytes.
pub(crate) const REFUSAL_MAX: usize = 256 * 1024;

/// Longer bounds are as good as none, and clocks end.
const FOREVER: Duration = Duration::from_hours(100 * 365 * 24);

/// How the gateway names itself to upstreams.
pub(crate) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("lockgate/", env!("CARGO_PKG_VERSION")));

/// The body of an upstream's answer.
pub(crate) trait Answer:
    http_body::Body<Data = Bytes, Error = hyper::Error> + Unpin
{
}

impl<B: http_body::Body<Data = Bytes, Error = hyper::Error> + Unpin> Answer for B {}

/// How long one call may take, and how big its messages may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    silence: Duration,
    duration: Duration,
    deadline: Instant,
    pub(crate) message_max: usize,
}

impl Bounds {
    /// Bounds of a call that begins now.
    pub(crate) fn of_call(limits: &Limits) -> Self {
        let duration = limits.max_call_duration.min(FOREVER);
        Self {
            silence: limits.call_timeout.min(FOREVER),
            duration,
            deadline: Instant::now() + duration,
            message_max: limits.message_max,
        }
    }

    /// The same for what may be silent as long as it lasts.
    pub(crate) fn patient(self) -> Self {
        Self { silence: self.duration, ..self }
    }

    /// Bounds of a step that has to be done within `duration`.
    pub(crate) fn of_step(limits: &Limits, duration: Duration) -> Self {
        let deadline = Instant::now() + duration;
        Self { silence: duration, duration, deadline, message_max: limits.message_max }
    }

    /// When patience ends if nothing is heard after `since`.
    pub(crate) fn patience(&self, since: Instant) -> Instant {
        self.deadline.min(since + self.silence)
    }

    /// Whether no progress can save the work any more.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// What it means that patience has ended.
    pub(crate) fn failure(&self) -> CallFailure {
        if self.is_over() {
            CallFailure::TooLong(self.duration)
        } else {
            CallFailure::Silent(self.silence)
        }
    }

    /// `work`, if it is done before the call has to be.
    pub(crate) async fn within_all<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, CallFailure> {
        before(|| self.deadline, work).await.map_err(|_| CallFailure::TooLong(self.duration))
    }

    /// The longest silence.
    pub(crate) fn silence(&self) -> Duration {
        self.silence
    }

    /// `turn`, if it comes soon. Who is asked has as long as an upstream may be silent, and who
    /// waits a little longer.
    pub(crate) fn within_turn<T>(
        &self,
        turn: impl Future<Output = T>,
    ) -> impl Future<Output = Result<T, CallFailure>> {
        let patience = self.silence.saturating_mul(2);
        let end = move || self.deadline.min(Instant::now() + patience);
        before(end, turn).map(move |done| done.map_err(|_| CallFailure::NoTurn(patience)))
    }

    /// `work`, if it is done before patience ends.
    pub(crate) fn within<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = Result<T, CallFailure>> {
        let end = || self.patience(Instant::now());
        before(end, work).map(|done| done.map_err(|_| self.failure()))
    }
}

/// Sends a request and waits for the head of its answer.
pub(crate) async fn send(
    client: &HttpClient,
    request: Request<Full<Bytes>>,
    bounds: &Bounds,
) -> Result<Response<Incoming>, CallFailure> {
    let answer = bounds.within(client.request(request)).await?;
    answer.map_err(|error| match egress::cause_of(&error) {
        Some(cause) => CallFailure::Unreachable(Arc::clone(cause)),
        None => CallFailure::Broken(egress::chain(&error)),
    })
}

/// Reads a body whole. A body of one frame is not copied.
pub(crate) async fn read_all(body: impl Answer, bounds: &Bounds) -> Result<Bytes, CallFailure> {
    let mut more = BytesMut::new();
    let only = gather(body, bounds, &mut more).await?;
    Ok(only.unwrap_or_else(|| more.freeze()))
}

/// The same of a body that is UTF-8, with the long strings of it that were found.
pub(crate) async fn read_text(
    body: impl Answer,
    bounds: &Bounds,
) -> Result<(ByteString, Vec<Span>), CallFailure> {
    let mut more = gathered::Text::default();
    match gather(body, bounds, &mut more).await? {
        Some(only) => {
            let text = ByteString::try_from(only).map_err(|_| gathered::no_text());
            text.map(|text| (text, Vec::new()))
        }
        None => more.end(),
    }
}

/// Reads a body; gives it if it has one frame at most, else `more` has all of it.
async fn gather(
    mut body: impl Answer,
    bounds: &Bounds,
    more: &mut impl Gathered,
) -> Result<Option<Bytes>, CallFailure> {
    let limit = bounds.message_max;
    if body.size_hint().lower() > limit as u64 {
        return Err(CallFailure::TooLarge { limit });
    }
    let mut first = Bytes::new();
    while let Some(frame) = next_chunk(&mut body, bounds).await? {
        if first.len() + more.len() + frame.len() > limit {
            return Err(CallFailure::TooLarge { limit });
        }
        if first.is_empty() && more.len() == 0 {
            first = frame;
            continue;
        }
        if !first.is_empty() {
            let rest = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
            more.reserve((first.len() + frame.len()).saturating_add(rest).min(limit));
            more.add(&std::mem::take(&mut first))?;
        }
        more.add(&frame)?;
    }
    Ok((more.len() == 0).then_some(first))
}

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next_chunk(
    body: &mut impl Answer,
    bounds: &Bounds,
) -> Result<Option<Bytes>, CallFailure> {
    bounds.within(chunk(body)).await?
}

/// The next bytes of a body, whenever they come; `None` at its end.
pub(crate) async fn chunk(body: &mut impl Answer) -> Result<Option<Bytes>, CallFailure> {
    loop {
        if body.is_end_stream() {
            return Ok(None);
        }
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(CallFailure::Broken(egress::chain(&error))),
            // Trailers carry nothing for us.
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data() {
                    return Ok(Some(chunk));
                }
            }
        }
    }
}

/// The beginning of a body that explains a refusal; what cannot be read is left out.
pub(crate) async fn read_refusal(mut body: impl Answer, bounds: &Bounds) -> Bytes {
    let mut out = BytesMut::new();
    while let Ok(Some(chunk)) = next_chunk(&mut body, bounds).await {
        let room = REFUSAL_MAX.saturating_sub(out.len());
        out.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if out.len() >= REFUSAL_MAX {
            break;
        }
    }
    out.freeze()
}

/// A few words of a body, fit for one line.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ").replace(|c: char| c.is_control(), "");
    if line.is_empty() {
        return "(no text)".to_owned();
    }
    match line.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// What `Content-Type` says without its parameters; compare without regard to case.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// Whether a body is a stream of events.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    media_type(headers).eq_ignore_ascii_case("text/event-stream")
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    async fn read(frames: &[&[u8]]) -> Result<(ByteString, Vec<Span>), CallFailure> {
        let frames = frames.iter().map(|frame| Ok(Frame::data(Bytes::copy_from_slice(frame))));
        let body = StreamBody::new(stream::iter(frames.collect::<Vec<hyper::Result<_>>>()));
        read_text(body, &Bounds::of_call(&Limits::default())).await
    }

    #[tokio::test]
    async fn a_long_string_is_known_however_it_is_cut() {
        let string = format!("\"{}\"", "é\\n".repeat(40_000));
        let text = format!("[\"short\",{string}]");
        for cut in [1, 3, 10, 11, 12, 100_000, text.len() - 1] {
            let (one, two) = text.as_bytes().split_at(cut);
            let (read, known) = read(&[one, two]).await.unwrap();
            assert!(read == text, "cut at {cut}");
            let known: Vec<_> = known.iter().map(|span| span.of(&read)).collect();
            assert!(known == [&*string], "cut at {cut}");
        }
        assert_eq!(read(&[b"[", b"1]"]).await.unwrap(), ("[1]".into(), Vec::new()));
        assert_eq!(read(&[]).await.unwrap(), ("".into(), Vec::new()));
    }
}
