//! MCP over HTTP+SSE (2024-11-05): one event stream down, one POST per message up. The stream
//! is the session.

mod post;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{StatusCode, Uri};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    failure::CallFailure,
    fetch::{self, Bounds},
    http::Endpoint,
    pipe::{Connection, Fresh, Guard, Link, Wanted},
    spawner::Listener as _,
    sse::{Decoder, SseEvent, TooLarge},
};
use crate::egress::OriginBody;

/// How long the stream, its first event and the handshake may take together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first event may take once the stream is there: other streams may never give one.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the event stream of an upstream.
#[derive(Debug)]
pub(crate) struct EventStream {
    endpoint: Arc<Endpoint>,
}

impl EventStream {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint }
    }

    /// Opens the stream, learns where to post, and greets the server.
    pub(crate) async fn open(&self, wanted: Wanted) -> Result<Link, CallFailure> {
        let Wanted { limits, health, owner, capabilities, era: _ } = wanted;
        let bounds = Bounds::of_step(&limits, OPEN_TIMEOUT);
        let mut stream = self.connect(&bounds).await?;
        let first = Bounds::of_step(&limits, ENDPOINT_TIMEOUT);
        let target = first.within(stream.endpoint(self.endpoint.uri())).await??;
        let (connection, input) = Connection::new(health, owner);
        let stop = CancellationToken::new();
        let reading = stream.read(Arc::clone(&connection));
        tokio::spawn(stop.clone().run_until_cancelled_owned(reading));
        let target = Arc::new(self.endpoint.at(target));
        let posting = post::post_all(target, input, Arc::clone(&connection));
        tokio::spawn(stop.clone().run_until_cancelled_owned(posting));
        let guard = Guard::Tasks { _stop: stop.drop_guard() };
        // This transport is older than the modern era, whatever version is negotiated over it.
        Fresh { connection, guard, bounds, capabilities }.greet_legacy().await
    }

    async fn connect(&self, bounds: &Bounds) -> Result<Stream, CallFailure> {
        let response = self.endpoint.listen(self.endpoint.template().clone(), None, bounds).await?;
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
        let limit = bounds.message_max;
        Ok(Stream { body: response.into_body(), decoder: Decoder::new(limit), limit })
    }
}

/// The events of one session.
struct Stream {
    body: OriginBody,
    decoder: Decoder,
    limit: usize,
}

impl Stream {
    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<SseEvent>, CallFailure> {
        loop {
            let event = self.decoder.next();
            let event = event.map_err(|TooLarge| CallFailure::TooLarge { limit: self.limit })?;
            if event.is_some() {
                return Ok(event);
            }
            match fetch::chunk(&mut self.body).await? {
                Some(chunk) => self.decoder.push(chunk),
                None => return Ok(None),
            }
        }
    }

    /// Where messages are posted: the first event says it.
    async fn endpoint(&mut self, stream: &Uri) -> Result<Uri, CallFailure> {
        let event = self.next().await?.ok_or(CallFailure::NoResponse)?;
        if event.name != "endpoint" {
            let problem = "the first event of its stream is not `endpoint`";
            return Err(CallFailure::Initialize(problem.to_owned()));
        }
        resolve(stream, &event.data).map_err(CallFailure::Initialize)
    }

    /// Hears messages until the stream ends.
    async fn read(mut self, connection: Arc<Connection>) {
        let failure = loop {
            match self.next().await {
                Ok(Some(event)) if event.name.is_empty() || event.name == "message" => {
                    if !event.data.is_empty() {
                        connection.line(event.data);
                    }
                }
                // Keep-alives of some servers have names of their own.
                Ok(Some(_)) => (),
                Ok(None) => break CallFailure::Broken("it ended its event stream".to_owned()),
                Err(failure) => break failure,
            }
        };
        connection.end(failure);
    }
}

/// Resolves what the `endpoint` event says; another origin gets none of our messages.
pub(crate) fn resolve(stream: &Uri, data: &Bytes) -> Result<Uri, String> {
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
mod tests;
