//! Batches: in sessions of 2025-03-26, and nowhere else.

use serde_json::Value;

use super::{
    events::Stream,
    harness::{World, ask, call_body, header, json, post},
    websocket::Socket,
};

fn hello(version: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"t","version":"1"}}}}}}"#
    )
}

/// Opens a session at `version`: its id.
fn session(world: &World, version: &str) -> String {
    let body = hello(version);
    header(&ask(&world.proxy, post("/mcp", &[], &body)).0, "mcp-session-id").unwrap()
}

fn send(world: &World, session: &str, accept: &str, body: &str) -> (String, String) {
    let headers = [("mcp-session-id", session), ("accept", accept)];
    let (head, body) = ask(&world.proxy, post("/mcp", &headers, body));
    (head.split(' ').nth(1).unwrap().to_owned(), body)
}

const BOTH: &str = "application/json, text/event-stream";
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

#[test]
fn every_request_of_a_batch_gets_its_response() {
    let world = World::start();
    let session = session(&world, "2025-03-26");
    let echo = call_body(1, "up-echo");
    let unknown = call_body(2, "up-nothing");
    let body = format!("[{PING}, {NOTE},\n{echo},{unknown},{{\"jsonrpc\":\"2.0\",\"id\":3}},7]");
    for accept in [BOTH, "application/json"] {
        let (status, body) = send(&world, &session, accept, &body);
        assert_eq!(status, "200");
        let answers = json(&body);
        let found = |id: &Value| {
            let mut answers = answers.as_array().unwrap().iter();
            answers.find(|answer| answer["id"] == *id).unwrap_or_else(|| panic!("{id}: {body}"))
        };
        assert_eq!(answers.as_array().unwrap().len(), 5, "{body}");
        assert!(found(&"p".into())["result"].is_object());
        assert_eq!(found(&1.into())["result"]["content"][0]["text"], r#"{"n":1.0}"#);
        assert_eq!(found(&2.into())["error"]["code"], -32602);
        assert_eq!(found(&3.into())["error"]["code"], -32600);
        assert_eq!(found(&Value::Null)["error"]["code"], -32600);
    }
    assert_eq!(send(&world, &session, BOTH, &format!("[{NOTE},{NOTE}]")).0, "202");
    world.stop();
}

/// What a batch of everything leads to.
#[track_caller]
fn check(answers: &Value) {
    let answers = answers.as_array().unwrap();
    let found = |id: &Value| {
        let found = answers.iter().find(|answer| answer["id"] == *id);
        found.unwrap_or_else(|| panic!("{id}: {answers:?}"))
    };
    assert_eq!(answers.len(), 5, "{answers:?}");
    assert!(found(&"p".into())["result"].is_object());
    assert_eq!(found(&1.into())["result"]["content"][0]["text"], "waited");
    assert_eq!(found(&2.into())["error"]["code"], -32602);
    assert_eq!(found(&3.into())["error"]["code"], -32600);
    assert_eq!(found(&Value::Null)["error"]["code"], -32600);
}

fn batch_of_everything() -> String {
    let (waits, unknown) = (call_body(1, "up-wait"), call_body(2, "up-nothing"));
    format!("[{PING}, {NOTE},\n{waits},{unknown},{{\"jsonrpc\":\"2.0\",\"id\":3}},7]")
}

#[test]
fn a_socket_takes_batches_while_other_messages_run() {
    let world = World::start();
    world.runtime.block_on(async {
        let mut socket = Socket::open(&world, "/ws", None).await;
        socket.send(&hello("2025-03-26")).await;
        socket.message().await;
        socket.send(&batch_of_everything()).await;
        socket.send(&call_body(4, "up-echo")).await;
        assert_eq!(socket.message().await["id"], 4);
        // The id of a call in the batch is in use.
        socket.send(&call_body(1, "up-echo")).await;
        assert_eq!(socket.message().await["error"]["code"], -32600);
        world.upstream.go.add_permits(1);
        check(&socket.message().await);
        socket.send(&format!("[{NOTE},{NOTE}]")).await;
        socket.send(&format!("[{PING},{}]", hello("2025-03-26"))).await;
        let refused = socket.message().await;
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&Value::Null, &(-32600).into()));
        // What is cancelled is not answered, all else is.
        socket.send(&format!("[{PING},{}]", call_body(5, "up-wait"))).await;
        socket
            .send(
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#,
            )
            .await;
        let answers = socket.message().await;
        assert_eq!((answers.as_array().unwrap().len(), &answers[0]["id"]), (1, &"p".into()));
        for version in ["2024-11-05", "2025-06-18"] {
            let mut socket = Socket::open(&world, "/ws", None).await;
            socket.send(&hello(version)).await;
            socket.message().await;
            socket.send(&format!("[{PING}]")).await;
            assert_eq!(socket.message().await["error"]["code"], -32600, "{version}");
        }
    });
    world.stop();
}

