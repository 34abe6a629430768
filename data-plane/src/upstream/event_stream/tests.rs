//! Calls over event streams of servers that behave well or badly.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use proto::{resource::UpstreamResource, upstream::Transport};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{post::POST_TIMEOUT, *};
use crate::upstream::Limits;
use crate::upstream::testing::{
    Body, Proxy, Seen, answer, hang, legacy_call, limits, modern_call, never, serve, streamed,
    upstream,
};

type Stream = mpsc::Sender<Bytes>;

/// An HTTP+SSE server whose `act` says what happens to a `tools/call`.
struct Server {
    address: std::net::SocketAddr,
    streams: Arc<AtomicUsize>,
    /// Methods of what was posted, in their order.
    posted: Arc<Mutex<Vec<String>>>,
}

fn event(message: &Value) -> Bytes {
    format!("event: message\ndata: {message}\n\n").into()
}

fn result(id: &Value, result: &Value) -> Bytes {
    event(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

fn accepted() -> Response<Body> {
    answer(202, "", "Accepted")
}

async fn server(act: impl Fn(&Seen, &Stream) -> Response<Body> + Send + Sync + 'static) -> Server {
    let streams = Arc::new(AtomicUsize::new(0));
    let posted = Arc::new(Mutex::new(Vec::new()));
    let open: Mutex<Vec<Stream>> = Mutex::default();
    let (opened, seen_methods) = (Arc::clone(&streams), Arc::clone(&posted));
    let handler = move |seen: Seen| {
        if seen.method == http::Method::GET {
            let (sender, events) = mpsc::channel(64);
            let n = opened.fetch_add(1, Ordering::SeqCst);
            sender.try_send(format!("event: endpoint\ndata: message?n={n}\n\n").into()).unwrap();
            sender.try_send("event: keepalive\ndata: {}\n\n".into()).unwrap();
            open.lock().unwrap().push(sender);
            return streamed(200, "text/event-stream", ReceiverStream::new(events));
        }
        let method = seen.member("/method").as_str().unwrap_or("answer").to_owned();
        seen_methods.lock().unwrap().push(method.clone());
        let Some(n) = seen.uri.strip_prefix("/message?n=") else {
            return answer(405, "text/plain", "Method Not Allowed");
        };
        let stream = open.lock().unwrap()[n.parse::<usize>().unwrap()].clone();
        let id = seen.member("/id");
        match method.as_str() {
            "initialize" => {
                let info = json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {}});
                stream.try_send(result(&id, &info)).unwrap();
                accepted()
            }
            "tools/call" => act(&seen, &stream),
            _ => accepted(),
        }
    };
    Server { address: serve(handler).await, streams, posted }
}

impl Server {
    fn upstream(&self) -> UpstreamResource {
        let url = format!("http://{}/sse", self.address).parse().unwrap();
        upstream(Transport::Sse { url })
    }

