//! WebSocket: a message per text frame, in both directions.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode},
};

use super::harness::{CALLER, World, ask, call_body, config, json as parsed, post};

const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;

/// A client on a socket, and the subprotocol that the proxy chose.
pub(super) struct Socket(WebSocketStream<TcpStream>, Option<String>);

impl Socket {
    pub(super) async fn open(world: &World, path: &str, protocol: Option<&'static str>) -> Self {
        let address = world.proxy.addresses()[0];
        let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {CALLER}").parse().unwrap());
        if let Some(protocol) = protocol {
            headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, response) = client_async(request, stream).await.unwrap();
        let chosen = response.headers().get("sec-websocket-protocol");
        Self(socket, chosen.map(|chosen| chosen.to_str().unwrap().to_owned()))
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    pub(super) async fn message(&mut self) -> Value {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => return parsed(&text),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The code with which the proxy closes.
    async fn closed(&mut self) -> CloseCode {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Close(frame) => return frame.unwrap().code,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn messages_of_both_eras_run_at_the_same_time() {
    let world = World::start();
    world.runtime.block_on(async {
        let mut socket = Socket::open(&world, "/ws", Some("mcp")).await;
        assert_eq!(socket.1.as_deref(), Some("mcp"));
        socket.send(HELLO).await;
        assert_eq!(socket.message().await["result"]["protocolVersion"], "2025-11-25");
        socket.send(&call_body(1, "up-wait")).await;
        socket.send(&call_body(2, "up-echo")).await;
        assert_eq!(socket.message().await["id"], 2);
        let modern = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"up-echo","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
        socket.send(modern).await;
        assert_eq!(socket.message().await["result"]["resultType"], "complete");
        world.upstream.go.add_permits(1);
        assert_eq!(socket.message().await["result"]["content"][0]["text"], "waited");
        // Longer than the timers of HTTP.
        tokio::time::sleep(Duration::from_millis(800)).await;
        socket.send("{nonsense").await;
        assert_eq!(socket.message().await["error"]["code"], -32700);
        socket.send(&format!("[{PING}]")).await;
        assert_eq!(socket.message().await["error"]["code"], -32600);
        socket.0.close(None).await.unwrap();
    });
    world.stop();
}

#[test]
fn contextforges_clients_need_no_session_and_no_subprotocol() {
    let world = World::start();
    world.runtime.block_on(async {
        let mut socket = Socket::open(&world, "/servers/dev/ws/", None).await;
        assert_eq!(socket.1, None);
        socket.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
        assert_eq!(socket.message().await["result"]["tools"][0]["name"], "echo");
    });
    world.stop();
}

#[test]
fn the_end_of_a_socket_is_the_end_of_its_calls() {
    let mut world = World::start();
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    for (count, hello) in (0..).map(|half| half * 2).zip([HELLO, PING]) {
        let mut socket = world.runtime.block_on(Socket::open(&world, "/ws", None));
        world.runtime.block_on(async {
            socket.send(hello).await;
            socket.message().await;
            socket.send(&call_body(1, "up-wait")).await;
        });
        world.runtime.block_on(world.upstream.until(|waits| waits.begun == count + 1));
        world.runtime.block_on(async {
            socket.send(cancel).await;
            socket.send(PING).await;
            assert_eq!(socket.message().await["id"], "p");
            socket.send(&call_body(2, "up-wait")).await;
        });
        world.runtime.block_on(world.upstream.until(|waits| waits.begun == count + 2));
        world.runtime.block_on(world.upstream.until(|waits| waits.dropped == count + 1));
        drop(socket);
        world.runtime.block_on(world.upstream.until(|waits| waits.dropped == count + 2));
    }
    world.stop();
}

#[test]
fn a_call_that_is_refused_for_its_id_does_not_run() {
    let world = World::start();
    world.runtime.block_on(async {
        let mut socket = Socket::open(&world, "/ws", None).await;
        socket.send(&HELLO.replace("2025-11-25", "2025-03-26")).await;
        socket.message().await;
        let modern = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up-wait","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
        socket.send(modern).await;
        // To the session it is another call, on this connection the second of its name.
        let again = call_body(1, "up-wait");
        for again in [again.clone(), format!("[{again}]")] {
            socket.send(&again).await;
            let refused = socket.message().await;
            let refused = refused.get(0).unwrap_or(&refused);
            assert_eq!(refused["error"]["code"], -32600, "{refused}");
        }
        socket.send(&call_body(2, "up-echo")).await;
        assert_eq!(socket.message().await["id"], 2);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(world.upstream.waits.borrow().begun, 1, "a refused call ran");
        world.upstream.go.add_permits(1);
        assert_eq!(socket.message().await["result"]["content"][0]["text"], "waited");
        socket.send(&call_body(1, "up-echo")).await;
        assert_eq!(socket.message().await["id"], 1, "the place is free again");
    });
    world.stop();
}

#[test]
fn who_has_an_answer_may_use_its_id_again() {
    let world = World::start();
    world.runtime.block_on(async {
        let mut socket = Socket::open(&world, "/ws", Some("mcp")).await;
        socket.send(HELLO).await;
        socket.message().await;
        for _ in 0..500 {
            socket.send(&call_body(1, "up-echo")).await;
            let answer = socket.message().await;
            assert!(answer.get("result").is_some(), "{answer}");
        }
    });
    world.stop();
}

#[test]
fn who_reads_no_answers_is_not_read_any_more() {
    let mut config = config();
    config.limits.calls_per_session = 16;
    config.timeouts.idle = Duration::from_secs(20);
    let world = World::with(config);
    world.runtime.block_on(async {
        let mut socket = Socket::open(&world, "/ws", Some("mcp")).await;
        socket.send(HELLO).await;
        socket.message().await;
        let text = "x".repeat(200_000);
        let call = |id: u32| {
            json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                "params": {"name": "up-echo", "arguments": {"text": text}}})
        };
        // The sockets hold some, and the queue.
        let mut sent = 0;
        for id in 1..500 {
            let message = call(id).to_string();
            if timeout(Duration::from_secs(2), socket.send(&message)).await.is_err() {
                break;
            }
            sent += 1;
            // Calls that are refused would stop it as well.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!((64..300).contains(&sent), "{sent}");
        for _ in 0..sent {
            socket.message().await;
        }
    });
    world.stop();
}

#[test]
fn every_reason_to_close_has_its_code() {
    let mut config = config();
    config.limits.body_bytes = 1000;
    let world = World::with(config);
    world.runtime.block_on(async {
        let mut socket = Socket::open(&world, "/ws", None).await;
        socket.0.send(Message::binary(b"{}".to_vec())).await.unwrap();
        assert_eq!(socket.closed().await, CloseCode::Unsupported);
        let mut socket = Socket::open(&world, "/ws", None).await;
        socket.send(&"x".repeat(1001)).await;
        assert_eq!(socket.closed().await, CloseCode::Size);
        let mut socket = Socket::open(&world, "/ws", None).await;
        world.proxy.current().store(super::harness::table_without_tokens(world.upstream.address));
        assert_eq!(socket.closed().await, CloseCode::Policy);
    });
    world.stop();
}

#[test]
fn sockets_are_told_that_the_proxy_ends() {
    let world = World::start();
    let mut socket = world.runtime.block_on(Socket::open(&world, "/ws", None));
    let proxy = world.proxy;
    let stopping = std::thread::spawn(move || proxy.stop());
    assert_eq!(world.runtime.block_on(socket.closed()), CloseCode::Away);
    stopping.join().unwrap();
}

#[test]
fn what_is_no_handshake_is_refused_and_tokens_belong_into_headers() {
    let world = World::start();
    let get = |path: &str, headers: &[(&str, &str)]| {
        ask(&world.proxy, post(path, headers, "").replacen("POST", "GET", 1)).0
    };
    let head = get("/ws", &[]);
    assert!(head.starts_with("HTTP/1.1 426") && head.contains("upgrade: websocket"), "{head}");
    let handshake = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    let with = |more: &[(&'static str, &'static str)]| {
        get(&format!("/ws?token={CALLER}"), &[&handshake[..], more].concat())
    };
    assert!(with(&[("authorization", "")]).starts_with("HTTP/1.1 401"));
    assert!(with(&[("origin", "http://evil.example.com")]).starts_with("HTTP/1.1 403"));
    assert!(with(&[]).starts_with("HTTP/1.1 101"));
    world.stop();
}

#[test]
fn a_client_that_reads_late_misses_progress_but_not_its_answer() {
    let mut config = config();
    // A test's machine may be slow to read.
    config.timeouts.idle = Duration::from_secs(20);
    let mut world = World::with(config);
    let mut socket = world.runtime.block_on(async {
        let mut socket = Socket::open(&world, "/ws", Some("mcp")).await;
        socket.send(HELLO).await;
        socket.message().await;
        socket.send(&call_body(1, "up-flood")).await;
        socket
    });
    // Its upstream need not wait for it.
    world.runtime.block_on(async {
        let answered = world.upstream.waits.wait_for(|waits| waits.answered == 1);
        timeout(Duration::from_mins(1), answered).await.unwrap().unwrap();
    });
    let count = world.runtime.block_on(async {
        let mut count = 0;
        while socket.message().await["method"] == "notifications/progress" {
            count += 1;
        }
        count
    });
    assert!(count > 0 && count < super::upstream::FLOOD, "{count}");
    drop(socket);
    world.stop();
}