#[test]
fn a_socket_has_so_many_batches_and_no_more() {
    let world = World::start();
    world.runtime.block_on(async {
        let mut socket = Socket::open(&world, "/ws", None).await;
        socket.send(&hello("2025-03-26")).await;
        socket.message().await;
        for id in 10..18 {
            socket.send(&format!("[{}]", call_body(id, "up-wait"))).await;
        }
        socket.send(&format!("[{NOTE},{PING}]")).await;
        let refused = socket.message().await;
        assert_eq!(refused[0]["id"], "p");
        assert!(refused[0]["error"]["message"].to_string().contains("calls"), "{refused}");
        world.upstream.go.add_permits(1);
        assert_eq!(socket.message().await[0]["result"]["content"][0]["text"], "waited");
        socket.send(&format!("[{PING}]")).await;
        assert!(socket.message().await[0]["result"].is_object());
    });
    world.stop();
}

#[test]
fn an_event_stream_takes_batches() {
    let world = World::start();
    let mut stream = Stream::open(&world, "/sse");
    stream.post(&world, &hello("2025-03-26"));
    stream.message();
    assert!(stream.post(&world, &batch_of_everything()).starts_with("HTTP/1.1 202"));
    world.upstream.go.add_permits(1);
    check(&stream.message());
    assert!(stream.post(&world, "[]").starts_with("HTTP/1.1 400"));
    let mut stream = Stream::open(&world, "/sse");
    stream.post(&world, &hello("2025-06-18"));
    stream.message();
    assert!(stream.post(&world, &format!("[{PING}]")).starts_with("HTTP/1.1 400"));
    world.stop();
}

#[test]
fn a_batch_with_progress_is_a_stream() {
    let world = World::start();
    let session = session(&world, "2025-03-26");
    let mut connection = world.connect();
    let headers = [("mcp-session-id", session.as_str()), ("connection", "close")];
    let body = format!("[{PING},{}]", call_body(1, "up-progress"));
    connection.send(post("/mcp", &headers, &body));
    let (head, _) = connection.answer();
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(connection.until("\n\n").contains(r#""id":"p""#));
    assert!(connection.until("\n\n").contains(r#""progress":1"#));
    world.upstream.go.add_permits(1);
    assert!(connection.until("\n\n").contains(r#""progress":2"#));
    world.upstream.go.add_permits(1);
    assert!(connection.rest().contains("done"));
    world.stop();
}

#[test]
fn what_no_batch_may_be_is_refused_whole() {
    let world = World::start();
    let old = session(&world, "2025-03-26");
    let new = session(&world, "2025-06-18");
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-03-26"}}"#;
    let modern = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let many = vec![PING; 101].join(",");
    for (session, code, body) in [
        (&new, -32600, format!("[{PING}]")),
        (&String::new(), -32600, format!("[{PING}]")),
        (&old, -32600, "[]".to_owned()),
        (&old, -32600, format!("[{PING},{hello}]")),
        (&old, -32600, format!("[{PING},{modern}]")),
        (&old, -32600, format!("[{PING},{response}]")),
        (&old, -32600, format!("[{many}]")),
        (&old, -32700, format!("[{PING},]")),
    ] {
        let (status, answer) = send(&world, session, BOTH, &body);
        assert_eq!(
            (status.as_str(), &json(&answer)["error"]["code"]),
            ("400", &code.into()),
            "{body}"
        );
    }
    world.stop();
}
