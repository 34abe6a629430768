//! Clients that come, call and go away in the middle leave nothing behind, whatever is upstream.

use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use tests::client::{Client, eventually};
use tests::fixture::{self, Era, Subprotocol, start_sse, start_websocket};
use tests::world::{World, program};

/// Cycles of `make test`; `LOCKGATE_SOAK=1` runs [`SOAK`].
const CYCLES: usize = 300;
const SOAK: usize = 10_000;
const AT_ONCE: usize = 4;
/// How much the second half of the cycles may add.
const GROWTH_MAX: u64 = 2 << 20;

const UPSTREAMS: [&str; 4] = ["http", "sse", "ws", "pipe"];

/// What a process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    children: usize,
    resident: u64,
    sessions: String,
    upstream_sessions: String,
}

async fn held(world: &World, token: &str) -> anyhow::Result<Held> {
    let process = world.process();
    let of = |name: &str| format!("/proc/{}/{name}", process.pid());
    let metrics = tests::client::http().get(format!("{}/metrics", world.url())).bearer_auth(token);
    let metrics = metrics.send().await?.error_for_status()?.text().await?;
    let metric = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(str::to_owned).with_context(|| format!("no {name} in {metrics}"))
    };
    Ok(Held {
        descriptors: std::fs::read_dir(of("fd"))?.count(),
        threads: std::fs::read_dir(of("task"))?.count(),
        children: process.descendants().len(),
        resident: process.resident()?,
        sessions: metric("lockgate_sessions")?,
        upstream_sessions: metric("lockgate_upstream_sessions")?,
    })
}

/// One client: a session, a call to each upstream, one given up in the middle, the end.
async fn cycle(client: &Client, index: usize) -> anyhow::Result<()> {
    let mut client = client.clone();
    client.initialize().await?;
    for upstream in UPSTREAMS {
        let said = client.call_text(&format!("{upstream}-echo"), r#"{"message":"x"}"#).await?;
        assert_eq!(said, "x", "{upstream}");
    }
    let upstream = UPSTREAMS.get(index % UPSTREAMS.len()).context("no upstream")?;
    let slow = format!("{upstream}-sleep");
    let slow = client.call(&slow, r#"{"milliseconds":60000}"#);
    // Killed in the middle: the connection ends and nobody says why.
    tokio::time::timeout(Duration::from_millis(30), slow).await.ok();
    let ended = client.delete().send().await?;
    assert_eq!(ended.status(), 204);
    Ok(())
}

async fn cycles(client: &Client, count: usize) -> anyhow::Result<()> {
    let cycles = (0..count).map(|index| cycle(client, index));
    let mut running = futures_util::stream::iter(cycles).buffer_unordered(AT_ONCE);
    while let Some(done) = running.next().await {
        done?;
    }
    Ok(())
}

/// Waits until only what belongs to no session is left.
async fn rest(world: &World, token: &str, descriptors: usize) -> anyhow::Result<Held> {
    let is_left = |held: &Held| {
        held.children > 0
            || held.sessions != "0"
            || held.upstream_sessions != "0"
            // Pooled connections of clients and to upstreams may stay.
            || held.descriptors > descriptors + 24
    };
    eventually("nothing is left", Duration::from_secs(30), || async {
        let held = held(world, token).await?;
        anyhow::ensure!(!is_left(&held), "{held:?}");
        Ok(true)
    })
    .await?;
    held(world, token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_come_and_go_leave_nothing_behind() -> anyhow::Result<()> {
    let any = "127.0.0.1:0";
    let http = fixture::start(Era::Legacy, any).await?;
    let sse = start_sse(Era::Legacy, any).await?;
    let socket = start_websocket(Era::Legacy, any, Subprotocol::Mcp).await?;
    let child = program("fixture")?.display().to_string();
    let world = World::up().await?;
    world.ok(&["create", "upstream", "http", "--url", &http.url()]).await?;
    world.ok(&["create", "upstream", "sse", "--url", &sse.url(), "--transport", "sse"]).await?;
    world.ok(&["create", "upstream", "ws", "--url", &socket.url()]).await?;
    let pipe = ["create", "upstream", "pipe", "--command", &child, "--arg", "--stdio"];
    world.ok(&[&pipe[..], &["--stdio-mode", "per-session"]].concat()).await?;
    let client = world.client("/mcp").await?;
    let token = world.ok(&["token", "create", "--name", "metrics", "--role", "admin"]).await?;
    let soak = std::env::var_os("LOCKGATE_SOAK").is_some_and(|value| value == "1");
    let half = if soak { SOAK } else { CYCLES } / 2;

    // What is made once and kept.
    cycles(&client, 2 * AT_ONCE).await?;
    let before = rest(&world, &token, usize::MAX - 24).await?;
    cycles(&client, half).await?;
    let middle = rest(&world, &token, before.descriptors).await?;
    cycles(&client, half).await?;
    let end = rest(&world, &token, before.descriptors).await?;

    assert!(end.threads <= middle.threads + 2, "{middle:?} {end:?}");
    let grown = end.resident.saturating_sub(middle.resident);
    assert!(grown <= GROWTH_MAX, "the second half added {grown} bytes: {middle:?} {end:?}");
    for (name, open) in [("sse", sse.open()), ("ws", socket.open())] {
        assert_eq!(open, 0, "connections to {name} are left");
    }
    Ok(())
}
