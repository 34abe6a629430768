//! Calls to real HTTP servers: good ones of both eras, and every bad habit one by one.

mod batches;
mod eras;
mod failures;
mod habits;
mod rounds;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use proto::{
    Secret,
    resource::{CredentialResource, UpstreamResource},
};

use super::*;
use crate::upstream::testing::{
    Body, Proxy, Seen, answer, hang, http, json, legacy_call, modern_call, serve, sse, streamed,
    table, upstream,
};

type Log = Arc<Mutex<Vec<String>>>;

/// A legacy server with sessions `s1`, `s2` …; `act` answers `tools/call`.
async fn legacy_server(
    log: Log,
    act: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static,
) -> UpstreamResource {
    let opened = AtomicUsize::new(0);
    let address = serve(move |seen| {
        let method = seen.member("/method");
        let what = method.as_str().unwrap_or(seen.method.as_str()).to_owned();
        if what == "GET" && seen.header("last-event-id").is_empty() {
            return answer(405, "", "");
        }
        log.lock().push(format!("{what} {}", seen.header("mcp-session-id")).trim().to_owned());
        match what.as_str() {
            "initialize" => {
                let number = opened.fetch_add(1, Ordering::SeqCst) + 1;
                let id = seen.member("/id");
                let mut answer = sse(format!(
                    "id: p\ndata:\n\nevent: message\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{{\"tools\":{{}}}},\"serverInfo\":{{\"name\":\"s\"}}}}}}\n\n"
                ));
                let session = format!("s{number}").parse().unwrap();
                answer.headers_mut().insert("mcp-session-id", session);
                answer
            }
            "server/discover" => {
                answer(400, "application/json", r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Server not initialized"}}"#)
            }
            "tools/call" | "GET" => act(&seen),
            _ => answer(202, "", ""),
        }
    })
    .await;
    upstream(http(address))
}

fn result(seen: &Seen, text: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":"{text}"}}}}"#, seen.member("/id"))
}

#[track_caller]
fn check_log(log: &Log, expected: &[&str]) {
    assert_eq!(*log.lock(), expected);
}

async fn settle(log: &Log, entry: &str) {
    for _ in 0..1000 {
        if log.lock().iter().any(|line| line == entry) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no `{entry}` in {:?}", log.lock());
}

#[tokio::test]
async fn a_legacy_call_opens_one_session_and_passes_its_id_verbatim() {
    let log = Log::default();
    let upstream = legacy_server(Arc::clone(&log), |seen| {
        assert_eq!(seen.header("mcp-protocol-version"), "2025-06-18");
        assert_eq!(seen.header("accept"), "application/json, text/event-stream");
        assert_eq!(seen.header("accept-encoding"), "identity");
        assert_eq!(seen.member("/params/name"), "do");
        assert_eq!(seen.member("/params/_meta/progressToken"), "tok");
        json(result(seen, "done"))
    });
    let proxy = Proxy::new(upstream.await);
    let (one, two) = tokio::join!(
        proxy.run(legacy_call("\"a-1\"", "{}")),
        proxy.run(legacy_call("2", r#"{"x":1.0}"#))
    );
    assert_eq!(one, [r#"{"jsonrpc":"2.0","id":"a-1","result":{"content":"done"}}"#]);
    assert_eq!(two, [r#"{"jsonrpc":"2.0","id":2,"result":{"content":"done"}}"#]);
    let opening = ["server/discover", "initialize", "notifications/initialized s1"];
    check_log(&log, &[&opening[..], &["tools/call s1"; 2]].concat());
    proxy.upstreams.close_session(&SessionKey::Client([7; 16]));
    settle(&log, "DELETE s1").await;
}

#[tokio::test]
async fn a_session_declares_what_its_client_can_and_passes_requests_and_answers() {
    let told = Log::default();
    let seen_answers = Arc::clone(&told);
    let answers = Arc::new(tokio::sync::Notify::new());
    let address = serve(move |seen| {
        let method = seen.member("/method");
        match method.as_str() {
            Some("server/discover") => answer(404, "", ""),
            Some("initialize") => {
                told.lock().push(seen.member("/params/capabilities").to_string());
                let id = seen.member("/id");
                json(format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{}},"serverInfo":{{}}}}}}"#
                ))
            }
            Some("tools/call") => {
                let ask = r#"{"jsonrpc":"2.0","id":"q\u0041","method":"roots/list"}"#;
                let ping = r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#;
                let first = format!("data: {ping}\n\ndata: {ask}\n\n");
                let last = format!("data: {}\n\n", result(&seen, "done"));
                let answers = Arc::clone(&answers);
                let last = stream::once(async move {
                    answers.notified().await;
                    answers.notified().await;
                    last.into()
                });
                streamed(200, "text/event-stream", stream::iter([first.into()]).chain(last))
            }
            None if seen.body.is_empty() => answer(405, "", ""),
            None => {
                told.lock().push(seen.body.clone());
                answers.notify_one();
                answer(202, "", "")
            }
            Some(_) => answer(202, "", ""),
        }
    })
    .await;
    let events = Proxy::new(upstream(http(address))).run(legacy_call("1", "{}")).await;
    assert_eq!(events[0], r#"request {"jsonrpc":"2.0","id":0,"method":"roots/list"}"#);
    assert_eq!(events[1], r#"response {"jsonrpc":"2.0","id":1,"result":{"content":"done"}}"#);
    let mut told = seen_answers.lock().clone();
    assert_eq!(told.remove(0), r#"{"roots":{},"sampling":{"tools":{}}}"#);
    told.sort();
    let answers = [
        r#"{"jsonrpc":"2.0","id":"q\u0041","result":{"given":1.0}}"#,
        r#"{"jsonrpc":"2.0","id":3,"result":{}}"#,
    ];
    assert_eq!(told, answers);
}

#[tokio::test]
async fn the_end_of_an_elicitation_is_told_to_legacy_clients_as_it_came() {
    let told = r#"{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e1","x":1.0}}"#;
    let upstream = legacy_server(Log::default(), move |seen| {
        sse(format!("data: {told}\n\ndata: {}\n\n", result(seen, "done")))
    });
    let proxy = Proxy::new(upstream.await);
    let heard = proxy.run(legacy_call("1", "{}")).await;
    assert_eq!(heard.first().unwrap(), &format!("notification {told}"));
    assert_eq!(heard.len(), 2);
    // Modern clients know no such notification, and have no id that it could name.
    assert_eq!(proxy.run(modern_call("2", "{}")).await.len(), 1);
}

#[tokio::test]
async fn what_comes_after_the_answer_is_neither_heard_nor_answered() {
    let log = Log::default();
    let upstream = legacy_server(Arc::clone(&log), |seen| {
        let late = r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#;
        sse(format!("data: {}\n\ndata: {late}\n\n", result(seen, "done")))
    });
    let proxy = Proxy::new(upstream.await);
    let heard = proxy.run(legacy_call("1", "{}")).await;
    assert_eq!(heard, [r#"{"jsonrpc":"2.0","id":1,"result":{"content":"done"}}"#]);
    let opening = ["server/discover", "initialize", "notifications/initialized s1"];
    check_log(&log, &[&opening[..], &["tools/call s1"]].concat());
}

#[tokio::test]
async fn modern_calls_share_a_legacy_session_under_ids_of_ours() {
    let log = Log::default();
    let upstream = legacy_server(Arc::clone(&log), |seen| {
        assert!(seen.member("/id").is_u64());
        assert_eq!(
            seen.member("/params/_meta"),
            serde_json::json!({"progressToken": seen.member("/id")})
        );
        let token = seen.member("/params/_meta/progressToken");
        sse(format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{token},\"progress\":1}}}}\n\ndata: {}\n\n",
            result(seen, "x")
        ))
    });
    let proxy = Proxy::new(upstream.await);
    let events = proxy.run(modern_call("\"same\"", "{}")).await;
    assert_eq!(
        events[0],
        r#"notification {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5,"progress":1}}"#
    );
    assert!(
        events[1].starts_with(r#"response {"jsonrpc":"2.0","id":"same","result":{"#),
        "{events:?}"
    );
    assert!(events[1].contains(r#""resultType":"complete""#));
}

#[tokio::test]
async fn a_lost_session_is_healed_once_without_running_the_call_twice() {
    let log = Log::default();
    let upstream = legacy_server(Arc::clone(&log), |seen| match seen.header("mcp-session-id") {
        "s1" => answer(
            400,
            "application/json",
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#,
        ),
        _ => json(result(seen, "healed")),
    });
    let proxy = Proxy::new(upstream.await);
    assert!(proxy.run(legacy_call("1", "{}")).await[0].contains("healed"));
    check_log(
        &log,
        &[
            "server/discover",
            "initialize",
            "notifications/initialized s1",
            "tools/call s1",
            "initialize",
            "notifications/initialized s2",
            "tools/call s2",
        ],
    );
    let always = legacy_server(Log::default(), |_| answer(404, "", "")).await;
    let error = Proxy::new(always).run(legacy_call("1", "{}")).await;
    assert_eq!(error, ["upstream `up` lost its session twice"]);
}

#[tokio::test]
async fn a_credential_is_sent_and_a_changed_one_makes_a_new_upstream() {
    let address = serve(|seen| {
        let id = seen.member("/id");
        json(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":"{}"}}}}"#,
            seen.header("x-key")
        ))
    })
    .await;
    let resource = |era| UpstreamResource {
        credential_id: Some("c1".to_owned()),
        era,
        ..upstream(http(address))
    };
    let credential = |value: &str| CredentialResource {
        id: "c1".to_owned(),
        headers: [("x-key".to_owned(), Secret::from(value))].into(),
    };
    let modern = || vec![resource(Some(Era::Modern))];
    let proxy = Proxy::with(modern(), vec![credential("one")]);
    let before = proxy.upstreams.find("u1").unwrap();
    assert!(proxy.run(modern_call("1", "{}")).await[0].contains("\"one\""));
    proxy.upstreams.reconcile(&table(vec![resource(None)], vec![credential("one")]));
    assert!(Arc::ptr_eq(&before, &proxy.upstreams.find("u1").unwrap()));
    proxy.upstreams.reconcile(&table(modern(), vec![credential("two")]));
    assert!(!Arc::ptr_eq(&before, &proxy.upstreams.find("u1").unwrap()));
    assert!(proxy.run(modern_call("1", "{}")).await[0].contains("\"two\""));
}

#[tokio::test]
async fn idle_sessions_are_swept_and_busy_ones_stay() {
    let log = Log::default();
    let upstream = legacy_server(Arc::clone(&log), |seen| {
        if seen.member("/params/arguments/wait") == true {
            return hang(
                200,
                "text/event-stream",
                "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n",
            );
        }
        json(result(seen, "x"))
    });
    let proxy = Proxy::new(upstream.await);
    let active = proxy.upstreams.find("u1").unwrap();
    let waiting = proxy.call(legacy_call("1", r#"{"wait":true}"#)).await.unwrap();
    active.sweep(Duration::ZERO);
    assert!(!log.lock().iter().any(|line| line.starts_with("DELETE")));
    drop(waiting);
    active.sweep(Duration::ZERO);
    settle(&log, "DELETE s1").await;
}
