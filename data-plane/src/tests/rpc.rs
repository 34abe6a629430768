//! Plain JSON-RPC at `/rpc`: no session, JSON answers, and ContextForge's own spellings.

use serde_json::Value;

use super::harness::{World, ask, call_body, json, post};

fn rpc(world: &World, path: &str, body: &str) -> (String, Value) {
    let (head, body) = ask(&world.proxy, post(path, &[("accept", "")], body));
    let status = head.split(' ').nth(1).unwrap().to_owned();
    (status, if body.is_empty() { Value::Null } else { json(&body) })
}

fn names(answer: &Value) -> Vec<&str> {
    let tools = answer["result"]["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[test]
fn every_message_stands_alone_and_is_answered_in_json() {
    let world = World::start();
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let (status, answer) = rpc(&world, "/rpc", hello);
    assert_eq!(
        (status.as_str(), &answer["result"]["protocolVersion"]),
        ("200", &"2025-06-18".into())
    );
    let ping = r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#;
    let (_, answer) = rpc(&world, "/rpc/", ping);
    assert_eq!(answer.to_string(), r#"{"id":"a","jsonrpc":"2.0","result":{}}"#);
    let (_, answer) = rpc(&world, "/rpc", &call_body(1, "up-echo"));
    assert_eq!(answer["result"]["content"][0]["text"], r#"{"n":1.0}"#, "{answer}");
    assert!(answer["result"].get("resultType").is_none());
    let modern = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up-echo","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let (_, answer) = rpc(&world, "/rpc", modern);
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(rpc(&world, "/rpc", note), ("202".to_owned(), Value::Null));
    world.stop();
}

#[test]
fn contextforges_spellings_are_understood() {
    let world = World::start();
    let list = |path: &str, method: &str, params: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        rpc(&world, path, &body).1
    };
    let all = list("/rpc", "tools/list", "{}");
    assert_eq!(names(&all).len(), 4);
    assert_eq!(names(&list("/rpc", "list_tools", "{}")), names(&all));
    assert_eq!(names(&list("/rpc", "tools/list", r#"{"server_id":"s1"}"#)), ["echo"]);
    assert_eq!(names(&list("/servers/dev/rpc", "tools/list", "{}")), ["echo"]);
    let called = list("/rpc", "up-echo", r#"{"server_id":"mine","n":1e2}"#);
    assert_eq!(json(called["result"]["content"][0]["text"].as_str().unwrap())["server_id"], "mine");
    assert_eq!(list("/rpc", "no_such_tool", "{}")["error"]["code"], -32601);
    world.stop();
}

#[test]
fn what_is_wrong_is_told_by_status_and_code() {
    let world = World::start();
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (status, code, body) in [
        ("400", -32700, "{nonsense"),
        ("400", -32600, &*format!("[{ping}]")),
        ("400", -32600, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
        ("200", -32602, &call_body(1, "up-nothing")),
        (
            "400",
            -32022,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"1999-01-01"}}}"#,
        ),
    ] {
        let (found, answer) = rpc(&world, "/rpc", body);
        assert_eq!((found.as_str(), &answer["error"]["code"]), (status, &code.into()), "{body}");
    }
    let nobody = ask(&world.proxy, post("/rpc", &[("authorization", "")], ping)).0;
    assert!(nobody.starts_with("HTTP/1.1 401"), "{nobody}");
    let get = post("/rpc", &[], "").replacen("POST", "GET", 1);
    assert!(ask(&world.proxy, get).0.starts_with("HTTP/1.1 405"));
    world.stop();
}
