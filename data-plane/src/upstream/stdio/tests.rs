//! Calls to real children: python scripts that behave well or badly.

use std::{collections::BTreeMap, path::Path};

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

fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

async fn wait_until_gone(pid: &str) {
    for _ in 0..1000 {
        if is_gone(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} is left");
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
async fn a_child_in_use_is_not_ended_as_idle() {
    let mut resource = server(LEGACY, PID);
    let Transport::Stdio(stdio) = &mut resource.transport else { panic!("no command") };
    stdio.mode = StdioMode::PerSession;
    let proxy = Proxy::patient(resource);
    let first = pid(&proxy).await;
    let active = proxy.upstreams.find("u1").unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(pid(&proxy).await, first);
    active.sweep(Duration::from_secs(2));
    assert_eq!(pid(&proxy).await, first);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    active.sweep(Duration::from_secs(2));
    wait_until_gone(&first).await;
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
async fn a_dead_child_fails_its_calls_and_the_next_call_gets_a_new_one() {
    let act = r#"(sys.stderr.write("out of memory\n"), sys.stderr.flush(), os._exit(9)) if "die" in args else result(m, {"content": str(os.getpid())})"#;
    let proxy = Proxy::patient(server(LEGACY, act));
    let first = pid(&proxy).await;
    let error = proxy.run(legacy_call("2", r#"{"die":1}"#)).await;
    let expected = "upstream `up` ended while it was working: it ended with exit status: 9; it said: out of memory";
    assert_eq!(error, [expected]);
    drop(proxy.upstreams.news().take());
    assert_ne!(pid(&proxy).await, first);
    // A restarted server may offer something else.
    let stale = async {
        while proxy.upstreams.news().take().stale.is_empty() {
            proxy.upstreams.news().came().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stale).await.unwrap();
}

#[tokio::test]
async fn no_child_is_left_when_its_upstream_is_removed_or_the_proxy_ends() {
    let proxy = Proxy::patient(server(LEGACY, PID));
    let removed = pid(&proxy).await;
    assert!(Path::new(&format!("/proc/{removed}")).exists());
    proxy.upstreams.reconcile(&table(Vec::new(), Vec::new()));
    wait_until_gone(&removed).await;

    let proxy = Proxy::patient(server(LEGACY, PID));
    let ended = pid(&proxy).await;
    proxy.upstreams.shutdown().await;
    assert!(is_gone(&ended));

    let proxy = Proxy::patient(server(LEGACY, PID));
    let dropped = pid(&proxy).await;
    drop(proxy);
    wait_until_gone(&dropped).await;
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
async fn a_command_that_cannot_run_says_why_and_is_not_tried_at_once() {
    let proxy = Proxy::patient(command("no-such-command-here", &[]));
    let error = proxy.run(legacy_call("1", "{}")).await.remove(0);
    assert!(
        error.contains("could not be started: `no-such-command-here`: No such file"),
        "{error}"
    );
    let crashing = Proxy::patient(command("sh", &["-c", "echo broken >&2; exit 2"]));
    let first = crashing.run(legacy_call("1", "{}")).await.remove(0);
    assert!(first.contains("it ended with exit status: 2; it said: broken"), "{first}");
    let mut errors = Vec::new();
    for _ in 0..10 {
        errors.extend(crashing.run(legacy_call("1", "{}")).await);
    }
    let told = errors.iter().find(|error| error.contains("is started again in"));
    assert!(told.is_some_and(|error| error.contains("broken")), "{errors:?}");
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

#[tokio::test]
async fn a_session_has_a_child_of_its_own_and_there_are_only_so_many() {
    let mut resource = server(LEGACY, PID);
    let Transport::Stdio(stdio) = &mut resource.transport else { panic!("no command") };
    stdio.mode = StdioMode::PerSession;
    let limits = Limits {
        call_timeout: Duration::from_secs(30),
        children_per_upstream: 2,
        ..crate::upstream::testing::limits()
    };
    let proxy = Proxy::limited(vec![resource], Vec::new(), limits);
    let of = |session: u8| {
        let mut call = legacy_call("1", "{}");
        call.session = SessionKey::Client([session; 16]);
        call
    };
    let one = proxy.run(of(1)).await;
    assert_eq!(proxy.run(of(1)).await, one);
    let two = proxy.run(of(2)).await;
    assert_ne!(one, two);
    // What is idle gives way to what is needed: hers who has most, the longest unused first.
    let mut bobs = of(3);
    bobs.subject = "bob".into();
    let three = proxy.run(bobs).await;
    let answer: serde_json::Value = serde_json::from_str(&one[0]).unwrap();
    wait_until_gone(answer["result"]["content"].as_str().unwrap()).await;
    assert_eq!(proxy.run(of(2)).await, two);
    // Who has no more than others gets no place of theirs.
    let link = proxy.upstreams.find("u1").unwrap();
    let crate::upstream::active::Adapter::Pipe(pipe) = &link.adapter else { panic!("no pipe") };
    let key = SessionKey::Client([2; 16]);
    let _busy = pipe.link_of(&key, (crate::mcp::Capabilities::NONE.into(), "ann")).await.unwrap();
    let fourth = proxy.run(of(4)).await.remove(0);
    assert!(fourth.contains("runs 2 processes already"), "{fourth}");
    // Nothing was started, so nothing has failed: later ones do not wait, nor hear of failures.
    for _ in 0..4 {
        assert_eq!(proxy.run(of(4)).await, [fourth.as_str()]);
    }
    // Nothing has failed: the next one need not wait.
    for _ in 0..2 {
        assert_eq!(proxy.run(of(4)).await.remove(0), fourth);
    }
    proxy.upstreams.close_session(&SessionKey::Client([3; 16]));
    let answer: serde_json::Value = serde_json::from_str(&three[0]).unwrap();
    wait_until_gone(answer["result"]["content"].as_str().unwrap()).await;
    assert_eq!(proxy.run(of(2)).await, two);
}

/// Children of which an argument contains `mark`, without what they start themselves.
fn children_with(mark: &str) -> usize {
    let is_marked = |directory: &Path| {
        let line = std::fs::read(directory.join("cmdline")).unwrap_or_default();
        memchr::memmem::find(&line, mark.as_bytes()).is_some()
    };
    let is_leader = |directory: &Path| {
        let stat = std::fs::read_to_string(directory.join("stat")).unwrap_or_default();
        let group = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2));
        group.is_some_and(|group| directory.ends_with(group))
    };
    let directories = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    directories.filter(|it| is_marked(it) && is_leader(it)).count()
}

#[tokio::test]
async fn sessions_that_come_and_go_never_have_more_processes_than_there_is_room_for() {
    let mark = format!("mark-{}", uuid::Uuid::new_v4());
    let mut resource = server(LEGACY, PID);
    resource.era = Some(Era::Legacy);
    let Transport::Stdio(stdio) = &mut resource.transport else { panic!("no command") };
    stdio.mode = StdioMode::PerSession;
    // It takes no notice of the end of its input.
    let script = stdio.args.last_mut().unwrap();
    script.push_str(&format!("while True: time.sleep(1000) # {mark}\n"));
    let limits = Limits {
        call_timeout: Duration::from_secs(30),
        children_per_upstream: 3,
        ..crate::upstream::testing::limits()
    };
    let proxy = Arc::new(Proxy::limited(vec![resource], Vec::new(), limits));
    let most = std::cell::Cell::new(0);
    let watch = async {
        loop {
            most.set(children_with(&mark).max(most.get()));
            assert!(most.get() <= 3, "{} processes run", most.get());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let visitors = futures_util::future::join_all((0..3_u8).map(|visitor| {
        let proxy = Arc::clone(&proxy);
        async move {
            for session in 0..3_u8 {
                let mut call = legacy_call("1", "{}");
                call.session = SessionKey::Client([visitor * 16 + session; 16]);
                let key = call.session.clone();
                let answer = proxy.run(call).await.remove(0);
                // Each finds room, if not at once.
                assert!(answer.contains("content"), "{answer}");
                proxy.upstreams.close_session(&key);
            }
        }
    }));
    let start = std::time::Instant::now();
    tokio::select! {
        () = watch => (),
        _ = visitors => (),
    }
    assert_eq!(most.get(), 3, "all that there is room for");
    // Otherwise they would not have had to wait for each other.
    assert!(start.elapsed() > Duration::from_secs(4), "{:?}", start.elapsed());
    proxy.upstreams.shutdown().await;
    assert_eq!(children_with(&mark), 0);
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
