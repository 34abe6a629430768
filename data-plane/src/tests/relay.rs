//! Calls to an upstream: the forms of an answer, and who may end them.

use std::time::Duration;

use super::harness::{World, ask, call, header, json, modern_call, post};

#[test]
fn a_call_is_answered_with_the_clients_id_and_the_upstreams_bytes() {
    let world = World::start();
    let session = world.initialize("/mcp");
    let mut connection = world.connect();
    for id in [1, 2] {
        connection.send(call(&session, id, "up-echo"));
        let (head, body) = connection.answer();
        assert_eq!(header(&head, "content-type").as_deref(), Some("application/json"));
        let body = json(&body);
        assert_eq!(body["id"], id);
        assert_eq!(body["result"]["content"][0]["text"], r#"{"n":1.0}"#);
        assert!(body["result"].get("resultType").is_none());
    }
    connection.send(modern_call(3, "up-echo"));
    assert_eq!(json(&connection.answer().1)["result"]["resultType"], "complete");
    world.stop();
}

#[test]
fn progress_is_relayed_as_it_comes() {
    let world = World::start();
    let session = world.initialize("/mcp");
    let mut connection = world.connect();
    connection.send(call(&session, 1, "up-progress").replacen(
        "host",
        "connection: close\r\nhost",
        1,
    ));
    let (head, _) = connection.answer();
    assert_eq!(header(&head, "content-type").as_deref(), Some("text/event-stream"), "{head}");
    connection.until("data:\n\n");
    let first = connection.until("\n\n");
    assert!(
        first.contains(r#""progress":1"#) && first.contains(r#""progressToken":"p""#),
        "{first}"
    );
    world.upstream.go.add_permits(1);
    assert!(connection.until("\n\n").contains(r#""progress":2"#));
    world.upstream.go.add_permits(1);
    assert!(connection.rest().contains("done"));
    world.stop();
}

#[test]
fn a_stream_is_folded_for_a_client_that_takes_json_only() {
    let world = World::start();
    let session = world.initialize("/mcp");
    world.upstream.go.add_permits(2);
    let mut connection = world.connect();
    connection.send(call(&session, 1, "up-progress").replace(", text/event-stream", ""));
    let (head, body) = connection.answer();
    assert_eq!(header(&head, "content-type").as_deref(), Some("application/json"));
    assert_eq!(json(&body)["result"]["content"][0]["text"], "done");
    world.stop();
}

#[test]
fn a_silent_call_becomes_a_stream_with_comments() {
    let mut config = super::harness::config();
    config.timeouts.keep_alive = Duration::from_millis(50);
    let world = World::with(config);
    let session = world.initialize("/mcp");
    let mut connection = world.connect();
    connection.send(call(&session, 1, "up-wait").replacen("host", "connection: close\r\nhost", 1));
    let (head, _) = connection.answer();
    assert_eq!(header(&head, "content-type").as_deref(), Some("text/event-stream"));
    connection.until(": keep-alive\n\n");
    world.upstream.go.add_permits(1);
    assert!(connection.rest().contains("waited"));
    world.stop();
}

#[test]
fn a_legacy_call_goes_on_without_its_client_and_a_modern_one_does_not() {
    let mut world = World::start();
    let session = world.initialize("/mcp");
    for (request, is_legacy) in
        [(call(&session, 1, "up-wait"), true), (modern_call(2, "up-wait"), false)]
    {
        let begun = world.upstream.waits.borrow().begun;
        let mut connection = world.connect();
        connection.send(request);
        world.runtime.block_on(world.upstream.until(|waits| waits.begun == begun + 1));
        drop(connection);
        if is_legacy {
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(world.upstream.waits.borrow().dropped, 0);
            world.upstream.go.add_permits(1);
            world.runtime.block_on(world.upstream.until(|waits| waits.answered == 1));
        } else {
            world.runtime.block_on(world.upstream.until(|waits| waits.dropped == 1));
        }
    }
    world.stop();
}

#[test]
fn a_legacy_call_ends_when_its_client_cancels_it_or_its_session_ends() {
    let mut world = World::start();
    let session = world.initialize("/mcp");
    let headers = [("mcp-session-id", session.as_str())];
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let enders =
        [post("/mcp", &headers, cancel), post("/mcp", &headers, "").replacen("POST", "DELETE", 1)];
    for (count, ender) in (1..).zip(enders) {
        let mut connection = world.connect();
        connection.send(call(&session, 1, "up-wait"));
        world.runtime.block_on(world.upstream.until(|waits| waits.begun == count));
        assert!(ask(&world.proxy, ender).0.starts_with("HTTP/1.1 20"));
        assert_eq!(json(&connection.answer().1)["error"]["code"], -32800);
        world.runtime.block_on(world.upstream.until(|waits| waits.dropped == count));
    }
    world.stop();
}

#[test]
fn the_end_waits_for_running_calls() {
    let mut world = World::start();
    let session = world.initialize("/mcp");
    let mut connection = world.connect();
    connection.send(call(&session, 1, "up-wait"));
    world.runtime.block_on(world.upstream.until(|waits| waits.begun == 1));
    let go = std::sync::Arc::clone(&world.upstream.go);
    let proxy = world.proxy;
    let stopping = std::thread::spawn(move || proxy.stop());
    std::thread::sleep(Duration::from_millis(100));
    assert!(!stopping.is_finished());
    go.add_permits(1);
    assert_eq!(json(&connection.answer().1)["result"]["content"][0]["text"], "waited");
    stopping.join().unwrap();
}

#[test]
fn a_dead_upstream_is_an_error_in_band_that_names_it() {
    let world = World::start();
    let session = world.initialize("/mcp");
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    {
        let _inside = world.runtime.enter();
        world.proxy.current().store(super::harness::table(dead));
    }
    let (head, body) = ask(&world.proxy, call(&session, 1, "up-echo"));
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let error = &json(&body)["error"];
    assert_eq!(
        (error["code"].as_i64(), error["data"]["upstream"].as_str()),
        (Some(-32603), Some("up"))
    );
    world.stop();
}
