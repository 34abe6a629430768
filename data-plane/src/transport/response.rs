//! Answers as HTTP responses.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{
    body::Body,
    headers::Accepts,
    sse::{self, Stream},
};
use crate::{
    error::{self, Failure},
    exchange::Exchange,
    mcp::response::Answer,
    upstream::Event,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A plain text answer.
pub(crate) fn text(body: String, media: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::Whole(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A complete JSON-RPC response in the form that the client takes.
pub(crate) fn message(accepts: Accepts, answer: Answer) -> Response<Body> {
    match accepts {
        Accepts::Json | Accepts::Both => {
            let mut response = Response::new(Body::from(answer));
            response.headers_mut().insert(header::CONTENT_TYPE, JSON);
            response
        }
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
        Accepts::Both => match tokio::time::timeout(interval, exchange.next()).await {
            Ok(Some(Event::Response(body))) => return whole(Some(body)),
            Ok(Some(Event::Notification(message))) => Some(sse::encode(&message)),
            Ok(None) => return whole(None),
            Err(_silence) => None,
        },
    };
    events(Stream::new(exchange, first, interval))
}

fn whole(body: Option<Bytes>) -> Response<Body> {
    match body {
        Some(body) => json(StatusCode::OK, body),
        None => failure(&Failure::Internal("an exchange ended without a response"), None),
    }
}

fn events(stream: Stream) -> Response<Body> {
    let mut response = Response::new(Body::Events(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, EVENTS);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
