//! What the programs of the benchmark agree on, and how they measure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Signs the token of the run; both proxies know it.
pub const SECRET: &str = "a benchmark needs a secret of thirty-two bytes";
/// The tool as clients name it.
pub const CLIENT_TOOL: &str = "weather-get_forecast";
/// The tool as the upstream names it.
pub const UPSTREAM_TOOL: &str = "get_forecast";
/// What the upstream answers to each call.
pub const RESULT: &str = r#""result":{"content":[{"type":"text","text":"{\"forecast\":\"sunny\",\"temp\":21.5,\"unit\":\"C\",\"city\":\"Dublin\"}"}],"isError":false}"#;
/// Size of the body of one call.
pub const BODY_BYTES: usize = 303;

/// How clients of the legacy era begin.
pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;

/// Claims as ContextForge signs them.
#[derive(Serialize, Deserialize)]
pub struct Claims {
    /// Whom the token stands for.
    pub username: String,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
}

/// One client: one connection and one MCP session.
pub struct Session {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    path: String,
    token: String,
    tool: &'static str,
    id: Option<header::HeaderValue>,
    next: u64,
}

impl Session {
    /// Connects and initializes; calls will name `tool`.
    pub async fn open(url: &str, token: &str, tool: &'static str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://").context("the benchmark speaks plain http")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut session = Self {
            sender,
            authority: authority.to_owned(),
            path: format!("/{path}"),
            token: format!("Bearer {token}"),
            tool,
            id: None,
            next: 0,
        };
        session.post(INITIALIZE.to_owned()).await?;
        session
            .post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned())
            .await?;
        Ok(session)
    }

    /// Sends one message and gives the body of the answer.
    pub async fn post(&mut self, body: String) -> anyhow::Result<Bytes> {
        let response = self.send(body).await?;
        if let Some(id) = response.headers().get("mcp-session-id") {
            self.id = Some(id.clone());
        }
        Ok(response.into_body().collect().await?.to_bytes())
    }

    /// Opens the stream for what belongs to no call.
    pub async fn listen(&mut self) -> anyhow::Result<Incoming> {
        let request = Request::get(&self.path).header(header::ACCEPT, "text/event-stream");
        Ok(self.exchange(request, Bytes::new()).await?.into_body())
    }

    async fn send(&mut self, body: String) -> anyhow::Result<Response<Incoming>> {
        let request = Request::post(&self.path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        self.exchange(request, body.into()).await
    }

    async fn exchange(
        &mut self,
        request: http::request::Builder,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = request
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, &self.token);
        if let Some(id) = &self.id {
            request = request.header("mcp-session-id", id);
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(body))?).await?;
        let status = response.status();
        ensure!(status.is_success(), "status {status}");
        Ok(response)
    }

    /// Makes a call that tells of its progress so many times: microseconds that each event took.
    pub async fn delays(&mut self, events: u64) -> anyhow::Result<Histogram<u64>> {
        self.next += 1;
        let body = streaming_body(self.tool, self.next, events);
        let mut stream = self.send(body).await?.into_body();
        let (mut delays, mut text) = (Histogram::new(3)?, String::new());
        while let Some(frame) = stream.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let now = nanoseconds()?;
            text.push_str(std::str::from_utf8(&data)?);
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                if let Some(sent) = sent_at(&event) {
                    delays.record(now.saturating_sub(sent) / 1000)?;
                }
            }
        }
        ensure!(delays.len() == events, "{} of {events} events came", delays.len());
        Ok(delays)
    }

    /// Calls the tool once and checks the answer.
    pub async fn call(&mut self) -> anyhow::Result<()> {
        self.next += 1;
        let id = self.next;
        let body = call_body(self.tool, id);
        let answer = self.post(body).await?;
        let text = std::str::from_utf8(&answer)?;
        let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"#);
        let right =
            text.strip_prefix(&head).and_then(|rest| rest.strip_suffix('}')) == Some(RESULT);
        ensure!(right, "call {id} was answered with {text}");
        Ok(())
    }
}

/// A call whose upstream tells of its progress `events` times.
pub fn streaming_body(tool: &str, id: u64, events: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"events":{events}}},"_meta":{{"progressToken":"p"}}}}}}"#
    )
}

/// The message of one event of such a call, sent now.
pub fn progress(number: u64) -> anyhow::Result<String> {
    let now = nanoseconds()?;
    Ok(format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"p","progress":{number},"message":"sent {now}"}}}}"#
    ))
}

/// When a message of [`progress`] was sent; `None` if it is another.
fn sent_at(event: &str) -> Option<u64> {
    let (_, rest) = event.split_once("\"sent ")?;
    rest.split_once('"')?.0.parse().ok()
}

fn nanoseconds() -> anyhow::Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

/// One call, always of the same size.
pub fn call_body(tool: &str, id: u64) -> String {
    let head = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"city":"Dublin","unit":"C","note":""#
    );
    let tail = r#""},"_meta":{"progressToken":"p"}}}"#;
    let filling = BODY_BYTES.saturating_sub(head.len() + tail.len());
    format!("{head}{}{tail}", "x".repeat(filling))
}

/// What one slice of the run gave.
pub struct Slice {
    /// Calls that were answered.
    pub calls: u64,
    /// How long the slice took.
    pub took: Duration,
    /// Microseconds per call.
    pub latency: Histogram<u64>,
}

/// Lets all sessions call for `length`, each waiting for its answers.
pub async fn slice(
    sessions: Vec<Session>,
    length: Duration,
) -> anyhow::Result<(Vec<Session>, Slice)> {
    let begun = Instant::now();
    let tasks: Vec<_> =
        sessions.into_iter().map(|session| tokio::spawn(drive(session, begun + length))).collect();
    let (mut sessions, mut latency) = (Vec::new(), Histogram::new(3)?);
    for task in tasks {
        let (session, own) = task.await??;
        sessions.push(session);
        latency.add(&own)?;
    }
    Ok((sessions, Slice { calls: latency.len(), took: begun.elapsed(), latency }))
}

async fn drive(mut session: Session, end: Instant) -> anyhow::Result<(Session, Histogram<u64>)> {
    let mut latency = Histogram::new(3)?;
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok((session, latency));
        }
        session.call().await?;
        latency.record(u64::try_from(begun.elapsed().as_micros())?)?;
    }
}

/// CPU time that all threads of a process have used.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let times = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let running = times.split_whitespace().next().context("empty schedstat")?;
        nanoseconds += running.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_when_it_was_sent() {
        let before = nanoseconds().unwrap();
        let event = format!("data: {}\n\n", progress(1).unwrap());
        assert!(sent_at(&event).unwrap() >= before);
        assert_eq!(sent_at("data: {}\n\n"), None);
    }

    #[test]
    fn every_call_has_the_announced_size() {
        for id in [1, 99, 1_000_000] {
            assert_eq!(call_body(CLIENT_TOOL, id).len(), BODY_BYTES);
            assert!(
                serde_json::from_str::<serde_json::Value>(&call_body(UPSTREAM_TOOL, id)).is_ok()
            );
        }
    }
}
