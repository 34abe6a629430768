//! HTTP+SSE of 2024-11-05: a stream that carries everything to the client, and the path where
//! its messages are posted.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dashmap::DashMap;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use pingora::server::ShutdownWatch;
use proto::resource::ProxyResource;

use super::{Client, Edge, elsewhere::Asked, parse};
use crate::{
    connection::Door,
    engine::Sender,
    error::Failure,
    ownership,
    route::Endpoint,
    session,
    transport::{
        body::{self, Body},
        headers,
        pipe::{self, Over, Pipe},
        response, sse,
    },
};

/// Characters of a stream's own id; behind it stands the tag of its proxy.
const ID_LENGTH: usize = 32;
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
        let (parts, _) = request.into_parts();
        let sender = self.sender(&parts.headers, client, endpoint).await?;
        if parts.method != Method::GET {
            return Err(Failure::Method("GET"));
        }
        if let Some(answer) = self.stream_at_host(&sender, &parts).await? {
            return Ok(answer);
        }
        let end = self.pipe(&sender)?;
        let (id, own) = (hex::encode(session::new_id()), ownership::tag(&self.proxy_id));
        let id = format!("{id}{own}");
        self.streams.insert(id.clone(), Arc::clone(&end.pipe));
        let path = self.root_path.messages(parts.uri.path());
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
        let stream_id = stream_of(parts.uri.query().unwrap_or_default());
        let stream_id = stream_id.ok_or(Failure::StreamUnknown)?;
        let stream = self.streams.get(stream_id).map(|pipe| Arc::clone(&pipe));
        let owner = if stream.is_none() { self.owner_of(&sender, stream_id) } else { None };
        if let Some(owner) = owner {
            let body =
                body::read(headers, body, self.limits.body_bytes, self.timeouts.body).await?;
            let answer = self.first_of(&[owner], &sender, &parts, Asked::Batch(&body)).await?;
            return answer.ok_or(Failure::StreamUnknown);
        }
        let pipe = stream
            .filter(|pipe| pipe.is_of(&sender.principal, &sender.endpoint))
            .ok_or(Failure::StreamUnknown)?;
        let body = body::read(headers, body, self.limits.body_bytes, self.timeouts.body).await?;
        match pipe.batch_in(&body) {
            Some(batch) => Box::pin(pipe.take_all(batch?)).await?,
            None => pipe.take(parse(body, id)?).await?,
        }
        Ok(response::empty(StatusCode::ACCEPTED))
    }
}

impl Edge {
    /// The other proxy that holds a stream, as its id tells.
    fn owner_of(&self, sender: &Sender<'_>, stream_id: &str) -> Option<Arc<ProxyResource>> {
        // One hop: who was asked by another proxy would know the stream.
        if sender.client.door == Door::Peer {
            return None;
        }
        let tag = stream_id.get(ID_LENGTH..).filter(|tag| !tag.is_empty())?;
        let mut others = sender.table.proxies().filter(|proxy| proxy.id != self.proxy_id);
        others.find(|proxy| ownership::tag(&proxy.id) == tag).cloned()
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
