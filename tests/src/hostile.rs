//! MCP servers that misbehave in one way each, and one that shows what reached it.

mod counts;
mod floods;
mod pipes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, Notify};

use crate::http_server::{Body, HttpServer, answer, empty, json};

pub use counts::Counts;
pub use pipes::{Piped, serve_stdio};

/// What a server does when its tool `act` is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Shows the request in the result, byte for byte, beside fields that no library knows.
    Shows,
    /// Logs a line on the call's stream; once told to go on another one, and answers.
    Logs,
    /// Never answers.
    Hangs,
    /// Answers with the id of another request.
    WrongId,
    /// Answers with something that is not JSON.
    BadJson,
    /// Streams notifications for ever and never the response.
    EndlessEvents,
    /// Streams a JSON result of one gigabyte.
    HugeBody,
    /// Closes the connection after it has read the request.
    CutsOff,
    /// Answers with status 500 and a page.
    Fails,
    /// Never answers `tools/list`; calls are fine.
    SlowList,
    /// Answers, and goes on: it asks, reports progress, and answers once more.
    GoesOn,
    /// Sends thousands of notifications before it answers.
    Floods,
    /// Answers, and talks outside of calls for as long as anybody reads it.
    FloodsAside,
    /// Has one tool more with each call, and says so before it answers.
    ChangesTools,
    /// Answers `server/discover` like a modern server and serves only legacy requests.
    ClaimsModern,
}

/// A running server and what it has seen.
pub struct Upstream {
    server: HttpServer,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    counts: Counts,
    last_headers: Mutex<HeaderMap>,
    last_body: Mutex<Bytes>,
    go: Notify,
}

impl Upstream {
    /// Starts one on any port.
    pub async fn start(behaviour: Behaviour) -> anyhow::Result<Self> {
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let server =
            HttpServer::start(move |request| serve(behaviour, Arc::clone(&shared), request))
                .await?;
        Ok(Self { server, seen })
    }

    /// Its MCP endpoint.
    pub fn url(&self) -> String {
        self.server.url("/mcp")
    }

    /// How often its tool was called.
    pub fn calls(&self) -> u64 {
        self.seen.counts.calls()
    }

    /// What it has done and was told.
    pub fn counts(&self) -> &Counts {
        &self.seen.counts
    }

    /// Lets one call go on that waits for that, now or when it comes to it.
    pub fn go_on(&self) {
        self.seen.go.notify_one();
    }

    /// The headers of the last call.
    pub async fn last_headers(&self) -> HeaderMap {
        self.seen.last_headers.lock().await.clone()
    }

