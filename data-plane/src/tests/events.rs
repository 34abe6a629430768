//! HTTP+SSE of 2024-11-05: one stream to the client, one path for its messages.

use std::time::Duration;

use serde_json::Value;

use super::harness::{Connection, World, ask, call_body, config, json, post};

/// An open stream, and the path that its client posts to.
pub(super) struct Stream {
    connection: Connection,
    endpoint: String,
}

impl Stream {
    pub(super) fn open(world: &World, path: &str) -> Self {
        let mut connection = world.connect();
        connection.send(post(path, &[("content-type", "")], "").replacen("POST", "GET", 1));
        let (head, _) = connection.answer();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        let mut stream = Self { connection, endpoint: String::new() };
        let event = stream.event();
        let endpoint = event.strip_prefix("event: endpoint\ndata: ").unwrap();
        endpoint.clone_into(&mut stream.endpoint);
        stream
    }

    /// The next event or comment, without the framing of HTTP.
    fn event(&mut self) -> String {
        let event = self.connection.until("\n\n");
        event.rsplit_once("\r\n").unwrap().1.trim_end().to_owned()
    }

    pub(super) fn message(&mut self) -> Value {
        let event = self.event();
        json(event.strip_prefix("event: message\ndata: ").unwrap_or_else(|| panic!("{event}")))
    }

    pub(super) fn post(&self, world: &World, body: &str) -> String {
        ask(&world.proxy, post(&self.endpoint, &[("accept", "")], body)).0
    }
}

const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;

#[test]
fn answers_come_on_the_stream_in_the_order_they_are_ready() {
    let world = World::start();
    let mut stream = Stream::open(&world, "/sse");
    assert!(stream.endpoint.starts_with("/message?session_id="), "{}", stream.endpoint);
    assert_eq!(stream.endpoint.len(), "/message?session_id=".len() + 48);
    assert!(stream.post(&world, HELLO).starts_with("HTTP/1.1 202"));
    assert_eq!(stream.message()["result"]["protocolVersion"], "2024-11-05");
    stream.post(&world, &call_body(1, "up-wait"));
    stream.post(&world, &call_body(2, "up-echo"));
    assert_eq!(stream.message()["id"], 2);
    stream.post(&world, PING);
    assert_eq!(stream.message()["id"], "p");
    world.upstream.go.add_permits(1);
    assert_eq!(stream.message()["result"]["content"][0]["text"], "waited");
    stream.post(&world, &call_body(3, "up-progress"));
    assert_eq!(stream.message()["params"]["progress"], 1);
    world.upstream.go.add_permits(1);
    assert_eq!(stream.message()["params"]["progressToken"], "p");
    world.upstream.go.add_permits(1);
    assert_eq!(stream.message()["result"]["content"][0]["text"], "done");
    drop(stream);
    world.stop();
}

#[test]
fn errors_come_on_the_stream_too_and_only_what_is_no_message_is_refused_at_once() {
    let world = World::start();
    let mut stream = Stream::open(&world, "/servers/dev/sse/");
    assert!(stream.endpoint.starts_with("/servers/dev/message?"), "{}", stream.endpoint);
    stream.post(&world, HELLO);
    stream.message();
    assert!(stream.post(&world, HELLO).starts_with("HTTP/1.1 202"));
    assert_eq!(stream.message()["error"]["code"], -32600);
    stream.post(&world, &call_body(1, "up-nothing"));
    assert_eq!(stream.message()["error"]["code"], -32602);
    assert!(stream.post(&world, "{nonsense").starts_with("HTTP/1.1 400"));
    assert!(stream.post(&world, &format!("[{PING}]")).starts_with("HTTP/1.1 400"));
    drop(stream);
    world.stop();
}

#[test]
fn only_who_opened_a_stream_may_post_to_it() {
    let world = World::start();
    let stream = Stream::open(&world, "/sse");
    let status = |path: &str, headers: &[(&str, &str)]| {
        let head = ask(&world.proxy, post(path, headers, PING)).0;
        head.split(' ').nth(1).unwrap().to_owned()
    };
    let admin = [("authorization", "Bearer lg_admin-token-of-the-tests")];
    assert_eq!(status(&stream.endpoint, &admin), "404");
    assert_eq!(status(&stream.endpoint, &[("authorization", "")]), "401");
    assert_eq!(status("/message?session_id=00", &[]), "404");
    assert_eq!(status("/message", &[]), "404");
    assert_eq!(status(&format!("/servers/dev{}", stream.endpoint), &[]), "404");
    assert_eq!(status(&stream.endpoint, &[]), "202");
    let endpoint = stream.endpoint.clone();
    drop(stream);
    let gone = || status(&endpoint, &[]) == "404";
    assert!((0..100).any(|_| gone() || {
        std::thread::sleep(Duration::from_millis(20));
        false
    }));
    world.stop();
}

#[test]
fn the_end_of_the_stream_is_the_end_of_its_calls() {
    let mut world = World::start();
    for hello in [HELLO, PING] {
        let dropped = world.upstream.waits.borrow().dropped;
        let mut stream = Stream::open(&world, "/sse");
        stream.post(&world, hello);
        stream.message();
        stream.post(&world, &call_body(1, "up-wait"));
        world.runtime.block_on(world.upstream.until(|waits| waits.begun == dropped + 1));
        drop(stream);
        world.runtime.block_on(world.upstream.until(|waits| waits.dropped == dropped + 1));
    }
    world.stop();
}

#[test]
fn a_cancelled_call_is_never_answered() {
    let mut world = World::start();
    let mut stream = Stream::open(&world, "/sse");
    stream.post(&world, HELLO);
    stream.message();
    stream.post(&world, &call_body(7, "up-wait"));
    world.runtime.block_on(world.upstream.until(|waits| waits.begun == 1));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    assert!(stream.post(&world, cancel).starts_with("HTTP/1.1 202"));
    world.runtime.block_on(world.upstream.until(|waits| waits.dropped == 1));
    stream.post(&world, PING);
    assert_eq!(stream.message()["id"], "p");
    drop(stream);
    world.stop();
}

#[test]
fn a_silent_stream_is_kept_alive_and_ends_with_its_token() {
    let mut config = config();
    config.timeouts.keep_alive = Duration::from_millis(50);
    let world = World::with(config);
    let mut stream = Stream::open(&world, "/sse");
    assert_eq!(stream.event(), ": keep-alive");
    {
        let _inside = world.runtime.enter();
        world.proxy.current().store(super::harness::table_without_tokens(world.upstream.address));
    }
    let rest = stream.connection.rest();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
    world.stop();
}

#[test]
fn streams_do_not_hold_up_the_end_but_their_calls_do() {
    let mut world = World::start();
    let mut stream = Stream::open(&world, "/sse");
    stream.post(&world, &call_body(1, "up-wait"));
    world.runtime.block_on(world.upstream.until(|waits| waits.begun == 1));
    let go = std::sync::Arc::clone(&world.upstream.go);
    let proxy = world.proxy;
    let stopping = std::thread::spawn(move || proxy.stop());
    std::thread::sleep(Duration::from_millis(100));
    assert!(!stopping.is_finished());
    go.add_permits(1);
    assert_eq!(stream.message()["result"]["content"][0]["text"], "waited");
    stopping.join().unwrap();
}
