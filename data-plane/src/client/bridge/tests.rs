//! A bridge to servers whose connections break.

use std::{net::SocketAddr, sync::Mutex as StdMutex};

use http::{HeaderValue, Response};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::{
    client::lines::{self, Feed},
    upstream::testing::{
        Body, Seen, answer, cut, json as json_answer, never, serve, sse, streamed,
    },
};

mod batches;
mod renewal;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a server was sent: methods, `response`, `batch`, or `GET` and the last event's id.
type Log = Arc<StdMutex<Vec<String>>>;

/// A bridge with an open session at a server.
struct Bridged {
    lines: Feed,
    messages: mpsc::Receiver<Bytes>,
    log: Log,
}

/// A bridge to the server at this address.
fn opened(
    address: SocketAddr,
    request_timeout: Option<Duration>,
) -> (Feed, mpsc::Receiver<Bytes>, JoinHandle<()>) {
    let url = format!("http://{address}/mcp");
    let config = BridgeConfig { url, authorization: None, request_timeout };
    let (lines, taken) = lines::input(9);
    let (messages, serving) = Bridge::new(config).unwrap().run(taken);
    (lines, messages, tokio::spawn(serving))
}

impl Bridged {
    /// At a server that does what `act` says after the handshake.
    async fn start(
        act: impl Fn(&Seen, &[String]) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        Self::at("2025-11-25", None, move |seen, log| {
            let kind = log.last().map_or("", String::as_str);
            let is_first = !matches!(kind, "initialize" | "notifications/initialized" | "GET ");
            is_first.then(|| act(seen, log))
        })
        .await
    }

    /// At a server that does what `act` says, where it says something.
    async fn at(
        version: &'static str,
        request_timeout: Option<Duration>,
        act: impl Fn(&Seen, &[String]) -> Option<Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        let log = Log::default();
        let seen_log = Arc::clone(&log);
        let address = serve(move |seen| {
            let kind = match seen.member("/method") {
                Value::String(method) => method,
                _ if seen.body.starts_with('[') => "batch".to_owned(),
                _ if seen.method == http::Method::POST => "response".to_owned(),
                _ => format!("{} {}", seen.method, seen.header("last-event-id")),
            };
            let mut log = seen_log.lock().unwrap();
            log.push(kind.clone());
            act(&seen, &log).unwrap_or_else(|| match kind.as_str() {
                "initialize" => begun("s1", json_answer(hello(version))),
                "GET " => answer(405, "", ""),
                _ => answer(202, "", ""),
            })
        })
        .await;
        let (lines, messages, _serving) = opened(address, request_timeout);
        let mut bridged = Self { lines, messages, log };
        bridged.send(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})).await;
        bridged.message().await;
        bridged.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        bridged
    }

    async fn send(&self, message: Value) {
        assert!(self.lines.send(Line::Whole(message.to_string().into())).await);
    }

    async fn call(&self) {
        self.send(
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t"}}),
        )
        .await;
    }

    async fn message(&mut self) -> Value {
        let message = tokio::time::timeout(PATIENCE, self.messages.recv()).await;
        serde_json::from_slice(&message.unwrap().unwrap()).unwrap()
    }

    fn count(&self, kind: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|it| *it == kind).count()
    }

    /// Waits until the server was sent `kind` as often as said.
    async fn heard(&self, kind: &str, times: usize) {
        let until = async {
            while self.count(kind) < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, until).await.unwrap();
    }
}

/// The answer to `initialize`.
fn hello(version: &str) -> String {
    let info = json!({"name": "s", "version": "1"});
    let result = json!({"protocolVersion": version, "capabilities": {}, "serverInfo": info});
    json!({"jsonrpc": "2.0", "id": 0, "result": result}).to_string()
}

/// The answer to `initialize` begins a session.
fn begun(session: &'static str, mut hello: Response<Body>) -> Response<Body> {
    hello.headers_mut().insert("mcp-session-id", HeaderValue::from_static(session));
    hello
}

fn count(log: &[String], kind: &str) -> usize {
    log.iter().filter(|it| *it == kind).count()
}

