//! Tasks of both generations through the proxy, with an upstream that notes what it is asked.

use std::sync::Arc;

use parking_lot::Mutex;
use proto::{
    Era,
    resource::{Resource, ToolResource, ToolTarget, UpstreamResource},
};
use serde_json::{Value, json};

use super::harness::{World, ask, header, json as read, post, resources_with, tool};
use crate::upstream::testing::{Body, Seen, answer, json as answered, serve, sse, streamed};

/// What the upstream was asked: `method params`.
type Asked = Arc<Mutex<Vec<Value>>>;

const LEGACY: &str =
    r#"{"tools":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}"#;
const MODERN: &str = r#"{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

/// A proxy before an upstream of `era` that makes a task `t1` of each call.
fn world(era: Era) -> (World, Asked) {
    world_with(era, Vec::new())
}

/// The same with more in its configuration.
fn world_with(era: Era, more: Vec<Resource>) -> (World, Asked) {
    let world = World::start();
    let asked = Asked::default();
    let seen_by = Arc::clone(&asked);
    let address = world.runtime.block_on(serve(move |seen| {
        if !seen.body.is_empty() {
            seen_by.lock().push(serde_json::from_str(&seen.body).unwrap());
        }
        upstream(era, &seen)
    }));
    let capabilities = if era == Era::Legacy { LEGACY } else { MODERN };
    let mut resources = resources_with(address, era, capabilities);
    resources.extend(more);
    let table = crate::snapshot::table::Table::compile(
        resources.iter().collect::<Vec<&Resource>>().into_iter(),
        proto::Position::default(),
    );
    let inside = world.runtime.enter();
    world.proxy.current().store(Arc::new(table.unwrap()));
    drop(inside);
    (world, asked)
}

fn upstream(era: Era, seen: &Seen) -> http::Response<Body> {
    let related = json!({"io.modelcontextprotocol/related-task": {"taskId": "t1"}});
    let task = match era {
        Era::Legacy => json!({"taskId": "t1", "status": "working", "ttl": 1000}),
        Era::Modern => json!({"taskId": "t1", "status": "working", "ttlMs": 1000}),
    };
    let flat = |kind: &str| {
        let mut task = task.clone();
        task["resultType"] = kind.into();
        task
    };
    let result = match (seen.member("/method").as_str().unwrap_or_default(), era) {
        ("initialize", _) => {
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}})
        }
        ("tools/call", Era::Legacy) => json!({"task": task}),
        ("tools/call", Era::Modern) => flat("task"),
        ("tasks/get" | "tasks/cancel", Era::Legacy) => task,
        ("tasks/get", Era::Modern) => flat("complete"),
        ("tasks/update" | "tasks/cancel", Era::Modern) => json!({"resultType": "complete"}),
        ("subscriptions/listen", Era::Modern) => return tells_of_tasks(seen),
        ("tasks/result", Era::Legacy) => {
            let event = |message: Value| format!("data: {message}\n\n");
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress",
                "params": {"progressToken": 1, "progress": 1, "_meta": related}});
            let done = json!({"jsonrpc": "2.0", "id": seen.member("/id"),
                "result": {"content": [], "_meta": related}});
            return sse([event(progress), event(done)].concat());
        }
        ("tasks/list", Era::Legacy) => {
            let others = json!({"taskId": "of-another-client", "status": "working"});
            json!({"tasks": [others, task], "nextCursor": "n"})
        }
        ("", _) => return answer(405, "", ""),
        _ => return answer(202, "", ""),
    };
    answered(json!({"jsonrpc": "2.0", "id": seen.member("/id"), "result": result}).to_string())
}

/// A subscription to tasks, and the first that is told.
fn tells_of_tasks(seen: &Seen) -> http::Response<Body> {
    let meta = json!({"io.modelcontextprotocol/subscriptionId": seen.member("/id")});
    let filter = seen.member("/params/notifications");
    let event = |method: &str, mut params: Value| {
        params["_meta"] = meta.clone();
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        bytes::Bytes::from(format!("data: {message}\n\n"))
    };
    let events = [
        event("notifications/subscriptions/acknowledged", json!({"notifications": filter})),
        event("notifications/tasks", json!({"taskId": "other", "status": "working"})),
        event("notifications/tasks", json!({"taskId": "t1", "status": "completed", "ttlMs": 5})),
    ];
    let events = futures_util::stream::iter(events);
    let events = futures_util::StreamExt::chain(events, futures_util::stream::pending());
    streamed(200, "text/event-stream", events)
}

/// One legacy request of a session.
fn legacy(world: &World, session: &str, method: &str, params: &Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": params}).to_string();
    let (_, body) = ask(&world.proxy, post("/mcp", &[("mcp-session-id", session)], &body));
    read(&body)
}

