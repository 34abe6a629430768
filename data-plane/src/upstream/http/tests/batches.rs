//! Servers of 2025-03-26 that send several messages in one, and servers that may not.

use super::*;

/// A server whose sessions are of `version`; its answers are what `batch` makes of a response.
async fn server(version: &'static str, batch: fn(String) -> Response<Body>) -> UpstreamResource {
    let address = serve(move |seen| {
        let id = seen.member("/id");
        match seen.member("/method").as_str() {
            Some("initialize") => {
                let mut answer = json(format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"{version}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"s"}}}}}}"#
                ));
                answer.headers_mut().insert("mcp-session-id", "s1".parse().unwrap());
                answer
            }
            Some("tools/call") => {
                let note = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"tok","progress":1.0}}"#;
                batch(format!("[{}, {note}]", result(&seen, "done")))
            }
            Some(method) if method.starts_with("notifications/") => answer(202, "", ""),
            _ => answer(405, "", ""),
        }
    })
    .await;
    upstream(http(address))
}

fn whole(batch: String) -> Response<Body> {
    json(batch)
}

fn in_one_event(batch: String) -> Response<Body> {
    sse(format!("data: {batch}\n\n"))
}

#[tokio::test]
async fn what_comes_in_one_is_heard_one_after_the_other() {
    for batch in [whole, in_one_event] {
        let proxy = Proxy::new(server("2025-03-26", batch).await);
        let events = proxy.run(legacy_call("1", "{}")).await;
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events[0].starts_with("notification") && events[0].contains("1.0"), "{events:?}");
        assert!(events[1].starts_with("response") && events[1].contains("done"), "{events:?}");
    }
}

#[tokio::test]
async fn other_versions_have_no_batches_and_a_batch_without_the_answer_is_none() {
    for batch in [whole, in_one_event] {
        let proxy = Proxy::new(server("2025-06-18", batch).await);
        let events = proxy.run(legacy_call("1", "{}")).await;
        assert!(events[0].contains("no JSON-RPC message"), "{events:?}");
    }
    let proxy = Proxy::new(server("2025-03-26", |_| json("[]")).await);
    let events = proxy.run(legacy_call("1", "{}")).await;
    assert!(events[0].contains("without a response"), "{events:?}");
}