#[tokio::test]
async fn a_call_is_never_sent_twice_and_what_does_no_harm_until_it_is_taken() {
    let mut bridged = Bridged::start(|seen, log| {
        let is_first = |kind| count(log, kind) == 1;
        match seen.member("/method").as_str() {
            Some("tools/call") => cut(),
            Some("notifications/roots/list_changed")
                if is_first("notifications/roots/list_changed") =>
            {
                cut()
            }
            None if is_first("response") => cut(),
            _ => answer(202, "", ""),
        }
    })
    .await;
    bridged.call().await;
    let refused = bridged.message().await;
    assert_eq!(refused["id"], 1);
    assert_eq!(refused["error"]["code"], -32603, "{refused}");
    // It may run all the same.
    bridged.heard("notifications/cancelled", 1).await;
    bridged.send(json!({"jsonrpc": "2.0", "id": 7, "result": {}})).await;
    bridged.heard("response", 2).await;
    bridged.send(json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})).await;
    bridged.heard("notifications/roots/list_changed", 2).await;
    assert_eq!(bridged.count("tools/call"), 1);
}

#[tokio::test]
async fn an_id_in_use_and_an_overlong_line_are_refused_without_asking_the_server() {
    let mut bridged = Bridged::start(|seen, _| match seen.member("/method").as_str() {
        Some("tools/call") => crate::upstream::testing::hang(200, "text/event-stream", ": \n"),
        _ => answer(
            400,
            "application/json",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}"#,
        ),
    })
    .await;
    bridged.call().await;
    bridged.heard("tools/call", 1).await;
    bridged.call().await;
    let refused = bridged.message().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(1), &json!(-32600)));
    // What is wrong with an answer of the client is nothing to tell it.
    bridged.send(json!({"jsonrpc": "2.0", "id": 1, "result": {}})).await;
    bridged.heard("response", 1).await;
    assert!(bridged.lines.send(Line::TooLong { limit: 9 }).await);
    let refused = bridged.message().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(null), &json!(-32000)));
    assert_eq!(bridged.count("tools/call"), 1);
}

#[tokio::test]
async fn the_rest_of_a_broken_stream_is_fetched_however_often_that_fails() {
    let mut bridged = Bridged::start(|seen, log| {
        if seen.method == http::Method::POST {
            return sse("id: c1:0\nretry: 10\ndata:\n\nid: c1:1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n\ndata: {\"jsonrpc\"");
        }
        match (seen.header("last-event-id"), count(log, "GET c1:1")) {
            ("c1:1", 1) => answer(503, "", ""),
            ("c1:1", 2) => cut(),
            ("c1:1", _) => sse("id: c1:3\ndata:\n\n"),
            _ => sse("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n"),
        }
    })
    .await;
    bridged.call().await;
    assert_eq!(bridged.message().await["method"], "a");
    let answered = bridged.message().await;
    assert_eq!(answered, json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!((bridged.count("tools/call"), bridged.count("GET c1:1")), (1, 3));
    assert_eq!(bridged.count("GET c1:3"), 1);
}

#[tokio::test]
async fn a_call_without_events_or_with_a_forgotten_stream_ends_with_an_error() {
    for (first, resumed) in [
        ("", 0),
        ("data: {\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n\n", 0),
        ("id: c1:1\ndata:\n\n", 400),
        ("id: c1:1\ndata:\n\n", 404),
    ] {
        let mut bridged = Bridged::start(move |seen, _| match seen.member("/method").as_str() {
            Some("tools/call") => sse(first),
            Some(_) => answer(202, "", ""),
            None => answer(resumed, "", ""),
        })
        .await;
        bridged.call().await;
        let mut last = bridged.message().await;
        if last["method"] == "a" {
            last = bridged.message().await;
        }
        assert_eq!(last["id"], 1, "{last}");
        assert_eq!(last["error"]["code"], -32603, "{last}");
        assert_eq!(bridged.count("tools/call"), 1);
    }
}

#[tokio::test]
async fn what_a_server_refuses_under_an_id_of_its_own_is_answered_under_the_clients() {
    let mut bridged = Bridged::start(|seen, _| match seen.member("/method").as_str() {
        // As the Python SDK refuses what its transport does not like.
        Some("tools/call") => answer(
            406,
            "application/json",
            r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Not Acceptable"}}"#,
        ),
        _ => answer(202, "", ""),
    })
    .await;
    bridged.call().await;
    let refused = bridged.message().await;
    assert_eq!(refused["id"], 1, "{refused}");
    assert!(refused["error"]["message"].to_string().contains("Not Acceptable"), "{refused}");
}

#[tokio::test]
async fn what_a_tool_on_a_later_page_wants_in_headers_is_put_there() {
    let mut bridged = Bridged::start(move |seen, _| {
        let id = seen.member("/id");
        let say = |result: Value| {
            json_answer(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
        };
        let (method, cursor) = (seen.member("/method"), seen.member("/params/cursor"));
        match (method.as_str(), cursor.as_str()) {
            (Some("tools/list"), None) => {
                say(json!({"tools": [{"name": "other"}], "nextCursor": "2\"3"}))
            }
            (Some("tools/list"), Some("2\"3")) => {
                let region = json!({"type": "string", "x-mcp-header": "Region"});
                let schema = json!({"type": "object", "properties": {"region": region}});
                say(json!({"tools": [{"name": "t", "inputSchema": schema}]}))
            }
            (Some("tools/call"), _) if seen.header("mcp-param-region") == "eu" => say(json!({})),
            _ => {
                let error = json!({"code": -32020, "message": "Header mismatch"});
                let refusal = json!({"jsonrpc": "2.0", "id": id, "error": error});
                answer(400, "application/json", refusal.to_string())
            }
        }
    })
    .await;
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let params = json!({"name": "t", "arguments": {"region": "eu"}, "_meta": meta});
    bridged
        .send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))
        .await;
    assert_eq!(bridged.message().await["result"], json!({}));
    assert_eq!((bridged.count("tools/list"), bridged.count("tools/call")), (2, 2));
}

