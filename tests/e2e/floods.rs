//! Upstreams of every transport that never stop talking outside of calls, and everybody else.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tests::client::Client;
use tests::fixture::{self, Era};
use tests::hostile::Behaviour;
use tests::world::World;

use super::unruly_upstreams::{Servers, TRANSPORTS};

/// How long they are listened to.
const WHILE: Duration = Duration::from_secs(5);
/// How long half of the calls may take beside four floods, and the slowest, on a busy machine.
const SOON: Duration = Duration::from_secs(3);
const AT_LAST: Duration = Duration::from_secs(20);
const GROWTH_MAX: u64 = 100 << 20;
/// What each of them says at least.
const FLOOD: u64 = 1000;

/// The bytes that the busiest of these processes has written.
fn written_by(processes: &[u32]) -> u64 {
    let written = processes.iter().filter_map(|process| {
        let counts = std::fs::read_to_string(format!("/proc/{process}/io")).ok()?;
        counts.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
    });
    written.max().unwrap_or_default()
}

/// Calls the upstream that is no trouble; gives how long that took.
async fn call(client: &Client) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let said = client.call_text("good-echo", r#"{"message":"still"}"#).await?;
    ensure!(said == "still", "{said}");
    Ok(begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_that_never_stop_talking_harm_nobody() -> anyhow::Result<()> {
    let world = World::up().await?;
    let good = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    world.ok(&["create", "upstream", "good", "--url", &good.url()]).await?;
    let talkers = Servers::start(&world, "floods-aside", Behaviour::FloodsAside).await?;
    let mut calm = world.client("/mcp").await?;
    calm.initialize().await?;
    let mut flooded = world.client("/mcp").await?;
    let able = serde_json::json!({"sampling": {}, "roots": {}});
    flooded.initialize_with("2025-11-25", able).await?;
    let mut modern = Vec::new();
    // Clients that hear all of it, and read none of it.
    let _unread = flooded.listen(None).send().await?.error_for_status()?;
    flooded.legacy("resources/subscribe", r#"{"uri":"flood://a"}"#).await?.result()?;
    for _ in 0..2 {
        let filter =
            r#"{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["flood://a"]}}"#;
        modern.push(flooded.modern_request("subscriptions/listen", filter)?.send().await?);
    }
    let before = world.process().resident()?;
    for transport in TRANSPORTS {
        let said = flooded.call_text(&format!("{transport}-floods-aside-act"), "{}").await?;
        assert_eq!(said, "done", "{transport}");
    }
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < WHILE {
        took.extend([call(&calm).await?, call(&flooded).await?]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    took.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    assert!(median < SOON, "calls took {took:?}");
    assert!(took.last() < Some(&AT_LAST), "calls took {took:?}");
    // The control plane is told of other things, too, and what it says is heard.
    world.ok(&["create", "upstream", "late", "--url", &good.url()]).await?;
    let said = calm.call_text("late-echo", r#"{"message":"new"}"#).await?;
    assert_eq!(said, "new");
    let grown = world.process().resident()?.saturating_sub(before);
    assert!(grown < GROWTH_MAX, "it grew by {grown} bytes");
    for (transport, counts) in TRANSPORTS.into_iter().zip(talkers.counts()) {
        assert!(counts.said() > FLOOD, "{transport} was not read: {}", counts.said());
    }
    let written = written_by(&world.process().descendants());
    assert!(written > 50 * FLOOD, "the command was not read: {written} bytes");
    assert_eq!(flooded.delete().send().await?.status(), 204);
    call(&calm).await?;
    Ok(())
}
