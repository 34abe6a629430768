//! Calls to real children: python scripts that behave well or badly.

mod life;

use std::collections::BTreeMap;

use proto::{
    resource::UpstreamResource,
    upstream::{Stdio, StdioMode, Transport},
};

use super::*;
use crate::upstream::{
    Event, Limits, Reply, SessionKey,
    testing::{Proxy, legacy_call, modern_call, table, upstream},
};

/// A server of which `act` says what it does with `tools/call` (variables: `m`, `say`, `args`).
fn server(discover: &str, act: &str) -> UpstreamResource {
    let script = format!(
        r#"
import json, sys, os, time
def say(message):
    sys.stdout.write(json.dumps(message) + "\n"); sys.stdout.flush()
def result(m, r): say({{"jsonrpc": "2.0", "id": m["id"], "result": r}})
def error(m, code): say({{"jsonrpc": "2.0", "id": m["id"], "error": {{"code": code, "message": "no"}}}})
print("a banner that is no message", flush=True)
heard = []
for line in sys.stdin:
    m = json.loads(line)
    method = m.get("method")
    heard.append(method)
    if method == "server/discover":
        {discover}
    elif method == "initialize":
        result(m, {{"protocolVersion": "2025-11-25", "capabilities": {{"tools": {{}}}}, "serverInfo": {{}}}})
    elif method == "tools/call":
        args = m["params"]["arguments"]
        token = m["params"].get("_meta", {{}}).get("progressToken")
        {act}
"#
    );
    command("python3", &["-c", &script])
}

