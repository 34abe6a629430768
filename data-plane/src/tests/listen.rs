//! `subscriptions/listen` of modern clients, over HTTP and over a socket.

use std::{sync::Arc, time::Duration};

use proto::{Position, resource::Resource};
use serde_json::Value;

use super::{
    harness::{Connection, World, ask, config, json, post, resources, table_without_tokens, tool},
    websocket::Socket,
};
use crate::snapshot::table::Table;

const KEY: &str = "io.modelcontextprotocol/subscriptionId";

fn body(id: &str, filter: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{"notifications":{filter},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    )
}

fn request(path: &str, id: &str, filter: &str, more: &[(&str, &str)]) -> String {
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen")];
    post(path, &[&headers, more].concat(), &body(id, filter))
}

/// An open subscription.
struct Stream(Connection);

impl Stream {
    fn open(world: &World, path: &str, id: &str, filter: &str) -> Self {
        let mut connection = world.connect();
        connection.send(request(path, id, filter, &[]));
        let (head, body) = connection.answer();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}{body}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        assert!(head.contains("x-accel-buffering: no"), "{head}");
        Self(connection)
    }

    /// The next event or comment, without the framing of HTTP.
    fn event(&mut self) -> String {
        let event = self.0.until("\n\n");
        event.rsplit_once("\r\n").unwrap().1.trim_end().to_owned()
    }

    fn message(&mut self) -> Value {
        let event = self.event();
        json(event.strip_prefix("event: message\ndata: ").unwrap_or_else(|| panic!("{event}")))
    }
}

/// Adds a tool to what `/mcp` shows, but not to the server `dev`.
fn with_another_tool(world: &World) {
    let mut resources = resources(world.upstream.address);
    resources.push(Resource::Tool(tool("another")));
    let table = Table::compile(resources.iter(), Position::default()).unwrap();
    let _inside = world.runtime.enter();
    world.proxy.current().store(Arc::new(table));
}

#[test]
fn changes_are_told_to_those_whose_lists_they_change() {
    let world = World::start();
    let filter = r#"{"toolsListChanged":true,"promptsListChanged":true}"#;
    let mut one = Stream::open(&world, "/mcp", "7", filter);
    let mut two = Stream::open(&world, "/mcp", "\"7\"", r#"{"promptsListChanged":true}"#);
    let mut dev = Stream::open(&world, "/servers/dev/mcp", "8", filter);
    for (stream, id, honoured) in [
        (&mut one, json("7"), filter),
        (&mut two, json("\"7\""), r#"{"promptsListChanged":true}"#),
        (&mut dev, json("8"), filter),
    ] {
        let message = stream.message();
        assert_eq!(message["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(message["params"]["_meta"][KEY], id);
        assert_eq!(message["params"]["notifications"], json(honoured));
    }
    with_another_tool(&world);
    let message = one.message();
    assert_eq!(message["method"], "notifications/tools/list_changed", "{message}");
    assert_eq!(message["params"]["_meta"][KEY], 7);
    // The others hear nothing but the end.
    let proxy = world.proxy;
    let stopping = std::thread::spawn(move || proxy.stop());
    for (stream, id) in [(&mut one, json("7")), (&mut two, json("\"7\"")), (&mut dev, json("8"))] {
        let last = stream.message();
        assert_eq!(last["id"], id, "{last}");
        assert_eq!(last["result"]["resultType"], "complete");
        assert_eq!(last["result"]["_meta"][KEY], id);
        assert_eq!(stream.0.rest().trim(), "0");
    }
    stopping.join().unwrap();
}

#[test]
fn a_silent_subscription_is_kept_alive_and_a_revoked_one_ends() {
    let mut config = config();
    config.timeouts.keep_alive = Duration::from_millis(50);
    let world = World::with(config);
    let mut stream = Stream::open(&world, "/mcp", "1", r#"{"toolsListChanged":true}"#);
    stream.message();
    assert_eq!(stream.event(), ": keep-alive");
    let session = world.initialize("/mcp");
    let mut legacy = world.connect();
    legacy.send(format!(
        "GET /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer lg_caller-token-of-the-tests\r\nmcp-session-id: {session}\r\n\r\n"
    ));
    legacy.until("data:\n\n");
    {
        let _inside = world.runtime.enter();
        world.proxy.current().store(table_without_tokens(world.upstream.address));
    }
    let end = stream.0.until("\r\n0\r\n\r\n");
    assert!(end.contains(r#""resultType":"complete""#), "{end}");
    legacy.until("\r\n0\r\n\r\n");
    let again = ask(&world.proxy, request("/mcp", "1", "{}", &[]));
    assert!(again.0.starts_with("HTTP/1.1 401"), "{}", again.0);
    world.stop();
}

#[test]
fn what_is_no_subscription_is_refused() {
    let world = World::start();
    let check = |request: String, status: &str, code: i64| {
        let (head, body) = ask(&world.proxy, &request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}\n{head}{body}");
        assert_eq!(json(&body)["error"]["code"], code, "{request}");
    };
    check(request("/mcp", "1", "[]", &[]), "200", -32602);
    check(request("/mcp", "1", r#"{"resourceSubscriptions":[1]}"#, &[]), "200", -32602);
    check(request("/mcp", "1", "{}", &[("accept", "application/json")]), "406", -32000);
    check(request("/rpc", "1", "{}", &[]), "400", -32600);
    let session = world.initialize("/mcp");
    let legacy = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}"#;
    check(post("/mcp", &[("mcp-session-id", &session)], legacy), "200", -32601);
    world.stop();
}

#[test]
fn over_a_socket_subscriptions_share_the_pipe_and_end_by_name() {
    let world = World::start();
    let mut socket = world.runtime.block_on(async {
        let mut socket = Socket::open(&world, "/ws", Some("mcp")).await;
        for id in ["1", "\"b\""] {
            socket.send(&body(id, r#"{"toolsListChanged":true}"#)).await;
            let message = socket.message().await;
            assert_eq!(message["params"]["_meta"][KEY], json(id), "{message}");
        }
        socket.send(&body("1", "{}")).await;
        assert_eq!(socket.message().await["error"]["code"], -32600);
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
        socket.send(cancel).await;
        // What is read behind it is read after it.
        socket.send(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
        assert_eq!(socket.message().await["id"], "p");
        socket
    });
    with_another_tool(&world);
    let message = world.runtime.block_on(socket.message());
    assert_eq!(message["params"]["_meta"][KEY], "b", "{message}");
    let World { proxy, upstream: _, runtime } = world;
    let stopping = std::thread::spawn(move || proxy.stop());
    runtime.block_on(async {
        let cancelled = socket.message().await;
        assert_eq!(cancelled["method"], "notifications/cancelled", "{cancelled}");
        assert_eq!(cancelled["params"]["requestId"], "b");
        assert_eq!(socket.message().await["result"]["resultType"], "complete");
    });
    drop(socket);
    stopping.join().unwrap();
}

#[test]
fn the_endpoint_announces_what_it_tells() {
    let world = World::start();
    let meta = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}"#;
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{meta}}}"#);
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "server/discover")];
    let (_, body) = ask(&world.proxy, post("/mcp", &headers, &body));
    assert_eq!(json(&body)["result"]["capabilities"]["tools"]["listChanged"], true, "{body}");
    world.stop();
}
