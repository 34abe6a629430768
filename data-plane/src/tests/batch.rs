//! Batches: in sessions of 2025-03-26, and nowhere else.

use serde_json::Value;

use super::harness::{World, ask, call_body, header, json, post};

/// Opens a session at `version`: its id.
fn session(world: &World, version: &str) -> String {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"t","version":"1"}}}}}}"#
    );
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
    world.upstream.go.notify_one();
    assert!(connection.until("\n\n").contains(r#""progress":2"#));
    world.upstream.go.notify_one();
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