/// One modern request of a principal with a token, whose client declares `extensions`.
fn modern(
    world: &World,
    token: &str,
    method: &str,
    params: &Value,
    extensions: &Value,
) -> (u16, Value) {
    let mut params = params.clone();
    let name = params.get("taskId").or(params.get("name")).cloned().unwrap_or_default();
    params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": extensions}});
    let body = json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": params}).to_string();
    let authorization = format!("Bearer {token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", method),
        ("mcp-name", name.as_str().unwrap_or_default()),
    ];
    let (head, body) = ask(&world.proxy, post("/mcp", &headers, &body));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), read(&body))
}

fn last(asked: &Asked) -> Value {
    asked.lock().iter().rfind(|it| it.get("id").is_some()).cloned().unwrap()
}

#[test]
fn a_legacy_task_is_known_to_each_side_by_its_own_id() {
    let (world, asked) = world(Era::Legacy);
    let session = world.initialize("/mcp");
    let call = json!({"name": "up-echo", "arguments": {}, "task": {"ttl": 1000}});
    let created = legacy(&world, &session, "tools/call", &call);
    let sealed = created["result"]["task"]["taskId"].clone();
    assert!(sealed.as_str().unwrap().len() > 40, "{created}");
    assert_eq!(created["result"]["task"]["ttl"], 1000);
    assert_eq!(last(&asked)["params"]["task"]["ttl"], 1000);

    let task = json!({"taskId": sealed});
    for method in ["tasks/get", "tasks/cancel"] {
        assert_eq!(legacy(&world, &session, method, &task)["result"]["taskId"], sealed);
        assert_eq!(last(&asked)["params"]["taskId"], "t1", "{method}");
    }
    let body = json!({"jsonrpc": "2.0", "id": 5, "method": "tasks/result", "params": task});
    let request =
        post("/mcp", &[("mcp-session-id", &session), ("connection", "close")], &body.to_string());
    let mut connection = world.connect();
    connection.send(request);
    let stream = connection.rest();
    assert_eq!(last(&asked)["params"]["taskId"], "t1");
    let related = format!(r#""io.modelcontextprotocol/related-task":{{"taskId":{sealed}}}"#);
    assert_eq!(stream.matches(&related).count(), 2, "{stream}");
    assert!(!stream.contains("\"t1\""), "{stream}");

    let page = legacy(&world, &session, "tasks/list", &json!({}))["result"].clone();
    assert_eq!(page["tasks"].as_array().unwrap().len(), 1, "only its own: {page}");
    assert_eq!(page["tasks"][0]["taskId"], sealed);
    let more = json!({"cursor": page["nextCursor"]});
    legacy(&world, &session, "tasks/list", &more);
    assert_eq!(last(&asked)["params"]["cursor"], "n");
    world.stop();
}

#[test]
fn a_task_that_is_not_ones_own_does_not_exist_and_no_upstream_is_asked() {
    let (world, asked) = world(Era::Legacy);
    let session = world.initialize("/mcp");
    let call = json!({"name": "up-echo", "arguments": {}, "task": {}});
    let created = legacy(&world, &session, "tools/call", &call);
    let sealed = created["result"]["task"]["taskId"].as_str().unwrap().to_owned();

    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let admin = ("authorization", "Bearer lg_admin-token-of-the-tests");
    let (head, _) = ask(&world.proxy, post("/mcp", &[admin], hello));
    let other = header(&head, "mcp-session-id").unwrap();
    let before = asked.lock().len();
    let body = |id: &str| {
        json!({"jsonrpc": "2.0", "id": 5, "method": "tasks/get", "params": {"taskId": id}})
            .to_string()
    };
    let headers = [admin, ("mcp-session-id", other.as_str())];
    let (head, stolen) = ask(&world.proxy, post("/mcp", &headers, &body(&sealed)));
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(read(&stolen)["error"]["code"], -32602, "{stolen}");
    for forged in ["t1", "", &sealed[..sealed.len() - 3], &sealed.replace('A', "B")] {
        let answer = legacy(&world, &session, "tasks/get", &json!({"taskId": forged}));
        assert!(answer["error"]["code"] == -32602 || *forged == sealed, "{answer}");
    }
    assert_eq!(asked.lock().len(), before);
    world.stop();
}

#[test]
fn a_modern_task_is_known_to_each_side_by_its_own_id() {
    const CALLER: &str = super::harness::CALLER;
    let (world, asked) = world(Era::Modern);
    let able = json!({"io.modelcontextprotocol/tasks": {}});
    let ask =
        |token: &str, method: &str, params: &Value| modern(&world, token, method, params, &able);
    let call = json!({"name": "up-echo", "arguments": {}});
    let (_, created) = ask(CALLER, "tools/call", &call);
    let declared = "/params/_meta/io.modelcontextprotocol~1clientCapabilities/extensions";
    assert_eq!(last(&asked).pointer(declared), Some(&able));
    assert_eq!(created["result"]["resultType"], "task", "{created}");
    let task = json!({"taskId": created["result"]["taskId"], "inputResponses": {"k": {"n": 1}}});
    assert_ne!(task["taskId"], "t1");
    let (_, got) = ask(CALLER, "tasks/get", &task);
    assert_eq!(
        (&got["result"]["taskId"], &got["result"]["ttlMs"]),
        (&task["taskId"], &1000.into())
    );
    for method in ["tasks/update", "tasks/cancel"] {
        let (_, done) = ask(CALLER, method, &task);
        assert_eq!(done["result"]["resultType"], "complete", "{done}");
        assert_eq!(last(&asked)["params"]["taskId"], "t1");
        assert_eq!(last(&asked)["params"]["inputResponses"]["k"]["n"], 1);
    }
    let before = asked.lock().len();
    let code = |(status, answer): (u16, Value)| (status, answer["error"]["code"].as_i64().unwrap());
    assert_eq!(code(ask(super::harness::ADMIN, "tasks/get", &task)), (200, -32602));
    assert_eq!(code(ask(CALLER, "tasks/get", &json!({"taskId": "t1"}))), (200, -32602));
    assert_eq!(code(ask(CALLER, "tasks/list", &json!({}))), (404, -32601));
    let (status, refused) = modern(&world, CALLER, "tasks/get", &task, &json!({}));
    assert_eq!((status, &refused["error"]["code"]), (400, &(-32021).into()));
    assert_eq!(refused["error"]["data"]["requiredCapabilities"]["extensions"], able);
    assert_eq!(asked.lock().len(), before);
    world.stop();
}

#[test]
fn tasks_are_listed_although_an_upstream_is_dead() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = resources_with(dead, Era::Legacy, LEGACY).into_iter().find_map(|it| match it {
        Resource::Upstream(it) => {
            Some(UpstreamResource { id: "u0".to_owned(), name: "dead".parse().unwrap(), ..it })
        }
        _ => None,
    });
    let target = ToolTarget::Upstream { upstream_id: "u0".to_owned(), original_name: "a".into() };
    let of_it = ToolResource { name: "dead-a".to_owned(), target, ..tool("a") };
    let more = vec![Resource::Upstream(more.unwrap()), Resource::Tool(of_it)];
    let (world, _asked) = world_with(Era::Legacy, more);
    let session = world.initialize("/mcp");
    let call = json!({"name": "up-echo", "arguments": {}, "task": {}});
    let created = legacy(&world, &session, "tools/call", &call);
    let page = legacy(&world, &session, "tasks/list", &json!({}))["result"].clone();
    assert_eq!(page["tasks"], json!([]), "{page}");
    let more = json!({"cursor": page["nextCursor"]});
    let page = legacy(&world, &session, "tasks/list", &more)["result"].clone();
    assert_eq!(page["tasks"][0]["taskId"], created["result"]["task"]["taskId"], "{page}");
    world.stop();
}

