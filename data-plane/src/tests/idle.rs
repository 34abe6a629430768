//! Sessions that nobody used for long, and clients that come back to them.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use proto::{
    Era, Position,
    entry::{EntryKind, EntryResource},
    resource::Resource,
};

use super::harness::{Connection, ask, config, header, json, post, resources_with};
use crate::{
    DataPlane,
    snapshot::table::Table,
    upstream::testing::{Seen, answer, hang, json as json_answer, serve},
};

const URI: &str = "test://a";

/// What an upstream was asked, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// A legacy upstream that notes what it is asked.
async fn upstream(log: Log) -> std::net::SocketAddr {
    let act = move |seen: Seen| {
        let method = seen.member("/method");
        let what = method.as_str().unwrap_or(seen.method.as_str()).to_owned();
        log.lock().push(what.clone());
        let result = |result: &str| {
            let id = seen.member("/id");
            json_answer(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
        };
        match what.as_str() {
            "initialize" => {
                let mut hello = result(
                    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{},"resources":{"subscribe":true}},"serverInfo":{"name":"s","version":"1"}}"#,
                );
                hello.headers_mut().insert("mcp-session-id", "s1".parse().unwrap());
                hello
            }
            "GET" => hang(200, "text/event-stream", ": here\n\n"),
            "tools/call" => result(r#"{"content":[]}"#),
            what if what.starts_with("notifications/") => answer(202, "", ""),
            _ => result("{}"),
        }
    };
    serve(act).await
}

/// Waits until the upstream was asked this so often.
fn until(log: &Log, what: &str, count: usize) {
    let asked = || log.lock().iter().filter(|it| *it == what).count();
    for _ in 0..1000 {
        if asked() >= count {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} was asked {} times: {:?}", asked(), log.lock());
}

#[test]
fn a_session_that_was_idle_hears_of_what_it_wanted_to_hear_of() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log = Log::default();
    let address = runtime.block_on(upstream(Arc::clone(&log)));
    let mut config = config();
    config.timeouts.session_idle = Duration::from_millis(500);
    let proxy = DataPlane::start(config).unwrap();
    let capabilities = r#"{"tools":{},"logging":{},"resources":{"subscribe":true}}"#;
    let mut resources = resources_with(address, Era::Legacy, capabilities);
    resources.push(Resource::Entry(EntryResource {
        id: "r1".to_owned(),
        kind: EntryKind::Resource,
        upstream_id: "u1".to_owned(),
        name: String::new(),
        original: URI.to_owned(),
        definition: format!(r#"{{"uri":"{URI}","name":"a"}}"#),
        needs_client_capabilities: Vec::new(),
    }));
    let table = Table::compile(resources.iter(), Position::default()).unwrap();
    let inside = runtime.enter();
    proxy.current().store(Arc::new(table));
    drop(inside);

    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let (head, body) = ask(&proxy, post("/mcp", &[], hello));
    let session = header(&head, "mcp-session-id").unwrap_or_else(|| panic!("{head}{body}"));
    let request = |id: u32, method: &str, params: &str| {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let (head, body) = ask(&proxy, post("/mcp", &[("mcp-session-id", &session)], &body));
        assert!(head.starts_with("HTTP/1.1 200"), "{head}{body}");
        assert!(json(&body).get("result").is_some(), "{body}");
    };
    request(1, "resources/subscribe", &format!(r#"{{"uri":"{URI}"}}"#));
    request(2, "logging/setLevel", r#"{"level":"error"}"#);
    request(3, "tools/call", r#"{"name":"up-echo","arguments":{}}"#);
    until(&log, "logging/setLevel", 1);
    // Nobody is there: nothing is kept open.
    until(&log, "DELETE", 1);
    let (before, subscribed) = (log.lock().len(), "resources/subscribe");
    let asked = log.lock().iter().filter(|it| *it == subscribed).count();

    let mut stream = Connection::open(proxy.addresses()[0]);
    let get = post("/mcp", &[("mcp-session-id", &session)], "").replacen("POST", "GET", 1);
    stream.send(get.replace("application/json, ", ""));
    stream.answer();
    let first = stream.until("\"}}\n\n");
    assert!(first.contains("notifications/resources/updated"), "{first}");
    assert!(first.contains(&format!(r#"{{"uri":"{URI}"}}"#)), "{first}");
    until(&log, subscribed, asked + 1);
    request(4, "tools/call", r#"{"name":"up-echo","arguments":{}}"#);
    until(&log, "logging/setLevel", 2);
    let since = log.lock()[before..].to_vec();
    assert_eq!(since.iter().filter(|it| *it == "initialize").count(), 1, "{since:?}");
    proxy.stop();
}
