//! Upstreams that hang, lie or flood: a clear error for their callers, nothing for others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::client::{Client, eventually};
use tests::fixture::{self, Era};
use tests::hostile::{Behaviour, Piped, Upstream};
use tests::raw_server::RawServer;
use tests::world::World;

const VARIABLES: &[(&str, &str)] =
    &[("LOCKGATE_CALL_TIMEOUT", "2"), ("LOCKGATE_MAX_CALL_DURATION", "6")];

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_an_upstream_is_one_clear_error_and_nobody_elses() -> anyhow::Result<()> {
    let world = World::up_with(&[], VARIABLES).await?;
    let fixture = fixture::start(Era::Dual, "127.0.0.1:0").await?;
    world.ok(&["create", "upstream", "good", "--url", &fixture.url()]).await?;
    let mut servers = Vec::new();
    for (name, behaviour) in [
        ("hangs", Behaviour::Hangs),
        ("wrong-id", Behaviour::WrongId),
        ("bad-json", Behaviour::BadJson),
        ("endless", Behaviour::EndlessEvents),
        ("huge", Behaviour::HugeBody),
        ("cuts-off", Behaviour::CutsOff),
        ("fails", Behaviour::Fails),
    ] {
        let server = Upstream::start(behaviour).await?;
        world.ok(&["create", "upstream", name, "--url", &server.url()]).await?;
        servers.push((name, server));
    }
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    let before = world.process().resident()?;
    let stop = tokio_util::sync::CancellationToken::new();
    let (others, stopped) = (client.clone(), stop.clone());
    let good = tokio::spawn(async move {
        let mut slowest = Duration::ZERO;
        while !stopped.is_cancelled() {
            let begun = Instant::now();
            others.call_text("good-echo", r#"{"message":"hi"}"#).await?;
            slowest = slowest.max(begun.elapsed());
        }
        anyhow::Ok(slowest)
    });
    let calls = servers.iter().map(|(name, _)| {
        let client = client.clone();
        async move {
            let begun = Instant::now();
            let params = format!(r#"{{"name":"{name}-act","arguments":{{}}}}"#);
            let answer = client.legacy("tools/call", &params).await.with_context(|| *name)?;
            let response = answer.response().with_context(|| *name)?;
            anyhow::Ok((*name, answer.status.as_u16(), response, begun.elapsed()))
        }
    });
    for outcome in futures_util::future::join_all(calls).await {
        let (name, status, response, took) = outcome?;
        assert_eq!(status, 200, "{name}: {response}");
        assert_eq!(response.pointer("/error/code"), Some(&(-32603).into()), "{name}: {response}");
        assert_eq!(response.pointer("/error/data/upstream"), Some(&name.into()), "{response}");
        assert!(response.get("id").is_some_and(serde_json::Value::is_u64), "{name}: {response}");
        assert!(took < Duration::from_secs(12), "{name} took {took:?}");
    }
    stop.cancel();
    let slowest = good.await??;
    assert!(slowest < Duration::from_secs(2), "another upstream's call took {slowest:?}");
    let grown = world.process().resident()?.saturating_sub(before);
    assert!(grown < 200 << 20, "it grew by {grown} bytes");
    for (name, server) in &servers {
        assert_eq!(server.calls(), 1, "a call to {name} was repeated");
    }
    Ok(())
}

/// Behaviours that a pipe can have, and the name of each.
const PIPED: [(&str, Behaviour); 6] = [
    ("hangs", Behaviour::Hangs),
    ("wrong-id", Behaviour::WrongId),
    ("bad-json", Behaviour::BadJson),
    ("endless", Behaviour::EndlessEvents),
    ("huge", Behaviour::HugeBody),
    ("cuts-off", Behaviour::CutsOff),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_behind_a_pipe_is_one_clear_error_and_nobody_elses() -> anyhow::Result<()> {
    let world = World::up_with(&[], VARIABLES).await?;
    let good = fixture::start_sse(Era::Legacy, "127.0.0.1:0").await?;
    world.ok(&["create", "upstream", "good", "--url", &good.url()]).await?;
    let child = tests::world::program("fixture")?.display().to_string();
    let mut servers = Vec::new();
    for (behaviour, kind) in PIPED {
        let (sse, ws) = (format!("sse-{behaviour}"), format!("ws-{behaviour}"));
        let (stream, socket) = (Piped::sse(kind).await?, Piped::websocket(kind).await?);
        world.ok(&["create", "upstream", &sse, "--url", stream.url()]).await?;
        world.ok(&["create", "upstream", &ws, "--url", socket.url()]).await?;
        let pipe = format!("pipe-{behaviour}");
        let create = ["create", "upstream", &pipe, "--command", &child, "--arg", "--hostile"];
        world.ok(&[&create[..], &["--arg", behaviour]].concat()).await?;
        servers.extend([(sse, stream), (ws, socket)]);
    }
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    let before = world.process().resident()?;
    let calls = ["sse", "ws", "pipe"].into_iter().flat_map(|transport| {
        PIPED.map(|(behaviour, _)| (format!("{transport}-{behaviour}"), client.clone()))
    });
    let calls = calls.map(|(name, client)| async move {
        let begun = Instant::now();
        let params = format!(r#"{{"name":"{name}-act","arguments":{{}}}}"#);
        let answer = client.legacy("tools/call", &params).await.with_context(|| name.clone())?;
        anyhow::Ok((name, answer.response()?, begun.elapsed()))
    });
    let others = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..30 {
            let begun = Instant::now();
            client.call_text("good-echo", r#"{"message":"hi"}"#).await?;
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(slowest)
    };
    let (outcomes, slowest) = tokio::join!(futures_util::future::join_all(calls), others);
    for outcome in outcomes {
        let (name, response, took) = outcome?;
        assert_eq!(response.pointer("/error/code"), Some(&(-32603).into()), "{name}: {response}");
        let upstream = response.pointer("/error/data/upstream");
        assert_eq!(upstream, Some(&name.as_str().into()), "{response}");
        assert!(took < Duration::from_secs(15), "{name} took {took:?}: {response}");
    }
    let slowest = slowest?;
    assert!(slowest < Duration::from_secs(3), "another upstream's call took {slowest:?}");
    let grown = world.process().resident()?.saturating_sub(before);
    assert!(grown < 300 << 20, "it grew by {grown} bytes");
    for (name, server) in &servers {
        assert_eq!(server.calls(), 1, "a call to {name} was repeated");
    }
    Ok(())
}

/// The tools, listed in less than a list of an upstream is waited for: 10 s, and 30 s in the
/// catalog's own name.
async fn listed_without_waiting(client: &Client) -> anyhow::Result<Vec<String>> {
    let begun = Instant::now();
    let names = client.tool_names().await?;
    ensure!(begun.elapsed() < Duration::from_secs(8), "the list took {:?}", begun.elapsed());
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_upstream_keeps_its_place_in_the_list_and_delays_nobody() -> anyhow::Result<()> {
    let world = World::up().await?;
    let dead = Upstream::start(Behaviour::Shows).await?;
    world.ok(&["create", "upstream", "dead", "--url", &dead.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    drop(dead);
    assert_eq!(listed_without_waiting(&client).await?, ["dead-act"]);
    let answer = client.legacy("tools/call", r#"{"name":"dead-act"}"#).await?;
    let response = answer.response()?;
    assert_eq!(response.pointer("/error/data/upstream"), Some(&"dead".into()), "{response}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_list_of_one_upstream_delays_no_other() -> anyhow::Result<()> {
    let world = World::up().await?;
    let slow = Upstream::start(Behaviour::SlowList).await?;
    let fixture = fixture::start(Era::Dual, "127.0.0.1:0").await?;
    world.ok(&["create", "upstream", "slow", "--url", &slow.url(), "--no-wait"]).await?;
    world.ok(&["create", "upstream", "good", "--url", &fixture.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    let names = listed_without_waiting(&client).await?;
    assert!(names.contains(&"good-echo".to_owned()), "{names:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lies_about_its_era_is_found_out() -> anyhow::Result<()> {
    let world = World::up_with(&[], VARIABLES).await?;
    let liar = Upstream::start(Behaviour::ClaimsModern).await?;
    world.ok(&["create", "upstream", "liar", "--url", &liar.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    assert_eq!(client.tool_names().await?, ["liar-act"]);
    let response = client.legacy("tools/call", r#"{"name":"liar-act"}"#).await?.response()?;
    if response.get("error").is_some() {
        assert_eq!(response.pointer("/error/code"), Some(&(-32603).into()), "{response}");
        assert_eq!(response.pointer("/error/data/upstream"), Some(&"liar".into()), "{response}");
    } else {
        let said = response.pointer("/result/content/0/text");
        assert_eq!(said, Some(&"legacy after all".into()), "{response}");
    }
    assert!(liar.calls() <= 2, "once in each era: {}", liar.calls());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_speaks_other_versions_now_is_named_with_them() -> anyhow::Result<()> {
    const REST: &str = r#""resultType":"complete","ttlMs":60000,"cacheScope":"private""#;
    const NEWER: &str = r#""error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2030-01-01"],"requested":"2026-07-28"}}"#;
    let is_newer = Arc::new(AtomicBool::new(false));
    let newer = Arc::clone(&is_newer);
    let server = RawServer::start(move |method, _| {
        if newer.load(Ordering::SeqCst) {
            return Some(NEWER.to_owned());
        }
        let result = match method {
            "server/discover" => {
                r#""supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}"#
            }
            "tools/list" => r#""tools":[{"name":"act","inputSchema":{"type":"object"}}]"#,
            "tools/call" => r#""content":[{"type":"text","text":"done"}]"#,
            _ => return None,
        };
        Some(format!(r#""result":{{{result},{REST}}}"#))
    })
    .await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "newer", "--url", &server.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    assert_eq!(client.call_text("newer-act", "{}").await?, "done");
    is_newer.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let refused = client.legacy("tools/call", r#"{"name":"newer-act"}"#).await?.response()?;
        assert_eq!(refused.pointer("/error/code"), Some(&(-32603).into()), "{refused}");
        assert_eq!(refused.pointer("/error/data/upstream"), Some(&"newer".into()), "{refused}");
        let said = refused.pointer("/error/message").and_then(serde_json::Value::as_str);
        let said = said.unwrap_or_default();
        assert!(said.contains("speaks none of our protocol versions"), "{refused}");
    }
    // Who runs the gateway is told which it speaks.
    world.lockgate(&["refresh", "upstream", "newer"]).await?;
    eventually("its versions are shown", Duration::from_secs(20), || async {
        let shown = world.ok(&["get", "upstream", "newer", "-o", "json"]).await?;
        Ok(["2030-01-01", r#""phase": "failed""#, r#""incompatible""#]
            .iter()
            .all(|it| shown.contains(it)))
    })
    .await?;
    eventually("its tools are not listed", Duration::from_secs(20), || async {
        Ok(client.tool_names().await?.is_empty())
    })
    .await?;
    let refused = client.legacy("tools/call", r#"{"name":"newer-act"}"#).await?.response()?;
    assert_eq!(refused.pointer("/error/data/upstream"), Some(&"newer".into()), "{refused}");
    is_newer.store(false, Ordering::SeqCst);
    world.lockgate(&["refresh", "upstream", "newer"]).await?;
    eventually("it is back", Duration::from_secs(20), || async {
        Ok(client.tool_names().await? == ["newer-act"])
    })
    .await?;
    assert_eq!(client.call_text("newer-act", "{}").await?, "done");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_dies_is_started_again_and_none_is_left_behind() -> anyhow::Result<()> {
    let mut world = World::up().await?;
    let fixture = tests::world::program("fixture")?.display().to_string();
    let create = ["create", "upstream", "pipe", "--command", &fixture, "--arg", "--stdio"];
    world.ok(&create).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    client.call_text("pipe-echo", r#"{"message":"one"}"#).await?;
    let children = world.process().descendants();
    assert!(!children.is_empty());
    for child in &children {
        let pid = rustix::process::Pid::from_raw(i32::try_from(*child)?).context("a pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    }
    eventually("the child is back", Duration::from_secs(10), || async {
        Ok(client.call_text("pipe-echo", r#"{"message":"two"}"#).await? == "two")
    })
    .await?;
    let children = world.process().descendants();
    world.kill().await;
    tests::world::process::all_gone(&children, Duration::from_secs(5)).await?;

    world.start_again().await?;
    client.initialize().await?;
    client.call_text("pipe-echo", r#"{"message":"three"}"#).await?;
    let children = world.process().descendants();
    assert_eq!(world.stop().await?, 0);
    tests::world::process::all_gone(&children, Duration::from_secs(5)).await
}