#[tokio::test]
async fn a_server_that_says_nothing_does_not_hold_up_the_end() {
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}});
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress"});
    for said in [vec![hello], vec![progress; 9]] {
        let (asked, mut was_asked) = mpsc::channel(99);
        let address = serve(move |_| {
            asked.try_send(()).ok();
            never()
        })
        .await;
        let (lines, _messages, serving) = opened(address, None);
        for message in said {
            assert!(lines.send(Line::Whole(message.to_string().into())).await);
        }
        was_asked.recv().await.unwrap();
        // Nothing comes any more but what is due.
        tokio::time::pause();
        let gone = tokio::time::Instant::now();
        drop(lines);
        serving.await.unwrap();
        assert!(gone.elapsed() < Duration::from_secs(10), "{:?}", gone.elapsed());
        tokio::time::resume();
    }
}

#[tokio::test]
async fn what_was_piped_in_is_answered_by_a_server_that_begins_slowly() {
    let (greeting, stream) = mpsc::channel::<Bytes>(1);
    let stream = StdMutex::new(Some(stream));
    let address = serve(move |seen| match seen.member("/method").as_str() {
        Some("initialize") => {
            let stream = stream.lock().unwrap().take().unwrap();
            begun("s1", streamed(200, "text/event-stream", ReceiverStream::new(stream)))
        }
        Some("tools/call") => {
            json_answer(json!({"jsonrpc": "2.0", "id": 1, "result": {}}).to_string())
        }
        _ => answer(202, "", ""),
    })
    .await;
    let (lines, mut messages, _serving) = opened(address, None);
    for said in [
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t"}}),
    ] {
        assert!(lines.send(Line::Whole(said.to_string().into())).await);
    }
    drop(lines);
    // Later than answers are waited for when nobody else will ask.
    tokio::time::sleep(GRACE + Duration::from_millis(500)).await;
    greeting.send(format!("data: {}\n\n", hello("2025-11-25")).into()).await.unwrap();
    drop(greeting);
    for id in [0, 1] {
        let message: Value = serde_json::from_slice(&messages.recv().await.unwrap()).unwrap();
        assert_eq!(message["id"], id, "{message}");
    }
}

#[tokio::test]
async fn what_a_server_said_counts_more_than_what_it_does_not_list() {
    let refusal =
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32020, "message": "no region"}});
    let told = refusal.to_string();
    let mut bridged = Bridged::start(move |seen, _| match seen.member("/method").as_str() {
        Some("tools/call") => answer(400, "application/json", told.clone()),
        _ => answer(500, "", ""),
    })
    .await;
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let params = json!({"name": "t", "arguments": {}, "_meta": meta});
    bridged
        .send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))
        .await;
    assert_eq!(bridged.message().await, refusal);
    assert_eq!(bridged.count("tools/list"), 1);
}
