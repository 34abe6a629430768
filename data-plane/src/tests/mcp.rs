//! MCP requests that are answered without an upstream, and those that are refused.

use super::harness::{ADMIN, World, ask, call, call_body, header, json, post};

fn refused(world: &World, request: &str) -> (u16, i64, String) {
    let (head, body) = ask(&world.proxy, request);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, json(&body)["error"]["code"].as_i64().unwrap_or(0), head)
}

#[test]
fn bad_requests_get_the_status_and_code_of_the_guide() {
    let world = World::start();
    let session = world.initialize("/mcp");
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let with = |headers: &[(&str, &str)], body: &str| {
        let mut all = vec![("mcp-session-id", session.as_str())];
        all.extend(headers);
        post("/mcp", &all, body)
    };
    for (expected, request) in [
        ((401, -32000), with(&[("authorization", "")], ping)),
        ((401, -32000), with(&[("authorization", "Bearer lg_nobody")], ping)),
        ((403, 0), with(&[("host", "evil.example.com")], ping)),
        ((403, 0), with(&[("origin", "http://evil.example.com")], ping)),
        ((404, -32000), post("/servers/none/mcp", &[], ping)),
        ((415, -32000), with(&[("content-type", "text/plain")], ping)),
        ((415, -32000), with(&[("content-encoding", "gzip")], ping)),
        ((406, -32000), with(&[("accept", "text/html")], ping)),
        ((400, -32700), with(&[], "{nonsense")),
        ((400, -32600), with(&[], &format!("[{ping}]"))),
        ((400, -32600), with(&[], r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#)),
        ((400, -32000), post("/mcp", &[], ping)),
        ((404, -32001), post("/mcp", &[("mcp-session-id", "forged")], ping)),
        ((404, -32001), post("/servers/dev/mcp", &[("mcp-session-id", &session)], ping)),
        ((400, -32602), with(&[("mcp-protocol-version", "2023-01-01")], ping)),
        ((200, -32601), with(&[], r#"{"jsonrpc":"2.0","id":1,"method":"prompts/other"}"#)),
        ((200, -32602), with(&[], &call_body(1, "up-nothing"))),
    ] {
        let (status, code, _) = refused(&world, &request);
        assert_eq!((status, code), expected, "{request}");
    }
    let (_, _, head) = refused(&world, &with(&[("authorization", "")], ping));
    assert_eq!(header(&head, "www-authenticate").as_deref(), Some("Bearer"));
    let put = "PUT /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer lg_caller-token-of-the-tests\r\n\r\n";
    let (status, _, head) = refused(&world, put);
    assert_eq!((status, header(&head, "allow").as_deref()), (405, Some("GET, POST, DELETE")));
    world.stop();
}

#[test]
fn a_body_that_is_too_large_is_413_whether_announced_or_not() {
    let world = World::start();
    let large = "x".repeat(20 << 20);
    let (status, _, _) = refused(&world, &post("/mcp", &[], &large));
    assert_eq!(status, 413);
    let head =
        post("/mcp", &[("transfer-encoding", "chunked")], "").replace("content-length: 0\r\n", "");
    let chunked = format!("{head}{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    assert_eq!(refused(&world, &chunked).0, 413);
    world.stop();
}

#[test]
fn an_error_keeps_the_id_of_its_request() {
    let world = World::start();
    let body = r#"{"jsonrpc":"2.0","id":"a\u0041","method":"ping"}"#;
    let (_, answer) = ask(&world.proxy, post("/mcp", &[], body));
    assert!(answer.contains(r#""id":"a\u0041""#), "{answer}");
    world.stop();
}

#[test]
fn a_session_begins_lists_and_ends() {
    let world = World::start();
    let session = world.initialize("/servers/dev/mcp/");
    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let (_, body) = ask(&world.proxy, post("/servers/s1/mcp", &headers, list));
    let tools = json(&body)["result"]["tools"].clone();
    assert_eq!(tools.as_array().unwrap().len(), 1);
    assert_eq!(tools[0]["name"], "echo");
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let (head, _) = ask(&world.proxy, post("/servers/dev/mcp", &headers, note));
    assert!(head.starts_with("HTTP/1.1 202"), "{head}");
    let stranger = [headers[0], ("authorization", "Bearer lg_admin-token-of-the-tests")];
    let (head, _) = ask(&world.proxy, post("/servers/dev/mcp", &stranger, list));
    assert!(head.starts_with("HTTP/1.1 404"), "another principal: {head}");
    let delete = post("/servers/dev/mcp", &headers, "").replacen("POST", "DELETE", 1);
    assert!(ask(&world.proxy, &delete).0.starts_with("HTTP/1.1 204"));
    assert!(ask(&world.proxy, &delete).0.starts_with("HTTP/1.1 404"));
    let (head, _) = ask(&world.proxy, post("/servers/dev/mcp", &headers, list));
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    world.stop();
}

#[test]
fn a_session_outlives_its_proxy() {
    let world = World::start();
    let session = world.initialize("/mcp");
    world.stop();
    let world = World::start();
    let (head, body) = ask(&world.proxy, call(&session, 1, "up-echo"));
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(json(&body)["result"]["content"][0]["text"], r#"{"n":1.0}"#, "{body}");
    world.stop();
}

#[test]
fn a_client_that_takes_only_events_gets_events() {
    let world = World::start();
    let session = world.initialize("/mcp");
    let headers = [("mcp-session-id", session.as_str()), ("accept", "text/event-stream")];
    let mut connection = world.connect();
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    connection.send(post("/mcp", &[&headers[..], &[("connection", "close")]].concat(), ping));
    let answer = connection.rest();
    assert!(answer.contains("content-type: text/event-stream"), "{answer}");
    assert!(
        answer.contains("event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n"),
        "{answer}"
    );
    world.stop();
}

#[test]
fn metrics_are_for_the_administrator() {
    let world = World::start();
    let session = world.initialize("/mcp");
    ask(&world.proxy, call(&session, 1, "up-echo"));
    let get = |token: &str| {
        let head = format!("host: localhost\r\nauthorization: Bearer {token}");
        ask(&world.proxy, format!("GET /metrics HTTP/1.1\r\n{head}\r\n\r\n"))
    };
    assert!(get("lg_caller-token-of-the-tests").0.starts_with("HTTP/1.1 403"));
    let (head, body) = get(ADMIN);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let line = r#"mcp_server_operation_duration_seconds_count{mcp_method_name="tools/call",mcp_protocol_version="2025-11-25"} 1"#;
    assert!(body.contains(line), "{body}");
    assert!(body.contains("lockgate_sessions 1"), "{body}");
    world.stop();
}
