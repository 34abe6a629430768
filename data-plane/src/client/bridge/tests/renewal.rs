//! A session that begins in the place of a lost one, whatever becomes of the call that found out.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;

#[tokio::test]
async fn a_new_session_begins_although_the_call_that_needs_it_is_cancelled() {
    let (events, stream) = mpsc::channel(9);
    let stream = StdMutex::new(Some(stream));
    let mut bridged = Bridged::at("2025-11-25", None, move |seen, log| {
        let is_new = seen.header("mcp-session-id") == "s2";
        match seen.member("/method").as_str()? {
            "tools/call" if is_new => {
                Some(json_answer(json!({"jsonrpc": "2.0", "id": 2, "result": {}}).to_string()))
            }
            "tools/call" => Some(answer(404, "", "")),
            "initialize" if count(log, "initialize") > 1 => {
                let stream = stream.lock().unwrap().take()?;
                let stream = streamed(200, "text/event-stream", ReceiverStream::new(stream));
                Some(begun("s2", stream))
            }
            _ => None,
        }
    })
    .await;
    bridged.call().await;
    bridged.heard("initialize", 2).await;
    bridged
        .send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": 1}}))
        .await;
    bridged.heard("notifications/cancelled", 1).await;
    events.send(format!("data: {}\n\n", hello("2025-11-25")).into()).await.unwrap();
    bridged.heard("notifications/initialized", 2).await;
    bridged
        .send(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "t"}}))
        .await;
    let answered = bridged.message().await;
    assert_eq!(answered, json!({"jsonrpc": "2.0", "id": 2, "result": {}}));
    assert_eq!(bridged.count("initialize"), 2, "nobody began a third session");
}

/// A server that has forgotten its first session; `act` is asked about requests in the second.
async fn forgetful(
    act: impl Fn(&str) -> Option<Response<Body>> + Send + Sync + 'static,
) -> Bridged {
    Bridged::at("2025-11-25", None, move |seen, log| {
        let (method, is_new) = (seen.member("/method"), seen.header("mcp-session-id") == "s2");
        let done = || json!({"jsonrpc": "2.0", "id": seen.member("/id"), "result": {}});
        match method.as_str()? {
            "initialize" if count(log, "initialize") > 1 => {
                Some(begun("s2", json_answer(hello("2025-11-25"))))
            }
            "tools/call" if !is_new => Some(answer(404, "", "")),
            method if method.starts_with("notifications/") || method == "initialize" => None,
            method if is_new => act(method).or_else(|| Some(json_answer(done().to_string()))),
            _ => Some(json_answer(done().to_string())),
        }
    })
    .await
}

#[tokio::test]
async fn calls_wait_until_the_new_session_was_told_that_it_has_begun() {
    let too_early = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&too_early);
    let bridged = Bridged::at("2025-11-25", None, move |seen, log| {
        let is_new = seen.header("mcp-session-id") == "s2";
        match seen.member("/method").as_str()? {
            "initialize" if count(log, "initialize") > 1 => {
                Some(begun("s2", json_answer(hello("2025-11-25"))))
            }
            "notifications/initialized" if is_new => Some(never()),
            "tools/call" if is_new => {
                noted.store(true, Relaxed);
                None
            }
            "tools/call" => Some(answer(404, "", "")),
            _ => None,
        }
    })
    .await;
    bridged.call().await;
    bridged.heard("notifications/initialized", 2).await;
    bridged
        .send(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "t"}}))
        .await;
    bridged.heard("tools/call", 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!too_early.load(Relaxed), "servers refuse that");
}

