//! Streams of sessions: what a GET gets, and how a broken stream goes on.

use std::time::Duration;

use super::harness::{World, ask, call, header, json, post};

fn get(session: &str, more: &str) -> String {
    format!(
        "GET /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer lg_caller-token-of-the-tests\r\nconnection: close\r\n{more}mcp-session-id: {session}\r\n\r\n"
    )
}

/// The value of the last line of this field in a stream.
fn last(stream: &str, field: &str) -> String {
    let mut values = stream.lines().filter_map(|line| line.strip_prefix(field));
    values.next_back().unwrap().trim().to_owned()
}

#[test]
fn a_stream_is_given_to_sessions_only_and_to_clients_that_take_one() {
    let world = World::start();
    let session = world.initialize("/mcp");
    for (request, status, code) in [
        (get(&session, "").replace("mcp-session-id", "x-other"), 400, -32000),
        (get("forged", ""), 404, -32001),
        (get(&session, "accept: application/json\r\n"), 406, -32000),
        (get(&session, "mcp-protocol-version: 2031-01-01\r\n"), 400, -32600),
        (get(&session, "last-event-id: nonsense\r\n"), 400, -32000),
        (get(&session, "last-event-id: c1:1\r\n"), 400, -32000),
    ] {
        let (head, body) = ask(&world.proxy, &request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}{head}");
        assert_eq!(json(&body)["error"]["code"], code, "{request}");
    }
    for more in ["", "accept: text/event-stream\r\n", "last-event-id: g7:1\r\n"] {
        let mut connection = world.connect();
        connection.send(get(&session, more));
        let (head, _) = connection.answer();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(header(&head, "content-type").as_deref(), Some("text/event-stream"));
        let priming = connection.until("data:\n\n");
        assert!(priming.contains("id: g") && priming.contains("retry: "), "{priming}");
    }
    world.stop();
}

#[test]
fn a_broken_call_goes_on_where_it_was_and_ends_with_its_response() {
    let world = World::start();
    let session = world.initialize("/mcp");
    let mut connection = world.connect();
    connection.send(call(&session, 1, "up-progress"));
    connection.answer();
    assert!(connection.until("data:\n\n").contains("id: c1:0"));
    let first = connection.until("\n\n");
    let seen = last(&first, "id:");
    assert_eq!(seen, "c1:1");
    drop(connection);
    std::thread::sleep(Duration::from_millis(100));
    // It comes while nobody reads.
    world.upstream.go.add_permits(1);
    std::thread::sleep(Duration::from_millis(100));
    let mut again = world.connect();
    again.send(get(&session, &format!("last-event-id: {seen}\r\n")));
    again.answer();
    let missed = again.until(r#""progress":2"#);
    assert!(missed.contains("id: c1:2") && !missed.contains(r#""progress":1"#), "{missed}");
    world.upstream.go.add_permits(1);
    let rest = again.rest();
    assert!(rest.contains("id: c1:3") && rest.contains("done"), "{rest}");
    // Who lost even that finds it once more.
    let mut again = world.connect();
    again.send(get(&session, "last-event-id: c1:2\r\n"));
    again.answer();
    assert!(again.rest().contains("done"));
    world.stop();
}

#[test]
fn other_sessions_and_older_versions_get_no_priming_and_no_foreign_events() {
    let world = World::start();
    let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let (head, _) = ask(&world.proxy, post("/mcp", &[], body));
    let session = header(&head, "mcp-session-id").unwrap();
    let mut connection = world.connect();
    connection.send(call(&session, 1, "up-progress"));
    connection.answer();
    // Behind the length of the first chunk.
    connection.until("\n");
    assert!(connection.until("\n").starts_with("id: c1:1"));
    let other = world.initialize("/mcp");
    let (head, _) = ask(&world.proxy, get(&other, "last-event-id: c1:0\r\n"));
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    world.upstream.go.add_permits(2);
    world.stop();
}

#[test]
fn the_end_of_the_session_ends_its_stream_and_the_end_of_the_proxy_sends_it_elsewhere() {
    let world = World::start();
    let listen = || {
        let session = world.initialize("/mcp");
        let mut connection = world.connect();
        connection.send(get(&session, ""));
        connection.answer();
        connection.until("data:\n\n");
        (session, connection)
    };
    let (session, mut deleted) = listen();
    let (_, mut left) = listen();
    let headers = [("mcp-session-id", session.as_str())];
    ask(&world.proxy, post("/mcp", &headers, "").replacen("POST", "DELETE", 1));
    assert_eq!(deleted.rest().trim(), "0");
    let stopping = std::thread::spawn(move || world.stop());
    assert!(left.rest().contains("retry: "));
    stopping.join().unwrap();
}
