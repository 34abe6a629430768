//! Answers as HTTP responses.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use tokio::time::Instant;

use super::{body::Body, headers::Accepts, sse::Stream};
use crate::{
    deadline::before,
    edge::Place,
    error::{self, Failure},
    exchange::{Event, Exchange},
    mcp::{Method, Pieces, Version, code},
    sessions::channel::Reader,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = answered(body.into());
    *response.status_mut() = status;
    response
}

fn answered(answer: Pieces) -> Response<Body> {
    let mut response = Response::new(Body::Whole(answer));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Pieces::default()));
    *response.status_mut() = status;
    response
}

/// A plain text answer.
pub(crate) fn text(body: String, media: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Bytes::from(body).into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A complete JSON-RPC response in the form that the client takes.
pub(crate) fn message(accepts: Accepts, answer: Pieces) -> Response<Body> {
    match accepts {
        Accepts::Json | Accepts::Both => answered(answer),
        Accepts::Events => events(Stream::of(&answer.into_bytes())),
    }
}

/// A failed MCP request.
pub(crate) fn failure(failure: &Failure, id: Option<&[u8]>) -> Response<Body> {
    let mut response = json(failure.status(), error::response(failure, id));
    annotate(failure, &mut response);
    response
}

/// A failed request that is not MCP.
pub(crate) fn plain_failure(failure: &Failure) -> Response<Body> {
    let detail = serde_json::to_string(&failure.to_string()).unwrap_or_default();
    let mut response = json(failure.status(), format!(r#"{{"detail":{detail}}}"#).into());
    annotate(failure, &mut response);
    response
}

fn annotate(failure: &Failure, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    if let Some(seconds) = failure.retry_after() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if let Failure::Unauthenticated(_) = failure {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Failure::Method(allowed) = failure {
        headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    if let Failure::UpgradeRequired = failure {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    // The rest of such a body is not worth reading.
    if matches!(failure, Failure::BodyTooLarge { .. } | Failure::BodyTimeout | Failure::BodyBroken)
    {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// The answer of an upstream: JSON while it is one quick message and the client takes JSON, an
/// event stream from the first notification or after `interval` of silence.
pub(crate) async fn relay(
    mut exchange: Exchange,
    accepts: Accepts,
    interval: Duration,
) -> Response<Body> {
    let first = match accepts {
        Accepts::Json => return whole(exchange.response().await),
        Accepts::Events => None,
        Accepts::Both => match before(|| Instant::now() + interval, exchange.next()).await {
            Ok(Some(Event::Response(body))) => return whole(Some(body)),
            Ok(Some(message)) => Some(message),
            Ok(None) => return whole(None),
            Err(_silence) => None,
        },
    };
    events(Stream::new(exchange, first, interval))
}

/// A stream that belongs to a session.
pub(crate) fn listening(
    stream: (Reader, Place),
    version: Version,
    interval: Duration,
) -> Response<Body> {
    events(Stream::of_session(stream, version, interval))
}

fn whole(body: Option<Pieces>) -> Response<Body> {
    match body {
        Some(answer) => answered(answer),
        None => failure(&Failure::Internal("an exchange ended without a response"), None),
    }
}

fn events(stream: Stream) -> Response<Body> {
    event_stream(Body::Events(Box::new(stream)))
}

/// An answer that is an event stream.
pub(crate) fn event_stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, EVENTS);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Gives an upstream's "capability missing", and "method not found" of a method that we do not
/// know either, the status that the revision pins to it (MCP 2026-07-28, transports); all other
/// errors of upstreams stay in band.
pub(crate) fn with_pinned_status(
    mut response: Response<Body>,
    method: Option<&Method>,
) -> Response<Body> {
    // No such error is so long that it comes in several.
    let Body::Whole(Pieces::One(body)) = response.body() else { return response };
    if is_error(body, code::MISSING_CLIENT_CAPABILITY) {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    } else if let Some(Method::Unknown(_)) = method
        && is_error(body, code::METHOD_NOT_FOUND)
    {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

/// Whether an answer is an error with this code.
fn is_error(body: &[u8], wanted: i64) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        error: Option<Code>,
    }
    #[derive(Deserialize)]
    struct Code {
        code: i64,
    }
    /// No such error is longer, and no long result need be searched.
    const LONGEST: usize = 16 * 1024;
    if body.len() > LONGEST || !may_name(body, wanted) {
        return false;
    }
    let envelope = serde_json::from_slice::<Envelope>(body).ok();
    envelope.and_then(|it| it.error).is_some_and(|error| error.code == wanted)
}

fn may_name(body: &[u8], wanted: i64) -> bool {
    let text: &[u8] = match wanted {
        code::MISSING_CLIENT_CAPABILITY => b"-32021",
        _ => b"-32",
    };
    memchr::memmem::find(body, text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_error_itself_counts_as_a_missing_capability() {
        assert!(is_error(
            br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32021}}"#,
            code::MISSING_CLIENT_CAPABILITY
        ));
        for other in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"code":-32021}}"#,
            r#"{"jsonrpc":"2.0","id":-32021,"error":{"code":-32603}}"#,
        ] {
            assert!(!is_error(other.as_bytes(), code::MISSING_CLIENT_CAPABILITY), "{other}");
        }
        let missing = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601}}"#;
        assert!(is_error(missing, code::METHOD_NOT_FOUND));
    }
}