#[tokio::test]
async fn a_new_session_that_takes_no_wish_delays_calls_for_a_moment_only() {
    let mut bridged = forgetful(|method| (method == "resources/subscribe").then(never)).await;
    for id in 2..6 {
        let uri = format!("a:{id}");
        let params = json!({"uri": uri});
        bridged
            .send(json!({"jsonrpc": "2.0", "id": id, "method": "resources/subscribe", "params": params}))
            .await;
        assert_eq!(bridged.message().await["id"], id);
    }
    bridged.call().await;
    let answered = bridged.message().await;
    assert_eq!(answered, json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!(bridged.count("resources/subscribe"), 5, "the first was not answered");
}

#[tokio::test]
async fn a_wish_that_was_taken_back_is_not_said_in_the_new_session() {
    let mut bridged = forgetful(|method| (method == "logging/setLevel").then(never)).await;
    for (id, method, params) in [
        (2, "logging/setLevel", json!({"level": "debug"})),
        (3, "resources/subscribe", json!({"uri": "a:1"})),
        (4, "resources/subscribe", json!({"uri": "a:2"})),
    ] {
        bridged.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        assert_eq!(bridged.message().await["id"], id);
    }
    bridged.call().await;
    // The level hangs, and the client goes on.
    bridged.heard("logging/setLevel", 2).await;
    bridged
        .send(json!({"jsonrpc": "2.0", "id": 5, "method": "resources/unsubscribe", "params": {"uri": "a:1"}}))
        .await;
    assert_eq!(bridged.message().await["id"], 5, "it does not wait for the wishes");
    assert_eq!(bridged.message().await["id"], 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(40)).await;
    tokio::time::resume();
    let updated = bridged.message().await;
    assert_eq!(updated["params"]["uri"], "a:2", "{updated}");
    assert_eq!(bridged.count("resources/subscribe"), 3);
}

#[tokio::test]
async fn what_a_tool_says_of_sessions_is_its_answer() {
    let said = json!({"jsonrpc": "2.0", "id": 1,
        "error": {"code": -32602, "message": "invalid session token"}});
    let refusal = said.clone();
    let mut bridged = Bridged::start(move |seen, _| match seen.member("/method").as_str() {
        Some("tools/call") => answer(400, "application/json", refusal.to_string()),
        _ => answer(202, "", ""),
    })
    .await;
    bridged.call().await;
    assert_eq!(bridged.message().await, said);
    assert_eq!((bridged.count("tools/call"), bridged.count("initialize")), (1, 1));
}

#[tokio::test]
async fn a_session_that_the_client_begins_itself_is_not_replaced_by_one_for_an_old_call() {
    let (held, stream) = mpsc::channel(9);
    let stream = StdMutex::new(Some(stream));
    let sessions = Arc::new(StdMutex::new(Vec::new()));
    let used = Arc::clone(&sessions);
    let mut bridged = Bridged::at("2025-11-25", None, move |seen, log| {
        let session = seen.header("mcp-session-id").to_owned();
        if seen.method == http::Method::DELETE {
            used.lock().unwrap().push(format!("bye {session}"));
        }
        match (seen.member("/method").as_str()?, count(log, "initialize")) {
            ("initialize", 2) => {
                let stream = stream.lock().unwrap().take()?;
                Some(begun("s2", streamed(200, "text/event-stream", ReceiverStream::new(stream))))
            }
            ("initialize", 3) => Some(begun("s3", json_answer(hello("2025-11-25")))),
            ("tools/call", _) if session == "s1" => Some(answer(404, "", "")),
            ("tools/call", _) => {
                used.lock().unwrap().push(format!("call {session}"));
                Some(json_answer(json!({"jsonrpc": "2.0", "id": 1, "result": {}}).to_string()))
            }
            _ => None,
        }
    })
    .await;
    bridged.call().await;
    bridged.heard("initialize", 2).await;
    bridged.send(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})).await;
    assert_eq!(bridged.message().await["id"], 0);
    held.send(format!("data: {}\n\n", hello("2025-11-25")).into()).await.unwrap();
    assert_eq!(bridged.message().await["id"], 1);
    assert_eq!(*sessions.lock().unwrap(), ["bye s2", "call s3"]);
}