    /// The body of the last call.
    pub async fn last_body(&self) -> Bytes {
        self.seen.last_body.lock().await.clone()
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    method: String,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

async fn serve(
    behaviour: Behaviour,
    seen: Arc<Seen>,
    request: Request<Incoming>,
) -> Response<Body> {
    if request.method() == http::Method::GET && behaviour == Behaviour::FloodsAside {
        let events = stream::iter(0..).map(move |number| {
            seen.counts.one_more_said();
            let message = floods::message(number);
            Ok(Frame::data(Bytes::from(format!("event: message\ndata: {message}\n\n"))))
        });
        return streamed("text/event-stream", events);
    }
    if request.method() != http::Method::POST {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return empty(StatusCode::BAD_REQUEST) };
    let body = body.to_bytes();
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&body) else {
        seen.counts.note_answer(&body);
        return empty(StatusCode::ACCEPTED);
    };
    let Some(id) = envelope.id.map(RawValue::get) else { return empty(StatusCode::ACCEPTED) };
    if let (Behaviour::FloodsAside, Some(said)) = (behaviour, floods::answer(&envelope.method)) {
        let mut response = result(id, said);
        response.headers_mut().insert("mcp-session-id", http::HeaderValue::from_static("flood"));
        return response;
    }
    match envelope.method.as_str() {
        "initialize" => result(id, INITIALIZED),
        "server/discover" if behaviour == Behaviour::ClaimsModern => result(id, DISCOVERED),
        "tools/list" if behaviour == Behaviour::SlowList => std::future::pending().await,
        "tools/list" => result(id, &tools(behaviour, seen.counts.calls())),
        "tools/call" => {
            seen.counts.one_more_call();
            *seen.last_headers.lock().await = parts.headers;
            *seen.last_body.lock().await = body.clone();
            act(behaviour, id, &body, &seen).await
        }
        "ping" => result(id, "{}"),
        _ => error(id, -32601, "Method not found"),
    }
}

const INITIALIZED: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"hostile","version":"1"}}"#;
const DISCOVERED: &str = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"liar","version":"1"}}}"#;
/// The tools as they are now.
fn tools(behaviour: Behaviour, calls: u64) -> String {
    if behaviour != Behaviour::ChangesTools || calls == 0 {
        return TOOLS.to_owned();
    }
    let new = format!(r#"{{"tools":[{{"name":"new-{calls}","inputSchema":{{"type":"object"}}}},"#);
    TOOLS.replacen(r#"{"tools":["#, &new, 1)
}

/// How many notifications a flood has.
pub const FLOOD: usize = 3000;

/// What is said to a call by those who say more than the answer.
fn speech(behaviour: Behaviour, id: &str) -> Option<Vec<String>> {
    let answer = |text: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#
        )
    };
    let notice = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{params}}}"#)
    };
    Some(match behaviour {
        Behaviour::GoesOn => vec![
            answer("done"),
            r#"{"jsonrpc":"2.0","id":900,"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1}}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":901,"method":"elicitation/create","params":{"message":"Who?","requestedSchema":{"type":"object","properties":{}}}}"#.to_owned(),
            notice("progress", r#"{"progressToken":1,"progress":2}"#),
            answer("done again"),
        ],
        Behaviour::Floods => {
            let log = notice("message", r#"{"level":"error","data":"more"}"#);
            let progress = notice("progress", r#"{"progressToken":"t","progress":1}"#);
            let pairs = std::iter::repeat_n([log, progress], FLOOD / 2);
            let mut flood: Vec<_> = pairs.flatten().collect();
            flood.push(answer("done"));
            flood
        }
        Behaviour::FloodsAside => vec![answer("done")],
        Behaviour::ChangesTools => vec![notice("tools/list_changed", "{}"), answer("done")],
        _ => return None,
    })
}

const TOOLS: &str = r#"{"tools":[{"name":"act","description":"Acts","inputSchema":{"type":"object","properties":{"limit":{"type":"number","maximum":12345678901234567890123456789}},"x-unknown":1e2},"x-vendor":{"b":1,"a":1.0}}]}"#;

fn result(id: &str, result: &str) -> Response<Body> {
    json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

fn error(id: &str, code: i32, message: &str) -> Response<Body> {
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#);
    json(body)
}

async fn act(behaviour: Behaviour, id: &str, body: &Bytes, seen: &Arc<Seen>) -> Response<Body> {
    if let Some(messages) = speech(behaviour, id) {
        let events = messages.into_iter().map(|message| {
            Ok(Frame::data(Bytes::from(format!("event: message\ndata: {message}\n\n"))))
        });
        return streamed("text/event-stream", stream::iter(events));
    }
    match behaviour {
        Behaviour::Shows
        | Behaviour::SlowList
        | Behaviour::GoesOn
        | Behaviour::Floods
        | Behaviour::FloodsAside
        | Behaviour::ChangesTools => {
            let shown = String::from_utf8_lossy(body);
            result(
                id,
                &format!(
                    r#"{{"content":[],"seen":{shown},"big":123456789012345678901234567890,"exact":1.10e+2,"z":{{"b":1,"a":2}}}}"#
                ),
            )
        }
        Behaviour::Logs => logging(id, Arc::clone(seen)),
        Behaviour::Hangs => std::future::pending().await,
        Behaviour::WrongId => result("987654321", r#"{"content":[]}"#),
        Behaviour::BadJson => json(r#"{"jsonrpc":"2.0","id":1,"result":{"content":["#),
        Behaviour::EndlessEvents => endless_events(),
        Behaviour::HugeBody => huge_body(id),
        Behaviour::CutsOff => cut_off(),
        Behaviour::Fails => answer(StatusCode::INTERNAL_SERVER_ERROR, "text/html", "<h1>no</h1>"),
        // It said that it is modern, so a modern call must be served; it is not.
        Behaviour::ClaimsModern => {
            let text = String::from_utf8_lossy(body);
            if text.contains("io.modelcontextprotocol/protocolVersion") {
                return error(id, -32601, "Method not found");
            }
            result(id, r#"{"content":[{"type":"text","text":"legacy after all"}]}"#)
        }
    }
}

fn logging(id: &str, seen: Arc<Seen>) -> Response<Body> {
    let log = |line: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{line}","x":1e2}}}}"#
        )
    };
    let end = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#);
    let second = async move {
        seen.go.notified().await;
        log("two")
    };
    let messages =
        stream::iter([log("one")]).chain(stream::once(second)).chain(stream::iter([end]));
    let events = messages.map(|message| {
        Ok(Frame::data(Bytes::from(format!("event: message\ndata: {message}\n\n"))))
    });
    streamed("text/event-stream", events)
}

fn endless_events() -> Response<Body> {
    let event = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"more\"}}\n\n";
    let events = stream::repeat(Bytes::from_static(event.as_bytes())).then(|event| async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(Frame::data(event))
    });
    streamed("text/event-stream", events)
}

fn huge_body(id: &str) -> Response<Body> {
    const PIECE: usize = 1 << 20;
    let start =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":""#);
    let piece = Bytes::from(vec![b'a'; PIECE]);
    let pieces = stream::iter(std::iter::repeat_n(piece, 1024));
    let body = stream::once(async move { Bytes::from(start) })
        .chain(pieces)
        .chain(stream::once(async { Bytes::from_static(br#""}]}}"#) }))
        .map(|piece| Ok(Frame::data(piece)));
    streamed("application/json", body)
}

/// Announces more than it sends, so that hyper cuts the connection.
fn cut_off() -> Response<Body> {
    let mut response = json(Bytes::new());
    let body = stream::once(async { Ok(Frame::data(Bytes::from_static(b"{"))) });
    *response.body_mut() = StreamBody::new(body).boxed_unsync();
    response
        .headers_mut()
        .insert(http::header::CONTENT_LENGTH, http::HeaderValue::from_static("999"));
    response
}

fn streamed(
    kind: &'static str,
    frames: impl stream::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send + 'static,
) -> Response<Body> {
    let mut response = answer(StatusCode::OK, kind, Bytes::new());
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    response
}