    /// The same, registered as any HTTP URL is.
    fn any_http(&self) -> UpstreamResource {
        let url = format!("http://{}/sse", self.address).parse().unwrap();
        upstream(Transport::Http { url })
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}

fn echo(seen: &Seen, stream: &Stream) -> Response<Body> {
    stream.try_send(result(&seen.member("/id"), &seen.member("/params/arguments"))).unwrap();
    accepted()
}

#[tokio::test]
async fn calls_of_one_session_share_a_stream_and_others_have_their_own() {
    let server = server(echo).await;
    let proxy = Proxy::patient(server.upstream());
    let (one, two) = tokio::join!(
        proxy.run(legacy_call("\"same\"", r#"{"n":1}"#)),
        proxy.run(legacy_call("\"same\"", r#"{"n":2}"#))
    );
    assert_eq!(one, [r#"{"id":"same","jsonrpc":"2.0","result":{"n":1}}"#]);
    assert_eq!(two, [r#"{"id":"same","jsonrpc":"2.0","result":{"n":2}}"#]);
    assert_eq!(server.streams(), 1);
    proxy.run(modern_call("1", "{}")).await;
    assert_eq!(server.streams(), 2);
    let posted = server.posted.lock().unwrap().clone();
    assert_eq!(posted[..3], ["initialize", "notifications/initialized", "tools/call"]);
}

#[tokio::test]
async fn progress_comes_under_the_clients_token_and_questions_are_answered() {
    let proxy = Proxy::patient(
        server(|seen, stream| {
            let token = seen.member("/params/_meta/progressToken");
            let progress = json!({"progressToken": token, "progress": 1});
            let method = "notifications/progress";
            stream
                .try_send(event(&json!({"jsonrpc": "2.0", "method": method, "params": progress})))
                .unwrap();
            stream
                .try_send(event(&json!({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {}})))
                .unwrap();
            stream.try_send(result(&seen.member("/id"), &json!({}))).unwrap();
            accepted()
        })
        .await
        .upstream(),
    );
    let events = proxy.run(legacy_call("1", "{}")).await;
    assert!(events[0].contains(r#""progressToken":"tok""#), "{events:?}");
    assert!(events[1].starts_with("request "), "{events:?}");
    assert!(events[2].starts_with("response "), "{events:?}");
}

#[tokio::test]
async fn a_server_that_has_only_an_event_stream_is_found_out() {
    let server = server(echo).await;
    let proxy = Proxy::patient(server.any_http());
    let answer = proxy.run(legacy_call("1", r#"{"n":1}"#)).await;
    assert_eq!(answer, [r#"{"id":1,"jsonrpc":"2.0","result":{"n":1}}"#]);
    let posts = server.posted.lock().unwrap().len();
    proxy.run(legacy_call("2", "{}")).await;
    assert_eq!(server.posted.lock().unwrap().len(), posts + 1, "it was asked again");
}

#[tokio::test]
async fn a_stream_that_ended_between_calls_is_opened_again() {
    let server = server(echo).await;
    let proxy = Proxy::patient(server.upstream());
    proxy.run(legacy_call("1", "{}")).await;
    let lost = server.posted.lock().unwrap().len();
    // The session is unknown: what was posted has not been done.
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let forgetful =
        self::server(move |seen, stream| match counted.fetch_add(1, Ordering::SeqCst) {
            1 => answer(404, "text/plain", "Session not found"),
            _ => echo(seen, stream),
        })
        .await;
    assert!(lost > 0);
    let proxy = Proxy::patient(forgetful.upstream());
    for id in ["1", "2", "3"] {
        let answer = proxy.run(legacy_call(id, "{}")).await;
        assert_eq!(answer, [format!(r#"{{"id":{id},"jsonrpc":"2.0","result":{{}}}}"#)]);
    }
    assert_eq!(forgetful.streams(), 2);
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[track_caller]
fn check(answer: &[String], expected: &str) {
    assert!(answer[0].contains(expected), "{answer:?}");
}

#[tokio::test]
async fn each_failure_is_told_as_what_it_is() {
    let refuses = server(|_, _| answer(500, "text/html", "<h1>no</h1>")).await;
    check(
        &Proxy::patient(refuses.upstream()).run(legacy_call("1", "{}")).await,
        "answered HTTP 500: <h1>no</h1>",
    );
    let huge = server(|_, stream| {
        stream.try_send(Bytes::from(vec![b'a'; 200_000])).unwrap();
        accepted()
    })
    .await;
    check(
        &Proxy::patient(huge.upstream()).run(legacy_call("1", "{}")).await,
        "sent a message of more than 100000 bytes",
    );
    let lies = server(|_, stream| {
        stream.try_send(result(&json!(987_654), &json!({}))).unwrap();
        accepted()
    })
    .await;
    check(
        &Proxy::patient(lies.upstream()).run(legacy_call("1", "{}")).await,
        "answered with the id of another request",
    );
    let silent = server(|_, _| accepted()).await;
    let begun = Instant::now();
    check(&Proxy::new(silent.upstream()).run(legacy_call("1", "{}")).await, "was silent for");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_server_that_never_accepts_one_message_does_not_hold_up_the_next() {
    let server = server(|seen, stream| {
        if seen.member("/params/arguments/slow").is_null() {
            return echo(seen, stream);
        }
        hang(200, "text/plain", "working")
    })
    .await;
    let proxy = Proxy::patient(server.upstream());
    let slow = proxy.run(legacy_call("1", r#"{"slow":1}"#));
    let begun = Instant::now();
    let quick = async {
        while !server.posted.lock().unwrap().iter().any(|method| method == "tools/call") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.run(legacy_call("2", r#"{"n":2}"#)).await
    };
    tokio::select! {
        answer = slow => panic!("{answer:?}"),
        answer = quick => check(&answer, r#""result":{"n":2}"#),
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_server_that_accepts_a_call_only_when_it_is_done_may_take_its_time() {
    let called = Arc::new(Mutex::new(None));
    let seen_call = Arc::clone(&called);
    let server = server(move |seen, stream| {
        *seen_call.lock().unwrap() = Some((seen.member("/id"), stream.clone()));
        never()
    })
    .await;
    let patient = Limits { call_timeout: Duration::from_mins(2), ..limits() };
    let proxy = Proxy::limited(vec![server.upstream()], Vec::new(), patient);
    let work = async {
        let (id, stream) = loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if let Some(called) = called.lock().unwrap().take() {
                break called;
            }
        };
        for _ in 0..2 {
            tokio::time::pause();
            tokio::time::advance(POST_TIMEOUT + Duration::from_secs(1)).await;
            tokio::time::resume();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stream.try_send(result(&id, &json!({"done": true}))).unwrap();
    };
    let (answer, ()) = tokio::join!(proxy.run(legacy_call("1", "{}")), work);
    check(&answer, r#""result":{"done":true}"#);
}

#[tokio::test]
async fn a_page_that_is_no_event_stream_is_refused() {
    let page = serve(|_| answer(200, "text/html", "<h1>hello</h1>")).await;
    let url = format!("http://{page}/").parse().unwrap();
    let proxy = Proxy::patient(upstream(Transport::Sse { url }));
    check(&proxy.run(legacy_call("1", "{}")).await, "content type `text/html`");
    let other = serve(|_| {
        let first = Bytes::from("event: endpoint\ndata: http://127.0.0.1:1/message\n\n");
        streamed(200, "text/event-stream", stream::iter([first]))
    })
    .await;
    let url = format!("http://{other}/").parse().unwrap();
    let proxy = Proxy::patient(upstream(Transport::Sse { url }));
    check(&proxy.run(legacy_call("1", "{}")).await, "its endpoint is on another origin");
}
