//! Calls over sockets of servers that behave well or badly.

use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;
use proto::{resource::UpstreamResource, upstream::Transport};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{
    handshake::server::{Request as Upgrade, Response as Upgraded},
    protocol::{CloseFrame, Role, frame::coding::CloseCode},
};

use super::*;
use crate::upstream::{
    active::Adapter,
    testing::{Proxy, answer, legacy_call, modern_call, serve, upstream},
};

type Peer = WebSocketStream<TcpStream>;

/// What a server knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subprotocol {
    Mcp,
    None,
}

/// A server that says on each socket what `act` makes of a `tools/call`; the sockets so far.
async fn server<F>(subprotocol: Subprotocol, act: F) -> (UpstreamResource, Arc<AtomicUsize>)
where
    F: Fn(Value) -> Vec<Message> + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sockets = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sockets);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (act, counted) = (act.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                if let Some(peer) = accept(stream, subprotocol).await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    talk(peer, act).await;
                }
            });
        }
    });
    let url = format!("ws://{address}/ws").parse().unwrap();
    (upstream(Transport::WebSocket { url }), sockets)
}

async fn accept(stream: TcpStream, subprotocol: Subprotocol) -> Option<Peer> {
    #[expect(clippy::result_large_err, reason = "the library chose the type")]
    let choose = |request: &Upgrade, mut response: Upgraded| {
        let offered = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        if let Some(offered) = offered.filter(|_| subprotocol == Subprotocol::Mcp) {
            assert_eq!(offered, "mcp");
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, offered.clone());
        }
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async(stream, choose).await.ok()
}

async fn talk(mut peer: Peer, act: impl Fn(Value) -> Vec<Message>) {
    while let Some(Ok(message)) = peer.next().await {
        let Ok(text) = message.into_text() else { return };
        let Ok(message) = serde_json::from_str::<Value>(&text) else { continue };
        let id = &message["id"];
        let said = match message["method"].as_str() {
            Some("server/discover") => {
                let error = json!({"code": -32601, "message": "no"});
                vec![text_of(&json!({"jsonrpc": "2.0", "id": id, "error": error}))]
            }
            Some("initialize") => {
                let info = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}});
                vec![result(id, &info)]
            }
            Some("tools/call") => act(message),
            _ => Vec::new(),
        };
        for message in said {
            if peer.send(message).await.is_err() {
                return;
            }
        }
    }
}

fn text_of(message: &Value) -> Message {
    Message::text(message.to_string())
}