#[test]
fn a_modern_client_listens_to_its_own_tasks_and_to_no_others() {
    const CALLER: &str = super::harness::CALLER;
    let (world, asked) = world(Era::Modern);
    let able = json!({"io.modelcontextprotocol/tasks": {}});
    let call = json!({"name": "up-echo", "arguments": {}});
    let (_, created) = modern(&world, CALLER, "tools/call", &call, &able);
    let id = created["result"]["taskId"].as_str().unwrap();
    let listen = |extensions: &Value| {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen", "params": {
            "notifications": {"taskIds": [id, "t1"]},
            "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {"extensions": extensions}}
        }});
        let headers =
            [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen")];
        let mut connection = world.connect();
        connection.send(post("/mcp", &headers, &body.to_string()));
        connection.answer();
        connection
    };
    let mut connection = listen(&able);
    let first = connection.until("\n\n");
    let honoured = format!(r#""notifications":{{"taskIds":["{id}"]}}"#);
    assert!(first.contains(&honoured), "{first}");
    let told = connection.until("\n\n");
    assert!(told.contains(r#""method":"notifications/tasks""#), "{told}");
    assert!(told.contains(r#""io.modelcontextprotocol/subscriptionId":7"#), "{told}");
    assert!(told.contains(id) && told.contains(r#""ttlMs":5"#), "{told}");
    assert!(!told.contains("\"t1\"") && !told.contains("\"other\""), "{told}");
    let listened = asked.lock().iter().rfind(|it| it["method"] == "subscriptions/listen").cloned();
    let listened = listened.unwrap();
    assert_eq!(listened["params"]["notifications"], json!({"taskIds": ["t1"]}));
    let declared = "/params/_meta/io.modelcontextprotocol~1clientCapabilities/extensions";
    assert_eq!(listened.pointer(declared), Some(&able), "{listened}");
    // Who does not know tasks hears of none.
    let first = listen(&json!({})).until("\n\n");
    assert!(first.contains(r#""notifications":{}"#), "{first}");
    world.stop();
}