fn command(command: &str, args: &[&str]) -> UpstreamResource {
    upstream(Transport::Stdio(Stdio {
        command: command.to_owned(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: BTreeMap::new(),
        working_directory: String::new(),
        mode: StdioMode::Shared,
    }))
}

const LEGACY: &str = "error(m, -32601)";
const MODERN: &str = r#"result(m, {"supportedVersions": ["2026-07-28"], "capabilities": {}})"#;
const PID: &str = r#"result(m, {"content": str(os.getpid())})"#;

/// The process id that the script of [`PID`] answers.
async fn pid(proxy: &Proxy) -> String {
    let answer = proxy.run(legacy_call("1", "{}")).await.remove(0);
    let answer: serde_json::Value =
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
    answer["result"]["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn calls_share_one_child_under_ids_and_tokens_of_ours() {
    let act = r#"say({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": args["n"]}}); result(m, {"id": type(m["id"]).__name__, "n": args["n"], "pid": 1})"#;
    let proxy = Proxy::patient(server(LEGACY, act));
    let (one, two) = tokio::join!(
        proxy.run(legacy_call("\"same\"", r#"{"n":1}"#)),
        proxy.run(legacy_call("\"same\"", r#"{"n":2}"#))
    );
    for (events, n) in [(one, 1), (two, 2)] {
        let progress = format!(r#""params": {{"progressToken": "tok", "progress": {n}}}"#);
        assert!(events[0].contains(&progress), "{events:?}");
        let answer = format!(r#""id": "same", "result": {{"id": "int", "n": {n}"#);
        assert!(events[1].contains(&answer), "{events:?}");
    }
}

/// Asks during the call; "hold" calls are answered when a "release" call is, and leave the file
/// that they name.
const ASKS: &str = r#"
        if "hold" in args:
            held = m
            open(args["hold"], "w").close()
            continue
        say({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {"n": 1}})
        r = json.loads(sys.stdin.readline())
        if "release" in args:
            result(held, {"content": "held"})
        result(m, {"id": r["id"], "content": r.get("result", "refused")})
"#;

#[tokio::test]
async fn a_childs_request_reaches_the_only_call_and_the_answer_the_child() {
    let proxy = Proxy::patient(server(LEGACY, ASKS));
    let events = proxy.run(legacy_call("1", "{}")).await;
    let asked = r#"request {"jsonrpc": "2.0", "id": 0, "method": "sampling/createMessage", "params": {"n": 1}}"#;
    assert_eq!(events[0], asked);
    assert!(events[1].contains(r#"{"id": "q", "content": {"given": 1.0}}"#), "{events:?}");
}

#[tokio::test]
async fn a_request_that_may_belong_to_two_calls_is_refused() {
    let proxy = Proxy::patient(server(LEGACY, ASKS));
    let directory = tempfile::tempdir().unwrap();
    let held = directory.path().join("held");
    let first = proxy.run(legacy_call("1", &format!(r#"{{"hold":"{}"}}"#, held.display())));
    let second = async {
        while !held.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.run(legacy_call("2", r#"{"release":1}"#)).await
    };
    let (held, released) = tokio::join!(first, second);
    assert!(held[0].contains("held"), "{held:?}");
    assert!(released[0].contains(r#""content": "refused""#), "{released:?}");
}

/// The request that a call asks its client with.
async fn question_of(events: &mut crate::upstream::Events) -> crate::upstream::Question {
    match events.next().await {
        Some(Ok(Event::Request(question))) => question,
        other => panic!("no question: {other:?}"),
    }
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for_longer_than_a_call_while_others_wait() {
    let limits =
        Limits { call_timeout: Duration::from_secs(4), ..crate::upstream::testing::limits() };
    let proxy = Proxy::limited(vec![server(LEGACY, ASKS)], Vec::new(), limits);
    let Reply::Events(mut events) = proxy.call(modern_call("1", "{}")).await.unwrap() else {
        panic!("it does not ask");
    };
    let question = question_of(&mut events).await;
    let start = std::time::Instant::now();
    // Somebody hears the call while its client thinks.
    let (last, second) = tokio::join!(events.next(), proxy.run(legacy_call("2", "{}")));
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    let Some(Ok(Event::Response(last))) = last else { panic!("no answer: {last:?}") };
    assert!(String::from_utf8_lossy(&last.clone().into_bytes()).contains("refused"), "{last:?}");
    assert!(second[1].contains("given"), "{second:?}");
    question.answer(
        &crate::mcp::message::parse(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into()).unwrap(),
    );
    assert!(proxy.run(legacy_call("3", "{}")).await[1].contains("given"));
    assert!(proxy.upstreams.news().take().health["u1"].is_up);
}

#[tokio::test]
async fn who_waits_for_a_turn_in_vain_does_not_call_the_upstream_down() {
    let proxy = Proxy::patient(server(LEGACY, ASKS));
    let Reply::Events(mut events) = proxy.call(modern_call("1", "{}")).await.unwrap() else {
        panic!("it does not ask");
    };
    let _question = question_of(&mut events).await;
    // Nobody hears the first call, so nothing ends it.
    let active = proxy.upstreams.find("u1").unwrap();
    let limits = crate::upstream::testing::limits();
    let bounds = Bounds::of_call(&limits);
    let failure = active.call(&legacy_call("2", "{}"), bounds).await.unwrap_err().failure;
    assert!(matches!(failure, CallFailure::NoTurn(_)), "{failure}");
    assert!(active.health().current().is_none_or(|health| health.is_up));
}

#[tokio::test]
async fn a_modern_child_gets_claims_and_a_legacy_client_no_result_type() {
    let act = r#"result(m, {"resultType": "complete", "v": m["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"]})"#;
    let proxy = Proxy::patient(server(MODERN, act));
    let answer = proxy.run(legacy_call("4", "{}")).await;
    assert_eq!(answer, [r#"{"jsonrpc": "2.0", "id": 4, "result": {"v": "2026-07-28"}}"#]);
    let answer = proxy.run(modern_call("5", "{}")).await;
    assert!(answer[0].contains(r#""resultType": "complete""#), "{answer:?}");
}

#[tokio::test]
async fn a_modern_child_of_ones_own_serves_whatever_its_client_can() {
    let act = r#"result(m, {"resultType": "complete", "content": str(os.getpid())})"#;
    let mut resource = server(MODERN, act);
    let Transport::Stdio(stdio) = &mut resource.transport else { panic!("no command") };
    stdio.mode = StdioMode::PerSession;
    resource.era = Some(Era::Modern);
    let proxy = Proxy::patient(resource);
    let mut pids = std::collections::BTreeSet::new();
    for capabilities in 0..4 {
        let mut call = modern_call("1", "{}");
        call.session = SessionKey::Principal { subject: "ann".into(), capabilities };
        pids.extend(proxy.run(call).await);
    }
    assert_eq!(pids.len(), 1, "{pids:?}");
}

#[tokio::test]
async fn a_child_that_ends_at_the_probe_is_started_again_for_initialize() {
    let proxy = Proxy::patient(server("sys.exit(1)", PID));
    assert!(!pid(&proxy).await.is_empty());
}

#[tokio::test]
async fn every_bad_habit_is_a_failure_of_its_own() {
    let failure = async |act: &str| {
        let proxy = Proxy::patient(server(LEGACY, act));
        proxy.run(legacy_call("1", "{}")).await.pop().unwrap()
    };
    let wrong_id = failure(r#"say({"jsonrpc": "2.0", "id": 999, "result": {}})"#).await;
    assert_eq!(wrong_id, "upstream `up` answered with the id of another request");
    let bad = failure(r#"print('{"jsonrpc": "2.0", "id"', flush=True)"#).await;
    assert!(bad.contains("no JSON-RPC message: the body is not JSON"), "{bad}");
    let silent = Proxy::new(server(LEGACY, "pass")).run(legacy_call("1", "{}")).await;
    assert_eq!(silent, ["upstream `up` was silent for 700ms"]);
    let endless = failure(r#"print("x" * 200000, end="", flush=True)"#).await;
    assert!(endless.contains("a line was longer than 100000 bytes"), "{endless}");
}

#[tokio::test]
async fn what_a_client_says_outside_of_calls_is_heard_by_a_child_of_its_own() {
    let mut resource = server(LEGACY, r#"result(m, {"content": " ".join(heard[-3:])})"#);
    let Transport::Stdio(stdio) = &mut resource.transport else { panic!("no command") };
    stdio.mode = StdioMode::PerSession;
    let proxy = Proxy::patient(resource);
    proxy.run(legacy_call("1", "{}")).await;
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
    proxy.upstreams.notify_session(&SessionKey::Client([7; 16]), &changed.into());
    proxy.upstreams.notify_session(&SessionKey::Client([8; 16]), &changed.into());
    let said = proxy.run(legacy_call("2", "{}")).await.remove(0);
    assert!(said.contains("tools/call notifications/roots/list_changed tools/call"), "{said}");
}

/// Shows another tool once one was called.
const GROWS: &str = r#"result(m, {"content": "done"})
    elif method == "tools/list":
        names = ["do", "new"] if "tools/call" in heard else ["do"]
        result(m, {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]})"#;

#[tokio::test]
async fn what_came_about_by_use_is_for_all_although_nobody_here_looked_before() {
    let proxy = Proxy::patient(server(LEGACY, GROWS));
    proxy.run(legacy_call("1", "{}")).await;
    let deadline = Duration::from_secs(30);
    let read = crate::discovery::discover(&proxy.upstreams, &proxy.table, "u1", deadline).await;
    let tools = read.unwrap().tools;
    assert_eq!(tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(), ["do", "new"]);
    assert!(tools.iter().all(|tool| tool.needs_client_capabilities.is_empty()), "{tools:?}");
}
