//! Several messages in one, of a client or of a server of 2025-03-26.

use super::*;
use crate::upstream::testing::{hang, never};

const VERSION: &str = "2025-03-26";

fn call(id: u32, tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool}})
}

fn ping(id: u32) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "ping"})
}

fn done(id: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {}}).to_string()
}

fn note(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// What a server does with a request: the name of a tool says it.
fn act(seen: &Seen) -> Option<Response<Body>> {
    let id = seen.member("/id");
    match seen.member("/params/name").as_str() {
        Some("cut") => Some(cut()),
        Some("never") => Some(never()),
        Some("500") => Some(answer(500, "", "broken")),
        Some("progress") => {
            Some(hang(200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n\n"))
        }
        Some("together") => {
            Some(sse(format!("data: [{},{{\"jsonrpc\":\"2.0\",\"method\":\"a\"}}]\n\n", done(&id))))
        }
        Some("array") => Some(json_answer(format!("[{}]", done(&id)))),
        _ if id.is_number() && id != 0 && seen.member("/method").is_string() => {
            Some(json_answer(done(&id)))
        }
        _ => None,
    }
}

/// The answers of an array by their ids: `ok`, or the error's message.
fn outcomes(array: &Value) -> Vec<(Value, String)> {
    let outcome = |answer: &Value| match answer.pointer("/error/message") {
        Some(message) => message.as_str().unwrap().to_owned(),
        None => answer["result"].as_object().map(|_| "ok".to_owned()).unwrap(),
    };
    let answers = array.as_array().unwrap_or_else(|| panic!("{array} is no array"));
    answers.iter().map(|answer| (answer["id"].clone(), outcome(answer))).collect()
}

fn ids(array: &Value) -> Vec<Value> {
    outcomes(array).into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn every_request_of_a_batch_is_answered_whatever_became_of_it() {
    let limit = Duration::from_mins(5);
    let mut bridged = Bridged::at(VERSION, Some(limit), |seen, _| act(seen)).await;
    bridged
        .send(json!([
            ping(1),
            call(2, "cut"),
            call(3, "500"),
            note("notifications/roots/list_changed", &json!({})),
            call(4, "never"),
            ping(1),
            {"jsonrpc": "1.0", "id": 5, "method": "ping"},
        ]))
        .await;
    bridged.heard("tools/call", 3).await;
    bridged.heard("notifications/cancelled", 1).await;
    // The rest has been answered by then.
    bridged.send(ping(9)).await;
    assert_eq!(bridged.message().await["id"], 9);
    tokio::time::pause();
    tokio::time::advance(limit + Duration::from_secs(1)).await;
    tokio::time::resume();
    let array = bridged.message().await;
    let outcomes = outcomes(&array);
    let found = |id: u32, text: &str| {
        outcomes.iter().any(|(it, outcome)| *it == id && outcome.contains(text))
    };
    assert_eq!(outcomes.len(), 6, "{array}");
    assert!(found(1, "ok") && found(1, "in use") && found(3, "500"), "{array}");
    assert!(found(2, "the server ") && found(4, "300s") && found(5, "jsonrpc"), "{array}");
    // They may run all the same.
    bridged.heard("notifications/cancelled", 2).await;
    bridged.heard("notifications/roots/list_changed", 1).await;
    assert_eq!((bridged.count("tools/call"), bridged.count("batch")), (3, 0));
}

#[tokio::test]
async fn a_call_of_a_batch_tells_of_its_progress_and_can_be_cancelled() {
    let mut bridged = Bridged::at(VERSION, None, |seen, _| act(seen)).await;
    bridged.send(json!([call(1, "progress"), ping(2)])).await;
    assert_eq!(bridged.message().await["method"], "a");
    let cancel = |id| note("notifications/cancelled", &json!({"requestId": id}));
    bridged.send(json!([cancel(7), cancel(1)])).await;
    assert_eq!(ids(&bridged.message().await), [2]);
    bridged.send(json!([call(3, "progress")])).await;
    assert_eq!(bridged.message().await["method"], "a");
    bridged.send(json!([cancel(3)])).await;
    bridged.send(ping(4)).await;
    assert_eq!(bridged.message().await["id"], 4, "of the batch, nothing is left to answer");
}

#[tokio::test]
async fn a_batch_outlives_its_session_and_what_it_wished_for_too() {
    let mut bridged = Bridged::at(VERSION, None, |seen, log| {
        let is_lost = count(log, "tools/call") > 0 && seen.header("mcp-session-id") == "s1";
        if is_lost {
            return Some(answer(404, "", ""));
        }
        match seen.member("/method").as_str() {
            Some("initialize") if count(log, "initialize") > 1 => {
                Some(begun("s2", json_answer(hello(VERSION))))
            }
            Some("resources/subscribe" | "logging/setLevel") => {
                Some(json_answer(done(&seen.member("/id"))))
            }
            _ => act(seen),
        }
    })
    .await;
    let ask = |id: u32, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    bridged
        .send(json!([
            note("notifications/initialized", &json!({})),
            ask(1, "logging/setLevel", json!({"level": "error"})),
            ask(2, "resources/subscribe", json!({"uri": "a:1"})),
            ask(3, "resources/subscribe", json!({"uri": "a:2"})),
            ask(4, "resources/unsubscribe", json!({"uri": "a:1"})),
        ]))
        .await;
    assert_eq!(ids(&bridged.message().await), [1, 2, 3, 4]);
    bridged.send(json!([call(5, "t"), call(6, "t")])).await;
    assert_eq!(bridged.message().await["params"]["uri"], "a:2", "it may have changed");
    let array = bridged.message().await;
    assert_eq!(outcomes(&array), [(json!(5), "ok".to_owned()), (json!(6), "ok".to_owned())]);
    assert_eq!(bridged.count("initialize"), 2);
    // Both sessions: the first had another resource, too.
    assert_eq!(bridged.count("logging/setLevel"), 2);
    assert_eq!(bridged.count("resources/subscribe"), 3);
    assert_eq!(bridged.count("tools/call"), 4, "what was refused is sent once more");
}

#[tokio::test]
async fn the_answers_of_a_batch_are_awaited_at_the_end() {
    let Bridged { lines, mut messages, log: _ } =
        Bridged::at(VERSION, None, |seen, _| act(seen)).await;
    let batch = json!([ping(1), call(2, "never"), ping(3)]);
    assert!(lines.send(Line::Whole(batch.to_string().into())).await);
    drop(lines);
    let array = messages.recv().await.unwrap();
    assert_eq!(ids(&serde_json::from_slice(&array).unwrap()), [1, 3]);
    assert_eq!(messages.recv().await, None);
}

#[tokio::test]
async fn only_sessions_that_have_batches_may_send_them_and_never_a_handshake() {
    let mut bridged =
        Bridged::start(|seen, _| act(seen).unwrap_or_else(|| answer(202, "", ""))).await;
    bridged.send(json!([ping(1)])).await;
    let refused = bridged.message().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(null), &json!(-32600)));
    let mut bridged = Bridged::at(VERSION, None, |seen, _| act(seen)).await;
    let handshake = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}});
    for bad in
        [json!([]), json!([handshake]), json!([ping(1), {"jsonrpc": "2.0", "id": 1, "result": {}}])]
    {
        bridged.send(bad).await;
        let refused = bridged.message().await;
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(null), &json!(-32600)));
    }
    assert_eq!((bridged.count("ping"), bridged.count("initialize")), (0, 1));
}

#[tokio::test]
async fn what_a_server_says_at_once_reaches_the_client_message_by_message() {
    let mut bridged = Bridged::at(VERSION, None, |seen, log| {
        if seen.method != http::Method::GET {
            return act(seen);
        }
        let asked = "data: [{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"roots/list\"},{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"ping\"},3]\n\n";
        (count(log, "GET ") == 1).then(|| hang(200, "text/event-stream", asked))
    })
    .await;
    for id in [7, 8] {
        assert_eq!(bridged.message().await["id"], id);
    }
    let answer = |id: u32| json!({"jsonrpc": "2.0", "id": id, "result": {}});
    bridged.send(json!([answer(7), answer(8)])).await;
    bridged.heard("response", 2).await;
    bridged.send(call(1, "together")).await;
    assert_eq!(bridged.message().await["method"], "a");
    assert_eq!(bridged.message().await["id"], 1);
    bridged.send(json!([call(2, "together"), call(3, "array")])).await;
    assert_eq!(bridged.message().await["method"], "a");
    assert_eq!(ids(&bridged.message().await), [2, 3]);
    bridged.send(call(4, "array")).await;
    assert_eq!(bridged.message().await, answer(4));
}