fn result(id: &Value, result: &Value) -> Message {
    text_of(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

fn echo(call: Value) -> Vec<Message> {
    vec![Message::Ping(Bytes::new()), result(&call["id"], &call["params"]["arguments"])]
}

#[tokio::test]
async fn calls_of_one_session_share_a_socket_with_and_without_subprotocol() {
    for subprotocol in [Subprotocol::Mcp, Subprotocol::None] {
        let (upstream, sockets) = server(subprotocol, echo).await;
        let proxy = Proxy::patient(upstream);
        let (one, two) = tokio::join!(
            proxy.run(legacy_call("\"same\"", r#"{"n":1}"#)),
            proxy.run(legacy_call("\"same\"", r#"{"n":2}"#))
        );
        assert_eq!(one, [r#"{"id":"same","jsonrpc":"2.0","result":{"n":1}}"#]);
        assert_eq!(two, [r#"{"id":"same","jsonrpc":"2.0","result":{"n":2}}"#]);
        proxy.run(modern_call("1", "{}")).await;
        let refused = usize::from(subprotocol == Subprotocol::None);
        assert_eq!(sockets.load(Ordering::SeqCst), 2 + refused);
    }
}

#[tokio::test]
async fn a_socket_that_closes_is_opened_again_for_the_next_call() {
    let close = |call: Value| {
        let frame = CloseFrame { code: CloseCode::Away, reason: "restart".into() };
        let mut said = echo(call);
        said.push(Message::Close(Some(frame)));
        said
    };
    let (upstream, sockets) = server(Subprotocol::Mcp, close).await;
    let proxy = Proxy::patient(upstream);
    for n in 1..4 {
        let answer = proxy.run(legacy_call("1", "{}")).await;
        assert_eq!(answer, [r#"{"id":1,"jsonrpc":"2.0","result":{}}"#]);
        until_lost(&proxy).await;
        assert_eq!(sockets.load(Ordering::SeqCst), n);
    }
}

/// Waits until the proxy has seen that the socket of [`legacy_call`] is closed.
async fn until_lost(proxy: &Proxy) {
    let active = proxy.upstreams.find("u1").unwrap();
    let Adapter::Pipe(pipe) = &active.adapter else { panic!("no pipe") };
    let link = pipe.legacy_link(&legacy_call("1", "{}").session).unwrap();
    let lost = async {
        while link.connection.ended().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), lost).await.unwrap();
}

#[track_caller]
fn check(answer: &[String], expected: &str) {
    assert!(answer[0].contains(expected), "{answer:?}");
}

#[tokio::test]
async fn each_failure_is_told_as_what_it_is() {
    let run = |act: fn(Value) -> Vec<Message>| async move {
        let (upstream, _) = server(Subprotocol::Mcp, act).await;
        Proxy::new(upstream).run(legacy_call("1", "{}")).await
    };
    check(&run(|_| Vec::new()).await, "was silent for");
    check(&run(|_| vec![Message::Close(None)]).await, "broke the connection: it closed");
    check(
        &run(|_| vec![Message::text("a".repeat(200_000))]).await,
        "sent a message of more than 100000 bytes",
    );
    check(
        &run(|_| vec![result(&json!(987_654), &json!({}))]).await,
        "answered with the id of another request",
    );
    check(
        &run(|_| vec![Message::text(r#"{"jsonrpc":"2.0","id":1,"result":{"#)]).await,
        "no JSON-RPC message",
    );
}

#[tokio::test]
async fn a_server_without_sockets_is_told_apart_from_one_that_wants_a_credential() {
    for (status, expected) in [(401, "check its credential"), (404, "answered HTTP 404")] {
        let address = serve(move |_| answer(status, "text/plain", "no")).await;
        let url = format!("ws://{address}/ws").parse().unwrap();
        let proxy = Proxy::patient(upstream(Transport::WebSocket { url }));
        check(&proxy.run(legacy_call("1", "{}")).await, expected);
    }
    let url = "ws://127.0.0.1:1/ws".parse().unwrap();
    let proxy = Proxy::patient(upstream(Transport::WebSocket { url }));
    check(&proxy.run(legacy_call("1", "{}")).await, "cannot be reached");
}

/// Reads what `source` gives until it ends; the texts and why it ended.
async fn heard(bytes: Vec<u8>, chunk: usize, limit: usize) -> (Vec<String>, bool) {
    use tokio::io::AsyncWriteExt as _;
    let (near, far) = tokio::io::duplex(chunk.max(1));
    let (mut pongs, mut output) = tokio::io::split(near);
    tokio::spawn(async move { tokio::io::copy(&mut pongs, &mut tokio::io::sink()).await });
    tokio::spawn(async move {
        for piece in bytes.chunks(chunk.max(1)) {
            if output.write_all(piece).await.is_err() {
                return;
            }
        }
        output.shutdown().await.ok();
    });
    let role = Role::Client;
    let mut stream = WebSocketStream::from_raw_socket(far, role, Some(config(limit))).await;
    let mut texts = Vec::new();
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => texts.push(text.to_string()),
            Some(Ok(_)) => (),
            Some(Err(error)) => return (texts, matches!(error, Error::Capacity(_))),
            None => return (texts, false),
        }
    }
}

/// A server's frames of one text, cut into `pieces`.
fn frames(text: &str, pieces: usize) -> Vec<u8> {
    let bytes = text.as_bytes();
    let size = bytes.len().div_ceil(pieces.max(1)).max(1);
    let chunks: Vec<_> = if bytes.is_empty() { vec![bytes] } else { bytes.chunks(size).collect() };
    let mut out = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let opcode = u8::from(index == 0);
        let last = if index + 1 == chunks.len() { 0x80 } else { 0 };
        out.push(last | opcode);
        match u8::try_from(chunk.len()) {
            Ok(length) if length < 126 => out.push(length),
            _ => {
                out.push(126);
                out.extend(u16::try_from(chunk.len()).unwrap().to_be_bytes());
            }
        }
        out.extend_from_slice(chunk);
        // Control frames may stand between the pieces of a message.
        out.extend_from_slice(&[0x89, 0]);
    }
    out
}

proptest! {
    #[test]
    fn frames_cut_anywhere_give_the_same_messages(
        texts in prop::collection::vec("[ -~é]{0,200}", 0..6),
        pieces in 1..5usize,
        chunk in 1..64usize,
    ) {
        let bytes = texts.iter().flat_map(|text| frames(text, pieces)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (found, is_too_large) = runtime.block_on(heard(bytes, chunk, 1000));
        prop_assert_eq!(found, texts);
        prop_assert!(!is_too_large);
    }

    #[test]
    fn messages_beyond_the_limit_are_refused_however_they_are_cut(
        length in 101..500usize,
        pieces in 1..5usize,
        chunk in 1..64usize,
    ) {
        let bytes = frames(&"a".repeat(length), pieces);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (found, is_too_large) = runtime.block_on(heard(bytes, chunk, 100));
        prop_assert!(found.is_empty() && is_too_large);
    }
}
