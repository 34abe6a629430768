//! HTTP+SSE of 2024-11-05: a stream that carries everything to the client, and the path where
//! its messages are posted.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dashmap::DashMap;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use pingora::server::ShutdownWatch;

use super::{Client, Edge, parse};
use crate::{
    error::Failure,
    route::Endpoint,
    session,
    transport::{
        body::{self, Body},
        headers,
        pipe::{self, Over, Pipe},
        response, sse,
    },
};

/// The name of the id in the endpoint's query.
const PARAMETER: &str = "session_id";

/// Open streams. An id is as good as a password for sending, so the principal counts as well.
pub(super) type Streams = DashMap<String, Arc<Pipe>>;

/// A stream's place in the table.
struct Listed {
    streams: Arc<Streams>,
    id: String,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.streams.remove(&self.id);
    }
}

impl Edge {
    /// `GET /sse`: opens the stream. Its end is the end of the session.
    pub(super) async fn events(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: &Client,
        endpoint: Endpoint,
    ) -> Result<Response<Body>, Failure> {
        let sender = self.sender(request.headers(), client, endpoint).await?;
        if request.method() != Method::GET {
            return Err(Failure::Method("GET"));
        }
        let end = self.pipe(&sender)?;
        let id = hex::encode(session::new_id());
        self.streams.insert(id.clone(), Arc::clone(&end.pipe));
        let path = self.root_path.messages(request.uri().path());
        let first = format!("event: endpoint\ndata: {path}?{PARAMETER}={id}\n\n");
        let events = Events {
            first: Some(first.into()),
            over: pipe::over(&end.pipe),
            closing: self.drain.closing(),
            interval: self.timeouts.keep_alive,
            _listed: Listed { streams: Arc::clone(&self.streams), id },
            end,
        };
        let chunks = stream::unfold(events, |mut events| async move {
            let chunk = events.next().await?;
            Some((chunk, events))
        });
        Ok(response::event_stream(Body::Open(Box::pin(chunks))))
    }

    /// `POST /message`: one message of the client of an open stream.
    pub(super) async fn message(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: &Client,
        endpoint: Endpoint,
        id: &mut Option<Bytes>,
    ) -> Result<Response<Body>, Failure> {
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        let sender = self.sender(headers, client, endpoint).await?;
        if parts.method != Method::POST {
            return Err(Failure::Method("POST"));
        }
        headers::check_content(headers)?;
        let stream = stream_of(parts.uri.query().unwrap_or_default());
        let stream = stream.and_then(|id| self.streams.get(id).map(|pipe| Arc::clone(&pipe)));
        let pipe = stream
            .filter(|pipe| pipe.is_of(&sender.principal, &sender.endpoint))
            .ok_or(Failure::StreamUnknown)?;
        let body = body::read(headers, body, self.limits.body_bytes, self.timeouts.body).await?;
        pipe.take(parse(body, id)?).await?;
        Ok(response::empty(StatusCode::ACCEPTED))
    }
}

/// The stream's id in a query; `sessionId` is how some servers, and so some clients, spell it.
fn stream_of(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        matches!(name, PARAMETER | "sessionId").then_some(value)
    })
}

/// What goes to the client, one event after the other.
struct Events {
    first: Option<Bytes>,
    over: Over,
    closing: ShutdownWatch,
    interval: Duration,
    _listed: Listed,
    end: pipe::End,
}

impl Events {
    /// The next chunk; `None` when the stream has to end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let pipe = Arc::clone(&self.end.pipe);
        tokio::select! {
            biased;
            message = self.end.messages.recv() => message.map(|message| sse::encode(&message)),
            _ = &mut self.over => None,
            () = pipe.last_calls(&mut self.closing) => None,
            () = tokio::time::sleep(self.interval) => Some(sse::COMMENT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_the_id_are_read() {
        assert_eq!(stream_of("session_id=a1"), Some("a1"));
        assert_eq!(stream_of("x=1&sessionId=b2"), Some("b2"));
        assert_eq!(stream_of("session=c3"), None);
        assert_eq!(stream_of(""), None);
    }
}
